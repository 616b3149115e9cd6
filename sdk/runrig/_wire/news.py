"""The master's news for a scheduler on the wire."""

from __future__ import annotations

from runrig import offers
from runrig._wire.calls import references_from_wire
from runrig._wire.common import (
    attributes_from_wire,
    enum_from_wire,
    fill_reservation,
    fill_resources,
    fill_unavailability,
    fill_volume,
    reservation_from_wire,
    resources_from_wire,
    unavailability_from_wire,
    volume_from_wire,
)
from runrig._wire.tasks import fill_update, update_from_wire
from runrig.errors import ProtocolError
from runrig.ids import AgentId, FrameworkId, OfferId, Role, TaskId
from runrig.tasks import RuntimeKind
from runrig.v1 import scheduler_pb2


def add_news(envelope: scheduler_pb2.SchedulerServiceConnectResponse, news: offers.News) -> int:
    """Put the master's news into an envelope; return by how many bytes it has grown."""
    if isinstance(news, offers.TasksUpdated):
        return _add_updates(envelope, news)
    message = envelope.events.add()
    match news:
        case offers.OffersMade():
            message.offers.SetInParent()
            for offer in news.offers:
                _fill_offer(message.offers.offers.add(), offer)
        case offers.OffersRescinded():
            message.rescind.offer_ids.extend(news.offer_ids)
            message.rescind.reason = news.reason.value  # type: ignore[assignment]
        case offers.TasksRecovering():
            message.recovering.SetInParent()
            for task in news.tasks:
                message.recovering.tasks.add(task_id=task.task_id, agent_id=task.agent_id)
        case offers.Subscribed():
            message.subscribed.framework_id = news.framework_id
            message.subscribed.cluster_id = news.cluster_id
            message.subscribed.silence_timeout_ms = news.silence_timeout_ms
            message.subscribed.heartbeat_ms = news.heartbeat_ms
            message.subscribed.offer_timeout_ms = news.offer_timeout_ms
        case offers.StreamRefused():
            fill_refusal(message.refusal, news)
        case offers.CallRefused():
            message.call_refused.call = news.call
            message.call_refused.message = news.message
        case offers.OperationsDone():
            message.operations_done.SetInParent()
            for result in news.results:
                message.operations_done.results.add(
                    operation_id=result.operation_id,
                    agent_id=result.agent_id,
                    is_done=result.is_done,
                    message=result.message,
                )
        case offers.InverseOffersMade():
            message.inverse_offers.SetInParent()
            for inverse in news.inverse_offers:
                _fill_inverse(message.inverse_offers.inverse_offers.add(), inverse)
        case offers.InverseOffersEnded():
            message.inverse_offers_ended.SetInParent()
            message.inverse_offers_ended.inverse_offer_ids.extend(news.inverse_offer_ids)
    return message.ByteSize()


def _add_updates(envelope: scheduler_pb2.SchedulerServiceConnectResponse, news: offers.TasksUpdated) -> int:
    """Join updates to those that the envelope ends with: one event each would cost as much again as the update."""
    events = envelope.events
    event = events[-1] if events and events[-1].HasField("updates") else events.add()
    event.updates.SetInParent()
    size = 0
    for update in news.updates:
        message = event.updates.updates.add()
        fill_update(message, update)
        size += message.ByteSize()
    return size


def news_from_wire(message: scheduler_pb2.SchedulerEvent) -> offers.News:
    """Read the master's news; raise InvalidInput or ProtocolError."""
    match message.WhichOneof("event"):
        case "updates":
            return offers.TasksUpdated(tuple(update_from_wire(item) for item in message.updates.updates))
        case "offers":
            return offers.OffersMade(tuple(_offer_from_wire(item) for item in message.offers.offers))
        case "rescind":
            return offers.OffersRescinded(
                tuple(OfferId(item) for item in message.rescind.offer_ids),
                enum_from_wire(offers.RescindReason, "rescind.reason", message.rescind.reason),
            )
        case "recovering":
            return offers.TasksRecovering(references_from_wire(message.recovering.tasks))
        case "subscribed":
            return offers.Subscribed(
                FrameworkId(message.subscribed.framework_id),
                message.subscribed.cluster_id,
                message.subscribed.silence_timeout_ms,
                message.subscribed.heartbeat_ms,
                message.subscribed.offer_timeout_ms,
            )
        case "refusal":
            return refusal_from_wire(message.refusal)
        case "call_refused":
            return offers.CallRefused(message.call_refused.call, message.call_refused.message)
        case "operations_done":
            return offers.OperationsDone(
                tuple(
                    offers.OperationResult(item.operation_id, AgentId(item.agent_id), item.is_done, item.message)
                    for item in message.operations_done.results
                )
            )
        case "inverse_offers":
            return offers.InverseOffersMade(
                tuple(_inverse_from_wire(item) for item in message.inverse_offers.inverse_offers)
            )
        case "inverse_offers_ended":
            return offers.InverseOffersEnded(tuple(message.inverse_offers_ended.inverse_offer_ids))
        case _:
            raise ProtocolError("the master sent an event that this version does not know; upgrade the framework")


