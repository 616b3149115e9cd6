"""The master as a process: kill -9 and what is found again, two masters on one store, and flags."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from runrig.errors import EXIT_CONFLICT, EXIT_OK, EXIT_UNREACHABLE, EXIT_USAGE
from runrig.v1 import operator_pb2 as pb
from runrig.v1 import scheduler_pb2, tasks_pb2
from tests.edges.master_server import (
    PATIENCE_S,
    Served,
    accept,
    command,
    process,
    register,
    spec,
    subscribe,
    task_report,
    update,
)
from tests.free_ports import free_port


@contextlib.asynccontextmanager
async def running(state: Path, *flags: str) -> AsyncIterator[Served]:
    """Run a master in a process of its own until it is killed at the end of the block, if not before."""
    grpc_port, http_port = free_port(), free_port()
    address = f"127.0.0.1:{grpc_port}"
    with process(state, grpc_port, http_port, *flags) as master:
        async with grpc.aio.insecure_channel(address) as channel:
            ready = asyncio.create_task(channel.channel_ready())
            while not ready.done():
                assert master.poll() is None, state.with_suffix(".log").read_text()
                await asyncio.sleep(0.05)
            yield Served(address, f"127.0.0.1:{http_port}", channel, master)


def kill_nine(master: Served) -> None:
    """Kill the master's process as nothing can prepare for."""
    assert master.process is not None
    master.process.send_signal(signal.SIGKILL)
    master.process.wait(PATIENCE_S)


