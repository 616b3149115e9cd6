"""An agent's real core behind the wire mapping; the case plays its master and its runtime.

The master's envelopes are serialized and read as the agent's stream reads them, and what the agent reports is an
envelope again. Its checkpoint is a disk that survives `dies`.
"""

from __future__ import annotations

from typing import Any

from runrig._wire import add_report
from runrig.agents import AgentInfo
from runrig.ids import AgentId, FrameworkId, TaskId
from runrig.offers import StreamRefused
from runrig.resources import Resources
from runrig.tasks import RuntimeKind
from runrig.v1 import agent_pb2, tasks_pb2
from runrig_agent.core import commands as do
from runrig_agent.core import events
from runrig_agent.core.agent import AgentCore
from runrig_agent.core.memory_checkpoint import MemoryCheckpoint
from runrig_agent.core.policy import Policy
from runrig_agent.core.task import TaskEnded, TaskKey, TaskStarted
from runrig_agent.grpc_master import _orders

START_S = 1_000_000.0
FRAMEWORK = "f"
INFO = AgentInfo(
    AgentId("a"), "host-a", Resources(4000, 4096, ports=((31000, 31009),)), runtimes=(RuntimeKind.PROCESS,)
)
POLICY = Policy(masters=("master:5055",))
RETRY_S, LONGEST_RETRY_S = 10.0, 600.0


def _key(task_id: str) -> TaskKey:
    return FrameworkId(FRAMEWORK), TaskId(task_id)


