from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from runrig.errors import Conflict, InvalidInput, NotFound, TooSlow, Unavailable
from runrig.sandbox import Sandbox, Stream
from runrig.tasks import Reason
from runrig.v1 import sandbox_pb2 as pb
from runrig.v1.sandbox_pb2_grpc import SandboxServiceStub
from runrig_agent.runtime import LaunchFailed
from runrig_agent.sandbox_logs import LogLimits, rotate_by_copy, rotate_by_rename
from tests.agent.serving import FRAMEWORK, SETTINGS, Serving, served


@pytest.fixture
async def serving(tmp_path: Path) -> AsyncIterator[Serving]:
    async with served(tmp_path) as serving:
        yield serving


@pytest.fixture
async def sandbox(serving: Serving) -> AsyncIterator[Sandbox]:
    async with Sandbox(serving.address) as sandbox:
        yield sandbox


async def logs(sandbox: Sandbox, stream: Stream | None = None, tail_lines: int | None = None) -> dict[str, bytes]:
    """Read a task's output without following; return it by stream."""
    found: dict[str, bytes] = {}
    async for name, data in sandbox.read_logs(FRAMEWORK, "t", stream=stream, tail_lines=tail_lines):
        found[name] = found.get(name, b"") + data
    return found


async def content(sandbox: Sandbox, path: str, offset: int = 0, length: int = 0) -> bytes:
    chunks = sandbox.read_file(FRAMEWORK, "t", path, offset_bytes=offset, length_bytes=length)
    return b"".join([data async for data in chunks])


# Output


async def test_output_is_read_by_stream(serving: Serving, sandbox: Sandbox) -> None:
    task = serving.task()
    (task / "stdout").write_bytes(b"out\n")
    (task / "stderr").write_bytes(b"err\n")

    assert await logs(sandbox) == {"stdout": b"out\n", "stderr": b"err\n"}
    assert await logs(sandbox, "stdout") == {"stdout": b"out\n"}
    assert await logs(sandbox, "stderr") == {"stderr": b"err\n"}


async def test_the_last_lines_are_those_of_each_stream(serving: Serving, sandbox: Sandbox) -> None:
    task = serving.task()
    (task / "stdout").write_bytes(b"1\n2\n3\n")
    (task / "stderr").write_bytes(b"4\n5\n")

    assert await logs(sandbox, tail_lines=2) == {"stdout": b"2\n3\n", "stderr": b"4\n5\n"}
    assert await logs(sandbox, tail_lines=0) == {}


async def test_much_output_comes_whole(serving: Serving, sandbox: Sandbox) -> None:
    data = os.urandom(3_000_000)
    (serving.task() / "stdout").write_bytes(data)

    assert await logs(sandbox) == {"stdout": data}


async def test_output_of_an_ended_task_is_read_as_long_as_it_is_kept(serving: Serving, sandbox: Sandbox) -> None:
    (serving.task() / "stdout").write_bytes(b"last words\n")
    serving.end()

    followed = [data async for _, data in sandbox.read_logs(FRAMEWORK, "t", follow=True)]

    assert await logs(sandbox) == {"stdout": b"last words\n"}
    assert followed == [b"last words\n"]


async def test_a_follower_reads_until_the_task_has_ended_and_all_is_read(serving: Serving, sandbox: Sandbox) -> None:
    task = serving.task()
    lines = sandbox.read_logs(FRAMEWORK, "t", follow=True)
    append(task / "stdout", b"one\n")
    assert await anext(lines) == ("stdout", b"one\n")

    append(task / "stderr", b"two\n")
    assert await anext(lines) == ("stderr", b"two\n")

    append(task / "stdout", b"three\n")
    serving.end()
    assert [each async for each in lines] == [("stdout", b"three\n")]
    assert serving.readers == 0


