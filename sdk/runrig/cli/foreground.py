"""Run the parts of a cluster in the foreground, from their start to the signal that ends them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from runrig.cli.cluster import ClusterFile, Part, State
from runrig.cli.supervisor import Supervisor, SupervisorSettings, Teller
from runrig.errors import RunrigError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ONE_REQUEST_S = 0.5
"""Signals that come together are one request: `timeout` sends two, a terminal that is closed as well."""


@dataclass(slots=True)
class Stop:
    """Signals that ask for the end: the first asks nicely, the second does not."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    insisted: asyncio.Event = field(default_factory=asyncio.Event)
    _asked_at: float = 0.0

    def listen(self) -> None:
        """Take the signals over."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.signalled)

    def signalled(self) -> None:
        """Note a signal."""
        now = asyncio.get_running_loop().time()
        if not self.asked.is_set():
            self._asked_at = now
            self.asked.set()
        elif now - self._asked_at > ONE_REQUEST_S:
            self.insisted.set()


@dataclass(frozen=True, slots=True)
class Acts:
    """What is particular to a kind of cluster."""

    settled: Callable[[], Awaitable[None]]
    """Wait until the parts, each of which is ready, work together."""
    announce: Callable[[], None]
    """Tell the user that all is up."""
    end_tasks: Callable[[], Awaitable[None]] | None
    """End what runs on the cluster, with the frameworks gone and master and agents up; None: leave it."""


class Foreground:
    """A cluster whose parts live as long as this process is asked to run them."""

    def __init__(
        self,
        parts: list[Part],
        survivors: dict[str, int],
        file: ClusterFile,
        settings: SupervisorSettings,
        tell: Teller,
    ) -> None:
        self._parts = parts
        self._file = file
        self._tell = tell
        self._state: State = "starting"
        self._supervisor = Supervisor(parts, file.directory / "logs", settings, self._write, tell)
        for name, pid in survivors.items():
            self._supervisor.adopt(name, pid)

    async def run(self, acts: Acts) -> None:
        """Start all, announce, wait for a signal, end all; raise what kept it from starting."""
        stop = Stop()
        stop.listen()
        self._write()
        try:
            if await _unless(stop.asked, self._start(acts)):
                self._enter("ready")
                acts.announce()
                await stop.asked.wait()
        except RunrigError:
            await self._end(stop, None)
            raise
        self._tell("ending the cluster (once more to end it at once)")
        await self._end(stop, acts.end_tasks)

    async def _start(self, acts: Acts) -> None:
        await self._supervisor.start(self._names("master"))
        await self._supervisor.start(self._names("agent", "service", "batch"))
        await acts.settled()

    async def _end(self, stop: Stop, end_tasks: Callable[[], Awaitable[None]] | None) -> None:
        """End the parts, those that start tasks first, those that know of tasks last."""
        self._enter("stopping")
        if not await _unless(stop.insisted, self._end_nicely(end_tasks)):
            self._tell("ending all parts at once: tasks may go on running")
            self._supervisor.kill()
            await self._supervisor.stop([part.name for part in self._parts])
        self._enter("stopped")

    async def _end_nicely(self, end_tasks: Callable[[], Awaitable[None]] | None) -> None:
        await self._supervisor.stop(self._names("service", "batch"))
        if end_tasks is not None:
            try:
                await self._supervisor.revive(self._names("master"))
                await self._supervisor.revive(self._names("agent"))
                await end_tasks()
            except RunrigError as error:
                self._tell(f"tasks may go on running: {error}")
        await self._supervisor.stop(self._names("agent"))
        await self._supervisor.stop(self._names("master"))

    def _names(self, *kinds: str) -> list[str]:
        return [part.name for part in self._parts if part.kind in kinds]

    def _enter(self, state: State) -> None:
        self._state = state
        self._write()

    def _write(self) -> None:
        pids = {part.name: self._supervisor.pid(part.name) for part in self._parts}
        self._file.write(self._state, self._parts, pids)


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, and give it up when `event` is set; say whether it was done. Raises what it raises."""
    doing, waiting = asyncio.create_task(work), asyncio.create_task(event.wait())
    await asyncio.wait([doing, waiting], return_when=asyncio.FIRST_COMPLETED)
    for each in (doing, waiting):
        each.cancel()
    await asyncio.gather(doing, waiting, return_exceptions=True)
    if doing.cancelled():
        return False
    doing.result()
    return True
