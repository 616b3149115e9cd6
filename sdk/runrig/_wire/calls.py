"""A scheduler's calls on the wire."""

from __future__ import annotations

from collections.abc import Iterable

from runrig import offers
from runrig._wire.common import (
    enum_from_wire,
    fill_reservation,
    fill_volume,
    labels_from_wire,
    labels_to_wire,
    reservation_from_wire,
    resources_from_wire,
    resources_to_wire,
    volume_from_wire,
)
from runrig._wire.tasks import ForwardedTask, fill_launchable, grace_from_wire
from runrig.constraints import Constraint, Operator
from runrig.demand import Demand, Placement
from runrig.errors import InvalidInput
from runrig.ids import AgentId, FrameworkId, OfferId, Role, TaskId, checked_id
from runrig.resources import checked_resources
from runrig.tasks import RuntimeKind
from runrig.v1 import scheduler_pb2


def add_call(envelope: scheduler_pb2.SchedulerServiceConnectRequest, call: offers.Call) -> int:
    """Put a scheduler's call into an envelope; return by how many bytes it has grown."""
    message = envelope.calls.add()
    match call:
        case offers.Subscribe():
            message.subscribe.framework.CopyFrom(framework_to_wire(call.framework))
            message.subscribe.session = call.session
            message.subscribe.suppressed_roles.extend(call.suppressed_roles)
            message.subscribe.uses_demand = call.uses_demand
        case offers.Accept():
            _accept_to_wire(call, message.accept)
        case offers.Decline():
            message.decline.offer_ids.extend(call.offer_ids)
            _filter_to_wire(call.filter, message.decline.filter)
        case offers.Revive():
            message.revive.SetInParent()
            message.revive.roles.extend(call.roles)
        case offers.Suppress():
            message.suppress.SetInParent()
            message.suppress.roles.extend(call.roles)
        case offers.Kill():
            message.kill.task_id = call.task_id
            if call.grace_ms is not None:
                message.kill.kill_policy.grace_ms = call.grace_ms
        case offers.Acknowledge():
            message.acknowledge.SetInParent()
            receipts = message.acknowledge.acknowledgements
            for receipt in call.acknowledgements:
                receipts.add(task_id=receipt.task_id, agent_id=receipt.agent_id, number=receipt.number)
        case offers.Reconcile():
            message.reconcile.SetInParent()
            for task in call.tasks:
                message.reconcile.tasks.add(task_id=task.task_id, agent_id=task.agent_id)
        case offers.UpdateDemand():
            message.update_demand.role = call.role
            message.update_demand.demands.extend(demand_to_wire(demand) for demand in call.demands)
        case offers.UpdateFramework():
            message.update_framework.framework.CopyFrom(framework_to_wire(call.framework))
        case offers.Teardown():
            message.teardown.SetInParent()
        case offers.AnswerInverseOffer():
            message.answer_inverse_offer.SetInParent()
            message.answer_inverse_offer.inverse_offer_id = call.inverse_offer_id
            message.answer_inverse_offer.is_accepted = call.is_accepted
            message.answer_inverse_offer.reason = call.reason
    return message.ByteSize()


