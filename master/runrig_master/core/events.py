"""What happened, as the edges tell it to the core. Times and fresh ids come in with the events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from runrig.agents import Report
from runrig.ids import AgentId, FrameworkId, Role, TaskId
from runrig.offers import Call
from runrig.reservations import PersistentVolume, Reservation, Unavailability
from runrig_master.core.quotas import RoleQuota

StreamId = NewType("StreamId", int)
"""One connection of an agent or a scheduler; never used twice by a process."""

QuestionId = NewType("QuestionId", int)
"""One call of an operator that waits for its answer."""


@dataclass(frozen=True, slots=True)
class AgentReported:
    """A report came over an agent's stream."""

    stream: StreamId
    report: Report


@dataclass(frozen=True, slots=True)
class AgentStreamClosed:
    """An agent's stream ended; it was last heard at `last_heard` (seconds)."""

    stream: StreamId
    last_heard: float


@dataclass(frozen=True, slots=True)
class SchedulerCalled:
    """A call came over a scheduler's stream; `fresh_id` names the framework if it has no id yet."""

    stream: StreamId
    call: Call
    fresh_id: FrameworkId = FrameworkId("")


@dataclass(frozen=True, slots=True)
class SchedulerStreamClosed:
    """A scheduler's stream ended."""

    stream: StreamId


@dataclass(frozen=True, slots=True)
class KillTaskAsked:
    """An operator wants a task to end."""

    question: QuestionId
    framework_id: FrameworkId
    task_id: TaskId
    grace_ms: int | None = None


@dataclass(frozen=True, slots=True)
class TeardownAsked:
    """An operator removes a framework."""

    question: QuestionId
    framework_id: FrameworkId


@dataclass(frozen=True, slots=True)
class DeactivationAsked:
    """An operator stops the offers of an agent, or with `is_deactivated` False resumes them: that ends a drain, too."""

    question: QuestionId
    agent_id: AgentId
    is_deactivated: bool


@dataclass(frozen=True, slots=True)
class GoneAsked:
    """An operator asserts that an agent will never come back."""

    question: QuestionId
    agent_id: AgentId


@dataclass(frozen=True, slots=True)
class WeightAsked:
    """An operator sets the weight of a role."""

    question: QuestionId
    role: Role
    weight_millis: int


@dataclass(frozen=True, slots=True)
class ReserveAsked:
    """An operator keeps resources for a role: out of the reservation `source_id`, or of what is not reserved."""

    question: QuestionId
    agent_id: AgentId
    reservation: Reservation
    source_id: str = ""


@dataclass(frozen=True, slots=True)
class UnreserveAsked:
    """An operator gives a reservation back, whole."""

    question: QuestionId
    agent_id: AgentId
    reservation_id: str


@dataclass(frozen=True, slots=True)
class CreateVolumeAsked:
    """An operator makes a persistent volume on the disk of a reservation."""

    question: QuestionId
    agent_id: AgentId
    volume: PersistentVolume


@dataclass(frozen=True, slots=True)
class DestroyVolumeAsked:
    """An operator deletes a persistent volume with its data."""

    question: QuestionId
    agent_id: AgentId
    volume_id: str


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """An operator empties an agent: its tasks have `notice_ms` to leave, then they are killed with `grace_ms`.

    None is the master's default of a notice, and each task's own grace. With `then_gone` the agent is marked gone once
    it is empty.
    """

    question: QuestionId
    agent_id: AgentId
    notice_ms: int | None = None
    grace_ms: int | None = None
    then_gone: bool = False


@dataclass(frozen=True, slots=True)
class UnavailabilityAsked:
    """An operator says when agents will be away, all at the same time; None: they will not be, after all."""

    question: QuestionId
    agent_ids: tuple[AgentId, ...]
    unavailability: Unavailability | None


@dataclass(frozen=True, slots=True)
class QuotasAsked:
    """An operator sets the limits and guarantees of roles, all or nothing."""

    question: QuestionId
    quotas: tuple[RoleQuota, ...]
    is_forced: bool = False


@dataclass(frozen=True, slots=True)
class RoleOffersAsked:
    """An operator says whether the offers of a role are optimistic."""

    question: QuestionId
    role: Role
    is_optimistic: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """A loop turn ends: what is due happens, and what is free is offered."""


ReservationEvent = ReserveAsked | UnreserveAsked | CreateVolumeAsked | DestroyVolumeAsked
MaintenanceEvent = DeactivationAsked | DrainAsked | UnavailabilityAsked | GoneAsked
RoleEvent = WeightAsked | QuotasAsked | RoleOffersAsked
OperatorEvent = KillTaskAsked | TeardownAsked | RoleEvent | ReservationEvent | MaintenanceEvent
Event = AgentReported | AgentStreamClosed | SchedulerCalled | SchedulerStreamClosed | OperatorEvent | Tick
