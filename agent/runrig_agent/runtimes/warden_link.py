"""The agent's end of its warden: starts it, connects, and connects again when it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import structlog

from runrig.errors import RunrigError, Unavailable
from runrig_agent.warden import PROTOCOL_VERSION, TOKEN_VARIABLE

log = structlog.get_logger()

_Answers: TypeAlias = "asyncio.Queue[dict[str, Any] | None]"
"""Answers to one request; None: the connection is gone."""

_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", TOKEN_VARIABLE)
"""What a warden is given of the agent's environment: it lives longer, and should not keep the agent's secrets."""

_LINE_LIMIT = 16 << 20
_RETRY_S = 0.02


class WardenGone(Unavailable):
    """The connection ended before the answer came: whether it was done is not known."""


class WardenError(RunrigError):
    """The warden refuses; `kind` is one of `runrig_agent.warden.spawning`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class WardenSettings:
    """How a warden is started. A change takes effect with the next warden, after all tasks have ended."""

    use_cgroups: bool = True
    """Limit tasks by cgroups where that works."""
    cgroup_parent: Path | None = None
    """A delegated directory of cgroup version 2; None: the warden's own group or the root, what works."""
    allow_new_privileges: bool = False
    """Let tasks gain privileges by setuid programs."""
    rlimits: tuple[tuple[str, int], ...] = (("core", 0),)
    """Resource limits of all tasks, by their names in `ulimit`'s manual: core, nofile, nproc..."""
    idle_s: float = 60.0
    """Seconds after which a warden without agent and tasks ends."""
    start_timeout_s: float = 20.0
    """Seconds for a warden to start and answer: a busy host may take long to start Python."""


class WardenLink:
    """One connection at a time; ends are given to `on_ended`.

    `on_gone` is told when the connection breaks; then whoever wants something calls `connect` again.
    """

    def __init__(
        self,
        directory: Path,
        settings: WardenSettings,
        on_ended: Callable[[dict[str, Any]], None],
        on_gone: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._on_ended = on_ended
        self._on_gone = on_gone
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Answers] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Say whether there is a warden at the other end, as far as we know."""
        return self._writer is not None

    async def connect(self) -> dict[str, Any]:
        """Connect, starting a warden if none runs; return its greeting; raises Unavailable, WardenError."""
        assert self._writer is None, "connected already"
        try:
            async with asyncio.timeout(self._settings.start_timeout_s):
                reader, self._writer = await self._open()
        except TimeoutError as error:
            raise Unavailable(
                f"no warden answers in {self._directory} after {self._settings.start_timeout_s:.0f} s; "
                f"see {self._directory / 'log'}"
            ) from error
        self._reading = asyncio.create_task(self._read(reader))
        try:
            return await self.ask("hello", version=PROTOCOL_VERSION)
        except WardenError:
            await self.close()
            raise

    async def ask(self, operation: str, **fields: object) -> dict[str, Any]:
        """Send a request and return its answer; raises WardenGone, WardenError."""
        with self._request(operation, fields) as answers:
            return await self._next(answers)

    async def ask_list(self, operation: str, **fields: object) -> list[dict[str, Any]]:
        """Send a request that is answered by items, and return them; raises WardenGone, WardenError."""
        items: list[dict[str, Any]] = []
        with self._request(operation, fields) as answers:
            while "done" not in (answer := await self._next(answers)):
                items.append(answer["item"])
        return items

    @contextlib.contextmanager
    def _request(self, operation: str, fields: dict[str, object]) -> Iterator[_Answers]:
        if self._writer is None:
            raise WardenGone("there is no warden")
        number = next(self._numbers)
        answers: _Answers = asyncio.Queue()
        self._waiting[number] = answers
        try:
            self._writer.write(line({"id": number, "op": operation, **fields}))
            yield answers
        finally:
            del self._waiting[number]

    async def _next(self, answers: _Answers) -> dict[str, Any]:
        """Wait for an answer, for as long as there is a connection that could bring it."""
        try:
            if self._writer is not None:
                await self._writer.drain()
        except ConnectionError:
            self._break()
        answer = await answers.get()
        if answer is None:
            raise WardenGone("the warden has gone")
        if (refusal := answer.get("error")) is not None:
            raise WardenError(refusal["kind"], refusal["message"])
        return answer

    async def open_extra(self) -> socket.socket:
        """Return one more connection, not blocking, for a command in a task; raises Unavailable."""
        try:
            return await connected(self._directory)
        except OSError as error:
            raise Unavailable(f"the warden does not answer: {error}") from error

    async def close(self) -> None:
        """End the connection without a word to `on_gone`; a warden that is being started starts."""
        if self._starting is not None:
            await asyncio.wait([self._starting])
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
        self._hang_up()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            with contextlib.suppress(OSError):
                peer = await connected(self._directory)
                return await asyncio.open_unix_connection(sock=peer, limit=_LINE_LIMIT)
            await asyncio.shield(asyncio.create_task(self._start()))  # a cancelled start leaves no half process
            await asyncio.sleep(_RETRY_S)

    async def _start(self) -> None:
        """Start a warden; does nothing while another holds the lock, which is about to listen or to end."""
        settings = self._settings
        words = [sys.executable, "-I", "-m", "runrig_agent.warden", str(self._directory)]
        words += ["--idle-s", str(settings.idle_s)]
        words += [] if settings.use_cgroups else ["--no-cgroups"]
        words += [] if settings.cgroup_parent is None else ["--cgroup-parent", str(settings.cgroup_parent)]
        words += ["--allow-new-privileges"] if settings.allow_new_privileges else []
        for name, value in settings.rlimits:
            words += ["--rlimit", f"{name}={value}"]
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            cwd="/",
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        )
        _, complaint = await process.communicate()
        if process.returncode != 0:
            raise Unavailable(f"the warden does not start: {complaint.decode(errors='replace').strip()[-1000:]}")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError, ValueError):  # ValueError: a line without end
            while data := await reader.readline():
                self._take(json.loads(data))
        self._reading = None
        self._break()

    def _break(self) -> None:
        """Give up a connection that is broken, which may be noticed by reading or by writing."""
        if self._writer is None:
            return
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
        self._hang_up()
        self._on_gone()

    def _take(self, message: dict[str, Any]) -> None:
        if "ended" in message:
            self._on_ended(message["ended"])
        elif (answers := self._waiting.get(message["id"])) is not None:
            answers.put_nowait(message)

    def _hang_up(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        for answers in self._waiting.values():
            answers.put_nowait(None)


async def connected(directory: Path) -> socket.socket:
    """Return a socket connected to the warden of a directory; raises OSError.

    By way of the directory's descriptor, for the kernel takes no names of more than 107 bytes.
    """
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = -1
    try:
        peer.setblocking(False)
        folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        await asyncio.get_running_loop().sock_connect(peer, f"/proc/self/fd/{folder}/socket")
    except BaseException:
        peer.close()
        raise
    finally:
        if folder >= 0:
            os.close(folder)
    return peer


def line(message: dict[str, object]) -> bytes:
    """Return a message as it goes over the wire."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
