"""An agent's core with a disk, and short words for what tests tell it and look for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from runrig.agents import (
    AcknowledgeUpdate,
    AgentInfo,
    KillTask,
    Launch,
    Order,
    Registered,
    ShutdownFramework,
)
from runrig.ids import AgentId, FrameworkId, Role, TaskId
from runrig.resources import Resources
from runrig.tasks import Command as Program
from runrig.tasks import Container, Fetch, HealthCheck, Port, Reason, RuntimeKind, StatusUpdate, TaskSpec
from runrig_agent.core import commands as do
from runrig_agent.core import events
from runrig_agent.core.agent import AgentCore
from runrig_agent.core.memory_checkpoint import MemoryCheckpoint
from runrig_agent.core.policy import Policy
from runrig_agent.core.task import TaskEnded, TaskKey, TaskStarted

C = TypeVar("C")

START = 1_000_000.0
EPOCH = 7
FRAMEWORK = FrameworkId("f")
INFO = AgentInfo(
    AgentId("a1"),
    "host-1",
    Resources.parse("cpus:4;mem:4G;ports:[31000-31009]"),
    runtimes=(RuntimeKind.DOCKER, RuntimeKind.PROCESS),
)
POLICY = Policy(masters=("m1:5055", "m2:5055"), allowed_volumes=("/data",))


def process(
    task_id: str = "t",
    cpu_millis: int = 100,
    fetch: tuple[Fetch, ...] = (),
    kill_grace_ms: int | None = None,
    max_run_ms: int = 0,
    checks: tuple[HealthCheck, ...] = (),
    ports: tuple[int, ...] = (),
) -> TaskSpec:
    """Describe a task that is a plain process."""
    return TaskSpec(
        TaskId(task_id),
        Resources(cpu_millis=cpu_millis, mem_mib=32, ports=tuple((port, port) for port in ports)),
        command=Program(shell="true"),
        fetch=fetch,
        kill_grace_ms=kill_grace_ms,
        max_run_ms=max_run_ms,
        health_checks=checks,
        ports=tuple(Port(port) for port in ports),
    )


def container(task_id: str = "t") -> TaskSpec:
    """Describe a task in a container."""
    return TaskSpec(TaskId(task_id), Resources(cpu_millis=100, mem_mib=32), container=Container("busybox"))


def key(task_id: str = "t") -> TaskKey:
    """Name a task of the framework that tests use."""
    return (FRAMEWORK, TaskId(task_id))


def launch(*specs: TaskSpec, is_group: bool = False) -> Launch:
    """Order to launch tasks."""
    return Launch(FRAMEWORK, "tests", Role("eng"), specs, is_group)


def kill(task_id: str = "t", grace_ms: int | None = None) -> KillTask:
    """Order to kill a task."""
    return KillTask(FRAMEWORK, TaskId(task_id), grace_ms)


def acknowledge(number: int, task_id: str = "t") -> AcknowledgeUpdate:
    """Say that updates up to `number` were received."""
    return AcknowledgeUpdate(FRAMEWORK, TaskId(task_id), number)


SHUTDOWN = ShutdownFramework(FRAMEWORK)


class Agent:
    """A core, its disk and its clock; a restart makes a new core of what the disk holds."""

    def __init__(self, policy: Policy = POLICY, info: AgentInfo = INFO) -> None:
        self.policy = policy
        self.info = info
        self.now = START
        self.disk = MemoryCheckpoint()
        self.core = AgentCore(policy)
        self.session = 0

    def tell(self, *told: events.Event, after: float = 0.0) -> list[do.Command]:
        """Tell events, `after` seconds later than the last; return the commands, changes kept."""
        self.now += after
        commands: list[do.Command] = []
        for event in told:
            for command in self.core.handle(event, self.now):
                if isinstance(command, do.Checkpoint):
                    self.disk.apply(command.changes)
                elif isinstance(command, do.OpenStream):
                    self.session = command.session
                commands.append(command)
        return commands

    def order(self, *orders: Order, epoch: int = EPOCH, after: float = 0.0) -> list[do.Command]:
        """Tell one envelope of the master."""
        return self.tell(events.OrdersReceived(self.session, epoch, orders), after=after)

    def start(self, *found: events.FoundTask, is_host_rebooted: bool = False) -> list[do.Command]:
        """Start with what the disk holds; both runtimes answer, process with what it `found`."""
        commands = self.tell(events.AgentStarted(self.info, self.disk.saved(), is_host_rebooted))
        commands += self.tell(events.TasksFound(RuntimeKind.DOCKER, ()))
        return commands + self.tell(events.TasksFound(RuntimeKind.PROCESS, found))

    def register(self) -> list[do.Command]:
        """Open the stream that was asked for, and let the master confirm."""
        return self.tell(events.StreamOpened(self.session)) + self.order(Registered("c", 75_000, 15_000))

    def restart(self, *found: events.FoundTask, is_host_rebooted: bool = False) -> list[do.Command]:
        """Die by kill -9 and start again; the process runtime finds tasks."""
        self.core = AgentCore(self.policy)
        return self.start(*found, is_host_rebooted=is_host_rebooted)

    def tick(self, after: float) -> list[do.Command]:
        """Let time pass."""
        return self.tell(events.Tick(), after=after)

    def run(self, spec: TaskSpec) -> list[do.Command]:
        """Launch a plain process and let it start."""
        return self.order(launch(spec)) + self.tell(self.started(spec.task_id))

    def started(self, task_id: str = "t") -> TaskStarted:
        """Say that a task has started now."""
        return TaskStarted(key(task_id), int(self.now * 1000), pid=4242)

    def ended(self, exit_code: int | None = 0, task_id: str = "t", **more: object) -> TaskEnded:
        """Say that a task has ended now."""
        return TaskEnded(key(task_id), exit_code, int(self.now * 1000), **more)  # type: ignore[arg-type]


def registered(policy: Policy = POLICY, info: AgentInfo = INFO) -> Agent:
    """Return an agent that is registered with a master."""
    agent = Agent(policy, info)
    agent.start()
    agent.register()
    return agent


def of(kind: type[C], commands: Iterable[do.Command]) -> list[C]:
    """Return the commands of one kind."""
    return [command for command in commands if isinstance(command, kind)]


def reports(commands: Iterable[do.Command]) -> list[object]:
    """Return all that is reported, in order."""
    return [report for command in of(do.SendReports, commands) for report in command.reports]


def updates(commands: Iterable[do.Command]) -> list[StatusUpdate]:
    """Return the status updates that are sent, in order."""
    return [report for report in reports(commands) if isinstance(report, StatusUpdate)]


def said(commands: Iterable[do.Command]) -> list[tuple[str, Reason]]:
    """Return state and reason of the updates that are sent."""
    return [(update.state.name, update.reason) for update in updates(commands)]


def signals(commands: Iterable[do.Command]) -> list[tuple[str, int]]:
    """Return which tasks get which signals."""
    return [(command.key[1], command.signal) for command in of(do.SignalTask, commands)]


def launched(commands: Iterable[do.Command]) -> list[str]:
    """Return which tasks the runtimes are told to start."""
    return [command.key[1] for command in of(do.LaunchTask, commands)]
