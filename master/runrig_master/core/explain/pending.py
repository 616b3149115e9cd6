"""What waits, counted by reason: cheap enough to be asked every few seconds, of any number of demands.

A demand is counted under the predicate that turns it away where it comes furthest, of the emptiest agents whose nature
suits it. So a demand costs some operations on sets and a few pools, however many agents there are; demands of one shape
are looked at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runrig.demand import Demand
from runrig_master.core.allocation.predicates import Kind, Predicate, all_problems, lasting, quota_problem
from runrig_master.core.clients import Client, Wanted
from runrig_master.core.cluster import Cluster
from runrig_master.core.pools import Bits, Pool

LOOKED_AT = 4
"""Of the emptiest agents so many are looked at for a demand."""
EMPTIEST = (64, 1024)
"""The emptiest agents are looked for among the so many emptiest of all first."""


def pending_by_reason(cluster: Cluster, now: float) -> dict[str, int]:
    """Count at `now` the tasks that are wanted and have no offer, by what turns them away last."""
    waiting = (
        wanted
        for framework in cluster.frameworks.values()
        for client in framework.clients.values()
        for wanted in client.wanted.values()
        if wanted.unmet > 0
    )
    counts: dict[str, int] = {}
    for reason, tasks in reasons_of(cluster, waiting, now):
        counts[reason] = counts.get(reason, 0) + tasks
    return counts


def reasons_of(cluster: Cluster, waiting: Iterable[Wanted], now: float) -> Iterator[tuple[str, int]]:
    """Yield for each demand what turns it away, and how many of its tasks wait."""
    judge = _Judge(cluster, now)
    for wanted in waiting:
        yield judge.reason(wanted), wanted.unmet


class _Judge:
    """Judges many demands of one moment."""

    def __init__(self, cluster: Cluster, now: float) -> None:
        self._cluster = cluster
        self._now = now
        self._levels: list[Bits] | None = None
        self._known: dict[tuple[object, ...], str] = {}

    def reason(self, wanted: Wanted) -> str:
        client, demand = wanted.client, wanted.demand
        if not client.takes_offers:
            return "disconnected" if client.framework.stream is None else "suppressed"
        if wanted.is_infeasible:
            return "infeasible"
        key = _shape(client, demand)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._look(wanted)
        return known

    def _look(self, wanted: Wanted) -> str:
        cluster = self._cluster
        if quota_problem(cluster, wanted) is not None:
            return "quota"
        left = cluster.pools.offerable
        if not left:
            return "connected"
        for kind, _, allowed in lasting(cluster, wanted):
            left &= allowed
            if not left:
                return kind.name.lower()
        furthest: Predicate | None = None
        for pool in self._emptiest(left):
            predicate = next(all_problems(cluster, wanted, pool, self._now), None)
            if predicate is None:
                return "gang" if wanted.demand.gang_id else "due"
            if furthest is None or predicate.kind > furthest.kind:
                furthest = predicate
        return (furthest.kind if furthest is not None else Kind.FREE).name.lower()

    def _emptiest(self, bits: Bits) -> list[Pool]:
        if self._levels is None:
            self._levels = _levels(self._cluster)
        level = next((level for level in self._levels if level & bits), -1)
        some = []
        for pool in self._cluster.pools.within(level & bits):
            some.append(pool)
            if len(some) >= LOOKED_AT:
                break
        return some


def _levels(cluster: Cluster) -> list[Bits]:
    pools = cluster.pools.listed(cluster.pools.offerable)
    pools.sort(key=lambda pool: (pool.free.cpu_millis, pool.free.mem_mib), reverse=True)
    levels = []
    for count in EMPTIEST:
        bits = 0
        for pool in pools[:count]:
            bits |= pool.bit
        levels.append(bits)
    return levels


def _shape(client: Client, demand: Demand) -> tuple[object, ...]:
    """Return what two demands have in common that are turned away by the same."""
    return (
        client,
        demand.resources,
        demand.constraints,
        demand.port_count,
        demand.group,
        demand.gang_id,
        demand.runtime,
        demand.reservation_id,
        demand.expected_duration_ms,
        demand.priority,
    )
