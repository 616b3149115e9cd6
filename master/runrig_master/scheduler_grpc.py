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
from runrig_master.streams_grpc import Dialect, ServedStream

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

        def events(stream: StreamId, envelope: Request) -> Iterator[Event]:
            for call in envelope.calls:
                try:
                    yield SchedulerCalled(stream, call_from_wire(call), _fresh_id(call))
                except InvalidInput as error:
                    kind = call.WhichOneof("call") or "unknown"
                    if kind == "subscribe":
                        raise
                    streams[0].send(CallRefused(kind, str(error)))

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
        await stream.serve(request_iterator, context)


def _fresh_id(call: scheduler_pb2.SchedulerCall) -> FrameworkId:
    if call.WhichOneof("call") == "subscribe" and not call.subscribe.framework.framework_id:
        return FrameworkId(f"f-{uuid.uuid4().hex[:12]}")
    return FrameworkId("")
