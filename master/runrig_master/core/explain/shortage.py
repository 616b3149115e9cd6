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
MOST_RANKED = 32
"""Of the pools that are measured so many are kept in their order, the closest."""

Ranked = tuple[float, int, Pool]


@dataclass(frozen=True, slots=True)
class Shortage:
    """Of many pools the closest, and the closest of those that are short of just one dimension.

    How far a pool is: the sum of what is short as parts of what is asked.
    """

    closest: list[Pool]
    of_one: dict[str, Ranked]

    @classmethod
    def of(cls, wanted: Wanted, pools: Iterable[Pool], now: float, *, is_empty: bool = False) -> Shortage:
        """Measure pools, by what is free of them or as if they were empty."""
        need = wanted.demand.resources
        measure = _measured_any if need.ports or need.custom else _measured
        ranked: list[Ranked] = []
        best: dict[str, Ranked] = {}
        for distance, name, pool in measure(wanted, pools, now, is_empty):
            item = (distance, pool.slot, pool)
            ranked.append(item)
            if name and (name not in best or item < best[name]):
                best[name] = item
        return cls([pool for _, _, pool in heapq.nsmallest(MOST_RANKED, ranked)], best)


def available(wanted: Wanted, pool: Pool, now: float) -> Resources:
    """Return what a demand could take of a pool."""
    return unclaimed(pool, wanted, now) if pool.claims else pool.free


def short_of(wanted: Wanted, predicate: Predicate, pool: Pool, now: float) -> dict[str, int]:
    """Return by how much a pool that a predicate turned away is short, per dimension."""
    if predicate.kind not in MEASURED:
        return {}
    return shortfall(wanted, pool.total if predicate.kind is Kind.SIZE else available(wanted, pool, now))


def _measured(wanted: Wanted, pools: Iterable[Pool], now: float, is_empty: bool) -> Iterable[tuple[float, str, Pool]]:
    """Yield how far each pool is, and the dimension if it is the only one; written for ten thousand pools."""
    cpu, mem, disk, gpus = wanted.amounts
    ports = wanted.demand.port_count
    measured = []
    for pool in pools:
        free = pool.total if is_empty else pool.free
        if pool.claims and not is_empty:
            free = unclaimed(pool, wanted, now)
        distance, short, name = 0.0, 0, ""
        if cpu > free.cpu_millis:
            distance, short, name = 1 - free.cpu_millis / cpu, 1, "cpu_millis"
        if mem > free.mem_mib:
            distance += 1 - free.mem_mib / mem
            short, name = short + 1, "mem_mib"
        if disk > free.disk_mib:
            distance += 1 - free.disk_mib / disk
            short, name = short + 1, "disk_mib"
        if gpus > free.gpus:
            distance += 1 - free.gpus / gpus
            short, name = short + 1, "gpus"
        if ports:
            has = sum([end - begin + 1 for begin, end in free.ports])
            if ports > has:
                distance += 1 - has / ports
                short, name = short + 1, "ports"
        measured.append((distance, name if short == 1 else "", pool))
    return measured


def _measured_any(
    wanted: Wanted, pools: Iterable[Pool], now: float, is_empty: bool
) -> Iterable[tuple[float, str, Pool]]:
    names = ("cpu_millis", "mem_mib", "disk_mib", "gpus")
    asked = {**dict(zip(names, wanted.amounts, strict=True)), **dict(wanted.demand.resources.custom)}
    for pool in pools:
        short = shortfall(wanted, pool.total if is_empty else available(wanted, pool, now))
        distance = sum(amount / asked[name] if name in asked else 0.001 * amount for name, amount in short.items())
        yield distance, next(iter(short)) if len(short) == 1 else "", pool