def run(*flags: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a master that ends by itself."""
    return subprocess.run(
        command(*flags), capture_output=True, text=True, timeout=PATIENCE_S, cwd=folder, check=False, env=os.environ
    )


async def test_after_kill_nine_agents_frameworks_and_tasks_are_found_again(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    async with running(state) as master:
        scheduler = await master.subscribed()
        agent = await master.registered()
        await master.operator.SetRoleWeight(pb.SetRoleWeightRequest(role="f", weight_millis=3000))
        [offer] = (await scheduler.next("offers")).offers
        await scheduler.send(accept(offer, spec("t1")))
        await agent.next("launch")
        await agent.send(update("t1"))
        await scheduler.next("updates")
        before = await master.operator.GetCluster(pb.GetClusterRequest())
        kill_nine(master)

    async with running(state) as master:
        after = await master.operator.GetCluster(pb.GetClusterRequest())
        assert after.cluster_id == before.cluster_id
        assert (before.epoch, after.epoch) == (1, 2)
        assert (after.agents, after.agents_recovering, after.frameworks) == (1, 1, 1)
        assert [role.weight_millis for role in (await master.operator.ListRoles(pb.ListRolesRequest())).roles] == [3000]

        scheduler = await master.subscribed(session=2)
        reference = scheduler_pb2.TaskReference(task_id="t1", agent_id="a1")
        reconcile = scheduler_pb2.SchedulerCall(reconcile=scheduler_pb2.Reconcile(tasks=[reference]))
        await scheduler.send(reconcile)
        assert [task.task_id for task in (await scheduler.next("recovering")).tasks] == ["t1"]
        agent = await master.registered(tasks=[task_report("t1")], session=2)
        [offer] = (await scheduler.next("offers")).offers
        assert offer.resources.cpu_millis == 3000
        assert offer.offer_id.startswith("o2-")
        await scheduler.send(reconcile)
        [said] = (await scheduler.next("updates")).updates
        assert said.state == tasks_pb2.TASK_RUNNING
        assert set(scheduler.epochs) == {2}


async def test_after_kill_nine_an_older_session_and_a_removed_framework_stay_refused(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    async with running(state) as master:
        await master.subscribed("f", session=7)
        await master.subscribed("g", session=1)
        await master.operator.TeardownFramework(pb.TeardownFrameworkRequest(framework_id="g"))
        kill_nine(master)

    async with running(state) as master:
        old, removed = master.scheduler(), master.scheduler()
        await old.send(subscribe("f", session=7))
        await removed.send(subscribe("g", session=2))

        assert (await old.refusal()).code == scheduler_pb2.REFUSAL_CODE_SUPERSEDED
        assert (await removed.refusal()).code == scheduler_pb2.REFUSAL_CODE_REMOVED


async def test_a_failover_deadline_goes_on_counting_over_kill_nine(tmp_path: Path) -> None:
    """Rule 16."""
    state = tmp_path / "state.db"

    async def deadline(master: Served) -> int:
        [framework] = (await master.operator.ListFrameworks(pb.ListFrameworksRequest())).frameworks
        return framework.failover_deadline_unix_ms

    async with running(state) as master:
        scheduler = await master.subscribed()
        assert await deadline(master) == 0
        scheduler.cancel()
        while not (first := await deadline(master)):  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0.01)
        # A list may be ahead of the disk; a change is answered once it, and all before it, is durable.
        await master.operator.SetRoleWeight(pb.SetRoleWeightRequest(role="r", weight_millis=2000))
        kill_nine(master)
    async with running(state) as master:
        assert await deadline(master) == first
        await master.subscribed("g")
        kill_nine(master)
    async with running(state) as master:
        found = (await master.operator.ListFrameworks(pb.ListFrameworksRequest())).frameworks
        deadlines = {item.framework_id: item.failover_deadline_unix_ms for item in found}
        assert deadlines["f"] == first
        assert deadlines["g"] > first
        kill_nine(master)
    async with running(state) as master:
        found = (await master.operator.ListFrameworks(pb.ListFrameworksRequest())).frameworks
        assert {item.framework_id: item.failover_deadline_unix_ms for item in found} == deadlines


async def test_what_an_operator_was_told_is_done_survives_kill_nine(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    async with running(state) as master:
        await master.registered("a1")
        await master.registered("a2")
        await master.operator.DeactivateAgent(pb.DeactivateAgentRequest(agent_id="a1"))
        await master.operator.MarkAgentGone(pb.MarkAgentGoneRequest(agent_id="a2"))
        kill_nine(master)

    async with running(state) as master:
        gone = master.agent()
        await gone.send(register("a2", session=2))
        await master.registered("a1", session=2)
        agents = (await master.operator.ListAgents(pb.ListAgentsRequest())).agents

        assert (await gone.refusal()).code == scheduler_pb2.REFUSAL_CODE_GONE
        assert [agent.state for agent in agents] == [pb.AGENT_STATE_DEACTIVATED, pb.AGENT_STATE_GONE]


async def test_two_masters_cannot_use_one_store(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    async with running(state) as master:
        assert master.process is not None
        second = run(
            "--state", f"sqlite:///{state}", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", folder=tmp_path
        )

        assert second.returncode == EXIT_CONFLICT
        assert f"in use by process {master.process.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        assert (await master.operator.GetCluster(pb.GetClusterRequest())).epoch == 1


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async with running(tmp_path / "state.db") as master:
        for flags, words in (
            (("--listen", master.grpc_address, "--http", "127.0.0.1:0"), master.grpc_address),
            (("--listen", "127.0.0.1:0", "--http", master.http), master.http.rpartition(":")[2]),
        ):
            ended = run(*flags, "--state", "memory:", folder=tmp_path)

            assert ended.returncode == EXIT_CONFLICT
            assert words in ended.stderr
            assert "Traceback" not in ended.stderr


async def test_sigterm_ends_it_in_order(tmp_path: Path) -> None:
    async with running(tmp_path / "state.db") as master:
        stream = await master.subscribed()
        assert master.process is not None
        master.process.terminate()

        assert await asyncio.to_thread(master.process.wait, PATIENCE_S) == EXIT_OK
        assert (await stream.end())[0] is not grpc.StatusCode.OK


async def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    async with running(state):
        pass
    with contextlib.closing(sqlite3.connect(state)) as connection:
        connection.execute("UPDATE entries SET value = ? WHERE key = 'cluster'", (b"\x0a\x01c\x10\x63",))
        connection.commit()

    ended = run("--state", f"sqlite:///{state}", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", folder=tmp_path)

    assert ended.returncode == EXIT_CONFLICT
    assert "schema 99" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--nonsense"], "--nonsense"),
        (["--listen", "nonsense"], "--listen: 'nonsense' is not allowed"),
        (["--listen", "127.0.0.1:99999"], "--listen: '127.0.0.1:99999' is not allowed"),
        (["--http", "127.0.0.1"], "--http: '127.0.0.1' is not allowed"),
        (["--listen", "0.0.0.0:5055"], "--allow-remote"),
        (["--offer-timeout", "0"], "--offer-timeout: 0.0 is not allowed; allowed: 0.05 to 86400 seconds"),
        (["--offer-timeout", "nan"], "--offer-timeout: nan is not allowed"),
        (["--offer-timeout", "soon"], "soon"),
        (["--silence-timeout", "inf"], "--silence-timeout: inf is not allowed"),
        (["--heartbeat", "60"], "--heartbeat: 60.0 is not allowed; allowed: at most half of --silence-timeout"),
        (["--agent-return-timeout", "-5"], "--agent-return-timeout: -5.0 is not allowed"),
        (["--agent-return-timeout", "nan"], "--agent-return-timeout: nan is not allowed"),
        (["--state", "postgres://x"], "state: 'postgres://x' is not allowed"),
        (["--state", "sqlite:"], "state: 'sqlite:' is not allowed"),
        (["--state", "sqlite:///"], "state: 'sqlite:///' is not allowed"),
        (["--state", "sqlite://state.db"], "state: 'sqlite://state.db' is not allowed"),
        (["--log-format", "xml"], "xml"),
    ],
)
def test_a_bad_flag_ends_it_with_a_clear_text(flags: list[str], words: str, tmp_path: Path) -> None:
    ended = run("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--state", "memory:", *flags, folder=tmp_path)

    assert ended.returncode == EXIT_USAGE, ended.stderr
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("this is no database, and long enough to be looked at " * 100)
    (tmp_path / "folder").mkdir()
    for path in ("file", "file/state.db", "folder"):
        ended = run(
            "--state",
            f"sqlite:///{tmp_path / path}",
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            folder=tmp_path,
        )

        assert ended.returncode == EXIT_UNREACHABLE, ended.stderr
        assert str(tmp_path / path) in ended.stderr
        assert "Traceback" not in ended.stderr
