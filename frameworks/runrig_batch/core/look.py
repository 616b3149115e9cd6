"""Looking at jobs: what people are shown, made from what is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from runrig.errors import NotFound
from runrig_batch.core.entries import record_from
from runrig_batch.core.indices import all_of, holds, text_of
from runrig_batch.core.job import IndexState, JobState, task_id_of
from runrig_batch.core.outbox import OutputQueue
from runrig_batch.core.progress import Phase, Progress
from runrig_batch.core.questions import FindTask, IndexPage, ListIndices, ListJobs, WantedTasks
from runrig_batch.core.run import JobRun
from runrig_batch.core.views import Counts, IndexRow, JobSummary, TaskSight


def summary_of(run: JobRun) -> JobSummary:
    """Return a job in one line."""
    return JobSummary(
        job=run.job,
        state=run.state,
        is_stopping=run.is_killed and not run.has_ended,
        counts=counts_of(run),
        started_at=run.times.started_at,
        ended_at=run.times.ended_at,
    )


def counts_of(run: JobRun) -> Counts:
    """Return how many of its indices stand where; in a job that was killed nothing waits."""
    running = run.phases[Phase.LAUNCHED]
    succeeded = run.states[IndexState.SUCCEEDED] + run.phases[Phase.DONE]
    failed = run.states[IndexState.FAILED]
    rest = run.job.spec.size - running - succeeded - failed
    if run.is_killed:
        return Counts(running=running, succeeded=succeeded, failed=failed, killed=rest)
    retrying = run.phases[Phase.RESTING]
    return Counts(rest - retrying, running, retrying, succeeded, failed, 0)


def total_of(counts: Iterable[Counts]) -> Counts:
    """Return the sum."""
    totals: Counter[str] = Counter()
    for each in counts:
        for name in Counts.__slots__:
            totals[name] += getattr(each, name)
    return Counts(**totals)


def matches(run: JobRun, question: ListJobs) -> bool:
    """Say whether a job is asked for."""
    job = run.job
    return (
        (not question.states or run.state in question.states)
        and job.job_id.startswith(question.prefix)
        and (not question.labels or set(question.labels) <= set(job.spec.labels))
    )


def page_of(run: JobRun, question: ListIndices, most_scanned: int) -> IndexPage:
    """Return the indices that are asked for; at most `most_scanned` are looked at."""
    rows: list[IndexRow] = []
    last = question.after
    for scanned, index in enumerate(all_of(run.job.spec.indices, question.after)):
        if scanned >= most_scanned or len(rows) >= question.limit:
            return IndexPage(tuple(rows), last)
        last = index
        row = row_of(run, index)
        if not question.states or row.state in question.states:
            rows.append(row)
    return IndexPage(tuple(rows), None)


def row_of(run: JobRun, index: int) -> IndexRow:
    """Return what is known of one index."""
    item = run.job.spec.items[index] if run.job.spec.items else ""
    if (progress := run.open.get(index)) is not None:
        return _open_row(item, progress)
    if (value := run.settled.get(index)) is not None:
        record = record_from(value)
        return IndexRow(index, item, record.state, record.number, record.failures, record.faults, record.attempts)
    state = IndexState.KILLED if run.is_killed else IndexState.WAITING
    return IndexRow(index, item, state, 1, 0, 0, ())


def _open_row(item: str, progress: Progress) -> IndexRow:
    task = progress.task
    return IndexRow(
        progress.index,
        item,
        progress.state,
        progress.number,
        progress.failures,
        progress.faults,
        progress.past,
        task_state=progress.task_state,
        hostname=task.hostname if task else "",
        started_at=task.launched_at if task else 0.0,
        not_before=progress.not_before if progress.phase is Phase.RESTING else 0.0,
        message=task.status.message if task and task.status else "",
    )


def wanted_of(run: JobRun, most: int) -> WantedTasks:
    """Return the tasks that wait for an offer: not those that pause, or have no room in the job's window yet."""
    job_id = run.job.job_id
    wanted = [progress for progress in run.open.values() if progress.phase is Phase.WANTED]
    wanted.sort(key=lambda progress: progress.index)
    task_ids = tuple(task_id_of(job_id, each.index, each.number) for each in wanted[:most])
    return WantedTasks(job_id, len(wanted), task_ids)


def sight_of(run: JobRun, question: FindTask, outputs: OutputQueue) -> TaskSight | NotFound:
    """Return one attempt, for those who follow its output."""
    job_id, index = run.job.job_id, question.index
    if not holds(run.job.spec.indices, index):
        hint = f"{job_id} has {text_of(run.job.spec.indices)[:200]}"
        return NotFound("index", str(index), hint)
    row = row_of(run, index)
    number = question.attempt or _latest(row)
    if not 1 <= number <= row.number:
        return NotFound("attempt", f"{job_id}.{index}.{number}", f"there are {row.number} so far")
    task_id = task_id_of(job_id, index, number)
    past = next((each for each in row.attempts if each.number == number), None)
    is_over = past is not None or row.state.has_ended or number < row.number
    waiting = outputs.find(task_id)
    live = run.open[index].task if index in run.open and not is_over else None
    return TaskSight(
        task_id=task_id,
        job_id=job_id,
        index=index,
        attempt=number,
        state=row.state,
        task_state=past.state if past is not None else row.task_state if not is_over else None,
        agent_address=waiting.agent_address if waiting else live.agent_address if live else "",
        is_over=is_over,
        is_last=row.state.has_ended and number >= _latest(row),
        is_collected=is_over and waiting is None,
    )


def _latest(row: IndexRow) -> int:
    """Return the attempt that runs, or the last that ran; if there was none, the one that is due."""
    if row.task_state is not None or not row.attempts:
        return row.number
    return max(each.number for each in row.attempts)


def jobs_by_state(runs: Iterable[JobRun]) -> dict[JobState, int]:
    """Count jobs."""
    counts = Counter(run.state for run in runs)
    return {state: counts[state] for state in JobState}
