"""Offers that are held without an answer while demand waits for what is in them."""

from __future__ import annotations

from runrig.constraints import Operator
from runrig.offers import RescindReason
from runrig.resources import Resources
from runrig_master.core.allocation.predicates import group_problem, is_away, quota_problem, suitable
from runrig_master.core.clients import Wanted
from runrig_master.core.cluster import IDLE_S, Cluster
from runrig_master.core.filters import Refusal
from runrig_master.core.pools import Pool
from runrig_master.core.state import OutstandingOffer

HELD_WITHOUT_AN_ANSWER = "held without an answer while others waited"


def call_in(cluster: Cluster, now: float) -> bool:
    """Take back from raw frameworks what waiting demand could use; say whether anything was taken back."""
    held = _held(cluster, now)
    if not held:
        return False
    for offer in held:
        offer.client.idle_until = now + IDLE_S
    called: dict[OutstandingOffer, None] = {}
    for wanted in cluster.backlog.waiting:
        if wanted.client.takes_offers and quota_problem(cluster, wanted) is None:
            called.update(dict.fromkeys(_useful(cluster, wanted, held, called, now)))
    for offer in called:
        until = now + IDLE_S
        cluster.called_in |= offer.pool.bit
        cluster.filters.refuse(offer.pool, offer.client, Refusal(offer.resources, until, HELD_WITHOUT_AN_ANSWER))
    cluster.rescind(list(called), RescindReason.DEMANDED)
    return bool(called)


def _held(cluster: Cluster, now: float) -> list[OutstandingOffer]:
    """Return the offers that raw frameworks have held for long, the oldest first."""
    held = []
    for offer in cluster.offers.values():
        if offer.made_at + cluster.settings.offer_hold_s > now:
            break
        if not offer.client.framework.uses_demand and not offer.is_optimistic:
            held.append(offer)
    return held


def _useful(
    cluster: Cluster, wanted: Wanted, held: list[OutstandingOffer], called: dict[OutstandingOffer, None], now: float
) -> list[OutstandingOffer]:
    """Return as many of the held offers as a demand could be placed in: those of one pool count together."""
    suits = suitable(cluster, wanted)
    by_pool: dict[Pool, list[OutstandingOffer]] = {}
    for offer in held:
        if offer not in called and offer.pool.bit & suits:
            by_pool.setdefault(offer.pool, []).append(offer)
    missing = wanted.unmet
    useful: list[OutstandingOffer] = []
    for pool, offers in by_pool.items():
        if missing <= 0:
            break
        if _is_of_no_use(cluster, wanted, pool, now):
            continue
        free = pool.free
        room = min(missing, _tasks_in(wanted, sum((offer.resources for offer in offers), free)))
        for offer in offers:
            if _tasks_in(wanted, free) >= room:
                break
            free = free + offer.resources
            useful.append(offer)
        missing -= room
    return useful


def _is_of_no_use(cluster: Cluster, wanted: Wanted, pool: Pool, now: float) -> bool:
    """Say whether a demand would not be placed in a pool whatever were free of it."""
    if is_away(wanted, pool, now) or cluster.filters.hide(pool, wanted.client, wanted.demand.resources, now):
        return True
    is_balancing = any(item.operator is Operator.GROUP_BY for item in wanted.counting)
    return bool(wanted.counting) and not is_balancing and group_problem(cluster, wanted, pool) is not None


def _tasks_in(wanted: Wanted, free: Resources) -> int:
    """Return how many tasks of a demand fit into `free`, as far as cpu, memory, disk and gpus tell.

    Where other tasks of the group count it is one at a time: what is called in too much goes back.
    """
    has = (free.cpu_millis, free.mem_mib, free.disk_mib, free.gpus)
    room = min((have // need for have, need in zip(has, wanted.amounts, strict=True) if need), default=1)
    return min(room, 1) if wanted.counting else room


def next_deadline(cluster: Cluster) -> float | None:
    """Return when the next offer of a raw framework may be called in; earlier ones were looked at and are of no use."""
    hold_s = cluster.settings.offer_hold_s
    for offer in cluster.offers.values():
        is_raw = not offer.client.framework.uses_demand and not offer.is_optimistic
        if is_raw and offer.made_at + hold_s > cluster.backlog.looked_after_at:
            return offer.made_at + hold_s
    return None
