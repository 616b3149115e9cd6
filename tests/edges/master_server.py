"""A real master on loopback, in this process or in one of its own, and clients that write envelopes by hand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc

from runrig.v1 import (
    agent_pb2,
    operator_pb2_grpc,
    resources_pb2,
    scheduler_pb2,
    tasks_pb2,
)
from runrig_master.core.settings import CoreSettings
from runrig_master.server_grpc import run_master
from runrig_master.settings import MasterSettings

PATIENCE_S = 30.0
"""Far above what anything takes, also where many tests run at once."""

Sent = TypeVar("Sent")
Received = TypeVar("Received")


@dataclass
class Served:
    """A master that answers."""

    grpc_address: str
    http: str
    channel: grpc.aio.Channel
    process: subprocess.Popen[str] | None = None

    @property
    def operator(self) -> operator_pb2_grpc.OperatorServiceAsyncStub:
        """Return the stub of the operator service."""
        return operator_pb2_grpc.OperatorServiceStub(self.channel)

    def scheduler(self) -> Stream[scheduler_pb2.SchedulerServiceConnectResponse]:
        """Open a scheduler's stream."""
        call = self.channel.stream_stream(
            "/runrig.v1.SchedulerService/Connect",
            scheduler_pb2.SchedulerServiceConnectRequest.SerializeToString,
            scheduler_pb2.SchedulerServiceConnectResponse.FromString,
        )()
        return Stream(call, scheduler_pb2.SchedulerServiceConnectRequest, "calls", "events", "event")

    def agent(self) -> Stream[agent_pb2.AgentServiceConnectResponse]:
        """Open an agent's stream."""
        call = self.channel.stream_stream(
            "/runrig.v1.AgentService/Connect",
            agent_pb2.AgentServiceConnectRequest.SerializeToString,
            agent_pb2.AgentServiceConnectResponse.FromString,
        )()
        return Stream(call, agent_pb2.AgentServiceConnectRequest, "reports", "commands", "command")

    async def subscribed(self, name: str = "f", session: int = 1, **fields: Any) -> Stream[Any]:
        """Open a scheduler's stream and subscribe."""
        stream = self.scheduler()
        await stream.send(subscribe(name, session, **fields))
        await stream.next("subscribed")
        return stream

    async def registered(
        self, name: str = "a1", session: int = 1, tasks: Sequence[agent_pb2.TaskReport] = (), **fields: Any
    ) -> Stream[Any]:
        """Open an agent's stream and register."""
        stream = self.agent()
        await stream.send(register(name, session, tasks=tasks, **fields))
        await stream.next("registered")
        return stream


class Stream(Generic[Received]):
    """One Connect stream, envelope by envelope."""

    def __init__(self, call: Any, envelope: Any, items: str, heard: str, kind: str) -> None:
        self.call = call
        self.number = 0
        self.epochs: list[int] = []
        self.numbers: list[int] = []
        self._envelope = envelope
        self._items = items
        self._heard = heard
        self._kind = kind
        self._waiting: list[Any] = []

    async def send(self, *items: Any, number: int | None = None) -> None:
        """Write an envelope, with the next number unless one is given."""
        self.number = number if number is not None else self.number + 1
        await self.call.write(self._envelope(number=self.number, **{self._items: items}))

    async def next(self, kind: str) -> Any:
        """Return the next item of a kind, passing over others."""
        while True:
            for place, item in enumerate(self._waiting):
                if item.WhichOneof(self._kind) == kind:
                    del self._waiting[: place + 1]
                    return getattr(item, kind)
            self._waiting = await self.envelope()

    async def envelope(self) -> list[Any]:
        """Return the items of the next envelope."""
        envelope = await asyncio.wait_for(self.call.read(), PATIENCE_S)
        assert envelope is not grpc.aio.EOF, f"the stream ended: {self.call}"
        self.epochs.append(envelope.epoch)
        self.numbers.append(envelope.number)
        return list(getattr(envelope, self._heard))

    async def refusal(self) -> Any:
        """Return why the master ends the stream, and see that it does."""
        refusal = await self.next("refusal")
        assert await self.end() == (grpc.StatusCode.OK, "")
        return refusal

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """Read to the end; return status and details."""

        async def drain() -> tuple[grpc.StatusCode, str]:
            with contextlib.suppress(grpc.aio.AioRpcError):
                while await self.call.read() is not grpc.aio.EOF:
                    pass
            return await self.call.code(), await self.call.details()

        return await asyncio.wait_for(drain(), PATIENCE_S)

    def cancel(self) -> None:
        """Break the stream."""
        self.call.cancel()


def resources(cpu_millis: int = 4000, mem_mib: int = 1024) -> resources_pb2.Resources:
    """Build an amount."""
    return resources_pb2.Resources(cpu_millis=cpu_millis, mem_mib=mem_mib)


