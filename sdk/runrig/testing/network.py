"""Streams between clients and masters, simulated at the envelope, with weather.

As on a real connection: what a process says in one turn travels as one envelope, envelopes are numbered, a stream
whose receiver sees a gap ends, an idle side sends empty ones, a silent client is given up. A cut holds envelopes back
until it heals, as TCP does; loss, doubling and disorder are worse than TCP: numbering must notice them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from runrig._numbering import Numbering
from runrig.agents import Register, Registered
from runrig.errors import ProtocolError
from runrig.offers import (
    OffersMade,
    RefusalCode,
    Revive,
    StreamRefused,
    Subscribe,
    Suppress,
    TasksUpdated,
    Teardown,
    UpdateDemand,
    UpdateFramework,
)
from runrig.testing.world import World

CONNECT_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Weather:
    """What befalls envelopes; all clear by default."""

    loss: float = 0.0
    """The share of envelopes that never arrive."""
    doubling: float = 0.0
    """The share of envelopes that arrive twice."""
    delay_least_s: float = 0.0
    delay_most_s: float = 0.0
    is_ordered: bool = True
    """Whether an envelope waits for those sent before it."""
    echo: float = 0.0
    """The share of envelopes in which something old is said again; to schedulers only updates of tasks."""
    stale: float = 0.0
    """The share of envelopes of masters ahead of which one of an earlier epoch comes, as from a master that froze."""


class Kind(Enum):
    """Who is at the client's end."""

    AGENT = "agent"
    SCHEDULER = "scheduler"


class Client(Protocol):
    """A process that opens streams."""

    is_frozen: bool

    @property
    def name(self) -> str: ...

    def opened(self, stream: Stream) -> None:
        """Learn that a stream is open."""

    def received(self, stream: Stream, epoch: int, items: Sequence[Any]) -> None:
        """Take an envelope."""

    def closed(self, stream: Stream, why: str) -> None:
        """Learn, once, that a stream is closed or could not be opened; `stream.refusal` says more."""


class Server(Protocol):
    """A process that streams are opened to."""

    name: str
    is_frozen: bool
    is_up: bool

    @property
    def epoch(self) -> int: ...

    def accepted(self, stream: Stream) -> None:
        """Learn of a new stream."""

    def heard(self, stream: Stream, items: Sequence[Any]) -> None:
        """Take an envelope."""

    def ended(self, stream: Stream) -> None:
        """Learn, once, that a stream has ended; `stream.last_heard` says when it was heard."""


_NOT_TO_BE_SAID_AGAIN = (Suppress, Revive, UpdateFramework, UpdateDemand, Teardown, Subscribe, Register, Registered)
"""Said a second time in one session, these mean what they say: no receiver could tell."""


class Codec(Protocol):
    """Turns what is said into bytes and back, as the edges do."""

    def encode(self, kind: Kind, is_up: bool, items: Sequence[Any]) -> bytes:
        """Return an envelope's bytes."""

    def decode(self, kind: Kind, is_up: bool, data: bytes) -> tuple[list[Any], list[Any]]:
        """Return what was said, and what the reader answers to what it cannot read."""


def _is_numbered(item: object) -> bool:
    """Say whether it is news by whose number a scheduler can tell that it is old."""
    return isinstance(item, TasksUpdated) and all(update.number for update in item.updates)


class _End:
    """What travels when one side closes."""


class Way:
    """One direction of a stream."""

    __slots__ = ("count", "held", "is_up", "last_due", "numbering", "old", "outbox", "receiver", "sender", "sent_at")

    def __init__(self, sender: Client | Server, receiver: Client | Server, is_up: bool) -> None:
        self.sender = sender
        self.receiver = receiver
        self.is_up = is_up
        self.count = 0
        self.numbering = Numbering()
        self.outbox: list[Any] = []
        self.sent_at = 0.0
        self.last_due = 0.0
        self.held: list[tuple[int, int, tuple[Any, ...] | _End]] = []
        self.old: list[Any] = []


