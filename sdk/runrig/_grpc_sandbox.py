"""The client of an agent's SandboxService; `runrig.sandbox` is its public name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import grpc

from runrig._grpc_errors import error_from
from runrig.errors import ProtocolError, TimedOut
from runrig.v1 import sandbox_pb2 as pb
from runrig.v1.sandbox_pb2_grpc import SandboxServiceStub

Stream = Literal["stdout", "stderr"]
Response = TypeVar("Response")

ANSWER_TIMEOUT_S = 10.0
CHUNK_BYTES = 64 * 1024
STARTED_KEY = "runrig-started"
"""Initial metadata with which an agent says that a command has begun, and that more may be written."""
CHANNEL_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))

_NUMBERS: dict[Stream | None, pb.LogStream.ValueType] = {
    None: pb.LOG_STREAM_UNSPECIFIED,
    "stdout": pb.LOG_STREAM_STDOUT,
    "stderr": pb.LOG_STREAM_STDERR,
}


@dataclass(frozen=True, slots=True)
class SandboxFile:
    """A file or directory in a sandbox; `path` is relative to it, `mode` is what lstat says."""

    path: str
    size_bytes: int
    is_directory: bool
    modified_at_unix_ms: int
    mode: int


class Sandbox:
    """A connection to the agent at `address` (`host:port`), made by the first call; use it with `async with`.

    Every method raises NotFound (no such task here, or its files were removed), InvalidInput, Conflict (it
    has ended), TooSlow (the agent's bounds: try again), Unavailable, and TimedOut when the agent is silent
    for `timeout_s`.

    Example:
        async with Sandbox("h1:5051") as sandbox:
            for file in await sandbox.list_files(framework_id, task_id):
                print(file.path, file.size_bytes)
    """

    def __init__(self, address: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self.close()

    async def close(self) -> None:
        """Close the connection; what is still being read ends."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def read_logs(
        self,
        framework_id: str,
        task_id: str,
        *,
        stream: Stream | None = None,
        follow: bool = False,
        tail_lines: int | None = None,
    ) -> AsyncGenerator[tuple[Stream, bytes], None]:
        """Yield (stream, data) of what the task wrote: all that is kept, or `tail_lines` of each stream.

        With `follow` go on until the task has ended and all is read; also for a task that has not begun yet.

        Example:
            async for stream, data in sandbox.read_logs(framework_id, task_id, tail_lines=10):
                sys.stdout.buffer.write(data)
        """
        request = pb.ReadLogsRequest(framework_id=framework_id, task_id=task_id, stream=_NUMBERS[stream], follow=follow)
        if tail_lines is not None:
            request.tail_lines = tail_lines
        with self._errors():
            async with _cancelled_at_end(self._stub().ReadLogs(request)) as call:
                await self._answer(call.initial_metadata())
                while True:
                    reading = call.read()
                    message = await (reading if follow else self._answer(reading))
                    if not isinstance(message, pb.ReadLogsResponse):
                        return
                    yield _stream_of(message.stream), message.data

    async def list_files(self, framework_id: str, task_id: str, path: str = "") -> list[SandboxFile]:
        """List the directory `path` of a sandbox by name; of a file, list the file itself."""
        request = pb.ListFilesRequest(framework_id=framework_id, task_id=task_id, path=path)
        with self._errors():
            response = await self._stub().ListFiles(request, timeout=self._timeout_s)
        return [
            SandboxFile(file.path, file.size_bytes, file.is_directory, file.modified_at_unix_ms, file.mode)
            for file in response.files
        ]

    async def read_file(
        self, framework_id: str, task_id: str, path: str, *, offset_bytes: int = 0, length_bytes: int = 0
    ) -> AsyncGenerator[bytes, None]:
        """Yield the content of a file from an offset on; length 0: up to where it ends now.

        Example:
            content = b"".join([data async for data in sandbox.read_file(framework_id, task_id,
            "result.json")])
        """
        request = pb.ReadFileRequest(
            framework_id=framework_id,
            task_id=task_id,
            path=path,
            offset_bytes=offset_bytes,
            length_bytes=length_bytes,
        )
        with self._errors():
            async with _cancelled_at_end(self._stub().ReadFile(request)) as call:
                while isinstance(message := await self._answer(call.read()), pb.ReadFileResponse):
                    yield message.data

    @asynccontextmanager
    async def exec(
        self,
        framework_id: str,
        task_id: str,
        argv: Sequence[str],
        *,
        tty: bool = False,
        size: tuple[int, int] | None = None,
    ) -> AsyncIterator[Session]:
        """Run a command inside the task: in its container, or its sandbox. It ends with the block.

        `size` is (rows, columns) of the terminal that `tty` asks for.

        Example:
            async with sandbox.exec(framework_id, task_id, ["ls", "-l"]) as session:
                await session.end_input()
                async for stream, data in session.output():
                    sys.stdout.buffer.write(data)
                code = session.exit_code
        """
        start = pb.ExecStart(framework_id=framework_id, task_id=task_id, argv=argv, tty=tty)
        if size is not None:
            start.size.rows, start.size.columns = size
        with self._errors():
            async with _cancelled_at_end(self._stub().Exec()) as call:
                await self._answer(call.write(pb.ExecRequest(start=start)))
                if STARTED_KEY not in (await self._answer(call.initial_metadata())):
                    await self._answer(call.read())  # raises why
                    raise ProtocolError(f"the agent at {self.address} neither started the command nor said why")
                yield Session(call, self.address)

    def _stub(self) -> Any:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        return SandboxServiceStub(self._channel)

    async def _answer(self, answer: Any) -> Any:
        """Wait for an answer, but not for ever."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await answer
        except TimeoutError:
            raise TimedOut(f"the agent at {self.address} did not answer within {self._timeout_s:g} s") from None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with _translated(self.address):
            yield


class Session:
    """A command that runs inside a task.

    The agent ends the stream only after this side has: a write that meets its end breaks a call in grpc.aio, and what
    was still to be read of it with it. Writes come one at a time, as gRPC wants them.
    """

    def __init__(self, call: Any, address: str) -> None:
        self._call = call
        self._address = address
        self._turn = asyncio.Lock()
        self.exit_code: int | None = None
        """128 + n after signal n; None until `output` has ended."""

    async def output(self) -> AsyncGenerator[tuple[Stream, bytes], None]:
        """Yield (stream, data) until the command ends; with a terminal all is stdout."""
        with _translated(self._address):
            while isinstance(message := await self._call.read(), pb.ExecResponse):
                match message.WhichOneof("response"):
                    case "stdout":
                        yield "stdout", message.stdout
                    case "stderr":
                        yield "stderr", message.stderr
                    case "exit_code":
                        self.exit_code = message.exit_code
                        await self._finish()
                    case None:
                        raise ProtocolError(f"the agent at {self._address} sent an empty message")
            if self.exit_code is None:
                raise ProtocolError(f"the agent at {self._address} did not say how the command ended")

    async def write(self, data: bytes) -> None:
        """Write to its standard input; what comes after its end is dropped."""
        for begin in range(0, len(data), CHUNK_BYTES):
            await self._send(pb.ExecRequest(stdin=data[begin : begin + CHUNK_BYTES]))

    async def end_input(self) -> None:
        """Close its standard input."""
        await self._send(pb.ExecRequest(stdin_end=True))

    async def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal a new size."""
        await self._send(pb.ExecRequest(resize=pb.TerminalSize(rows=rows, columns=columns)))

    async def _send(self, request: pb.ExecRequest) -> None:
        async with self._turn:
            if self.exit_code is not None or self._call.done():
                return
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # it has failed: `output` tells how
                await self._call.write(request)

    async def _finish(self) -> None:
        async with self._turn:
            if not self._call.done():
                await self._call.done_writing()


@asynccontextmanager
async def _cancelled_at_end(call: Any) -> AsyncIterator[Any]:
    """Hang up when the caller stops reading."""
    try:
        yield call
    finally:
        call.cancel()


@contextmanager
def _translated(address: str) -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise error_from(error, f"the agent at {address}") from error


def _stream_of(number: int) -> Stream:
    return "stderr" if number == pb.LOG_STREAM_STDERR else "stdout"
