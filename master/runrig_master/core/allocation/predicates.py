"""What keeps a pool from demand: the predicates that decide in a pass, and explain when they are run dry.

They stand in the order of docs/allocation.md. Those that last are sets of pools (`lasting`, which `suitable` joins),
the others are asked pool by pool: `problems` asks them in their order and names those that fail, `fits` asks just
whether none does, what fails most often first. A predicate is written once; both ask the same functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

from runrig.constraints import Constraint, Operator, text_of, unmet
from runrig.resources import NOTHING, Resources, count_ports, ports_contain
from runrig_master.core.clients import Client, Wanted, need
from runrig_master.core.cluster import Cluster
from runrig_master.core.pools import Bits, Pool, is_worth_offering
from runrig_master.core.resources import remainder, tolerant_sum
from runrig_master.core.roles import RoleNode
from runrig_master.core.state import Presence


class Kind(IntEnum):
    """What turns a pool away, in the order of docs/allocation.md."""

    CONNECTED = 1
    DRAINING = 2
    RUNTIME = 3
    MAINTENANCE = 4
    CONSTRAINT = 5
    RESERVED = 6
    SIZE = 7
    SCARCE = 8
    FILTER = 9
    GROUP = 10
    OFFERED = 11
    CLAIMED = 12
    FREE = 13
    QUOTA = 14


@dataclass(frozen=True, slots=True)
class Predicate:
    """One thing that turns pools away; constraints are many of one kind."""

    kind: Kind
    constraint: Constraint | None = None

    @property
    def name(self) -> str:
        """Return `free`, or `constraint rack EQUALS r1`."""
        name = self.kind.name.lower()
        return f"{name} {text_of(self.constraint)}" if self.constraint is not None else name


# Of the agent


def absences(pool: Pool) -> Iterator[Kind]:
    """Yield why an agent's pools may not be offered to anybody: what the set `Pools.offerable` answers, one by one."""
    agent = pool.agent
    if agent.presence is not Presence.CONNECTED:
        yield Kind.CONNECTED
    if not agent.is_active:
        yield Kind.DRAINING
    if not agent.info.runtimes:
        yield Kind.RUNTIME


def is_away(wanted: Wanted, pool: Pool, now: float) -> bool:
    """Say whether the agent will be away before a task of the demand would have ended."""
    away = pool.agent.unavailability
    if away is None:
        return False
    begin = int(now * 1000)
    return away.overlaps(begin, begin + max(1, wanted.demand.expected_duration_ms))


# Lasting: sets of pools


def lasting(cluster: Cluster, wanted: Wanted) -> Iterator[tuple[Kind, Constraint | None, Bits]]:
    """Yield the predicates that nobody's coming or going changes, with the pools that each lets through."""
    pools = cluster.pools
    yield Kind.RUNTIME, None, pools.running(wanted.demand.runtime)
    for constraint in wanted.static:
        yield Kind.CONSTRAINT, constraint, pools.meeting(constraint)
    bits = open_to(cluster, wanted.client)
    if wanted.demand.reservation_id:
        bits &= pools.of_reservation(wanted.demand.reservation_id)
    yield Kind.RESERVED, None, bits


def suitable(cluster: Cluster, wanted: Wanted) -> Bits:
    """Return the pools whose nature suits a demand: runtime, constraints over attributes, reservation."""
    bits = -1
    for _, _, allowed in lasting(cluster, wanted):
        bits &= allowed
    return bits


def open_to(cluster: Cluster, client: Client) -> Bits:
    """Return the pools that are not reserved, or for the client's role or one above it."""
    bits = cluster.pools.unreserved
    if cluster.pools.reserved:
        for node in cluster.tree.path(client.node):
            bits |= cluster.pools.reserved.get(node.role, 0)
    return bits


def holds_when_empty(wanted: Wanted, pool: Pool) -> bool:
    """Say whether a pool would hold one task of a demand if nothing else were there."""
    return holds(wanted, pool.total)


# Passing: pool by pool


def fits(cluster: Cluster, wanted: Wanted, pool: Pool, now: float) -> bool:
    """Say whether a pool can take one task of a demand now, as far as the pool is concerned."""
    return (
        has_room(wanted, pool, now)
        and not is_away(wanted, pool, now)
        and (not wanted.counting or group_problem(cluster, wanted, pool) is None)
    )


