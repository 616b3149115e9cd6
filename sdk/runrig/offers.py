"""What a scheduler and the master say to each other, as plain data; the wire mapping turns it into envelopes.

Calls go to the master, news comes from it. Times are milliseconds, amounts as in `runrig.resources`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from runrig.demand import Demand
from runrig.errors import InvalidInput
from runrig.ids import AgentId, FrameworkId, OfferId, Role, TaskId
from runrig.reservations import PersistentVolume, Reservation, Unavailability
from runrig.resources import Resources
from runrig.tasks import RuntimeKind, StatusUpdate, Terms

DEFAULT_REFUSE_MS = 5_000
MAX_REFUSE_MS = 365 * 86_400_000
DEFAULT_FAILOVER_TIMEOUT_MS = 7 * 86_400_000
MAX_REASON_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Offer:
    """Resources of one agent, for one role, held for one framework until it is answered or ends (rule 1).

    It is of one `reservation`, with the persistent volumes there that no task uses, or of what is not reserved. Offers
    with one `gang_id` are a set, to be accepted by one atomic Accept. Of an optimistic offer the resources may stand in
    offers of others as well: the first Accept has them. With `lent_for_ms` they are kept for a gang that cannot start
    yet: only tasks that promise to end within that time belong there.
    """

    offer_id: OfferId
    agent_id: AgentId
    hostname: str
    role: Role
    resources: Resources
    attributes: tuple[tuple[str, str], ...] = ()
    gang_id: str = ""
    agent_address: str = ""
    runtimes: tuple[RuntimeKind, ...] = ()
    reservation: Reservation | None = None
    volumes: tuple[PersistentVolume, ...] = ()
    unavailability: Unavailability | None = None
    is_optimistic: bool = False
    lent_for_ms: int = 0

    def attribute(self, name: str) -> str | None:
        """Return the first value of an attribute; `hostname` is one, too."""
        if name == "hostname":
            return self.hostname
        return next((value for key, value in self.attributes if key == name), None)


@dataclass(frozen=True, slots=True)
class Filter:
    """Do not offer the same again for `refuse_ms`, because of `reason` in the framework's words (rule 5)."""

    refuse_ms: int = DEFAULT_REFUSE_MS
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FrameworkInfo:
    """Who subscribes: `framework_id` empty lets the master choose one."""

    name: str
    roles: tuple[Role, ...]
    framework_id: FrameworkId = FrameworkId("")
    failover_timeout_ms: int = DEFAULT_FAILOVER_TIMEOUT_MS
    principal: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    web_url: str = ""
    takes_gpus: bool = False
    """Offers without demand have gpus, too: they are scarce, and kept for those who ask."""


