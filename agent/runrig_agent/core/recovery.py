"""What became of tasks while the agent, or a runtime, was away.

What runs is adopted, what ended is collected. What was written down but never started is not started now:
the master or its framework may have given it up (at most once), so it is TASK_DROPPED, LAUNCH_LOST, which no
retry is charged for. What ran and cannot be found is TASK_LOST. While a runtime cannot answer, its tasks stay
in their last state.
"""

from __future__ import annotations

from runrig.tasks import Reason, RuntimeKind, TaskState
from runrig_agent.core.account import Account
from runrig_agent.core.commands import SignalTask
from runrig_agent.core.effects import Effects
from runrig_agent.core.ends import Ends
from runrig_agent.core.events import FoundTask, TasksFound
from runrig_agent.core.records import SavedTask
from runrig_agent.core.runtimes import Runtimes
from runrig_agent.core.starts import Starts
from runrig_agent.core.task import SIGKILL, Phase, Task, TaskKey

_NOT_STARTED = (TaskState.TASK_STAGING, TaskState.TASK_STARTING)


def restored_task(saved: SavedTask) -> Task:
    """Return a task as an earlier process left it."""
    record = saved.record
    task = Task(record.key, record.spec, record.framework_name, record.role, record.group, record.launched_at)
    task.ending = saved.ending
    task.acknowledged = saved.acknowledged
    task.unacknowledged = [update for update in saved.updates if update.number > saved.acknowledged]
    task.latest = saved.updates[-1] if saved.updates else None
    task.phase = Phase.ENDED if task.state.is_terminal else Phase.UNCERTAIN
    return task


class Recovery:
    """Learn from the runtimes what became of tasks."""

    def __init__(
        self,
        effects: Effects,
        tasks: dict[TaskKey, Task],
        account: Account,
        runtimes: Runtimes,
        starts: Starts,
        ends: Ends,
    ) -> None:
        self._effects = effects
        self._tasks = tasks
        self._account = account
        self._runtimes = runtimes
        self._starts = starts
        self._ends = ends
        self._is_host_rebooted = False

    def restore(self, saved: tuple[SavedTask, ...], is_host_rebooted: bool) -> None:
        """Take over the tasks of an earlier process; nothing is known of them yet."""
        self._is_host_rebooted = is_host_rebooted
        for each in saved:
            task = restored_task(each)
            self._tasks[task.key] = task
            if task.is_live:
                self._account.take(task.spec)

    def found(self, event: TasksFound, now: float) -> None:
        """Adopt, collect, and give up what is gone, as a runtime has answered."""
        known = {found.started.key: found for found in event.found}
        for key in self._in_order(self._runtimes.answered(event.kind)):
            task = self._tasks.get(key)
            if task is not None and task.phase in (Phase.UNCERTAIN, Phase.RUNNING):
                self._settle(task, known.get(key), now)
        self._starts.resume(event.kind, now)

    def gone_without_word(self, kind: RuntimeKind, now: float) -> None:
        """Refuse what waits for a runtime that cannot answer."""
        self._starts.resume(kind, now)

    def _in_order(self, keys: frozenset[TaskKey]) -> list[TaskKey]:
        return [key for key in self._tasks if key in keys]

    def _settle(self, task: Task, found: FoundTask | None, now: float) -> None:
        if found is None:
            self._give_up(task, now)
        elif found.ended is not None:
            task.started = found.started
            self._ends.ended(task, found.ended, now)
        elif task.phase is Phase.UNCERTAIN:
            self._starts.started(task, found.started, now)
        elif task.ending is not None:
            self._ends.signal(task, now)

    def _give_up(self, task: Task, now: float) -> None:
        """End a task that its runtime does not have; a launch still on its way must not live."""
        self._effects.do(SignalTask(task.key, task.kind, SIGKILL))
        ending = task.ending
        if ending is not None:
            self._ends.finish(task, ending.state, ending.reason, ending.message, now)
        elif task.phase is Phase.UNCERTAIN and task.state in _NOT_STARTED and not self._is_host_rebooted:
            message = "the agent restarted before it was started; launch it again"
            self._ends.finish(task, TaskState.TASK_DROPPED, Reason.LAUNCH_LOST, message, now)
        elif self._is_host_rebooted:
            message = "its host was rebooted"
            self._ends.finish(task, TaskState.TASK_LOST, Reason.HOST_REBOOTED, message, now)
        else:
            message = "its runtime does not have it any more, and nobody knows how it ended"
            self._ends.finish(task, TaskState.TASK_LOST, Reason.STATUS_UNAVAILABLE, message, now)