class Stream:
    """One connection of a client to a server."""

    __slots__ = (
        "client",
        "down",
        "id",
        "is_client_open",
        "is_server_open",
        "kind",
        "last_heard",
        "refusal",
        "server",
        "up",
    )

    def __init__(self, number: int, kind: Kind, client: Client, server: Server) -> None:
        self.id = number
        self.kind = kind
        self.client = client
        self.server = server
        self.up = Way(client, server, True)
        self.down = Way(server, client, False)
        self.is_client_open = True
        self.is_server_open = False
        self.last_heard = 0.0
        self.refusal: StreamRefused | None = None

    def __repr__(self) -> str:
        return f"stream {self.id}"


class Network:
    """All streams; `heartbeat_s` and `silence_s` as the edges have them."""

    def __init__(self, world: World, heartbeat_s: float, silence_s: float) -> None:
        self.weather = Weather()
        self.codec: Codec | None = None
        """With it all that is said goes through bytes; without, objects travel as they are."""
        self.streams: dict[int, Stream] = {}
        self._world = world
        self._heartbeat_s = heartbeat_s
        self._silence_s = silence_s
        self.cuts: set[tuple[str, str]] = set()
        self._count = 0
        self._chance = world.chance("network")
        self._past: dict[str, dict[int, list[tuple[Any, ...]]]] = {}
        """By client and epoch: the first envelopes of masters that have arrived."""

    # Faults

    def cut(self, sender: str, receiver: str) -> None:
        """Hold back all that one process sends to another."""
        self.cuts.add((sender, receiver))

    def heal(self, sender: str, receiver: str) -> None:
        """Let through what was held back, and all that follows."""
        self.cuts.discard((sender, receiver))
        self.release()

    def release(self) -> None:
        """Deliver what was held back and no longer is."""
        for stream in list(self.streams.values()):
            for way in (stream.up, stream.down):
                if way.held and not self._is_held(way):
                    held, way.held = way.held, []
                    for number, epoch, items in held:
                        self._arrive_at(self._world.now, stream, way, number, epoch, items)

    def speak_of_old(self) -> None:
        """Send to each client something of an earlier epoch, in its name, where there is any."""
        for stream in list(self.streams.values()):
            if stream.is_server_open:
                self._speak_of_old(stream)

    def break_stream(self, stream: Stream) -> None:
        """Break a connection: both sides notice."""
        self._end_client(stream, "the connection broke", must_tell=True)
        self._end_server(stream)

    def client_died(self, client: Client) -> None:
        """Close the streams of a process that is no more."""
        for stream in self._of(client):
            if stream.is_client_open:
                self._end_client(stream, "", must_tell=False)
                self._transmit(stream, stream.up, _End())

    def server_died(self, server: Server) -> None:
        """Close the streams of a process that is no more."""
        for stream in self._of(server):
            if stream.is_server_open:
                stream.is_server_open = False
                self._transmit(stream, stream.down, _End())
                self._forget(stream)

    def _of(self, process: Client | Server) -> list[Stream]:
        return [stream for stream in self.streams.values() if process in (stream.client, stream.server)]

    # Connecting

    def connect(self, kind: Kind, client: Client, server: Server | None) -> Stream | None:
        """Open a stream; the client is told later. None: there is no such address."""
        if server is None:
            return None
        self._count += 1
        stream = Stream(self._count, kind, client, server)
        self.streams[stream.id] = stream
        self._world.after(self._delay(), lambda: self._connected(stream))
        return stream

    def _connected(self, stream: Stream) -> None:
        if not stream.is_client_open:
            self._forget(stream)
        elif self._is_held(stream.up) or self._is_held(stream.down):
            self._world.after(CONNECT_TIMEOUT_S, lambda: self._end_client(stream, "no master answers", must_tell=True))
        elif not stream.server.is_up:
            self._end_client(stream, "no master answers", must_tell=True)
        else:
            stream.is_server_open = True
            stream.last_heard = stream.up.sent_at = stream.down.sent_at = self._world.now
            stream.server.accepted(stream)
            stream.client.opened(stream)
            self._beat_later(stream, stream.up)
            self._beat_later(stream, stream.down)
            self._world.after(self._silence_s, lambda: self._watch_silence(stream))

    # Sending

    def send(self, stream: Stream, way: Way, item: Any) -> None:
        """Say something; what is said in the same turn goes out together."""
        if not (stream.is_client_open if way.is_up else stream.is_server_open):
            return
        way.outbox.append(item)
        if len(way.outbox) == 1:
            self._world.after(0.0, lambda: self._flush(stream, way))

    def close(self, stream: Stream, why: str) -> None:
        """Close a stream as its client."""
        if stream.is_client_open:
            self._end_client(stream, why, must_tell=True)
            self._transmit(stream, stream.up, _End())

    def refuse(self, stream: Stream, refusal: StreamRefused) -> None:
        """Tell why, then end a stream as its server."""
        if stream.is_server_open:
            stream.down.outbox.append(refusal)
            self._flush(stream, stream.down)
            self._end_server(stream)

    def _flush(self, stream: Stream, way: Way) -> None:
        if not way.outbox:
            return
        if not (stream.is_client_open if way.is_up else stream.is_server_open):
            way.outbox.clear()
            return
        if self.weather.echo:
            self._echo(stream, way)
        if self.weather.stale and not way.is_up and self._chance.random() < self.weather.stale:
            self._speak_of_old(stream)
        items, way.outbox = tuple(way.outbox), []
        self._transmit(stream, way, items)

    def _echo(self, stream: Stream, way: Way) -> None:
        """Say something old again, at times: nobody may take it for new (rule 20)."""
        is_news = not way.is_up and stream.kind is Kind.SCHEDULER
        if way.old and self._chance.random() < self.weather.echo:
            way.outbox.append(self._chance.choice(way.old))
        new = (item for item in way.outbox[:3] if not isinstance(item, _NOT_TO_BE_SAID_AGAIN))
        way.old.extend(item for item in new if not is_news or _is_numbered(item))
        del way.old[:-20]

    def _speak_of_old(self, stream: Stream) -> None:
        """Send what a master of an earlier epoch has said, in its name: nobody may heed it."""
        past = self._past.get(stream.client.name, {})
        old = [(epoch, items) for epoch, all_said in past.items() if epoch < stream.server.epoch for items in all_said]
        if old:
            epoch, items = self._chance.choice(old)
            self._transmit(stream, stream.down, items, epoch)

    def _remember(self, stream: Stream, epoch: int, items: tuple[Any, ...]) -> None:
        """Keep some of what each epoch has said, of news only offers: what is said of tasks may be judged elsewhere."""
        past = self._past.setdefault(stream.client.name, {}).setdefault(epoch, [])
        if len(past) < 5:
            said = tuple(item for item in items if stream.kind is Kind.AGENT or isinstance(item, OffersMade))
            if said:
                past.append(said)

    def _transmit(self, stream: Stream, way: Way, items: tuple[Any, ...] | _End, epoch: int | None = None) -> None:
        weather = self.weather
        is_end = isinstance(items, _End)
        if not is_end:
            way.count += 1
            way.sent_at = self._world.now
        number, epoch = way.count, stream.server.epoch if epoch is None else epoch
        if weather.loss and not is_end and self._chance.random() < weather.loss:
            self._world.note(way.sender.name, "is not heard", items)
            return
        copies = 2 if weather.doubling and not is_end and self._chance.random() < weather.doubling else 1
        for _ in range(copies):
            due = self._world.now + self._delay()
            if weather.is_ordered:
                due = way.last_due = max(due, way.last_due)
            self._arrive_at(due, stream, way, number, epoch, items)

    def _arrive_at(
        self, due: float, stream: Stream, way: Way, number: int, epoch: int, items: tuple[Any, ...] | _End
    ) -> None:
        self._world.at(due, lambda: self._arrive(stream, way, number, epoch, items))

    def _delay(self) -> float:
        weather = self.weather
        if not weather.delay_most_s:
            return 0.0
        # Most are quick, few are slow: as on a real network, and as it costs the most disorder.
        return weather.delay_least_s + (weather.delay_most_s - weather.delay_least_s) * self._chance.random() ** 4

    # Arriving

    def _is_held(self, way: Way) -> bool:
        return way.receiver.is_frozen or (bool(self.cuts) and (way.sender.name, way.receiver.name) in self.cuts)

    def _arrive(self, stream: Stream, way: Way, number: int, epoch: int, items: tuple[Any, ...] | _End) -> None:
        if not (stream.is_server_open if way.is_up else stream.is_client_open):
            return
        if way.held or self._is_held(way):
            way.held.append((number, epoch, items))
            return
        if isinstance(items, _End):
            if way.is_up:
                self._end_server(stream)
            else:
                self._end_client(stream, "the master closed the stream", must_tell=True)
            return
        if way.is_up:
            stream.last_heard = self._world.now
        try:
            is_new = way.numbering.admits(number)
        except ProtocolError as error:
            self._world.note(way.receiver.name, "sees a gap", number)
            if way.is_up:
                self.refuse(stream, StreamRefused(RefusalCode.OUT_OF_ORDER, str(error)))
            else:
                self.close(stream, str(error))
            return
        if not is_new:
            return
        if self.codec is not None:
            items = self._read(stream, way, items)
        if items:
            self._world.note(way.receiver.name, f"hears {way.sender.name}", items)
        if way.is_up:
            stream.server.heard(stream, items)
        else:
            self._remember(stream, epoch, items)
            self._heard_by_client(stream, epoch, items)

    def _read(self, stream: Stream, way: Way, items: tuple[Any, ...]) -> tuple[Any, ...]:
        assert self.codec is not None
        said, answers = self.codec.decode(stream.kind, way.is_up, self.codec.encode(stream.kind, way.is_up, items))
        for answer in answers:
            self.send(stream, stream.down, answer)
        return tuple(said)

    def _heard_by_client(self, stream: Stream, epoch: int, items: tuple[Any, ...]) -> None:
        for item in items:
            if isinstance(item, StreamRefused):
                stream.refusal = item
        stream.client.received(stream, epoch, items)

    # Ends

    def _end_client(self, stream: Stream, why: str, *, must_tell: bool) -> None:
        if not stream.is_client_open:
            return
        stream.is_client_open = False
        if must_tell:
            self._world.after(0.0, lambda: stream.client.closed(stream, why))
        if not stream.is_server_open:
            self._forget(stream)

    def _end_server(self, stream: Stream) -> None:
        if not stream.is_server_open:
            return
        stream.is_server_open = False
        self._transmit(stream, stream.down, _End())
        stream.server.ended(stream)
        if not stream.is_client_open:
            self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        if not stream.is_client_open and not stream.is_server_open:
            self.streams.pop(stream.id, None)

    # Silence

    def _beat_later(self, stream: Stream, way: Way) -> None:
        self._world.at(way.sent_at + self._heartbeat_s, lambda: self._beat(stream, way))

    def _beat(self, stream: Stream, way: Way) -> None:
        if not (stream.is_client_open if way.is_up else stream.is_server_open):
            return
        if way.sender.is_frozen:
            self._world.after(self._heartbeat_s, lambda: self._beat(stream, way))
            return
        if self._world.now >= way.sent_at + self._heartbeat_s:
            self._transmit(stream, way, ())
        self._beat_later(stream, way)

    def _watch_silence(self, stream: Stream) -> None:
        if not stream.is_server_open:
            return
        due = stream.last_heard + self._silence_s
        if self._world.now < due or stream.server.is_frozen:
            self._world.at(max(due, self._world.now + 1.0), lambda: self._watch_silence(stream))
            return
        self._world.note(stream.server.name, f"hears nothing of {stream.client.name}")
        self._end_server(stream)
