"""What an operator of a scenario sets."""

from __future__ import annotations

from runrig.errors import RunrigError
from runrig.ids import Role
from runrig.testing import Cluster
from runrig_master.core.events import QuotasAsked, RoleOffersAsked, WeightAsked
from runrig_master.core.quotas import Quota, RoleQuota


def set_quota(cluster: Cluster, role: str, *, limit: Quota | None = None, guarantee: Quota | None = None) -> None:
    """Set the quota of a role."""
    quota = RoleQuota(Role(role), limit, guarantee)
    _ask(cluster, lambda question: QuotasAsked(question, (quota,)))


def set_weight(cluster: Cluster, role: str, weight_millis: int) -> None:
    """Set the weight of a role."""
    _ask(cluster, lambda question: WeightAsked(question, Role(role), weight_millis))


def set_optimistic(cluster: Cluster, role: str) -> None:
    """Make the offers of a role optimistic."""
    _ask(cluster, lambda question: RoleOffersAsked(question, Role(role), True))


def _ask(cluster: Cluster, event: object) -> None:
    answers: list[RunrigError | None] = []
    cluster.leader.ask(event, answers.append)  # type: ignore[arg-type]
    cluster.settle()
    assert answers == [None], answers
