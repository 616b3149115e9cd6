"""SchedulerService: frameworks' streams."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import grpc

from runrig._wire import add_news, call_from_wire
from runrig.errors import InvalidInput
from runrig.ids import FrameworkId
from runrig.offers import CallRefused
from runrig.v1 import scheduler_pb2, scheduler_pb2_grpc
from runrig_master.core.events import Event, SchedulerCalled, SchedulerStreamClosed, StreamId
from runrig_master.loop import Loop
from runrig_master.settings import MasterSettings
from runrig_master.streams_grpc import Dialect, ServedStream, check_count

Request = scheduler_pb2.SchedulerServiceConnectRequest
Response = scheduler_pb2.SchedulerServiceConnectResponse


class SchedulerService(scheduler_pb2_grpc.SchedulerServiceServicer):
    """What frameworks' schedulers speak with."""

    def __init__(self, loop: Loop, settings: MasterSettings) -> None:
        self._loop = loop
        self._settings = settings

    async def Connect(  # type: ignore[override]
        self,
        request_iterator: AsyncIterator[Request],
        context: grpc.aio.ServicerContext[Request, Response],
    ) -> None:
        """Serve one scheduler's stream."""
        core = self._settings.core
        streams: list[ServedStream[Request, Response]] = []

        def events(stream: StreamId, envelope: Request) -> Iterator[Event | None]:
            check_count("calls", len(envelope.calls), self._settings.max_items)
            for call in envelope.calls:
                try:
                    for field, count in _counts(call):
                        check_count(field, count, self._settings.max_items)
                    yield SchedulerCalled(stream, call_from_wire(call), _fresh_id(call))
                except InvalidInput as error:
                    kind = call.WhichOneof("call") or "unknown"
                    if kind == "subscribe":
                        raise
                    streams[0].send(CallRefused(kind, str(error)))
                    yield None

        dialect: Dialect[Request, Response] = Dialect(
            "scheduler", events, Response, add_news, lambda stream, _: SchedulerStreamClosed(stream)
        )
        stream = ServedStream(
            self._loop,
            dialect,
            self._settings.scheduler_outbox_items,
            core.heartbeat_s,
            core.silence_timeout_s,
        )
        streams.append(stream)
        await stream.serve(context)


def _counts(call: scheduler_pb2.SchedulerCall) -> Iterator[tuple[str, int]]:
    """Yield how much a call names of what it may name much of: its field and its number, the outer ones first."""
    match call.WhichOneof("call"):
        case "accept":
            yield "accept.groups", len(call.accept.groups)
            yield "accept.offer_ids", sum(len(group.offer_ids) for group in call.accept.groups)
            yield "accept.operations", sum(len(group.operations) for group in call.accept.groups)
            operations = [operation for group in call.accept.groups for operation in group.operations]
            yield "accept.tasks", sum(len(each.launch.tasks) + len(each.launch_task_group.tasks) for each in operations)
        case "subscribe":
            yield "framework.roles", len(call.subscribe.framework.roles)
            yield "framework.labels", len(call.subscribe.framework.labels)
            yield "subscribe.suppressed_roles", len(call.subscribe.suppressed_roles)
        case "decline":
            yield "decline.offer_ids", len(call.decline.offer_ids)
        case "revive":
            yield "revive.roles", len(call.revive.roles)
        case "suppress":
            yield "suppress.roles", len(call.suppress.roles)
        case "acknowledge":
            yield "acknowledge.acknowledgements", len(call.acknowledge.acknowledgements)
        case "reconcile":
            yield "reconcile.tasks", len(call.reconcile.tasks)
        case "update_demand":
            yield "update_demand.demands", len(call.update_demand.demands)
        case "update_framework":
            yield "framework.roles", len(call.update_framework.framework.roles)
            yield "framework.labels", len(call.update_framework.framework.labels)
        case _:
            pass


def _fresh_id(call: scheduler_pb2.SchedulerCall) -> FrameworkId:
    if call.WhichOneof("call") == "subscribe" and not call.subscribe.framework.framework_id:
        return FrameworkId(f"f-{uuid.uuid4().hex[:12]}")
    return FrameworkId("")
