"""Clients without demand: what of all agents they are offered, and what keeps the rest from them."""

from __future__ import annotations

from runrig_master.core.allocation.predicates import LEAST, Kind, Predicate, is_at_limit, open_to, raw_problem
from runrig_master.core.clients import Client
from runrig_master.core.cluster import Cluster
from runrig_master.core.explain.details import quota_text, refusals
from runrig_master.core.explain.funnel import Funnel, Sieve
from runrig_master.core.explain.words import counted
from runrig_master.core.pools import Pool


def raw_funnel(cluster: Cluster, client: Client, now: float) -> Funnel:
    """Ask every predicate of every agent, for a client without demand."""
    sieve = Sieve(cluster)
    sieve.turn_away_absent()
    sieve.keep(Kind.RESERVED, None, open_to(cluster, client))
    found: dict[Predicate, list[Pool]] = {}
    fitting = []
    for pool in cluster.pools.listed(sieve.left):
        predicate = raw_problem(cluster, client, pool, now)
        if predicate is None:
            fitting.append(pool)
        else:
            found.setdefault(predicate, []).append(pool)
    for predicate in sorted(found, key=lambda each: each.kind):
        sieve.add(predicate, found[predicate])
    return sieve.funnel(fitting)


def raw_text(cluster: Cluster, client: Client, now: float) -> str:
    """Say how many agents each predicate turns away from a client."""
    funnel = raw_funnel(cluster, client, now)
    mine = sum(offer.client is client for offer in client.framework.offers.values())
    parts = [
        f"{len(pools)} {_words(cluster, client, predicate, pools, now)}" for predicate, pools in funnel.turned.items()
    ]
    if funnel.left:
        parts.append(f"{len(funnel.left)} can be offered")
    text = f"role {client.role}: it has {counted(mine, 'offer')}; of {counted(funnel.agents, 'agent')} "
    return text + (", ".join(parts) or "none is known")


def _words(cluster: Cluster, client: Client, predicate: Predicate, pools: list[Pool], now: float) -> str:
    name = predicate.kind.name.lower()
    match predicate.kind:
        case Kind.FILTER:
            return f"{name} ({refusals(cluster, client, pools, now)})"
        case Kind.QUOTA:
            return f"{name} ({_limits(cluster, client)})"
        case Kind.FREE:
            return f"{name} (nothing is free)"
        case _:
            return name


def _limits(cluster: Cluster, client: Client) -> str:
    if is_at_limit(cluster, client):
        return quota_text(cluster, client, LEAST)
    return "nothing is left of a limit"
