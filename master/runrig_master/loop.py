"""The one task that owns the core: events in, commands out, durable before told."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from runrig._wake import Wake
from runrig.agents import Order
from runrig.errors import RunrigError
from runrig.offers import News, StreamRefused
from runrig_master.core.commands import (
    AnswerOperator,
    CloseStream,
    Command,
    Note,
    Persist,
    SendToAgent,
    SendToScheduler,
)
from runrig_master.core.events import Event, OperatorEvent, QuestionId, StreamId, Tick
from runrig_master.core.master import Master
from runrig_master.measures import Measures
from runrig_master.registrar import writes
from runrig_master.store import Store, Term

log = structlog.get_logger()


@dataclass(slots=True)
class Ends:
    """What the edge of one stream lets the loop do to it."""

    send: Callable[[Order | News], None]
    close: Callable[[StreamRefused], None]


class Loop:
    """Feed the core in batches and carry out what it commands, in order."""

    def __init__(self, master: Master, store: Store, term: Term, events_waiting: int, events_per_turn: int) -> None:
        self.master = master
        self.turns = 0
        self.turn_seconds = 0.0
        self.commit_seconds = 0.0
        self.commits = 0
        self.measures = Measures()
        self.turned: Callable[[], None] = lambda: None
        """Called after each turn in which something a watcher may want has changed."""
        self._store = store
        self._term = term
        self._events_waiting = events_waiting
        self._events_per_turn = events_per_turn
        self._events: deque[Event] = deque()
        self._wake = Wake()
        self._room = asyncio.Event()
        self._room.set()
        self._streams: dict[StreamId, Ends] = {}
        self._next_stream = 0
        self._questions: dict[QuestionId, asyncio.Future[RunrigError | None]] = {}
        self._next_question = 0
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Return seconds since 1970 that never go back within this process."""
        return time.monotonic() + self._offset

    def open_stream(self, ends: Ends) -> StreamId:
        """Give a new stream its id."""
        self._next_stream += 1
        stream = StreamId(self._next_stream)
        self._streams[stream] = ends
        return stream

    def forget_stream(self, stream: StreamId) -> None:
        """Send nothing more to a stream that has ended."""
        self._streams.pop(stream, None)

    def tell(self, event: Event) -> None:
        """Queue an event."""
        self._events.append(event)
        self._wake.set()
        if len(self._events) >= self._events_waiting:
            self._room.clear()

    async def room(self) -> None:
        """Wait until few enough events wait: readers of streams call this between envelopes."""
        await self._room.wait()

    def new_question(self) -> QuestionId:
        """Return an id for an operator's call."""
        self._next_question += 1
        return QuestionId(self._next_question)

    async def ask(self, event: OperatorEvent) -> None:
        """Tell the core what an operator asks; return once it is done and durable, or raise the error."""
        future: asyncio.Future[RunrigError | None] = asyncio.get_running_loop().create_future()
        self._questions[event.question] = future
        self.tell(event)
        error = await future
        if error is not None:
            raise error

    async def run(self) -> None:
        """Turn until cancelled, at first for what the core has to say of itself.

        A failure of the store or of the core ends it, and with it the process.
        """
        while True:
            started = time.perf_counter()
            commands = self._turn()
            self.turn_seconds += time.perf_counter() - started
            self.turns += 1
            await self._carry_out(commands)
            if self.master.cluster.touched:
                self.turned()
            await self._wait()

    async def _wait(self) -> None:
        if self._events:
            await asyncio.sleep(0)
            return
        self._wake.clear()
        due = self.master.next_deadline()
        await self._wake.wait(None if due is None else max(0.0, due - self.now()) + 0.001)

    def _turn(self) -> list[Command]:
        now = self.now()
        commands: list[Command] = []
        for _ in range(min(len(self._events), self._events_per_turn)):
            event = self._events.popleft()
            self.measures.heard(self.master.cluster, event, now)
            commands.extend(self.master.handle(event, now))
        commands.extend(self._end_turn(now))
        if len(self._events) < self._events_waiting:
            self._room.set()
        return commands

    def _end_turn(self, now: float) -> list[Command]:
        cluster, started = self.master.cluster, time.perf_counter()
        passes = cluster.passes
        commands = self.master.handle(Tick(), now)
        if cluster.passes > passes:
            self.measures.allocation_s.add(time.perf_counter() - started)
        self.measures.did(cluster, commands)
        return commands

    async def _carry_out(self, commands: list[Command]) -> None:
        """Carry out commands in order; what stands behind a `Persist` waits until that is durable."""
        await self._persist(commands)
        for command in commands:
            match command:
                case SendToAgent():
                    self._send(command.stream, command.order)
                case SendToScheduler():
                    self._send(command.stream, command.news)
                case CloseStream():
                    ends = self._streams.get(command.stream)
                    if ends is not None:
                        ends.close(command.refusal)
                case AnswerOperator():
                    self._answer(command)
                case Note():
                    (log.error if command.is_alarm else log.info)(command.text, **command.fields)
                case Persist():
                    pass

    def _send(self, stream: StreamId, item: Order | News) -> None:
        ends = self._streams.get(stream)
        if ends is not None:
            ends.send(item)

    def _answer(self, command: AnswerOperator) -> None:
        future = self._questions.pop(command.question, None)
        if future is not None and not future.done():
            future.set_result(command.error)

    async def _persist(self, commands: list[Command]) -> None:
        puts, deletes = writes(commands)
        if puts or deletes:
            started = time.perf_counter()
            await self._store.commit(puts, deletes, self._term)
            self.commit_seconds += time.perf_counter() - started
            self.commits += 1
