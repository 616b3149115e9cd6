"""Envelopes on a gRPC stream: numbered, coalesced by one writer, bounded.

One envelope costs 60 to 100 us of CPU on each side, an item in it 2 us: so each stream has one `Outbox` and one writer,
and all that was put since the last write goes out together. Envelopes are numbered from 1; receivers see to the order
with `runrig._numbering`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import grpc

from runrig._wake import Wake
from runrig.errors import ProtocolError, TooSlow

MAX_ENVELOPE_BYTES = 2 * 1024 * 1024
"""Where the writer cuts; a single item may be larger, up to what `CHANNEL_OPTIONS` lets through."""

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
    ("grpc.max_send_message_length", 32 * 1024 * 1024),
    ("grpc.use_local_subchannel_pool", 1),
    # Whoever connects has a backoff of its own; gRPC's second one would only add to it.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)

SERVER_OPTIONS = (
    # Half of what clients take: what one of them sends must fit, with what travels beside it, to another.
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.max_send_message_length", 32 * 1024 * 1024),
    ("grpc.so_reuseport", 0),
)


class NumberedEnvelope(Protocol):
    """An envelope to be written: a protobuf message."""

    number: int


Item = TypeVar("Item")
Received = TypeVar("Received")
Sent = TypeVar("Sent", bound=NumberedEnvelope)


class Outbox(Generic[Item, Sent]):
    """Envelopes of one stream that wait to be written, the last of them still being filled; at most `bound` items.

    Items are built where they will be written from: to build each on its own and copy it costs as much again.
    """

    def __init__(self, bound: int, new: Callable[[], Sent], add: Callable[[Sent, Item], int]) -> None:
        """Keep how to make an empty envelope, and how to put an item into one: by how many bytes that has grown."""
        self._bound = bound
        self._new = new
        self._add = add
        self._envelopes: deque[Sent] = deque()
        self._counts: deque[int] = deque()
        """How many items each of the envelopes has."""
        self._length = 0
        self._last_bytes = 0
        self._wake = Wake()
        self._lingering: asyncio.TimerHandle | None = None
        self._is_closed = False

    def __len__(self) -> int:
        """Return how many items wait."""
        return self._length

    def put(self, item: Item, linger_s: float = 0.0) -> None:
        """Add an item, which may wait for `linger_s` for others to travel with.

        Raises TooSlow when the bound is reached: the stream must then be closed.
        """
        if self._length >= self._bound:
            raise TooSlow(f"{self._bound} items wait for a receiver that does not read; it must reconnect")
        if not self._envelopes or self._last_bytes >= MAX_ENVELOPE_BYTES:
            self._envelopes.append(self._new())
            self._counts.append(0)
            self._last_bytes = 0
        self._last_bytes += self._add(self._envelopes[-1], item)
        self._counts[-1] += 1
        self._length += 1
        if not linger_s:
            self._wake.set()
        elif self._lingering is None:
            self._lingering = asyncio.get_running_loop().call_later(linger_s, self._wake.set)

    def close(self) -> None:
        """Let the writer end once what is queued has been written."""
        self._is_closed = True
        self._wake.set()

    def wake(self) -> None:
        """Let the writer look up: how long it may be idle has changed."""
        self._wake.set()

    async def take(self, idle_s: float) -> Sent | None:
        """Return the next envelope; an empty one after `idle_s` without any; None once closed and empty."""
        if not self._is_closed:
            await self._wake.wait(idle_s)
            self._wake.clear()
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if not self._envelopes:
            return None if self._is_closed else self._new()
        self._length -= self._counts.popleft()
        envelope = self._envelopes.popleft()
        if self._envelopes:
            self._wake.set()
        return envelope


async def write_envelopes(
    outbox: Outbox[Item, Sent], write: Callable[[Sent], Awaitable[None]], heartbeat_s: Callable[[], float]
) -> None:
    """Write all that is put into `outbox` until it is closed; an empty envelope when idle for `heartbeat_s()`."""
    number = 0
    while (envelope := await outbox.take(heartbeat_s())) is not None:
        number += 1
        envelope.number = number
        await write(envelope)


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How a client's stream behaves."""

    outbox_items: int = 100_000
    """Items that may wait for a slow master before the stream is given up."""
    connect_timeout_s: float = 10.0
    """How long a connection attempt may take before the next address is tried."""
    heartbeat_s: float = 15.0
    """An empty envelope is sent after this long without another; the master may ask for another interval."""


