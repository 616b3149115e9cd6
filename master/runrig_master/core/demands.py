"""What clients want: stated by frameworks, counted down by launches, looked at by the passes of allocation."""

from __future__ import annotations

from dataclasses import replace

from runrig.demand import Demand
from runrig.errors import InvalidInput
from runrig_master.core.clients import Client, Wanted
from runrig_master.core.cluster import Cluster


def state(cluster: Cluster, client: Client, demands: tuple[Demand, ...], now: float) -> None:
    """Take what a client wants next in place of what it wanted; raise InvalidInput when an id stands twice."""
    stated: dict[str, Wanted] = {}
    for order, demand in enumerate(demands):
        if demand.demand_id in stated:
            raise InvalidInput("update_demand.demand_id", demand.demand_id, "each once in a role")
        stated[demand.demand_id] = _taken_up(client, demand, order, now)
    for demand_id, wanted in client.wanted.items():
        if stated.get(demand_id) is not wanted:
            cluster.forget_wanted(wanted)
    client.wanted = stated
    line_up(client)
    for wanted in stated.values():
        cluster.note_waiting(wanted)
    if any(wanted.is_new for wanted in client.queue):
        cluster.mark_hungry(client)


def _taken_up(client: Client, demand: Demand, order: int, now: float) -> Wanted:
    known = client.wanted.get(demand.demand_id)
    if known is None or replace(known.demand, count=demand.count) != demand:
        wanted = Wanted(client, demand, order, now)
        if known is not None:
            wanted.since = wanted.seniority = known.since
            _hand_over_offers(known, wanted)
        return wanted
    if known.unmet <= 0 < demand.count - known.offered:
        known.since = known.seniority = now
    known.is_new |= demand.count > known.count
    known.demand = demand
    known.count = demand.count
    known.order = order
    return known


def _hand_over_offers(before: Wanted, after: Wanted) -> None:
    """Have the offers that are out for a demand count against what it has become, and in its group of now."""
    if before.offered:
        framework = before.client.framework
        for offer in framework.offers.values():
            for wanted, count in offer.parts:
                if wanted is before:
                    framework.groups.add(before.demand.group, offer.agent, -count)
                    framework.groups.add(after.demand.group, offer.agent, count)
            offer.parts = tuple((after if wanted is before else wanted, count) for wanted, count in offer.parts)
    after.offered, before.offered = before.offered, 0


def line_up(client: Client) -> None:
    """Sort what a client wants, the most urgent first; what no pool can hold stays out."""
    client.queue = sorted(
        (wanted for wanted in client.wanted.values() if not wanted.is_infeasible), key=lambda wanted: wanted.urgency
    )
    client.counting = {}
    for wanted in client.queue:
        if wanted.counting:
            client.counting.setdefault(wanted.demand.group, []).append(wanted)


def forget(cluster: Cluster, client: Client) -> None:
    """Forget what a client wants."""
    stated, client.wanted = client.wanted, {}
    for wanted in stated.values():
        cluster.forget_wanted(wanted)
    client.queue = []


def look_anew(cluster: Cluster, client: Client) -> None:
    """Have a client and all that it wants look at every pool."""
    for wanted in client.wanted.values():
        wanted.is_new = True
    cluster.mark_hungry(client)
