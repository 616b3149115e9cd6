"""Lay-away: a gang that waits claims the places in which it will be assembled; what becomes free there is kept for it.

In each role one gang lays away, the most senior that has waited for long enough. Size and time are bounded; a gang
whose time is over lets go and takes its place behind the others. A gang that would fit within the bounds if others laid
away less keeps its juniors from beginning. So neither a stream of small tasks nor other gangs starve it. A task that
needs most of an agent is a gang of one. What a limit forbids is not laid away.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from runrig.resources import Resources
from runrig_master.core.allocation.predicates import group_problem, holds_when_empty, over_limit, suitable
from runrig_master.core.claims import Claim, rank
from runrig_master.core.clients import Client, Wanted
from runrig_master.core.cluster import Cluster
from runrig_master.core.pools import Pool
from runrig_master.core.resources import Holding

Gang = list[Wanted]


def begin(cluster: Cluster, now: float) -> None:
    """Let the senior gang of each role lay away, and see again when those that do may start."""
    is_crowded = False
    for gang in sorted(_heads(cluster, now), key=lambda gang: rank(gang[0])):
        if any(wanted.claims for wanted in gang):
            _foresee(gang, now)
        elif _is_due(cluster, gang, now) and not is_crowded:
            is_crowded = not _lay_away(cluster, gang, now)


def end_overdue(cluster: Cluster, now: float) -> None:
    """End lay-aways whose time is over, and those that a limit forbids now: the next gang's turn has come."""
    if cluster.tree.has_limits and cluster.backlog.claims:
        for gang in [gang for gang in _gangs(cluster) if _is_beyond_limit(cluster, gang)]:
            for each in gang:
                cluster.release_claims(each)
    for wanted in [claim.wanted for claim in cluster.backlog.claims if claim.until <= now]:
        if wanted.claims:
            cluster.release_claims(wanted)
            wanted.seniority = now


def next_deadline(cluster: Cluster) -> float | None:
    """Return when a gang may begin to lay away, or must end."""
    dues = [claim.until for claim in cluster.backlog.claims]
    begins = (wanted.seniority + cluster.settings.layaway_after_s for wanted in cluster.backlog.long)
    dues += [begin for begin in begins if begin > cluster.backlog.looked_after_at]
    return min(dues, default=None)


def _is_due(cluster: Cluster, gang: Gang, now: float) -> bool:
    return gang[0].seniority + cluster.settings.layaway_after_s <= now


def _heads(cluster: Cluster, now: float) -> Iterator[Gang]:
    """Yield the gang of each role whose turn it is: the one that lays away, else the most senior that may."""
    by_role: dict[str, list[Gang]] = {}
    for gang in _gangs(cluster):
        if _is_beyond_limit(cluster, gang):
            continue
        by_role.setdefault(gang[0].client.role, []).append(gang)
    for gangs in by_role.values():
        laying_away = [gang for gang in gangs if any(wanted.claims for wanted in gang)]
        yield from laying_away or sorted(gangs, key=lambda gang: (not _is_due(cluster, gang, now), rank(gang[0])))[:1]


def _gangs(cluster: Cluster) -> list[Gang]:
    gangs: dict[tuple[Client, str], Gang] = {}
    for wanted in cluster.backlog.long:
        if wanted.client.takes_offers and not wanted.is_too_big:
            gangs.setdefault((wanted.client, wanted.demand.gang_id or wanted.demand.demand_id), []).append(wanted)
    return [gang for gang in gangs.values() if not (gang[0].demand.gang_id and any(each.offered for each in gang))]


def _is_beyond_limit(cluster: Cluster, gang: Gang) -> bool:
    """Say whether a limit forbids a role what a gang needs."""
    if not cluster.tree.has_limits:
        return False
    need = Holding()
    for wanted in gang:
        need.add(wanted.demand.resources, wanted.unmet if wanted.demand.gang_id else 1)
    return next(over_limit(cluster, gang[0].client, need.as_resources()), None) is not None


def _lay_away(cluster: Cluster, gang: Gang, now: float) -> bool:
    """Claim places for a gang if its size is within the bounds; False: it would be, if others laid away less."""
    backlog = cluster.backlog
    if gang[0].crowded_out_at == backlog.claims_ended:
        return False
    until = now + cluster.settings.layaway_s
    made: list[Claim] = []
    counted: list[tuple[Wanted, Pool]] = []
    is_whole = all(_claim_places(cluster, wanted, until, made, counted) for wanted in gang)
    for wanted, pool in counted:
        wanted.client.framework.groups.add(wanted.demand.group, pool.agent, -1)
    if not is_whole or not _is_within_bounds(cluster, made):
        if backlog.claims:
            gang[0].crowded_out_at = backlog.claims_ended
            return False
        for wanted in gang:
            wanted.is_too_big = True
        return True
    for claim in made:
        cluster.claim(claim)
    _foresee(gang, now)
    head = gang[0]
    cluster.note("gang lays away", framework=head.client.name, gang=head.demand.gang_id, agents=len(made))
    return True


