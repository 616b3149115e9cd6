from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runrig.v1 import tasks_pb2
from tests.cli.commands import Cluster, cluster_at


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_at(tmp_path) as cluster:
        yield cluster


async def test_both_streams_are_printed_as_data(cluster: Cluster) -> None:
    sandbox = cluster.task()
    (sandbox / "stdout").write_bytes(b"out\n\xff\n")
    (sandbox / "stderr").write_bytes(b"err\n")

    assert await cluster.run("logs", "task") == (0, b"out\n\xff\nerr\n", b"")


async def test_one_stream_and_its_last_lines_can_be_asked_for(cluster: Cluster) -> None:
    sandbox = cluster.task()
    (sandbox / "stdout").write_bytes(b"1\n2\n3\n")
    (sandbox / "stderr").write_bytes(b"4\n5\n6\n")

    assert await cluster.run("logs", "--stderr", "-n", "2", "task-1") == (0, b"5\n6\n", b"")
    assert await cluster.run("logs", "--stdout", "--tail", "1", "task-1") == (0, b"3\n", b"")


async def test_output_is_followed_until_the_task_ends(cluster: Cluster) -> None:
    sandbox = cluster.task()
    (sandbox / "stdout").write_bytes(b"begin\n")
    process = await cluster.start("logs", "-f", "task-1")
    assert process.stdout is not None
    assert await process.stdout.readline() == b"begin\n"

    with (sandbox / "stdout").open("ab") as file:
        file.write(b"end\n")
    cluster.agent.end("task-1")

    out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, b"end\n", b"")


async def test_an_ended_task_has_logs(cluster: Cluster) -> None:
    (cluster.task() / "stdout").write_bytes(b"last words\n")
    cluster.agent.end("task-1")
    cluster.master.tasks[0].state = tasks_pb2.TASK_FAILED

    assert await cluster.run("logs", "task-1") == (0, b"last words\n", b"")


async def test_silence_is_told_apart_from_data(cluster: Cluster) -> None:
    cluster.task()

    code, out, err = await cluster.run("logs", "task-1")

    assert (code, out) == (0, b"")
    assert b"has written nothing yet; -f waits for more" in err


async def test_a_reader_that_has_enough_is_no_failure(cluster: Cluster) -> None:
    with (cluster.task() / "stdout").open("wb") as file:
        file.truncate(50 << 20)
    process = await cluster.start("logs", "task-1")
    assert process.stdout is not None
    assert process.stderr is not None
    await process.stdout.read(10)

    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]

    assert await process.stderr.read() == b""
    assert await process.wait() == 0


async def test_what_goes_wrong_has_its_exit_code(cluster: Cluster) -> None:
    cluster.know("dead", "127.0.0.1:1")
    cluster.know("nowhere", "")
    cluster.know("forgotten", cluster.agent.address)

    found = await asyncio.gather(*(cluster.run("logs", name) for name in ("none", "dead", "nowhere", "forgotten")))

    assert [code for code, _, _ in found] == [3, 4, 5, 3]
    assert all(err.startswith(b"runrig: ") and out == b"" for _, out, err in found)
    assert b"is on no agent that can be reached" in found[2][2]
    assert b"its files were removed" in found[3][2]
