"""What an agent and the master say to each other, as plain data; the wire mapping turns it into envelopes.

Reports go to the master, orders come from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from runrig.errors import InvalidInput, shortened
from runrig.ids import AgentId, FrameworkId, Role, TaskId, checked_role
from runrig.offers import LaunchableTask, StreamRefused
from runrig.reservations import MAX_RESERVATIONS, Reservation, checked_reservation
from runrig.resources import Resources, checked_resources
from runrig.tasks import (
    MAX_TEXT,
    NO_TERMS,
    Reason,
    RuntimeKind,
    StatusUpdate,
    Terms,
    checked_labels,
    checked_terms,
)

MAX_MESSAGE = 4_096
"""Characters kept of what an update says to people."""


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """Who an agent is and what it has; it chose `agent_id` at its first start."""

    agent_id: AgentId
    hostname: str
    resources: Resources
    address: str = ""
    http_address: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    runtimes: tuple[RuntimeKind, ...] = (RuntimeKind.PROCESS,)
    version: str = ""
    reservations: tuple[Reservation, ...] = ()
    """Those of its own flags; they are part of `resources`."""


@dataclass(frozen=True, slots=True)
class TaskReport:
    """A task that an agent has, with its latest update, acknowledged or not."""

    framework_id: FrameworkId
    task_id: TaskId
    name: str
    role: Role
    resources: Resources
    labels: tuple[tuple[str, str], ...]
    status: StatusUpdate
    terms: Terms = NO_TERMS
    volume_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Register:
    """The first report of a stream: the whole truth of the agent's tasks.

    `session` grows with each connection of this agent; `epoch` is the highest it has seen.
    """

    agent: AgentInfo
    session: int
    epoch: int
    tasks: tuple[TaskReport, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentChanged:
    """The agent's resources, attributes, address or runtimes changed."""

    agent: AgentInfo


@dataclass(frozen=True, slots=True)
class TaskNotHere:
    """A kill or acknowledgement named a task that this agent does not have."""

    framework_id: FrameworkId
    task_id: TaskId


@dataclass(frozen=True, slots=True)
class VolumeDestroyed:
    """The data of a persistent volume is gone, or never was."""

    volume_id: str


Report = Register | StatusUpdate | AgentChanged | TaskNotHere | VolumeDestroyed


def checked_report(report: Report) -> Report:
    """Return `report`, a long message of an update cut, if the master can keep it and show it to all whom it concerns.

    Raise InvalidInput naming the field.
    """
    match report:
        case StatusUpdate():
            return _checked_update("update", report)
        case Register():
            _check_agent(report.agent)
            return replace(report, tasks=_checked_tasks(report.tasks))
        case AgentChanged():
            _check_agent(report.agent)
        case TaskNotHere() | VolumeDestroyed():
            pass
    return report


def _check_agent(agent: AgentInfo) -> None:
    """Look at what goes into every offer of the agent."""
    for name in ("address", "http_address", "version"):
        _check_text(f"agent.{name}", getattr(agent, name))
    if len(set(agent.runtimes)) < len(agent.runtimes):
        raise InvalidInput("agent.runtimes", agent.runtimes, "each once")
    checked_static("agent.reservations", agent.reservations, agent.resources)


def checked_static(field: str, reservations: tuple[Reservation, ...], resources: Resources) -> None:
    """Raise InvalidInput naming `field` unless an agent with `resources` can hold these, each for itself."""
    if len(reservations) > MAX_RESERVATIONS:
        raise InvalidInput(field, len(reservations), f"at most {MAX_RESERVATIONS}")
    seen: set[str] = set()
    left = resources
    for reservation in reservations:
        checked_reservation(field, reservation)
        if reservation.reservation_id in seen:
            raise InvalidInput(f"{field}.reservation_id", reservation.reservation_id, "each once")
        seen.add(reservation.reservation_id)
        if not left.contains(reservation.resources):
            raise InvalidInput(
                f"{field} {reservation.reservation_id}", str(reservation.resources), f"what is left: {left}"
            )
        left = left - reservation.resources


def _checked_tasks(tasks: tuple[TaskReport, ...]) -> tuple[TaskReport, ...]:
    """Look at each task, and at what all of them use: it is shown as one amount."""
    for task in tasks:
        field = f"register.task {task.task_id}"
        checked_role(f"{field}.role", task.role)
        checked_task_texts(field, task.name, task.labels)
        checked_terms(f"{field}.terms", task.terms)
    used = Resources(
        sum(task.resources.cpu_millis for task in tasks),
        sum(task.resources.mem_mib for task in tasks),
        sum(task.resources.disk_mib for task in tasks),
        sum(task.resources.gpus for task in tasks),
    )
    checked_resources("register.tasks, together", used)
    return tuple(replace(task, status=_checked_update(f"register.task {task.task_id}", task.status)) for task in tasks)


def _checked_update(field: str, update: StatusUpdate) -> StatusUpdate:
    if not update.number and update.state.is_terminal:
        raise InvalidInput(f"{field}.number", 0, f"1 or more, as {update.state.name} must be acknowledged")
    _check_text(f"{field}.container_id", update.container_id)
    _check_text(f"{field}.address", update.address)
    if len(update.message) > MAX_MESSAGE:
        return replace(update, message=shortened(update.message, MAX_MESSAGE))
    return update


def checked_task_texts(field: str, name: str, labels: tuple[tuple[str, str], ...]) -> None:
    """Raise InvalidInput naming `field` unless a task can be shown with this name and these labels."""
    _check_text(f"{field}.name", name)
    checked_labels(f"{field}.labels", labels)


def _check_text(field: str, text: str) -> None:
    if len(text) > MAX_TEXT:
        raise InvalidInput(field, text, f"at most {MAX_TEXT} characters")


@dataclass(frozen=True, slots=True)
class Registered:
    """The registration stands."""

    cluster_id: str
    silence_timeout_ms: int
    heartbeat_ms: int


@dataclass(frozen=True, slots=True)
class Launch:
    """Start tasks; idempotent on (framework, task id) (rule 12)."""

    framework_id: FrameworkId
    framework_name: str
    role: Role
    tasks: tuple[LaunchableTask, ...]
    is_group: bool = False


@dataclass(frozen=True, slots=True)
class KillTask:
    """End a task; before its launch it wins over the launch (rule 13)."""

    framework_id: FrameworkId
    task_id: TaskId
    grace_ms: int | None = None
    reason: Reason = Reason.KILLED_BY_FRAMEWORK


@dataclass(frozen=True, slots=True)
class AcknowledgeUpdate:
    """The framework has received update `number` and all before it."""

    framework_id: FrameworkId
    task_id: TaskId
    number: int


@dataclass(frozen=True, slots=True)
class ShutdownFramework:
    """Kill all its tasks, and forget its updates once they are gone."""

    framework_id: FrameworkId


@dataclass(frozen=True, slots=True)
class DestroyAgentVolume:
    """Delete the data of a persistent volume; repeated at each registration until VolumeDestroyed."""

    volume_id: str


Order = Registered | Launch | KillTask | AcknowledgeUpdate | ShutdownFramework | StreamRefused | DestroyAgentVolume
