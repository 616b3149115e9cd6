"""What the Connect streams of agents and schedulers have in common: envelopes, bounds, silence, the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError

from runrig._numbering import Numbering
from runrig._streams import Outbox, write_envelopes
from runrig.agents import Order
from runrig.errors import InvalidInput, ProtocolError, TooSlow
from runrig.offers import News, RefusalCode, StreamRefused
from runrig_master.core.events import Event, StreamId
from runrig_master.loop import Ends, Loop

log = structlog.get_logger()

EVENTS_AT_ONCE = 1_000
"""Of one envelope, before the reader looks whether there is room for more: an envelope may hold millions."""


class ReceivedEnvelope(Protocol):
    """An envelope that came."""

    @property
    def number(self) -> int: ...


class SentEnvelope(Protocol):
    """An envelope to be written."""

    number: int
    epoch: int


Incoming = TypeVar("Incoming", bound=ReceivedEnvelope)
Outgoing = TypeVar("Outgoing", bound=SentEnvelope)


@dataclass(frozen=True, slots=True)
class Dialect(Generic[Incoming, Outgoing]):
    """How one service's envelopes are read and written."""

    kind: str
    events: Callable[[StreamId, Incoming], Iterable[Event | None]]
    """Reads an envelope's items, None for one that was refused; raises InvalidInput."""
    new: Callable[[], Outgoing]
    """Makes an empty envelope."""
    add: Callable[[Outgoing, Any], int]
    """Puts an order, news or a refusal into an envelope; returns by how many bytes it has grown."""
    closed: Callable[[StreamId, float], Event]
    """The event of the stream's end, with when it was last heard."""
    linger_s: Callable[[Any], float] = lambda _: 0.0
    """Says for how long an item may wait for others to travel with."""


def check_count(field: str, count: int, most: int) -> None:
    """Raise InvalidInput naming `field` when there are more than `most`."""
    if count > most:
        raise InvalidInput(field, count, f"at most {most} (max_items)")


class ServedStream(Generic[Incoming, Outgoing]):
    """One Connect call, from its opening to its end."""

    def __init__(
        self,
        loop: Loop,
        dialect: Dialect[Incoming, Outgoing],
        outbox_items: int,
        heartbeat_s: float,
        silence_s: float,
    ) -> None:
        self._loop = loop
        self._dialect = dialect
        self._heartbeat_s = heartbeat_s
        self._silence_s = silence_s
        self._outbox: Outbox[Order | News, Outgoing] = Outbox(outbox_items, self._envelope, dialect.add)
        self._numbering = Numbering()
        self._is_closing = False
        self._ended: asyncio.Future[tuple[grpc.StatusCode, str] | None]
        self._ended = asyncio.get_running_loop().create_future()
        self._last_heard = time.monotonic()
        self.id = loop.open_stream(Ends(self.send, self.close))

    def send(self, item: Order | News) -> None:
        """Queue an item; a receiver that is too slow is cut off."""
        if self._is_closing:
            return
        try:
            self._outbox.put(item, self._dialect.linger_s(item))
        except TooSlow as error:
            self._end((grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)))

    def close(self, refusal: StreamRefused) -> None:
        """Tell why, then end the stream."""
        self.send(refusal)
        self._is_closing = True
        self._outbox.close()

    def _envelope(self) -> Outgoing:
        envelope = self._dialect.new()
        envelope.epoch = self._loop.master.cluster.epoch
        return envelope

    def _end(self, status: tuple[grpc.StatusCode, str] | None) -> None:
        if not self._ended.done():
            self._ended.set_result(status)

    async def serve(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Read and write until either side ends it.

        The headers go first. gRPC would send them with the first write and, were that cancelled, once more with the
        status, which fails: the client would never learn of the end.
        """
        working: list[asyncio.Task[None]] = []
        try:
            with contextlib.suppress(grpc.aio.BaseError):  # the client is gone, as reading will say
                await context.send_initial_metadata(())
            working.append(asyncio.create_task(self._read(context)))
            writing = write_envelopes(self._outbox, context.write, lambda: self._heartbeat_s)
            working.append(asyncio.create_task(writing))
            working.append(asyncio.create_task(self._watch_silence()))
            ends: set[asyncio.Future[Any]] = {*working, self._ended}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in working:
                task.cancel()
            for result in await asyncio.gather(*working, return_exceptions=True):
                self._note_failure(result)
            self._loop.forget_stream(self.id)
            heard_ago = time.monotonic() - self._last_heard
            self._loop.tell(self._dialect.closed(self.id, self._loop.now() - heard_ago))
        status = self._ended.result() if self._ended.done() else None
        if status is not None:
            log.warning("stream cut off", kind=self._dialect.kind, stream=self.id, why=status[1])
            await context.abort(*status)

    def _note_failure(self, result: object) -> None:
        """Let no failure pass in silence; that the client is gone is none."""
        if isinstance(result, DecodeError):
            self._end((grpc.StatusCode.INVALID_ARGUMENT, f"an envelope is no message: {result}"))
        elif isinstance(result, Exception) and not isinstance(result, grpc.aio.BaseError):
            log.error("stream failed", kind=self._dialect.kind, stream=self.id, exc_info=result)
            self._end((grpc.StatusCode.INTERNAL, "a bug of the master, which its log tells of; connect again"))

    async def _read(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        refusal = await self._take_all(context)
        if refusal is not None:
            self.close(refusal)
            await self._drained()

    async def _take_all(self, context: grpc.aio.ServicerContext[Any, Any]) -> StreamRefused | None:
        """Return why the stream must end, None when the client has ended it."""
        try:
            while await self._take_next(context):
                pass
        except InvalidInput as error:
            return StreamRefused(RefusalCode.INVALID, str(error))
        except ProtocolError as error:
            return StreamRefused(RefusalCode.OUT_OF_ORDER, str(error))
        return None

    async def _take_next(self, context: grpc.aio.ServicerContext[Any, Any]) -> bool:
        """Say whether there was another envelope, which nothing holds any more: it may be hundreds of MiB.

        gRPC's iterator over envelopes would hold the last one as long as the stream, and then as garbage.
        """
        envelope = await context.read()
        if envelope is grpc.aio.EOF:
            return False
        self._last_heard = time.monotonic()
        if not self._is_closing and self._numbering.admits(envelope.number):
            await self._take(envelope)
        return True

    async def _take(self, envelope: Incoming) -> None:
        for number, event in enumerate(self._dialect.events(self.id, envelope), 1):
            if event is not None:
                self._loop.tell(event)
            if number % EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)
                await self._loop.room()
        await self._loop.room()

    async def _drained(self) -> None:
        """Leave the end to the writer, which still has the refusal to write."""
        await asyncio.sleep(self._silence_s)

    async def _watch_silence(self) -> None:
        while (left := self._last_heard + self._silence_s - time.monotonic()) > 0:  # noqa: ASYNC110 (the deadline moves with each envelope)
            await asyncio.sleep(left)
        self._end((grpc.StatusCode.DEADLINE_EXCEEDED, f"nothing was heard for {self._silence_s:g} s"))
