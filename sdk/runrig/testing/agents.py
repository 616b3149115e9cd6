"""Scripted agents: they say what agents say, and run what the script tells them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runrig.agents import (
    AcknowledgeUpdate,
    AgentInfo,
    KillTask,
    Launch,
    Order,
    Register,
    Registered,
    ShutdownFramework,
    TaskNotHere,
    TaskReport,
)
from runrig.ids import FrameworkId, Role, TaskId
from runrig.offers import LaunchableTask, StreamRefused
from runrig.tasks import Reason, Source, StatusUpdate, TaskState

if TYPE_CHECKING:
    from runrig.testing.cluster import Cluster

TaskKey = tuple[FrameworkId, TaskId]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a task does once it runs: it ends after `after_s` (None: never) with `exit_code`."""

    after_s: float | None = None
    exit_code: int = 0
    fails_to_start: Reason | None = None


Script = Callable[[LaunchableTask], Behaviour]


def running(_: LaunchableTask) -> Behaviour:
    """Run for ever."""
    return Behaviour()


def finishing(after_s: float) -> Script:
    """Return the script of tasks that finish after `after_s`."""
    return lambda _: Behaviour(after_s)


def failing(after_s: float, exit_code: int = 1) -> Script:
    """Return the script of tasks that fail after `after_s`."""
    return lambda _: Behaviour(after_s, exit_code)


class _Task:
    __slots__ = ("acknowledged", "framework_id", "latest", "order", "spec", "unacknowledged")

    def __init__(self, order: Launch, spec: LaunchableTask) -> None:
        self.framework_id = order.framework_id
        self.order = order
        self.spec = spec
        self.latest: StatusUpdate | None = None
        self.acknowledged = 0
        self.unacknowledged: list[StatusUpdate] = []


class ScriptedAgent:
    """An agent of the simulated cluster. Its tasks outlive its process, as they do on a real host."""

    def __init__(self, cluster: Cluster, info: AgentInfo, script: Script) -> None:
        self.info = info
        self.script = script
        self.tasks: dict[TaskKey, _Task] = {}
        self.starts: list[TaskKey] = []
        """Every start of a task, in order: ground truth."""
        self._known: set[TaskKey] = set()
        self._killed: set[TaskKey] = set()
        self._cluster = cluster
        self._session = 0
        self._epoch = 0
        self._stream: int | None = None
        self._is_up = True

    @property
    def running(self) -> list[TaskKey]:
        """Return what really runs."""
        return [key for key, task in self.tasks.items() if task.latest is None or not task.latest.state.is_terminal]

    # Faults

    def kill(self) -> None:
        """Kill the agent's process: its tasks run on, its stream breaks."""
        self._is_up = False
        self.disconnect()

    def restart(self) -> None:
        """Start the agent's process again: it finds its tasks and registers."""
        self._is_up = True
        self.connect()

    def disconnect(self) -> None:
        """Break the agent's stream; `connect` makes a new one."""
        if self._stream is not None:
            self._cluster.break_agent_stream(self._stream)
            self._stream = None

    def connect(self) -> None:
        """Open a stream and register."""
        if not self._is_up or not self._cluster.master_is_up:
            return
        self._stream = self._cluster.open_agent_stream(self)
        self._session += 1
        self._report(Register(self.info, self._session, self._epoch, tuple(self._reports())))
        for task in self.tasks.values():
            for update in task.unacknowledged:
                self._report(update)

    def lose_tasks(self) -> None:
        """Forget everything, as after a loss of the work directory."""
        self.tasks.clear()

    def end_task(self, key: TaskKey, exit_code: int = 0) -> None:
        """End a task now."""
        state = TaskState.TASK_FINISHED if exit_code == 0 else TaskState.TASK_FAILED
        self._say(key, state, Reason.EXITED, exit_code)

    # The master's side

    def stream_closed(self, stream: int) -> None:
        """Learn that a stream is gone; come back a little later."""
        if stream == self._stream:
            self._stream = None
            self._cluster.after(1.0, self._reconnect)

    def _reconnect(self) -> None:
        if self._stream is None:
            self.connect()

    def heard(self, stream: int, epoch: int, order: Order) -> None:
        """Carry out an order."""
        if stream != self._stream or epoch < self._epoch:
            return
        self._epoch = epoch
        match order:
            case Launch():
                for spec in order.tasks:
                    self._launch(order, spec)
            case KillTask():
                self._kill((order.framework_id, order.task_id), order.reason)
            case AcknowledgeUpdate():
                self._acknowledged((order.framework_id, order.task_id), order.number)
            case ShutdownFramework():
                for key in [key for key in self.tasks if key[0] == order.framework_id]:
                    self._kill(key, Reason.FRAMEWORK_REMOVED)
            case Registered() | StreamRefused():
                pass

    def _launch(self, order: Launch, spec: LaunchableTask) -> None:
        key = (order.framework_id, spec.task_id)
        if key in self._known:
            self._repeat(key)
            return
        self._known.add(key)
        self.tasks[key] = _Task(order, spec)
        behaviour = self.script(spec)
        if key in self._killed:
            self._say(key, TaskState.TASK_KILLED, Reason.KILLED_BEFORE_LAUNCH)
        elif behaviour.fails_to_start is not None:
            self._say(key, TaskState.TASK_FAILED, behaviour.fails_to_start)
        else:
            self.starts.append(key)
            self._say(key, TaskState.TASK_RUNNING, Reason.NONE)
            if behaviour.after_s is not None:
                self._cluster.after(behaviour.after_s, lambda: self.end_task(key, behaviour.exit_code))

    def _repeat(self, key: TaskKey) -> None:
        task = self.tasks.get(key)
        if task is not None and task.latest is not None:
            self._report(task.latest)

    def _kill(self, key: TaskKey, reason: Reason) -> None:
        if key not in self.tasks:
            self._killed.add(key)
            self._report(TaskNotHere(*key))
        else:
            self._say(key, TaskState.TASK_KILLED, reason)

    def _acknowledged(self, key: TaskKey, number: int) -> None:
        task = self.tasks.get(key)
        if task is None:
            return
        task.acknowledged = max(task.acknowledged, number)
        task.unacknowledged = [update for update in task.unacknowledged if update.number > number]
        if task.latest is not None and task.latest.state.is_terminal and not task.unacknowledged:
            del self.tasks[key]

    def _say(self, key: TaskKey, state: TaskState, reason: Reason, exit_code: int | None = None) -> None:
        task = self.tasks.get(key)
        if task is None or (task.latest is not None and task.latest.state.is_terminal):
            return
        update = StatusUpdate(
            key[0],
            key[1],
            self.info.agent_id,
            (task.latest.number if task.latest else 0) + 1,
            state,
            reason,
            Source.AGENT,
            at_unix_ms=int(self._cluster.now * 1000),
            exit_code=exit_code,
        )
        task.latest = update
        task.unacknowledged.append(update)
        self._report(update)

    def _report(self, report: Register | StatusUpdate | TaskNotHere) -> None:
        if self._stream is not None:
            self._cluster.agent_says(self._stream, report)

    def _reports(self) -> list[TaskReport]:
        return [
            TaskReport(
                key[0],
                key[1],
                task.spec.name,
                Role(task.order.role),
                task.spec.resources,
                task.spec.labels,
                replace(task.latest),
            )
            for key, task in self.tasks.items()
            if task.latest is not None
        ]
