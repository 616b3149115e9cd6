"""Which pool is best for a demand, while a pass lasts.

ANY walks the pools in their order. PACK and SPREAD walk all that is free, which a pass sorts once for all demands, and
keep on a heap of their own what has changed since. Free resources only shrink during a pass, but for gangs that came
to nothing: a pool that is too small is not looked at again until it changes.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left

from runrig.demand import Placement
from runrig_master.core.allocation.predicates import fits, is_refused
from runrig_master.core.clients import Wanted
from runrig_master.core.cluster import Cluster
from runrig_master.core.pools import Bits, Pool, SizeKey, size_key

FEW = 64
"""So few candidates are sorted by themselves: 30 us, where sorting 10,000 pools takes 12 ms."""


class Places:
    """The pools that one demand may still take from in one pass."""

    __slots__ = ("_cluster", "_left", "_now", "_ranked", "_wanted")

    def __init__(self, cluster: Cluster, wanted: Wanted, candidates: Bits, now: float) -> None:
        self._cluster = cluster
        self._wanted = wanted
        self._now = now
        self._left = candidates
        is_any = wanted.demand.placement is Placement.ANY
        self._ranked = None if is_any else _Ranked(cluster, wanted, candidates)

    def best(self) -> Pool | None:
        """Return the best pool that fits, or None."""
        return self._first() if self._ranked is None else self._highest(self._ranked)

    def _first(self) -> Pool | None:
        pools = self._cluster.pools
        self._left &= pools.worth
        for pool in pools.within(self._left):
            if self._fits(pool):
                if not self._wanted.is_balancing:
                    self._left &= -pool.bit
                return pool
        if not self._wanted.is_balancing:
            self._left = 0
        return None

    def _highest(self, ranked: _Ranked) -> Pool | None:
        aside: list[Pool] = []
        found: Pool | None = None
        ranked.catch_up()
        while (pool := ranked.pop()) is not None:
            if pool.bit & self._cluster.pools.worth and self._fits(pool):
                found = pool
                break
            aside.append(pool)
        if found is not None:
            ranked.put(found)
        if self._wanted.is_balancing:
            for pool in aside:
                ranked.put(pool)
        return found

    def _fits(self, pool: Pool) -> bool:
        cluster, wanted = self._cluster, self._wanted
        return fits(cluster, wanted, pool, self._now) and not is_refused(cluster, wanted, pool, self._now)


class _Ranked:
    """Candidates, the best first: sorted ones that have not changed, and a heap of those that have."""

    __slots__ = ("_at", "_candidates", "_changes", "_groups", "_heap", "_keys", "_latest", "_pools", "_seen", "_wanted")

    def __init__(self, cluster: Cluster, wanted: Wanted, candidates: Bits) -> None:
        self._pools = pools = cluster.pools
        self._wanted = wanted
        self._groups = wanted.client.framework.groups
        self._candidates = candidates
        self._changes = pools.changes(wanted.demand.placement)
        self._at = 0
        self._heap: list[SizeKey] = []
        self._latest: dict[int, SizeKey] = {}
        """By slot: the key under which a pool was put on the heap last."""
        if candidates.bit_count() <= FEW:
            self._keys, self._seen = sorted(self._key(pool) for pool in pools.within(candidates)), len(self._changes)
        else:
            self._keys, self._seen = pools.in_order(wanted.demand.placement)
            if wanted.demand.placement is Placement.PACK:
                self._at = bisect_left(self._keys, (0, wanted.amounts[0], 0, 0))

    def pop(self) -> Pool | None:
        """Take out the best candidate."""
        while True:
            is_sorted = self._at < len(self._keys)
            if self._heap and not (is_sorted and self._keys[self._at] < self._heap[0]):
                key = heapq.heappop(self._heap)
            elif is_sorted:
                key = self._keys[self._at]
                self._at += 1
            else:
                return None
            pool = self._pools[key[3]]
            if not pool.bit & self._candidates:
                continue
            if key == self._key(pool):
                return pool
            self._put_changed(pool)

    def put(self, pool: Pool) -> None:
        """Put a candidate back."""
        key = self._latest[pool.slot] = self._key(pool)
        heapq.heappush(self._heap, key)

    def catch_up(self) -> None:
        """Put on the heap what may have become better since the last look; the rest is seen when it is met."""
        changes = self._changes
        for pool in changes[self._seen :]:
            if pool.bit & self._candidates:
                self._put_changed(pool)
        self._seen = len(changes)

    def _put_changed(self, pool: Pool) -> None:
        key = self._key(pool)
        if self._latest.get(pool.slot) != key and pool.free.cpu_millis >= self._wanted.amounts[0]:
            self._latest[pool.slot] = key
            heapq.heappush(self._heap, key)

    def _key(self, pool: Pool) -> SizeKey:
        placement = self._wanted.demand.placement
        if placement is Placement.PACK:
            return size_key(pool, placement, 0)
        return size_key(pool, placement, self._groups.on_host(self._wanted.demand.group, pool.agent))
