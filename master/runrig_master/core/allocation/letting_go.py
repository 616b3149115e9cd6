"""Offers that are held without an answer while demand waits for what is in them."""

from __future__ import annotations

from runrig.offers import RescindReason
from runrig.resources import Resources
from runrig_master.core.allocation.predicates import quota_problem, suitable
from runrig_master.core.clients import Wanted
from runrig_master.core.cluster import Cluster
from runrig_master.core.filters import Refusal
from runrig_master.core.state import OutstandingOffer

REFUSED_S = 5.0
"""An offer that was called in counts as refused for as long as one that was declined without a word."""
HELD_WITHOUT_AN_ANSWER = "held without an answer while others waited"


def call_in(cluster: Cluster, now: float) -> bool:
    """Take back from raw frameworks what waiting demand could use; say whether anything was taken back."""
    held = _held(cluster, now)
    if not held:
        return False
    called: dict[OutstandingOffer, None] = {}
    for wanted in cluster.backlog.waiting:
        if wanted.client.takes_offers and quota_problem(cluster, wanted) is None:
            called.update(dict.fromkeys(_useful(cluster, wanted, held, called)))
    for offer in called:
        until = now + REFUSED_S
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
    cluster: Cluster, wanted: Wanted, held: list[OutstandingOffer], called: dict[OutstandingOffer, None]
) -> list[OutstandingOffer]:
    """Return as many of the held offers as a demand could be placed in."""
    suits = suitable(cluster, wanted)
    missing = wanted.unmet
    useful = []
    for offer in held:
        if missing <= 0:
            break
        if offer in called or not offer.pool.bit & suits:
            continue
        room = _tasks_in(wanted, offer.pool.free + offer.resources)
        if room:
            useful.append(offer)
            missing -= room
    return useful


def _tasks_in(wanted: Wanted, free: Resources) -> int:
    """Return how many tasks of a demand fit into `free`, as far as cpu, memory, disk and gpus tell."""
    has = (free.cpu_millis, free.mem_mib, free.disk_mib, free.gpus)
    return min((have // need for have, need in zip(has, wanted.amounts, strict=True) if need), default=1)


def next_deadline(cluster: Cluster) -> float | None:
    """Return when the next offer of a raw framework may be called in; earlier ones were looked at and are of no use."""
    hold_s = cluster.settings.offer_hold_s
    for offer in cluster.offers.values():
        is_raw = not offer.client.framework.uses_demand and not offer.is_optimistic
        if is_raw and offer.made_at + hold_s > cluster.backlog.looked_after_at:
            return offer.made_at + hold_s
    return None
