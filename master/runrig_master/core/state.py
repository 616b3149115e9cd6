"""What the core knows: agents, frameworks, tasks, offers, and what each holds.

Plain mutable state, changed only within `Master.handle`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum
from functools import reduce

from runrig.agents import AgentInfo
from runrig.ids import AgentId, FrameworkId, OfferId, Role, TaskId
from runrig.offers import FrameworkInfo
from runrig.reservations import PersistentVolume, Unavailability
from runrig.resources import Resources
from runrig.tasks import NO_TERMS, Reason, RuntimeKind, Source, StatusUpdate, TaskState, Terms
from runrig_master.core.clients import Client, Groups, Wanted
from runrig_master.core.commands import Drain
from runrig_master.core.events import StreamId
from runrig_master.core.pools import Pool
from runrig_master.core.reservations import Reserves
from runrig_master.core.resources import tolerant_sum

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
        "attributes",
        "drain",
        "info",
        "is_counted",
        "is_deactivated",
        "is_drained",
        "offers",
        "pools",
        "presence",
        "reserves",
        "session",
        "since",
        "stream",
        "tasks",
        "unavailability",
        "unreachable_at",
    )

    def __init__(self, info: AgentInfo, presence: Presence, since: float) -> None:
        self.info = info
        self.attributes = attributes_of(info)
        """Its attributes, its hostname among them."""
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
        self.is_counted = False
        """Its resources count in the cluster's total, its tasks in their frameworks' holdings."""
        self.unreachable_at: float | None = None
        self.offers: dict[OfferId, OutstandingOffer] = {}
        self.tasks: dict[TaskKey, Task] = {}
        self.reserves = Reserves(info.agent_id)
        """What of it is kept for roles."""
        self.pools: dict[str, Pool] = {}
        """By reservation id: of what is not reserved (empty), and of each reservation."""

    @property
    def id(self) -> AgentId:
        """Return its id."""
        return self.info.agent_id

    @property
    def is_offerable(self) -> bool:
        """Say whether its free resources may be offered (rules 10, 17, 19), and are of use: something can run there."""
        return self.presence is Presence.CONNECTED and self.is_active and bool(self.info.runtimes)

    @property
    def is_active(self) -> bool:
        """Say whether no operator has stopped its offers (rule 17)."""
        return not self.is_deactivated and self.drain is None

    @property
    def used(self) -> Resources:
        """Return what its tasks use; what two of them have by mistake counts once."""
        return _sum(pool.used for pool in self.pools.values())

    @property
    def offered(self) -> Resources:
        """Return what stands in its offers."""
        return _sum(pool.offered for pool in self.pools.values())

    @property
    def free(self) -> Resources:
        """Return what nobody has."""
        return _sum(pool.free for pool in self.pools.values())

    @property
    def is_overcommitted(self) -> bool:
        """Say whether its tasks use more than it has."""
        return any(pool.is_overcommitted for pool in self.pools.values())

    def attribute(self, name: str) -> str | None:
        """Return the first value of an attribute, `hostname` among them."""
        for key, value in self.attributes:
            if key == name:
                return value
        return None


def attributes_of(info: AgentInfo) -> tuple[tuple[str, str], ...]:
    """Return an agent's attributes, its hostname among them."""
    return (("hostname", info.hostname), *info.attributes)


def _sum(parts: Iterable[Resources]) -> Resources:
    return reduce(tolerant_sum, parts)


class OutstandingOffer:
    """An offer that has not ended."""

    __slots__ = (
        "client",
        "expires_at",
        "gang_id",
        "id",
        "is_optimistic",
        "lent_for_ms",
        "made_at",
        "parts",
        "pool",
        "resources",
        "volumes",
    )

    def __init__(
        self,
        offer_id: OfferId,
        pool: Pool,
        client: Client,
        resources: Resources,
        made_at: float,
        expires_at: float,
        parts: tuple[tuple[Wanted, int], ...] = (),
        gang_id: str = "",
        is_optimistic: bool = False,
    ) -> None:
        self.id = offer_id
        self.pool = pool
        self.client = client
        self.resources = resources
        self.parts = parts
        """The demand that it was cut for, with the number of tasks of each."""
        self.gang_id = gang_id
        self.is_optimistic = is_optimistic
        self.made_at = made_at
        self.expires_at = expires_at
        self.lent_for_ms = 0
        """It is of what is kept for a gang, for tasks that promise to end within so long; 0: it is not."""
        self.volumes: tuple[PersistentVolume, ...] = ()
        """Persistent volumes that it holds beside the resources."""

    @property
    def agent(self) -> Agent:
        """Return the agent whose resources it holds."""
        return self.pool.agent

    @property
    def framework(self) -> Framework:
        """Return the framework that has it."""
        return self.client.framework

    @property
    def role(self) -> Role:
        """Return the role that it is for."""
        return self.client.role


class Framework:
    """A framework: who it is, where its scheduler is, what it holds."""

    __slots__ = (
        "clients",
        "declines",
        "ended",
        "failover_deadline",
        "groups",
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
        self.failover_deadline: float | None = None
        self.is_completed = False
        self.offers: dict[OfferId, OutstandingOffer] = {}
        self.tasks: dict[TaskId, Task] = {}
        self.ended: OrderedDict[TaskId, Task] = OrderedDict()
        self.clients: dict[Role, Client] = {}
        """By role: those that it has, and those in which it still holds something."""
        self.groups = Groups()
        self.declines: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """Why it declined offers, in its words: how often, and when last; the latest at the end."""

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
        "pool",
        "resources",
        "role",
        "started_at_ms",
        "state",
        "status",
        "terms",
        "unacknowledged",
        "volume_ids",
    )

    def __init__(
        self,
        task_id: TaskId,
        name: str,
        framework: Framework,
        pool: Pool,
        role: Role,
        resources: Resources,
        labels: tuple[tuple[str, str], ...],
        status: StatusUpdate,
        terms: Terms = NO_TERMS,
        volume_ids: tuple[str, ...] = (),
    ) -> None:
        self.id = task_id
        self.name = name
        self.framework = framework
        self.pool = pool
        self.agent = pool.agent
        self.terms = terms
        self.volume_ids = volume_ids
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
