"""The master's core and loop on a virtual clock, with its books checked and its doings judged after each event."""

from __future__ import annotations

from collections.abc import Iterable

from runrig.errors import RunrigError
from runrig_master.core.commands import Command, Forget, Persist, Record
from runrig_master.core.events import Event, OperatorEvent
from runrig_master.core.master import Master
from runrig_master.core.settings import CoreSettings
from runrig_master.loop import Loop
from runrig_master.records_grpc import entry, key_of
from runrig_master.store import MemoryStore, Term
from tests.master.core.books import check_books
from tests.master.core.witness import Witness

START_S = 1_000_000.0
STREAMS_PER_EPOCH = 1_000
CLUSTER_ID = "conformance"


class Clock:
    """The time of all that is played."""

    def __init__(self) -> None:
        self.now = START_S


class CheckedMaster(Master):
    """The core, with its books checked and its doings judged after each event."""

    def __init__(
        self, term: Term, settings: CoreSettings, records: Iterable[Record], now: float, witness: Witness
    ) -> None:
        records = tuple(records)
        super().__init__(CLUSTER_ID, term.epoch, settings, records, now)
        self._witness = witness
        self._disk: dict[str, Record] = {entry(item)[0]: item for item in records}

    def handle(self, event: Event, now: float) -> list[Command]:
        """Apply one event, and judge."""
        self._witness.tell(event, now)
        commands = super().handle(event, now)
        for command in commands:
            for item in command.records if isinstance(command, Persist) else ():
                if isinstance(item, Forget):
                    del self._disk[key_of(item)]
                else:
                    self._disk[entry(item)[0]] = item
            self._witness.see(command, self._disk, now)
        self._witness.settle(now)
        check_books(self.cluster)
        return commands


class VirtualLoop(Loop):
    """The master's loop, which turns when something was told, not by itself."""

    def __init__(self, master: Master, store: MemoryStore, term: Term, clock: Clock) -> None:
        self._clock = clock
        super().__init__(master, store, term, events_waiting=20_000, events_per_turn=2_000)
        self._next_stream = term.epoch * STREAMS_PER_EPOCH  # the witness lives through restarts

    def now(self) -> float:
        """Return the virtual time."""
        return self._clock.now

    async def turn(self) -> None:
        """Turn until nothing is left to do at this time."""
        await self._carry_out(self._turn())
        while self._events:
            await self._carry_out(self._turn())

    async def ask(self, event: OperatorEvent) -> None:
        """Tell the core what an operator asks, and turn at once."""
        answers: list[RunrigError | None] = []
        self._answer = lambda command: answers.append(command.error)  # type: ignore[method-assign]
        self.tell(event)
        await self.turn()
        [error] = answers
        if error is not None:
            raise error
