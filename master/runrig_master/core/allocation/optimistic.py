"""Optimistic offers: what is free, to all who may have it, and to whom it is given when one accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runrig_master.core.allocation.predicates import is_at_limit
from runrig_master.core.clients import Client
from runrig_master.core.state import OutstandingOffer

if TYPE_CHECKING:
    from runrig_master.core.allocation.passes import Pass


def offers(pass_: Pass) -> list[OutstandingOffer]:
    """Offer what the pass has left to every raw framework of an optimistic role, without taking it from the pools."""
    made: list[OutstandingOffer] = []
    for node in pass_.cluster.tree.optimistic:
        for client in list(node.own.order.members()):
            assert isinstance(client, Client)
            if client.takes_offers and not client.framework.uses_demand:
                made += _offers_to(pass_, client)
    return made


def _offers_to(pass_: Pass, client: Client) -> list[OutstandingOffer]:
    cluster = pass_.cluster
    if is_at_limit(cluster, client):
        return []
    made = []
    candidates = pass_.scope(client, client in pass_.hungry) & pass_.open_to(client) & ~client.hidden
    for pool in cluster.pools.within(candidates):
        if any(offer.client is client for offer in pool.optimistic.values()):
            continue
        resources = pass_.cut(client, pool)
        if resources is not None:
            made.append(cluster.issue_offer(pool, client, resources, pass_.now, is_optimistic=True))
    return made
