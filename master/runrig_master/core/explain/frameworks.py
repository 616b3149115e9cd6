"""A framework explained: whether it takes offers, what it wants and why that waits, what it has declined and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from runrig_master.core.clients import Wanted
from runrig_master.core.cluster import Cluster
from runrig_master.core.explain.demand import explain_demand
from runrig_master.core.explain.pending import reasons_of
from runrig_master.core.explain.raw import raw_text
from runrig_master.core.explain.subjects import wanted_by
from runrig_master.core.explain.words import counted, framework_text, joined, resources_text, span_text, until_text
from runrig_master.core.explanation import DeclineCount, Explanation, SubjectKind
from runrig_master.core.state import Framework

MOST_DEMANDS = 8
"""Demands of a framework that are explained in full; the others are counted."""


def explain_framework(cluster: Cluster, framework: Framework, now: float) -> Explanation:
    """Explain a framework, connected or not."""
    waiting = [wanted for wanted in wanted_by(framework) if wanted.unmet > 0]
    others = [wanted for wanted in wanted_by(framework) if wanted.unmet <= 0 < wanted.count]
    in_full = waiting[:MOST_DEMANDS]
    return Explanation(
        SubjectKind.FRAMEWORK,
        framework.id,
        _summary(framework, waiting, now),
        tuple(explain_demand(cluster, wanted, now) for wanted in in_full),
        tuple(_facts(cluster, framework, waiting[MOST_DEMANDS:], others, now)),
        declines_of(framework),
    )


def declines_of(framework: Framework) -> tuple[DeclineCount, ...]:
    """Return why a framework has declined, the most frequent reason first."""
    reasons = [DeclineCount(reason, count, int(at * 1000)) for reason, (count, at) in framework.declines.items()]
    return tuple(sorted(reasons, key=lambda item: (-item.count, item.reason)))


def _summary(framework: Framework, waiting: list[Wanted], now: float) -> str:
    name = framework_text(framework)
    if framework.is_completed:
        return f"{name} was removed: its id is never admitted again"
    if framework.stream is None:
        kept = (
            f", its tasks are kept {until_text(framework.failover_deadline, now)}"
            if framework.failover_deadline
            else ""
        )
        return f"{name} is disconnected{kept}"
    if framework.suppressed >= set(framework.info.roles):
        return f"{name} is connected and has suppressed offers: it is offered nothing until it revives them"
    if not framework.uses_demand:
        return f"{name} is connected and takes whatever is free: it does not say what it wants"
    if not waiting:
        return f"{name} is connected and waits for nothing"
    tasks = sum(wanted.unmet for wanted in waiting)
    return (
        f"{name} is connected; {counted(tasks, 'task')} of {counted(len(waiting), 'demand')} wait{'s' * (tasks == 1)}"
    )


def _facts(
    cluster: Cluster, framework: Framework, uncounted: list[Wanted], others: list[Wanted], now: float
) -> Iterator[str]:
    alive = sum(not task.state.is_terminal for task in framework.tasks.values())
    yield f"it runs {counted(alive, 'task')} and holds {counted(len(framework.offers), 'offer')}"
    for client in framework.clients.values():
        suppressed = ", suppressed" if client.role in framework.suppressed else ""
        share = client.share(cluster.tree.total)
        yield f"in role {client.role}{suppressed} it holds {resources_text(client.holding)}, a share of {share:.1%}"
    if not framework.uses_demand and not framework.is_completed:
        for client in framework.clients.values():
            if client.takes_offers and client in client.node.own.order:
                yield raw_text(cluster, client, now)
    if others:
        yield f"for {counted(len(others), 'demand')} offers are out"
    if uncounted:
        reasons = Counter(reason for reason, _ in reasons_of(cluster, uncounted, now))
        counts = joined(f"{count} by {reason}" for reason, count in reasons.most_common())
        yield f"{counted(len(uncounted), 'demand')} more wait: {counts}"
    for inverse in cluster.inverse_offers.of_framework(framework.id):
        deadline = f", {until_text(inverse.deadline, now)}" if inverse.deadline else ""
        asked = counted(len(inverse.tasks), "task")
        yield f"it is asked to end {asked} on {inverse.agent.info.hostname} ({inverse.reason.name}){deadline}"
    for offer in list(framework.offers.values())[:3]:
        held = resources_text(offer.resources.without_ports())
        where = f"{held} of {offer.agent.info.hostname}"
        yield f"offer {offer.id}: {where}, for {span_text(offer.expires_at - now)} at most"
