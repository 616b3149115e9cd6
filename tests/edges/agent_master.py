"""A master for tests of the agent's process: it says what it is told to say, and remembers what it hears."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from runrig._wire import add_order, report_from_wire
from runrig.agents import (
    AcknowledgeUpdate,
    KillTask,
    Launch,
    Order,
    Register,
    Registered,
    Report,
)
from runrig.ids import FrameworkId, Role, TaskId
from runrig.tasks import StatusUpdate, TaskSpec, TaskState
from runrig.v1 import agent_pb2, agent_pb2_grpc

DEADLINE_S = 30.0
FRAMEWORK = FrameworkId("framework-1")

Request = agent_pb2.AgentServiceConnectRequest
Response = agent_pb2.AgentServiceConnectResponse


class FakeMaster(agent_pb2_grpc.AgentServiceServicer):
    """Serves one agent at a time; `address` is where."""

    def __init__(self) -> None:
        self.epoch = 1
        self.address = ""
        self.answer: Order = Registered("cluster", 20_000, 1_000)
        self.acknowledges = True
        self.registrations: list[Register] = []
        self.reports: list[Report] = []
        self._orders: asyncio.Queue[Order] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._server: grpc.aio.Server | None = None
        self._calls: set[asyncio.Task[Any]] = set()

    async def start(self, address: str = "127.0.0.1:0") -> None:
        """Serve."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        agent_pb2_grpc.add_AgentServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(address)
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        """Cut every agent off."""
        assert self._server is not None
        await self._server.stop(grace=None)

    def order(self, *orders: Order) -> None:
        """Send orders to the agent."""
        for order in orders:
            self._orders.put_nowait(order)

    def launch(self, *specs: TaskSpec, is_group: bool = False) -> None:
        """Order tasks to be launched."""
        self.order(Launch(FRAMEWORK, "tests", Role("eng"), specs, is_group))

    def kill(self, task_id: str, grace_ms: int | None = None) -> None:
        """Order a task to be killed."""
        self.order(KillTask(FRAMEWORK, TaskId(task_id), grace_ms))

    def updates(self, task_id: str) -> list[StatusUpdate]:
        """Return what was said of a task, each update once, by number."""
        said = [each for each in self.reports if isinstance(each, StatusUpdate) and each.task_id == task_id]
        return sorted({update.number: update for update in said}.values(), key=lambda update: update.number)

    def states(self, task_id: str) -> list[TaskState]:
        """Return the states that a task was said to be in."""
        return [update.state for update in self.updates(task_id)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that reports bring about."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def state(self, task_id: str, state: TaskState) -> StatusUpdate:
        """Wait until a task is said to be in a state."""
        await self.until(lambda: state in self.states(task_id))
        return next(update for update in self.updates(task_id) if update.state is state)

    async def registered(self, times: int = 1) -> Register:
        """Wait for the agent's registration, the so-manieth."""
        await self.until(lambda: len(self.registrations) >= times)
        return self.registrations[times - 1]

    async def Connect(  # type: ignore[override]  # noqa: N802
        self,
        request_iterator: AsyncIterator[Request],
        context: grpc.aio.ServicerContext[Request, Response],
    ) -> None:
        """Serve one stream."""
        writer = asyncio.create_task(self._write(context))
        try:
            async for envelope in request_iterator:
                for item in envelope.reports:
                    self._heard(report_from_wire(item))
                self._changed.set()
        finally:
            writer.cancel()

    def _heard(self, report: Report) -> None:
        self.reports.append(report)
        if isinstance(report, Register):
            self._orders = asyncio.Queue()
            self.registrations.append(report)
            self.order(self.answer)
        elif isinstance(report, StatusUpdate) and report.number and self.acknowledges:
            self.order(AcknowledgeUpdate(report.framework_id, report.task_id, report.number))

    async def _write(self, context: grpc.aio.ServicerContext[Request, Response]) -> None:
        number = 0
        while True:
            try:
                orders = [await asyncio.wait_for(self._orders.get(), 0.5)]
            except TimeoutError:
                orders = []
            while not self._orders.empty():
                orders.append(self._orders.get_nowait())
            number += 1
            envelope = Response(number=number, epoch=self.epoch)
            for order in orders:
                add_order(envelope, order)
            await context.write(envelope)
