"""The one task that owns the core: events in, commands out, durable before anything is told or done."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol, assert_never

import structlog

from runrig._wake import Wake
from runrig.agents import Report
from runrig_agent.checkpoint import Checkpoint
from runrig_agent.core import commands, events
from runrig_agent.core.agent import AgentCore
from runrig_agent.core.effects import merged
from runrig_agent.runtime import TaskKey
from runrig_agent.sandbox_service import LivingTask
from runrig_agent.task_runs import TaskRuns

log = structlog.get_logger()


class Streams(Protocol):
    """The streams to masters, of which one is open at most."""

    def open(self, session: int, master: str) -> None:
        """Connect; the core is told StreamOpened or StreamClosed."""

    def send(self, session: int, reports: tuple[Report, ...]) -> None:
        """Queue reports on the stream of a session, if it is still open."""

    def set_heartbeat(self, session: int, interval_s: float) -> None:
        """Send an empty envelope when nothing else was sent for so long."""

    def close(self, session: int, why: str) -> None:
        """End the stream of a session; the core is told StreamClosed."""


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How much may wait for the core, and how much it does in one turn."""

    events_waiting: int = 20_000
    """Events that may wait before the master's stream is closed: what the agent's own tasks tell is never lost."""

    events_per_turn: int = 2_000
    """Events handled before what follows from them is made durable, with one commit, and carried out."""


class Loop:
    """Feed the core in batches and carry out what it commands, in order."""

    def __init__(self, core: AgentCore, checkpoint: Checkpoint, settings: LoopSettings = LoopSettings()) -> None:
        self.core = core
        self.turns = 0
        self.turn_seconds = 0.0
        self.commit_seconds = 0.0
        self.events_handled = 0
        self.stopped: commands.StopAgent | None = None
        self._checkpoint = checkpoint
        self._settings = settings
        self._events: deque[events.Event] = deque()
        self._wake = Wake()
        self._offset = time.time() - time.monotonic()
        self._first: list[commands.Command] = []
        self._runs: TaskRuns | None = None

    def now(self) -> float:
        """Return Unix seconds that never go back within this process."""
        return time.monotonic() + self._offset

    def tell(self, event: events.Event) -> None:
        """Queue an event for the next turn."""
        self._events.append(event)
        self._wake.set()

    def is_behind(self) -> bool:
        """Say whether more events wait than may."""
        return len(self._events) >= self._settings.events_waiting

    def living(self, key: TaskKey) -> LivingTask | None:
        """Return a task that was accepted and has not ended, for those who look into its sandbox."""
        task = self.core.living(key)
        runtime = self._runs.runtime(task.kind) if task is not None and self._runs is not None else None
        if task is None or runtime is None or self._runs is None:
            return None
        return LivingTask(runtime, self._runs.environment(key, task.spec))

    @property
    def commits(self) -> int:
        """Return how many commits the checkpoint has made."""
        return self._checkpoint.commits

    def start(self, event: events.AgentStarted) -> None:
        """Tell the core who it is; what follows from that is carried out in the first turn."""
        self._first = self.core.handle(event, self.now())

    async def run(self, runs: TaskRuns, streams: Streams) -> None:
        """Turn until the core wants to stop. A failure of checkpoint or core ends it, and with it the process."""
        self._runs = runs
        await self._carry_out(merged(self._first), runs, streams)
        while self.stopped is None:
            await self._wait()
            started = time.perf_counter()
            todo = self._turn()
            self.turn_seconds += time.perf_counter() - started
            self.turns += 1
            await self._carry_out(todo, runs, streams)

    async def _wait(self) -> None:
        if self._events:
            await asyncio.sleep(0)
            return
        self._wake.clear()
        due = self.core.next_deadline()
        await self._wake.wait(None if due is None else max(0.0, due - self.now()) + 0.001)

    def _turn(self) -> list[commands.Command]:
        now = self.now()
        todo: list[commands.Command] = []
        for _ in range(min(len(self._events), self._settings.events_per_turn)):
            event = self._events.popleft()
            self.events_handled += 1
            todo.extend(self.core.handle(event, now))
        due = self.core.next_deadline()
        if due is not None and due <= now:
            todo.extend(self.core.handle(events.Tick(), now))
        return merged(todo)

    async def _carry_out(self, todo: list[commands.Command], runs: TaskRuns, streams: Streams) -> None:
        for command in todo:
            match command:
                case commands.Checkpoint():
                    await self._make_durable(command)
                case commands.SendReports():
                    streams.send(command.session, command.reports)
                case commands.PrepareTask():
                    runs.prepare(command)
                case commands.CancelPreparation():
                    runs.cancel_preparation(command.key)
                case commands.LaunchTask():
                    runs.launch(command)
                case commands.SignalTask():
                    runs.signal(command)
                case commands.ForgetTask():
                    runs.forget(command)
                case commands.DeleteVolume():
                    runs.delete_volume(command)
                case commands.RecoverTasks():
                    runs.recover(command)
                case commands.StartHealthChecks():
                    runs.watch(command)
                case commands.StopHealthChecks():
                    runs.unwatch(command.key)
                case commands.AdoptTask():
                    log.info("task adopted", framework=command.key[0], task=command.key[1])
                case commands.OpenStream():
                    streams.open(command.session, command.master)
                case commands.CloseStream():
                    streams.close(command.session, command.why)
                case commands.SetHeartbeat():
                    log.info("registered", master=self.core.master, session=command.session, epoch=self.core.epoch)
                    streams.set_heartbeat(command.session, command.interval_s)
                case commands.StopAgent():
                    self.stopped = command
                case _:
                    assert_never(command)

    async def _make_durable(self, command: commands.Checkpoint) -> None:
        """Write the changes; wait only where a later command relies on them."""
        durable = self._checkpoint.write(command.changes)
        if command.is_barrier:
            started = time.perf_counter()
            await durable
            self.commit_seconds += time.perf_counter() - started
        else:
            durable.add_done_callback(_heed)


def _heed(durable: asyncio.Future[None]) -> None:
    """Take note of a failure nobody waits for: the next write fails likewise, and ends the process."""
    if not durable.cancelled() and (error := durable.exception()) is not None:
        log.error("checkpoint failed", why=str(error))
