"""The agent's SandboxService: translates between the wire and sandbox_service, and refusals into statuses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from runrig.errors import InvalidInput, NotFound, RunrigError, TimedOut, TooSlow, Unavailable
from runrig.ids import FrameworkId, TaskId, checked_id
from runrig.tasks import Reason
from runrig.v1 import sandbox_pb2 as pb
from runrig.v1.sandbox_pb2_grpc import SandboxServiceServicer
from runrig_agent.runtime import ExecSession, LaunchFailed, TaskKey
from runrig_agent.sandbox_reading import CHUNK_BYTES
from runrig_agent.sandbox_service import SandboxAccess

STREAMS = {
    pb.LOG_STREAM_UNSPECIFIED: ("stdout", "stderr"),
    pb.LOG_STREAM_STDOUT: ("stdout",),
    pb.LOG_STREAM_STDERR: ("stderr",),
}
STREAM_NUMBERS = {"stdout": pb.LOG_STREAM_STDOUT, "stderr": pb.LOG_STREAM_STDERR}
STARTED_KEY = "runrig-started"
"""Initial metadata that says that a command has begun; a caller that waits for it never writes into a refusal."""
TERMINAL_MAX = 10_000
"""Rows and columns of a terminal, far above any."""


class SandboxService(SandboxServiceServicer):
    """Serves a SandboxAccess; add it to a server with `add_SandboxServiceServicer_to_server`."""

    def __init__(self, access: SandboxAccess) -> None:
        self._access = access

    async def ReadLogs(  # type: ignore[override]  # noqa: N802
        self,
        request: pb.ReadLogsRequest,
        context: grpc.aio.ServicerContext[pb.ReadLogsRequest, pb.ReadLogsResponse],
    ) -> None:
        """Stream a task's output."""
        async with refusals(context):
            key = checked_key(request)
            if request.stream not in STREAMS:
                raise InvalidInput("stream", request.stream, "0 (both), 1 (stdout) or 2 (stderr)")
            tail_lines = request.tail_lines if request.HasField("tail_lines") else None
            logs = self._access.logs(key, STREAMS[request.stream], follow=request.follow, tail_lines=tail_lines)
            await context.send_initial_metadata(())  # output may be long in coming: a sign of life
            async with aclosing(logs) as chunks:
                async for stream, data in chunks:
                    await self._write(context, pb.ReadLogsResponse(stream=STREAM_NUMBERS[stream], data=data))

    async def ListFiles(  # noqa: N802
        self,
        request: pb.ListFilesRequest,
        context: grpc.aio.ServicerContext[pb.ListFilesRequest, pb.ListFilesResponse],
    ) -> pb.ListFilesResponse:
        """List a directory of a sandbox."""
        response = pb.ListFilesResponse()
        async with refusals(context):
            for file in await self._access.files(checked_key(request), request.path):
                response.files.add(
                    path=file.path,
                    size_bytes=file.size_bytes,
                    is_directory=file.is_directory,
                    modified_at_unix_ms=file.modified_at_unix_ms,
                    mode=file.mode,
                )
        return response

    async def ReadFile(  # type: ignore[override]  # noqa: N802
        self,
        request: pb.ReadFileRequest,
        context: grpc.aio.ServicerContext[pb.ReadFileRequest, pb.ReadFileResponse],
    ) -> None:
        """Stream a file of a sandbox."""
        async with refusals(context):
            key = checked_key(request)
            content = self._access.file(key, request.path, request.offset_bytes, request.length_bytes)
            async with aclosing(content) as chunks:
                async for data in chunks:
                    await self._write(context, pb.ReadFileResponse(data=data))

    async def Exec(  # type: ignore[override]  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.ExecRequest],
        context: grpc.aio.ServicerContext[pb.ExecRequest, pb.ExecResponse],
    ) -> None:
        """Execute a command in a task and join it with the caller."""
        async with refusals(context):
            start = await self._start(request_iterator)
            with self._access.executing():
                session = await self._access.execute(checked_key(start), tuple(start.argv), start.tty)
                try:
                    if start.HasField("size"):
                        await resize(session, start.size)
                    await context.send_initial_metadata(((STARTED_KEY, "1"),))
                    await self._join(session, request_iterator, context)
                finally:
                    await session.close()

    async def _start(self, requests: AsyncIterator[pb.ExecRequest]) -> pb.ExecStart:
        try:
            async with asyncio.timeout(self._access.settings.start_timeout_s):
                first = await anext(requests)
        except (TimeoutError, StopAsyncIteration):
            raise TimedOut("the first request, `start`, did not come") from None
        if first.WhichOneof("request") != "start":
            raise InvalidInput("request", first.WhichOneof("request"), "`start` first")
        if first.start.HasField("size"):
            checked_size(first.start.size)
        return first.start

    async def _join(
        self,
        session: ExecSession,
        requests: AsyncIterator[pb.ExecRequest],
        context: grpc.aio.ServicerContext[pb.ExecRequest, pb.ExecResponse],
    ) -> None:
        """Carry input in and output out until the command ends, and the caller has hung up or waited too long.

        A client's write that meets the end of the stream would break its call, what it has not read yet included.
        """
        feeding = asyncio.create_task(feed(session, requests))
        try:
            async for number, data in session.output():
                for begin in range(0, len(data), CHUNK_BYTES):
                    chunk = data[begin : begin + CHUNK_BYTES]
                    answer = pb.ExecResponse(stdout=chunk) if number == 1 else pb.ExecResponse(stderr=chunk)
                    await self._write(context, answer)
            code = await session.exit_code()
            if not is_refused(feeding):
                await self._write(context, pb.ExecResponse(exit_code=code))
                await asyncio.wait([feeding], timeout=self._access.settings.hang_up_timeout_s)
        finally:
            feeding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await feeding  # raises what was wrong with the input, which has closed the session

    async def _write(self, context: grpc.aio.ServicerContext[Any, Any], message: object) -> None:
        try:
            async with asyncio.timeout(self._access.settings.write_timeout_s):
                await context.write(message)
        except TimeoutError:
            raise TooSlow("the stream was not read for too long; call again") from None


