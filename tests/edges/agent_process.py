"""The agent as a process of its own, for tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from runrig.agents import ShutdownFramework
from runrig.ids import TaskId
from runrig.resources import Resources
from runrig.tasks import Command, TaskSpec
from tests.edges.agent_master import DEADLINE_S, FRAMEWORK, FakeMaster
from tests.free_ports import free_port


def shell(task_id: str, script: str, **more: object) -> TaskSpec:
    """Describe a process that runs a script."""
    resources = Resources(cpu_millis=50, mem_mib=32)
    return TaskSpec(TaskId(task_id), resources, command=Command(shell=script), **more)  # type: ignore[arg-type]


class AgentProcess:
    """`python -m runrig_agent` in a work directory."""

    def __init__(self, master: FakeMaster, directory: Path) -> None:
        self.master = master
        self.directory = directory
        self.http = f"127.0.0.1:{free_port()}"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *flags: str) -> None:
        """Start it, with the master it shall find."""
        with (self.directory / "agent.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "runrig_agent", "--master", self.master.address),
                *("--work-dir", str(self.directory / "work"), "--listen", "127.0.0.1:0", "--http", self.http),
                *("--runtime", "process", "--resources", "cpus:8;mem:4G;disk:1G;ports:[31000-31010]"),
                *("--hostname", "host-1", "--attributes", "rack:a", *flags),
                stderr=log,
                stdout=log,
            )

    async def kill(self, number: int = signal.SIGKILL) -> int:
        """End it by a signal; return its exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.process.wait()

    def sandbox(self, task_id: str) -> Path:
        """Say where a task's sandbox is."""
        return self.directory / "work/sandboxes" / FRAMEWORK / task_id

    async def wait(self) -> int:
        """Wait for its end; return its exit code."""
        assert self.process is not None
        async with asyncio.timeout(DEADLINE_S):
            return await self.process.wait()

    def readyz(self) -> tuple[int, dict[str, object]]:
        """Ask whether it is ready."""
        try:
            with urllib.request.urlopen(f"http://{self.http}/readyz", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


async def appears(path: Path) -> None:
    """Wait until a task has made a file."""
    async with asyncio.timeout(DEADLINE_S):
        while not await asyncio.to_thread(path.exists):  # noqa: ASYNC110 (another process makes it)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running_master() -> AsyncIterator[FakeMaster]:
    """Serve a master while the block runs."""
    master = FakeMaster()
    await master.start()
    yield master
    await master.stop()


@asynccontextmanager
async def running_agent(master: FakeMaster, directory: Path, *flags: str) -> AsyncIterator[AgentProcess]:
    """Start an agent and see it registered; after the block end it with all its tasks."""
    agent = AgentProcess(master, directory)
    await agent.start(*flags)
    try:
        await master.registered()
        yield agent
    finally:
        if agent.process is not None and agent.process.returncode is None:
            master.order(ShutdownFramework(FRAMEWORK))
            await asyncio.sleep(0.2)
        await agent.kill(signal.SIGTERM)
        end_warden(directory / "work")
        sys.stdout.write((directory / "agent.log").read_text())


def end_warden(work_dir: Path) -> None:
    """End what a test has left running."""
    for process in Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"runrig_agent.warden" in words and str(work_dir / "warden").encode() in words:
            os.kill(int(process.name), signal.SIGTERM)
