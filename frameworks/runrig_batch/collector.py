"""Fetching the output of ended tasks before their agents clean it away.

The mind remembers durably what is still to be fetched (`output/…` entries): a restart goes on where a death
broke off. An agent that does not answer is tried again for a while; what cannot be had is noted as missing.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from dataclasses import dataclass

import structlog

from runrig.errors import RunrigError, Unavailable
from runrig_batch.core.entries import Output
from runrig_batch.core.outbox import OutputPage
from runrig_batch.core.questions import KnownJobs, NextOutputs, OutputCollected
from runrig_batch.mind import Mind, Sandboxes, Stream, ask
from runrig_batch.outputs import Clipped, OutputFiles
from runrig_batch.settings import OutputSettings

log = structlog.get_logger("runrig.batch.outputs")


@dataclass(slots=True)
class _Errand:
    """Output that is being fetched; times of the event loop's clock."""

    output: Output
    since: float
    tries: int = 0


class Collector:
    """One task that asks what is next, one that waits with what failed, and some that fetch."""

    def __init__(self, mind: Mind, sandboxes: Sandboxes, files: OutputFiles, settings: OutputSettings) -> None:
        self._mind = mind
        self._sandboxes = sandboxes
        self._files = files
        self._settings = settings
        self._queue: asyncio.Queue[_Errand] = asyncio.Queue(maxsize=settings.concurrency)
        self._later: list[tuple[float, int, _Errand]] = []
        self._numbers = itertools.count()
        self._has_later = asyncio.Event()

    async def run(self) -> None:
        """Collect until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pull())
            group.create_task(self._retry())
            group.create_task(self._sweep())
            for _ in range(self._settings.concurrency):
                group.create_task(self._work())

    async def _pull(self) -> None:
        upto = 0
        while True:
            question = NextOutputs(upto, self._settings.concurrency, self._settings.pull_wait_s)
            page = await ask(self._mind, question, OutputPage)
            for output in page.outputs:
                await self._queue.put(_Errand(output, asyncio.get_running_loop().time()))
            upto = page.upto

    async def _work(self) -> None:
        while True:
            errand = await self._queue.get()
            errand.tries += 1
            try:
                await self._fetch(errand.output)
            except (Unavailable, OSError) as error:
                await self._failed(errand, error)
            except RunrigError as error:
                await self._give_up(errand, error)

    async def _fetch(self, output: Output) -> None:
        kept: dict[Stream, Clipped] = {
            "stdout": Clipped(self._settings.max_stream_bytes),
            "stderr": Clipped(self._settings.max_stream_bytes),
        }
        async for stream, data in self._sandboxes.read(output.agent_address, output.task_id, "both", follow=False):
            kept[stream].add(data)
        results = {stream: clipped.result() for stream, clipped in kept.items()}
        await asyncio.to_thread(self._files.keep, output.task_id, results)
        self._mind.tell(OutputCollected(output.task_id))

    async def _failed(self, errand: _Errand, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        is_full = len(self._later) >= self._settings.max_retrying
        if is_full or now - errand.since >= self._settings.give_up_s:
            await self._give_up(errand, error)
            return
        pause = min(self._settings.first_retry_s * 2 ** min(errand.tries - 1, 30), self._settings.last_retry_s)
        heapq.heappush(self._later, (now + pause, next(self._numbers), errand))
        self._has_later.set()

    async def _give_up(self, errand: _Errand, error: Exception) -> None:
        output = errand.output
        why = f"the output could not be fetched from the agent at {output.agent_address}: {error}"
        log.warning("output lost", task=output.task_id, agent=output.agent_address, error=str(error))
        await asyncio.to_thread(self._files.note_missing, output.task_id, why)
        self._mind.tell(OutputCollected(output.task_id))

    async def _retry(self) -> None:
        while True:
            if not self._later:
                self._has_later.clear()
                await self._has_later.wait()
            due, _, errand = self._later[0]
            pause = due - asyncio.get_running_loop().time()
            if pause > 0:
                await asyncio.sleep(min(pause, self._settings.first_retry_s))
                continue
            heapq.heappop(self._later)
            await self._queue.put(errand)

    async def _sweep(self) -> None:
        while True:
            known: frozenset[str] = await ask(self._mind, KnownJobs(), frozenset)
            await asyncio.to_thread(self._files.sweep, known)
            await asyncio.sleep(self._settings.sweep_s)
