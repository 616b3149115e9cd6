"""Who is offered what: weighted dominant resource fairness over roles, then over the frameworks of a role.

Event-driven: only agents that changed are looked at, at the end of the turn that changed them. An agent's free
resources go whole to the poorest framework that has not refused them (section 6: raw frameworks).
"""

from __future__ import annotations

from collections.abc import Iterator

from runrig.ids import Role
from runrig.offers import Offer
from runrig.resources import Resources
from runrig_master.core.cluster import Cluster
from runrig_master.core.resources import Holding
from runrig_master.core.state import Agent, Framework, OutstandingOffer

_NOBODY = Holding()


def allocate(cluster: Cluster, now: float) -> list[OutstandingOffer]:
    """Offer what is free on the agents that changed; return the offers made."""
    made: list[OutstandingOffer] = []
    dirty, cluster.dirty = cluster.dirty, {}
    for agent in dirty.values():
        if agent.is_offerable and is_worth_offering(agent.free):
            taker = next(_takers(cluster, agent, now), None)
            if taker is not None:
                framework, role = taker
                made.append(cluster.open_offer(agent, framework, role, agent.free, now))
    cluster.passed_on.clear()
    return made


def is_worth_offering(free: Resources) -> bool:
    """Say whether a task could run on it: ports and disk alone run nothing."""
    return bool(free.cpu_millis or free.mem_mib or free.gpus or free.custom)


def _takers(cluster: Cluster, agent: Agent, now: float) -> Iterator[tuple[Framework, Role]]:
    """Yield who may be offered the agent, the poorest role first and in it the poorest framework.

    Those who have declined it in this turn come last: who declines for no time would otherwise have it for ever.
    """
    filters = cluster.filters
    passed_on: list[tuple[Framework, Role]] = []
    for role in sorted(cluster.members, key=lambda role: (_role_share(cluster, role), role)):
        takers = [framework for framework in cluster.members[role].values() if framework.takes_offers(role)]
        for framework in sorted(takers, key=lambda item: _framework_order(cluster, item, role)):
            if filters.hide(agent.id, (framework.id, role), agent.free, now):
                continue
            if (agent.id, framework.id, role) in cluster.passed_on:
                passed_on.append((framework, role))
            else:
                yield framework, role
    yield from passed_on


def _role_share(cluster: Cluster, role: Role) -> float:
    holding = cluster.role_holdings.get(role, _NOBODY)
    return holding.dominant_share(cluster.total, cluster.weight(role))


def _framework_order(cluster: Cluster, framework: Framework, role: Role) -> tuple[float, int, str]:
    holding = framework.holdings.get(role, _NOBODY)
    return holding.dominant_share(cluster.total), len(framework.offers), framework.id


def weighted_share(cluster: Cluster, role: Role) -> float:
    """Return the dominant share of a role divided by its weight, for people."""
    return _role_share(cluster, role)


def described(offer: OutstandingOffer) -> Offer:
    """Return an offer as its framework sees it."""
    info = offer.agent.info
    return Offer(
        offer.id,
        info.agent_id,
        info.hostname,
        offer.role,
        offer.resources,
        info.attributes,
        agent_address=info.address,
        runtimes=info.runtimes,
        unavailability=offer.agent.unavailability,
    )
