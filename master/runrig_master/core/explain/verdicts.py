"""Whether a demand could ever be met, whoever ends; and if not, what forbids it."""

from __future__ import annotations

from runrig_master.core.allocation.predicates import (
    SIZE,
    Kind,
    Predicate,
    allows,
    holds_when_empty,
    is_kept_for_others,
    lasting,
)
from runrig_master.core.clients import Wanted
from runrig_master.core.cluster import Cluster
from runrig_master.core.explain.details import of_step
from runrig_master.core.explain.funnel import present, with_runtimes
from runrig_master.core.explain.gangs import members_of, most_when_empty
from runrig_master.core.explain.words import amounts_text, counted, task_words
from runrig_master.core.pools import Pool


def impossibility(cluster: Cluster, wanted: Wanted, now: float) -> str | None:
    """Say why a demand would not fit even an empty cluster, or None: it would."""
    return _of_agents(cluster, wanted, now) or _of_limits(cluster, wanted) or _of_gang(cluster, wanted)


def _of_agents(cluster: Cluster, wanted: Wanted, now: float) -> str | None:
    left = present(cluster)
    if not left:
        return "the cluster has no agents"
    left = with_runtimes(cluster, left)
    if not left:
        return "no agent has a runtime"
    for kind, constraint, allowed in lasting(cluster, wanted):
        if not left & allowed:
            return _nobody(cluster, wanted, Predicate(kind, constraint), cluster.pools.listed(left))
        left &= allowed
    pools = cluster.pools.listed(left)
    if any(holds_when_empty(wanted, pool) and _allows_a_first(cluster, wanted, pool) for pool in pools):
        return None
    for constraint in wanted.counting:
        possible = [pool for pool in pools if allows(cluster, constraint, pool, {})]
        if not possible:
            return _nobody(cluster, wanted, Predicate(Kind.GROUP, constraint), pools)
        pools = possible
    if all(is_kept_for_others(wanted, pool) for pool in pools):
        return "what is large enough is reserved for other roles"
    return f"no agent is large enough for {task_words(wanted)}: {of_step(cluster, wanted, SIZE, pools, now)}"


def _allows_a_first(cluster: Cluster, wanted: Wanted, pool: Pool) -> bool:
    return all(allows(cluster, constraint, pool, {}) for constraint in wanted.counting)


def _nobody(cluster: Cluster, wanted: Wanted, predicate: Predicate, left: list[Pool]) -> str:
    count = counted(len({pool.agent.id for pool in left}), "agent")
    match predicate.kind:
        case Kind.RUNTIME:
            return f"none of {count} has the {wanted.demand.runtime.name.lower()} runtime"
        case Kind.RESERVED if wanted.demand.reservation_id:
            return f"none of {count} has reservation {wanted.demand.reservation_id} for it, which alone will do"
        case Kind.RESERVED:
            return "all that would suit is reserved for other roles"
        case _:
            is_first = len(left) == len(cluster.pools.listed(present(cluster)))
            return f"none of {count} {'meets' if is_first else 'left meets'} {predicate.name}"


def _of_limits(cluster: Cluster, wanted: Wanted) -> str | None:
    need = wanted.demand.resources
    for node in cluster.tree.path(wanted.client.node):
        for name, most in (node.limit.amounts() if node.limit is not None else {}).items():
            if getattr(need, name) > most:
                asked = amounts_text({name: getattr(need, name)})
                return f"one task asks for {asked}, and the limit of role {node.role} is {amounts_text({name: most})}"
    return None


def _of_gang(cluster: Cluster, wanted: Wanted) -> str | None:
    """Say which demand of a gang an empty cluster cannot hold all of; what they need together is not looked at."""
    if not wanted.demand.gang_id:
        return None
    for member in members_of(wanted):
        most = most_when_empty(cluster, member)
        if most < member.count:
            name = member.demand.demand_id
            return f"of {member.count} tasks of {name} in gang {member.demand.gang_id} an empty cluster holds {most}"
    return None
