"""Who is offered what, written from docs/allocation.md alone: plain loops, exact fractions, nothing remembered.

Every step looks at every client and every pool anew. It is what the allocator of the master must decide, however it
comes to it; and what its speed is compared with.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from runrig.constraints import Constraint, Operator
from runrig.demand import Demand, Placement
from runrig.reservations import Unavailability
from runrig.tasks import RuntimeKind
from tests.properties.amounts import Amounts

PoolKey = tuple[str, str]
"""An agent's id and a reservation's; without reservation: empty."""
Owner = tuple[str, str]
"""A framework's id and a role."""
FAIR = ("cpu_millis", "mem_mib", "disk_mib")


@dataclass
class Pool:
    """What may be offered of one agent for one purpose."""

    key: PoolKey
    hostname: str
    attributes: dict[str, str]
    runtimes: tuple[RuntimeKind, ...]
    reserved_for: str
    """A role; empty: not reserved."""
    left: Amounts
    is_offerable: bool
    away: Unavailability | None = None
    is_called_in: bool = False
    """Offers of it were called in for demand that waits."""

    @property
    def is_of_use(self) -> bool:
        """Say whether anything could run on what is left."""
        return is_of_use(self.left)


@dataclass
class Ask:
    """A demand, and for how many tasks of it no offer is out."""

    demand: Demand
    unmet: int
    is_partly_out: bool = False
    """Offers are out for some of it."""


@dataclass
class Client:
    """A framework in one of its roles."""

    framework: str
    role: str
    takes_gpus: bool = False
    states_demand: bool = False
    asks: list[Ask] = field(default_factory=list)
    """In the order in which they were stated."""
    refused: list[tuple[PoolKey, Amounts]] = field(default_factory=list)
    passed_on: set[PoolKey] = field(default_factory=set)
    """What it has declined in this turn."""
    is_idle: bool = False
    """It had no use for the last raw offer."""

    @property
    def owner(self) -> Owner:
        """Return who it is."""
        return (self.framework, self.role)


@dataclass
class Made:
    """An offer, as far as a pass decides it."""

    framework: str
    role: str
    pool: PoolKey
    gang_id: str
    amounts: Amounts
    tasks: Counter[str] = field(default_factory=Counter)
    """By demand: for how many tasks of it."""


@dataclass
class Scene:
    """All that a pass depends on."""

    now: float
    pools: list[Pool]
    """In the order in which they are looked at."""
    clients: list[Client]
    """Those that take offers."""
    total: Counter[str]
    held: dict[Owner, Counter[str]]
    weights: dict[str, int] = field(default_factory=dict)
    limits: dict[str, dict[str, int]] = field(default_factory=dict)
    guarantees: dict[str, dict[str, int]] = field(default_factory=dict)
    grouped: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    """Tasks by framework, group, attribute and value."""
    known: dict[str, set[str]] = field(default_factory=dict)
    """The values of attributes on agents of the cluster."""
    is_demand_waiting: bool = False


