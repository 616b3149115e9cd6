"""Removing ended containers: behind everything else, and again until it has worked."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from runrig.errors import Unavailable
from runrig_agent.runtimes.docker_engine import Engine
from runrig_agent.runtimes.docker_streams import EngineAnswer

log = structlog.get_logger()

RETRY_S = (1.0, 60.0)
POLL_S = 0.05


class Removals:
    """A queue of container names. It is not kept on disk: the next `recover` finds what is left."""

    def __init__(self, engine: Engine, at_once: int, launches: asyncio.Semaphore) -> None:
        self._engine = engine
        self._launches = launches
        self._due: dict[str, None] = {}
        self._slots = asyncio.Semaphore(at_once)
        self._something = asyncio.Event()
        self._removing: set[asyncio.Task[None]] = set()
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._worker = asyncio.create_task(self._work())

    def add(self, name: str) -> None:
        """Remove a container, killing it if it runs; soon."""
        self._due[name] = None
        self._something.set()

    def discard(self, name: str) -> None:
        """Keep a container after all."""
        self._due.pop(name, None)

    async def close(self, patience_s: float = 0.0) -> None:
        """Stop when all is removed or after `patience_s`; what is left is found by the next agent."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._all_removed()
        tasks = [*self._removing, *([self._worker] if self._worker is not None else [])]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _all_removed(self) -> None:
        while self._due or self._removing:
            await asyncio.wait(self._removing, timeout=POLL_S) if self._removing else await asyncio.sleep(POLL_S)

    async def _work(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            while self._due:
                await self._slots.acquire()
                await self._let_launches_pass()
                if not self._due:
                    self._slots.release()
                    break
                name = next(iter(self._due))
                del self._due[name]
                task = asyncio.create_task(self._remove(name))
                self._removing.add(task)
                task.add_done_callback(self._removing.discard)

    async def _let_launches_pass(self) -> None:
        """Wait, for a bounded time, for a moment in which not all launches are under way."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0), self._launches:
                pass

    async def _remove(self, name: str) -> None:
        delay_s, most_s = RETRY_S
        try:
            while not await self._is_removed(name):
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, most_s)
        finally:
            self._slots.release()

    async def _is_removed(self, name: str) -> bool:
        try:
            await self._engine.change(lambda api: api.remove_container(name, force=True, v=True))
        except EngineAnswer as answer:
            if answer.status == 404:
                return True
            if answer.status != 409:  # that says: it is being removed already
                log.warning("cannot remove a container yet", container=name, error=str(answer))
            return False
        except Unavailable:
            return False
        return True
