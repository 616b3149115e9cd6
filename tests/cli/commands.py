"""`runrig` as a process of its own, beside a master and an agent that serve in this one."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from runrig.v1 import operator_pb2 as pb
from runrig.v1 import tasks_pb2
from tests.agent.serving import FRAMEWORK, Serving, served
from tests.cli.fake_master import FakeMaster


class Cluster:
    """A master that knows the tasks `task…`, and their agent."""

    def __init__(self, master: FakeMaster, agent: Serving) -> None:
        self.master = master
        self.agent = agent

    def task(self, name: str = "task-1") -> Path:
        """Let a task live; return its sandbox."""
        self.know(name, self.agent.address)
        return self.agent.task(name)

    def know(
        self, name: str, agent_address: str, state: tasks_pb2.TaskState.ValueType = tasks_pb2.TASK_RUNNING
    ) -> None:
        """Let the master know a task."""
        task = pb.Task(task_id=name, framework_id=FRAMEWORK, framework_name="f", agent_address=agent_address)
        task.state = state
        self.master.tasks.append(task)

    async def start(self, *words: str, **streams: Any) -> asyncio.subprocess.Process:
        """Begin `runrig WORDS…`; its streams are pipes."""
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "runrig", *words),
            env={**os.environ, "RUNRIG_MASTER": self.master.address, "RUNRIG_CONFIG": os.devnull},
            **{"stdin": pipe, "stdout": pipe, "stderr": pipe, **streams},
        )

    async def run(self, *words: str, stdin: bytes = b"") -> tuple[int | None, bytes, bytes]:
        """Run `runrig WORDS…` to its end; return its exit code and what it printed."""
        process = await self.start(*words)
        out, err = await process.communicate(stdin)
        return process.returncode, out, err


@asynccontextmanager
async def cluster_at(work: Path) -> AsyncIterator[Cluster]:
    """Serve while the block runs."""
    async with served(work) as agent:
        with FakeMaster().serve() as master:
            yield Cluster(master, agent)
