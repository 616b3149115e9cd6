"""An agent's reports and the master's orders on the wire."""

from __future__ import annotations

from dataclasses import replace

from runrig import agents, offers
from runrig._wire.common import (
    attributes_from_wire,
    attributes_to_wire,
    enum_from_wire,
    fill_reservation,
    labels_from_wire,
    labels_to_wire,
    reservation_from_wire,
    resources_from_wire,
    resources_to_wire,
)
from runrig._wire.news import fill_refusal, refusal_from_wire
from runrig._wire.tasks import (
    REASONS,
    ForwardedTask,
    fill_launchable,
    fill_terms,
    fill_update,
    grace_from_wire,
    terms_from_wire,
    update_from_wire,
    update_to_wire,
)
from runrig.errors import InvalidInput, ProtocolError
from runrig.ids import AgentId, FrameworkId, Role, TaskId, checked_id
from runrig.reservations import MAX_RESERVATIONS
from runrig.resources import checked_resources
from runrig.tasks import MAX_LIST, NO_TERMS, Reason, RuntimeKind, StatusUpdate, checked_labels
from runrig.v1 import agent_pb2

MAX_ATTRIBUTE_CHARACTERS = 16_384


def agent_to_wire(agent: agents.AgentInfo) -> agent_pb2.AgentInfo:
    """Build the message of an agent."""
    message = agent_pb2.AgentInfo(
        agent_id=agent.agent_id,
        hostname=agent.hostname,
        address=agent.address,
        http_address=agent.http_address,
        resources=resources_to_wire(agent.resources),
        attributes=attributes_to_wire(agent.attributes),
        runtimes=[kind.value for kind in agent.runtimes],  # type: ignore[misc]
        version=agent.version,
    )
    for reservation in agent.reservations:
        fill_reservation(message.reservations.add(), reservation)
    return message


def agent_from_wire(message: agent_pb2.AgentInfo) -> agents.AgentInfo:
    """Read an agent; raise InvalidInput."""
    checked_id("agent.agent_id", message.agent_id)
    checked_id("agent.hostname", message.hostname)
    if len(message.attributes) > MAX_LIST:
        raise InvalidInput("agent.attributes", len(message.attributes), f"at most {MAX_LIST}")
    if len(message.runtimes) > MAX_LIST:
        raise InvalidInput("agent.runtimes", len(message.runtimes), "each runtime once")
    return agents.AgentInfo(
        agent_id=AgentId(message.agent_id),
        hostname=message.hostname,
        resources=checked_resources("agent.resources", resources_from_wire(message.resources)),
        address=message.address,
        http_address=message.http_address,
        attributes=_checked_attributes(attributes_from_wire(message.attributes)),
        runtimes=tuple(enum_from_wire(RuntimeKind, "agent.runtimes", item) for item in message.runtimes),
        version=message.version,
        reservations=tuple(
            replace(reservation_from_wire(item), is_static=True)
            for item in message.reservations[: MAX_RESERVATIONS + 1]  # enough to see that they are too many
        ),
    )


