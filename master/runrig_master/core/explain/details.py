"""Why a predicate turns one pool away, or many, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from runrig.resources import Resources
from runrig.tasks import RuntimeKind
from runrig_master.core.allocation.predicates import Kind, Predicate, over_limit
from runrig_master.core.clients import Client, Wanted
from runrig_master.core.cluster import Cluster
from runrig_master.core.explain.shortage import Shortage, short_of
from runrig_master.core.explain.words import (
    amounts_text,
    counted,
    framework_text,
    joined,
    resources_text,
    span_text,
    until_text,
)
from runrig_master.core.pools import Pool
from runrig_master.core.roles import RoleNode
from runrig_master.core.state import Agent, OutstandingOffer

MOST_NAMED = 3
"""Of many framework names, reasons or values so many are named."""


def of_step(
    cluster: Cluster,
    wanted: Wanted,
    predicate: Predicate,
    pools: list[Pool],
    now: float,
    closest: Pool | None = None,
) -> str:
    """Say why a predicate turned all these pools away: what they have in common, or the least that is short.

    `closest` is the pool that is short of the least, if that is known already.
    """
    kind = predicate.kind
    if kind in (Kind.SIZE, Kind.FREE):
        closest = closest or Shortage.of(wanted, pools, now, is_empty=kind is Kind.SIZE).closest[0]
        return f"{of_pool(cluster, wanted, predicate, closest, now)} at best ({closest.agent.info.hostname})"
    if len(pools) == 1 or kind is Kind.QUOTA:
        return of_pool(cluster, wanted, predicate, pools[0], now)
    if kind is Kind.CONNECTED:
        return common(pool.agent.presence.value for pool in pools)
    if kind is Kind.DRAINING:
        return common("drained" if pool.agent.drain is not None else "deactivated" for pool in pools)
    if kind is Kind.OFFERED:
        return _holders([offer for pool in pools for offer in pool.offers.values()], now)
    if kind is Kind.FILTER:
        return refusals(cluster, wanted.client, pools, now)
    if kind is Kind.RESERVED and not wanted.demand.reservation_id:
        return f"kept for {_roles(pools)}"
    if kind is Kind.CLAIMED:
        return common(claimants(pool) for pool in pools)
    if kind is Kind.GROUP:
        return f"each has as many tasks of group {wanted.demand.group or '(none)'} as it may"
    return common(of_pool(cluster, wanted, predicate, pool, now) for pool in pools)


def of_pool(cluster: Cluster, wanted: Wanted, predicate: Predicate, pool: Pool, now: float) -> str:
    """Say why a predicate turned a pool away."""
    agent = pool.agent
    match predicate.kind:
        case Kind.CONNECTED:
            return agent.presence.value
        case Kind.DRAINING:
            return _draining(agent, now)
        case Kind.RUNTIME:
            return _runtime(wanted, agent)
        case Kind.MAINTENANCE:
            return _maintenance(agent, now)
        case Kind.CONSTRAINT:
            return _attribute(predicate, agent)
        case Kind.RESERVED:
            if wanted.demand.reservation_id:
                return f"not of reservation {wanted.demand.reservation_id}, which alone will do"
            return f"{resources_text(_kept(pool))} kept for {_roles([pool])}"
        case Kind.SIZE:
            return f"short by {amounts_text(short_of(wanted, predicate, pool, now))} even when empty"
        case Kind.SCARCE:
            return "has nothing but gpus free, which are kept for who asks for them"
        case Kind.FILTER:
            return refusals(cluster, wanted.client, [pool], now)
        case Kind.GROUP:
            return _group(wanted, predicate, agent)
        case Kind.OFFERED:
            return _holders(list(pool.offers.values()), now)
        case Kind.CLAIMED:
            return claimants(pool)
        case Kind.FREE:
            return f"short by {amounts_text(short_of(wanted, predicate, pool, now))}"
        case Kind.QUOTA:
            return quota_text(cluster, wanted.client, wanted.demand.resources)


def _draining(agent: Agent, now: float) -> str:
    if agent.drain is None:
        return "deactivated by an operator"
    if agent.is_drained:
        return "drained by an operator"
    if agent.drain.deadline > now:
        return f"drained by an operator, its tasks have {until_text(agent.drain.deadline, now)}"
    return "drained by an operator, its tasks are being killed"


def _runtime(wanted: Wanted, agent: Agent) -> str:
    if not agent.info.runtimes:
        return "has no runtime"
    asked = wanted.demand.runtime
    has = joined(kind.name.lower() for kind in agent.info.runtimes if kind is not RuntimeKind.ANY)
    return f"has {has}, not {asked.name.lower()}"


def _maintenance(agent: Agent, now: float) -> str:
    away = agent.unavailability
    assert away is not None
    start, length_s = away.start_unix_ms / 1000, away.duration_ms / 1000
    begins = f"away in {span_text(start - now)}" if start > now else "away now"
    if not away.duration_ms:
        return f"{begins}, without an end"
    return f"{begins}, {until_text(start + length_s, now)}"


def _attribute(predicate: Predicate, agent: Agent) -> str:
    assert predicate.constraint is not None
    name = predicate.constraint.attribute
    value = agent.attribute(name)
    return f"{name} is {value}" if value is not None else f"has no {name}"


def _group(wanted: Wanted, predicate: Predicate, agent: Agent) -> str:
    assert predicate.constraint is not None
    name = predicate.constraint.attribute
    value = agent.attribute(name)
    if value is None:
        return f"has no {name}"
    here = wanted.client.framework.groups.counts(wanted.demand.group).get(name, Counter())[value]
    return f"{counted(here, 'task')} of group {wanted.demand.group or '(none)'} where {name} is {value}"


def _kept(pool: Pool) -> Resources:
    if pool.reservation is not None:
        return pool.reservation.resources
    kept = Resources()
    for other in pool.agent.pools.values():
        if other.reservation is not None:
            kept = kept + other.reservation.resources.less_ports(kept.ports)
    return kept


def _roles(pools: Iterable[Pool]) -> str:
    roles = {
        other.reservation.role: None
        for pool in pools
        for other in ([pool] if pool.reservation is not None else pool.agent.pools.values())
        if other.reservation is not None
    }
    return _few(sorted(roles))


def _holders(offers: list[OutstandingOffer], now: float) -> str:
    """Say which frameworks hold offers, and for how long yet."""
    if len(offers) == 1:
        [offer] = offers
        holds = resources_text(offer.resources.without_ports())
        ends = span_text(offer.expires_at - now)
        return f"{framework_text(offer.framework)} holds {holds} in offer {offer.id}, for {ends} at most"
    held = Counter(framework_text(offer.framework) for offer in offers)
    first = min((offer.expires_at for offer in offers), default=now)
    whose = _few([f"{name} ({counted(count, 'offer')})" for name, count in held.most_common()])
    return f"held by {whose}, the first for {span_text(first - now)} at most"


def refusals(cluster: Cluster, client: Client, pools: Iterable[Pool], now: float) -> str:
    """Say until when a client has refused pools, and why, in its words."""
    standing = [each for pool in pools for each in cluster.filters.of(pool, client) if each.until > now]
    if not standing:
        return "refused"
    reasons = Counter(each.reason or "no reason given" for each in standing)
    first = min(each.until for each in standing)
    words = _few([reason for reason, _ in reasons.most_common()])
    return f"refused {until_text(first, now)}: {words}"


def claimants(pool: Pool) -> str:
    """Say for whom a pool is kept."""
    names = {
        f"gang {claim.wanted.demand.gang_id} of {framework_text(claim.wanted.client.framework)}"
        if claim.wanted.demand.gang_id
        else f"{claim.wanted.demand.demand_id} of {framework_text(claim.wanted.client.framework)}": None
        for claim in pool.claims
    }
    return f"kept for {_few(list(names))}"


def quota_text(cluster: Cluster, client: Client, more: Resources) -> str:
    """Say which limits are in the way, how much of them is held, and by how much they are exceeded."""
    if cluster.recovering:
        agents = f"{len(cluster.recovering)} agent{'s' * (len(cluster.recovering) > 1)}"
        return f"what roles with a limit hold is not known before {agents} are back after the master's restart"
    return joined(_limit(node, more) for node in over_limit(cluster, client, more))


def _limit(node: RoleNode, more: Resources) -> str:
    assert node.limit is not None
    parts = []
    for name, most in node.limit.amounts().items():
        held, asked = getattr(node.holding, name), getattr(more, name)
        if held + asked > most:
            has = amounts_text({name: held}) if held else "nothing"
            over = amounts_text({name: held + asked - most})
            parts.append(f"{has} of {amounts_text({name: most})}, so a task is {over} too much")
    return f"role {node.role} holds {joined(parts)}"


def common(texts: Iterable[str]) -> str:
    """Return the most frequent of some texts, with their numbers where they are several."""
    counts = Counter(texts)
    if len(counts) == 1:
        return next(iter(counts))
    return _few([f"{text} ({count})" for text, count in counts.most_common()])


def _few(texts: list[str]) -> str:
    if len(texts) <= MOST_NAMED:
        return joined(texts)
    return f"{', '.join(texts[:MOST_NAMED])} and {len(texts) - MOST_NAMED} more"