def problems(cluster: Cluster, wanted: Wanted, pool: Pool, now: float) -> Iterator[Predicate]:
    """Yield the predicates after the lasting ones that turn a pool away from a demand; none: it fits."""
    is_large_enough = holds_when_empty(wanted, pool)
    if not is_large_enough:
        yield RESERVED if is_kept_for_others(wanted, pool) else SIZE
    if pool.refused and is_refused(cluster, wanted, pool, now):
        yield FILTER
    if wanted.counting:
        constraint = group_problem(cluster, wanted, pool)
        if constraint is not None:
            yield Predicate(Kind.GROUP, constraint)
    if is_large_enough and not (has_room(wanted, pool, now) and is_worth_offering(pool.free)):
        yield _what_takes_the_room(wanted, pool)


def all_problems(cluster: Cluster, wanted: Wanted, pool: Pool, now: float) -> Iterator[Predicate]:
    """Yield every predicate that turns a pool away from a demand, in their order."""
    for kind in absences(pool):
        yield Predicate(kind)
    is_asked_of_time = False
    for kind, constraint, allowed in lasting(cluster, wanted):
        if kind is not Kind.RUNTIME and not is_asked_of_time:
            is_asked_of_time = True
            if is_away(wanted, pool, now):
                yield Predicate(Kind.MAINTENANCE)
        if not allowed & pool.bit:
            yield Predicate(kind, constraint)
    yield from problems(cluster, wanted, pool, now)
    if quota_problem(cluster, wanted) is not None:
        yield QUOTA


RESERVED, SIZE, SCARCE, FILTER = (Predicate(kind) for kind in (Kind.RESERVED, Kind.SIZE, Kind.SCARCE, Kind.FILTER))
OFFERED, CLAIMED, FREE, QUOTA = (Predicate(kind) for kind in (Kind.OFFERED, Kind.CLAIMED, Kind.FREE, Kind.QUOTA))


def is_kept_for_others(wanted: Wanted, pool: Pool) -> bool:
    """Say whether what is not reserved of an agent would hold a task if nothing of it were reserved."""
    return pool.reservation is None and holds(wanted, pool.agent.info.resources)


def is_refused(cluster: Cluster, wanted: Wanted, pool: Pool, now: float) -> bool:
    """Say whether the client has refused what it would be offered of a pool."""
    if not pool.refused or pool not in wanted.client.refusals:
        return False
    return cluster.filters.hide(pool, wanted.client, need(wanted.demand, pool), now)


def group_problem(cluster: Cluster, wanted: Wanted, pool: Pool) -> Constraint | None:
    """Return the first constraint that other tasks of the group break here, or None."""
    counts = wanted.client.framework.groups.counts(wanted.demand.group)
    return next((item for item in wanted.counting if not allows(cluster, item, pool, counts)), None)


def allows(cluster: Cluster, constraint: Constraint, pool: Pool, counts: Mapping[str, Counter[str]]) -> bool:
    """Say whether a constraint lets one more task of a group in, of which so many run where."""
    known = {}
    if constraint.operator is Operator.GROUP_BY:  # the others do not look at it, and of hostnames there are many
        known[constraint.attribute] = set(cluster.pools.known.get(constraint.attribute, ()))
    return unmet((constraint,), pool.agent, counts, known) is None


def has_room(wanted: Wanted, pool: Pool, now: float) -> bool:
    """Say whether what is free of a pool, beside what is claimed by others, holds one task of a demand."""
    free = pool.free
    cpu, mem, disk, gpus = wanted.amounts
    if cpu > free.cpu_millis or mem > free.mem_mib or disk > free.disk_mib or gpus > free.gpus:
        return False
    if pool.claims:
        free = unclaimed(pool, wanted, now)
    return holds(wanted, free)


def _what_takes_the_room(wanted: Wanted, pool: Pool) -> Predicate:
    """Return why there is no room: it is claimed, it stands in offers, or it is used."""
    if holds(wanted, pool.free) and is_worth_offering(pool.free):
        return CLAIMED
    return OFFERED if pool.offers and holds(wanted, tolerant_sum(pool.free, pool.offered)) else FREE


