"""Preemption: demand of a higher priority takes the place of tasks of a lower one, with notice and with little waste.

The victims' frameworks are asked by inverse offer and may end other tasks on the same agent instead. At the deadline
the master kills what is still in the way. What becomes free is claimed for the demand.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from runrig.offers import InverseOfferReason
from runrig.resources import NOTHING, Resources
from runrig_master.core.allocation.predicates import (
    group_problem,
    holds_when_empty,
    is_away,
    quota_problem,
    rest,
    suitable,
)
from runrig_master.core.claims import Claim, rank
from runrig_master.core.clients import Wanted
from runrig_master.core.cluster import Cluster
from runrig_master.core.inverse_offers import OutstandingInverseOffer
from runrig_master.core.pools import Pool
from runrig_master.core.state import Framework, Task

MINUTE_S = 60.0
RETRY_S = 1.0
"""Demand for which no victims were found looks again after this long."""
KILL_MARGIN_S = 60.0
"""How long after the deadline a claim waits for victims whose own grace is long."""


class _Sacrifice(NamedTuple):
    """What it would cost to make room for one task in a pool; the smallest is best."""

    priority: int
    """The highest of the victims'."""
    waste: float
    """Run time times cpu, in cpu-seconds."""
    slot: int
    victims: tuple[Task, ...]


def choose_victims(cluster: Cluster, now: float) -> None:
    """Ask for the place of lower priorities on behalf of demand that has waited for long enough."""
    lowest = cluster.backlog.lowest_priority()
    if lowest is None:
        return
    urgent = [wanted for wanted in cluster.backlog.waiting if wanted.demand.priority > lowest]
    for wanted in sorted(urgent, key=rank):
        if wanted.seniority + cluster.settings.preempt_after_s > now or not wanted.client.takes_offers:
            continue
        if wanted.demand.gang_id:
            _make_room_for_gang(cluster, wanted, now)
        else:
            _make_room(cluster, wanted, now)


def _make_room(cluster: Cluster, wanted: Wanted, now: float) -> None:
    missing = wanted.unmet - sum(claim.count for claim in wanted.claims)
    while missing > 0 and _budget(cluster, now) > 0 and quota_problem(cluster, wanted) is None:
        sacrifice = min(_sacrifices(cluster, wanted, now), default=None)
        if sacrifice is None or len(sacrifice.victims) > _budget(cluster, now):
            return
        pool = cluster.pools[sacrifice.slot]
        claim = Claim(wanted, pool, now + cluster.settings.preemption_notice_s + KILL_MARGIN_S)
        claim.add(wanted.demand.resources)
        cluster.claim(claim)
        _ask(cluster, sacrifice.victims, now)
        missing -= 1


def _make_room_for_gang(cluster: Cluster, wanted: Wanted, now: float) -> None:
    """Hasten a lay-away: what a gang has claimed is taken from lower priorities."""
    for claim in wanted.claims:
        missing = rest(claim.resources.without_ports(), claim.pool.free)
        missing = rest(missing, _asked_back(cluster, claim.pool))
        if not (missing.cpu_millis or missing.mem_mib or missing.disk_mib or missing.gpus):
            continue
        victims = _enough(_victims(cluster, wanted, claim.pool), missing)
        if victims and len(victims) <= _budget(cluster, now):
            _ask(cluster, victims, now)


def _sacrifices(cluster: Cluster, wanted: Wanted, now: float) -> Iterator[_Sacrifice]:
    bits = suitable(cluster, wanted) & cluster.pools.offerable
    pools = (pool for pool in cluster.pools.within(bits) if pool.used.cpu_millis or pool.used.mem_mib)
    for pool in islice(pools, cluster.settings.preemption_pools):
        if not holds_when_empty(wanted, pool) or is_away(wanted, pool, now):
            continue
        if wanted.counting and group_problem(cluster, wanted, pool) is not None:
            continue
        claimed = NOTHING
        for claim in pool.claims:
            claimed = claimed + claim.resources.without_ports()
        free = rest(pool.free, claimed)
        missing = rest(wanted.demand.resources.without_ports(), free)
        if victims := _enough(_victims(cluster, wanted, pool), missing):
            yield _Sacrifice(
                max(task.terms.priority for task in victims),
                sum(_waste(task, now) for task in victims),
                pool.slot,
                victims,
            )


def _victims(cluster: Cluster, wanted: Wanted, pool: Pool) -> list[Task]:
    """Return the tasks of a pool that may be ended for a demand, those to go first at the front."""
    victims = [
        task
        for task in pool.agent.tasks.values()
        if task.pool is pool
        and not task.state.is_terminal
        and task.kill_reason is None
        and task.terms.priority < wanted.demand.priority
        and not cluster.inverse_offers.asks_for(task, InverseOfferReason.PREEMPTION)
        and _must_yield(cluster, task, wanted)
    ]
    return sorted(victims, key=lambda task: (task.terms.priority, -task.launched_at_ms, task.id))


