"""The master's news for a scheduler on the wire."""

from __future__ import annotations

from runrig import offers
from runrig._wire.calls import references_from_wire
from runrig._wire.common import (
    attributes_from_wire,
    attributes_to_wire,
    enum_from_wire,
    resources_from_wire,
    resources_to_wire,
)
from runrig._wire.tasks import update_from_wire, update_to_wire
from runrig.errors import ProtocolError
from runrig.ids import AgentId, FrameworkId, OfferId, Role
from runrig.tasks import RuntimeKind
from runrig.v1 import scheduler_pb2


def news_to_wire(news: offers.News) -> scheduler_pb2.SchedulerEvent:
    """Build the message of the master's news."""
    message = scheduler_pb2.SchedulerEvent()
    match news:
        case offers.TasksUpdated():
            message.updates.updates.extend(update_to_wire(update) for update in news.updates)
        case offers.OffersMade():
            message.offers.offers.extend(_offer_to_wire(offer) for offer in news.offers)
        case offers.OffersRescinded():
            message.rescind.offer_ids.extend(news.offer_ids)
            message.rescind.reason = news.reason.value  # type: ignore[assignment]
        case offers.TasksRecovering():
            for task in news.tasks:
                message.recovering.tasks.add(task_id=task.task_id, agent_id=task.agent_id)
        case offers.Subscribed():
            message.subscribed.framework_id = news.framework_id
            message.subscribed.cluster_id = news.cluster_id
            message.subscribed.silence_timeout_ms = news.silence_timeout_ms
            message.subscribed.heartbeat_ms = news.heartbeat_ms
            message.subscribed.offer_timeout_ms = news.offer_timeout_ms
        case offers.StreamRefused():
            message.refusal.CopyFrom(refusal_to_wire(news))
        case offers.CallRefused():
            message.call_refused.call = news.call
            message.call_refused.message = news.message
    return message


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
        case _:
            raise ProtocolError("the master sent an event that this version does not know; upgrade the framework")


def _offer_to_wire(offer: offers.Offer) -> scheduler_pb2.Offer:
    return scheduler_pb2.Offer(
        offer_id=offer.offer_id,
        agent_id=offer.agent_id,
        hostname=offer.hostname,
        role=offer.role,
        resources=resources_to_wire(offer.resources),
        attributes=attributes_to_wire(offer.attributes),
        gang_id=offer.gang_id,
        agent_address=offer.agent_address,
        runtimes=[kind.value for kind in offer.runtimes],  # type: ignore[misc]
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
    )


def refusal_to_wire(refusal: offers.StreamRefused) -> scheduler_pb2.Refusal:
    """Build the message that ends a stream."""
    return scheduler_pb2.Refusal(
        code=refusal.code.value,  # type: ignore[arg-type]
        message=refusal.message,
        leader=refusal.leader,
    )


def refusal_from_wire(message: scheduler_pb2.Refusal) -> offers.StreamRefused:
    """Read why a stream ends."""
    return offers.StreamRefused(
        enum_from_wire(offers.RefusalCode, "refusal.code", message.code), message.message, message.leader
    )