class NaiveAllocator:
    """One pass over a scene, which it uses up."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.made: list[Made] = []
        self._asks_again = False
        self._out: set[Owner] = set()
        """Clients that could take nothing when they were asked last in this round."""
        self._spent: set[tuple[Owner, str]] = set()
        """Demands that found no place in this round; gangs likewise."""
        self._served: str | None = None
        """The role whose guarantee is being served."""

    def run(self) -> list[Made]:
        """Take steps until nobody can take one; return the offers in the order in which they were begun."""
        while self._serve_a_guarantee():
            pass
        self._serve_rounds()
        self._asks_again = True
        self._serve_rounds()
        return self.made

    def _serve_rounds(self) -> None:
        """In each round who can take nothing drops out; in the last nobody takes anything."""
        is_served = True
        while is_served:
            is_served = False
            self._out.clear()
            while self._serve(""):
                is_served = True
            self._spent.clear()

    def _serve_a_guarantee(self) -> bool:
        guarantees = self.scene.guarantees
        lacking = [role for role in guarantees if self._satisfaction(role) is not None]
        for role in sorted(lacking, key=lambda role: (self._satisfaction(role), role)):
            self._served = role
            self._out.clear()
            is_served = self._serve(role)
            self._served = None
            if is_served:
                return True
        return False

    def _satisfaction(self, role: str) -> Fraction | None:
        """Return the smallest part that a role holds of its guarantee; None: it lacks nothing."""
        held = self._held_below(role)
        parts = [Fraction(held[name], amount) for name, amount in self.scene.guarantees[role].items() if amount]
        return min(parts) if parts and min(parts) < 1 else None

    def _serve(self, top: str) -> bool:
        for client in self._in_order(top):
            if client.owner in self._out:
                continue
            if self._step(client):
                return True
            self._out.add(client.owner)
        return False

    # The tree

    def _in_order(self, top: str) -> Iterator[Client]:
        """Yield the clients below a role, the first in the tree's order first."""
        names = {
            role.removeprefix(f"{top}/" if top else "").split("/")[0] for role in self._roles() if below(role, top)
        }
        members = [(self._share(self._held_by(top)), ".", top)]
        for name in names:
            role = f"{top}/{name}" if top else name
            weight = Fraction(self.scene.weights.get(role, 1000), 1000)
            members.append((self._share(self._held_below(role)) / weight, name, role))
        for _, name, role in sorted(members):
            if name == ".":
                mine = [client for client in self.scene.clients if client.role == role]
                yield from sorted(mine, key=lambda client: (self._share(self._held(client.owner)), client.framework))
            else:
                yield from self._in_order(role)

    def _roles(self) -> set[str]:
        return {client.role for client in self.scene.clients}

    def _share(self, held: Counter[str]) -> Fraction:
        total = self.scene.total
        return max((Fraction(held[name], total[name]) for name in FAIR if total[name]), default=Fraction(0))

    def _held(self, owner: Owner) -> Counter[str]:
        return self.scene.held.get(owner, Counter())

    def _held_by(self, role: str) -> Counter[str]:
        return sum((held for (_, theirs), held in self.scene.held.items() if theirs == role), Counter())

    def _held_below(self, top: str) -> Counter[str]:
        return sum((held for (_, role), held in self.scene.held.items() if role == top or below(role, top)), Counter())

    # Steps

    def _step(self, client: Client) -> bool:
        if not client.states_demand:
            stands_back = client.is_idle and self.scene.is_demand_waiting
            is_asked_late = stands_back and not self._asks_again and self._served is None
            return not is_asked_late and self._take_a_pool(client)
        for ask in sorted(client.asks, key=lambda ask: -ask.demand.priority):
            gang_id = ask.demand.gang_id
            key = (client.owner, f"gang {gang_id}" if gang_id else f"demand {ask.demand.demand_id}")
            if ask.unmet <= 0 or key in self._spent:
                continue
            if self._place_gang(client, gang_id) if gang_id else self._place_one(client, ask):
                return True
            self._spent.add(key)
        return False

    def _take_a_pool(self, client: Client) -> bool:
        for pool in self.scene.pools:
            is_asked_late = pool.is_called_in and not self._asks_again and self._served is None
            if is_asked_late or not self._is_shown(client, pool):
                continue
            part = self._cut(client, copy.deepcopy(pool.left))
            if is_of_use(part) and not self._is_refused(client, pool, part):
                self._take(client, pool, part)
                return True
        return False

    def _cut(self, client: Client, part: Amounts) -> Amounts:
        """Cut what is free to what a client without demand may have of it."""
        if not client.takes_gpus:
            part.scalars["gpus"] = 0
        for role in path(client.role):
            limit = self.scene.limits.get(role, {})
            room = {name: most - self._held_below(role)[name] for name, most in limit.items()}
            if room.get("cpu_millis", 1) <= 0 or room.get("mem_mib", 1) <= 0:
                return Amounts()
            for name, amount in room.items():
                part.scalars[name] = max(0, min(part.scalars[name], amount))
        if self._served is not None:
            held = self._held_below(self._served)
            for name, amount in self.scene.guarantees[self._served].items():
                part.scalars[name] = max(0, min(part.scalars[name], amount - held[name]))
        return part

    def _place_gang(self, client: Client, gang_id: str) -> bool:
        members = [ask for ask in client.asks if ask.demand.gang_id == gang_id]
        if any(ask.is_partly_out for ask in members):
            return False
        scene, made = copy.deepcopy(self.scene), copy.deepcopy(self.made)
        unmet = [ask.unmet for ask in members]
        for ask in sorted(members, key=lambda ask: -ask.demand.priority):
            while ask.unmet > 0:
                if not self._place_one(client, ask):
                    self._undo(scene, made)
                    for member, count in zip(members, unmet, strict=True):
                        member.unmet, member.is_partly_out = count, False
                    return False
        return True

    def _undo(self, scene: Scene, made: list[Made]) -> None:
        for pool, before in zip(self.scene.pools, scene.pools, strict=True):
            pool.left = before.left
        self.scene.held, self.scene.grouped, self.made = scene.held, scene.grouped, made

    def _place_one(self, client: Client, ask: Ask) -> bool:
        demand = ask.demand
        if not self._is_within_limits(client, demand):
            return False
        fitting = [pool for pool in self.scene.pools if self._suits(client, demand, pool)]
        if not fitting:
            return False
        pool = min(fitting, key=lambda pool: self._preference(client, demand, pool))
        self._take(client, pool, needed(demand, pool), demand)
        for name, value in pool.attributes.items():
            self.scene.grouped[client.framework, demand.group, name, value] += 1
        ask.unmet -= 1
        ask.is_partly_out = True
        return True

    def _preference(self, client: Client, demand: Demand, pool: Pool) -> tuple[int, ...]:
        place = self.scene.pools.index(pool)
        cpu, mem = pool.left.scalars["cpu_millis"], pool.left.scalars["mem_mib"]
        match demand.placement:
            case Placement.PACK:
                return (cpu, mem, place)
            case Placement.SPREAD:
                here = self.scene.grouped[client.framework, demand.group, "hostname", pool.hostname]
                return (here, -cpu, -mem, place)
            case Placement.ANY:
                return (place,)

    def _take(self, client: Client, pool: Pool, part: Amounts, demand: Demand | None = None) -> None:
        gang_id = demand.gang_id if demand is not None else ""
        pool.left.take(part)
        self.scene.held.setdefault(client.owner, Counter()).update(part.scalars)
        key = (*client.owner, pool.key, gang_id)
        made = next((made for made in self.made if (made.framework, made.role, made.pool, made.gang_id) == key), None)
        if made is None:
            made = Made(*key, Amounts())
            self.made.append(made)
        made.amounts.add(part)
        if demand is not None:
            made.tasks[demand.demand_id] += 1

    # What keeps a pool from a client

    def _is_shown(self, client: Client, pool: Pool) -> bool:
        if client.passed_on and pool.key in client.passed_on and not self._asks_again:
            return False
        is_open = not pool.reserved_for or pool.reserved_for in path(client.role)
        return pool.is_offerable and is_open and pool.is_of_use

    def _is_refused(self, client: Client, pool: Pool, part: Amounts) -> bool:
        return any(key == pool.key and refused.holds(part) for key, refused in client.refused)

    def _is_within_limits(self, client: Client, demand: Demand) -> bool:
        return all(
            self._held_below(role)[name] + getattr(demand.resources, name) <= most
            for role in path(client.role)
            for name, most in self.scene.limits.get(role, {}).items()
            if getattr(demand.resources, name)
        )

    def _suits(self, client: Client, demand: Demand, pool: Pool) -> bool:
        need = needed(demand, pool)
        return (
            self._is_shown(client, pool)
            and demand.reservation_id in ("", pool.key[1])
            and (demand.runtime is RuntimeKind.ANY or demand.runtime in pool.runtimes)
            and not self._will_be_away(demand, pool)
            and all(self._is_met(client, demand, constraint, pool) for constraint in demand.constraints)
            and len(need.ports) == len(needed_ports(demand)) + demand.port_count
            and pool.left.holds(need)
            and not self._is_refused(client, pool, need)
        )

    def _will_be_away(self, demand: Demand, pool: Pool) -> bool:
        begin = int(self.scene.now * 1000)
        return pool.away is not None and pool.away.overlaps(begin, begin + max(1, demand.expected_duration_ms))

    def _is_met(self, client: Client, demand: Demand, constraint: Constraint, pool: Pool) -> bool:
        value = pool.attributes.get(constraint.attribute)
        if value is None:
            return constraint.operator in (Operator.NOT_EQUALS, Operator.UNLIKE)
        counts = {
            each: count
            for (framework, group, name, each), count in self.scene.grouped.items()
            if (framework, group, name) == (client.framework, demand.group, constraint.attribute) and count
        }
        here = counts.get(value, 0)
        match constraint.operator:
            case Operator.EQUALS:
                return value == constraint.value
            case Operator.NOT_EQUALS:
                return value != constraint.value
            case Operator.LIKE:
                return re.fullmatch(constraint.value, value) is not None
            case Operator.UNLIKE:
                return re.fullmatch(constraint.value, value) is None
            case Operator.UNIQUE:
                return here == 0
            case Operator.MAX_PER:
                return here < int(constraint.value)
            case Operator.GROUP_BY:
                values = self.scene.known.get(constraint.attribute, set()) | set(counts)
                is_short_of_values = len(values) < int(constraint.value or 1)
                return here <= (0 if is_short_of_values else min(counts.get(each, 0) for each in values))


def path(role: str) -> list[str]:
    """Return a role and those above it."""
    parts = role.split("/")
    return ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]


def below(role: str, top: str) -> bool:
    """Say whether a role is below another; below the empty one all are."""
    return role.startswith(f"{top}/") if top else True


def is_of_use(amounts: Amounts) -> bool:
    """Say whether anything could run on it: ports and disk alone run nothing."""
    return any(amount > 0 for name, amount in amounts.scalars.items() if name != "disk_mib")


def needed_ports(demand: Demand) -> set[int]:
    """Return the ports that a demand names."""
    return {port for begin, end in demand.resources.ports for port in range(begin, end + 1)}


def needed(demand: Demand, pool: Pool) -> Amounts:
    """Return what one task of a demand takes of a pool: any ports are the lowest that are free."""
    resources = demand.resources
    scalars = Counter({name: getattr(resources, name) for name in (*FAIR, "gpus")})
    scalars.update(dict(resources.custom))
    named = needed_ports(demand)
    others = sorted(pool.left.ports - named)[: demand.port_count]
    return Amounts(scalars, named | set(others))
