from __future__ import annotations

import asyncio
import os
import pty
import signal
import termios
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.commands import Cluster, cluster_at


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_at(tmp_path) as cluster:
        yield cluster


async def test_the_exit_code_and_the_streams_pass_through(cluster: Cluster) -> None:
    sandbox = cluster.task()

    found = await cluster.run("exec", "task", "--", "sh", "-c", "pwd; echo problem >&2; exit 42")

    assert found == (42, f"{sandbox}\n".encode(), b"problem\n")


async def test_options_after_the_task_are_those_of_the_command(cluster: Cluster) -> None:
    cluster.task()

    assert await cluster.run("exec", "task-1", "echo", "-i", "--tty") == (0, b"-i --tty\n", b"")


async def test_input_is_passed_on_when_asked_for(cluster: Cluster) -> None:
    cluster.task()
    data = os.urandom(300_000)

    assert await cluster.run("exec", "-i", "task-1", "--", "cat", stdin=data) == (0, data, b"")
    assert await cluster.run("exec", "task-1", "--", "cat", stdin=data) == (0, b"", b"")


async def test_input_can_come_from_a_file(cluster: Cluster, tmp_path: Path) -> None:
    cluster.task()
    (tmp_path / "input").write_bytes(b"from a file")
    with (tmp_path / "input").open("rb") as file:
        process = await cluster.start("exec", "-i", "task-1", "--", "cat", stdin=file)

        assert (await process.communicate())[0] == b"from a file"


async def test_a_terminal_is_asked_for_only_on_a_terminal(cluster: Cluster) -> None:
    cluster.task()

    code, _, err = await cluster.run("exec", "-it", "task-1", "--", "sh")

    assert code == 2
    assert b"-t needs a terminal" in err


async def test_nothing_is_executed_in_an_ended_task(cluster: Cluster) -> None:
    cluster.task()
    cluster.agent.end("task-1")

    code, _, err = await cluster.run("exec", "task-1", "--", "true")

    assert code == 5
    assert b"has ended" in err


async def test_a_shell_on_a_terminal(cluster: Cluster) -> None:
    """All keys go to the task, sizes too, and the terminal is afterwards what it was."""
    cluster.task()
    [runtime] = cluster.agent.runtimes.values()
    terminal, inner = pty.openpty()
    termios.tcsetwinsize(inner, (30, 90))
    before = termios.tcgetattr(inner)
    script = "stty raw -echo; echo ready; dd bs=1 count=1 2>/dev/null | od -An -tx1; read x; exit 7"
    process = await cluster.start(
        "exec", "-it", "task-1", "--", "sh", "-c", script, stdin=inner, stdout=inner, stderr=inner
    )
    await until_shown(terminal, b"ready")

    termios.tcsetwinsize(inner, (40, 100))
    process.send_signal(signal.SIGWINCH)
    os.write(terminal, b"\x03")
    await until_shown(terminal, b"03")
    async with asyncio.timeout(10):
        while len(runtime.sessions[0].sizes) < 2:  # noqa: ASYNC110  (it tells nobody)
            await asyncio.sleep(0.005)
    os.write(terminal, b"\n")

    assert await process.wait() == 7
    assert runtime.sessions[0].sizes == [(30, 90), (40, 100)]
    assert termios.tcgetattr(inner) == before
    os.close(terminal)
    os.close(inner)


async def test_an_interrupted_command_ends_in_the_task_too(cluster: Cluster) -> None:
    cluster.task()
    [runtime] = cluster.agent.runtimes.values()
    process = await cluster.start("exec", "task-1", "--", "sh", "-c", "echo began; exec sleep 1000")
    assert process.stdout is not None
    await process.stdout.readline()

    process.send_signal(signal.SIGINT)

    assert await process.wait() == 130
    async with asyncio.timeout(10):
        while not runtime.sessions[0].has_ended:  # noqa: ASYNC110  (it tells nobody)
            await asyncio.sleep(0.005)
    await process.communicate()


async def until_shown(terminal: int, text: bytes) -> None:
    shown = b""
    async with asyncio.timeout(20):
        while text not in shown:
            shown += await asyncio.to_thread(os.read, terminal, 1024)