def subscribe(
    name: str = "f", session: int = 1, uses_demand: bool = False, **fields: Any
) -> scheduler_pb2.SchedulerCall:
    """Build the subscription of a framework whose id, name and role are one."""
    known: dict[str, Any] = {"framework_id": name, "name": name, "roles": [name], "failover_timeout_ms": 3_600_000}
    framework = scheduler_pb2.FrameworkInfo(**(known | fields))
    call = scheduler_pb2.Subscribe(framework=framework, session=session, uses_demand=uses_demand)
    return scheduler_pb2.SchedulerCall(subscribe=call)


def register(
    name: str = "a1", session: int = 1, epoch: int = 0, tasks: Any = (), **fields: Any
) -> agent_pb2.AgentReport:
    """Build the registration of an agent."""
    known: dict[str, Any] = {
        "agent_id": name,
        "hostname": f"host-{name}",
        "resources": resources(),
        "runtimes": [tasks_pb2.RUNTIME_KIND_PROCESS],
    }
    info = agent_pb2.AgentInfo(**(known | fields))
    return agent_pb2.AgentReport(register=agent_pb2.Register(agent=info, session=session, epoch=epoch, tasks=tasks))


def spec(task_id: str = "t1", cpu_millis: int = 1000) -> tasks_pb2.TaskSpec:
    """Build a task."""
    command = tasks_pb2.Command(shell="true")
    return tasks_pb2.TaskSpec(task_id=task_id, resources=resources(cpu_millis, 32), command=command, data=b"\0\1")


def accept(offer: scheduler_pb2.Offer, *specs: tasks_pb2.TaskSpec, refuse_ms: int = 0) -> scheduler_pb2.SchedulerCall:
    """Build an Accept of one offer."""
    operation = scheduler_pb2.Operation(launch=scheduler_pb2.LaunchTasks(tasks=specs))
    group = scheduler_pb2.LaunchGroup(agent_id=offer.agent_id, offer_ids=[offer.offer_id], operations=[operation])
    filter_ = scheduler_pb2.Filter(refuse_ms=refuse_ms)
    return scheduler_pb2.SchedulerCall(accept=scheduler_pb2.Accept(groups=[group], filter=filter_))


def status(task_id: str = "t1", state: int = 3, number: int = 1, name: str = "f") -> tasks_pb2.StatusUpdate:
    """Build what agent a1 says of a task."""
    return tasks_pb2.StatusUpdate(
        framework_id=name,
        task_id=task_id,
        agent_id="a1",
        number=number,
        state=state,  # type: ignore[arg-type]
        source=tasks_pb2.SOURCE_AGENT,
    )


def update(task_id: str = "t1", state: int = 3, number: int = 1, name: str = "f") -> agent_pb2.AgentReport:
    """Build the report of an update."""
    return agent_pb2.AgentReport(update=status(task_id, state, number, name))


def task_report(task_id: str = "t1", number: int = 1, name: str = "f", **fields: Any) -> agent_pb2.TaskReport:
    """Build what a returning agent says of a task that runs."""
    known: dict[str, Any] = {"framework_id": name, "task_id": task_id, "role": name, "resources": resources(1000, 32)}
    return agent_pb2.TaskReport(**(known | {"status": status(task_id, 3, number, name)} | fields))


def acknowledge(task_id: str = "t1", number: int = 1) -> scheduler_pb2.SchedulerCall:
    """Build a receipt."""
    receipt = scheduler_pb2.Acknowledgement(task_id=task_id, agent_id="a1", number=number)
    return scheduler_pb2.SchedulerCall(acknowledge=scheduler_pb2.Acknowledge(acknowledgements=[receipt]))


@contextlib.asynccontextmanager
async def serving(core: CoreSettings = CoreSettings(), state: str = "memory:", **edges: Any) -> AsyncIterator[Served]:
    """Run a master in this process."""
    addresses: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
    settings = MasterSettings("127.0.0.1:0", "127.0.0.1:0", state, core=core, **edges)
    leading = asyncio.create_task(run_master(settings, lambda grpc, http: addresses.set_result((grpc, http))))
    ends: set[asyncio.Future[Any]] = {leading, addresses}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if leading.done():
        leading.result()
    grpc_address, http_address = addresses.result()
    try:
        async with grpc.aio.insecure_channel(grpc_address) as channel:
            yield Served(grpc_address, http_address, channel)
        assert not leading.done(), "the master has ended"
    finally:
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)


def command(*flags: str) -> list[str]:
    """Return what runs `runrig master` with `flags`."""
    return [sys.executable, "-m", "runrig", "master", *flags]


@contextlib.contextmanager
def process(state: Path, grpc_port: int, http_port: int, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """Run a master in a process of its own, killed at the end."""
    listen = ("--listen", f"127.0.0.1:{grpc_port}", "--http", f"127.0.0.1:{http_port}")
    log = state.with_suffix(".log")
    with log.open("a") as output:
        running = subprocess.Popen(
            command(*listen, "--state", f"sqlite:///{state}", *flags),
            stdout=output,
            stderr=output,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGKILL)
        running.wait(PATIENCE_S)
