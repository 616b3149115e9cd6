"""One stream that the master serves, apart from what is said over it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc

from runrig.offers import CallRefused
from runrig.v1 import scheduler_pb2, scheduler_pb2_grpc
from runrig_master.core.events import Event, SchedulerStreamClosed, StreamId
from runrig_master.server_grpc import _restored
from runrig_master.settings import MasterSettings
from runrig_master.store import MemoryStore
from runrig_master.streams_grpc import Dialect, ServedStream
from tests.edges.master_server import PATIENCE_S

Request = scheduler_pb2.SchedulerServiceConnectRequest
Response = scheduler_pb2.SchedulerServiceConnectResponse

LARGE = 3_000_000
"""Bytes: more than gRPC takes for a client that does not read."""
TIMES = 30
"""Without the headers ahead, in most runs one of so many was never told of the end."""
OF_ITS_OWN = [("grpc.use_local_subchannel_pool", 1)]
"""A connection for each: over one that is in use more is on its way at a time."""


class LargeAnswers(scheduler_pb2_grpc.SchedulerServiceServicer):
    """Answers each envelope with a large one."""

    def __init__(self, **served: Any) -> None:
        self._served = served

    async def Connect(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        """Serve one stream."""
        streams: list[ServedStream[Request, Response]] = []

        def events(stream: StreamId, envelope: Request) -> Iterator[Event | None]:
            streams[0].send(CallRefused("any", "it is not understood"))
            yield None

        def add(envelope: Response, item: object) -> int:
            envelope.events.add().call_refused.message = "x" * LARGE
            return LARGE

        dialect = Dialect("scheduler", events, Response, add, lambda stream, _: SchedulerStreamClosed(stream))
        streams.append(ServedStream(dialect=dialect, **self._served))
        await streams[0].serve(context)


async def end_while_written_to(call: Any) -> grpc.StatusCode:
    """Have an envelope written, end one's own side before it has come, and return how the stream ends."""
    await call.write(Request(number=1))
    await call.initial_metadata()
    await call.done_writing()
    async with asyncio.timeout(PATIENCE_S):
        while await call.read() is not grpc.aio.EOF:
            pass
        code: grpc.StatusCode = await call.code()
        return code


async def test_a_client_that_ends_its_side_while_the_first_envelope_is_on_its_way_learns_of_the_end() -> None:
    store = MemoryStore()
    loop = await _restored(store, await store.campaign(), MasterSettings("127.0.0.1:0", "127.0.0.1:0", "memory:"))
    answers = LargeAnswers(loop=loop, outbox_items=10, heartbeat_s=60.0, silence_s=60.0)
    server = grpc.aio.server()
    scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(answers, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    for _ in range(TIMES):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OF_ITS_OWN) as channel:
            call = scheduler_pb2_grpc.SchedulerServiceStub(channel).Connect()
            assert await end_while_written_to(call) is grpc.StatusCode.OK
    await server.stop(grace=None)
