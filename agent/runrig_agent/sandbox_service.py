"""What people ask of a task on this agent: its output, its files, a command inside; grpc_sandbox serves it.

It works for ended tasks too, as long as their sandboxes are kept. Nothing is read from outside the sandbox,
whatever links a task has made; every list, number of readers and wait is bounded.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from runrig.errors import Conflict, InvalidInput, NotFound, TooSlow
from runrig_agent.runtime import ExecSession, Runtime, TaskKey
from runrig_agent.sandbox_paths import Opened, opened_inside
from runrig_agent.sandbox_reading import CHUNK_BYTES, LogReader
from runrig_agent.sandboxes import Sandboxes

T = TypeVar("T")

ARGV_MAX = 1024
ARGV_BYTES_MAX = 128 * 1024
"""Linux takes no longer single argument."""
LIST_BYTES_MAX = 3 * 1024 * 1024
"""What fits into a message of gRPC's default size, with the rest of what is said of a file."""
ROUND = 16
"""Chunks read of one stream before the other has its turn."""


@dataclass(frozen=True, slots=True)
class SandboxServiceSettings:
    """The bounds of what an agent serves about its tasks."""

    readers_max: int = 64
    """Logs and files read at once; a follower costs two looks at the disk per poll."""

    sessions_max: int = 16
    """Commands executed in tasks at once."""

    list_max: int = 10_000
    """Files listed of one directory: more do not fit into a message."""

    poll_interval_s: float = 0.15
    """Seconds between two looks of a follower; people do not notice."""

    settle_s: float = 0.6
    """Seconds of silence after a task's end until its output counts as complete: an engine's comes late."""

    start_timeout_s: float = 10
    """Seconds within which a caller of Exec must say what to execute."""

    hang_up_timeout_s: float = 2
    """Seconds that a caller of Exec has to hang up once it was told how the command ended."""

    write_timeout_s: float = 60
    """Seconds that a caller may leave a message unread before its stream is ended."""


@dataclass(frozen=True, slots=True)
class LivingTask:
    """A task that has not ended: what runs it, and the environment that a command inside gets."""

    runtime: Runtime
    env: tuple[tuple[str, str], ...] = ()


class TaskDirectory(Protocol):
    """What the agent's loop knows of tasks."""

    def living(self, key: TaskKey) -> LivingTask | None:
        """Return a task that was accepted and has not ended, started or not; None for any other."""


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file in a sandbox; `path` is relative to it, `mode` as of lstat."""

    path: str
    size_bytes: int
    is_directory: bool
    modified_at_unix_ms: int
    mode: int


class SandboxAccess:
    """Reads sandboxes and executes in tasks."""

    def __init__(
        self,
        sandboxes: Sandboxes,
        directory: TaskDirectory,
        settings: SandboxServiceSettings = SandboxServiceSettings(),
    ) -> None:
        self.settings = settings
        self._sandboxes = sandboxes
        self._directory = directory
        self._threads = ThreadPoolExecutor(4, "sandbox")
        self._readers = 0
        self._sessions = 0

    def close(self) -> None:
        """Free the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def logs(
        self, key: TaskKey, streams: tuple[str, ...], *, follow: bool, tail_lines: int | None
    ) -> AsyncGenerator[tuple[str, bytes], None]:
        """Yield (stream, data): what is kept, or each stream's last lines; `follow` goes on until the end.

        Raises NotFound, TooSlow.
        """
        with self._reading():
            sandbox = await self._sandbox_when_made(key) if follow else self._sandbox(key)
            readers = {stream: LogReader(sandbox, stream, follow=follow, tail_lines=tail_lines) for stream in streams}
            try:
                for reader in readers.values():
                    await self._in_thread(reader.__enter__)
                async for each in self._read_all(key, readers, follow):
                    yield each
            finally:
                for reader in readers.values():
                    reader.close()

    async def _read_all(
        self, key: TaskKey, readers: dict[str, LogReader], follow: bool
    ) -> AsyncGenerator[tuple[str, bytes], None]:
        loop = asyncio.get_running_loop()
        last_data_at = loop.time()
        while True:
            has_ended = self._directory.living(key) is None  # asked before reading what it wrote until then
            has_data = False
            for stream, reader in readers.items():
                for _ in range(ROUND):
                    data = await self._in_thread(reader.read)
                    if not data:
                        break
                    has_data = True
                    yield stream, data
            if has_data:
                last_data_at = loop.time()
                continue
            if not follow or (has_ended and loop.time() - last_data_at >= self.settings.settle_s):
                return
            await asyncio.sleep(self.settings.poll_interval_s)

    async def files(self, key: TaskKey, path: str) -> list[ListedFile]:
        """List a directory by name, or the one file at `path`; raises NotFound, InvalidInput, TooSlow."""
        with self._reading():
            return await self._in_thread(_listed, self._sandbox(key), path, self.settings.list_max)

    async def file(self, key: TaskKey, path: str, offset_bytes: int, length_bytes: int) -> AsyncGenerator[bytes, None]:
        """Yield a regular file's content from an offset, in chunks; length 0: up to where it ends now.

        Raises NotFound, InvalidInput, TooSlow.
        """
        for field, value in (("offset_bytes", offset_bytes), ("length_bytes", length_bytes)):
            if value < 0:
                raise InvalidInput(field, value, "0 or more")
        with self._reading():
            descriptor, size = await self._in_thread(_opened_file, self._sandbox(key), path)
            try:
                end = min(size, offset_bytes + length_bytes) if length_bytes else size
                while offset_bytes < end:
                    length = min(CHUNK_BYTES, end - offset_bytes)
                    data = await self._in_thread(os.pread, descriptor, length, offset_bytes)
                    if not data:
                        return  # it was cut meanwhile
                    offset_bytes += len(data)
                    yield data
            finally:
                os.close(descriptor)

    @contextmanager
    def executing(self) -> Iterator[None]:
        """Count a session while it is open; raises TooSlow when there are as many as may be."""
        if self._sessions >= self.settings.sessions_max:
            raise TooSlow(f"{self._sessions} commands are executed in tasks of this agent; try again later")
        self._sessions += 1
        try:
            yield
        finally:
            self._sessions -= 1

    async def execute(self, key: TaskKey, argv: tuple[str, ...], tty: bool) -> ExecSession:
        """Run a command inside a task; raises NotFound, Conflict, InvalidInput, LaunchFailed."""
        _check_argv(argv)
        task = self._directory.living(key)
        if task is None:
            self._sandbox(key)
            raise Conflict(f"task {key[1]!r} has ended: nothing can be executed in it; its files can be read")
        terminal = {"TERM": "xterm"} if tty else {}
        return await task.runtime.exec(key, argv, {**terminal, **dict(task.env)}, tty)

    def _sandbox(self, key: TaskKey) -> Path:
        sandbox = self._sandboxes.find(key)
        if sandbox is None:
            hint = "it never ran on this agent, has not begun, or ended so long ago that its files were removed"
            raise NotFound("sandbox of a task", key[1], hint)
        return sandbox

    async def _sandbox_when_made(self, key: TaskKey) -> Path:
        """Wait for the sandbox of a task that is still being prepared."""
        while self._sandboxes.find(key) is None and self._directory.living(key) is not None:  # noqa: ASYNC110
            await asyncio.sleep(self.settings.poll_interval_s)
        return self._sandbox(key)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        if self._readers >= self.settings.readers_max:
            raise TooSlow(f"{self._readers} logs and files are read on this agent; try again later")
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)