class ClientStream(Generic[Item, Sent, Received]):
    """One connection to the master: opens, writes what is put, tells what comes, and its end, once.

    `open_call` makes the bidirectional call on a channel; `new` and `add` fill envelopes, as `Outbox` says; `heard` is
    told each envelope in order and may raise to end the stream; `run` returns why the stream ended.
    """

    def __init__(
        self,
        address: str,
        open_call: Callable[[grpc.aio.Channel], grpc.aio.StreamStreamCall[Sent, Received]],
        new: Callable[[], Sent],
        add: Callable[[Sent, Item], int],
        heard: Callable[[Received], None],
        settings: StreamSettings,
    ) -> None:
        self.address = address
        self._heartbeat_s = settings.heartbeat_s
        self._open_call = open_call
        self._heard = heard
        self._settings = settings
        self._outbox: Outbox[Item, Sent] = Outbox(settings.outbox_items, new, add)
        self._why = ""
        self._has_ended = Wake()
        self._call: grpc.aio.StreamStreamCall[Sent, Received] | None = None

    @property
    def heartbeat_s(self) -> float:
        """Return after how long without another an empty envelope is sent; it may be changed at any time."""
        return self._heartbeat_s

    @heartbeat_s.setter
    def heartbeat_s(self, seconds: float) -> None:
        self._heartbeat_s = seconds
        self._outbox.wake()

    def put(self, item: Item) -> None:
        """Queue an item; when the bound is reached the stream ends and `run` says why."""
        try:
            self._outbox.put(item)
        except TooSlow as error:
            self.close(str(error))

    def close(self, why: str) -> None:
        """End the stream: `run` returns `why`."""
        self._why = self._why or why
        self._outbox.close()
        if self._call is not None:
            self._call.cancel()

    async def run(self, opened: Callable[[], None]) -> str:
        """Connect, tell `opened`, then read and write until either side ends it; return why, in words."""
        async with grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS) as channel:
            is_ready = await self._is_ready(channel)
            if self._why or not is_ready:
                return self._why or f"no master answers at {self.address}"
            call = self._call = self._open_call(channel)
            opened()
            writer = asyncio.create_task(self._write(call))
            try:
                return await self._read(call)
            finally:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
                call.cancel()
                self._has_ended.set()

    async def ended(self, timeout_s: float) -> None:
        """Wait for the end of the stream, at most `timeout_s`."""
        await self._has_ended.wait(timeout_s)

    async def _is_ready(self, channel: grpc.aio.Channel) -> bool:
        """Connect; say at once when the address refuses, and after the timeout when it is silent."""
        state = channel.get_state(try_to_connect=True)
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                while state not in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE):
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError:
            return False
        return state is grpc.ChannelConnectivity.READY

    async def _write(self, call: grpc.aio.StreamStreamCall[Sent, Received]) -> None:
        await write_envelopes(self._outbox, call.write, lambda: self.heartbeat_s)
        await call.done_writing()

    async def _read(self, call: grpc.aio.StreamStreamCall[Sent, Received]) -> str:
        try:
            while (envelope := await call.read()) is not grpc.aio.EOF:
                self._heard(envelope)  # type: ignore[arg-type]
        except ProtocolError as error:
            return str(error)
        except asyncio.CancelledError:
            if not self._why:
                raise
        except grpc.aio.AioRpcError as error:
            return self._why or f"{error.code().name}: {error.details()}"
        return self._why or "the master closed the stream"