@pytest.mark.parametrize("rotate", [rotate_by_copy, rotate_by_rename])
async def test_a_follower_goes_on_over_rotations(serving: Serving, sandbox: Sandbox, rotate: object) -> None:
    assert callable(rotate)
    task = serving.task()
    append(task / "stdout", b"begin\n")
    lines = sandbox.read_logs(FRAMEWORK, "t", follow=True)
    assert await anext(lines) == ("stdout", b"begin\n")

    for number in range(3):
        append(task / "stdout", b"%d\n" % number)
        rotate(task / "stdout", LogLimits(max_bytes=0, max_files=5))
    append(task / "stdout", b"end\n")
    serving.end()

    assert b"".join([data async for _, data in lines]) == b"0\n1\n2\nend\n"


async def test_a_follower_waits_for_a_task_that_has_not_begun(serving: Serving, sandbox: Sandbox) -> None:
    serving.accept()
    following = asyncio.create_task(anext(sandbox.read_logs(FRAMEWORK, "t", follow=True)))
    await serving.until_read_by(1)

    append(serving.task() / "stdout", b"hello\n")

    assert await following == ("stdout", b"hello\n")


async def test_a_follower_of_a_task_that_never_begins_is_told(serving: Serving, sandbox: Sandbox) -> None:
    serving.accept()
    following = asyncio.create_task(anext(sandbox.read_logs(FRAMEWORK, "t", follow=True)))
    await serving.until_read_by(1)

    serving.end()

    with pytest.raises(NotFound):
        await following


async def test_a_follower_that_goes_away_is_forgotten(serving: Serving, sandbox: Sandbox) -> None:
    append(serving.task() / "stdout", b"x")
    async with aclosing(sandbox.read_logs(FRAMEWORK, "t", follow=True)) as lines:
        await anext(lines)
        assert serving.readers == 1

    await serving.until_read_by(0)


async def test_no_more_readers_are_served_than_allowed(tmp_path: Path) -> None:
    async with served(tmp_path, replace(SETTINGS, readers_max=1)) as serving, Sandbox(serving.address) as sandbox:
        append(serving.task() / "stdout", b"x")
        async with aclosing(sandbox.read_logs(FRAMEWORK, "t", follow=True)) as lines:
            await anext(lines)
            with pytest.raises(TooSlow, match="try again later"):
                await logs(sandbox)
            with pytest.raises(TooSlow):
                await sandbox.list_files(FRAMEWORK, "t")
        await serving.until_read_by(0)

        assert await logs(sandbox) == {"stdout": b"x"}


async def test_a_reader_that_does_not_read_is_hung_up(tmp_path: Path) -> None:
    settings = replace(SETTINGS, write_timeout_s=0.2)
    async with served(tmp_path, settings) as serving, Sandbox(serving.address) as sandbox:
        with (serving.task() / "stdout").open("wb") as file:
            file.truncate(1 << 30)
        async with aclosing(sandbox.read_logs(FRAMEWORK, "t")) as lines:
            await anext(lines)
            await serving.until_read_by(1)
            await serving.until_read_by(0)
            with pytest.raises(TooSlow, match="not read for too long"):
                async for _ in lines:
                    pass


async def test_output_that_is_a_link_is_not_followed(serving: Serving, sandbox: Sandbox) -> None:
    (serving.task() / "stdout").symlink_to("/etc/passwd")

    assert await logs(sandbox) == {}


# Files


async def test_files_are_listed_with_what_they_are(serving: Serving, sandbox: Sandbox) -> None:
    task = serving.task()
    (task / "folder").mkdir()
    (task / "folder/file").write_bytes(b"12345")
    (task / "link").symlink_to("/etc")

    top = await sandbox.list_files(FRAMEWORK, "t")
    below = await sandbox.list_files(FRAMEWORK, "t", "folder")

    assert [(file.path, file.is_directory) for file in top] == [("folder", True), ("link", False)]
    assert [(file.path, file.size_bytes, file.mode & 0o170000) for file in below] == [("folder/file", 5, 0o100000)]
    assert abs(below[0].modified_at_unix_ms / 1000 - (task / "folder/file").stat().st_mtime) < 0.01
    assert await sandbox.list_files(FRAMEWORK, "t", "folder/file") == below


