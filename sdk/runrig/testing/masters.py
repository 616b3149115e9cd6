"""A master of the simulated cluster: the real core and registrar, over a simulated store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from runrig.errors import RunrigError
from runrig.ids import FrameworkId
from runrig.offers import Subscribe
from runrig.testing.network import Kind, Network, Stream
from runrig.testing.turns import Disk, Turns
from runrig.testing.world import World
from runrig_master.core.commands import (
    AnswerOperator,
    CloseStream,
    Command,
    Note,
    Record,
    SendToAgent,
    SendToScheduler,
)
from runrig_master.core.events import (
    AgentReported,
    AgentStreamClosed,
    Event,
    OperatorEvent,
    QuestionId,
    SchedulerCalled,
    SchedulerStreamClosed,
    StreamId,
    Tick,
)
from runrig_master.core.master import Master
from runrig_master.core.settings import CoreSettings
from runrig_master.records_grpc import record
from runrig_master.registrar import writes


class SimulatedStore:
    """What all leaderships share: entries, and the epoch that fences them."""

    def __init__(self, world: World) -> None:
        self.entries: dict[str, bytes] = {}
        self.epoch = 0
        self.disk = Disk(world, "store")


class MasterWatcher(Protocol):
    """Sees all that a master is told and does, as it happens."""

    def begins(self, master: SimulatedMaster) -> None:
        """Learn of a new leadership."""

    def told(self, master: SimulatedMaster, event: Event) -> None:
        """See an event before the core does."""

    def did(self, master: SimulatedMaster, commands: Sequence[Command]) -> None:
        """See what the core answered to that event."""

    def turned(self, master: SimulatedMaster) -> None:
        """Look at what stands after a turn."""


class SimulatedMaster:
    """A master's process; a new `Master` with each start."""

    def __init__(
        self, world: World, network: Network, name: str, store: SimulatedStore, settings: CoreSettings
    ) -> None:
        self.name = name
        self.is_up = False
        self.is_frozen = False
        self.skew_s = 0.0
        """How far its clock is ahead; it changes only while the process is down, as within one it never goes back."""
        self.watchers: list[MasterWatcher] = []
        self.notes: list[Note] = []
        """What it told its log."""
        self.died: Callable[[], None] = lambda: None
        """Called when it ends by itself: its store failed, or its leadership is over."""
        self._core: Master | None = None
        self._world = world
        self._network = network
        self._store = store
        self._settings = settings
        self._streams: dict[StreamId, Stream] = {}
        self._events: list[Event] = []
        self._turns: Turns | None = None
        self._questions = 0
        self._answers: dict[QuestionId, Callable[[RunrigError | None], None]] = {}
        self._fresh = 0

    @property
    def epoch(self) -> int:
        """Return the number of its latest leadership; 0: it never led."""
        return self._core.cluster.epoch if self._core is not None else 0

    @property
    def core(self) -> Master:
        """Return the core of its latest leadership."""
        assert self._core is not None, f"{self.name} never led"
        return self._core

    @property
    def records(self) -> dict[str, Record]:
        """Return what the store holds."""
        entries = sorted(self._store.entries.items())
        return {key: found for key, value in entries if (found := record(key, value)) is not None}

    @property
    def now(self) -> float:
        """Return its own clock's time."""
        return self._world.now + self.skew_s

    # The process

    def start(self) -> None:
        """Begin a leadership with what the store holds."""
        if self.is_up:
            return
        self._store.epoch += 1
        self._core = Master("simulated", self._store.epoch, self._settings, self.records.values(), self.now)
        self.is_up = True
        self.is_frozen = False
        self._turns = Turns(self._world, self._turn, self._deadline)
        self._world.note(self.name, "leads with epoch", self.epoch)
        for watcher in self.watchers:
            watcher.begins(self)
        self._turns.wake()

    def kill(self) -> None:
        """Kill the process: all streams break; what the store has stays."""
        if not self.is_up:
            return
        assert self._turns is not None
        self._turns.stop()
        self.is_up = False
        self.is_frozen = False
        self._events.clear()
        self._streams.clear()
        self._answers.clear()
        self._world.note(self.name, "dies")
        self._network.server_died(self)

    def freeze(self) -> None:
        """Stop the process as SIGSTOP does."""
        if self.is_up and not self.is_frozen:
            assert self._turns is not None
            self.is_frozen = True
            self._turns.hold()

    def thaw(self) -> None:
        """Let the process go on."""
        if self.is_frozen:
            assert self._turns is not None
            self.is_frozen = False
            self._turns.release()
            self._network.release()

    def ask(
        self, event: Callable[[QuestionId], OperatorEvent], answered: Callable[[RunrigError | None], None] | None = None
    ) -> None:
        """Ask as an operator; no answer comes from a master that dies."""
        if not self.is_up:
            return
        self._questions += 1
        question = QuestionId(self._questions)
        if answered is not None:
            self._answers[question] = answered
        self._tell(event(question))

    # The network

    def accepted(self, stream: Stream) -> None:
        """Learn of a new stream."""
        self._streams[StreamId(stream.id)] = stream

    def heard(self, stream: Stream, items: Sequence[Any]) -> None:
        """Take an envelope."""
        number = StreamId(stream.id)
        for item in items:
            if stream.kind is Kind.AGENT:
                self._tell(AgentReported(number, item))
            else:
                self._tell(SchedulerCalled(number, item, self._fresh_id(item)))

    def ended(self, stream: Stream) -> None:
        """Learn that a stream has ended."""
        number = StreamId(stream.id)
        if self._streams.pop(number, None) is None:
            return
        if stream.kind is Kind.AGENT:
            self._tell(AgentStreamClosed(number, stream.last_heard + self.skew_s))
        else:
            self._tell(SchedulerStreamClosed(number))

    def _fresh_id(self, call: object) -> FrameworkId:
        if not isinstance(call, Subscribe) or call.framework.framework_id:
            return FrameworkId("")
        self._fresh += 1
        return FrameworkId(f"f-{self.epoch}-{self._fresh}")

    def _tell(self, event: Event) -> None:
        if self.is_up:
            assert self._turns is not None
            self._events.append(event)
            self._turns.wake()

    # Turns

    def _deadline(self) -> float | None:
        due = self.core.next_deadline()
        return None if due is None else due - self.skew_s

    def _turn(self) -> None:
        events, self._events = self._events, []
        commands: list[Command] = []
        core, now, watchers = self.core, self.now, self.watchers
        for event in (*events, Tick()):
            for watcher in watchers:
                watcher.told(self, event)
            done = core.handle(event, now)
            commands.extend(done)
            for watcher in watchers:
                watcher.did(self, done)
        for watcher in watchers:
            watcher.turned(self)
        self._make_durable(commands)

    def _make_durable(self, commands: list[Command]) -> None:
        puts, deletes = writes(commands)
        turns, epoch = self._turns, self.epoch
        assert turns is not None
        if not puts and not deletes:
            self._carry_out(commands)
            return

        def write() -> None:
            if epoch == self._store.epoch:
                self._store.entries.update(puts)
                for key in deletes:
                    self._store.entries.pop(key, None)

        def done() -> None:
            if turns.is_over:
                return
            if epoch != self._store.epoch:
                self._end("finds that another leads")
                return
            self._carry_out(commands)
            turns.release()

        turns.hold()
        self._store.disk.commit(write, done, lambda: None if turns.is_over else self._end("cannot write"))

    def _end(self, why: str) -> None:
        self._world.note(self.name, why)
        self.kill()
        self.died()

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case SendToAgent():
                    self._send(command.stream, command.order)
                case SendToScheduler():
                    self._send(command.stream, command.news)
                case CloseStream():
                    stream = self._streams.get(command.stream)
                    if stream is not None:
                        self._network.refuse(stream, command.refusal)
                case AnswerOperator():
                    answered = self._answers.pop(command.question, None)
                    if answered is not None:
                        answered(command.error)
                case Note():
                    self.notes.append(command)
                case _:
                    pass

    def _send(self, number: StreamId, item: Any) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            self._network.send(stream, stream.down, item)