def _check_argv(argv: tuple[str, ...]) -> None:
    if not argv or not argv[0] or len(argv) > ARGV_MAX:
        raise InvalidInput("argv", argv, f"1 to {ARGV_MAX} words, the first one a program")
    if any("\0" in word for word in argv) or sum(map(len, argv)) > ARGV_BYTES_MAX:
        raise InvalidInput("argv", argv, f"at most {ARGV_BYTES_MAX} characters, none of them zero")


def _opened_file(sandbox: Path, path: str) -> tuple[int, int]:
    """Open a regular file; return its descriptor and size."""
    with opened_inside(sandbox, path) as opened:
        if not stat.S_ISREG(opened.status.st_mode):
            raise InvalidInput("path", path, "a regular file")
        return _reopened(opened, path), opened.status.st_size


def _listed(sandbox: Path, path: str, list_max: int) -> list[ListedFile]:
    with opened_inside(sandbox, path) as opened:
        if not stat.S_ISDIR(opened.status.st_mode):
            return [_described(opened.path, opened.status)]
        descriptor = _reopened(opened, path, os.O_DIRECTORY)
        try:
            files = list(_entries(descriptor, opened.path, path, list_max))
        finally:
            os.close(descriptor)
    return sorted(files, key=lambda file: file.path)


def _entries(descriptor: int, folder: str, path: str, list_max: int) -> Iterator[ListedFile]:
    size = 0
    with os.scandir(descriptor) as entries:
        for number, entry in enumerate(entries):
            size += len(folder) + len(entry.name) + 32
            if number >= list_max or size > LIST_BYTES_MAX:
                raise TooSlow(f"path: {path[:100]!r} holds too many files to list; execute `ls` in the task")
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # removed meanwhile
            yield _described(os.path.normpath(os.path.join(folder, entry.name)), status)


def _described(path: str, status: os.stat_result) -> ListedFile:
    return ListedFile(
        path=os.fsencode(path).decode(errors="replace"),
        size_bytes=status.st_size,
        is_directory=stat.S_ISDIR(status.st_mode),
        modified_at_unix_ms=status.st_mtime_ns // 1_000_000,
        mode=status.st_mode,
    )


def _reopened(opened: Opened, path: str, flags: int = 0) -> int:
    try:
        return opened.reopen(flags)
    except PermissionError as error:
        raise Conflict(f"path: the agent may not read {path!r}: {error.strerror}") from error
