"""What keeps a pool from a demand, judged from plain facts: slow, and in no line that of the master."""

from __future__ import annotations

import re
from collections import Counter

from runrig.constraints import Constraint, Operator
from runrig.resources import Resources
from runrig.tasks import RuntimeKind
from runrig_master.core.allocation.predicates import Kind
from runrig_master.core.clients import Wanted
from runrig_master.core.cluster import Cluster
from runrig_master.core.pools import Pool
from runrig_master.core.state import Agent, Framework, Presence

DIMENSIONS = ("cpu_millis", "mem_mib", "disk_mib", "gpus")


def is_turned_away(
    cluster: Cluster, wanted: Wanted, pool: Pool, kind: Kind, about: Constraint | None, now: float
) -> bool:
    """Say whether a predicate of a kind turns a pool away."""
    agent, demand = pool.agent, wanted.demand
    match kind:
        case Kind.CONNECTED:
            return agent.presence is not Presence.CONNECTED
        case Kind.DRAINING:
            return agent.is_deactivated or agent.drain is not None
        case Kind.RUNTIME:
            kinds = agent.info.runtimes
            return not kinds or (demand.runtime is not RuntimeKind.ANY and demand.runtime not in kinds)
        case Kind.MAINTENANCE:
            return _is_away(agent, demand.expected_duration_ms, now)
        case Kind.CONSTRAINT:
            assert about is not None
            return not _meets(agent, about)
        case Kind.RESERVED:
            return _is_for_others(wanted, pool) or _is_made_too_small(wanted, pool)
        case Kind.SIZE:
            return not holds(wanted, pool.total) and not _is_made_too_small(wanted, pool)
        case Kind.SCARCE:
            return False
        case Kind.FILTER:
            return _is_refused(cluster, wanted, pool, now)
        case Kind.GROUP:
            assert about is not None
            return not _lets_one_more_in(cluster, wanted.client.framework, demand.group, agent, about)
        case Kind.OFFERED:
            return holds(wanted, _free_of_tasks(pool)) and not holds(wanted, _free(pool))
        case Kind.CLAIMED:
            return bool(pool.claims) and holds(wanted, _free(pool))
        case Kind.FREE:
            return not holds(wanted, _free_of_tasks(pool))
        case Kind.QUOTA:
            return is_over_limit(cluster, wanted)


def holds(wanted: Wanted, amount: Resources) -> bool:
    """Say whether an amount holds one task."""
    need = wanted.demand.resources
    ports = sum(end - begin + 1 for begin, end in amount.ports)
    return (
        all(getattr(amount, name) >= getattr(need, name) for name in DIMENSIONS) and ports >= wanted.demand.port_count
    )


def is_over_limit(cluster: Cluster, wanted: Wanted, *, is_empty: bool = False) -> bool:
    """Say whether one task more is too much for a role above, as things stand or in an empty cluster."""
    for node in cluster.tree:
        if node.limit is None or not f"{wanted.client.role}/".startswith(f"{node.role}/"):
            continue
        held: Counter[str] = Counter() if is_empty else _held(cluster, node.role)
        for name in DIMENSIONS:
            most = getattr(node.limit, name)
            if most is not None and held[name] + getattr(wanted.demand.resources, name) > most:
                return True
    return False


def fits_empty(cluster: Cluster, wanted: Wanted, now: float) -> bool:
    """Say whether a demand, with its gang, would fit if nothing else were there and everybody were."""
    if is_over_limit(cluster, wanted, is_empty=True):
        return False
    if not _empty_pools(cluster, wanted, now):
        return False
    gang_id = wanted.demand.gang_id
    gang = [each for each in wanted.client.wanted.values() if gang_id and each.demand.gang_id == gang_id]
    return all(_most_in(cluster, each, _empty_pools(cluster, each, now)) >= each.count for each in gang)


def _empty_pools(cluster: Cluster, wanted: Wanted, now: float) -> list[Pool]:
    lasting = (Kind.RESERVED, Kind.SIZE)
    return [
        pool
        for agent in cluster.agents.values()
        for pool in agent.pools.values()
        if agent.presence is not Presence.GONE
        and not is_turned_away(cluster, wanted, pool, Kind.RUNTIME, None, now)
        and all(_can_meet(agent, each) for each in wanted.demand.constraints)
        and not any(is_turned_away(cluster, wanted, pool, kind, None, now) for kind in lasting)
    ]


