"""What keeps a pool from demand: the predicates that decide in a pass, and explain when they are run dry.

They stand in the order of docs/allocation.md: the lasting ones are sets of pools (`suitable`), the others are asked
pool by pool (`fits`).
"""

from __future__ import annotations

from runrig.constraints import text_of, unmet
from runrig.resources import NOTHING, Resources, count_ports, ports_contain
from runrig_master.core.clients import Client, Wanted
from runrig_master.core.cluster import Cluster
from runrig_master.core.pools import Bits, Pool
from runrig_master.core.roles import RoleNode


def open_to(cluster: Cluster, client: Client) -> Bits:
    """Return the pools that are not reserved, or for the client's role or one above it."""
    bits = cluster.pools.unreserved
    if cluster.pools.reserved:
        for node in cluster.tree.path(client.node):
            bits |= cluster.pools.reserved.get(node.role, 0)
    return bits


def suitable(cluster: Cluster, wanted: Wanted) -> Bits:
    """Return the pools whose nature suits a demand: reservation, runtime, constraints over attributes."""
    bits = open_to(cluster, wanted.client) & cluster.pools.running(wanted.demand.runtime)
    for constraint in wanted.static:
        bits &= cluster.pools.meeting(constraint)
    return bits


def holds_when_empty(wanted: Wanted, pool: Pool) -> bool:
    """Say whether a pool would hold one task of a demand if nothing else were there."""
    return _contains(wanted, pool.total)


def fits(cluster: Cluster, wanted: Wanted, pool: Pool, now: float) -> bool:
    """Say whether a pool can take one task of a demand now, as far as the pool is concerned."""
    free = pool.free
    cpu, mem, disk, gpus = wanted.amounts
    if cpu > free.cpu_millis or mem > free.mem_mib or disk > free.disk_mib or gpus > free.gpus:
        return False
    if pool.claims:
        free = unclaimed(pool, wanted, now)
    return (
        _contains(wanted, free)
        and not is_away(wanted, pool, now)
        and (not wanted.counting or group_problem(cluster, wanted, pool) is None)
    )


def _contains(wanted: Wanted, free: Resources) -> bool:
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


def is_away(wanted: Wanted, pool: Pool, now: float) -> bool:
    """Say whether the agent will be away before a task of the demand would have ended."""
    away = pool.agent.unavailability
    if away is None:
        return False
    begin = int(now * 1000)
    return away.overlaps(begin, begin + max(1, wanted.demand.expected_duration_ms))


def group_problem(cluster: Cluster, wanted: Wanted, pool: Pool) -> str | None:
    """Return the first constraint that other tasks of the group break here, or None."""
    counts = wanted.client.framework.groups.counts(wanted.demand.group)
    for constraint in wanted.counting:
        known = {constraint.attribute: set(cluster.pools.known.get(constraint.attribute, ()))}
        if unmet((constraint,), pool.agent, counts, known) is not None:
            return text_of(constraint)
    return None


def unclaimed(pool: Pool, wanted: Wanted | None, now: float) -> Resources:
    """Return what is free of a pool beside what others have claimed before this demand (None: before anybody).

    What a task that ends before a claim can be used takes of it is lent: backfill.
    """
    claimed = NOTHING
    for claim in pool.claims:
        if wanted is None or not claim.yields_to(wanted, now):
            claimed = claimed + claim.resources
    return rest(pool.free, claimed)


def rest(free: Resources, taken: Resources) -> Resources:
    """Return what is left where `taken` may be more than there is; ports are no part of it."""
    custom = dict(taken.custom)
    return Resources(
        max(0, free.cpu_millis - taken.cpu_millis),
        max(0, free.mem_mib - taken.mem_mib),
        max(0, free.disk_mib - taken.disk_mib),
        max(0, free.gpus - taken.gpus),
        free.ports,
        tuple((name, amount - custom.get(name, 0)) for name, amount in free.custom if amount > custom.get(name, 0)),
    )


def quota_problem(cluster: Cluster, wanted: Wanted) -> RoleNode | None:
    """Return the lowest role above a client whose limit one more task of the demand would exceed, or None."""
    for node in cluster.tree.path(wanted.client.node):
        if node.limit is not None and not node.limit.admits(node.holding, wanted.demand.resources):
            return node
    return None
