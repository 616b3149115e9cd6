"""What the core knows, as messages for operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from runrig._wire import labels_to_wire, resources_to_wire
from runrig.ids import Role
from runrig.v1 import operator_pb2, resources_pb2
from runrig_master.core.allocator import weighted_share
from runrig_master.core.cluster import Cluster
from runrig_master.core.resources import Holding
from runrig_master.core.state import Agent, Framework, OutstandingOffer, Presence, Task

_PRESENCES = {
    Presence.CONNECTED: operator_pb2.AGENT_STATE_ACTIVE,
    Presence.DISCONNECTED: operator_pb2.AGENT_STATE_DISCONNECTED,
    Presence.UNREACHABLE: operator_pb2.AGENT_STATE_UNREACHABLE,
    Presence.RECOVERING: operator_pb2.AGENT_STATE_RECOVERING,
    Presence.GONE: operator_pb2.AGENT_STATE_GONE,
}


def agent_view(agent: Agent) -> operator_pb2.Agent:
    """Return an agent as an operator sees it."""
    state = _PRESENCES[agent.presence]
    if agent.is_deactivated and agent.presence is Presence.CONNECTED:
        state = operator_pb2.AGENT_STATE_DEACTIVATED
    return operator_pb2.Agent(
        agent_id=agent.id,
        hostname=agent.info.hostname,
        address=agent.info.address,
        http_address=agent.info.http_address,
        state=state,
        attributes=[resources_pb2.Attribute(name=name, value=value) for name, value in agent.info.attributes],
        total=resources_to_wire(agent.info.resources),
        used=resources_to_wire(agent.used),
        offered=resources_to_wire(agent.offered),
        free=resources_to_wire(agent.free),
        runtimes=[kind.value for kind in agent.info.runtimes],  # type: ignore[misc]
        version=agent.info.version,
        tasks=sum(not task.state.is_terminal for task in agent.tasks.values()),
        since_unix_ms=int(agent.since * 1000),
    )


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
    )


def role_views(cluster: Cluster) -> Iterator[operator_pb2.Role]:
    """Yield every role that has members, holdings or settings of its own."""
    for role in sorted({*cluster.members, *cluster.role_settings, *cluster.role_holdings}):
        holding = cluster.role_holdings.get(role)
        is_held = holding is not None and not holding.as_resources().is_empty
        if role in cluster.members or role in cluster.role_settings or is_held:
            yield role_view(cluster, role)


def role_view(cluster: Cluster, role: Role) -> operator_pb2.Role:
    """Return a role as an operator sees it."""
    used, offered = Holding(), Holding()
    for framework in cluster.frameworks.values():
        _count_role(framework, role, used, offered)
    return operator_pb2.Role(
        role=role,
        weight_millis=cluster.weight(role),
        frameworks=len(cluster.members.get(role, {})),
        used=resources_to_wire(used.as_resources()),
        offered=resources_to_wire(offered.as_resources()),
        dominant_share_millionths=int(weighted_share(cluster, role) * 1_000_000),
    )


def _count_role(framework: Framework, role: Role, used: Holding, offered: Holding) -> None:
    for task in framework.tasks.values():
        if task.role == role and not task.state.is_terminal:
            used.add(task.resources)
    for offer in framework.offers.values():
        if offer.role == role:
            offered.add(offer.resources)


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
    )


def task_view(task: Task) -> operator_pb2.Task:
    """Return a task as an operator sees it."""
    status = task.status
    return operator_pb2.Task(
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


def all_tasks(cluster: Cluster, include_terminal: bool) -> Iterator[Task]:
    """Yield the tasks of every framework, the removed ones' last."""
    for framework in [*cluster.frameworks.values(), *cluster.completed.values()]:
        for task in framework.tasks.values():
            if include_terminal or not task.state.is_terminal:
                yield task
        if include_terminal:
            yield from framework.ended.values()
