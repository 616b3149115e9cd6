"""The operator service's messages as plain data.

What a newer master says and this version does not know is shown as it is: a client for people must not fail
over it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runrig._wire.common import attributes_from_wire, labels_from_wire, resources_from_wire
from runrig._wire.tasks import terms_from_wire
from runrig.cli.views import (
    AgentView,
    Amounts,
    AwayView,
    FrameworkView,
    OfferView,
    ReservationView,
    RoleView,
    TaskView,
    VolumeView,
)
from runrig.v1 import operator_pb2, resources_pb2, tasks_pb2


def agent_view(message: operator_pb2.Agent) -> AgentView:
    """Read an agent."""
    return AgentView(
        message.agent_id,
        message.hostname,
        _name(operator_pb2.AgentState.Name, message.state, "AGENT_STATE_") or "UNSPECIFIED",
        message.address,
        message.http_address,
        attributes_from_wire(message.attributes),
        resources_from_wire(message.total),
        resources_from_wire(message.used),
        resources_from_wire(message.offered),
        resources_from_wire(message.free),
        tuple(_name(tasks_pb2.RuntimeKind.Name, each, "RUNTIME_KIND_").lower() for each in message.runtimes),
        message.version,
        message.tasks,
        message.since_unix_ms,
        tuple(_reservation_view(message, each) for each in message.reservations),
        message.drain_deadline_unix_ms,
        AwayView(message.unavailability.start_unix_ms, message.unavailability.duration_ms)
        if message.HasField("unavailability")
        else None,
    )


def _reservation_view(agent: operator_pb2.Agent, message: operator_pb2.ReservationState) -> ReservationView:
    said = message.reservation
    return ReservationView(
        said.reservation_id,
        agent.agent_id,
        agent.hostname,
        said.role,
        resources_from_wire(said.resources),
        resources_from_wire(message.used),
        resources_from_wire(message.offered),
        resources_from_wire(message.free),
        labels_from_wire(said.labels),
        said.principal,
        said.is_static,
        tuple(
            VolumeView(
                each.volume.volume_id,
                each.volume.reservation_id,
                agent.agent_id,
                agent.hostname,
                each.volume.disk_mib,
                each.task_id,
                each.is_doomed,
            )
            for each in message.volumes
        ),
    )


def framework_view(message: operator_pb2.Framework) -> FrameworkView:
    """Read a framework."""
    return FrameworkView(
        message.framework_id,
        message.name,
        tuple(message.roles),
        _name(operator_pb2.FrameworkState.Name, message.state, "FRAMEWORK_STATE_") or "UNSPECIFIED",
        message.connected,
        tuple(sorted(message.tasks_by_state.items())),
        tuple(message.suppressed_roles),
        message.offers,
        message.failover_deadline_unix_ms,
        message.failover_timeout_ms,
        message.web_url,
        message.principal,
        resources_from_wire(message.used),
        resources_from_wire(message.offered),
        message.uses_demand,
        message.tasks_wanted,
    )


def role_view(message: operator_pb2.Role) -> RoleView:
    """Read a role."""
    return RoleView(
        message.role,
        message.weight_millis,
        message.frameworks,
        resources_from_wire(message.used),
        resources_from_wire(message.offered),
        message.dominant_share_millionths,
        _amounts(message.limit) if message.HasField("limit") else None,
        _amounts(message.guarantee) if message.HasField("guarantee") else None,
        message.is_optimistic,
        resources_from_wire(message.subtree_used),
        resources_from_wire(message.subtree_offered),
        resources_from_wire(message.reserved),
        message.tasks_wanted,
    )


def _amounts(message: resources_pb2.Quota) -> Amounts:
    return tuple((field.name, value) for field, value in message.ListFields())


def offer_view(message: operator_pb2.OutstandingOffer) -> OfferView:
    """Read an offer."""
    return OfferView(
        message.offer_id,
        message.framework_id,
        message.agent_id,
        message.hostname,
        message.role,
        resources_from_wire(message.resources),
        message.made_at_unix_ms,
        message.expires_at_unix_ms,
        message.reservation_id,
        message.gang_id,
        message.is_optimistic,
    )


def task_view(message: operator_pb2.Task) -> TaskView:
    """Read a task."""
    return TaskView(
        message.task_id,
        message.name,
        message.framework_name,
        message.framework_id,
        message.agent_id,
        message.hostname,
        message.role,
        _name(tasks_pb2.TaskState.Name, message.state, "") or "TASK_UNKNOWN",
        _name(tasks_pb2.Reason.Name, message.reason, "REASON_") or None,
        _name(tasks_pb2.Source.Name, message.source, "SOURCE_").lower() or None,
        message.message,
        _name(tasks_pb2.RuntimeKind.Name, message.runtime, "RUNTIME_KIND_").lower() or None,
        message.container_id,
        message.pid,
        resources_from_wire(message.resources),
        message.launched_at_unix_ms,
        message.started_at_unix_ms,
        message.finished_at_unix_ms,
        message.healthy if message.HasField("healthy") else None,
        message.exit_code if message.HasField("exit_code") else None,
        labels_from_wire(message.labels),
        message.agent_address,
        terms_from_wire(message.terms),
    )


def _name(kind: Callable[[Any], str], number: int, prefix: str) -> str:
    """Return the name of a number without its prefix; "" for zero, the number when it has no name."""
    if number == 0:
        return ""
    try:
        return kind(number).removeprefix(prefix)
    except ValueError:
        return str(number)
