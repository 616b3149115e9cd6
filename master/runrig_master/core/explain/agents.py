"""An agent explained: whether it is offered, who holds it, and why nobody takes what is free of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from runrig_master.core.allocation.predicates import all_problems, open_to, raw_problem
from runrig_master.core.clients import Client
from runrig_master.core.cluster import Cluster, alive
from runrig_master.core.explain.details import common
from runrig_master.core.explain.subjects import wanted_of
from runrig_master.core.explain.words import counted, framework_text, joined, resources_text, span_text, until_text
from runrig_master.core.explanation import Explanation, SubjectKind
from runrig_master.core.pools import Pool, is_worth_offering
from runrig_master.core.state import Agent, Presence

MOST_ASKED = 1000
"""Demands that are asked why they do not take what is free."""


def explain_agent(cluster: Cluster, agent: Agent, now: float) -> Explanation:
    """Explain an agent."""
    return Explanation(SubjectKind.AGENT, agent.id, _summary(agent), facts=tuple(_facts(cluster, agent, now)))


def _summary(agent: Agent) -> str:
    name = agent.info.hostname if agent.info.hostname == agent.id else f"{agent.info.hostname} ({agent.id})"
    free, total = agent.free.without_ports(), agent.info.resources.without_ports()
    return f"{name} is {_standing(agent)}: {resources_text(free)} free of {resources_text(total)}"


def _standing(agent: Agent) -> str:
    if agent.presence is not Presence.CONNECTED:
        return {
            Presence.DISCONNECTED: "disconnected, and not offered until it is back",
            Presence.UNREACHABLE: "unreachable, and not offered until it is back",
            Presence.RECOVERING: "not back yet after the master's restart",
            Presence.GONE: "gone for good",
        }[agent.presence]
    if agent.drain is not None:
        return "drained, and not offered" if agent.is_drained else "being drained, and not offered"
    if agent.is_deactivated:
        return "deactivated, and not offered"
    return "connected" if agent.info.runtimes else "connected, without a runtime, and not offered"


def _facts(cluster: Cluster, agent: Agent, now: float) -> Iterator[str]:
    if agent.drain is not None and not agent.is_drained:
        yield f"its tasks have {until_text(agent.drain.deadline, now)} to leave"
    if agent.unavailability is not None:
        start = agent.unavailability.start_unix_ms / 1000
        length = agent.unavailability.duration_ms / 1000
        end = f"for {span_text(length)}" if length else "without an end"
        yield f"it will be away in {span_text(start - now)}, {end}" if start > now else f"it is away, {end}"
    if agent.is_overcommitted:
        yield "its tasks use more than it has: it has shrunk"
    for inverse in cluster.inverse_offers.of_agent(agent.id):
        asked = f"{framework_text(inverse.framework)} is asked to end {counted(len(inverse.tasks), 'task')}"
        yield f"{asked} ({inverse.reason.name})" + (
            f", {until_text(inverse.deadline, now)}" if inverse.deadline else ""
        )
    tasks = Counter(framework_text(task.framework) for task in alive(agent))
    if tasks:
        yield f"tasks run there of {joined(f'{name} ({count})' for name, count in tasks.most_common(5))}"
    for offer in agent.offers.values():
        holds = f"{framework_text(offer.framework)} holds {resources_text(offer.resources.without_ports())}"
        yield f"{holds} in offer {offer.id}, for {span_text(offer.expires_at - now)} at most"
    for pool in agent.pools.values():
        yield from _pool(cluster, pool, now)


def _pool(cluster: Cluster, pool: Pool, now: float) -> Iterator[str]:
    if pool.reservation is not None:
        has = f"{resources_text(pool.total.without_ports())}, {resources_text(pool.free.without_ports())} of it free"
        yield f"reservation {pool.reservation_id} keeps for role {pool.reservation.role}: {has}"
    what = f"of reservation {pool.reservation_id}" if pool.reservation is not None else "of what is not reserved"
    for claim in pool.claims:
        whose = framework_text(claim.wanted.client.framework)
        yield f"{resources_text(claim.resources)} {what} is kept for {claim.wanted.demand.demand_id} of {whose}"
    if is_worth_offering(pool.free) and pool.agent.is_offerable:
        yield f"nobody takes what is free {what}: {_why_nobody(cluster, pool, now)}"


def _why_nobody(cluster: Cluster, pool: Pool, now: float) -> str:
    raw: list[str] = []
    stated: list[str] = []
    for client in _clients(cluster):
        if not client.takes_offers:
            raw.append("disconnected or suppressed")
        elif not client.framework.uses_demand:
            raw.append(_raw_reason(cluster, client, pool, now))
        else:
            for wanted in wanted_of(client):
                if wanted.unmet > 0 and len(stated) < MOST_ASKED:
                    first = next(all_problems(cluster, wanted, pool, now), None)
                    stated.append(first.name if first is not None else "due")
    parts = []
    if stated:
        parts.append(f"{counted(len(stated), 'demand')} that wait are turned away by {common(stated)}")
    else:
        parts.append("no demand waits")
    if raw:
        parts.append(f"of {counted(len(raw), 'framework')} without demand: {common(raw)}")
    return "; ".join(parts)


def _raw_reason(cluster: Cluster, client: Client, pool: Pool, now: float) -> str:
    if not open_to(cluster, client) & pool.bit:
        return "reserved"
    predicate = raw_problem(cluster, client, pool, now)
    return predicate.name if predicate is not None else "due"


def _clients(cluster: Cluster) -> Iterator[Client]:
    for framework in cluster.frameworks.values():
        for client in framework.clients.values():
            if client in client.node.own.order:
                yield client
