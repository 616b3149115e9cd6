"""A command inside a task of the process runtime.

The warden starts it, in the task's cgroups and as its user, on files that this end makes and sends over the
socket. The connection is the command's life: when it ends, the warden kills the command.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import json
import os
import pty
import signal
import socket
import struct
import termios
from collections.abc import AsyncIterator, Mapping

from runrig.errors import Unavailable
from runrig_agent.runtime import ExecSession, TaskKey
from runrig_agent.runtimes.warden_link import WardenError, line

_CHUNK_BYTES = 1 << 16


async def start_exec(
    peer: socket.socket, key: TaskKey, argv: tuple[str, ...], env: Mapping[str, str], tty: bool
) -> ExecSession:
    """Start a command over a fresh connection to the warden; raises WardenError, Unavailable."""
    files = _Files.of_terminal() if tty else _Files.of_pipes()
    try:
        request = {"id": 1, "op": "exec", "key": key, "argv": argv, "env": dict(env), "tty": tty}
        await _send(peer, line(request), files.theirs)
        reader, writer = await asyncio.open_unix_connection(sock=peer)
    except OSError as error:
        peer.close()
        files.close()
        raise Unavailable(f"the warden does not answer: {error}") from error
    finally:
        for fd in files.theirs:
            os.close(fd)
    try:
        answer = json.loads(await reader.readline() or b'{"error": {"kind": "host", "message": "no warden"}}')
        if (refusal := answer.get("error")) is not None:
            raise WardenError(refusal["kind"], refusal["message"])  # noqa: TRY301 - closes all below
        return await ProcessExec.opened(files, reader, writer)
    except BaseException as error:
        writer.close()
        files.close()
        if isinstance(error, ConnectionError):
            raise Unavailable(f"the warden has gone while it was asked: {error}; ask again") from error
        raise


class _Files:
    """Both ends of what the command reads and writes."""

    def __init__(self, theirs: tuple[int, int, int], stdin: int, outputs: tuple[int, ...], is_tty: bool) -> None:
        self.theirs = theirs
        self.stdin = stdin
        self.outputs = outputs
        self.is_tty = is_tty

    @classmethod
    def of_pipes(cls) -> _Files:
        """Make three pipes."""
        (input_out, input_in), (out_out, out_in), (err_out, err_in) = (os.pipe2(os.O_CLOEXEC) for _ in range(3))
        return cls((input_out, out_in, err_in), input_in, (out_out, err_out), is_tty=False)

    @classmethod
    def of_terminal(cls) -> _Files:
        """Make a pseudo-terminal."""
        ours, theirs = pty.openpty()
        return cls((theirs, os.dup(theirs), os.dup(theirs)), os.dup(ours), (ours,), is_tty=True)

    def close(self) -> None:
        """Close our ends, for a command that did not start."""
        for fd in (self.stdin, *self.outputs):
            os.close(fd)


class ProcessExec:
    """See `ExecSession`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        stdin: asyncio.StreamWriter,
        outputs: list[asyncio.StreamReader],
        transports: list[asyncio.BaseTransport],
        terminal: int | None,
    ) -> None:
        self._writer = writer
        self._stdin = stdin
        self._outputs = outputs
        self._transports = transports
        self._terminal = terminal
        self._ended = asyncio.create_task(_exit_code(reader))

    @classmethod
    async def opened(cls, files: _Files, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> ProcessExec:
        """Take over our ends of the files."""
        loop = asyncio.get_running_loop()
        outputs: list[asyncio.StreamReader] = []
        transports: list[asyncio.BaseTransport] = []
        for fd in files.outputs:
            output = asyncio.StreamReader()
            protocol = functools.partial(asyncio.StreamReaderProtocol, output)
            transport, _ = await loop.connect_read_pipe(protocol, os.fdopen(fd, "rb", 0))
            outputs.append(output)
            transports.append(transport)
        pipe, flow = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(files.stdin, "wb", 0)
        )
        stdin = asyncio.StreamWriter(pipe, flow, None, loop)
        return cls(reader, writer, stdin, outputs, transports, files.stdin if files.is_tty else None)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield what it writes until all who could write have ended."""
        chunks: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(maxsize=4)
        pumps = [asyncio.create_task(_pump(number, each, chunks)) for number, each in enumerate(self._outputs, 1)]
        try:
            open_streams = len(pumps)
            while open_streams:
                chunk = await chunks.get()
                if chunk is None:
                    open_streams -= 1
                else:
                    yield chunk
        finally:
            for pump in pumps:
                pump.cancel()

    async def write(self, data: bytes) -> None:
        """Write to its input; what it has stopped reading is lost."""
        with contextlib.suppress(ConnectionError):
            self._stdin.write(data)
            await self._stdin.drain()

    async def end_input(self) -> None:
        """Close its input; a terminal is told with its end-of-file character."""
        if self._terminal is not None:
            await self.write(b"\x04")
        else:
            self._stdin.close()

    async def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size; the kernel tells the command."""
        if self._terminal is not None:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def exit_code(self) -> int:
        """Wait for its end."""
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        """End the connection, and with it the command."""
        self._terminal = None
        self._ended.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._ended
        self._stdin.close()
        for transport in self._transports:
            transport.close()
        self._writer.close()


async def _pump(number: int, source: asyncio.StreamReader, sink: asyncio.Queue[tuple[int, bytes] | None]) -> None:
    with contextlib.suppress(OSError):  # a terminal's end is an error of reading
        while data := await source.read(_CHUNK_BYTES):
            await sink.put((number, data))
    await sink.put(None)


async def _exit_code(reader: asyncio.StreamReader) -> int:
    while data := await reader.readline():
        message = json.loads(data)
        if "exec_ended" in message:
            return int(message["exec_ended"])
    return 128 + signal.SIGKILL  # the warden is gone, and nobody knows


async def _send(peer: socket.socket, data: bytes, files: tuple[int, ...]) -> None:
    """Send a request with files; a fresh socket takes the first bytes at once."""
    sent = socket.send_fds(peer, [data], list(files))
    if sent < len(data):
        await asyncio.get_running_loop().sock_sendall(peer, data[sent:])
