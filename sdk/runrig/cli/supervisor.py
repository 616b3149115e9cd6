"""Keep processes running: start them, see them ready, start again what dies, end them in order."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runrig.cli.cluster import Part
from runrig.cli.processes import POLL_S, Child, Found, Running, find
from runrig.cli.readiness import is_ready
from runrig.errors import TimedOut, Unavailable

Teller = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SupervisorSettings:
    """How patient a supervisor is; seconds."""

    restarts: bool = True
    """Start again what dies; otherwise leave it dead until somebody starts it by hand."""
    first_delay_s: float = 0.2
    """Before the first restart; doubled by each that follows soon."""
    longest_delay_s: float = 10.0
    """What the delay grows to."""
    steady_s: float = 30.0
    """A part that lived this long starts again with the first delay."""
    attempts: int = 3
    """Times that a part may die before it was ready once: it is configured wrongly, and no retry helps."""
    ready_s: float = 60.0
    """How long a part may take to be ready: imports take seconds on a busy machine."""
    stop_s: float = 10.0
    """From SIGTERM to SIGKILL."""


@dataclass(slots=True, eq=False)
class _Kept:
    """A part and its process."""

    part: Part
    process: Running | None = None
    keeper: asyncio.Task[None] | None = None
    launch: asyncio.Task[Running] | None = None
    deaths: int = 0
    was_ready: bool = False
    last_end: str = ""
    is_stopping: bool = False

    def must_end(self) -> bool:
        """Say whether it is not to be started again."""
        return self.is_stopping


class Supervisor:
    """Keeps parts running until they are stopped; `changed` is called whenever a pid changes."""

    def __init__(
        self,
        parts: Iterable[Part],
        logs: Path,
        settings: SupervisorSettings,
        changed: Callable[[], None],
        tell: Teller,
    ) -> None:
        self._kept = {part.name: _Kept(part) for part in parts}
        self._logs = logs
        self._settings = settings
        self._changed = changed
        self._tell = tell

    def pid(self, name: str) -> int | None:
        """Return the pid of a part, None when it is dead."""
        process = self._kept[name].process
        return process.pid if process else None

    def adopt(self, name: str, pid: int) -> None:
        """Take over a process that runs already, when the part is started."""
        kept = self._kept[name]
        kept.process = Found(pid, kept.part.runs_as)

    async def start(self, names: Sequence[str]) -> None:
        """Start parts, all at once, and return when they are ready; raise Unavailable or TimedOut."""
        for name in names:
            kept = self._kept[name]
            if kept.keeper is None or kept.keeper.done():
                kept.is_stopping = False
                kept.keeper = asyncio.create_task(self._keep(kept))
        waits = [asyncio.create_task(self._wait_ready(self._kept[name])) for name in names]
        try:
            await asyncio.gather(*waits)
        finally:
            for wait in waits:
                wait.cancel()

    async def revive(self, names: Sequence[str]) -> None:
        """Start the dead ones among `names`, even when restarts are off; return when they are ready."""
        dead = [self._kept[name] for name in names if self._kept[name].process is None]
        for kept in dead:
            if kept.keeper is not None:
                kept.keeper.cancel()
                await asyncio.gather(kept.keeper, return_exceptions=True)
                kept.keeper = None
        await self.start([kept.part.name for kept in dead])

    async def stop(self, names: Sequence[str]) -> None:
        """End parts, all at once: SIGTERM, and SIGKILL for those that do not end in time."""
        await asyncio.gather(*(self._stop(self._kept[name]) for name in names))

    def kill(self) -> None:
        """End all parts with SIGKILL, without waiting."""
        for kept in self._kept.values():
            kept.is_stopping = True
            if kept.process is not None:
                kept.process.send(signal.SIGKILL)

    def tail(self, name: str, lines: int = 15) -> str:
        """Return the last lines of a part's log."""
        try:
            text = (self._logs / f"{name}.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    async def _keep(self, kept: _Kept) -> None:
        """Run one part until it is stopped."""
        delay = self._settings.first_delay_s
        while not kept.must_end():
            if kept.process is None:
                kept.launch = asyncio.create_task(self._launch(kept.part))
                kept.process = await kept.launch
            self._changed()
            pid, since = kept.process.pid, time.monotonic()
            kept.last_end = await kept.process.ended()
            kept.process = None
            kept.deaths += 1
            self._changed()
            if kept.must_end():
                return
            if time.monotonic() - since > self._settings.steady_s:
                delay = self._settings.first_delay_s
            kept.process = await self._after_death(kept, pid, delay)
            delay = min(delay * 2, self._settings.longest_delay_s)

    async def _after_death(self, kept: _Kept, pid: int, delay: float) -> Running | None:
        """Wait until the part may start again; return a process that somebody else started meanwhile."""
        name, ended = kept.part.name, f"{kept.part.name} (pid {pid}): {kept.last_end}"
        if not kept.was_ready and kept.deaths >= self._settings.attempts:
            kept.is_stopping = True
            return None
        if self._settings.restarts:
            self._tell(f"{ended}; starting it again in {delay:g} s; log: {self._log(name)}")
            await asyncio.sleep(delay)
            return self._found(kept.part)
        self._tell(f"{ended}; left dead (--no-restart); its command is in cluster.json; log: {self._log(name)}")
        while (found := self._found(kept.part)) is None:  # noqa: ASYNC110  (a person starts it, and tells nobody)
            await asyncio.sleep(POLL_S * 2)
        self._tell(f"{name} was started by hand (pid {found.pid})")
        return found

    def _found(self, part: Part) -> Running | None:
        pid = find(part.runs_as)
        return None if pid is None else Found(pid, part.runs_as)

    async def _launch(self, part: Part) -> Running:
        child = await Child.start(part.command, dict(part.env), self._log(part.name))
        return await self._within(part, child) if part.process else child

    async def _within(self, part: Part, child: Child) -> Running:
        """Return the process that `child` starts in a container; `child` when there is none in time."""
        began = time.monotonic()
        while not child.has_ended and time.monotonic() - began < self._settings.ready_s:
            if (found := self._found(part)) is not None:
                return found
            await asyncio.sleep(POLL_S)
        return child

    async def _wait_ready(self, kept: _Kept) -> None:
        """Wait until a part answers; raise when it cannot be, with the end of its log."""
        began = time.monotonic()
        name = kept.part.name
        while not (kept.process is not None and await is_ready(kept.part.ready)):
            if kept.keeper is not None and kept.keeper.done() and not kept.keeper.cancelled():
                kept.keeper.result()  # raises what kept it from starting
            hopeless = kept.deaths >= (self._settings.attempts if self._settings.restarts else 1)
            if hopeless and not kept.was_ready and kept.process is None:
                raise Unavailable(f"{name} does not start: {kept.last_end}; {self._ending(name)}")
            if time.monotonic() - began > self._settings.ready_s:
                raise TimedOut(f"{name} is not ready after {self._settings.ready_s:g} s; {self._ending(name)}")
            await asyncio.sleep(0.05)
        kept.was_ready = True
        self._tell(f"{name} is ready after {time.monotonic() - began:.1f} s")

    async def _stop(self, kept: _Kept) -> None:
        kept.is_stopping = True
        if kept.launch is not None:  # a process that is being started must be known before it can be ended
            await asyncio.wait([kept.launch])
        process, keeper = kept.process, kept.keeper
        if keeper is None:
            return
        if process is None:
            keeper.cancel()
        else:
            process.send(signal.SIGTERM)
            done, _ = await asyncio.wait([keeper], timeout=self._settings.stop_s)
            if not done:
                self._tell(f"{kept.part.name} (pid {process.pid}) did not end within {self._settings.stop_s:g} s")
                process.send(signal.SIGKILL)
        await asyncio.gather(keeper, return_exceptions=True)

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _ending(self, name: str) -> str:
        return f"the end of its log, {self._log(name)}:\n{self.tail(name)}"
