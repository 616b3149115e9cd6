"""The agent with a real engine beside its warden."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from runrig.agents import DestroyAgentVolume, VolumeDestroyed
from runrig.tasks import Container, RuntimeKind, TaskState, Volume
from tests.edges.agent_process import running_agent, running_master, shell


@pytest.mark.docker
async def test_containers_and_processes_run_side_by_side_and_outlive_the_agent(engine: str, tmp_path: Path) -> None:
    flags = ("--runtime", "auto", "--docker-host", engine)
    async with running_master() as master, running_agent(master, tmp_path, *flags) as agent:
        register = await master.registered()
        image = Container("runrig/busybox:test")
        master.launch(
            replace(shell("box", "echo in $RUNRIG_SANDBOX; sleep 60"), container=image),
            replace(shell("ends", "sleep 1; exit 4"), container=image),
            shell("plain", "sleep 60"),
        )
        for name in ("box", "ends", "plain"):
            await master.state(name, TaskState.TASK_RUNNING)

        await agent.kill(signal.SIGKILL)
        await asyncio.sleep(1.2)  # the time in which a container ends while no agent looks
        await agent.start(*flags)
        again = await master.registered(2)
        ended = await master.state("ends", TaskState.TASK_FAILED)
        master.kill("box", grace_ms=0)
        master.kill("plain", grace_ms=0)
        killed = [await master.state(name, TaskState.TASK_KILLED) for name in ("box", "plain")]

        assert register.agent.runtimes == again.agent.runtimes == (RuntimeKind.DOCKER, RuntimeKind.PROCESS)
        assert ended.exit_code == 4
        assert [update.runtime for update in killed] == [RuntimeKind.DOCKER, RuntimeKind.PROCESS]
        assert killed[0].container_id


@pytest.mark.docker
async def test_a_volume_passes_from_a_container_to_the_next_over_a_kill_of_the_agent(
    engine: str, tmp_path: Path
) -> None:
    flags = ("--runtime", "docker", "--docker-host", engine)
    image = Container("runrig/busybox:test")
    kept = (Volume("", "/data", volume_id="data"),)
    async with running_master() as master, running_agent(master, tmp_path, *flags) as agent:
        master.launch(replace(shell("writes", "echo kept >/data/file", volumes=kept), container=image))
        await master.state("writes", TaskState.TASK_FINISHED)
        await agent.kill(signal.SIGKILL)
        await agent.start(*flags)
        await master.registered(2)

        master.launch(replace(shell("reads", "grep kept /data/file", volumes=kept), container=image))
        await master.state("reads", TaskState.TASK_FINISHED)
        master.order(DestroyAgentVolume("data"))
        await master.until(lambda: VolumeDestroyed("data") in master.reports)

        assert not list((agent.directory / "work/volumes").rglob("file"))


async def test_an_agent_that_removes_what_ended_leaves_only_what_runs(engine: str, tmp_path: Path) -> None:
    flags = ("--runtime", "docker", "--docker-host", engine, "--remove-ended")
    async with running_master() as master, running_agent(master, tmp_path, *flags) as agent:
        register = await master.registered()
        image = Container("runrig/busybox:test")
        master.launch(
            replace(shell("runs", "sleep 60"), container=image), replace(shell("ends", "exit 0"), container=image)
        )
        running = await master.state("runs", TaskState.TASK_RUNNING)
        await master.state("ends", TaskState.TASK_FINISHED)

        await agent.kill(signal.SIGTERM)
        left = containers(engine, register.agent.agent_id)

        await agent.start(*flags)
        await master.registered(2)
        master.kill("runs", grace_ms=0)
        await master.state("runs", TaskState.TASK_KILLED)
        assert left == [running.container_id]


def containers(engine: str, agent_id: str) -> list[str]:
    command = ["docker", "--host", engine, "ps", "--all", "--quiet", "--no-trunc", "--filter"]
    done = subprocess.run([*command, f"label=runrig.agent={agent_id}"], capture_output=True, text=True, check=True)
    return done.stdout.split()