async def test_odd_names_are_listed(serving: Serving, sandbox: Sandbox) -> None:
    task = os.fsencode(serving.task())
    for name in (b"a\nb", b"\xff\xfe", "é".encode()):
        os.close(os.open(os.path.join(task, name), os.O_CREAT))

    names = [file.path for file in await sandbox.list_files(FRAMEWORK, "t")]

    assert sorted(names) == sorted(["a\nb", "\ufffd\ufffd", "é"])


async def test_too_many_files_are_refused(tmp_path: Path) -> None:
    async with served(tmp_path, replace(SETTINGS, list_max=2)) as serving, Sandbox(serving.address) as sandbox:
        task = serving.task()
        for number in range(3):
            (task / str(number)).touch()

        with pytest.raises(TooSlow, match="too many files"):
            await sandbox.list_files(FRAMEWORK, "t")


async def test_a_list_of_long_names_fits_into_a_message(serving: Serving, sandbox: Sandbox) -> None:
    folder = serving.task()
    for _ in range(12):
        folder /= "d" * 250
    folder.mkdir(parents=True)
    for number in range(1500):
        (folder / f"{number:0200}").touch()

    with pytest.raises(TooSlow, match="too many files"):
        await sandbox.list_files(FRAMEWORK, "t", "/".join(["d" * 250] * 12))


async def test_a_file_is_read_whole_or_in_part(serving: Serving, sandbox: Sandbox) -> None:
    data = os.urandom(200_000)
    (serving.task() / "file").write_bytes(data)

    assert await content(sandbox, "file") == data
    assert await content(sandbox, "file", offset=100_000) == data[100_000:]
    assert await content(sandbox, "file", offset=10, length=70_000) == data[10:70_010]
    assert await content(sandbox, "file", offset=199_999, length=10**15) == data[199_999:]
    assert await content(sandbox, "file", offset=10**15) == b""


async def test_a_file_is_read_in_chunks_and_ends_where_it_ended_at_first(serving: Serving, sandbox: Sandbox) -> None:
    file = serving.task() / "file"
    with file.open("wb") as grown:
        grown.truncate(40 << 20)
    sizes = []
    async for data in sandbox.read_file(FRAMEWORK, "t", "file"):
        sizes.append(len(data))
        if len(sizes) == 1:
            append(file, b"more")

    assert max(sizes) == 64 * 1024
    assert sum(sizes) == 40 << 20


@pytest.mark.parametrize("path", ["../t2/secret", "/etc/passwd", "link", "folder/secret", "pipe", "folder", "", "."])
async def test_only_regular_files_within_the_sandbox_are_read(serving: Serving, sandbox: Sandbox, path: str) -> None:
    (serving.task("t2") / "secret").write_text("secret")
    task = serving.task()
    (task / "link").symlink_to("/etc/passwd")
    (task / "folder").symlink_to("../t2")
    os.mkfifo(task / "pipe")

    with pytest.raises(InvalidInput) as refused:
        await content(sandbox, path)

    assert refused.value.field == "path"
    assert repr(path) in str(refused.value)


async def test_a_link_out_is_not_listed_through(serving: Serving, sandbox: Sandbox) -> None:
    (serving.task() / "folder").symlink_to("/etc")

    with pytest.raises(InvalidInput, match="links that lead out"):
        await sandbox.list_files(FRAMEWORK, "t", "folder")


async def test_what_is_not_there_is_not_found(serving: Serving, sandbox: Sandbox) -> None:
    serving.task()

    for asked in (
        content(sandbox, "none"),
        sandbox.list_files(FRAMEWORK, "t", "none"),
        sandbox.list_files(FRAMEWORK, "other"),
        anext(sandbox.read_logs(FRAMEWORK, "other")),
        anext(sandbox.read_logs("other", "t", follow=True)),
    ):
        with pytest.raises(NotFound):
            await asked


# Commands


