"""How far pools are from holding one task, and of what they are short."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from runrig.resources import Resources
from runrig_master.core.allocation.predicates import Kind, Predicate, shortfall, unclaimed
from runrig_master.core.clients import Wanted
from runrig_master.core.pools import Pool

MEASURED = frozenset({Kind.SIZE, Kind.OFFERED, Kind.CLAIMED, Kind.FREE})
"""Predicates that say that there is too little of something."""


@dataclass(frozen=True, slots=True)
class Short:
    """A pool, of what it is short, and how far that is: the sum of what is short as parts of what is asked."""

    distance: float
    pool: Pool
    dimensions: frozenset[str]


class Shortage:
    """Of many pools the closest, and the closest of those that are short of the same dimensions."""

    def __init__(self, wanted: Wanted, pools: Iterable[Pool], now: float, is_empty: bool = False) -> None:
        self.by_dimensions: dict[frozenset[str], Short] = {}
        ranked: list[tuple[float, int, Pool]] = []
        best: dict[int | frozenset[str], tuple[float, Pool]] = {}
        is_plain = not (wanted.demand.port_count or wanted.demand.resources.ports or wanted.demand.resources.custom)
        for pool in pools:
            free = pool.total if is_empty else available(wanted, pool, now)
            code, distance = _plain(wanted, free) if is_plain else _any(wanted, free)
            ranked.append((distance, pool.slot, pool))
            known = best.get(code)
            if known is None or distance < known[0]:
                best[code] = (distance, pool)
        for code, (distance, pool) in best.items():
            names = _NAMES[code] if isinstance(code, int) else code
            self.by_dimensions[names] = Short(distance, pool, names)
        self._ranked = ranked

    def closest(self, count: int) -> list[Pool]:
        """Return the closest pools."""
        return [pool for _, _, pool in heapq.nsmallest(count, self._ranked)]


def available(wanted: Wanted, pool: Pool, now: float) -> Resources:
    """Return what a demand could take of a pool."""
    return unclaimed(pool, wanted, now) if pool.claims else pool.free


def short_of(wanted: Wanted, predicate: Predicate, pool: Pool, now: float) -> dict[str, int]:
    """Return by how much a pool that a predicate turned away is short, per dimension."""
    if predicate.kind not in MEASURED:
        return {}
    return shortfall(wanted, pool.total if predicate.kind is Kind.SIZE else available(wanted, pool, now))


def _plain(wanted: Wanted, free: Resources) -> tuple[int, float]:
    cpu, mem, disk, gpus = wanted.amounts
    code, distance = 0, 0.0
    if cpu > free.cpu_millis:
        code, distance = 1, 1 - free.cpu_millis / cpu
    if mem > free.mem_mib:
        code |= 2
        distance += 1 - free.mem_mib / mem
    if disk > free.disk_mib:
        code |= 4
        distance += 1 - free.disk_mib / disk
    if gpus > free.gpus:
        code |= 8
        distance += 1 - free.gpus / gpus
    return code, distance


_PLAIN = ("cpu_millis", "mem_mib", "disk_mib", "gpus")
_NAMES = [frozenset(name for place, name in enumerate(_PLAIN) if code >> place & 1) for code in range(16)]


def _any(wanted: Wanted, free: Resources) -> tuple[frozenset[str], float]:
    short = shortfall(wanted, free)
    custom = dict(wanted.demand.resources.custom)
    asked = dict(zip(_PLAIN, wanted.amounts, strict=True)) | custom
    distance = sum(amount / asked[name] if name in asked else 0.001 * amount for name, amount in short.items())
    return frozenset(short), distance
