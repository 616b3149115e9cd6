"""Watching the engine: whether it answers, what it tells, and what it would have told had it not forgotten.

Events are a hint: they are lost with the engine, and now and then without. So all containers are listed as
well, at each connection and every few seconds, and only an inspection is believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from runrig.errors import Unavailable
from runrig_agent.runtimes.docker_engine import Engine
from runrig_agent.runtimes.docker_settings import DockerSettings
from runrig_agent.runtimes.docker_spec import AGENT_LABEL
from runrig_agent.runtimes.docker_streams import EngineAnswer, EngineStream

log = structlog.get_logger()


class EngineWatch:
    """Connects, again and again. `on_up`, `on_down` and `on_event` are called on the event loop."""

    def __init__(
        self,
        engine: Engine,
        agent: str,
        settings: DockerSettings,
        on_up: Callable[[], None],
        on_down: Callable[[str], None],
        on_event: Callable[[dict[str, Any]], None],
        relist: Callable[[], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._agent = agent
        self._settings = settings
        self._on_up = on_up
        self._on_down = on_down
        self._on_event = on_event
        self._relist = relist
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; returns when the engine has answered, or failed to, for the first time."""
        self._task = asyncio.create_task(self._run())
        await self._tried.wait()

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        pause_s = self._settings.reconnect_min_s
        while True:
            try:
                await self._watch()
            except (Unavailable, EngineAnswer) as error:
                log.warning("no docker engine", address=self._engine.address, error=str(error))
                self._on_down(f"{error}; start the engine, tasks that run in it are left alone")
            if self._tried.is_set():
                await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, self._settings.reconnect_max_s)
            self._tried.set()

    async def _watch(self) -> None:
        """Connect and watch until the engine is lost; raises Unavailable, EngineAnswer."""
        endpoint = await self._engine.connect()
        filters = {"type": ["container"], "label": [f"{AGENT_LABEL}={self._agent}"], "event": ["die", "oom"]}
        async with await endpoint.open("GET", "/events", {"filters": json.dumps(filters)}) as events:
            log.info("docker engine", address=self._engine.address, api=endpoint.version)
            self._on_up()
            self._tried.set()
            await self._first_failure(self._read_events(events), self._list_forever())

    async def _first_failure(self, *parts: Awaitable[None]) -> None:
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read_events(self, events: EngineStream) -> None:
        async for event in events.lines():
            self._on_event(event)
        raise Unavailable("the engine stopped telling events")

    async def _list_forever(self) -> None:
        while True:
            await self._relist()
            await asyncio.sleep(self._settings.relist_interval_s)