def _is_within_bounds(cluster: Cluster, made: list[Claim]) -> bool:
    total, fraction = cluster.tree.total, cluster.settings.layaway_fraction
    claims = [*cluster.backlog.claims, *made]
    return (
        sum(claim.resources.cpu_millis for claim in claims) <= fraction * total.cpu_millis
        and sum(claim.resources.mem_mib for claim in claims) <= fraction * total.mem_mib
    )


def _claim_places(
    cluster: Cluster, wanted: Wanted, until: float, made: list[Claim], counted: list[tuple[Wanted, Pool]]
) -> bool:
    """Choose for each task of a demand the place where the least has still to become free."""
    bits = suitable(cluster, wanted) & cluster.pools.offerable
    heap: list[tuple[float, int, Pool, Claim]] = []
    for pool in cluster.pools.within(bits):
        if holds_when_empty(wanted, pool):
            claim = Claim(wanted, pool, until)
            heap.append((_missing(pool, claim, made), pool.slot, pool, claim))
    heapq.heapify(heap)
    left = wanted.unmet if wanted.demand.gang_id else 1
    while left and heap:
        _, slot, pool, claim = heapq.heappop(heap)
        if wanted.counting and group_problem(cluster, wanted, pool) is not None:
            continue
        claim.add(wanted.demand.resources)
        wanted.client.framework.groups.add(wanted.demand.group, pool.agent, 1)
        counted.append((wanted, pool))
        if claim.count == 1:
            made.append(claim)
        left -= 1
        if _holds_one_more(pool, claim, made):
            heapq.heappush(heap, (_missing(pool, claim, made), slot, pool, claim))
    return not left


def _missing(pool: Pool, claim: Claim, made: list[Claim]) -> float:
    """Return which part of a pool has still to become free for one task more."""
    need = _claimed(pool, claim, made) + claim.wanted.demand.resources
    parts = (
        (need.cpu_millis - pool.free.cpu_millis) / pool.total.cpu_millis if pool.total.cpu_millis else 0.0,
        (need.mem_mib - pool.free.mem_mib) / pool.total.mem_mib if pool.total.mem_mib else 0.0,
        (need.disk_mib - pool.free.disk_mib) / pool.total.disk_mib if pool.total.disk_mib else 0.0,
        float(need.gpus - pool.free.gpus),
    )
    return max(0.0, *parts)


def _holds_one_more(pool: Pool, claim: Claim, made: list[Claim]) -> bool:
    need = _claimed(pool, claim, made) + claim.wanted.demand.resources
    return pool.total.without_ports().contains(need.without_ports())


def _claimed(pool: Pool, claim: Claim, made: list[Claim]) -> Resources:
    """Return what is claimed of a pool already, without particular ports."""
    total = claim.resources.without_ports()
    for other in (*pool.claims, *(each for each in made if each.pool is pool)):
        if other is not claim:
            total = total + other.resources.without_ports()
    return total


def _foresee(gang: Gang, now: float) -> None:
    """Foresee when all that a gang has claimed will be free: until then others may use it."""
    claims = [claim for wanted in gang for claim in wanted.claims]
    start_at = max((_complete_at(claim, now) for claim in claims), default=now)
    for claim in claims:
        claim.start_at = min(start_at, claim.until)


def _complete_at(claim: Claim, now: float) -> float:
    """Return when what is claimed will be free if nothing more comes in; now: nobody can tell, so nothing is lent."""
    free = claim.pool.free.without_ports()
    need = claim.resources.without_ports()
    if free.contains(need):
        return now
    for end, resources in sorted(_expected(claim.pool, now), key=lambda each: each[0]):
        free = free + resources.without_ports()
        if free.contains(need):
            return max(now, end)
    return now


def _expected(pool: Pool, now: float) -> Iterator[tuple[float, Resources]]:
    """Yield when what of a pool is expected to be free, as tasks promise, and the demand that offers were cut for.

    A task that promises nothing is expected to run as long again as it has. So what is lent meanwhile puts a gang off
    by no more than it has waited for such tasks.
    """
    for task in pool.agent.tasks.values():
        if task.pool is pool and not task.state.is_terminal:
            launched_at, promise_ms = task.launched_at_ms / 1000, task.terms.expected_duration_ms
            yield launched_at + promise_ms / 1000 if promise_ms else max(now, 2 * now - launched_at), task.resources
    for offer in pool.offers.values():
        promise_ms = max((wanted.demand.expected_duration_ms for wanted, _ in offer.parts), default=0)
        yield now + promise_ms / 1000, offer.resources