async def executed(sandbox: Sandbox, *argv: str, stdin: bytes = b"") -> tuple[int | None, bytes, bytes]:
    """Execute; return the exit code and what came out."""
    out = {"stdout": b"", "stderr": b""}
    async with sandbox.exec(FRAMEWORK, "t", argv) as session:
        await session.write(stdin)
        await session.end_input()
        async for stream, data in session.output():
            out[stream] += data
    return session.exit_code, out["stdout"], out["stderr"]


async def test_a_command_runs_in_the_task(serving: Serving, sandbox: Sandbox) -> None:
    task = serving.task()

    code, out, err = await executed(sandbox, "sh", "-c", "pwd; echo $WHO >&2; exit 7")

    assert (code, out, err) == (7, f"{task}\n".encode(), b"t\n")


async def test_input_goes_in_and_output_comes_out_while_it_runs(serving: Serving, sandbox: Sandbox) -> None:
    serving.task()
    async with sandbox.exec(FRAMEWORK, "t", ["cat"]) as session:
        output = session.output()
        await session.write(b"one")
        assert await anext(output) == ("stdout", b"one")
        await session.write(b"two")
        assert await anext(output) == ("stdout", b"two")
        await session.end_input()
        assert [each async for each in output] == []

    assert session.exit_code == 0


async def test_much_input_and_output_pass(serving: Serving, sandbox: Sandbox) -> None:
    serving.task()
    data = os.urandom(500_000)

    assert await executed(sandbox, "sh", "-c", "sleep 0; cat | cat", stdin=data) == (0, data, b"")


async def test_a_signal_is_told_by_the_exit_code(serving: Serving, sandbox: Sandbox) -> None:
    serving.task()

    assert (await executed(sandbox, "sh", "-c", "kill -9 $$"))[0] == 137


async def test_a_terminal_has_a_size_and_can_be_resized(serving: Serving, sandbox: Sandbox) -> None:
    serving.task()
    [runtime] = serving.runtimes.values()
    async with sandbox.exec(
        FRAMEWORK, "t", ["sh", "-c", "test -t 0 && test $TERM = xterm || exit 1; read x"], tty=True, size=(24, 80)
    ) as session:
        await session.resize(50, 132)
        await session.write(b"go\n")
        shown = b"".join([data async for _, data in session.output()])

    assert session.exit_code == 0
    assert b"go" in shown
    assert runtime.sessions[0].sizes == [(24, 80), (50, 132)]


async def test_a_command_ends_when_its_caller_goes_away(serving: Serving, sandbox: Sandbox) -> None:
    serving.task()
    [runtime] = serving.runtimes.values()
    async with sandbox.exec(FRAMEWORK, "t", ["sh", "-c", "echo began; exec sleep 1000"]) as session:
        await anext(session.output())

    async with asyncio.timeout(10):
        while not runtime.sessions[0].has_ended:  # noqa: ASYNC110  (it tells nobody)
            await asyncio.sleep(0.005)


async def test_nothing_is_executed_in_an_ended_task(serving: Serving, sandbox: Sandbox) -> None:
    serving.task()
    serving.end()

    with pytest.raises(Conflict, match="has ended"):
        await executed(sandbox, "true")
    with pytest.raises(NotFound):
        async with sandbox.exec(FRAMEWORK, "other", ["true"]) as session:
            await anext(session.output())


async def test_an_engine_that_is_down_is_told(serving: Serving, sandbox: Sandbox) -> None:
    serving.task()
    [runtime] = serving.runtimes.values()
    runtime.errors.append(LaunchFailed(Reason.RUNTIME_UNAVAILABLE, "the engine is down"))

    with pytest.raises(Unavailable, match="the engine is down"):
        await executed(sandbox, "true")


@pytest.mark.parametrize("error", [BrokenPipeError(), Unavailable("the engine hung up")])
async def test_a_command_that_takes_no_input_tells_how_it_ended(
    serving: Serving, sandbox: Sandbox, error: Exception
) -> None:
    serving.task()
    [runtime] = serving.runtimes.values()
    runtime.input_error = error

    assert await executed(sandbox, "sh", "-c", "echo done; exit 3", stdin=b"x") == (3, b"done\n", b"")