def call_from_wire(message: scheduler_pb2.SchedulerCall) -> offers.Call:
    """Read a scheduler's call, its tasks as ForwardedTask; raise InvalidInput."""
    match message.WhichOneof("call"):
        case "subscribe":
            return _subscribe_from_wire(message.subscribe)
        case "accept":
            return _accept_from_wire(message.accept)
        case "decline":
            return offers.Decline(
                tuple(OfferId(item) for item in message.decline.offer_ids),
                _filter_from_wire("decline.filter", message.decline.filter),
            )
        case "revive":
            return offers.Revive(tuple(Role(role) for role in message.revive.roles))
        case "suppress":
            return offers.Suppress(tuple(Role(role) for role in message.suppress.roles))
        case "kill":
            grace_ms = grace_from_wire(message.kill.kill_policy)
            return offers.Kill(TaskId(checked_id("kill.task_id", message.kill.task_id)), grace_ms)
        case "acknowledge":
            return offers.Acknowledge(
                tuple(
                    offers.Acknowledgement(TaskId(item.task_id), AgentId(item.agent_id), item.number)
                    for item in message.acknowledge.acknowledgements
                )
            )
        case "reconcile":
            references = references_from_wire(message.reconcile.tasks)
            for number, reference in enumerate(references):
                checked_id(f"reconcile.tasks[{number}].task_id", reference.task_id)
            return offers.Reconcile(references)
        case "update_demand":
            return offers.UpdateDemand(
                Role(message.update_demand.role),
                tuple(demand_from_wire(item) for item in message.update_demand.demands),
            )
        case "update_framework":
            return offers.UpdateFramework(framework_from_wire(message.update_framework.framework))
        case "teardown":
            return offers.Teardown()
        case "answer_inverse_offer":
            answer = message.answer_inverse_offer
            if len(answer.reason) > offers.MAX_REASON_LENGTH:
                allowed = f"at most {offers.MAX_REASON_LENGTH} characters"
                raise InvalidInput("answer_inverse_offer.reason", answer.reason, allowed)
            return offers.AnswerInverseOffer(answer.inverse_offer_id, answer.is_accepted, answer.reason)
        case _:
            raise InvalidInput("call", "unset", "subscribe, accept, decline, revive, suppress, kill, …")


def framework_to_wire(framework: offers.FrameworkInfo) -> scheduler_pb2.FrameworkInfo:
    """Build the message of a framework."""
    return scheduler_pb2.FrameworkInfo(
        framework_id=framework.framework_id,
        name=framework.name,
        roles=framework.roles,
        failover_timeout_ms=framework.failover_timeout_ms,
        principal=framework.principal,
        labels=labels_to_wire(framework.labels),
        web_url=framework.web_url,
        takes_gpus=framework.takes_gpus,
    )


def framework_from_wire(message: scheduler_pb2.FrameworkInfo) -> offers.FrameworkInfo:
    """Read a framework, unchecked."""
    return offers.FrameworkInfo(
        name=message.name,
        roles=tuple(Role(role) for role in message.roles),
        framework_id=FrameworkId(message.framework_id),
        failover_timeout_ms=message.failover_timeout_ms,
        principal=message.principal,
        labels=labels_from_wire(message.labels),
        web_url=message.web_url,
        takes_gpus=message.takes_gpus,
    )


def _subscribe_from_wire(message: scheduler_pb2.Subscribe) -> offers.Subscribe:
    return offers.Subscribe(
        framework=framework_from_wire(message.framework),
        session=message.session,
        suppressed_roles=tuple(Role(role) for role in message.suppressed_roles),
        uses_demand=message.uses_demand,
    )


def _accept_to_wire(accept: offers.Accept, message: scheduler_pb2.Accept) -> None:
    message.atomic = accept.atomic
    _filter_to_wire(accept.filter, message.filter)
    for group in accept.groups:
        target = message.groups.add(agent_id=group.agent_id, offer_ids=group.offer_ids)
        for operation in group.operations:
            _fill_operation(target.operations.add(), operation)


def _fill_operation(message: scheduler_pb2.Operation, operation: offers.Operation) -> None:
    match operation:
        case offers.LaunchTasks():
            launch = message.launch_task_group if operation.is_group else message.launch
            launch.SetInParent()
            for task in operation.tasks:
                fill_launchable(launch.tasks.add(), task)
        case offers.Reserve():
            message.reserve.SetInParent()
            message.reserve.operation_id = operation.operation_id
            fill_reservation(message.reserve.reservation, operation.reservation)
            message.reserve.from_reservation_id = operation.source_id
        case offers.Unreserve():
            message.unreserve.SetInParent()
            message.unreserve.operation_id = operation.operation_id
            message.unreserve.reservation_id = operation.reservation_id
        case offers.CreateVolume():
            message.create_volume.SetInParent()
            message.create_volume.operation_id = operation.operation_id
            fill_volume(message.create_volume.volume, operation.volume)
        case offers.DestroyVolume():
            message.destroy_volume.SetInParent()
            message.destroy_volume.operation_id = operation.operation_id
            message.destroy_volume.volume_id = operation.volume_id


