"""What the core wants done, in order."""

from __future__ import annotations

from dataclasses import dataclass

from runrig.agents import Report
from runrig.offers import RefusalCode
from runrig.tasks import RuntimeKind, TaskSpec
from runrig_agent.core.records import Change
from runrig_agent.core.task import TaskKey


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Make the changes durable, in order and at once.

    With `is_barrier` no later command may be carried out before they are; without, they may be lost in a
    crash at no other cost than work done again.
    """

    changes: tuple[Change, ...]
    is_barrier: bool = True


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Connect to a master; answered with StreamOpened or StreamClosed."""

    session: int
    master: str


@dataclass(frozen=True, slots=True)
class CloseStream:
    """Close the stream of this session; answered with StreamClosed."""

    session: int
    why: str


@dataclass(frozen=True, slots=True)
class SetHeartbeat:
    """Send an empty envelope whenever nothing else was sent for this long."""

    session: int
    interval_s: float


@dataclass(frozen=True, slots=True)
class SendReports:
    """Send reports on the stream of this session, if it is still open; if not, they will be sent again."""

    session: int
    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True)
class RecoverTasks:
    """Ask a runtime what became of these tasks; answered with TasksFound or RuntimeChanged.

    Whatever else of this agent it finds is stopped and removed. No task of it is launched meanwhile.
    """

    kind: RuntimeKind
    keys: frozenset[TaskKey]


@dataclass(frozen=True, slots=True)
class PrepareTask:
    """Create its sandbox, fetch its files, pull its image; answered with TaskPrepared or TaskNotStarted."""

    key: TaskKey
    spec: TaskSpec


@dataclass(frozen=True, slots=True)
class CancelPreparation:
    """Give up a preparation; no answer is needed."""

    key: TaskKey


@dataclass(frozen=True, slots=True)
class LaunchTask:
    """Start it, in its sandbox; answered with TaskStarted or TaskNotStarted."""

    key: TaskKey
    spec: TaskSpec


@dataclass(frozen=True, slots=True)
class SignalTask:
    """Send a signal to all of a task."""

    key: TaskKey
    kind: RuntimeKind
    signal: int


@dataclass(frozen=True, slots=True)
class ForgetTask:
    """Its end is durable: what its runtime and its sandbox keep of it may go when its time has come."""

    key: TaskKey
    kind: RuntimeKind
    ended_at_unix_ms: int


@dataclass(frozen=True, slots=True)
class DeleteVolume:
    """Delete the data of a persistent volume, which may not be there; answered with VolumeDeleted."""

    volume_id: str


@dataclass(frozen=True, slots=True)
class AdoptTask:
    """A task of an earlier process of this agent runs on: its sandbox is in use."""

    key: TaskKey
    spec: TaskSpec


@dataclass(frozen=True, slots=True)
class StartHealthChecks:
    """Try the health checks of a task; each try is answered with TaskChecked."""

    key: TaskKey
    spec: TaskSpec
    address: str


@dataclass(frozen=True, slots=True)
class StopHealthChecks:
    """Stop them; a TaskChecked on its way does no harm."""

    key: TaskKey


@dataclass(frozen=True, slots=True)
class StopAgent:
    """End the process: no master will have this agent; `why` says what to do. Tasks that are left run on."""

    code: RefusalCode
    why: str


Command = (
    Checkpoint
    | OpenStream
    | CloseStream
    | SetHeartbeat
    | SendReports
    | RecoverTasks
    | PrepareTask
    | CancelPreparation
    | LaunchTask
    | SignalTask
    | ForgetTask
    | DeleteVolume
    | AdoptTask
    | StartHealthChecks
    | StopHealthChecks
    | StopAgent
)
