"""How tasks start: durable first, then prepared, then launched; those of a group together.

Plain processes that fetch nothing are launched at once and say no more than RUNNING.
"""

from __future__ import annotations

from runrig.tasks import Reason, RuntimeKind, TaskSpec, TaskState
from runrig_agent.core.commands import (
    AdoptTask,
    ForgetTask,
    LaunchTask,
    PrepareTask,
    SignalTask,
    StartHealthChecks,
)
from runrig_agent.core.effects import Effects
from runrig_agent.core.ends import Ends
from runrig_agent.core.policy import Policy
from runrig_agent.core.runtimes import Runtimes
from runrig_agent.core.task import SIGKILL, CheckResult, Phase, Task, TaskEnded, TaskKey, TaskStarted
from runrig_agent.core.timers import TimerKind, Timers
from runrig_agent.core.updates import Updates


class Starts:
    """Bring admitted tasks to life."""

    def __init__(
        self,
        policy: Policy,
        effects: Effects,
        timers: Timers,
        tasks: dict[TaskKey, Task],
        updates: Updates,
        ends: Ends,
        runtimes: Runtimes,
    ) -> None:
        self._policy = policy
        self._effects = effects
        self._timers = timers
        self._tasks = tasks
        self._updates = updates
        self._ends = ends
        self._runtimes = runtimes

    def begin(self, task: Task) -> None:
        """Prepare a task that was just admitted, or was held; launch it if there is nothing to prepare."""
        if self._runtimes.is_recovering(task.kind):
            task.phase = Phase.HELD
        elif _needs_preparation(task.spec):
            task.phase = Phase.PREPARING
            self._effects.do(PrepareTask(task.key, task.spec))
        else:
            self._ready(task)

    def prepared(self, task: Task) -> None:
        """All that the task needs is there."""
        if task.phase is Phase.PREPARING:
            self._timers.cancel(TimerKind.PROGRESS, task.key)
            self._ready(task)

    def resume(self, kind: RuntimeKind, now: float) -> None:
        """Start what waited for a runtime that has now said what became of earlier tasks."""
        problem = self._runtimes.problems.get(kind)
        for task in [task for task in self._tasks.values() if task.kind is kind]:
            if task.phase is Phase.HELD and problem is not None:
                self._ends.finish(task, TaskState.TASK_FAILED, Reason.RUNTIME_UNAVAILABLE, problem, now)
            elif task.phase is Phase.HELD:
                self.begin(task)
            elif task.phase is Phase.READY:
                self._launch_together(task)

    def progressed(self, task: Task, reason: Reason, message: str, now: float) -> None:
        """Say that preparation takes time, at once the first time and then not too often."""
        if task.phase is not Phase.PREPARING:
            return
        if self._timers.is_set(TimerKind.PROGRESS, task.key):
            task.progress = (reason, message)
            return
        self._updates.add(task, TaskState.TASK_STARTING, reason, now, message)
        self._timers.set(TimerKind.PROGRESS, now + self._policy.progress_interval_s, task.key)

    def tell_progress(self, task: Task, now: float) -> None:
        """Say the latest progress that was held back."""
        if task.progress is not None:
            (reason, message), task.progress = task.progress, None
            self.progressed(task, reason, message, now)

    def not_started(self, task: Task, reason: Reason, message: str, now: float) -> None:
        """Give up a task that could not start; what its launch may have left is killed and forgotten."""
        if task.phase is Phase.PREPARING:
            self._ends.finish(task, TaskState.TASK_FAILED, reason, message, now)
        elif task.phase is Phase.LAUNCHING:
            self._effects.do(SignalTask(task.key, task.kind, SIGKILL))
            if task.ending is not None:
                reason = task.ending.reason if task.ending.is_forgotten else Reason.KILLED_BEFORE_LAUNCH
                message = f"it was killed while it started, and did not start: {message}"
                self._ends.finish(task, TaskState.TASK_KILLED, reason, message, now)
            else:
                self._ends.finish(task, TaskState.TASK_FAILED, reason, message, now)

    def started(self, task: Task, start: TaskStarted, now: float) -> None:
        """Say that a task runs, watch its health and time; or end it, when a kill came meanwhile."""
        if task.phase is Phase.ENDED:
            self._effects.do(SignalTask(task.key, task.kind, SIGKILL))
            self._effects.do(ForgetTask(task.key, task.kind, int(now * 1000)))
            return
        if task.phase not in (Phase.LAUNCHING, Phase.UNCERTAIN):
            return
        was_uncertain = task.phase is Phase.UNCERTAIN
        task.phase = Phase.RUNNING
        task.started = start
        if was_uncertain:
            self._effects.do(AdoptTask(task.key, task.spec))
        if task.ending is None and task.state in (TaskState.TASK_STAGING, TaskState.TASK_STARTING):
            self._updates.add(task, TaskState.TASK_RUNNING, Reason.NONE, now, at_unix_ms=start.started_at_unix_ms)
        if task.early_end is not None:
            self._ends.ended(task, task.early_end, now)
        elif task.ending is not None:
            self._ends.signal(task, now)
        else:
            self._watch(task, start)

    def ended(self, task: Task, end: TaskEnded, now: float) -> None:
        """Take note of an end; one that overtakes its start waits for it."""
        if task.phase is Phase.LAUNCHING:
            task.early_end = end
        elif task.phase in (Phase.RUNNING, Phase.UNCERTAIN):
            self._ends.ended(task, end, now)

    def _watch(self, task: Task, start: TaskStarted) -> None:
        if task.spec.max_run_ms:
            deadline = (start.started_at_unix_ms + task.spec.max_run_ms) / 1000
            self._timers.set(TimerKind.MAX_RUN, deadline, task.key)
        if task.spec.health_checks:
            task.checks = [CheckResult() for _ in task.spec.health_checks]
            self._effects.do(StartHealthChecks(task.key, task.spec, start.address))

    def _ready(self, task: Task) -> None:
        task.phase = Phase.READY
        self._launch_together(task)

    def _launch_together(self, task: Task) -> None:
        """Launch a task, or all of its group as soon as the last of them is ready."""
        group = [self._tasks[key] for key in ((task.key[0], each) for each in task.group) if key in self._tasks]
        together = group or [task]
        if any(each.phase in (Phase.HELD, Phase.PREPARING) for each in together):
            return
        if any(self._runtimes.is_recovering(each.kind) for each in together if each.phase is Phase.READY):
            return
        for each in together:
            if each.phase is Phase.READY:
                each.phase = Phase.LAUNCHING
                self._effects.do(LaunchTask(each.key, each.spec))


def _needs_preparation(spec: TaskSpec) -> bool:
    is_container = spec.runtime_kind is RuntimeKind.DOCKER
    return is_container or bool(spec.fetch or spec.volumes or spec.command.user)