def _must_yield(cluster: Cluster, task: Task, wanted: Wanted) -> bool:
    """Say whether the task's role has more than the demand's: compared where their paths in the tree part."""
    if task.role == wanted.client.role:
        return True
    mine = list(cluster.tree.path(wanted.client.node))[::-1]
    node = cluster.tree.get(task.role)
    assert node is not None
    theirs = list(cluster.tree.path(node))[::-1]
    if any(each.guarantee is not None and each.satisfaction() <= 1.0 for each in theirs):
        return False
    if any(each.lacks() for each in mine):
        return True
    total = cluster.tree.total
    for one, other in zip(mine, theirs, strict=False):
        if one is not other:
            return other.share(total) > one.share(total)
    return len(theirs) > len(mine) or theirs[-1].share(total) > 0


def _enough(candidates: list[Task], missing: Resources) -> tuple[Task, ...]:
    """Return the first victims that together free what is missing, with all of their gangs; nothing: they do not."""
    chosen: dict[Task, None] = {}
    for task in candidates:
        if not (missing.cpu_millis or missing.mem_mib or missing.disk_mib or missing.gpus or missing.custom):
            break
        for each in _with_its_gang(task):
            chosen[each] = None
        missing = rest(missing, task.resources)
    if missing.cpu_millis or missing.mem_mib or missing.disk_mib or missing.gpus or missing.custom:
        return ()
    return tuple(chosen)


def _with_its_gang(task: Task) -> list[Task]:
    gang_id = task.terms.gang_id
    if not gang_id:
        return [task]
    return [
        each
        for each in task.framework.tasks.values()
        if each.terms.gang_id == gang_id and each.role == task.role and not each.state.is_terminal
    ]


def _waste(task: Task, now: float) -> float:
    run_s = max(0.0, now - (task.started_at_ms or task.launched_at_ms) / 1000)
    return run_s * task.resources.cpu_millis / 1000


def _asked_back(cluster: Cluster, pool: Pool) -> Resources:
    total = NOTHING
    for inverse in cluster.inverse_offers.of_agent(pool.agent.id, InverseOfferReason.PREEMPTION):
        for task in inverse.tasks.values():
            total = total + task.resources.without_ports()
    return total


def _ask(cluster: Cluster, victims: tuple[Task, ...], now: float) -> None:
    deadline = now + cluster.settings.preemption_notice_s
    groups: dict[tuple[Framework, str], list[Task]] = {}
    for task in victims:
        groups.setdefault((task.framework, task.agent.id), []).append(task)
    for (framework, _), tasks in groups.items():
        cluster.inverse_offers.make(
            InverseOfferReason.PREEMPTION, framework, tasks[0].agent, tasks, now, deadline=deadline
        )
    cluster.backlog.preempted_at.extend([now] * len(victims))
    cluster.note("tasks are preempted", tasks=[task.id for task in victims[:20]], count=len(victims), deadline=deadline)


def _budget(cluster: Cluster, now: float) -> int:
    """Return how many more tasks may be preempted within this minute."""
    recent = cluster.backlog.preempted_at
    while recent and recent[0] <= now - MINUTE_S:
        recent.popleft()
    return cluster.settings.preemptions_per_minute - len(recent)


def call_off(cluster: Cluster) -> None:
    """Call off what is not needed any more: the demand has its place, or wants none."""
    for inverse in [*cluster.inverse_offers.standing.values()]:
        if inverse.reason is InverseOfferReason.PREEMPTION and not _is_needed(inverse):
            cluster.inverse_offers.end(inverse)


def _is_needed(inverse: OutstandingInverseOffer) -> bool:
    """Say whether claims on the agent still lack something."""
    for pool in inverse.agent.pools.values():
        claimed = NOTHING
        for claim in pool.claims:
            claimed = claimed + claim.resources.without_ports()
        if not pool.free.without_ports().contains(claimed):
            return True
    return False


def next_deadline(cluster: Cluster) -> float | None:
    """Return when demand that waits may preempt, or may try again."""
    lowest = cluster.backlog.lowest_priority()
    if lowest is None:
        return None
    again, after_s = cluster.backlog.looked_after_at + RETRY_S, cluster.settings.preempt_after_s
    dues = (wanted.seniority + after_s for wanted in cluster.backlog.waiting if wanted.demand.priority > lowest)
    return min((max(due, again) if due <= cluster.backlog.looked_after_at else due for due in dues), default=None)
