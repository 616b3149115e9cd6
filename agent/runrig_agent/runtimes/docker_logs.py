"""What containers print, brought into their sandboxes: each line once, and all before an end is told.

The engine is followed over one connection for each running container, on the event loop: no threads. Lines come
with timestamps. How far they were written is noted beside, together with the size that the file then had: after a
restart of the agent what was written later is cut off and asked for again, so that nothing is lost or stands twice.

What the engine itself loses cannot be had: a container that prints and ends while its engine is dead leaves none of
that (seen with 20.10 and live-restore); one that prints more than the engine's own log files hold, while its agent is
away, loses the oldest; and one that fills such a file faster than it is followed may lose what follows in it, or have
it twice, for no follower of 20.10 survives a rotation that it is not ready for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import time
from calendar import timegm
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from runrig.errors import Unavailable
from runrig_agent.runtimes.docker_engine import Engine
from runrig_agent.runtimes.docker_streams import EngineAnswer
from runrig_agent.sandbox_logs import STREAMS, LogLimits, log_files, open_log, rotate_by_rename

log = structlog.get_logger()

NOTE_INTERVAL_S = 1.0
"""How often a position is noted while a container prints: what came since is read again after a crash."""
RETRY_S = 0.5

_TIMESTAMP_LENGTH = len("2006-01-02T15:04:05.000000000Z")


@dataclass(slots=True)
class Position:
    """How far a stream was written: the last timestamp, how many pieces with it, the file and its size."""

    timestamp: str = ""
    pieces: int = 0
    inode: int = 0
    size: int = 0


class ContainerLog:
    """Brings the output of one container into its sandbox."""

    def __init__(self, engine: Engine, container: str, sandbox: Path, limits: LogLimits, notes: Path) -> None:
        self._engine = engine
        self._container = container
        self._sandbox = sandbox
        self._limits = limits
        self._notes = notes
        self._positions = {stream: Position() for stream in STREAMS}
        self._to_skip: dict[str, int] = {}
        self._noted_at = 0.0
        self._is_ending = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin where an earlier agent stopped."""
        try:
            self._resume()
        except OSError as error:
            log.warning("cannot look at earlier logs", sandbox=str(self._sandbox), error=str(error))
        self._following = asyncio.create_task(self._follow())

    async def finish(self, patience_s: float) -> None:
        """Bring the rest of a container that has ended; gives up after `patience_s`."""
        self._is_ending.set()
        try:
            async with asyncio.timeout(patience_s):
                if self._following is not None:
                    await self._following
                await self._read(follow=False)
        except (Unavailable, EngineAnswer, TimeoutError, OSError) as error:
            log.warning("the end of a log may be missing", sandbox=str(self._sandbox), error=str(error))
        await self.stop()

    async def stop(self) -> None:
        """Stop following, and note how far it came."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
            self._following = None
        with contextlib.suppress(OSError):
            self._note()

    async def _follow(self) -> None:
        """Read until the container has ended, over ends of the engine."""
        while not self._is_ending.is_set():
            try:
                await self._read(follow=True)
            except Unavailable:
                pass
            except EngineAnswer as answer:
                if answer.status == 404:
                    return
            except OSError as error:
                log.warning("cannot write a log", sandbox=str(self._sandbox), error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S):
                    await self._is_ending.wait()

    async def _read(self, follow: bool) -> None:
        query = {"stdout": 1, "stderr": 1, "timestamps": 1, "follow": int(follow), "since": self._since()}
        self._to_skip = {stream: position.pieces for stream, position in self._positions.items()}
        async with await self._engine.endpoint.open("GET", f"/containers/{self._container}/logs", query) as stream:
            async for frames in stream.frames():
                self._take(frames)

    def _since(self) -> str:
        """Return the engine's form of the earliest position: seconds and nanoseconds."""
        earliest = min(position.timestamp for position in self._positions.values())
        if not earliest:
            return "0"
        seconds = timegm(time.strptime(earliest[:19], "%Y-%m-%dT%H:%M:%S"))
        return f"{seconds}.{earliest[20:29]}"

    def _take(self, frames: list[tuple[int, bytes]]) -> None:
        """Write pieces of output, but for those that are written already."""
        fresh: dict[str, list[bytes]] = {stream: [] for stream in STREAMS}
        for number, data in frames:
            stream = STREAMS[number - 1]
            timestamp = data[:_TIMESTAMP_LENGTH].decode("ascii", "replace")
            if self._is_fresh(stream, timestamp):
                fresh[stream].append(data[_TIMESTAMP_LENGTH + 1 :])
        has_rotated = [self._write(stream, b"".join(pieces)) for stream, pieces in fresh.items() if pieces]
        if any(has_rotated) or time.monotonic() - self._noted_at > NOTE_INTERVAL_S:
            self._note()

    def _is_fresh(self, stream: str, timestamp: str) -> bool:
        """Say whether a piece is new: parts of a long line share their timestamp, so those are counted.

        Once one is new all are, for the host's clock may be set back.
        """
        position = self._positions[stream]
        if stream in self._to_skip:
            if timestamp < position.timestamp:
                return False
            if timestamp == position.timestamp and self._to_skip[stream] > 0:
                self._to_skip[stream] -= 1
                return False
            del self._to_skip[stream]
        if timestamp != position.timestamp:
            position.timestamp, position.pieces = timestamp, 0
        position.pieces += 1
        return True

    def _write(self, stream: str, data: bytes) -> bool:
        """Append, and rotate a file that has become too long; return whether that was done."""
        path = self._sandbox / stream
        fd = open_log(path)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            facts = os.fstat(fd)
        finally:
            os.close(fd)
        self._positions[stream].inode, self._positions[stream].size = facts.st_ino, facts.st_size
        if facts.st_size < self._limits.max_bytes:
            return False
        with contextlib.suppress(FileNotFoundError):
            rotate_by_rename(path, self._limits)
        return True

    # --- positions ----------------------------------------------------------------------------------------

    def _note(self) -> None:
        self._noted_at = time.monotonic()
        fresh = self._notes.with_name(f"{self._notes.name}.new")
        fresh.write_text(json.dumps({stream: asdict(position) for stream, position in self._positions.items()}))
        fresh.rename(self._notes)

    def _resume(self) -> None:
        """Read the notes, and bring the files back to what they say."""
        try:
            noted = json.loads(self._notes.read_text())
            self._positions = {stream: Position(**noted[stream]) for stream in STREAMS}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            self._positions = {stream: Position() for stream in STREAMS}
        for stream, position in self._positions.items():
            self._cut_back(stream, position)

    def _cut_back(self, stream: str, position: Position) -> None:
        """Undo what was written to a stream after its position was noted."""
        for path in reversed(log_files(self._sandbox, stream)):
            facts = path.lstat()
            if position.inode == facts.st_ino:
                if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 and facts.st_size > position.size:
                    _cut(path, position.size)
                return
            path.unlink()


def _cut(path: Path, size: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, size)
    finally:
        os.close(fd)
