"""A role explained: what it may hold and does hold, who is in it, and who is served before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from runrig.resources import milli_text
from runrig_master.core.clients import Client
from runrig_master.core.cluster import Cluster
from runrig_master.core.explain.pending import reasons_of
from runrig_master.core.explain.subjects import wanted_of
from runrig_master.core.explain.words import amounts_text, counted, framework_text, joined, resources_text
from runrig_master.core.explanation import Explanation, SubjectKind
from runrig_master.core.quotas import Quota
from runrig_master.core.roles import RoleNode

MOST_NAMED = 5


def explain_role(cluster: Cluster, node: RoleNode, now: float) -> Explanation:
    """Explain a role with all below it."""
    total = cluster.tree.total
    share = node.holding.dominant_share(total)
    weight = milli_text(node.weight_millis)
    summary = f"role {node.role} holds {resources_text(node.holding)}: a share of {share:.1%}, by weight {weight}"
    return Explanation(SubjectKind.ROLE, node.role, summary, facts=tuple(_facts(cluster, node, now)))


def _facts(cluster: Cluster, node: RoleNode, now: float) -> Iterator[str]:
    yield from _quotas(node)
    yield _place(cluster, node)
    clients = list(_clients(node))
    if node.is_optimistic:
        yield "its offers are optimistic: the same resources may stand in several"
    if not clients:
        yield "no framework is in it"
        return
    ranked = sorted(clients, key=lambda client: (client.share(cluster.tree.total), client.name))
    names = [_member(cluster, client) for client in ranked[:MOST_NAMED]]
    more = f", and {len(ranked) - MOST_NAMED} more" if len(ranked) > MOST_NAMED else ""
    yield f"in it, those that are served first before others: {', '.join(names)}{more}"
    waiting = [wanted for client in clients for wanted in wanted_of(client) if wanted.unmet > 0]
    if waiting:
        reasons: Counter[str] = Counter()
        for reason, count in reasons_of(cluster, waiting, now):
            reasons[reason] += count
        yield f"tasks that wait in it: {joined(f'{count} by {reason}' for reason, count in reasons.most_common())}"
    else:
        yield "nothing that its frameworks have stated waits"


def _quotas(node: RoleNode) -> Iterator[str]:
    above: RoleNode | None = node
    while above is not None and above.parent is not None:
        whose = "its" if above is node else f"{above.role}'s"
        if above.limit is not None:
            yield f"{whose} limit: {_of(above.limit, above)}"
        if above.guarantee is not None:
            state = "not reached" if above.lacks() else "reached"
            yield f"{whose} guarantee, {state}: {_of(above.guarantee, above)}"
        above = above.parent


def _of(quota: Quota, node: RoleNode) -> str:
    parts = []
    for name, most in quota.amounts().items():
        held = getattr(node.holding, name)
        parts.append(f"{amounts_text({name: held}) if held else 'nothing'} of {amounts_text({name: most})}")
    return joined(parts) or "of nothing"


def _place(cluster: Cluster, node: RoleNode) -> str:
    """Say which roles beside it are served before it, as their weighted share is smaller."""
    assert node.parent is not None
    total = cluster.tree.total
    beside = [child for child in node.parent.children.values() if child is not node]
    key = (node.share(total), node.name)
    before = sorted((child for child in beside if (child.share(total), child.name) < key), key=lambda c: c.share(total))
    if not beside:
        return "no role stands beside it"
    if not before:
        return (
            f"of {counted(len(beside) + 1, 'role')} side by side it is served first: its weighted share is the smallest"
        )
    names = ", ".join(f"{child.role} ({child.share(total):.1%})" for child in before[:MOST_NAMED])
    more = f" and {len(before) - MOST_NAMED} more" if len(before) > MOST_NAMED else ""
    return f"served before it, as their weighted share is smaller than its {key[0]:.1%}: {names}{more}"


def _clients(node: RoleNode) -> Iterator[Client]:
    for member in node.own.order.members():
        assert isinstance(member, Client)
        yield member
    for child in node.children.values():
        yield from _clients(child)


def _member(cluster: Cluster, client: Client) -> str:
    state = "" if client.takes_offers else ", takes no offers"
    return f"{framework_text(client.framework)} ({client.share(cluster.tree.total):.1%}{state})"
