"""What the edges must do, in the order given. A `Persist` is a barrier.

Nothing after it is done before it is durable.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from runrig.agents import AgentInfo, Order
from runrig.errors import RunrigError
from runrig.ids import AgentId, FrameworkId, Role
from runrig.offers import FrameworkInfo, News, StreamRefused
from runrig.reservations import PersistentVolume, Reservation, Unavailability
from runrig_master.core.events import QuestionId, StreamId
from runrig_master.core.quotas import Quota

DEFAULT_WEIGHT_MILLIS = 1000


@dataclass(frozen=True, slots=True)
class SendToAgent:
    """Send an order over an agent's stream."""

    stream: StreamId
    order: Order


@dataclass(frozen=True, slots=True)
class SendToScheduler:
    """Send news over a scheduler's stream."""

    stream: StreamId
    news: News


@dataclass(frozen=True, slots=True)
class CloseStream:
    """End a stream, telling why first."""

    stream: StreamId
    refusal: StreamRefused


@dataclass(frozen=True, slots=True)
class Drain:
    """How an agent is emptied: its tasks have until the deadline, then they are killed.

    `grace_ms` is of those kills; None: each task's own. With `then_gone` the agent is marked gone once it is empty.
    """

    deadline_unix_ms: int
    grace_ms: int | None = None
    then_gone: bool = False

    @property
    def deadline(self) -> float:
        """Return the deadline in seconds."""
        return self.deadline_unix_ms / 1000


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """What the store keeps of an agent."""

    agent: AgentInfo
    is_unreachable: bool = False
    is_gone: bool = False
    is_deactivated: bool = False
    since: float = 0.0
    drain: Drain | None = None
    unavailability: Unavailability | None = None


@dataclass(frozen=True, slots=True)
class FrameworkRecord:
    """What the store keeps of a framework; `failover_deadline` None: it was connected."""

    framework: FrameworkInfo
    session: int
    failover_deadline: float | None = None
    is_completed: bool = False


@dataclass(frozen=True, slots=True)
class RoleRecord:
    """What the store keeps of a role."""

    role: Role
    weight_millis: int = DEFAULT_WEIGHT_MILLIS
    limit: Quota | None = None
    guarantee: Quota | None = None
    is_optimistic: bool = False


@dataclass(frozen=True, slots=True)
class ReservationRecord:
    """What the store keeps of a reservation that is not static; it was taken out of `source_id`, empty: out of none."""

    agent_id: AgentId
    reservation: Reservation
    source_id: str = ""


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """What the store keeps of a persistent volume; with `is_doomed` its agent is to delete the data."""

    agent_id: AgentId
    volume: PersistentVolume
    is_doomed: bool = False


Record = AgentRecord | FrameworkRecord | RoleRecord | ReservationRecord | VolumeRecord


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove a record from the store: of a framework, a role, an agent, or a reservation or volume of that agent."""

    agent_id: AgentId | None = None
    reservation_id: str | None = None
    volume_id: str | None = None
    framework_id: FrameworkId | None = None
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class Persist:
    """Make records durable before anything that follows."""

    records: tuple[Record | Forget, ...]


@dataclass(frozen=True, slots=True)
class AnswerOperator:
    """Answer an operator's call; an `error` is raised to the caller."""

    question: QuestionId
    error: RunrigError | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something that an operator reading the log should know."""

    text: str
    fields: dict[str, object] = field(default_factory=dict)
    is_alarm: bool = False


Command = SendToAgent | SendToScheduler | CloseStream | Persist | AnswerOperator | Note
