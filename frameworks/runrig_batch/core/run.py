"""One job as it runs: which of its indices is tried next, which ended how, and when all is over.

Rule 1: of each index one attempt at most is the current one; of older ones only a success still matters.
Rule 2: an index that has ended is never opened again.
Rule 3: what an end decides is written in the same answer, so a death between two answers repeats nothing.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace

from runrig.tasks import Reason, TaskState
from runrig.wants import Decision, Put, Stop, TaskView, Want
from runrig_batch.core.entries import (
    INDEX,
    STATUS,
    JobTimes,
    progress_from,
    record_state,
    record_value,
    times_value,
)
from runrig_batch.core.indices import all_of, holds
from runrig_batch.core.job import IndexState, Job, JobState, attempt_of, task_id_of, want_of
from runrig_batch.core.limits import Limits
from runrig_batch.core.progress import Phase, Progress
from runrig_batch.core.timers import PatienceOver, RetryDue, Timers
from runrig_batch.core.verdict import Verdict, delay_s, verdict_of

_OUT_OF_REACH = (TaskState.TASK_UNREACHABLE, TaskState.TASK_UNKNOWN)


class JobRun:
    """The state of one job: `open` indices are under way, `settled` ones are kept as their entries."""

    __slots__ = (
        "_fresh",
        "_limits",
        "_ready",
        "_timers",
        "ends",
        "job",
        "open",
        "phases",
        "settled",
        "states",
        "times",
    )

    def __init__(self, job: Job, limits: Limits, timers: Timers, times: JobTimes | None = None) -> None:
        self.job = job
        self.times = times or JobTimes()
        self.open: dict[int, Progress] = {}
        self.settled: dict[int, bytes] = {}
        self.states: Counter[IndexState] = Counter()
        self.phases: Counter[Phase] = Counter()
        self.ends: Counter[Verdict] = Counter()
        self._ready: deque[int] = deque()
        self._fresh: Iterator[int] = all_of(job.spec.indices)
        self._limits = limits
        self._timers = timers

    @property
    def has_ended(self) -> bool:
        """Say whether nothing of it will run any more."""
        return self.times.ended_at > 0

    @property
    def is_killed(self) -> bool:
        """Say whether it was told to stop."""
        return self.times.killed_at > 0

    @property
    def state(self) -> JobState:
        """Return what people are told."""
        if not self.has_ended:
            return JobState.RUNNING if self.times.started_at else JobState.WAITING
        if self.states[IndexState.SUCCEEDED] == self.job.spec.size:
            return JobState.SUCCEEDED
        return JobState.KILLED if self.is_killed else JobState.FAILED

    # Taking up what was durable.

    def adopt(self, records: dict[int, bytes], now: float) -> None:
        """Take up what is known of its indices; a pause that is over needs no alarm."""
        for index, value in records.items():
            state = record_state(value)
            if state.has_ended:
                self._file(index, state, value)
            elif not self.has_ended:
                progress = self._open(progress_from(index, value), Phase.RESTING)
                # A clock that was set back must not make of a pause more than it ever was.
                progress.not_before = min(progress.not_before, now + self._longest_pause_s())
                if progress.not_before <= now:
                    self.retry_due(index, progress.number)
                else:
                    self._set_retry(progress)

    def attach(self, index: int, attempt: int, task: TaskView, now: float) -> Want | None:
        """Take up a task that was launched; return its want, or None if it should not run."""
        if self.has_ended or index in self.settled or not holds(self.job.spec.indices, index):
            return None
        if index not in self.open and attempt == 1:
            self._open(Progress(index), Phase.READY)
        progress = self.open.get(index)
        if progress is None or progress.number != attempt:
            return None
        self._alive(progress, task, now)
        return None if self.is_killed else want_of(self.job, index, attempt)

    def resume(self, now: float) -> list[Decision]:
        """End what a death kept from ending: a killed job whose last task is gone."""
        if self.is_killed and not self.has_ended:
            return self._drop_idle(now)
        return []

    # What happens to it.

    def refill(self, window: int) -> tuple[Want, ...]:
        """Return further tasks that should run: `window` at most wait for offers, parallelism is kept."""
        if self.is_killed or self.has_ended:
            return ()
        room = window - self.phases[Phase.WANTED]
        if self.job.spec.parallelism:
            active = self.phases[Phase.WANTED] + self.phases[Phase.LAUNCHED]
            room = min(room, self.job.spec.parallelism - active)
        wants: list[Want] = []
        while len(wants) < room and (progress := self._next()) is not None:
            self._move(progress, Phase.WANTED)
            wants.append(want_of(self.job, progress.index, progress.number))
        return tuple(wants)

    def changed(self, index: int, attempt: int, task: TaskView, now: float) -> list[Decision]:
        """Learn the state of a task."""
        if task.state is None or self.has_ended:
            return []
        progress = self.open.get(index)
        if progress is None or progress.number != attempt:
            return self._overtaken(progress, attempt, task, now)
        return self._ended(progress, task, now) if task.state.is_terminal else self._alive(progress, task, now)

    def retry_due(self, index: int, number: int) -> None:
        """Let an index that paused be tried again."""
        progress = self.open.get(index)
        if progress is not None and progress.number == number and progress.phase is Phase.RESTING:
            self._move(progress, Phase.READY)
            self._ready.append(index)

    def patience_over(self, index: int, number: int, now: float) -> list[Decision]:
        """Replace a task that has been unreachable for too long, and stop the old one should it come back."""
        progress = self.open.get(index)
        if progress is None or progress.number != number or progress.unreachable_since is None:
            return []
        if now < progress.unreachable_since + self._limits.unreachable_grace_s:
            return []
        stop = Stop(task_id_of(self.job.job_id, index, number))
        if progress.task is not None:
            progress.remember(attempt_of(number, progress.task, now), self._limits.kept_attempts)
        if self.is_killed:
            return [stop, *self._settle(progress, IndexState.KILLED, now)]
        return [stop, *self._fault(progress, now, pause_s=0.0)]

    def kill(self, now: float) -> list[Decision]:
        """Stop everything: what waits is dropped, what was launched is killed and waited for."""
        if self.has_ended or self.is_killed:
            return []
        stops = [
            Stop(task_id_of(self.job.job_id, each.index, each.number))
            for each in self.open.values()
            if each.phase in (Phase.WANTED, Phase.LAUNCHED)
        ]
        return [*self._note(replace(self.times, killed_at=now)), *stops, *self._drop_idle(now)]

    # One attempt.

    def _alive(self, progress: Progress, task: TaskView, now: float) -> list[Decision]:
        self._move(progress, Phase.LAUNCHED)
        progress.task = task
        if task.state not in _OUT_OF_REACH:
            progress.unreachable_since = None
        elif progress.unreachable_since is None:
            progress.unreachable_since = now
            due = now + self._limits.unreachable_grace_s
            self._timers.set(due, PatienceOver(self.job.job_id, progress.index, progress.number))
        return self._started(now)

    def _started(self, now: float) -> list[Decision]:
        return [] if self.times.started_at else self._note(replace(self.times, started_at=now))

    def _ended(self, progress: Progress, task: TaskView, now: float) -> list[Decision]:
        progress.remember(attempt_of(progress.number, task, now), self._limits.kept_attempts)
        verdict = self._judge(task)
        started = self._started(now)
        if verdict is Verdict.SUCCESS:
            return [*started, *self._settle(progress, IndexState.SUCCEEDED, now)]
        if self.is_killed:
            return [*started, *self._settle(progress, IndexState.KILLED, now)]
        match verdict:
            case Verdict.HOPELESS:
                return [*started, *self._settle(progress, IndexState.FAILED, now)]
            case Verdict.FAULT:
                pause_s = delay_s(self._limits.fault_delay_s, progress.faults + 1, self._limits.max_delay_s)
                return [*started, *self._fault(progress, now, pause_s)]
            case Verdict.FAILURE:
                return [*started, *self._failure(progress, now)]

    def _judge(self, task: TaskView) -> Verdict:
        assert task.state is not None
        verdict = verdict_of(task.state, task.status.reason if task.status else Reason.NONE)
        self.ends[verdict] += 1
        return verdict

    def _failure(self, progress: Progress, now: float) -> list[Decision]:
        progress.failures += 1
        if progress.failures > self.job.spec.retries:
            return self._settle(progress, IndexState.FAILED, now)
        first_s = self.job.spec.retry_delay_ms / 1000
        return self._pause(progress, now + delay_s(first_s, progress.failures, self._longest_pause_s()))

    def _longest_pause_s(self) -> float:
        return max(self.job.spec.retry_delay_ms / 1000, self._limits.max_delay_s)

    def _fault(self, progress: Progress, now: float, pause_s: float) -> list[Decision]:
        progress.faults += 1
        if progress.faults > self._limits.max_faults:
            return self._settle(progress, IndexState.FAILED, now)
        return self._pause(progress, now + pause_s)

    def _pause(self, progress: Progress, until: float) -> list[Decision]:
        progress.rest(until)
        self._move(progress, Phase.RESTING)
        self._set_retry(progress)
        return [self._put(progress, IndexState.RETRYING)]

    def _overtaken(self, progress: Progress | None, attempt: int, task: TaskView, now: float) -> list[Decision]:
        """Learn of an attempt that was given up: if it succeeded after all, its successor is not needed."""
        if progress is None or attempt > progress.number or task.state is None or not task.state.is_terminal:
            return []
        current = progress.number
        progress.remember(attempt_of(attempt, task, now), self._limits.kept_attempts)
        if self._judge(task) is not Verdict.SUCCESS:
            return [self._put(progress, IndexState.RETRYING)]
        is_active = progress.phase in (Phase.WANTED, Phase.LAUNCHED)
        stops = [Stop(task_id_of(self.job.job_id, progress.index, current))] if is_active else []
        return [*stops, *self._settle(progress, IndexState.SUCCEEDED, now)]

    # Bookkeeping.

    def _next(self) -> Progress | None:
        while self._ready:
            progress = self.open.get(self._ready.popleft())
            if progress is not None and progress.phase is Phase.READY:
                return progress
        for index in self._fresh:
            if index not in self.settled and index not in self.open:
                return self._open(Progress(index), Phase.READY)
        return None

    def _open(self, progress: Progress, phase: Phase) -> Progress:
        progress.phase = phase
        self.open[progress.index] = progress
        self.phases[phase] += 1
        return progress

    def _move(self, progress: Progress, phase: Phase) -> None:
        self.phases[progress.phase] -= 1
        self.phases[phase] += 1
        progress.phase = phase

    def _settle(self, progress: Progress, state: IndexState, now: float) -> list[Decision]:
        self.phases[progress.phase] -= 1
        del self.open[progress.index]
        put = self._put(progress, state)
        self._file(progress.index, state, put.value)
        return [put, *self._end_if_over(now)]

    def _file(self, index: int, state: IndexState, value: bytes) -> None:
        self.settled[index] = value
        self.states[state] += 1

    def _drop_idle(self, now: float) -> list[Decision]:
        """Settle the indices of a killed job that have no task; those never tried need no entry."""
        decisions: list[Decision] = []
        for progress in [each for each in self.open.values() if each.phase is not Phase.LAUNCHED]:
            if progress.past:
                decisions += self._settle(progress, IndexState.KILLED, now)
            else:
                self.phases[progress.phase] -= 1
                del self.open[progress.index]
        return [*decisions, *self._end_if_over(now)]

    def _end_if_over(self, now: float) -> list[Decision]:
        is_over = not self.open and (self.is_killed or len(self.settled) == self.job.spec.size)
        return self._note(replace(self.times, ended_at=now)) if is_over and not self.has_ended else []

    def _note(self, times: JobTimes) -> list[Decision]:
        self.times = times
        return [Put(f"{STATUS}{self.job.job_id}", times_value(times))]

    def _put(self, progress: Progress, state: IndexState) -> Put:
        return Put(f"{INDEX}{self.job.job_id}/{progress.index}", record_value(state, progress))

    def _set_retry(self, progress: Progress) -> None:
        self._timers.set(progress.not_before, RetryDue(self.job.job_id, progress.index, progress.number))
