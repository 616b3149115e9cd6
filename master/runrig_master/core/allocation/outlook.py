"""What roles will hold when all that is asked back has been given, and all that is claimed has been taken.

Who must yield to whom is decided by these holdings, not by those of now: else a demand of many tasks would take the
place of more than it may while the first of its victims are still leaving.
"""

from __future__ import annotations

from collections.abc import Iterable

from runrig.offers import InverseOfferReason
from runrig.resources import NOTHING, Resources
from runrig.tasks import Reason
from runrig_master.core.allocation.predicates import rest
from runrig_master.core.clients import Wanted
from runrig_master.core.cluster import Cluster
from runrig_master.core.pools import Pool
from runrig_master.core.resources import Holding
from runrig_master.core.roles import RoleNode
from runrig_master.core.state import Task


class Outlook:
    """The holdings of roles as they will be; those that do not change are read from the tree."""

    def __init__(self, cluster: Cluster, changed: dict[RoleNode, Holding]) -> None:
        self._cluster = cluster
        self._changed = changed

    @classmethod
    def of(cls, cluster: Cluster) -> Outlook:
        """Foresee what follows from what is claimed and asked back now."""
        outlook = cls(cluster, {})
        for claim in cluster.backlog.claims:
            coming = claim.pool.free + leaving(cluster, claim.pool)
            outlook.gains(claim.wanted, rest(claim.resources, rest(claim.resources, coming)))
        for task in outlook._all_that_leave():
            outlook.loses(task)
        return outlook

    def copy(self) -> Outlook:
        """Return one that can be changed by itself."""
        return Outlook(self._cluster, {node: _copy(held) for node, held in self._changed.items()})

    def _all_that_leave(self) -> list[Task]:
        """Return who has been asked to end for a higher priority, and who is being killed for one."""
        standing = self._cluster.inverse_offers.standing.values()
        asked = [each for each in standing if each.reason is InverseOfferReason.PREEMPTION]
        found = {task: None for each in asked for task in each.tasks.values()}
        for agent in {claim.pool.agent: None for claim in self._cluster.backlog.claims}:
            killed = (task for task in agent.tasks.values() if task.kill_reason is Reason.PREEMPTED)
            found.update((task, None) for task in killed)
        return [task for task in found if not task.state.is_terminal and task.agent.is_counted]

    def gains(self, wanted: Wanted, resources: Resources) -> None:
        """Foresee that a role will hold more."""
        for node in self._cluster.tree.path(wanted.client.node):
            self._changeable(node).add(resources)

    def loses(self, task: Task) -> None:
        """Foresee that a task will have ended."""
        if task.agent.is_counted:
            for node in self._path(task):
                self._changeable(node).remove(task.resources)

    def must_yield(self, task: Task, wanted: Wanted) -> bool:
        """Say whether the task's role has more than the demand's: compared where their paths in the tree part."""
        if task.role == wanted.client.role:
            return True
        if not self.leaves_guarantees((task,)):
            return False
        mine = list(self._cluster.tree.path(wanted.client.node))[::-1]
        theirs = self._path(task)[::-1]
        if any(node.guarantee is not None and node.guarantee.exceeds(self._held(node)) for node in mine):
            return True
        for one, other in zip(mine, theirs, strict=False):
            if one is not other:
                return self._share(other) > self._share(one)
        return len(theirs) > len(mine) or self._share(theirs[-1]) > 0

    def leaves_guarantees(self, victims: Iterable[Task]) -> bool:
        """Say whether all roles have what they are guaranteed even when these have ended."""
        left: dict[RoleNode, Holding] = {}
        for task in victims:
            for node in self._path(task) if task.agent.is_counted else ():
                if node.guarantee is not None:
                    left.setdefault(node, _copy(self._held(node))).remove(task.resources)
        return not any(node.guarantee is not None and node.guarantee.exceeds(held) for node, held in left.items())

    def exceeds_limit(self, wanted: Wanted) -> bool:
        """Say whether one more task of a demand would exceed a limit above it."""
        need = wanted.demand.resources
        path = self._cluster.tree.path(wanted.client.node)
        return any(node.limit is not None and not node.limit.admits(self._held(node), need) for node in path)

    def _path(self, task: Task) -> list[RoleNode]:
        node = self._cluster.tree.get(task.role)
        return list(self._cluster.tree.path(node)) if node is not None else []

    def _held(self, node: RoleNode) -> Holding:
        return self._changed.get(node, node.holding)

    def _changeable(self, node: RoleNode) -> Holding:
        held = self._changed.get(node)
        if held is None:
            held = self._changed[node] = _copy(node.holding)
        return held

    def _share(self, node: RoleNode) -> float:
        return self._held(node).dominant_share(self._cluster.tree.total, node.weight_millis)


def is_leaving(cluster: Cluster, task: Task) -> bool:
    """Say whether a task is told to end, or asked for a higher priority."""
    return task.kill_reason is not None or cluster.inverse_offers.asks_for(task, InverseOfferReason.PREEMPTION)


def leaving(cluster: Cluster, pool: Pool) -> Resources:
    """Return what of a pool those use that are leaving."""
    mine = (task for task in pool.agent.tasks.values() if task.pool is pool and not task.state.is_terminal)
    return total(task.resources for task in mine if is_leaving(cluster, task))


def total(parts: Iterable[Resources]) -> Resources:
    """Add up, without particular ports."""
    sum_ = NOTHING
    for part in parts:
        sum_ = sum_ + part.without_ports()
    return sum_


def _copy(holding: Holding) -> Holding:
    copy = Holding()
    copy.add(holding.as_resources())
    return copy