def _checked_attributes(attributes: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Every offer of the agent carries them: a message of offers must stay within what a receiver takes."""
    together = sum(len(name) + len(value) for name, value in checked_labels("agent.attributes", attributes))
    if together > MAX_ATTRIBUTE_CHARACTERS:
        raise InvalidInput("agent.attributes", together, f"at most {MAX_ATTRIBUTE_CHARACTERS} characters together")
    return attributes


def add_report(envelope: agent_pb2.AgentServiceConnectRequest, report: agents.Report) -> int:
    """Put an agent's report into an envelope; return by how many bytes it has grown."""
    message = envelope.reports.add()
    match report:
        case StatusUpdate():
            fill_update(message.update, report)
        case agents.Register():
            message.register.agent.CopyFrom(agent_to_wire(report.agent))
            message.register.session = report.session
            message.register.epoch = report.epoch
            message.register.tasks.extend(_task_report_to_wire(task) for task in report.tasks)
        case agents.AgentChanged():
            message.changed.CopyFrom(agent_to_wire(report.agent))
        case agents.TaskNotHere():
            message.task_unknown.framework_id = report.framework_id
            message.task_unknown.task_id = report.task_id
        case agents.VolumeDestroyed():
            message.volume_destroyed.volume_id = report.volume_id
    return message.ByteSize()


def report_from_wire(message: agent_pb2.AgentReport) -> agents.Report:
    """Read an agent's report; raise InvalidInput."""
    match message.WhichOneof("report"):
        case "update":
            return update_from_wire(message.update)
        case "register":
            return agents.Register(
                agent_from_wire(message.register.agent),
                message.register.session,
                message.register.epoch,
                tuple(_task_report_from_wire(item) for item in message.register.tasks),
            )
        case "changed":
            return agents.AgentChanged(agent_from_wire(message.changed))
        case "task_unknown":
            return agents.TaskNotHere(
                FrameworkId(message.task_unknown.framework_id), TaskId(message.task_unknown.task_id)
            )
        case "volume_destroyed":
            return agents.VolumeDestroyed(checked_id("volume_destroyed.volume_id", message.volume_destroyed.volume_id))
        case _:
            raise InvalidInput("report", "unset", "register, update, changed, task_unknown, volume_destroyed")


def add_order(envelope: agent_pb2.AgentServiceConnectResponse, order: agents.Order) -> int:
    """Put the master's order into an envelope; return by how many bytes it has grown."""
    message = envelope.commands.add()
    match order:
        case agents.Launch():
            _fill_launch(message.launch, order)
        case agents.AcknowledgeUpdate():
            receipt = message.acknowledge
            receipt.framework_id = order.framework_id
            receipt.task_id = order.task_id
            receipt.number = order.number
        case agents.KillTask():
            message.kill.framework_id = order.framework_id
            message.kill.task_id = order.task_id
            message.kill.reason = order.reason.value  # type: ignore[assignment]
            if order.grace_ms is not None:
                message.kill.kill_policy.grace_ms = order.grace_ms
        case agents.ShutdownFramework():
            message.shutdown_framework.framework_id = order.framework_id
        case agents.Registered():
            message.registered.cluster_id = order.cluster_id
            message.registered.silence_timeout_ms = order.silence_timeout_ms
            message.registered.heartbeat_ms = order.heartbeat_ms
        case offers.StreamRefused():
            fill_refusal(message.refusal, order)
        case agents.DestroyAgentVolume():
            message.destroy_volume.volume_id = order.volume_id
    return message.ByteSize()


def _fill_launch(message: agent_pb2.Launch, order: agents.Launch) -> None:
    message.framework_id = order.framework_id
    message.framework_name = order.framework_name
    message.role = order.role
    message.is_task_group = order.is_group
    for task in order.tasks:
        fill_launchable(message.tasks.add(), task)


def order_from_wire(message: agent_pb2.AgentCommand) -> agents.Order:
    """Read the master's order, its tasks as ForwardedTask; raise InvalidInput or ProtocolError."""
    match message.WhichOneof("command"):
        case "launch":
            return agents.Launch(
                FrameworkId(message.launch.framework_id),
                message.launch.framework_name,
                Role(message.launch.role),
                tuple(ForwardedTask(task) for task in message.launch.tasks),
                message.launch.is_task_group,
            )
        case "acknowledge":
            return agents.AcknowledgeUpdate(
                FrameworkId(message.acknowledge.framework_id),
                TaskId(message.acknowledge.task_id),
                message.acknowledge.number,
            )
        case "kill":
            return agents.KillTask(
                FrameworkId(message.kill.framework_id),
                TaskId(message.kill.task_id),
                grace_from_wire(message.kill.kill_policy),
                REASONS.get(message.kill.reason, Reason.KILLED_BY_FRAMEWORK) or Reason.KILLED_BY_FRAMEWORK,
            )
        case "shutdown_framework":
            return agents.ShutdownFramework(FrameworkId(message.shutdown_framework.framework_id))
        case "registered":
            return agents.Registered(
                message.registered.cluster_id,
                message.registered.silence_timeout_ms,
                message.registered.heartbeat_ms,
            )
        case "refusal":
            return refusal_from_wire(message.refusal)
        case "destroy_volume":
            return agents.DestroyAgentVolume(checked_id("destroy_volume.volume_id", message.destroy_volume.volume_id))
        case _:
            raise ProtocolError("the master sent a command that this version does not know; upgrade the agent")


def _task_report_to_wire(report: agents.TaskReport) -> agent_pb2.TaskReport:
    message = agent_pb2.TaskReport(
        framework_id=report.framework_id,
        task_id=report.task_id,
        name=report.name,
        role=report.role,
        resources=resources_to_wire(report.resources),
        labels=labels_to_wire(report.labels),
        status=update_to_wire(report.status),
        volume_ids=report.volume_ids,
    )
    if report.terms != NO_TERMS:
        fill_terms(message.terms, report.terms)
    return message


def _task_report_from_wire(message: agent_pb2.TaskReport) -> agents.TaskReport:
    field = f"register.task {message.task_id}"
    return agents.TaskReport(
        FrameworkId(checked_id(f"{field}.framework_id", message.framework_id)),
        TaskId(checked_id(f"{field}.task_id", message.task_id)),
        message.name,
        Role(message.role),
        checked_resources(f"{field}.resources", resources_from_wire(message.resources)),
        labels_from_wire(message.labels[: MAX_LIST + 1]),  # enough to see that they are too many
        update_from_wire(message.status),
        terms_from_wire(message.terms) if message.HasField("terms") else NO_TERMS,
        tuple(message.volume_ids[: MAX_LIST + 1]),
    )
