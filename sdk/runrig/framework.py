"""Run a framework: its logic, its store and its connection to the master, on one asyncio task.

    framework = Framework("thumbs", MyLogic(), store=SqliteStore("thumbs.db"))
    asyncio.run(framework.run())

Everything that can fail is on by default: reconnection with jitter, following the leader, acknowledging after durable
writes, reconciliation, retries of kills, failover with the same id.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from runrig._connection_grpc import Connection, addresses_of
from runrig._turn import Persist
from runrig._wake import Wake
from runrig.errors import InvalidInput, Refused, RunrigError, exit_code
from runrig.ids import MAX_ID_LENGTH, FrameworkId, Role, TaskId, checked_id, checked_role
from runrig.offers import DEFAULT_FAILOVER_TIMEOUT_MS, FrameworkInfo
from runrig.raw import RawLogic, RawScheduler
from runrig.scheduler import Scheduler, SchedulerCommand, SchedulerSettings, Told, TurnEnded
from runrig.session import (
    CloseStream,
    Ended,
    Heard,
    Lost,
    OpenStream,
    SessionSettings,
    Started,
    StreamClosed,
    Transmit,
)
from runrig.store import MemoryStore, Store
from runrig.wants import Answer, Logic, TaskView

log = structlog.get_logger()

DEFAULT_MASTER = "127.0.0.1:5055"
FORGETFUL_FAILOVER_TIMEOUT_MS = 60_000
_IDENTITY_KEY = "runrig/framework"


@dataclass(frozen=True, slots=True)
class FrameworkSettings:
    """How a framework runs."""

    scheduler: SchedulerSettings = field(default_factory=SchedulerSettings)
    session: SessionSettings = field(default_factory=SessionSettings)
    events_per_turn: int = 2_000
    """Events that are handled before what follows from them is made durable and carried out."""
    events_waiting: int = 100_000
    """Events that may wait for the logic; the stream is given up above it, and reconciled when it is back."""
    teardown_at_end: bool = False
    """Remove the framework, and kill its tasks, when `run` is cancelled. One whose store is not durable is always
    removed when `run` is done or cancelled, as nobody could come back for its tasks."""


class Framework:
    """A scheduler's process side: owns the logic and talks to the master."""

    def __init__(
        self,
        name: str,
        logic: Logic | RawLogic,
        *,
        roles: Sequence[str] = ("default",),
        store: Store | None = None,
        master: str = DEFAULT_MASTER,
        framework_id: str = "",
        failover_timeout_ms: int | None = None,
        principal: str = "",
        web_url: str = "",
        takes_gpus: bool = False,
        settings: FrameworkSettings = FrameworkSettings(),
    ) -> None:
        """Describe a framework; nothing is connected before `run`.

        `master` is `host:port`, or several joined by commas. A framework without `framework_id` gets one, kept in
        the store. Its tasks outlive its absence for `failover_timeout_ms`: by default a week with a durable store, a
        minute with another, which cannot come back as the same framework. With `takes_gpus` a raw logic is offered
        gpus, too; any other is when it wants some. Raises InvalidInput.
        """
        if not 1 <= len(name) <= MAX_ID_LENGTH:
            raise InvalidInput("name", name, f"1 to {MAX_ID_LENGTH} characters")
        checked = tuple(checked_role("roles", role) for role in roles)
        if not checked or len(set(checked)) < len(checked):
            raise InvalidInput("roles", tuple(roles), "one role at least, and each once")
        if framework_id:
            checked_id("framework_id", framework_id)
        self.logic = logic
        self.store = store if store is not None else MemoryStore()
        self.scheduler: Scheduler | RawScheduler | None = None
        if failover_timeout_ms is None:
            failover_timeout_ms = (
                DEFAULT_FAILOVER_TIMEOUT_MS if self.store.is_durable else FORGETFUL_FAILOVER_TIMEOUT_MS
            )
        self._info = FrameworkInfo(
            name,
            checked,
            FrameworkId(framework_id),
            failover_timeout_ms,
            principal,
            web_url=web_url,
            takes_gpus=takes_gpus,
        )
        self._addresses = addresses_of(master)
        self._settings = settings
        self._events: deque[Any] = deque()
        self._wake = Wake()
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._offset = time.time() - time.monotonic()

    @property
    def framework_id(self) -> FrameworkId:
        """Return its id; empty before `run` has read the store."""
        return self._info.framework_id

    @property
    def is_connected(self) -> bool:
        """Say whether it is subscribed now."""
        return self.scheduler is not None and self.scheduler.is_connected

    @property
    def declines(self) -> Mapping[str, int]:
        """Return why the last offers that were declined did not serve, and of how many that is so."""
        return self.scheduler.reasons if isinstance(self.scheduler, Scheduler) else {}

    def now(self) -> float:
        """Return seconds since 1970 that never go back within this process."""
        return time.monotonic() + self._offset

    def view(self, task_id: TaskId) -> TaskView | None:
        """Return what is known of a wanted or launched task."""
        return self.scheduler.view(task_id) if isinstance(self.scheduler, Scheduler) else None

    def tell(self, event: object) -> None:
        """Tell the logic something; it is handled in the next turn."""
        self._push(Told(event))

    async def ask(self, question: object) -> Any:
        """Tell the logic `question` and return the value of its Answer, once all that the answer entails is durable.

        Raises the value if it is an exception.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._questions[id(question)] = future
        self.tell(question)
        try:
            value = await future
        finally:
            self._questions.pop(id(question), None)
        if isinstance(value, BaseException):
            raise value
        return value

    async def run(self, until: Callable[[], bool] | None = None) -> None:
        """Run until cancelled, or until `until()` holds after a turn.

        Raises Superseded when another scheduler took over, Removed when the framework was removed, Refused when the
        master admits it not, Unavailable when the store fails.
        """
        try:
            await self._restore()
            while True:
                await self._wait()
                await self._turn()
                if until is not None and until():
                    return
        finally:
            await self._stop()

    def main(self, until: Callable[[], bool] | None = None) -> None:
        """Run as a program: until Ctrl-C, SIGTERM, or `until()` holds after a turn.

        Returns at the end that was meant: `until()`, or a signal where there is no `until`. Any other end is the
        program's: SystemExit with the code of the signal, or of what `run` raised, which is said on stderr.
        """
        try:
            asyncio.run(self._main(until))
        except RunrigError as error:
            sys.stderr.write(f"{self._info.name}: {error}\n")
            raise SystemExit(exit_code(error)) from None
        except (KeyboardInterrupt, asyncio.CancelledError) as end:
            if until is not None:
                number = signal.SIGINT if isinstance(end, KeyboardInterrupt) else signal.SIGTERM
                raise SystemExit(128 + number) from None

    async def _main(self, until: Callable[[], bool] | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await self.run(until)

    # Turns

    async def _restore(self) -> None:
        entries = await self.store.read("")
        identity = json.loads(entries.get(_IDENTITY_KEY, b"{}"))
        if not self._info.framework_id:
            fresh = f"{self._info.name[:40]}-{uuid.uuid4().hex[:8]}".replace("/", "-")
            self._info = replace(self._info, framework_id=FrameworkId(identity.get("id") or fresh))
        # In milliseconds, so that of two processes with the same id that start in one second the later still wins.
        number = max(time.time_ns() // 1_000_000, int(identity.get("number", 0)) + 1)
        value = json.dumps({"v": 1, "id": self._info.framework_id, "number": number}).encode()
        await self.store.commit({_IDENTITY_KEY: value})
        now = self.now()
        if isinstance(self.logic, RawLogic):
            self.scheduler = RawScheduler(self._info, self.logic, entries, now, self._settings.session)
        else:
            self.scheduler = Scheduler(
                self._info, self.logic, entries, now, self._settings.scheduler, self._settings.session
            )
        self._push(Started(number))

    def _push(self, event: Any) -> None:
        self._events.append(event)
        self._wake.set()

    async def _wait(self) -> None:
        assert self.scheduler is not None
        if self._events:
            await asyncio.sleep(0)
            return
        self._wake.clear()
        due = self.scheduler.next_deadline()
        await self._wake.wait(None if due is None else max(0.0, due - self.now()) + 0.001)

    async def _turn(self) -> None:
        assert self.scheduler is not None
        now = self.now()
        commands: list[SchedulerCommand] = []
        for _ in range(min(len(self._events), self._settings.events_per_turn)):
            commands.extend(self.scheduler.handle(self._events.popleft(), now))
        commands.extend(self.scheduler.handle(TurnEnded(), now))
        for command in commands:
            await self._carry_out(command)

    async def _carry_out(self, command: SchedulerCommand) -> None:
        match command:
            case Persist():
                await self.store.commit(command.puts, command.deletes)
            case Transmit():
                if self._connection is not None and self._connection.number == command.stream:
                    self._connection.send(command.call)
            case OpenStream():
                self._open(command)
            case CloseStream():
                if self._connection is not None and self._connection.number == command.stream:
                    self._connection.close(command.why)
            case Answer():
                future = self._questions.get(id(command.question))
                if future is not None and not future.done():
                    future.set_result(command.value)
            case Lost():
                log.warning("master lost", framework=self._info.framework_id, why=command.why)
            case Ended():
                raise command.error
            case Heard():
                pass

    # The connection

    def _open(self, command: OpenStream) -> None:
        if command.leader:
            address = command.leader
        else:
            address = self._addresses[0]
            self._addresses.append(self._addresses.pop(0))
        self._connection = Connection(command.stream, address, self._push)
        self._connecting = asyncio.create_task(self._connect(self._connection))

    async def _connect(self, connection: Connection) -> None:
        try:
            why = await connection.run()
        except Refused as error:
            why = str(error)
        self._push(StreamClosed(connection.number, why, random.random()))

    async def _stop(self) -> None:
        must_remove = self._settings.teardown_at_end or not self.store.is_durable
        if must_remove and self.is_connected and self._connection is not None:
            await self._connection.teardown()
        for task in [self._connecting]:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        for future in self._questions.values():
            if not future.done():
                future.cancel()
        await self.store.close()


def roles_of(text: str) -> tuple[Role, ...]:
    """Read roles joined by commas; raise InvalidInput."""
    return tuple(checked_role("roles", part.strip()) for part in text.split(",") if part.strip())
