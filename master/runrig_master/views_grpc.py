"""What the core knows, as messages for operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from runrig._wire import fill_unavailability, labels_to_wire, resources_to_wire
from runrig._wire.common import fill_reservation, fill_resources, fill_volume
from runrig._wire.tasks import fill_terms
from runrig.ids import Role
from runrig.reservations import Reservation
from runrig.resources import NOTHING, Resources
from runrig.v1 import operator_pb2, resources_pb2
from runrig_master.core.cluster import Cluster, alive
from runrig_master.core.commands import RoleRecord, VolumeRecord
from runrig_master.core.pools import Pool
from runrig_master.core.quotas import ancestors
from runrig_master.core.resources import Holding
from runrig_master.core.state import Agent, Framework, OutstandingOffer, Presence, Task
from runrig_master.quotas_grpc import quota_to_wire

MOST_COUNTED = 2**32 - 1
"""Of a count on the wire."""

_PRESENCES = {
    Presence.CONNECTED: operator_pb2.AGENT_STATE_ACTIVE,
    Presence.DISCONNECTED: operator_pb2.AGENT_STATE_DISCONNECTED,
    Presence.UNREACHABLE: operator_pb2.AGENT_STATE_UNREACHABLE,
    Presence.RECOVERING: operator_pb2.AGENT_STATE_RECOVERING,
    Presence.GONE: operator_pb2.AGENT_STATE_GONE,
}


def agent_view(agent: Agent) -> operator_pb2.Agent:
    """Return an agent as an operator sees it."""
    message = operator_pb2.Agent(
        agent_id=agent.id,
        hostname=agent.info.hostname,
        address=agent.info.address,
        http_address=agent.info.http_address,
        state=_agent_state(agent),
        attributes=[resources_pb2.Attribute(name=name, value=value) for name, value in agent.info.attributes],
        total=resources_to_wire(agent.info.resources),
        used=resources_to_wire(agent.used),
        offered=resources_to_wire(agent.offered),
        free=resources_to_wire(agent.free),
        runtimes=[kind.value for kind in agent.info.runtimes],  # type: ignore[misc]
        version=agent.info.version,
        tasks=sum(not task.state.is_terminal for task in agent.tasks.values()),
        since_unix_ms=int(agent.since * 1000),
        drain_deadline_unix_ms=agent.drain.deadline_unix_ms if agent.drain is not None else 0,
    )
    if agent.unavailability is not None:
        fill_unavailability(message.unavailability, agent.unavailability)
    for pool in agent.pools.values():
        if pool.reservation is not None:
            _fill_reservation(message.reservations.add(), pool, pool.reservation)
    return message


def _fill_reservation(message: operator_pb2.ReservationState, pool: Pool, reservation: Reservation) -> None:
    fill_reservation(message.reservation, reservation)
    fill_resources(message.used, pool.used)
    fill_resources(message.offered, pool.offered)
    fill_resources(message.free, pool.free)
    for record in _volumes(pool):
        volume = message.volumes.add(is_doomed=record.is_doomed, task_id=_user_of(pool.agent, record.volume.volume_id))
        fill_volume(volume.volume, record.volume)


def _volumes(pool: Pool) -> list[VolumeRecord]:
    """Return the volumes on a reservation, those that are being destroyed too."""
    records = pool.agent.reserves.volumes.values()
    return [record for record in records if record.volume.reservation_id == pool.reservation_id]


def _user_of(agent: Agent, volume_id: str) -> str:
    return next((task.id for task in alive(agent) if volume_id in task.volume_ids), "")


def _agent_state(agent: Agent) -> operator_pb2.AgentState.ValueType:
    if agent.presence is Presence.CONNECTED:
        if agent.drain is not None:
            return operator_pb2.AGENT_STATE_DRAINED if agent.is_drained else operator_pb2.AGENT_STATE_DRAINING
        if agent.is_deactivated:
            return operator_pb2.AGENT_STATE_DEACTIVATED
    return _PRESENCES[agent.presence]


def framework_view(framework: Framework) -> operator_pb2.Framework:
    """Return a framework as an operator sees it."""
    state = operator_pb2.FRAMEWORK_STATE_ACTIVE
    if framework.is_completed:
        state = operator_pb2.FRAMEWORK_STATE_COMPLETED
    elif framework.stream is None:
        state = operator_pb2.FRAMEWORK_STATE_DISCONNECTED
    counts = Counter(task.state.name for task in [*framework.tasks.values(), *framework.ended.values()])
    used, offered = Holding(), Holding()
    for task in framework.tasks.values():
        if not task.state.is_terminal:
            used.add(task.resources)
    for offer in framework.offers.values():
        offered.add(offer.resources)
    tasks_wanted = sum(client.tasks_wanted for client in framework.clients.values())
    return operator_pb2.Framework(
        framework_id=framework.id,
        name=framework.info.name,
        roles=framework.info.roles,
        state=state,
        connected=framework.stream is not None,
        tasks_by_state=counts,
        suppressed_roles=sorted(framework.suppressed),
        offers=len(framework.offers),
        failover_deadline_unix_ms=int((framework.failover_deadline or 0) * 1000),
        web_url=framework.info.web_url,
        principal=framework.info.principal,
        failover_timeout_ms=framework.info.failover_timeout_ms,
        used=resources_to_wire(used.as_resources()),
        offered=resources_to_wire(offered.as_resources()),
        uses_demand=framework.uses_demand,
        tasks_wanted=min(tasks_wanted, MOST_COUNTED),
    )


class RoleSums:
    """What roles use and are offered, for themselves and with all below them: counted once for all roles."""

    def __init__(self, cluster: Cluster) -> None:
        self.used: dict[Role, Holding] = {}
        self.offered: dict[Role, Holding] = {}
        self.subtree_used: dict[Role, Holding] = {}
        self.subtree_offered: dict[Role, Holding] = {}
        self.wanted: Counter[Role] = Counter()
        self.reserved: dict[Role, Holding] = {}
        for agent in cluster.agents.values():
            for pool in agent.pools.values():
                if pool.reservation is not None and agent.presence is not Presence.GONE:
                    holding = self.reserved.setdefault(pool.reservation.role, Holding())
                    holding.add(pool.total)
                    holding.add(Resources(disk_mib=sum(record.volume.disk_mib for record in _volumes(pool))))
        for framework in cluster.frameworks.values():
            for task in framework.tasks.values():
                if not task.state.is_terminal:
                    _count(self.used, self.subtree_used, task.role, task.resources)
            for offer in framework.offers.values():
                _count(self.offered, self.subtree_offered, offer.role, offer.resources)
            for role, client in framework.clients.items():
                self.wanted[role] += client.tasks_wanted


def _count(own: dict[Role, Holding], subtree: dict[Role, Holding], role: Role, resources: Resources) -> None:
    own.setdefault(role, Holding()).add(resources)
    for each in (role, *ancestors(role)):
        subtree.setdefault(each, Holding()).add(resources)


def role_views(cluster: Cluster) -> Iterator[operator_pb2.Role]:
    """Yield every role that has members, holdings, reservations or settings, and those above one."""
    sums = RoleSums(cluster)
    for role in sorted({*(node.role for node in cluster.tree), *sums.reserved}):
        yield role_view(cluster, role, sums)


def role_view(cluster: Cluster, role: Role, sums: RoleSums) -> operator_pb2.Role:
    """Return a role as an operator sees it."""
    settings = cluster.role_settings.get(role) or RoleRecord(role)
    node = cluster.tree.get(role)
    return operator_pb2.Role(
        role=role,
        weight_millis=settings.weight_millis,
        frameworks=node.clients if node is not None else 0,
        used=_sum_to_wire(sums.used, role),
        offered=_sum_to_wire(sums.offered, role),
        dominant_share_millionths=int(node.share(cluster.tree.total) * 1_000_000) if node is not None else 0,
        limit=quota_to_wire(settings.limit),
        guarantee=quota_to_wire(settings.guarantee),
        is_optimistic=settings.is_optimistic,
        subtree_used=_sum_to_wire(sums.subtree_used, role),
        subtree_offered=_sum_to_wire(sums.subtree_offered, role),
        reserved=_sum_to_wire(sums.reserved, role),
        tasks_wanted=min(sums.wanted[role], MOST_COUNTED),
    )


def _sum_to_wire(sums: dict[Role, Holding], role: Role) -> resources_pb2.Resources:
    return resources_to_wire(sums[role].as_resources() if role in sums else NOTHING)


def offer_view(offer: OutstandingOffer) -> operator_pb2.OutstandingOffer:
    """Return an offer as an operator sees it."""
    return operator_pb2.OutstandingOffer(
        offer_id=offer.id,
        framework_id=offer.framework.id,
        agent_id=offer.agent.id,
        hostname=offer.agent.info.hostname,
        role=offer.role,
        resources=resources_to_wire(offer.resources),
        made_at_unix_ms=int(offer.made_at * 1000),
        expires_at_unix_ms=int(offer.expires_at * 1000),
        reservation_id=offer.pool.reservation_id,
        gang_id=offer.gang_id,
        is_optimistic=offer.is_optimistic,
    )


def task_view(task: Task) -> operator_pb2.Task:
    """Return a task as an operator sees it."""
    status = task.status
    message = operator_pb2.Task(
        task_id=task.id,
        name=task.name,
        framework_name=task.framework.info.name,
        framework_id=task.framework.id,
        agent_id=task.agent.id,
        hostname=task.agent.info.hostname,
        role=task.role,
        state=task.state.value,  # type: ignore[arg-type]
        reason=status.reason.value,  # type: ignore[arg-type]
        message=status.message,
        runtime=status.runtime.value,  # type: ignore[arg-type]
        container_id=status.container_id,
        pid=status.pid,
        resources=resources_to_wire(task.resources),
        launched_at_unix_ms=task.launched_at_ms,
        started_at_unix_ms=task.started_at_ms,
        finished_at_unix_ms=task.finished_at_ms,
        healthy=status.healthy,
        exit_code=status.exit_code,
        labels=labels_to_wire(task.labels),
        agent_address=task.agent.info.address,
        source=status.source.value,  # type: ignore[arg-type]
    )
    fill_terms(message.terms, task.terms)
    return message


def all_tasks(cluster: Cluster, include_terminal: bool) -> Iterator[Task]:
    """Yield the tasks of every framework, the removed ones' last."""
    for framework in [*cluster.frameworks.values(), *cluster.completed.values()]:
        for task in framework.tasks.values():
            if include_terminal or not task.state.is_terminal:
                yield task
        if include_terminal:
            yield from framework.ended.values()
