"""What the core is told: past facts. Time comes in with `handle`, chance (`jitter`) with the event."""

from __future__ import annotations

from dataclasses import dataclass

from runrig.agents import AgentInfo, Order
from runrig.offers import StreamRefused
from runrig.tasks import Reason, RuntimeKind
from runrig_agent.core.records import SavedState
from runrig_agent.core.task import TaskEnded, TaskKey, TaskStarted


@dataclass(frozen=True, slots=True)
class AgentStarted:
    """The first event. `info.runtimes` names those configured; each is asked for its tasks first."""

    info: AgentInfo
    saved: SavedState
    is_host_rebooted: bool = False


@dataclass(frozen=True, slots=True)
class AgentInfoChanged:
    """Resources, attributes or addresses changed; the core itself knows which runtimes can be used."""

    info: AgentInfo


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The stream of this session can be written to."""

    session: int


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """The stream of this session ended, or could not be opened. `jitter` is in [0, 1)."""

    session: int
    why: str
    jitter: float
    refusal: StreamRefused | None = None


@dataclass(frozen=True, slots=True)
class OrdersReceived:
    """One envelope from a master; without orders it is a heartbeat."""

    session: int
    epoch: int
    orders: tuple[Order, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskPrepared:
    """Its sandbox exists, its files and its image are there."""

    key: TaskKey


@dataclass(frozen=True, slots=True)
class TaskProgressed:
    """Preparation takes time: FETCHING or PULLING_IMAGE, and how far it is."""

    key: TaskKey
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class TaskNotStarted:
    """Preparation or launch failed; the message says what to do."""

    key: TaskKey
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class TaskChecked:
    """A health check number `check` of a task was tried."""

    key: TaskKey
    check: int
    is_healthy: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class VolumeDeleted:
    """The data of a persistent volume is gone (`problem` None), or what could not be deleted and why."""

    volume_id: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class RuntimeChanged:
    """A runtime can be used (`problem` None), or not and why and what to do."""

    kind: RuntimeKind
    problem: str | None


@dataclass(frozen=True, slots=True)
class DiskChanged:
    """The agent's own disk has room for tasks (`problem` None), or is full and what to do."""

    problem: str | None


@dataclass(frozen=True, slots=True)
class FoundTask:
    """A task that a runtime had started, and how it ended if it did."""

    started: TaskStarted
    ended: TaskEnded | None = None


@dataclass(frozen=True, slots=True)
class TasksFound:
    """The answer to RecoverTasks: of the keys asked for, those that the runtime ever started."""

    kind: RuntimeKind
    found: tuple[FoundTask, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: told at `next_deadline`, or later."""


Event = (
    AgentStarted
    | AgentInfoChanged
    | StreamOpened
    | StreamClosed
    | OrdersReceived
    | TaskPrepared
    | TaskProgressed
    | TaskStarted
    | TaskNotStarted
    | TaskEnded
    | TaskChecked
    | VolumeDeleted
    | RuntimeChanged
    | DiskChanged
    | TasksFound
    | Tick
)
