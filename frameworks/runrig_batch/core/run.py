"""One job as it runs: which of its indices is tried next, which ended how, and when all is over.

Rule 1: of each index one attempt at most is the current one; of older ones only a success still matters.
Rule 2: an index that has ended is never opened again.
Rule 3: what an end decides is written in the same answer, so a death between two answers repeats nothing.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace

from runrig.ids import TaskId
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
from runrig_batch.core.timers import GangWaitOver, PatienceOver, RetryDue, Timers
from runrig_batch.core.verdict import Verdict, delay_s, verdict_of

_OUT_OF_REACH = (TaskState.TASK_UNREACHABLE, TaskState.TASK_UNKNOWN)


class JobRun:
    """The state of one job: `open` indices are under way, `settled` ones are kept as their entries."""

    __slots__ = (
        "_fresh",
        "_leaving",
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
        self._leaving: set[TaskId] = set()
        """Tasks of a gang's earlier attempts that may still live: the next waits for their ends, for a while."""
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
            if self.job.spec.is_gang and state is IndexState.SUCCEEDED and not self.has_ended:
                self._open(progress_from(index, value), Phase.DONE)
                continue
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
            if self.job.spec.is_gang and progress is not None and task.state not in _OUT_OF_REACH:
                self._await_ends([task.task_id], progress, now)
            return None
        self._alive(progress, task, now)
        return None if self.is_killed else want_of(self.job, index, attempt)

    def resume(self, now: float) -> list[Decision]:
        """End what a death kept from ending: a killed job whose last task is gone; a gang that is there in part."""
        if self.is_killed and not self.has_ended:
            return self._drop_idle(now)
        begun = self.phases[Phase.LAUNCHED] + self.phases[Phase.DONE]
        if self.job.spec.is_gang and 0 < begun < self.job.spec.size:
            while self._next() is not None:
                pass
            return self._break_up(None, Verdict.FAULT, now)
        return []

    # What happens to it.

    def refill(self, window: int) -> tuple[Want, ...]:
        """Return further tasks that should run: `window` at most wait for offers, parallelism is kept."""
        if self.is_killed or self.has_ended:
            return ()
        if self.job.spec.is_gang:
            return self._refill_gang()
        room = window - self.phases[Phase.WANTED]
        if self.job.spec.parallelism:
            active = self.phases[Phase.WANTED] + self.phases[Phase.LAUNCHED]
            room = min(room, self.job.spec.parallelism - active)
        return self._want_next(room)

    def _want_next(self, most: int) -> tuple[Want, ...]:
        wants: list[Want] = []
        while len(wants) < most and (progress := self._next()) is not None:
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
        if progress.phase is Phase.DONE:
            return []
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
        if self.job.spec.is_gang:
            return [stop, *self._break_up(progress, Verdict.FAULT, now)]
        return [stop, *self._fault(progress, now, pause_s=0.0)]

    def give_back(self, index: int, attempt: int, deadline: float, now: float) -> list[Decision]:
        """Stop a task whose place is asked back, unless it will have ended by then; a gang goes whole."""
        progress = self.open.get(index)
        if progress is None or progress.number != attempt or progress.phase is not Phase.LAUNCHED or self.is_killed:
            return []
        launched_at = progress.task.launched_at if progress.task is not None else now
        promised_s = self.job.spec.promised_ms / 1000
        if promised_s and launched_at + promised_s <= deadline:
            return []
        if self.job.spec.is_gang:
            return self._break_up(None, Verdict.YIELD, now)
        return [Stop(task_id_of(self.job.job_id, index, attempt))]

    def gang_wait_over(self, number: int) -> None:
        """Let the next attempt of a gang begin, whatever is left of those before."""
        if any(each.number == number for each in self.open.values()):
            self._leaving.clear()

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
        verdict = self._judge(task, is_given_back=task.is_stopping and not self.is_killed)
        started = self._started(now)
        if self.job.spec.is_gang and not self.is_killed:
            return [*started, *self._ended_in_gang(progress, verdict, now)]
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
            case Verdict.YIELD:
                return [*started, *self._pause(progress, now)]
            case Verdict.FAILURE:
                return [*started, *self._failure(progress, now)]

    def _judge(self, task: TaskView, *, is_given_back: bool = False) -> Verdict:
        assert task.state is not None
        reason = task.status.reason if task.status else Reason.NONE
        verdict = verdict_of(task.state, reason, is_given_back=is_given_back)
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
        if self.job.spec.is_gang:
            self._leaving.discard(task.task_id)
            self._judge(task, is_given_back=task.is_stopping)
            state = IndexState.SUCCEEDED if progress.phase is Phase.DONE else IndexState.RETRYING
            return [self._put(progress, state)]
        if self._judge(task) is not Verdict.SUCCESS:
            return [self._put(progress, IndexState.RETRYING)]
        is_active = progress.phase in (Phase.WANTED, Phase.LAUNCHED)
        stops = [Stop(task_id_of(self.job.job_id, progress.index, current))] if is_active else []
        return [*stops, *self._settle(progress, IndexState.SUCCEEDED, now)]

    # A gang: all indices have the same attempt, and begin it together.

    def _refill_gang(self) -> tuple[Want, ...]:
        busy = (Phase.RESTING, Phase.WANTED, Phase.LAUNCHED, Phase.DONE)
        if self._leaving or any(self.phases[phase] for phase in busy):
            return ()
        return self._want_next(self.job.spec.size)

    def _ended_in_gang(self, progress: Progress, verdict: Verdict, now: float) -> list[Decision]:
        if verdict is not Verdict.SUCCESS:
            return self._break_up(progress, verdict, now)
        self._move(progress, Phase.DONE)
        progress.task = None
        if self.phases[Phase.DONE] < self.job.spec.size:
            return [self._put(progress, IndexState.SUCCEEDED)]
        decisions: list[Decision] = []
        for each in list(self.open.values()):
            decisions += self._settle(each, IndexState.SUCCEEDED, now)
        return decisions

    def _break_up(self, broken: Progress | None, verdict: Verdict, now: float) -> list[Decision]:
        """Stop the whole attempt because of one index, or of none; try all again, or none if that was the last time."""
        failures = max(each.failures for each in self.open.values()) + (verdict is Verdict.FAILURE)
        faults = max(each.faults for each in self.open.values()) + (verdict is Verdict.FAULT)
        for each in self.open.values():
            each.failures, each.faults = failures, faults
        has_retries = failures <= self.job.spec.retries and faults <= self._limits.max_faults
        if verdict is Verdict.HOPELESS or not has_retries:
            return self._give_up(broken, now)
        until = now + self._gang_pause_s(verdict, failures, faults)
        others = [each for each in self.open.values() if each is not broken]
        alive = [self._task_id(each) for each in others if each.phase is Phase.LAUNCHED]
        stops = [Stop(self._task_id(each)) for each in others if each.phase in (Phase.WANTED, Phase.LAUNCHED)]
        decisions: list[Decision] = [*stops]
        for each in self.open.values():
            decisions += self._pause(each, until)
        self._await_ends(alive, next(iter(self.open.values())), now)
        return decisions

    def _gang_pause_s(self, verdict: Verdict, failures: int, faults: int) -> float:
        match verdict:
            case Verdict.FAILURE:
                return delay_s(self.job.spec.retry_delay_ms / 1000, failures, self._longest_pause_s())
            case Verdict.FAULT:
                return delay_s(self._limits.fault_delay_s, faults, self._limits.max_delay_s)
            case _:
                return 0.0

    def _give_up(self, broken: Progress | None, now: float) -> list[Decision]:
        decisions: list[Decision] = []
        for each in list(self.open.values()):
            if each.phase in (Phase.WANTED, Phase.LAUNCHED) and each is not broken:
                decisions.append(Stop(self._task_id(each)))
            if each is broken:
                state = IndexState.FAILED
            else:
                state = IndexState.SUCCEEDED if each.phase is Phase.DONE else IndexState.KILLED
            decisions += self._settle(each, state, now)
        return decisions

    def _await_ends(self, task_ids: list[TaskId], progress: Progress, now: float) -> None:
        """Let the attempt that is due wait for these; how long is counted from when it is due, over restarts too."""
        until = progress.not_before + self._limits.unreachable_grace_s
        if task_ids and now < until:
            self._leaving.update(task_ids)
            self._timers.set(until, GangWaitOver(self.job.job_id, progress.number))

    def _task_id(self, progress: Progress) -> TaskId:
        return task_id_of(self.job.job_id, progress.index, progress.number)

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
            if progress.phase is Phase.DONE:
                decisions += self._settle(progress, IndexState.SUCCEEDED, now)
            elif progress.past:
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