class LaunchableTask(Protocol):
    """As much of a task as the master reads; the rest is forwarded unread. `TaskSpec` is one."""

    @property
    def task_id(self) -> TaskId: ...
    @property
    def name(self) -> str: ...
    @property
    def resources(self) -> Resources: ...
    @property
    def labels(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def terms(self) -> Terms: ...
    @property
    def volume_ids(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class LaunchTasks:
    """Start each of `tasks`; with `is_group` all of them together, with a shared fate, or none."""

    tasks: tuple[LaunchableTask, ...]
    is_group: bool = False


@dataclass(frozen=True, slots=True)
class Reserve:
    """Keep resources of the group's offers for a role: theirs or one below it.

    They are taken out of the reservation `source_id`, which keeps the rest, or with none out of what is not reserved.
    Later operations of the group find the new reservation. What becomes of it is told in OperationsDone, unless
    `operation_id` is empty.
    """

    reservation: Reservation
    source_id: str = ""
    operation_id: str = ""


@dataclass(frozen=True, slots=True)
class Unreserve:
    """Give a reservation of the group's offers back, whole; it must have no volume and no task."""

    reservation_id: str
    operation_id: str = ""


@dataclass(frozen=True, slots=True)
class CreateVolume:
    """Make a persistent volume on the disk of a reservation of the group's offers."""

    volume: PersistentVolume
    operation_id: str = ""


@dataclass(frozen=True, slots=True)
class DestroyVolume:
    """Delete a persistent volume of the group's offers with its data."""

    volume_id: str
    operation_id: str = ""


Operation = LaunchTasks | Reserve | Unreserve | CreateVolume | DestroyVolume


@dataclass(frozen=True, slots=True)
class LaunchGroup:
    """Operations, in order, on offers of one agent (rule 2)."""

    agent_id: AgentId
    offer_ids: tuple[OfferId, ...]
    operations: tuple[Operation, ...]

    @property
    def launches(self) -> tuple[LaunchTasks, ...]:
        """Return the operations that launch something."""
        return tuple(operation for operation in self.operations if isinstance(operation, LaunchTasks))

    @property
    def tasks(self) -> tuple[LaunchableTask, ...]:
        """Return all that it launches."""
        return tuple(task for operation in self.launches for task in operation.tasks)


@dataclass(frozen=True, slots=True)
class Subscribe:
    """The first call of a stream; `session` grows with each subscription of this framework id (rule 15)."""

    framework: FrameworkInfo
    session: int
    suppressed_roles: tuple[Role, ...] = ()
    uses_demand: bool = False


@dataclass(frozen=True, slots=True)
class Accept:
    """Launch on offers; what is left of them is declined with `filter`. With `atomic` all groups or none (rule 3)."""

    groups: tuple[LaunchGroup, ...]
    atomic: bool = False
    filter: Filter = Filter()


@dataclass(frozen=True, slots=True)
class Decline:
    """Give offers back."""

    offer_ids: tuple[OfferId, ...]
    filter: Filter = Filter()


@dataclass(frozen=True, slots=True)
class Revive:
    """Clear the filters of the given roles, or all, and let offers flow again."""

    roles: tuple[Role, ...] = ()


@dataclass(frozen=True, slots=True)
class Suppress:
    """Stop new offers for the given roles, or all (rule 6)."""

    roles: tuple[Role, ...] = ()


@dataclass(frozen=True, slots=True)
class Kill:
    """End a task; `grace_ms` None leaves the grace to the task's own policy (rule 13)."""

    task_id: TaskId
    grace_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The receipt of a task's update `number` and of all before it."""

    task_id: TaskId
    agent_id: AgentId
    number: int


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Receipts, sent only after the framework's own state is durable."""

    acknowledgements: tuple[Acknowledgement, ...]


@dataclass(frozen=True, slots=True)
class TaskReference:
    """A task, and where it was last known to be."""

    task_id: TaskId
    agent_id: AgentId = AgentId("")


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Ask what the master knows of `tasks`; empty: of all that is not finished and acknowledged (rule 14)."""

    tasks: tuple[TaskReference, ...] = ()


@dataclass(frozen=True, slots=True)
class UpdateDemand:
    """Replace what the framework wants next in `role`."""

    role: Role
    demands: tuple[Demand, ...]


@dataclass(frozen=True, slots=True)
class UpdateFramework:
    """Change what may change of the framework."""

    framework: FrameworkInfo


@dataclass(frozen=True, slots=True)
class Teardown:
    """End the framework: its tasks are killed and its id is never admitted again."""


@dataclass(frozen=True, slots=True)
class AnswerInverseOffer:
    """Say what the framework means to do about an inverse offer, for people who ask; its deadline stands."""

    inverse_offer_id: str
    is_accepted: bool
    reason: str = ""


Call = (
    Subscribe
    | Accept
    | Decline
    | Revive
    | Suppress
    | Kill
    | Acknowledge
    | Reconcile
    | UpdateDemand
    | UpdateFramework
    | Teardown
    | AnswerInverseOffer
)


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The subscription stands."""

    framework_id: FrameworkId
    cluster_id: str
    silence_timeout_ms: int
    heartbeat_ms: int
    offer_timeout_ms: int


@dataclass(frozen=True, slots=True)
class OffersMade:
    """New offers."""

    offers: tuple[Offer, ...]


class RescindReason(IntEnum):
    """Why an offer was taken back."""

    EXPIRED = 1
    AGENT_LEFT = 2
    AGENT_CHANGED = 3
    AGENT_DEACTIVATED = 4
    FRAMEWORK_CHANGED = 5
    QUOTA_CHANGED = 6
    DEMANDED = 7
    CONFLICT = 8
    RESERVATION_CHANGED = 9
    GANG_BROKEN = 10


@dataclass(frozen=True, slots=True)
class OffersRescinded:
    """These offers are gone."""

    offer_ids: tuple[OfferId, ...]
    reason: RescindReason


@dataclass(frozen=True, slots=True)
class TasksUpdated:
    """News of tasks."""

    updates: tuple[StatusUpdate, ...]


@dataclass(frozen=True, slots=True)
class TasksRecovering:
    """The agents of these tasks are not back yet after a failover: no verdict (rule 14)."""

    tasks: tuple[TaskReference, ...]


class RefusalCode(IntEnum):
    """Why a stream ends."""

    SUPERSEDED = 1
    REMOVED = 2
    INVALID = 3
    NOT_LEADER = 4
    TOO_SLOW = 5
    OUT_OF_ORDER = 6
    PRINCIPAL_CHANGED = 7
    GONE = 8
    STALE_EPOCH = 9


FINAL_REFUSALS = frozenset(
    {
        RefusalCode.SUPERSEDED,
        RefusalCode.REMOVED,
        RefusalCode.INVALID,
        RefusalCode.PRINCIPAL_CHANGED,
        RefusalCode.GONE,
    }
)
"""After these a client stops; after any other it connects again."""


@dataclass(frozen=True, slots=True)
class StreamRefused:
    """The stream ends; `leader` is set when another master leads."""

    code: RefusalCode
    message: str
    leader: str = ""


@dataclass(frozen=True, slots=True)
class CallRefused:
    """One call was refused, and says which field has which value and what is allowed; the stream goes on."""

    call: str
    message: str


@dataclass(frozen=True, slots=True)
class OperationResult:
    """What became of one operation; `message` says why it was refused."""

    operation_id: str
    agent_id: AgentId
    is_done: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class OperationsDone:
    """What became of operations other than launches; what is done is durable."""

    results: tuple[OperationResult, ...]


class InverseOfferReason(IntEnum):
    """Why resources are asked back."""

    DRAIN = 1
    MAINTENANCE = 2
    PREEMPTION = 3


@dataclass(frozen=True, slots=True)
class InverseOffer:
    """The master asks for resources back.

    The framework ends these tasks in its own way until the deadline, or others on the same agent that free as much;
    after it they are killed. `deadline_unix_ms` 0: the master kills nothing.
    """

    inverse_offer_id: str
    reason: InverseOfferReason
    agent_id: AgentId
    hostname: str
    task_ids: tuple[TaskId, ...]
    resources: Resources
    deadline_unix_ms: int = 0
    unavailability: Unavailability | None = None


@dataclass(frozen=True, slots=True)
class InverseOffersMade:
    """Resources are asked back."""

    inverse_offers: tuple[InverseOffer, ...]


@dataclass(frozen=True, slots=True)
class InverseOffersEnded:
    """These are done with: met, called off, or past their deadline."""

    inverse_offer_ids: tuple[str, ...]


News = (
    Subscribed
    | OffersMade
    | OffersRescinded
    | TasksUpdated
    | TasksRecovering
    | StreamRefused
    | CallRefused
    | OperationsDone
    | InverseOffersMade
    | InverseOffersEnded
)


def checked_filter(field: str, filter_: Filter) -> Filter:
    """Return `filter_` if it is within its bounds; raise InvalidInput naming `field`."""
    if not 0 <= filter_.refuse_ms <= MAX_REFUSE_MS:
        raise InvalidInput(f"{field}.refuse_ms", filter_.refuse_ms, f"0 to {MAX_REFUSE_MS}")
    if len(filter_.reason) > MAX_REASON_LENGTH:
        raise InvalidInput(f"{field}.reason", filter_.reason, f"at most {MAX_REASON_LENGTH} characters")
    return filter_
