"""An agent's SandboxService on loopback, over real sandboxes, as the agent will run it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from runrig.ids import FrameworkId, TaskId
from runrig.tasks import RuntimeKind
from runrig.v1.sandbox_pb2_grpc import add_SandboxServiceServicer_to_server
from runrig_agent.grpc_sandbox import SandboxService
from runrig_agent.runtime import TaskKey
from runrig_agent.sandbox_service import LivingTask, SandboxAccess, SandboxServiceSettings
from runrig_agent.sandboxes import Sandboxes
from tests.agent.local_exec import LocalExec

FRAMEWORK = FrameworkId("f")
SETTINGS = SandboxServiceSettings(poll_interval_s=0.005, settle_s=0.03)


@dataclass
class Serving:
    """The service, and the tasks that live."""

    sandboxes: Sandboxes
    access: SandboxAccess
    server: grpc.aio.Server
    address: str = ""
    tasks: dict[TaskKey, LivingTask] = field(default_factory=dict)
    runtimes: dict[TaskKey, LocalExec] = field(default_factory=dict)

    def accept(self, name: str = "t") -> None:
        """Let a task live, without a sandbox yet."""
        key = FRAMEWORK, TaskId(name)
        self.runtimes[key] = LocalExec(self.sandboxes.path(key))
        self.tasks[key] = LivingTask(self.runtimes[key], (("WHO", name),))

    def task(self, name: str = "t") -> Path:
        """Let a task live; return its sandbox."""
        self.accept(name)
        return self.sandboxes.create((FRAMEWORK, TaskId(name)), RuntimeKind.PROCESS)

    def end(self, name: str = "t") -> None:
        """Let it end."""
        self.tasks.pop((FRAMEWORK, TaskId(name)))

    async def stop(self) -> None:
        """Stop serving, at once."""
        await self.server.stop(None)

    @property
    def readers(self) -> int:
        return self.access._readers

    async def until_read_by(self, readers: int) -> None:
        """Wait until so many read."""
        async with asyncio.timeout(10):
            while self.readers != readers:  # noqa: ASYNC110  (readers are counted, and tell nobody)
                await asyncio.sleep(0.005)


@asynccontextmanager
async def served(work: Path, settings: SandboxServiceSettings = SETTINGS) -> AsyncIterator[Serving]:
    """Serve while the block runs."""

    async def forget(key: TaskKey, kind: RuntimeKind) -> None: ...

    sandboxes = Sandboxes(work, forget)
    await sandboxes.recover(frozenset())
    directory: dict[TaskKey, LivingTask] = {}
    access = SandboxAccess(sandboxes, Directory(directory), settings)
    server = grpc.aio.server()
    add_SandboxServiceServicer_to_server(SandboxService(access), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield Serving(sandboxes, access, server, f"127.0.0.1:{port}", directory)
    finally:
        await server.stop(None)
        async with asyncio.timeout(10):
            while access._sessions:  # noqa: ASYNC110  (what was cancelled cleans up, and tells nobody)
                await asyncio.sleep(0.005)
        access.close()


@dataclass(frozen=True)
class Directory:
    """A TaskDirectory over a dictionary."""

    tasks: dict[TaskKey, LivingTask]

    def living(self, key: TaskKey) -> LivingTask | None:
        return self.tasks.get(key)
