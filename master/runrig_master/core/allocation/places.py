"""Which pool is best for a demand, while a pass lasts.

ANY walks the pools in their order; PACK and SPREAD keep them on a heap, and look at a pool again when it has changed
since. Free resources only shrink during a pass: a pool that is too small once is not looked at again in it.
"""

from __future__ import annotations

import heapq

from runrig.demand import Placement
from runrig_master.core.allocation.predicates import fits, is_refused
from runrig_master.core.clients import Wanted
from runrig_master.core.cluster import Cluster
from runrig_master.core.pools import Bits, Pool

Key = tuple[int, ...]


class Places:
    """The pools that one demand may still take from in one pass."""

    __slots__ = ("_cluster", "_heap", "_is_balancing", "_left", "_now", "_wanted")

    def __init__(self, cluster: Cluster, wanted: Wanted, candidates: Bits, now: float) -> None:
        self._cluster = cluster
        self._wanted = wanted
        self._now = now
        self._left = candidates
        self._is_balancing = wanted.is_balancing
        self._heap: list[tuple[Key, Pool]] | None = None
        if wanted.demand.placement is not Placement.ANY:
            self._heap = [(self._key(pool), pool) for pool in cluster.pools.within(candidates)]
            heapq.heapify(self._heap)

    def best(self) -> Pool | None:
        """Return the best pool that fits, or None."""
        return self._first() if self._heap is None else self._head()

    def _first(self) -> Pool | None:
        for pool in self._cluster.pools.within(self._left):
            if self._fits(pool):
                return pool
            if not self._is_balancing:
                self._left ^= pool.bit
        return None

    def _head(self) -> Pool | None:
        heap = self._heap
        assert heap is not None
        aside: list[tuple[Key, Pool]] = []
        found: Pool | None = None
        while heap and found is None:
            key, pool = heap[0]
            now_key = self._key(pool)
            if now_key != key:
                heapq.heapreplace(heap, (now_key, pool))
            elif self._fits(pool):
                found = pool
            else:
                aside.append(heapq.heappop(heap))
        if self._is_balancing:
            for item in aside:
                heapq.heappush(heap, item)
        return found

    def _fits(self, pool: Pool) -> bool:
        cluster, wanted = self._cluster, self._wanted
        return fits(cluster, wanted, pool, self._now) and not is_refused(cluster, wanted, pool, self._now)

    def _key(self, pool: Pool) -> Key:
        """Return a key of which the smallest is best; the slot settles ties."""
        free = pool.free
        if self._wanted.demand.placement is Placement.PACK:
            return (free.cpu_millis, free.mem_mib, pool.slot)
        here = self._wanted.client.framework.groups.on_host(self._wanted.demand.group, pool.agent)
        return (here, -free.cpu_millis, -free.mem_mib, pool.slot)
