"""What operators set of roles: weights, quotas, optimistic offers. It is durable before it is answered.

A limit that is set below what stands in offers takes back of them what is too much, the newest first; what runs stays
until it ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from runrig.errors import InvalidInput, RunrigError
from runrig.ids import Role, checked_role
from runrig.offers import RescindReason
from runrig_master.core.cluster import Cluster
from runrig_master.core.commands import Forget, Persist, RoleRecord
from runrig_master.core.events import QuotasAsked, RoleEvent, RoleOffersAsked, WeightAsked
from runrig_master.core.quotas import DIMENSIONS, RoleQuota, ancestors, check_quotas, is_within
from runrig_master.core.resources import Holding
from runrig_master.core.state import OutstandingOffer, Presence

MAX_WEIGHT_MILLIS = 1_000_000_000


def asked(cluster: Cluster, event: RoleEvent) -> RunrigError | None:
    """Set what was asked, all of it or nothing; return why not."""
    try:
        records = _records(cluster, event)
    except InvalidInput as error:
        return error
    for record in records:
        _keep(cluster, record)
    if isinstance(event, QuotasAsked):
        keep_limits(cluster, [quota.role for quota in event.quotas])
    cluster.mark_all_hungry()
    return None


def _records(cluster: Cluster, event: RoleEvent) -> list[RoleRecord]:
    if isinstance(event, QuotasAsked):
        standing = {
            role: RoleQuota(role, record.limit, record.guarantee) for role, record in cluster.role_settings.items()
        }
        check_quotas(event.quotas, standing, _capacity(cluster), event.is_forced)
        return [_with_quota(_standing(cluster, quota.role), quota) for quota in event.quotas]
    record = _standing(cluster, checked_role("role", event.role))
    match event:
        case WeightAsked():
            if not 1 <= event.weight_millis <= MAX_WEIGHT_MILLIS:
                raise InvalidInput("weight_millis", event.weight_millis, f"1 to {MAX_WEIGHT_MILLIS}")
            return [replace(record, weight_millis=event.weight_millis)]
        case RoleOffersAsked():
            return [replace(record, is_optimistic=event.is_optimistic)]


def _standing(cluster: Cluster, role: Role) -> RoleRecord:
    return cluster.role_settings.get(role) or RoleRecord(role)


def _with_quota(record: RoleRecord, quota: RoleQuota) -> RoleRecord:
    limit, guarantee = (
        item if item is not None and item.amounts() else None for item in (quota.limit, quota.guarantee)
    )
    return replace(record, limit=limit, guarantee=guarantee)


def _keep(cluster: Cluster, record: RoleRecord) -> None:
    """Remember a role's settings; those that are all defaults need no memory."""
    was_set = record.role in cluster.role_settings
    cluster.set_role(record)
    if record.role in cluster.role_settings:
        cluster.do(Persist((record,)))
    elif was_set:
        cluster.do(Persist((Forget(role=record.role),)))
    cluster.touch("role", record.role)


def _capacity(cluster: Cluster) -> dict[str, int]:
    """Return what all agents have that are here or expected back."""
    total = Holding()
    for agent in cluster.agents.values():
        if agent.presence not in (Presence.UNREACHABLE, Presence.GONE):
            total.add(agent.info.resources)
    return _amounts(total)


def _amounts(holding: Holding) -> dict[str, int]:
    return {name: getattr(holding, name) for name in DIMENSIONS}


def keep_limits(cluster: Cluster, roles: Iterable[Role]) -> None:
    """Take back offers where one of `roles` or one above holds too much: a limit is new, or tasks have come back."""
    if not cluster.tree.has_limits:
        return
    for role in dict.fromkeys(each for below in roles for each in (below, *ancestors(below))):
        record = cluster.role_settings.get(role)
        if record is not None and record.limit is not None:
            over = _over(cluster, role, record.limit.amounts())
            if over:
                cluster.rescind(_newest_that_free(cluster, role, over), RescindReason.QUOTA_CHANGED)


def _over(cluster: Cluster, role: Role, limit: dict[str, int]) -> dict[str, int]:
    """Return by how much a role with all below it holds more than its limit."""
    node = cluster.tree.get(role)
    held = _amounts(node.holding if node is not None else Holding())
    return {name: held[name] - most for name, most in limit.items() if held[name] > most}


def _newest_that_free(cluster: Cluster, role: Role, over: dict[str, int]) -> list[OutstandingOffer]:
    """Return the newest offers of a role and those below it that together give back what is over, or all that help."""
    chosen = []
    for offer in reversed(cluster.offers.values()):
        helps = {name: amount for name in over if (amount := getattr(offer.resources, name))}
        if helps and is_within(offer.role, role):
            chosen.append(offer)
            left = {name: over[name] - helps.get(name, 0) for name in over}
            over = {name: amount for name, amount in left.items() if amount > 0}
        if not over:
            break
    return chosen
