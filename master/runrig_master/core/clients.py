"""Clients: a framework in one of its roles, what it holds, what it wants and what it has refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runrig.constraints import Operator
from runrig.demand import Demand
from runrig.ids import Role
from runrig.resources import Resources, single_ports
from runrig_master.core.pools import Bits, Pool
from runrig_master.core.resources import Holding
from runrig_master.core.roles import RoleNode

if TYPE_CHECKING:
    from runrig_master.core.claims import Claim
    from runrig_master.core.filters import Refused
    from runrig_master.core.state import Agent, Framework

COUNTING = frozenset({Operator.UNIQUE, Operator.GROUP_BY, Operator.MAX_PER})
"""Constraints that look at other tasks of the group."""


class Wanted:
    """One demand of a client: how many tasks of it are wanted, and for how many of them an offer is out."""

    __slots__ = (
        "amounts",
        "claims",
        "client",
        "count",
        "counting",
        "crowded_out_at",
        "demand",
        "is_balancing",
        "is_infeasible",
        "is_new",
        "is_too_big",
        "offered",
        "order",
        "seniority",
        "since",
        "spent",
        "static",
    )

    def __init__(self, client: Client, demand: Demand, order: int, since: float) -> None:
        self.client = client
        self.demand = demand
        self.order = order
        self.since = since
        """When it began to wait without a break."""
        self.count = demand.count
        """Tasks of it that have not been launched."""
        self.offered = 0
        """Tasks of it for which an offer is out."""
        self.is_new = True
        """It has not looked at all pools yet since it was stated, grew, or lost an offer."""
        self.is_infeasible = False
        """It fits into no pool of the cluster, even an empty one."""
        self.spent = 0
        """The number of the last pass in which it found nothing more."""
        self.claims: list[Claim] = []
        """What is kept for it."""
        self.seniority = since
        """When its turn to lay away began; a lay-away that came to nothing sends it to the back."""
        self.crowded_out_at = -1
        """How many claims had ended when others laid away too much for it to do so."""
        self.is_too_big = False
        """What it would lay away is more than may be, or than there is."""
        need = demand.resources
        self.amounts = (need.cpu_millis, need.mem_mib, need.disk_mib, need.gpus)
        self.static = tuple(item for item in demand.constraints if item.operator not in COUNTING)
        self.counting = tuple(item for item in demand.constraints if item.operator in COUNTING)
        self.is_balancing = any(item.operator is Operator.GROUP_BY for item in self.counting)
        """A pool that breaks GROUP_BY now may meet it once others have been taken."""

    @property
    def unmet(self) -> int:
        """Return for how many tasks no offer is out."""
        return self.count - self.offered

    def is_with(self, other: Wanted) -> bool:
        """Say whether both are the same demand, or of the same gang."""
        gang_id = self.demand.gang_id
        return self is other or (bool(gang_id) and self.client is other.client and gang_id == other.demand.gang_id)

    @property
    def urgency(self) -> tuple[int, int]:
        """Return a key of which the smallest is the most urgent."""
        return (-self.demand.priority, self.order)


class Client:
    """A framework in one of its roles."""

    __slots__ = (
        "counting",
        "framework",
        "hidden",
        "holding",
        "idle_until",
        "is_hungry",
        "name",
        "node",
        "queue",
        "refusals",
        "role",
        "spent",
        "wanted",
    )

    def __init__(self, framework: Framework, node: RoleNode) -> None:
        self.framework = framework
        self.node = node
        self.role: Role = node.role
        self.name: str = framework.id
        self.holding = Holding()
        self.hidden: Bits = 0
        """Pools of which it has refused all that is free."""
        self.refusals: dict[Pool, tuple[Refused, ...]] = {}
        """What it has refused of each pool, the latest last."""
        self.idle_until = 0.0
        """It takes raw offers and had no use for the last: until then it is asked after demand that waits."""
        self.is_hungry = False
        """It must be shown all pools, not just those that changed."""
        self.wanted: dict[str, Wanted] = {}
        self.queue: list[Wanted] = []
        """What it wants that is feasible, the most urgent first."""
        self.counting: dict[str, list[Wanted]] = {}
        """That part of the queue by group which looks at other tasks of its group."""
        self.spent = 0
        """The number of the last pass in which it could take nothing more."""

    def share(self, total: Holding) -> float:
        """Return the dominant share of what it holds."""
        return self.holding.dominant_share(total)

    @property
    def takes_offers(self) -> bool:
        """Say whether it may be offered anything (rule 6)."""
        return self.framework.takes_offers(self.role)

    @property
    def tasks_wanted(self) -> int:
        """Return how many tasks it wants for which no offer is out."""
        return sum(wanted.unmet for wanted in self.wanted.values())


class Groups:
    """Where the tasks of each group of a framework run, as far as constraints ask; offers that are out count."""

    __slots__ = ("_by_group", "version")

    def __init__(self) -> None:
        self._by_group: dict[str, dict[str, Counter[str]]] = {}
        self.version = 0

    def __iter__(self) -> Iterator[str]:
        """Yield the groups of which anything runs or is offered."""
        return iter(self._by_group)

    def counts(self, group: str) -> dict[str, Counter[str]]:
        """Return, by attribute, how many tasks of a group run where it has each value."""
        return self._by_group.get(group, {})

    def on_host(self, group: str, agent: Agent) -> int:
        """Return how many tasks of a group run on an agent's host."""
        hosts = self._by_group.get(group, {}).get("hostname")
        return hosts[agent.info.hostname] if hosts is not None else 0

    def add(self, group: str, agent: Agent, by: int) -> None:
        """Count `by` tasks of a group in (or out) on an agent."""
        self.version += 1
        counts = self._by_group.setdefault(group, {})
        for name, value in agent.attributes:
            counter = counts.setdefault(name, Counter())
            counter[value] += by
            if not counter[value]:
                del counter[value]
        if not any(counts.values()):
            del self._by_group[group]


def need(demand: Demand, pool: Pool) -> Resources:
    """Return what one task of a demand takes of a pool: its ports are the lowest that are free."""
    if not demand.port_count:
        return demand.resources
    rest = pool.free.less_ports(demand.resources.ports)
    return demand.resources + Resources(ports=single_ports(rest.take_ports(demand.port_count)))
