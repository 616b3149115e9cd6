"""A command inside a container."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from runrig.errors import Unavailable
from runrig.tasks import Reason
from runrig_agent.runtime import LaunchFailed
from runrig_agent.runtimes.docker_engine import Engine
from runrig_agent.runtimes.docker_spec import environment_inside
from runrig_agent.runtimes.docker_streams import EngineAnswer, EngineStream

_REFUSAL = b"OCI runtime exec failed"
_NOT_STARTED = (126, 127)
_POLL_S = 0.05
_CLOSE_S = 10.0


class DockerExec:
    """See `ExecSession`."""

    def __init__(
        self, engine: Engine, container: str, identifier: str, stream: EngineStream, argv: tuple[str, ...], tty: bool
    ) -> None:
        self._engine = engine
        self._program = argv[0]
        self._container = container
        self._id = identifier
        self._stream = stream
        self._tty = tty

    @classmethod
    async def started(
        cls, engine: Engine, container: str, argv: tuple[str, ...], env: Mapping[str, str], tty: bool
    ) -> DockerExec:
        """Start a command; raises EngineAnswer, Unavailable."""
        environment = environment_inside(env.items())
        made = await engine.change(
            lambda api: api.exec_create(container, list(argv), stdin=True, tty=tty, environment=environment)
        )
        identifier = str(made["Id"])
        stream = await engine.endpoint.open(
            "POST", f"/exec/{identifier}/start", body={"Detach": False, "Tty": tty}, takes_over=True
        )
        return cls(engine, container, identifier, stream, argv, tty)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield what it writes; raises LaunchFailed for a command that could not be started.

        The engine says so in the command's own words: as its first output, and with a shell's exit code.
        """
        is_first = True
        async for number, data in self._pieces():
            if is_first and data.startswith(_REFUSAL) and await self.exit_code() in _NOT_STARTED:
                why = data.decode(errors="replace").strip()
                raise LaunchFailed(
                    Reason.START_FAILED,
                    f"cannot start {self._program!r}: it is not in the container, or cannot be executed: {why}",
                    is_task_fault=True,
                )
            is_first = False
            yield number, data

    async def _pieces(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield what comes; a terminal has one stream only."""
        with contextlib.suppress(Unavailable):
            if self._tty:
                async for data in self._stream.data():
                    yield 1, data
                return
            async for frames in self._stream.frames():
                for frame in frames:
                    yield frame

    async def write(self, data: bytes) -> None:
        """Write to its input."""
        await self._stream.write(data)

    async def end_input(self) -> None:
        """Close its input; a terminal is told with its end-of-file character."""
        if self._tty:
            await self.write(b"\x04")
        else:
            self._stream.end_input()

    async def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size."""
        if self._tty:
            with contextlib.suppress(EngineAnswer, Unavailable):
                await self._engine.change(lambda api: api.exec_resize(self._id, height=rows, width=columns))

    async def exit_code(self) -> int:
        """Wait for its end; the engine has no better way than to be asked."""
        while True:
            try:
                facts = await self._engine.ask(lambda api: api.exec_inspect(self._id))
            except (EngineAnswer, Unavailable):
                return 128 + signal.SIGKILL  # it went with its container or its engine
            if not facts["Running"]:
                return int(facts["ExitCode"] or 0)
            await asyncio.sleep(_POLL_S)

    async def close(self) -> None:
        """Hang up and kill it.

        The engine cannot end what it executes, so this kills the process itself where it is one of this host.
        """
        self._stream.close()
        with contextlib.suppress(EngineAnswer, Unavailable, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                if (pid := await self._pid()) and self._engine.is_local:
                    _kill(pid, self._container)

    async def _pid(self) -> int:
        """Return the host's number of the process; 0 when it has ended. A busy engine knows it some time after."""
        while True:
            facts = await self._engine.ask(lambda api: api.exec_inspect(self._id))
            if not facts["Running"]:
                return 0
            if facts["Pid"]:
                return int(facts["Pid"])
            await asyncio.sleep(_POLL_S)


def _kill(pid: int, container: str) -> None:
    """Kill a process if it is in the container's cgroup: the number may be another's by now."""
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            if container in Path(f"/proc/{pid}/cgroup").read_text():
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