def _most_in(cluster: Cluster, wanted: Wanted, pools: list[Pool]) -> int:
    """Return how many tasks of a demand with at most one constraint that counts fit into empty pools."""
    about = next((each for each in wanted.demand.constraints if each.operator > Operator.UNLIKE), None)
    room: Counter[str | None] = Counter()
    for pool in pools:
        need = wanted.demand.resources
        parts = [getattr(pool.total, name) // getattr(need, name) for name in DIMENSIONS if getattr(need, name)]
        if wanted.demand.port_count:
            parts.append(sum(end - begin + 1 for begin, end in pool.total.ports) // wanted.demand.port_count)
        room[pool.agent.attribute(about.attribute) if about is not None else None] += min(parts)
    if about is None:
        return room.total()
    match about.operator:
        case Operator.UNIQUE:
            most = 1
        case Operator.MAX_PER:
            most = int(about.value)
        case _:
            known = {agent.attribute(about.attribute) for agent in cluster.agents.values()} - {None}
            most = 1 + min(room[value] for value in known)
    return sum(min(count, most) for value, count in room.items() if value is not None)


def _is_away(agent: Agent, for_ms: int, now: float) -> bool:
    window = agent.unavailability
    if window is None:
        return False
    now_ms = round(now * 1000)
    begins_before_the_end = window.start_unix_ms < now_ms + max(for_ms, 1)
    is_over = window.duration_ms != 0 and window.start_unix_ms + window.duration_ms <= now_ms
    return begins_before_the_end and not is_over


def _meets(agent: Agent, constraint: Constraint) -> bool:
    values = [
        value
        for name, value in (("hostname", agent.info.hostname), *agent.info.attributes)
        if name == constraint.attribute
    ]
    is_negative = constraint.operator in (Operator.NOT_EQUALS, Operator.UNLIKE)
    if not values:
        return is_negative
    if constraint.operator in (Operator.EQUALS, Operator.NOT_EQUALS):
        return (values[0] == constraint.value) is not is_negative
    return bool(re.fullmatch(constraint.value, values[0])) is not is_negative


def _can_meet(agent: Agent, constraint: Constraint) -> bool:
    """Say whether an agent meets a constraint when no task runs anywhere."""
    if constraint.operator > Operator.UNLIKE:
        return agent.attribute(constraint.attribute) is not None
    return _meets(agent, constraint)


def _is_for_others(wanted: Wanted, pool: Pool) -> bool:
    return pool.reservation is not None and not f"{wanted.client.role}/".startswith(f"{pool.reservation.role}/")


def _is_made_too_small(wanted: Wanted, pool: Pool) -> bool:
    """Say whether what is not reserved is too small for a task and the whole agent is not."""
    return pool.reservation is None and not holds(wanted, pool.total) and holds(wanted, pool.agent.info.resources)


def _is_refused(cluster: Cluster, wanted: Wanted, pool: Pool, now: float) -> bool:
    """Say whether what was refused covers what one task would take: its amounts and the lowest free ports."""
    free = [port for begin, end in _free(pool).ports for port in range(begin, end + 1)][: wanted.demand.port_count]
    for refusal in cluster.filters.of(pool, wanted.client):
        covered = {port for begin, end in refusal.resources.ports for port in range(begin, end + 1)}
        need = wanted.demand.resources
        covers = all(getattr(refusal.resources, name) >= getattr(need, name) for name in DIMENSIONS)
        if refusal.until > now and covers and covered.issuperset(free):
            return True
    return False


def _lets_one_more_in(cluster: Cluster, framework: Framework, group: str, agent: Agent, about: Constraint) -> bool:
    value = agent.attribute(about.attribute)
    if value is None:
        return False
    counts: Counter[str | None] = Counter()
    for task in framework.tasks.values():
        if not task.state.is_terminal and task.terms.group == group:
            counts[task.agent.attribute(about.attribute)] += 1
    for offer in framework.offers.values():
        for part, number in offer.parts:
            if part.demand.group == group:
                counts[offer.agent.attribute(about.attribute)] += number
    if about.operator is Operator.UNIQUE:
        return not counts[value]
    if about.operator is Operator.MAX_PER:
        return counts[value] < int(about.value)
    known = {other.attribute(about.attribute) for other in cluster.agents.values()} - {None}
    return counts[value] <= min(counts[each] for each in known)


def _free(pool: Pool) -> Resources:
    left = _free_of_tasks(pool)
    for offer in pool.offers.values():
        left = left - offer.resources
    return left


def _free_of_tasks(pool: Pool) -> Resources:
    left = pool.total
    for task in pool.agent.tasks.values():
        if not task.state.is_terminal and task.terms.reservation_id == pool.reservation_id:
            left = left - task.resources
    return left


def _held(cluster: Cluster, role: str) -> Counter[str]:
    held: Counter[str] = Counter()
    for framework in cluster.frameworks.values():
        alive = (task for task in framework.tasks.values() if not task.state.is_terminal and task.agent.is_counted)
        mine = [(task.role, task.resources) for task in alive]
        mine += [(offer.role, offer.resources) for offer in framework.offers.values() if not offer.is_optimistic]
        for theirs, resources in mine:
            if f"{theirs}/".startswith(f"{role}/"):
                held.update({name: getattr(resources, name) for name in DIMENSIONS})
    return held
