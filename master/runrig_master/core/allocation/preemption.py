"""Preemption: demand of a higher priority takes the place of tasks of a lower one, with notice and with little waste.

The victims' frameworks are asked by inverse offer and may end other tasks on the same agent instead. At the deadline
the master kills what is still in the way. What becomes free is claimed for the demand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from runrig.ids import AgentId
from runrig.offers import InverseOfferReason
from runrig.resources import NOTHING, Resources
from runrig_master.core.allocation.outlook import Outlook, is_leaving, leaving, total
from runrig_master.core.allocation.predicates import (
    group_problem,
    holds_when_empty,
    is_away,
    is_refused,
    quota_problem,
    rest,
    suitable,
)
from runrig_master.core.backlog import VictimGang
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
NOBODY = -(2**31) - 1
"""Below each priority: the highest of no victims."""


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
    urgent = [
        wanted
        for wanted in cluster.backlog.waiting
        if wanted.demand.priority > lowest
        and wanted.seniority + cluster.settings.preempt_after_s <= now
        and wanted.client.takes_offers
    ]
    if not urgent:
        return
    outlook = Outlook.of(cluster)
    for wanted in sorted(urgent, key=rank):
        if wanted.demand.gang_id and wanted.claims:
            _make_room_for_gang(cluster, wanted, outlook, now)
        elif not wanted.demand.gang_id:
            _make_room(cluster, wanted, outlook, now)


def _make_room(cluster: Cluster, wanted: Wanted, outlook: Outlook, now: float) -> None:
    missing = wanted.unmet - sum(claim.count for claim in wanted.claims)
    while missing > 0 and not outlook.exceeds_limit(wanted) and quota_problem(cluster, wanted) is None:
        sacrifice = min(_sacrifices(cluster, wanted, outlook, now), default=None)
        if sacrifice is None or len(sacrifice.victims) > _budget(cluster, now):
            return
        pool = cluster.pools[sacrifice.slot]
        claim = Claim(wanted, pool, now + cluster.settings.preemption_notice_s + KILL_MARGIN_S)
        claim.add(wanted.demand.resources)
        cluster.claim(claim)
        outlook.gains(wanted, wanted.demand.resources)
        _ask(cluster, sacrifice.victims, outlook, now)
        missing -= 1


def _make_room_for_gang(cluster: Cluster, wanted: Wanted, outlook: Outlook, now: float) -> None:
    """Hasten a lay-away: what a gang has claimed is taken from lower priorities, all that it still lacks or nothing."""
    members = [each for each in wanted.client.wanted.values() if each.is_with(wanted)]
    trial = outlook.copy()
    chosen: dict[Task, None] = {}
    gained = NOTHING
    for pool in {claim.pool: None for each in members for claim in each.claims}:
        claimed = total(claim.resources for claim in pool.claims if claim.wanted.is_with(wanted))
        coming = leaving(cluster, pool) + total(task.resources for task in chosen if task.pool is pool)
        missing = rest(claimed, pool.free + coming)
        if _is_nothing(missing):
            continue
        victims = _enough(cluster, wanted, pool, missing, trial)
        if not victims:
            return
        trial.gains(wanted, missing)
        gained = gained + missing.without_ports()
        for task in victims:
            if task not in chosen:
                trial.loses(task)
        chosen.update(dict.fromkeys(victims))
    if len(chosen) <= _budget(cluster, now):
        outlook.gains(wanted, gained)
        _ask(cluster, tuple(chosen), outlook, now)


def _sacrifices(cluster: Cluster, wanted: Wanted, outlook: Outlook, now: float) -> Iterator[_Sacrifice]:
    bits = suitable(cluster, wanted) & cluster.pools.offerable
    pools = (pool for pool in cluster.pools.within(bits) if pool.used.cpu_millis or pool.used.mem_mib)
    need = wanted.demand.resources.without_ports()
    for pool in islice(pools, cluster.settings.preemption_pools):
        if not holds_when_empty(wanted, pool) or is_away(wanted, pool, now) or is_refused(cluster, wanted, pool, now):
            continue
        if wanted.counting and group_problem(cluster, wanted, pool) is not None:
            continue
        claimed = total(claim.resources for claim in pool.claims)
        if _is_nothing(rest(need, rest(pool.free, claimed))):
            continue  # it is not for want of room that the demand has no place here
        missing = rest(need, rest(pool.free + leaving(cluster, pool), claimed))
        if _is_nothing(missing):
            yield _Sacrifice(NOBODY, 0.0, pool.slot, ())
        elif victims := _enough(cluster, wanted, pool, missing, outlook):
            yield _Sacrifice(
                max(task.terms.priority for task in victims),
                sum(_waste(task, now) for task in victims),
                pool.slot,
                victims,
            )


# Who may be asked


def _victims(cluster: Cluster, wanted: Wanted, pool: Pool, outlook: Outlook) -> list[Task]:
    """Return the tasks of a pool that may be ended for a demand, those to go first at the front."""
    victims = [
        task
        for task in pool.agent.tasks.values()
        if task.pool is pool and _may_be_asked(cluster, task, wanted) and outlook.must_yield(task, wanted)
    ]
    return sorted(victims, key=lambda task: (task.terms.priority, -task.launched_at_ms, task.id))


def _may_be_asked(cluster: Cluster, task: Task, wanted: Wanted) -> bool:
    """Say whether a task has a lower priority than a demand, and neither has ended nor is about to."""
    is_lower = task.terms.priority < wanted.demand.priority
    return is_lower and not task.state.is_terminal and not is_leaving(cluster, task)


def _enough(cluster: Cluster, wanted: Wanted, pool: Pool, missing: Resources, outlook: Outlook) -> tuple[Task, ...]:
    """Return victims that together free what is missing of a pool, with all of their gangs; nothing: they do not.

    Who turns out to be needless beside those that are to go later is left alone.
    """
    chosen: dict[Task, None] = {}
    left = missing
    for task in _victims(cluster, wanted, pool, outlook):
        if _is_nothing(left):
            break
        gang = _with_its_gang(task)
        if task not in chosen and all(_may_be_asked(cluster, each, wanted) for each in gang):
            chosen.update(dict.fromkeys(gang))
            left = rest(left, total(each.resources for each in gang if each.pool is pool))
    if not _is_nothing(left):
        return ()
    for task in [task for task in chosen if not task.terms.gang_id]:
        others = total(each.resources for each in chosen if each is not task and each.pool is pool)
        if _is_nothing(rest(missing, others)):
            del chosen[task]
    return tuple(chosen) if outlook.leaves_guarantees(chosen) else ()


def _with_its_gang(task: Task) -> list[Task]:
    """Return a task alone, or all of its gang that have not ended."""
    if not task.terms.gang_id:
        return [task]
    gang = _gang_of(task)
    return [each for each in task.framework.tasks.values() if _gang_of(each) == gang and not each.state.is_terminal]


def _gang_of(task: Task) -> VictimGang:
    return (task.framework, task.role, task.terms.gang_id)


def _waste(task: Task, now: float) -> float:
    run_s = max(0.0, now - (task.started_at_ms or task.launched_at_ms) / 1000)
    return run_s * task.resources.cpu_millis / 1000


def _is_nothing(missing: Resources) -> bool:
    return not (missing.cpu_millis or missing.mem_mib or missing.disk_mib or missing.gpus or missing.custom)


# Asking, and calling off


def _ask(cluster: Cluster, victims: tuple[Task, ...], outlook: Outlook, now: float) -> None:
    if not victims:
        return
    deadline = now + cluster.settings.preemption_notice_s
    groups: dict[tuple[Framework, AgentId], list[Task]] = {}
    for task in victims:
        groups.setdefault((task.framework, task.agent.id), []).append(task)
        outlook.loses(task)
    for (framework, _), tasks in groups.items():
        cluster.inverse_offers.make(
            InverseOfferReason.PREEMPTION, framework, tasks[0].agent, tasks, now, deadline=deadline
        )
    cluster.backlog.victim_gangs.update(_gang_of(task) for task in victims if task.terms.gang_id)
    cluster.backlog.preempted_at.extend([now] * len(victims))
    cluster.note("tasks are preempted", tasks=[task.id for task in victims[:20]], count=len(victims), deadline=deadline)


def _budget(cluster: Cluster, now: float) -> int:
    """Return how many more tasks may be preempted within this minute."""
    recent = cluster.backlog.preempted_at
    while recent and recent[0] <= now - MINUTE_S:
        recent.popleft()
    return cluster.settings.preemptions_per_minute - len(recent)


def call_off(cluster: Cluster) -> None:
    """Call off what is not needed any more: the demand has its place, or wants none.

    A gang is not called off in part: neither while any of it is needed, nor once any of it has ended.
    """
    asked = [each for each in cluster.inverse_offers.standing.values() if each.reason is InverseOfferReason.PREEMPTION]
    if not asked:
        cluster.backlog.victim_gangs.clear()
        return
    needed = {inverse for inverse in asked if _is_needed(inverse)}
    kept = {gang for inverse in needed for gang in _gangs_in(inverse)}
    left = Counter(gang for inverse in asked for gang in _gangs_in(inverse))
    whole = cluster.backlog.victim_gangs
    kept.update(gang for gang, count in left.items() if count < whole[gang])
    cluster.backlog.victim_gangs = Counter({gang: whole[gang] for gang in left})
    for inverse in asked:
        if inverse not in needed and kept.isdisjoint(_gangs_in(inverse)):
            cluster.inverse_offers.end(inverse)


def _gangs_in(inverse: OutstandingInverseOffer) -> list[VictimGang]:
    """Return the gang of each task of an inverse offer that has one."""
    return [_gang_of(task) for task in inverse.tasks.values() if task.terms.gang_id]


def _is_needed(inverse: OutstandingInverseOffer) -> bool:
    """Say whether claims on the agent still lack something."""
    return any(
        not pool.free.without_ports().contains(total(claim.resources for claim in pool.claims))
        for pool in inverse.agent.pools.values()
    )


def next_deadline(cluster: Cluster) -> float | None:
    """Return when demand that waits may preempt, or may try again."""
    lowest = cluster.backlog.lowest_priority()
    if lowest is None:
        return None
    again, after_s = cluster.backlog.looked_after_at + RETRY_S, cluster.settings.preempt_after_s
    dues = (wanted.seniority + after_s for wanted in cluster.backlog.waiting if wanted.demand.priority > lowest)
    return min((max(due, again) if due <= cluster.backlog.looked_after_at else due for due in dues), default=None)
