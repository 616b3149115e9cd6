"""Gangs: demands that start all or not at all, placed as one step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runrig_master.core.allocation.places import Places
from runrig_master.core.allocation.predicates import suitable
from runrig_master.core.clients import Client, Wanted
from runrig_master.core.pools import Pool

if TYPE_CHECKING:
    from runrig_master.core.allocation.passes import Pass, Take


def members(client: Client, gang_id: str) -> list[Wanted]:
    """Return the demands of a gang, in the order in which they stand in the queue."""
    return [wanted for wanted in client.queue if wanted.demand.gang_id == gang_id]


def place(pass_: Pass, wanted: Wanted) -> bool:
    """Take places for all of a gang; False: they do not all fit, and nothing is taken."""
    gang = members(wanted.client, wanted.demand.gang_id)
    for member in gang:
        member.spent = pass_.round
    is_new = any(member.is_new for member in gang)
    if not is_new and not any(pass_.may_fit(member) for member in gang):
        return False
    if any(member.offered for member in gang) or any(other.is_infeasible for other in _all_of(wanted)):
        return False
    taken: list[tuple[Wanted, Pool, Take]] = []
    has_rebalanced = pass_.has_rebalanced
    for member in gang:
        if not _place_all(pass_, member, taken):
            for each, pool, take in reversed(taken):
                pass_.give_back(each, pool, take)
            pass_.has_rebalanced = has_rebalanced  # what was given back has eased nobody's constraint
            if is_new and not taken:
                pass_.judge(member)
            return False
    return True


def _all_of(wanted: Wanted) -> list[Wanted]:
    gang_id = wanted.demand.gang_id
    return [each for each in wanted.client.wanted.values() if each.demand.gang_id == gang_id]


def _place_all(pass_: Pass, member: Wanted, taken: list[tuple[Wanted, Pool, Take]]) -> bool:
    cluster = pass_.cluster
    candidates = pass_.scope(member.client, True) & suitable(cluster, member)
    places = Places(cluster, member, candidates, pass_.now)
    for _ in range(member.unmet):
        pool = None if pass_.is_beyond_quota(member) else places.best()
        if pool is None:
            return False
        taken.append((member, pool, pass_.take_task(member, pool)))
    return True
