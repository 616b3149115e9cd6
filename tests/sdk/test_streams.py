"""Envelopes: numbered, coalesced, bounded, cut where they would grow too large."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runrig._numbering import Numbering
from runrig._streams import (
    MAX_ENVELOPE_BYTES,
    ClientStream,
    Outbox,
    StreamSettings,
    write_envelopes,
)
from runrig.errors import ProtocolError, TooSlow
from runrig.v1 import scheduler_pb2

Request = scheduler_pb2.SchedulerServiceConnectRequest
Response = scheduler_pb2.SchedulerServiceConnectResponse


@dataclass
class Envelope:
    """An envelope of texts."""

    number: int = 0
    items: list[str] = field(default_factory=list)


def add(envelope: Envelope, item: str) -> int:
    envelope.items.append(item)
    return len(item)


def outbox(bound: int = 100) -> Outbox[str, Envelope]:
    return Outbox(bound, Envelope, add)


class Wire:
    """Writes slowly, one envelope at a time, when it is told to."""

    def __init__(self) -> None:
        self.written: list[Envelope] = []
        self.may_write = asyncio.Event()
        self.may_write.set()

    async def write(self, envelope: Envelope) -> None:
        await self.may_write.wait()
        self.written.append(envelope)


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(is_so: Callable[[], object]) -> None:
    """Wait until something is so."""
    while not is_so():  # noqa: ASYNC110 (there is no event for it)
        await asyncio.sleep(0.002)


@asynccontextmanager
async def writing(box: Outbox[str, Envelope], heartbeat_s: float = 3600.0) -> AsyncIterator[Wire]:
    """Write what is put into `box` until the block ends."""
    wire = Wire()
    writer = asyncio.create_task(write_envelopes(box, wire.write, lambda: heartbeat_s))
    try:
        yield wire
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)


async def test_what_is_put_together_goes_out_together() -> None:
    box = outbox()
    async with writing(box) as wire:
        for item in "abc":
            box.put(item)
        await settle()

        assert [(envelope.number, envelope.items) for envelope in wire.written] == [(1, ["a", "b", "c"])]


async def test_what_is_put_while_one_is_written_goes_out_in_the_next() -> None:
    box = outbox()
    async with writing(box) as wire:
        wire.may_write.clear()
        box.put("a")
        await settle()
        for item in "bcd":
            box.put(item)
        await settle()
        wire.may_write.set()
        await settle()

        assert [envelope.items for envelope in wire.written] == [["a"], ["b", "c", "d"]]
        assert [envelope.number for envelope in wire.written] == [1, 2]


async def test_an_outbox_that_is_full_refuses_more() -> None:
    box = outbox(bound=3)
    for item in "abc":
        box.put(item)

    with pytest.raises(TooSlow, match="3 items wait"):
        box.put("d")

    assert len(box) == 3


async def test_an_outbox_has_room_again_once_it_was_written() -> None:
    box = outbox(bound=2)
    async with writing(box) as wire:
        for item in "abcdefgh":
            box.put(item)
            await settle()

        assert [item for envelope in wire.written for item in envelope.items] == list("abcdefgh")
        assert len(box) == 0


async def test_an_envelope_is_cut_where_it_would_grow_too_large() -> None:
    box = outbox()
    large = "x" * (MAX_ENVELOPE_BYTES // 2)
    async with writing(box) as wire:
        for _ in range(7):
            box.put(large)
        await settle()

        assert [len(envelope.items) for envelope in wire.written] == [2, 2, 2, 1]


async def test_one_item_that_is_too_large_goes_alone() -> None:
    box = outbox()
    async with writing(box) as wire:
        for item in ("x" * (3 * MAX_ENVELOPE_BYTES), "y"):
            box.put(item)
        await settle()

        assert [len(envelope.items) for envelope in wire.written] == [1, 1]


async def test_what_waits_when_an_outbox_is_closed_is_still_written() -> None:
    box = outbox()
    wire = Wire()
    writer = asyncio.create_task(write_envelopes(box, wire.write, lambda: 3600.0))
    box.put("a" * MAX_ENVELOPE_BYTES)
    box.put("b")
    box.close()

    await asyncio.wait_for(writer, 10)

    assert [item[0] for envelope in wire.written for item in envelope.items] == ["a", "b"]


async def test_an_idle_stream_writes_empty_envelopes() -> None:
    async with writing(outbox(), heartbeat_s=0.001) as wire:
        await until(lambda: len(wire.written) >= 3)

        assert [envelope.items for envelope in wire.written[:3]] == [[], [], []]
        assert [envelope.number for envelope in wire.written[:3]] == [1, 2, 3]


async def test_an_item_that_may_linger_travels_with_the_next_that_may_not() -> None:
    box = outbox()
    async with writing(box) as wire:
        box.put("receipt", linger_s=3600.0)
        await settle()
        before = list(wire.written)
        box.put("launch")
        await settle()

        assert before == []
        assert [envelope.items for envelope in wire.written] == [["receipt", "launch"]]


async def test_an_item_that_lingers_goes_out_in_its_time() -> None:
    box = outbox()
    async with writing(box) as wire:
        box.put("receipt", linger_s=0.001)
        await until(lambda: wire.written)

        assert [envelope.items for envelope in wire.written] == [["receipt"]]


async def test_items_keep_their_order_whatever_lingers() -> None:
    box = outbox(bound=10_000)
    async with writing(box) as wire:
        for number in range(300):
            box.put(f"{number} " + "x" * (number % 7) * 100_000, linger_s=3600.0 if number % 3 else 0.0)
            if number % 11 == 0:
                await settle()
        box.put("300 ")
        await settle()

        numbers = [int(item.split()[0]) for envelope in wire.written for item in envelope.items]
        assert numbers == list(range(301))
        assert [envelope.number for envelope in wire.written] == list(range(1, len(wire.written) + 1))


# Numbering


def test_envelopes_in_order_are_admitted_and_repeats_are_not() -> None:
    numbering = Numbering()

    assert [numbering.admits(number) for number in (1, 2, 2, 1, 3, 3)] == [True, True, False, False, True, False]


@given(st.lists(st.integers(1, 6), max_size=12))
def test_each_envelope_counts_once_in_order_or_the_stream_ends(numbers: list[int]) -> None:
    numbering = Numbering()
    admitted: list[int] = []
    try:
        admitted.extend(number for number in numbers if numbering.admits(number))
    except ProtocolError as error:
        assert "was lost" in str(error)  # noqa: PT017 (either outcome is right)

    assert admitted in ([], *(list(range(1, last + 1)) for last in range(1, 7)))


def test_a_gap_says_which_envelope_follows_which() -> None:
    numbering = Numbering()
    numbering.admits(1)

    with pytest.raises(ProtocolError, match="envelope 5 follows 1"):
        numbering.admits(5)


def test_an_envelope_without_a_number_is_a_fault_of_the_peer() -> None:
    with pytest.raises(ProtocolError, match="numbered from 1"):
        Numbering().admits(0)


# A client's stream


class Echo:
    """A service that answers what it is told to."""

    def __init__(self) -> None:
        self.heard: list[Request] = []
        self.answers = 0
        self.stop_after = 10**9

    async def connect(self, envelopes: AsyncIterator[Request], _: object) -> AsyncIterator[Response]:
        async for envelope in envelopes:
            self.heard.append(envelope)
            self.answers += 1
            if self.answers > self.stop_after:
                return
            yield Response(number=self.answers, epoch=7)


@asynccontextmanager
async def echoing(echo: Echo) -> AsyncIterator[str]:
    """Serve an echo on a port of its own."""
    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(
        echo.connect,
        Request.FromString,
        Response.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Connect": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


def client(address: str, heard: list[Response], settings: StreamSettings) -> ClientStream[str, Request, Response]:
    """Build a client whose items are ids of tasks to kill."""

    def fill(envelope: Request, item: str) -> int:
        envelope.calls.add().kill.task_id = item
        return len(item)

    def connect(channel: grpc.aio.Channel) -> Any:
        method: Any = channel.stream_stream("/test.Echo/Connect", Request.SerializeToString, Response.FromString)
        return method()

    return ClientStream(
        address,
        connect,
        Request,
        fill,
        heard.append,
        settings,
    )


async def test_a_client_writes_what_is_put_and_hears_what_comes() -> None:
    echo, heard = Echo(), list[Response]()
    async with echoing(echo) as address:
        stream = client(address, heard, StreamSettings())
        running = asyncio.create_task(stream.run(lambda: stream.put("t1")))
        await until(lambda: heard)
        stream.close("done")

        assert await asyncio.wait_for(running, 10) == "done"
        assert [call.kill.task_id for call in echo.heard[0].calls] == ["t1"]
        assert [(envelope.number, envelope.epoch) for envelope in heard] == [(1, 7)]


async def test_a_client_says_why_nobody_answered() -> None:
    stream = client("127.0.0.1:1", [], StreamSettings(connect_timeout_s=0.2))

    why = await stream.run(lambda: None)

    assert "127.0.0.1:1" in why


async def test_a_client_says_that_the_master_ended_the_stream() -> None:
    echo = Echo()
    echo.stop_after = 0
    async with echoing(echo) as address:
        stream = client(address, [], StreamSettings())

        why = await asyncio.wait_for(stream.run(lambda: stream.put("t1")), 10)

        assert why == "the master closed the stream"
        await asyncio.wait_for(stream.ended(10), 10)


async def test_a_client_that_cannot_write_as_fast_as_is_put_ends_and_says_so() -> None:
    async with echoing(Echo()) as address:
        stream = client(address, [], StreamSettings(outbox_items=3))

        def flood() -> None:
            for number in range(10):
                stream.put(str(number))

        assert "3 items wait" in await asyncio.wait_for(stream.run(flood), 10)


async def test_a_fault_of_the_peer_ends_the_stream_with_its_words() -> None:
    def refuse(_: Response) -> None:
        raise ProtocolError("that was not agreed")

    async with echoing(Echo()) as address:
        stream = client(address, [], StreamSettings())
        stream._heard = refuse

        assert await asyncio.wait_for(stream.run(lambda: stream.put("t1")), 10) == "that was not agreed"


async def test_an_idle_client_sends_heartbeats() -> None:
    echo = Echo()
    async with echoing(echo) as address:
        stream = client(address, [], StreamSettings(heartbeat_s=0.01))
        running = asyncio.create_task(stream.run(lambda: None))
        await until(lambda: len(echo.heard) >= 3)
        stream.close("done")
        await running

        assert [len(envelope.calls) for envelope in echo.heard[:3]] == [0, 0, 0]