def holds(wanted: Wanted, free: Resources) -> bool:
    """Say whether an amount holds one task of a demand."""
    cpu, mem, disk, gpus = wanted.amounts
    if cpu > free.cpu_millis or mem > free.mem_mib or disk > free.disk_mib or gpus > free.gpus:
        return False
    demand = wanted.demand
    if demand.port_count or demand.resources.ports:
        fixed = demand.resources.ports
        if fixed and not ports_contain(free.ports, fixed):
            return False
        if demand.port_count and count_ports(free.ports) - count_ports(fixed) < demand.port_count:
            return False
    return not demand.resources.custom or free.contains(Resources(custom=demand.resources.custom))


def shortfall(wanted: Wanted, free: Resources) -> dict[str, int]:
    """Return by how much one task is more than what is free, per dimension; empty: it fits."""
    demand = wanted.demand
    short = free.shortfall(demand.resources)
    if demand.port_count:
        fixed = count_ports(demand.resources.ports)
        missing = short.get("ports", 0)
        rest = count_ports(free.ports) - (fixed - missing)
        if missing or rest < demand.port_count:
            short["ports"] = missing + max(0, demand.port_count - rest)
    return short


def unclaimed(pool: Pool, wanted: Wanted | None, now: float) -> Resources:
    """Return what is free of a pool beside what others have claimed before this demand (None: before anybody).

    What a task that ends before a claim can be used takes of it is lent: backfill.
    """
    claimed = NOTHING
    for claim in pool.claims:
        if wanted is None or not claim.yields_to(wanted, now):
            claimed = claimed + claim.resources
    return rest(pool.free, claimed)


def must_borrow(wanted: Wanted, pool: Pool) -> bool:
    """Say whether a task that fits into a pool does so only as it promises to end before a claim can be used."""
    claimed = NOTHING
    for claim in pool.claims:
        if not claim.is_behind(wanted):
            claimed = claimed + claim.resources
    return not holds(wanted, rest(pool.free, claimed))


def rest(free: Resources, taken: Resources) -> Resources:
    """Return what is left where `taken` may be more than there is; ports are no part of it."""
    return remainder(free, taken.without_ports())


# Of the client


def quota_problem(cluster: Cluster, wanted: Wanted) -> RoleNode | None:
    """Return the lowest role above a client whose limit one more task of the demand would exceed, or None."""
    return next(over_limit(cluster, wanted.client, wanted.demand.resources), None)


def over_limit(cluster: Cluster, client: Client, more: Resources) -> Iterator[RoleNode]:
    """Yield the roles above a client whose limit `more` would exceed, as far as is known, the lowest first.

    After a failover agents are still to come back, and nobody can say what of a limited role runs there.
    """
    for node in cluster.tree.limits_of(client.node):
        if node.limit is not None and (cluster.recovering or not node.limit.admits(node.holding, more)):
            yield node


def is_at_limit(cluster: Cluster, client: Client) -> bool:
    """Say whether a limit above a client leaves it no cpu or no memory."""
    for node in cluster.tree.limits_of(client.node):
        if node.limit is not None and (cluster.recovering or not node.limit.admits(node.holding, LEAST)):
            return True
    return False


LEAST = Resources(cpu_millis=1, mem_mib=1)


# Of clients without demand


def cut(cluster: Cluster, client: Client, pool: Pool, now: float) -> Resources:
    """Return what a client without demand may be offered of a pool, as far as others' claims and quotas leave it."""
    resources = unclaimed(pool, None, now) if pool.claims else pool.free
    if resources.gpus and not client.framework.info.takes_gpus:
        resources = replace(resources, gpus=0)
    for node in cluster.tree.limits_of(client.node):
        if node.limit is not None:
            resources = node.limit.cut(node.holding, resources)
    return resources


def raw_problem(cluster: Cluster, client: Client, pool: Pool, now: float) -> Predicate | None:
    """Return what keeps a client without demand from a pool that may be offered and is open to it, or None."""
    if not is_worth_offering(pool.total):
        return RESERVED if is_worth_offering(pool.agent.info.resources) else SIZE
    if pool.free.gpus and not client.framework.info.takes_gpus and not is_worth_offering(replace(pool.free, gpus=0)):
        return SCARCE
    resources = cut(cluster, client, pool, now)
    if not is_worth_offering(pool.free) or any(offer.client is client for offer in pool.optimistic.values()):
        return OFFERED if pool.offers or pool.optimistic else FREE
    if not is_worth_offering(unclaimed(pool, None, now)):
        return CLAIMED
    if not is_worth_offering(resources) or is_at_limit(cluster, client):
        return QUOTA
    return FILTER if cluster.filters.hide(pool, client, resources, now) else None
