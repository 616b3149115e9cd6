"""What the core knows: agents, frameworks, tasks, offers, and what each holds.

Plain mutable state, changed only within `Master.handle`. The invariant of every agent: total = used + offered + free.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum

from runrig.agents import AgentInfo
from runrig.demand import Demand
from runrig.ids import AgentId, FrameworkId, OfferId, Role, TaskId
from runrig.offers import FrameworkInfo
from runrig.reservations import Unavailability
from runrig.resources import NOTHING, Resources
from runrig.tasks import Reason, RuntimeKind, Source, StatusUpdate, TaskState
from runrig_master.core.commands import Drain
from runrig_master.core.events import StreamId
from runrig_master.core.resources import Holding

TaskKey = tuple[FrameworkId, TaskId]


class Presence(Enum):
    """Whether an agent can be spoken to."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    UNREACHABLE = "unreachable"
    RECOVERING = "recovering"
    GONE = "gone"


class Agent:
    """An agent: who it is, what it has, what is taken of it."""

    __slots__ = (
        "drain",
        "free",
        "info",
        "is_deactivated",
        "is_drained",
        "is_overcommitted",
        "is_pooled",
        "offers",
        "presence",
        "session",
        "since",
        "stream",
        "tasks",
        "unavailability",
        "unreachable_at",
        "used",
    )

    def __init__(self, info: AgentInfo, presence: Presence, since: float) -> None:
        self.info = info
        self.presence = presence
        self.since = since
        self.session = 0
        self.stream: StreamId | None = None
        self.is_deactivated = False
        self.drain: Drain | None = None
        """Set from when it is drained until it is activated again."""
        self.is_drained = False
        """It was found empty, as its drain wants it."""
        self.unavailability: Unavailability | None = None
        """When it is planned to be away."""
        self.is_pooled = False
        """Its resources count in the cluster's total, its tasks in their frameworks' holdings."""
        self.is_overcommitted = False
        """Its tasks use more than it has: it has shrunk, or two of them name one port."""
        self.unreachable_at: float | None = None
        self.offers: dict[OfferId, OutstandingOffer] = {}
        self.tasks: dict[TaskKey, Task] = {}
        self.used = NOTHING
        self.free = info.resources

    @property
    def id(self) -> AgentId:
        """Return its id."""
        return self.info.agent_id

    @property
    def is_offerable(self) -> bool:
        """Say whether its free resources may be offered (rules 10, 17, 19), and are of use: something can run there."""
        is_active = self.presence is Presence.CONNECTED and not self.is_deactivated and self.drain is None
        return is_active and bool(self.info.runtimes)

    @property
    def offered(self) -> Resources:
        """Return what stands in its offers."""
        total = NOTHING
        for offer in self.offers.values():
            total = total + offer.resources
        return total


class OutstandingOffer:
    """An offer that has not ended."""

    __slots__ = ("agent", "expires_at", "framework", "id", "made_at", "resources", "role")

    def __init__(
        self,
        offer_id: OfferId,
        agent: Agent,
        framework: Framework,
        role: Role,
        resources: Resources,
        made_at: float,
        expires_at: float,
    ) -> None:
        self.id = offer_id
        self.agent = agent
        self.framework = framework
        self.role = role
        self.resources = resources
        self.made_at = made_at
        self.expires_at = expires_at


class Framework:
    """A framework: who it is, where its scheduler is, what it holds."""

    __slots__ = (
        "demands",
        "ended",
        "failover_deadline",
        "holdings",
        "info",
        "is_completed",
        "offers",
        "session",
        "stream",
        "suppressed",
        "tasks",
        "uses_demand",
    )

    def __init__(self, info: FrameworkInfo, session: int) -> None:
        self.info = info
        self.session = session
        self.stream: StreamId | None = None
        self.suppressed: set[Role] = set()
        self.uses_demand = False
        self.demands: dict[Role, tuple[Demand, ...]] = {}
        self.failover_deadline: float | None = None
        self.is_completed = False
        self.offers: dict[OfferId, OutstandingOffer] = {}
        self.tasks: dict[TaskId, Task] = {}
        self.ended: OrderedDict[TaskId, Task] = OrderedDict()
        self.holdings: dict[Role, Holding] = {}

    @property
    def id(self) -> FrameworkId:
        """Return its id."""
        return self.info.framework_id

    def takes_offers(self, role: Role) -> bool:
        """Say whether it may be offered anything for `role` (rule 6)."""
        return self.stream is not None and not self.is_completed and role not in self.suppressed


class Task:
    """A task: what it takes, where, and the latest that was said of it."""

    __slots__ = (
        "acknowledged",
        "agent",
        "finished_at_ms",
        "framework",
        "id",
        "kill_grace_ms",
        "kill_reason",
        "labels",
        "latest",
        "launched_at_ms",
        "name",
        "resources",
        "role",
        "started_at_ms",
        "state",
        "status",
        "unacknowledged",
    )

    def __init__(
        self,
        task_id: TaskId,
        name: str,
        framework: Framework,
        agent: Agent,
        role: Role,
        resources: Resources,
        labels: tuple[tuple[str, str], ...],
        status: StatusUpdate,
    ) -> None:
        self.id = task_id
        self.name = name
        self.framework = framework
        self.agent = agent
        self.role = role
        self.resources = resources
        self.labels = labels
        self.state = status.state
        self.status = status
        self.latest = status.number
        """The highest number of an update by the agent; 0: it has not spoken of the task."""
        self.acknowledged = 0
        self.unacknowledged: list[StatusUpdate] = []
        self.kill_reason: Reason | None = None
        self.kill_grace_ms: int | None = None
        self.launched_at_ms = status.at_unix_ms
        self.started_at_ms = 0
        self.finished_at_ms = 0

    @property
    def key(self) -> TaskKey:
        """Return its framework's id and its own."""
        return (self.framework.id, self.id)

    @property
    def is_settled(self) -> bool:
        """Say whether it has ended and the framework has acknowledged all the agent said."""
        return self.state.is_terminal and self.acknowledged >= self.latest

    def learn(self, update: StatusUpdate) -> None:
        """Take `update` as the latest; what it leaves unsaid (container, pid) stays as it was."""
        self.state = update.state
        self.status = update
        if update.state is TaskState.TASK_RUNNING and not self.started_at_ms:
            self.started_at_ms = update.at_unix_ms
        if update.state.is_terminal:
            self.finished_at_ms = update.at_unix_ms


def staged(framework: Framework, agent: Agent, task_id: TaskId, now: float) -> StatusUpdate:
    """Return the first status of a task that was just launched."""
    return StatusUpdate(
        framework.id,
        task_id,
        agent.id,
        0,
        TaskState.TASK_STAGING,
        Reason.NONE,
        Source.MASTER,
        at_unix_ms=int(now * 1000),
        runtime=RuntimeKind.ANY,
    )