async def test_no_more_commands_are_executed_than_allowed(tmp_path: Path) -> None:
    async with served(tmp_path, replace(SETTINGS, sessions_max=1)) as serving, Sandbox(serving.address) as sandbox:
        serving.task()
        async with sandbox.exec(FRAMEWORK, "t", ["cat"]) as session:
            await session.write(b"x")
            await anext(session.output())
            with pytest.raises(TooSlow, match="try again later"):
                await executed(sandbox, "true")


@pytest.mark.parametrize("argv", [[], [""], ["a\0b"], ["x"] * 2000, ["x", "y" * 200_000]])
async def test_a_command_that_is_none_is_refused(serving: Serving, sandbox: Sandbox, argv: list[str]) -> None:
    serving.task()

    with pytest.raises(InvalidInput) as refused:
        await executed(sandbox, *argv)

    assert refused.value.field == "argv"


# Requests that no client of ours makes


@pytest.mark.parametrize(
    "request_, field",
    [
        (pb.ReadLogsRequest(framework_id="", task_id="t"), "framework_id"),
        (pb.ReadLogsRequest(framework_id="f", task_id="../t"), "task_id"),
        (pb.ReadLogsRequest(framework_id="..", task_id="t"), "framework_id"),
        (pb.ReadLogsRequest(framework_id="f", task_id="t", stream=9), "stream"),  # type: ignore[arg-type]
    ],
)
async def test_a_bad_request_for_output_names_its_field(
    serving: Serving, request_: pb.ReadLogsRequest, field: str
) -> None:
    async with grpc.aio.insecure_channel(serving.address) as channel:
        stub = SandboxServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ReadLogs(request_).read()

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (refused.value.details() or "").startswith(f"{field}: ")


@pytest.mark.parametrize("offset, length, field", [(-1, 0, "offset_bytes"), (0, -1, "length_bytes")])
async def test_a_negative_place_in_a_file_is_refused(
    serving: Serving, sandbox: Sandbox, offset: int, length: int, field: str
) -> None:
    (serving.task() / "file").touch()

    with pytest.raises(InvalidInput) as refused:
        await content(sandbox, "file", offset, length)

    assert refused.value.field == field


START = pb.ExecRequest(start=pb.ExecStart(framework_id="f", task_id="t", argv=["cat"]))
HUGE = pb.TerminalSize(rows=24, columns=1 << 31)


@pytest.mark.parametrize(
    "requests, message",
    [
        ([pb.ExecRequest(stdin=b"x")], "`start` first"),
        ([pb.ExecRequest()], "`start` first"),
        ([START, START], "once it has started"),
        ([START, pb.ExecRequest(resize=HUGE)], "size.columns"),
        ([START, pb.ExecRequest()], "once it has started"),
    ],
)
async def test_requests_out_of_order_are_refused(
    serving: Serving, requests: list[pb.ExecRequest], message: str
) -> None:
    serving.task()
    async with grpc.aio.insecure_channel(serving.address) as channel:
        call = SandboxServiceStub(channel).Exec(iter(requests))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            [_ async for _ in call]

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in (refused.value.details() or "")


async def test_a_caller_who_says_nothing_is_hung_up(tmp_path: Path) -> None:
    async with (
        served(tmp_path, replace(SETTINGS, start_timeout_s=0.05)) as serving,
        grpc.aio.insecure_channel(serving.address) as channel,
    ):
        call = SandboxServiceStub(channel).Exec()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()

    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_input_without_an_end_ends_with_the_callers_stream(serving: Serving) -> None:
    serving.task()
    async with grpc.aio.insecure_channel(serving.address) as channel:
        call = SandboxServiceStub(channel).Exec(iter([START, pb.ExecRequest(stdin=b"all")]))
        said = [message async for message in call]

    assert [message.WhichOneof("response") for message in said] == ["stdout", "exit_code"]


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