async def feed(session: ExecSession, requests: AsyncIterator[pb.ExecRequest]) -> None:
    """Carry a caller's requests to a session; raises InvalidInput or DecodeError, having closed the session."""
    try:
        async for request in requests:
            with contextlib.suppress(OSError, Unavailable):  # it has ended: its exit code says the rest
                await carry(session, request)
        with contextlib.suppress(OSError, Unavailable):
            await session.end_input()
    except (InvalidInput, DecodeError):
        await session.close()
        raise


def is_refused(feeding: asyncio.Task[None]) -> bool:
    """Say whether the caller's requests were wrong."""
    return feeding.done() and not feeding.cancelled() and feeding.exception() is not None


async def carry(session: ExecSession, request: pb.ExecRequest) -> None:
    """Do what one request says; raises InvalidInput."""
    match request.WhichOneof("request"):
        case "stdin":
            await session.write(request.stdin)
        case "stdin_end":
            await session.end_input()
        case "resize":
            await resize(session, request.resize)
        case other:
            raise InvalidInput("request", other, "stdin, stdin_end or resize once it has started")


async def resize(session: ExecSession, size: pb.TerminalSize) -> None:
    """Tell a session's terminal a new size; raises InvalidInput."""
    checked_size(size)
    await session.resize(size.rows, size.columns)


def checked_size(size: pb.TerminalSize) -> None:
    """Raise InvalidInput unless a terminal can have this size."""
    for field, value in (("rows", size.rows), ("columns", size.columns)):
        if not 1 <= value <= TERMINAL_MAX:
            raise InvalidInput(f"size.{field}", value, f"1 to {TERMINAL_MAX}")


def checked_key(
    request: pb.ReadLogsRequest | pb.ListFilesRequest | pb.ReadFileRequest | pb.ExecStart,
) -> TaskKey:
    """Return whom a request is about; raises InvalidInput."""
    return (
        FrameworkId(checked_id("framework_id", request.framework_id)),
        TaskId(checked_id("task_id", request.task_id)),
    )


@asynccontextmanager
async def refusals(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Answer a RunrigError with its status."""
    try:
        yield
    except RunrigError as error:
        await context.abort(status_of(error), str(error))


def status_of(error: RunrigError) -> grpc.StatusCode:
    """Return the status that says `error`."""
    match error:
        case InvalidInput():
            return grpc.StatusCode.INVALID_ARGUMENT
        case NotFound():
            return grpc.StatusCode.NOT_FOUND
        case TooSlow():
            return grpc.StatusCode.RESOURCE_EXHAUSTED
        case TimedOut():
            return grpc.StatusCode.DEADLINE_EXCEEDED
        case Unavailable():
            return grpc.StatusCode.UNAVAILABLE
        case LaunchFailed() if error.reason is Reason.RUNTIME_UNAVAILABLE:
            return grpc.StatusCode.UNAVAILABLE
        case _:
            return grpc.StatusCode.FAILED_PRECONDITION
