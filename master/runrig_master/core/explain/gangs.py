"""Gangs run dry: how many of their tasks would find places now, and how many in an empty cluster at most."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from runrig.resources import Resources
from runrig_master.core.allocation.places import Places
from runrig_master.core.allocation.predicates import allows, holds, quota_problem, suitable
from runrig_master.core.clients import Wanted, need
from runrig_master.core.cluster import Cluster
from runrig_master.core.explain.funnel import present, with_runtimes
from runrig_master.core.pools import Pool


@dataclass(frozen=True, slots=True)
class GangState:
    """How many tasks of a gang wait, how many of them fit now, and which demand is the first that does not."""

    waiting: int
    fitting: int
    first_short: Wanted | None

    @property
    def fits(self) -> bool:
        """Say whether all of it fits."""
        return self.first_short is None


def members_of(wanted: Wanted) -> list[Wanted]:
    """Return the demands of a demand's gang, the most urgent first."""
    gang_id = wanted.demand.gang_id
    gang = (each for each in wanted.client.wanted.values() if each.demand.gang_id == gang_id)
    return sorted(gang, key=lambda each: each.urgency)


def run_dry(cluster: Cluster, wanted: Wanted, now: float) -> GangState:
    """Take places for all of a gang as a pass would, and give them back; changes nothing."""
    taken: list[tuple[Wanted, Pool, Resources]] = []
    waiting = 0
    first_short: Wanted | None = None
    touched, cluster.touched = cluster.touched, None
    try:
        for member in members_of(wanted):
            count = member.unmet
            waiting += count
            if first_short is None and _place(cluster, member, count, now, taken) < count:
                first_short = member
    finally:
        for member, pool, resources in reversed(taken):
            cluster.give_back(pool, member.client, resources)
            member.client.framework.groups.add(member.demand.group, pool.agent, -1)
        cluster.touched = touched
    return GangState(waiting, len(taken), first_short)


def _place(
    cluster: Cluster, member: Wanted, count: int, now: float, taken: list[tuple[Wanted, Pool, Resources]]
) -> int:
    pools = cluster.pools
    places = Places(cluster, member, pools.offerable & pools.worth & suitable(cluster, member), now)
    for placed in range(count):
        pool = places.best() if quota_problem(cluster, member) is None else None
        if pool is None:
            return placed
        resources = need(member.demand, pool)
        cluster.take(pool, member.client, resources)
        member.client.framework.groups.add(member.demand.group, pool.agent, 1)
        taken.append((member, pool, resources))
    return count


def most_when_empty(cluster: Cluster, wanted: Wanted) -> int:
    """Return how many tasks of one demand an empty cluster would hold, counting no further than are wanted."""
    pools = cluster.pools.listed(with_runtimes(cluster, suitable(cluster, wanted) & present(cluster)))
    empty = [Pool(pool.agent, pool.slot, pool.total, pool.reservation) for pool in pools]
    counts: dict[str, Counter[str]] = {}
    held, before = 0, -1
    while before < held < wanted.count:
        before = held
        for pool in empty:
            while held < wanted.count and _takes_one(cluster, wanted, pool, counts):
                held += 1
    return held


def _takes_one(cluster: Cluster, wanted: Wanted, pool: Pool, counts: dict[str, Counter[str]]) -> bool:
    if not holds(wanted, pool.free) or not all(allows(cluster, item, pool, counts) for item in wanted.counting):
        return False
    pool.free = pool.free - need(wanted.demand, pool)
    for name, value in pool.agent.attributes:
        counts.setdefault(name, Counter())[value] += 1
    return True
