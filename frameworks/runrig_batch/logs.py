"""What a task writes, wherever it is: on its agent while it runs, in the kept files afterwards.

Who follows an index sees all of its attempts, one after the other. A piece that was sent is not sent again
when an agent breaks off and is asked anew: so many bytes are skipped.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal

from runrig.errors import NotFound, Unavailable
from runrig_batch.core.job import JobId
from runrig_batch.core.questions import FindTask
from runrig_batch.core.views import TaskSight
from runrig_batch.mind import Mind, Sandboxes, Stream, Wanted, ask
from runrig_batch.outputs import OutputFiles
from runrig_batch.settings import ApiSettings

Piece = tuple[Stream | Literal["note"], bytes]
"""Output, or a note for a person."""

_STREAMS: dict[Wanted, tuple[Stream, ...]] = {
    "stdout": ("stdout",),
    "stderr": ("stderr",),
    "both": ("stdout", "stderr"),
}


@dataclass(slots=True)
class _Sent:
    """How much of one attempt's streams was sent, and how much of it a new reading has passed."""

    sent: Counter[Stream] = field(default_factory=Counter)
    passed: Counter[Stream] = field(default_factory=Counter)

    def begin(self) -> None:
        self.passed.clear()

    def new(self, stream: Stream, data: bytes) -> bytes:
        """Return what of `data` was not sent before, and count it as sent."""
        known = self.sent[stream] - self.passed[stream]
        self.passed[stream] += len(data)
        fresh = data[known:] if known > 0 else data
        self.sent[stream] += len(fresh)
        return fresh


class Logs:
    """Readers of output."""

    def __init__(self, mind: Mind, sandboxes: Sandboxes, files: OutputFiles, settings: ApiSettings) -> None:
        self._mind = mind
        self._sandboxes = sandboxes
        self._files = files
        self._settings = settings

    async def find(self, job_id: JobId, index: int, attempt: int = 0) -> TaskSight:
        """Return an attempt, 0 for the latest; raise NotFound."""
        return await ask(self._mind, FindTask(job_id, index, attempt), TaskSight)

    async def read(self, sight: TaskSight, wanted: Wanted) -> AsyncIterator[Piece]:
        """Yield what there is now; raise Unavailable when its agent does not answer."""
        if sight.agent_address and not sight.is_collected:
            reading = self._sandboxes.read(sight.agent_address, sight.task_id, wanted, follow=False)
            async with aclosing(reading) as pieces:
                async for stream, data in pieces:
                    yield stream, data
        else:
            for piece in self._kept(sight, wanted, _Sent()):
                yield piece

    async def follow(self, sight: TaskSight, wanted: Wanted, *, is_one_attempt: bool) -> AsyncIterator[Piece]:
        """Yield output until the attempt, or the last attempt of its index, has ended."""
        while True:
            async for piece in self._follow_attempt(sight, wanted):
                yield piece
            sight = await self.find(sight.job_id, sight.index, sight.attempt)
            if is_one_attempt or sight.is_last:
                return
            ended = sight.task_state.name if sight.task_state is not None else "given up"
            yield "note", f"attempt {sight.attempt} ended ({ended}); the next one follows".encode()
            sight = await self.find(sight.job_id, sight.index, sight.attempt + 1)

    async def _follow_attempt(self, sight: TaskSight, wanted: Wanted) -> AsyncIterator[Piece]:
        sent = _Sent()
        is_complete = False
        has_waited = False
        while True:
            if sight.is_collected:
                for piece in self._kept(sight, wanted, sent) if not is_complete else ():
                    yield piece
                return
            if sight.agent_address and not is_complete:
                try:
                    async for piece in self._live(sight, wanted, sent):
                        yield piece
                    is_complete = True
                except Unavailable:
                    await asyncio.sleep(self._settings.follow_retry_s)
                except NotFound:
                    is_complete = sight.is_over
            if sight.is_over and is_complete:
                return
            before = sight
            sight = await self._news_of(sight, self._patience_s(sight, is_complete, has_waited))
            if not (has_waited or sight != before or sight.agent_address):
                has_waited = True
                yield "note", f"{sight.task_id} waits for room on the cluster".encode()

    def _patience_s(self, sight: TaskSight, is_complete: bool, has_waited: bool) -> float:
        """Say how long to wait for news: briefly before saying so, and while an agent is to be asked again."""
        if sight.agent_address and not is_complete:
            return self._settings.follow_retry_s
        return self._settings.follow_wait_s if is_complete or has_waited else self._settings.follow_hint_s

    async def _live(self, sight: TaskSight, wanted: Wanted, sent: _Sent) -> AsyncIterator[Piece]:
        sent.begin()
        reading = self._sandboxes.read(sight.agent_address, sight.task_id, wanted, follow=True)
        async with aclosing(reading) as pieces:
            async for stream, data in pieces:
                if fresh := sent.new(stream, data):
                    yield stream, fresh

    def _kept(self, sight: TaskSight, wanted: Wanted, sent: _Sent) -> list[Piece]:
        sent.begin()
        pieces: list[Piece] = []
        for stream in _STREAMS[wanted]:
            fresh = (sent.new(stream, data) for data in self._files.pieces(sight.task_id, stream))
            pieces += [(stream, data) for data in fresh if data]
        if why := self._files.missing(sight.task_id):
            pieces.append(("note", why.encode()))
        return pieces

    async def _news_of(self, sight: TaskSight, wait_s: float) -> TaskSight:
        question = FindTask(sight.job_id, sight.index, sight.attempt, unlike=sight, wait_s=wait_s)
        try:
            return await ask(self._mind, question, TaskSight)
        except Unavailable:
            await asyncio.sleep(self._settings.follow_retry_s)
            return sight
