"""The client beside what tests/agent/test_sandbox_service.py shows of it: agents that are away, silent or odd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

import runrig.sandbox
from runrig._grpc_errors import error_from
from runrig.errors import (
    EXIT_UNREACHABLE,
    InvalidInput,
    NotFound,
    ProtocolError,
    Refused,
    RunrigError,
    TimedOut,
    TooSlow,
    Unavailable,
    exit_code,
)
from runrig.sandbox import Sandbox
from runrig.v1 import sandbox_pb2 as pb
from runrig.v1.sandbox_pb2_grpc import SandboxServiceServicer, add_SandboxServiceServicer_to_server
from tests.agent.serving import FRAMEWORK, served
from tests.agent.web import nothing, web_server


def calls(sandbox: Sandbox) -> tuple[AsyncIterator[object], ...]:
    """Return one call of each method, which begins when it is read."""

    async def listed() -> AsyncIterator[object]:
        yield await sandbox.list_files("f", "t")

    async def executed() -> AsyncIterator[object]:
        async with sandbox.exec("f", "t", ["true"]) as session:
            async for each in session.output():
                yield each

    return (
        sandbox.read_logs("f", "t"),
        sandbox.read_logs("f", "t", follow=True),
        sandbox.read_file("f", "t", "x"),
        listed(),
        executed(),
    )


async def test_an_agent_that_is_away_is_told_by_every_call() -> None:
    async with Sandbox("127.0.0.1:1") as sandbox:
        for call in calls(sandbox):
            with pytest.raises(Unavailable, match=r"the agent at 127\.0\.0\.1:1 does not answer"):
                await anext(call)


async def test_a_silent_agent_is_given_up_by_every_call() -> None:
    async with web_server() as web, Sandbox(web.address, timeout_s=0.1) as sandbox:
        web.on("*", nothing)  # what gRPC's first line seems to ask for
        for call in calls(sandbox):
            with pytest.raises(TimedOut):
                await anext(call)


async def test_a_follower_is_told_when_its_agent_ends(tmp_path: Path) -> None:
    async with served(tmp_path) as serving, Sandbox(serving.address) as sandbox:
        (serving.task() / "stdout").write_bytes(b"x")
        lines = sandbox.read_logs(FRAMEWORK, "t", follow=True)
        await anext(lines)
        ending = asyncio.ensure_future(anext(lines))
        await serving.stop()

        with pytest.raises(Unavailable):
            await ending


async def test_input_that_comes_while_the_command_ends_does_no_harm(tmp_path: Path) -> None:
    """The client goes on writing until it is told of the end; a stream of gRPC that has ended would break then."""
    async with served(tmp_path) as serving, Sandbox(serving.address) as sandbox:
        serving.task()
        for _ in range(40):
            async with sandbox.exec(FRAMEWORK, "t", ["sh", "-c", "echo out; exit 42"]) as session:
                writing = asyncio.create_task(write_until_the_end(session))
                said = [data async for _, data in session.output()]
                await writing

            assert session.exit_code == 42
            assert said == [b"out\n"]


async def test_input_and_sizes_may_be_written_at_once(tmp_path: Path) -> None:
    async with served(tmp_path) as serving, Sandbox(serving.address) as sandbox:
        serving.task()
        async with sandbox.exec(FRAMEWORK, "t", ["cat"]) as session:
            await asyncio.gather(*(session.write(b"x") for _ in range(51)))
            await asyncio.gather(session.resize(1, 2), session.end_input(), session.resize(3, 4))
            said = [data async for _, data in session.output()]

    assert b"".join(said) == b"x" * 51


class Odd(SandboxServiceServicer):
    """Ends a command's stream without saying how the command ended."""

    async def Exec(self, request_iterator, context) -> None:  # type: ignore[no-untyped-def, override]  # noqa: N802
        await anext(request_iterator)
        await context.send_initial_metadata((("runrig-started", "1"),))
        await context.write(pb.ExecResponse(stdout=b"x"))

    async def ReadLogs(self, request, context) -> None: ...  # type: ignore[no-untyped-def, override]  # noqa: N802

    async def ListFiles(self, request, context) -> pb.ListFilesResponse:  # type: ignore[no-untyped-def]  # noqa: N802
        raise RuntimeError("a bug")

    async def ReadFile(self, request, context) -> None: ...  # type: ignore[no-untyped-def, override]  # noqa: N802


@pytest.fixture
async def odd() -> AsyncIterator[Sandbox]:
    server = grpc.aio.server()
    add_SandboxServiceServicer_to_server(Odd(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Sandbox(f"127.0.0.1:{port}") as sandbox:
        yield sandbox
    await server.stop(None)


async def test_an_end_that_is_not_told_is_the_agents_fault(odd: Sandbox) -> None:
    async with odd.exec("f", "t", ["x"]) as session:
        with pytest.raises(ProtocolError, match="did not say how the command ended"):
            [each async for each in session.output()]


async def test_a_bug_of_the_agent_is_told_as_such(odd: Sandbox) -> None:
    with pytest.raises(ProtocolError, match="a bug"):
        await odd.list_files("f", "t")


@pytest.mark.parametrize(
    "error",
    [InvalidInput("a.b", "x: y", "1 to 3"), NotFound("task", "t-1", "look elsewhere"), NotFound("file", "")],
)
def test_an_error_comes_back_as_it_was_raised(error: RunrigError) -> None:
    codes = {InvalidInput: grpc.StatusCode.INVALID_ARGUMENT, NotFound: grpc.StatusCode.NOT_FOUND}

    back = error_from(status(codes[type(error)], str(error)), "the agent")

    assert type(back) is type(error)
    assert str(back) == str(error)


@pytest.mark.parametrize(
    "code, kind, exits",
    [
        (grpc.StatusCode.INVALID_ARGUMENT, Refused, 5),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, TooSlow, EXIT_UNREACHABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, TimedOut, 124),
        (grpc.StatusCode.UNAVAILABLE, Unavailable, EXIT_UNREACHABLE),
        (grpc.StatusCode.CANCELLED, Unavailable, EXIT_UNREACHABLE),
        (grpc.StatusCode.UNIMPLEMENTED, ProtocolError, EXIT_UNREACHABLE),
    ],
)
def test_a_status_becomes_an_error_by_whose_fault_it_is(
    code: grpc.StatusCode, kind: type[RunrigError], exits: int
) -> None:
    back = error_from(status(code, "odd words"), "the agent")

    assert type(back) is kind
    assert "odd words" in str(back)
    assert exit_code(back) == exits


def status(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


async def write_until_the_end(session: runrig.sandbox.Session) -> None:
    while session.exit_code is None:
        await session.write(b"x")
