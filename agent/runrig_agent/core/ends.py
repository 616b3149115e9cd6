"""How tasks end: by themselves, by a kill, by a limit, or with their group.

Rule 8: terminal states never change. Rule 13: SIGTERM, then SIGKILL after the grace, again and again until
the task is gone; a second kill may shorten the grace, never lengthen it. A task is said to have ended only
when it has.
"""

from __future__ import annotations

from dataclasses import replace

from runrig.tasks import Reason, TaskState
from runrig_agent.core.account import Account
from runrig_agent.core.commands import CancelPreparation, ForgetTask, SignalTask, StopHealthChecks
from runrig_agent.core.effects import Effects
from runrig_agent.core.policy import Policy
from runrig_agent.core.records import PutEnding
from runrig_agent.core.task import SIGKILL, SIGTERM, Ending, Phase, Task, TaskEnded, TaskKey
from runrig_agent.core.timers import TimerKind, Timers
from runrig_agent.core.tombstones import Tombstones
from runrig_agent.core.updates import Updates
from runrig_agent.core.volumes import Volumes

_ASKED = (Reason.KILLED_BY_FRAMEWORK, Reason.KILLED_BY_OPERATOR)
_SIGNAL_NAMES = {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE"}
_SIGNAL_NAMES |= {9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM"}

_OUR_CODES = (128 + SIGTERM, 128 + SIGKILL)


class Ends:
    """End tasks and say so."""

    def __init__(
        self,
        policy: Policy,
        effects: Effects,
        timers: Timers,
        tasks: dict[TaskKey, Task],
        updates: Updates,
        tombstones: Tombstones,
        account: Account,
        volumes: Volumes,
    ) -> None:
        self._policy = policy
        self._effects = effects
        self._timers = timers
        self._tasks = tasks
        self._updates = updates
        self._tombstones = tombstones
        self._account = account
        self._volumes = volumes

    def kill(self, task: Task, grace_ms: int | None, reason: Reason, now: float) -> None:
        """End a task for a framework, an operator or the master (rule 13)."""
        if not task.is_live:
            self._updates.answer(task)
        elif task.ending is not None:
            self._hasten(task, grace_ms, now)
        else:
            self.end(task, TaskState.TASK_KILLED, reason, "", now, grace_ms=grace_ms)

    def end(
        self,
        task: Task,
        state: TaskState,
        reason: Reason,
        message: str,
        now: float,
        grace_ms: int | None = None,
        is_forgotten: bool = False,
    ) -> None:
        """Make a live task end; its end will be called `state`, because of `reason`."""
        if task.phase in (Phase.HELD, Phase.PREPARING, Phase.READY):
            self._end_before_start(task, reason, message, now, is_forgotten)
            return
        if task.ending is not None:
            return
        self._set_ending(task, Ending(state, reason, message, self._grace_s(task, grace_ms), now, None, is_forgotten))
        self._updates.add(task, TaskState.TASK_KILLING, reason, now, message)
        self._stop_checks(task)
        if task.phase is Phase.RUNNING:
            self.signal(task, now)

    def forget(self, task: Task, now: float) -> None:
        """End a task of a framework that was shut down, and keep nothing to say to it."""
        if not task.is_live:
            self._bury(task, now)
            return
        if task.ending is not None:
            self._set_ending(task, replace(task.ending, is_forgotten=True))
        self.end(
            task,
            TaskState.TASK_KILLED,
            Reason.FRAMEWORK_REMOVED,
            "its framework was removed",
            now,
            is_forgotten=True,
        )

    def signal(self, task: Task, now: float) -> None:
        """Send SIGTERM, or SIGKILL when the grace is over, to a task that is to end."""
        ending = task.ending
        assert ending is not None
        if ending.deadline is None:
            ending = replace(ending, deadline=now + ending.grace_s)
            self._set_ending(task, ending)
        assert ending.deadline is not None
        if ending.deadline <= now:
            self.signal_kill(task, now)
        else:
            self._effects.do(SignalTask(task.key, task.kind, SIGTERM))
            self._timers.set(TimerKind.KILL, ending.deadline, task.key)

    def signal_kill(self, task: Task, now: float) -> None:
        """Send SIGKILL, and again later if the task is still there."""
        self._effects.do(SignalTask(task.key, task.kind, SIGKILL))
        self._timers.set(TimerKind.KILL, now + self._policy.kill_retry_s, task.key)

    def ended(self, task: Task, end: TaskEnded, now: float) -> None:
        """Say how a task has ended, in the words of whoever wanted it to."""
        state, reason, message = _verdict(task, end)
        self.finish(task, state, reason, message, now, end.ended_at_unix_ms, end.exit_code)

    def finish(
        self,
        task: Task,
        state: TaskState,
        reason: Reason,
        message: str,
        now: float,
        at_unix_ms: int | None = None,
        exit_code: int | None = None,
    ) -> None:
        """Say the last word on a task, free what it held; end the rest of its group unless all went well."""
        assert state.is_terminal
        at_unix_ms = int(now * 1000) if at_unix_ms is None else at_unix_ms
        self._release(task, at_unix_ms)
        self._updates.add(task, state, reason, now, message, at_unix_ms, exit_code)
        if task.ending is not None and task.ending.is_forgotten:
            self._bury(task, now)
        if state is not TaskState.TASK_FINISHED:
            self._end_group(task, state, message, now)

    def acknowledged(self, task: Task, number: int, now: float) -> None:
        """Note that an update was received; after the last only the id is remembered."""
        if self._updates.acknowledge(task, number):
            self._bury(task, now)

    def _release(self, task: Task, at_unix_ms: int) -> None:
        if task.phase is Phase.PREPARING:
            self._effects.do(CancelPreparation(task.key))
        self._stop_checks(task)
        task.phase = Phase.ENDED
        task.progress = None
        for kind in (TimerKind.KILL, TimerKind.MAX_RUN, TimerKind.PROGRESS):
            self._timers.cancel(kind, task.key)
        self._account.release(task.spec)
        self._volumes.released(task.spec)
        self._effects.do(ForgetTask(task.key, task.kind, at_unix_ms))

    def _stop_checks(self, task: Task) -> None:
        if task.checks:
            task.checks = []
            self._effects.do(StopHealthChecks(task.key))

    def _end_before_start(self, task: Task, reason: Reason, message: str, now: float, is_forgotten: bool) -> None:
        if is_forgotten:
            task.ending = Ending(TaskState.TASK_KILLED, reason, message, 0.0, now, now, is_forgotten=True)
        if reason in _ASKED:
            reason, message = Reason.KILLED_BEFORE_LAUNCH, "it was killed before it started"
        self.finish(task, TaskState.TASK_KILLED, reason, message, now)

    def _hasten(self, task: Task, grace_ms: int | None, now: float) -> None:
        """Shorten the grace of a task that is to end; a kill that names no grace changes nothing."""
        ending = task.ending
        assert ending is not None
        if grace_ms is None:
            return
        if ending.deadline is None:
            if grace_ms / 1000 < ending.grace_s:
                self._set_ending(task, replace(ending, grace_s=grace_ms / 1000))
        elif now + grace_ms / 1000 < ending.deadline:
            self._set_ending(task, replace(ending, deadline=now + grace_ms / 1000))
            if grace_ms == 0:
                self.signal_kill(task, now)
            else:
                self._timers.set(TimerKind.KILL, now + grace_ms / 1000, task.key)

    def _set_ending(self, task: Task, ending: Ending) -> None:
        task.ending = ending
        self._effects.keep(PutEnding(task.key, ending))

    def _grace_s(self, task: Task, grace_ms: int | None) -> float:
        wanted = task.spec.kill_grace_ms if grace_ms is None else grace_ms
        return self._policy.kill_grace_s if wanted is None else wanted / 1000

    def _bury(self, task: Task, now: float) -> None:
        assert not task.is_live
        self._timers.cancel(TimerKind.RETRY_UPDATES, task.key)
        del self._tasks[task.key]
        self._tombstones.bury(task.key, task.latest, now)

    def _end_group(self, task: Task, state: TaskState, message: str, now: float) -> None:
        word = f"task {task.key[1]} of its group ended as {state.name}" + (f": {message}" if message else "")
        for other in self._group_of(task):
            if other.is_live:
                self.end(other, TaskState.TASK_KILLED, Reason.TASK_GROUP_ENDED, word, now)

    def _group_of(self, task: Task) -> list[Task]:
        keys = [(task.key[0], task_id) for task_id in task.group]
        return [self._tasks[key] for key in keys if key in self._tasks]


def _verdict(task: Task, end: TaskEnded) -> tuple[TaskState, Reason, str]:
    """Name an end. One that came before anybody asked for it, not by a signal of ours, is the task's own."""
    ending = task.ending
    code = end.exit_code
    if ending is not None:
        is_own = end.ended_at_unix_ms < int(ending.asked_at * 1000) and code not in (None, *_OUR_CODES)
        if not is_own:
            return ending.state, ending.reason, ending.message or end.message
    if end.is_out_of_memory:
        mem = task.spec.limits.mem_mib or task.spec.resources.mem_mib
        return (
            TaskState.TASK_FAILED,
            Reason.OUT_OF_MEMORY,
            end.message or f"it used more than its {mem} MiB of memory",
        )
    if code is None and end.has_host_rebooted:
        return TaskState.TASK_LOST, Reason.HOST_REBOOTED, end.message or "its host was rebooted"
    if code is None:
        return (
            TaskState.TASK_LOST,
            Reason.STATUS_UNAVAILABLE,
            end.message or "it is gone, and nobody knows how it ended",
        )
    if code == 0:
        return TaskState.TASK_FINISHED, Reason.EXITED, end.message
    if code > 128:
        name = _SIGNAL_NAMES.get(code - 128, f"signal {code - 128}")
        return TaskState.TASK_FAILED, Reason.SIGNALED, end.message or f"ended by {name} (exit code {code})"
    return TaskState.TASK_FAILED, Reason.EXITED, end.message or f"exit code {code}"