def _accept_from_wire(message: scheduler_pb2.Accept) -> offers.Accept:
    return offers.Accept(
        groups=tuple(
            offers.LaunchGroup(
                AgentId(group.agent_id),
                tuple(OfferId(item) for item in group.offer_ids),
                tuple(_operation_from_wire(item) for item in group.operations),
            )
            for group in message.groups
        ),
        atomic=message.atomic,
        filter=_filter_from_wire("accept.filter", message.filter),
    )


def _operation_from_wire(message: scheduler_pb2.Operation) -> offers.Operation:
    match message.WhichOneof("operation"):
        case "launch":
            return offers.LaunchTasks(tuple(ForwardedTask(task) for task in message.launch.tasks))
        case "launch_task_group":
            return offers.LaunchTasks(tuple(ForwardedTask(task) for task in message.launch_task_group.tasks), True)
        case "reserve":
            operation = message.reserve
            return offers.Reserve(
                reservation_from_wire(operation.reservation), operation.from_reservation_id, operation.operation_id
            )
        case "unreserve":
            return offers.Unreserve(message.unreserve.reservation_id, message.unreserve.operation_id)
        case "create_volume":
            created = message.create_volume
            return offers.CreateVolume(volume_from_wire(created.volume), created.operation_id)
        case "destroy_volume":
            return offers.DestroyVolume(message.destroy_volume.volume_id, message.destroy_volume.operation_id)
        case _:
            allowed = "launch, launch_task_group, reserve, unreserve, create_volume, destroy_volume"
            raise InvalidInput("accept.operation", "unset", allowed)


def _filter_to_wire(filter_: offers.Filter, message: scheduler_pb2.Filter) -> None:
    message.refuse_ms = filter_.refuse_ms
    message.reason = filter_.reason


def _filter_from_wire(field: str, message: scheduler_pb2.Filter) -> offers.Filter:
    refuse_ms = message.refuse_ms if message.HasField("refuse_ms") else offers.DEFAULT_REFUSE_MS
    return offers.checked_filter(field, offers.Filter(refuse_ms, message.reason))


def demand_to_wire(demand: Demand) -> scheduler_pb2.Demand:
    message = scheduler_pb2.Demand(
        demand_id=demand.demand_id,
        resources=resources_to_wire(demand.resources),
        count=demand.count,
        placement=demand.placement.value,  # type: ignore[arg-type]
        priority=demand.priority,
        gang_id=demand.gang_id,
        expected_duration_ms=demand.expected_duration_ms,
        port_count=demand.port_count,
        group=demand.group,
        runtime=demand.runtime.value,  # type: ignore[arg-type]
        reservation_id=demand.reservation_id,
    )
    for constraint in demand.constraints:
        message.constraints.add(
            attribute=constraint.attribute,
            operator=constraint.operator.value,
            value=constraint.value,
        )
    return message


def demand_from_wire(message: scheduler_pb2.Demand) -> Demand:
    field = f"demand {message.demand_id}"
    return Demand(
        demand_id=checked_id(f"{field}.demand_id", message.demand_id),
        resources=checked_resources(f"{field}.resources", resources_from_wire(message.resources)),
        count=message.count,
        constraints=tuple(
            Constraint(item.attribute, enum_from_wire(Operator, f"{field}.operator", item.operator), item.value)
            for item in message.constraints
        ),
        placement=enum_from_wire(Placement, f"{field}.placement", message.placement),
        priority=message.priority,
        gang_id=message.gang_id,
        expected_duration_ms=message.expected_duration_ms,
        port_count=message.port_count,
        group=message.group,
        runtime=enum_from_wire(RuntimeKind, f"{field}.runtime", message.runtime),
        reservation_id=message.reservation_id,
    )


def references_from_wire(messages: Iterable[scheduler_pb2.TaskReference]) -> tuple[offers.TaskReference, ...]:
    return tuple(offers.TaskReference(TaskId(item.task_id), AgentId(item.agent_id)) for item in messages)