def _fill_offer(message: scheduler_pb2.Offer, offer: offers.Offer) -> None:
    message.offer_id = offer.offer_id
    message.agent_id = offer.agent_id
    message.hostname = offer.hostname
    message.role = offer.role
    fill_resources(message.resources, offer.resources)
    for name, value in offer.attributes:
        message.attributes.add(name=name, value=value)
    message.gang_id = offer.gang_id
    message.agent_address = offer.agent_address
    message.runtimes.extend(offer.runtimes)  # type: ignore[arg-type]
    if offer.reservation is not None:
        fill_reservation(message.reservation, offer.reservation)
    for volume in offer.volumes:
        fill_volume(message.volumes.add(), volume)
    if offer.unavailability is not None:
        fill_unavailability(message.unavailability, offer.unavailability)
    message.is_optimistic = offer.is_optimistic
    message.lent_for_ms = offer.lent_for_ms


def _fill_inverse(message: scheduler_pb2.InverseOffer, inverse: offers.InverseOffer) -> None:
    message.inverse_offer_id = inverse.inverse_offer_id
    message.reason = inverse.reason.value  # type: ignore[assignment]
    message.agent_id = inverse.agent_id
    message.hostname = inverse.hostname
    message.task_ids.extend(inverse.task_ids)
    fill_resources(message.resources, inverse.resources)
    message.deadline_unix_ms = inverse.deadline_unix_ms
    if inverse.unavailability is not None:
        fill_unavailability(message.unavailability, inverse.unavailability)


def _inverse_from_wire(message: scheduler_pb2.InverseOffer) -> offers.InverseOffer:
    return offers.InverseOffer(
        message.inverse_offer_id,
        enum_from_wire(offers.InverseOfferReason, "inverse_offer.reason", message.reason),
        AgentId(message.agent_id),
        message.hostname,
        tuple(TaskId(item) for item in message.task_ids),
        resources_from_wire(message.resources),
        message.deadline_unix_ms,
        unavailability_from_wire(message.unavailability) if message.HasField("unavailability") else None,
    )


def _offer_from_wire(message: scheduler_pb2.Offer) -> offers.Offer:
    return offers.Offer(
        offer_id=OfferId(message.offer_id),
        agent_id=AgentId(message.agent_id),
        hostname=message.hostname,
        role=Role(message.role),
        resources=resources_from_wire(message.resources),
        attributes=attributes_from_wire(message.attributes),
        gang_id=message.gang_id,
        agent_address=message.agent_address,
        runtimes=tuple(enum_from_wire(RuntimeKind, "offer.runtimes", item) for item in message.runtimes),
        reservation=reservation_from_wire(message.reservation) if message.HasField("reservation") else None,
        volumes=tuple(volume_from_wire(item) for item in message.volumes),
        unavailability=unavailability_from_wire(message.unavailability) if message.HasField("unavailability") else None,
        is_optimistic=message.is_optimistic,
        lent_for_ms=message.lent_for_ms,
    )


def fill_refusal(message: scheduler_pb2.Refusal, refusal: offers.StreamRefused) -> None:
    """Write why a stream ends into its message."""
    message.code = refusal.code.value  # type: ignore[assignment]
    message.message = refusal.message
    message.leader = refusal.leader


def refusal_from_wire(message: scheduler_pb2.Refusal) -> offers.StreamRefused:
    """Read why a stream ends."""
    return offers.StreamRefused(
        enum_from_wire(offers.RefusalCode, "refusal.code", message.code), message.message, message.leader
    )