class AgentUnderTest:
    """An agent that has registered with epoch 1; what it says and does is kept until it is looked at."""

    def __init__(self) -> None:
        self._now = START_S
        self._disk = MemoryCheckpoint()
        self._session = 0
        self.epoch = 1
        self.reports: list[Any] = []
        """What it has reported and the case has not taken."""
        self.started: list[str] = []
        """The tasks that it had its runtime start, in order."""
        self.signals: list[tuple[str, int]] = []
        """The signals that it had its runtime send."""
        self.is_connected = False
        self.has_stopped = False
        """Whether it has ended for good, as no master will have it again."""
        self._is_asked_for = False
        self._runs: dict[str, TaskStarted] = {}
        self._exits: dict[str, TaskEnded] = {}
        self._core = AgentCore(POLICY)
        self._begin()
        self.register()

    # Its life

    def _begin(self) -> None:
        self._tell(events.AgentStarted(INFO, self._disk.saved(), False))

    def dies(self) -> None:
        """Die as by kill -9, and start again from the checkpoint; tasks go on meanwhile."""
        self._core = AgentCore(POLICY)
        self.is_connected = self._is_asked_for = False
        self.reports.clear()
        self._begin()

    def loses_the_master(self) -> None:
        """Have its stream break, and lose what was on it."""
        self.is_connected = False
        self.reports.clear()
        self._tell(events.StreamClosed(self._session, "broken", 0.0))

    def register(self) -> agent_pb2.Register:
        """Let it connect, as soon as it wants to; take its registration and confirm it."""
        register = self.connects()
        self.orders(agent_pb2.AgentCommand(registered=_TERMS))
        return register

    def connects(self) -> agent_pb2.Register:
        """Let it connect, as soon as it wants to, and take its registration."""
        while not self._is_asked_for:
            deadline = self._core.next_deadline()
            assert deadline is not None, "it does not mean to connect"
            self.pass_time(deadline - self._now)
        self.is_connected, self._is_asked_for = True, False
        self._tell(events.StreamOpened(self._session))
        register = self.take("register")
        assert isinstance(register, agent_pb2.Register)
        return register

    # Its master

    def orders(self, *commands: agent_pb2.AgentCommand, epoch: int | None = None) -> None:
        """Write one envelope to it."""
        envelope = agent_pb2.AgentServiceConnectResponse(
            number=1, epoch=self.epoch if epoch is None else epoch, commands=commands
        )
        envelope = agent_pb2.AgentServiceConnectResponse.FromString(envelope.SerializeToString())
        orders = _orders(envelope)
        self._tell(events.OrdersReceived(self._session, envelope.epoch, orders))
        for order in orders:
            if isinstance(order, StreamRefused):
                self.is_connected = False
                self._tell(events.StreamClosed(self._session, "refused", 0.0, order))

    def launch(self, *specs: tasks_pb2.TaskSpec, is_task_group: bool = False) -> None:
        """Have it launch tasks."""
        launch = agent_pb2.Launch(
            framework_id=FRAMEWORK, framework_name="f", role="f", tasks=specs, is_task_group=is_task_group
        )
        self.orders(agent_pb2.AgentCommand(launch=launch))

    def kill(self, task_id: str, grace_ms: int = 3_000) -> None:
        """Have it kill a task."""
        policy = tasks_pb2.KillPolicy(grace_ms=grace_ms)
        order = agent_pb2.KillTask(framework_id=FRAMEWORK, task_id=task_id, kill_policy=policy)
        self.orders(agent_pb2.AgentCommand(kill=order))

    def acknowledge(self, task_id: str, number: int) -> None:
        """Say that its updates of a task up to `number` were received."""
        receipt = agent_pb2.AcknowledgeUpdate(framework_id=FRAMEWORK, task_id=task_id, number=number)
        self.orders(agent_pb2.AgentCommand(acknowledge=receipt))

    def shut_down(self) -> None:
        """Say that the framework was removed."""
        order = agent_pb2.ShutdownFramework(framework_id=FRAMEWORK)
        self.orders(agent_pb2.AgentCommand(shutdown_framework=order))

    # Its runtime

    def runs(self, task_id: str) -> None:
        """Let a task that was to be started run."""
        self._runs[task_id] = TaskStarted(_key(task_id), int(self._now * 1000), pid=4242)
        self._tell(self._runs[task_id])

    def exits(self, task_id: str, code: int = 0, is_noticed: bool = True) -> None:
        """Let a task end; unnoticed if the agent is dead meanwhile."""
        self._exits[task_id] = TaskEnded(_key(task_id), code, int(self._now * 1000))
        if is_noticed:
            self._tell(self._exits[task_id])

    def forgets(self, task_id: str) -> None:
        """Let the runtime lose all trace of a task."""
        self._runs.pop(task_id, None)

    def checks(self, task_id: str, is_healthy: bool) -> None:
        """Let a task's health check end."""
        self._tell(events.TaskChecked(_key(task_id), 0, is_healthy, "checked"))

    # Time, and what came of it

    def pass_time(self, seconds: float) -> None:
        """Let time pass, while the master is heard all the while."""
        end = self._now + seconds
        while True:
            due = self._core.next_deadline()
            if due is None or due > end:
                break
            self._now = max(self._now, due)
            if self.is_connected:
                self._tell(events.OrdersReceived(self._session, self.epoch))
            self._tell(events.Tick())
        self._now = end

    def take(self, kind: str) -> Any:
        """Take its next report, which must be of this kind."""
        assert self.reports, f"no {kind} was reported"
        report = self.reports.pop(0)
        assert report.WhichOneof("report") == kind, report
        return getattr(report, kind)

    def said(self) -> list[tuple[str, str, int]]:
        """Take all that it has said of tasks: task, state and number of each update, in order."""
        reports, self.reports = self.reports, []
        return [
            (report.update.task_id, tasks_pb2.TaskState.Name(report.update.state), report.update.number)
            for report in reports
            if report.WhichOneof("report") == "update"
        ]

    def _tell(self, event: events.Event) -> None:
        for command in self._core.handle(event, self._now):
            self._carry_out(command)

    def _carry_out(self, command: do.Command) -> None:
        match command:
            case do.Checkpoint():
                self._disk.apply(command.changes)
            case do.OpenStream():
                self._session, self._is_asked_for = command.session, True
            case do.CloseStream():
                self.is_connected = False
                self._tell(events.StreamClosed(command.session, command.why, 0.0))
            case do.SendReports():
                self._written(command)
            case do.RecoverTasks():
                self._tell(events.TasksFound(command.kind, self._found(command.keys)))
            case do.StopAgent():
                self.has_stopped = True
            case do.PrepareTask():
                self._tell(events.TaskPrepared(command.key))
            case do.LaunchTask():
                self.started.append(command.key[1])
            case do.SignalTask():
                self.signals.append((command.key[1], command.signal))
            case _:
                pass

    def _found(self, keys: frozenset[TaskKey]) -> tuple[events.FoundTask, ...]:
        asked = [key[1] for key in keys]
        runs = {task_id: started for task_id, started in self._runs.items() if task_id in asked}
        return tuple(events.FoundTask(started, self._exits.get(task_id)) for task_id, started in runs.items())

    def _written(self, command: do.SendReports) -> None:
        envelope = agent_pb2.AgentServiceConnectRequest(number=1)
        for report in command.reports:
            add_report(envelope, report)
        if self.is_connected and command.session == self._session:
            self.reports.extend(agent_pb2.AgentServiceConnectRequest.FromString(envelope.SerializeToString()).reports)


_TERMS = agent_pb2.Registered(cluster_id="c", silence_timeout_ms=75_000, heartbeat_ms=15_000)
