"""A runtime of which only `exec` is real: the command runs on this machine, in a directory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal as signals
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from runrig.errors import RunrigError
from runrig.tasks import RuntimeKind
from runrig_agent.runtime import Found, LaunchOrder, RuntimeListener, Signal, Started, TaskKey, Usage


class LocalExec:
    """Executes beside the tests; the first calls fail with `errors`, in order, and all input with `input_error`."""

    kind = RuntimeKind.PROCESS

    def __init__(self, directory: Path, errors: list[RunrigError] | None = None) -> None:
        self.directory = directory
        self.errors = errors or []
        self.input_error: Exception | None = None
        self.sessions: list[LocalSession] = []
        self.most_at_once = 0

    async def exec(self, key: TaskKey, argv: tuple[str, ...], env: Mapping[str, str], tty: bool) -> LocalSession:
        if self.errors:
            raise self.errors.pop(0)
        session = await LocalSession.started(argv, {"PATH": os.defpath, **env}, self.directory, tty)
        session.input_error = self.input_error
        self.sessions.append(session)
        self.most_at_once = max(self.most_at_once, sum(not each.has_ended for each in self.sessions))
        return session

    async def start(self, listener: RuntimeListener) -> None: ...

    async def recover(self, keys: frozenset[TaskKey]) -> list[Found]:
        return []

    async def prepare(self, order: LaunchOrder, progress: Callable[[str], None]) -> None: ...

    async def launch(self, order: LaunchOrder) -> Started:
        raise NotImplementedError

    async def signal(self, key: TaskKey, signal: Signal) -> None: ...

    async def forget(self, key: TaskKey) -> None: ...

    async def usage(self, key: TaskKey) -> Usage:
        return Usage()

    async def close(self) -> None: ...


class LocalSession:
    """A process, on pipes or on a terminal."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: int | None) -> None:
        self._process = process
        self._terminal = terminal
        self.sizes: list[tuple[int, int]] = []
        self.input_error: Exception | None = None

    @classmethod
    async def started(cls, argv: tuple[str, ...], env: Mapping[str, str], directory: Path, tty: bool) -> LocalSession:
        terminal, inner = pty.openpty() if tty else (None, asyncio.subprocess.PIPE)
        process = await asyncio.create_subprocess_exec(
            *argv, env=env, cwd=directory, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
        )
        if tty:
            os.close(inner)
        return cls(process, terminal)

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        if self._terminal is not None:
            with contextlib.suppress(OSError):  # EIO: all its users have gone
                while data := await asyncio.to_thread(os.read, self._terminal, 65536):
                    yield 1, data
            return
        pieces: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(16)
        pumps = [asyncio.create_task(self._pump(number, pieces)) for number in (1, 2)]
        try:
            for _ in pumps:
                while (piece := await pieces.get())[1]:
                    yield piece
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, number: int, pieces: asyncio.Queue[tuple[int, bytes]]) -> None:
        reader = self._process.stdout if number == 1 else self._process.stderr
        assert reader is not None
        data = b"-"
        while data:
            data = await reader.read(65536)
            await pieces.put((number, data))

    async def write(self, data: bytes) -> None:
        if self.input_error is not None:
            raise self.input_error
        if self._terminal is not None:
            os.write(self._terminal, data)
            return
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def end_input(self) -> None:
        if self.input_error is not None:
            raise self.input_error
        if self._terminal is None and self._process.stdin is not None:
            self._process.stdin.close()

    async def resize(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))

    async def exit_code(self) -> int:
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    async def close(self) -> None:
        terminal, self._terminal = self._terminal, None
        if terminal is not None:
            os.close(terminal)
        try:
            if not self.has_ended:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signals.SIGKILL)
                await self._process.wait()
        finally:
            self._process._transport.close()  # type: ignore[attr-defined]  # its pipes, which children may hold
