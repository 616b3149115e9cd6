"""The mind of the batch framework: jobs come in, tasks are wanted, their ends are judged.

It is a `runrig.wants.Logic`. Which part decides what:

    Batch         which event concerns whom; how many tasks of each job may wait for offers
    JobRun        one job: its indices, attempts, retries, end
    OutputQueue   which output must still be fetched
    History       how long ended jobs are remembered
    Waits         questions whose answer is not there yet
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from runrig.errors import Conflict, NotFound, Unavailable
from runrig.ids import TaskId
from runrig.offers import InverseOffer, InverseOfferReason, InverseOffersMade
from runrig.wants import Answer, AnswerInverse, Decision, Put, Run, TaskChanged, TaskView, Want, Woken
from runrig_batch.core import entries, look
from runrig_batch.core.history import History
from runrig_batch.core.job import Job, JobId, parts_of
from runrig_batch.core.limits import Limits
from runrig_batch.core.outbox import OutputQueue
from runrig_batch.core.questions import (
    CountAll,
    FindTask,
    JobPage,
    KillJob,
    KnownJobs,
    ListIndices,
    ListJobs,
    ListWanted,
    Look,
    NextOutputs,
    OutputCollected,
    ShowJob,
    SubmitJob,
    Submitted,
)
from runrig_batch.core.run import JobRun
from runrig_batch.core.timers import GangWaitOver, PatienceOver, RetryDue, Timers, WaitOver
from runrig_batch.core.verdict import Verdict
from runrig_batch.core.views import JobSummary, Totals
from runrig_batch.core.waits import OUTPUTS, Patient, Waits

_INTENTS = {
    InverseOfferReason.DRAIN: "tasks that will not have ended in time are stopped now and run elsewhere",
    InverseOfferReason.MAINTENANCE: "its tasks run on",
    InverseOfferReason.PREEMPTION: "its tasks run on until they are ended, and are tried again",
}


class Batch:
    """All jobs.

    Rule 1: the state changes only in `restore` and `handle`.
    Rule 2: whatever an event leads to is in the answer to that event, so that it is durable with it.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._timers = Timers()
        self._runs: dict[JobId, JobRun] = {}
        self._keys: dict[str, JobId] = {}
        self._counter = 0
        self._active = 0
        self._outputs = OutputQueue()
        self._history = History(self._limits)
        self._waits = Waits(self._timers)
        self._ends: Counter[Verdict] = Counter()

    def restore(self, entries_: Mapping[str, bytes], tasks: Mapping[TaskId, TaskView], now: float) -> list[Decision]:
        """Take up what was durable; want again what should run."""
        kept = entries.read(entries_)
        self._counter = max([kept.counter, *(job.number for job in kept.jobs.values())])
        for job in sorted(kept.jobs.values(), key=lambda each: each.number):
            run = self._add(JobRun(job, self._limits, self._timers, kept.times.get(job.job_id)))
            run.adopt(kept.indices.get(job.job_id, {}), now)
        self._active = sum(not run.has_ended for run in self._runs.values())
        self._outputs.restore(kept.outputs)
        self._history.restore([run for run in self._runs.values() if run.has_ended], kept.rubbish)
        wants = [want for task in tasks.values() if (want := self._attach(task, now)) is not None]
        decisions: list[Decision] = [Run(tuple(wants))] if wants else []
        for run in [each for each in self._runs.values() if not each.has_ended]:
            decisions += self._follow_up(run, run.resume(now))
        return self._finish(decisions, now)

    def handle(self, event: object, now: float) -> list[Decision]:
        """Learn one event; say what follows."""
        match event:
            case TaskChanged(task):
                decisions = self._changed(task, now)
            case Woken():
                decisions = self._wake(now)
            case InverseOffersMade(inverse_offers):
                decisions = [each for inverse in inverse_offers for each in self._give_back(inverse, now)]
            case OutputCollected(task_id):
                decisions = self._collected(task_id)
            case SubmitJob():
                decisions = self._submit(event, now)
            case KillJob():
                decisions = self._kill(event, now)
            case ShowJob() | FindTask() | NextOutputs():
                decisions = self._ask(event, now)
            case ListJobs() | ListIndices() | ListWanted() | KnownJobs() | CountAll():
                decisions = [Answer(event, self._look(event))]
            case _:
                decisions = []
        return self._finish(decisions, now)

    # Events.

    def _changed(self, task: TaskView, now: float) -> list[Decision]:
        parts = parts_of(task.task_id)
        run = self._runs.get(parts[0]) if parts else None
        if parts is None or run is None:
            return []
        was_over = run.has_ended
        decisions = run.changed(parts[1], parts[2], task, now)
        if task.state is not None and task.state.is_terminal:
            decisions += self._outputs.ended(task, now)
            decisions += self._waits.touched(OUTPUTS, self._answer_to)
        return self._follow_up(run, decisions, was_over=was_over)

    def _wake(self, now: float) -> list[Decision]:
        decisions: list[Decision] = []
        for timer in self._timers.due(now):
            match timer:
                case WaitOver(question):
                    decisions += self._wait_over(question)
                case GangWaitOver(job_id, number):
                    run = self._runs.get(job_id)
                    if run is not None and not run.has_ended:
                        run.gang_wait_over(number)
                        decisions += self._follow_up(run, [])
                case RetryDue(job_id, index, number) | PatienceOver(job_id, index, number):
                    run = self._runs.get(job_id)
                    if run is None or run.has_ended:
                        continue
                    if isinstance(timer, RetryDue):
                        run.retry_due(index, number)
                        decisions += self._follow_up(run, [])
                    else:
                        decisions += self._follow_up(run, run.patience_over(index, number, now))
        return decisions

    def _give_back(self, inverse: InverseOffer, now: float) -> list[Decision]:
        """Empty an agent that is drained; what must make room for others runs until the master ends it."""
        is_drain = inverse.reason is InverseOfferReason.DRAIN
        answer = AnswerInverse(inverse.inverse_offer_id, is_accepted=is_drain, reason=_INTENTS[inverse.reason])
        if not is_drain:
            return [answer]
        decisions: list[Decision] = []
        for task_id in inverse.task_ids:
            parts = parts_of(task_id)
            run = self._runs.get(parts[0]) if parts else None
            if parts is None or run is None or run.has_ended:
                continue
            given_back = run.give_back(parts[1], parts[2], inverse.deadline_unix_ms / 1000, now)
            decisions += self._follow_up(run, given_back)
        return [*decisions, answer]

    def _collected(self, task_id: TaskId) -> list[Decision]:
        decisions = self._outputs.collected(task_id)
        parts = parts_of(task_id)
        return [*decisions, *(self._waits.touched(parts[0], self._answer_to) if decisions and parts else [])]

    def _submit(self, question: SubmitJob, now: float) -> list[Decision]:
        if question.key and question.key in self._keys:
            return [Answer(question, self._repeated(question))]
        if self._active >= self._limits.max_active_jobs:
            problem = f"{self._active} jobs have not ended, which is the most that are kept; submit again later"
            return [Answer(question, Unavailable(problem))]
        self._counter += 1
        job_id = JobId(f"{question.spec.name}-{self._counter}")
        job = Job(job_id, self._counter, question.spec, now, question.key)
        run = self._add(JobRun(job, self._limits, self._timers))
        self._active += 1
        puts = [
            Put(entries.COUNTER, str(self._counter).encode()),
            Put(f"{entries.JOB}{job_id}", entries.job_value(job)),
        ]
        decisions = self._follow_up(run, list(puts))
        return [*decisions, Answer(question, Submitted(look.summary_of(run), is_new=True))]

    def _repeated(self, question: SubmitJob) -> object:
        run = self._runs[self._keys[question.key]]
        if run.job.spec != question.spec:
            return Conflict(f"key: {question.key!r} was used for {run.job.job_id}, a different job; choose another key")
        return Submitted(look.summary_of(run), is_new=False)

    def _kill(self, question: KillJob, now: float) -> list[Decision]:
        run = self._runs.get(question.job_id)
        if run is None:
            return [Answer(question, _no_job(question.job_id))]
        was_over = run.has_ended
        decisions = self._follow_up(run, run.kill(now), was_over=was_over)
        return [*decisions, Answer(question, look.summary_of(run))]

    # Questions.

    def _ask(self, question: Patient, now: float) -> list[Decision]:
        is_worth_telling, value = self._answer_to(question)
        if is_worth_telling or question.wait_s <= 0:
            return [Answer(question, value)]
        if len(self._waits) >= self._limits.max_waits:
            problem = Unavailable(f"{len(self._waits)} questions wait already, which is the most; ask again later")
            return [Answer(question, problem)]
        self._waits.add(_waiting_place(question), question, now)
        return []

    def _answer_to(self, question: Patient) -> tuple[bool, object]:
        """Return whether the answer is worth telling before the time is over, and the answer."""
        if isinstance(question, NextOutputs):
            page = self._outputs.page(question)
            return bool(page.outputs), page
        run = self._runs.get(question.job_id)
        if run is None:
            return True, _no_job(question.job_id)
        if isinstance(question, ShowJob):
            return run.has_ended, look.summary_of(run)
        sight = look.sight_of(run, question, self._outputs)
        return isinstance(sight, NotFound) or sight != question.unlike, sight

    def _wait_over(self, question: object) -> list[Decision]:
        if not isinstance(question, ShowJob | FindTask | NextOutputs):
            return []
        if not self._waits.take(_waiting_place(question), question):
            return []
        return [Answer(question, self._answer_to(question)[1])]

    def _look(self, question: Look) -> object:
        match question:
            case ListJobs():
                return self._page(question)
            case ListIndices(job_id=job_id):
                run = self._runs.get(job_id)
                return look.page_of(run, question, self._limits.scan_page) if run else _no_job(job_id)
            case ListWanted(job_id=job_id):
                run = self._runs.get(job_id)
                return look.wanted_of(run, question.limit) if run else _no_job(job_id)
            case KnownJobs():
                return frozenset(self._runs)
            case CountAll():
                return self._totals()

    def _page(self, question: ListJobs) -> JobPage:
        found: list[JobSummary] = []
        for job_id in reversed(self._runs):
            run = self._runs[job_id]
            if (question.before and run.job.number >= question.before) or not look.matches(run, question):
                continue
            if len(found) >= question.limit:
                return JobPage(tuple(found), found[-1].job.number)
            found.append(look.summary_of(run))
        return JobPage(tuple(found), 0)

    def _totals(self) -> Totals:
        ends = self._ends + sum((run.ends for run in self._runs.values()), Counter[Verdict]())
        return Totals(
            jobs=look.jobs_by_state(self._runs.values()),
            tasks=look.total_of(map(look.counts_of, self._runs.values())),
            ends={verdict.value: ends[verdict] for verdict in Verdict},
            outputs=len(self._outputs),
            waits=len(self._waits),
        )

    # What follows from any of them.

    def _follow_up(self, run: JobRun, decisions: list[Decision], *, was_over: bool = False) -> list[Decision]:
        """Fill a job's window; if it has just ended, file it with the ended; tell those who wait for it."""
        wants = run.refill(self._window())
        if wants:
            decisions.append(Run(wants))
        if run.has_ended and not was_over:
            self._active -= 1
            self._history.add(run)
            for old in self._history.forgotten():
                decisions += self._forget(old)
        return [*decisions, *self._waits.touched(run.job.job_id, self._answer_to)]

    def _window(self) -> int:
        return max(1, min(self._limits.job_window, self._limits.total_window // max(self._active, 1)))

    def _forget(self, run: JobRun) -> list[Decision]:
        job_id = run.job.job_id
        del self._runs[job_id]
        if self._keys.get(run.job.key) == job_id:
            del self._keys[run.job.key]
        self._ends += run.ends
        decisions: list[Decision] = [*self._history.discard(run)]
        for task_id in self._outputs.of_job(job_id):
            decisions += self._outputs.collected(task_id)
        return [*decisions, *self._waits.touched(job_id, self._answer_to)]

    def _finish(self, decisions: list[Decision], now: float) -> list[Decision]:
        decisions += self._history.sweep()
        if self._history.has_rubbish:
            self._timers.wake_at(now)
        return [*decisions, *self._timers.alarm()]

    def _add(self, run: JobRun) -> JobRun:
        self._runs[run.job.job_id] = run
        if run.job.key:
            self._keys[run.job.key] = run.job.job_id
        return run

    def _attach(self, task: TaskView, now: float) -> Want | None:
        parts = parts_of(task.task_id)
        run = self._runs.get(parts[0]) if parts else None
        return run.attach(parts[1], parts[2], task, now) if parts and run else None


def _waiting_place(question: Patient) -> JobId:
    return OUTPUTS if isinstance(question, NextOutputs) else question.job_id


def _no_job(job_id: JobId) -> NotFound:
    return NotFound(
        "job", job_id, "it never was, or it ended long ago; `runrig batch ls --all` lists those that are kept"
    )
