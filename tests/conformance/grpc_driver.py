"""A master behind gRPC, wherever it runs and whatever it is written in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from runrig._streams import CHANNEL_OPTIONS
from runrig.v1 import agent_pb2, operator_pb2_grpc, scheduler_pb2
from tests.conformance.lines import AGENT, Answer, Line, Refused

PATIENCE_S = 30.0
"""How much longer than it must take anything may take: far above what it does, also where much else runs."""
POLL_S = 0.02
FIRST_HEARTBEAT_S = 0.2
"""Until the master has said how often it wants to hear from this side."""


class GrpcLine(Line):
    """A Connect stream over gRPC, kept alive until it is frozen or broken off."""

    def __init__(self, kind: str, channel: grpc.aio.Channel, woken: asyncio.Event) -> None:
        super().__init__(kind)
        self._call = _connect(kind, channel)
        self._woken = woken
        self._writing = asyncio.Lock()
        self._heartbeat_s = FIRST_HEARTBEAT_S
        self._reading = asyncio.create_task(self._read())
        self._beating = asyncio.create_task(self._beat())

    async def write(self, *items: Any, number: int | None = None) -> None:
        """Write an envelope; that the stream has ended meanwhile is told by what is read."""
        async with self._writing:
            if self.end is None:
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await self._call.write(self.envelope(items, number))

    async def break_off(self) -> None:
        """Break the stream."""
        self.freeze()
        self._call.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    def freeze(self) -> None:
        """Send no more heartbeats."""
        self._beating.cancel()

    async def close(self) -> None:
        """End what this line does in the background."""
        await self.break_off()
        await asyncio.gather(self._beating, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while (envelope := await self._call.read()) is not grpc.aio.EOF:
                self.heard(envelope)
                self._woken.set()
            self.end = (await self._call.code()).name
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            self.end = (await self._call.code()).name
        self._beating.cancel()
        self._woken.set()

    def heard(self, envelope: Any) -> None:
        """Take in what the master has written, and how often it wants to hear from this side."""
        super().heard(envelope)
        for kind, message in self.inbox:
            if kind in ("registered", "subscribed"):
                self._heartbeat_s = message.heartbeat_ms / 2000

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            await self.write()


def _connect(kind: str, channel: grpc.aio.Channel) -> Any:
    service, requests, responses = (
        ("AgentService", agent_pb2.AgentServiceConnectRequest, agent_pb2.AgentServiceConnectResponse)
        if kind == AGENT
        else (
            "SchedulerService",
            scheduler_pb2.SchedulerServiceConnectRequest,
            scheduler_pb2.SchedulerServiceConnectResponse,
        )
    )
    return channel.stream_stream(f"/runrig.v1.{service}/Connect", requests.SerializeToString, responses.FromString)()


class GrpcDriver:
    """A master at an address; `kill_and_start` restarts it, if whoever owns it can."""

    is_immediate = False

    def __init__(self, address: str, kill_and_start: Callable[[], None] | None = None) -> None:
        self.address = address
        self._kill_and_start = kill_and_start
        self._woken = asyncio.Event()
        self._lines: list[GrpcLine] = []
        self._channel = self._connected()

    def _connected(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS)

    async def ready(self) -> None:
        """Wait until the master answers."""
        try:
            await asyncio.wait_for(self._channel.channel_ready(), PATIENCE_S)
        except TimeoutError:
            raise AssertionError(f"no master answers at {self.address} within {PATIENCE_S:g} s") from None

    def line(self, kind: str) -> Line:
        """Open a stream."""
        line = GrpcLine(kind, self._channel, self._woken)
        self._lines.append(line)
        return line

    @property
    def operator(self) -> operator_pb2_grpc.OperatorServiceAsyncStub:
        """Return the operator's calls."""
        return operator_pb2_grpc.OperatorServiceStub(self._channel)

    async def asked(self, call: Awaitable[Answer]) -> Answer:
        """Await an operator's call."""
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise Refused(error.code().name, error.details() or "") from None

    def now_ms(self) -> float:
        """Return the time of this machine's monotonic clock."""
        return time.monotonic() * 1000

    async def wait(self, condition: Callable[[], bool], within_ms: float) -> None:
        """Wait for messages until `condition` holds, or they are long overdue."""
        end = time.monotonic() + within_ms / 1000 + PATIENCE_S
        while not condition() and (left := end - time.monotonic()) > 0:
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), left)

    async def poll(self, condition: Callable[[], Awaitable[bool]], within_ms: float) -> bool:
        """Ask again and again."""
        end = time.monotonic() + within_ms / 1000 + PATIENCE_S
        while True:
            if await condition():
                return True
            if time.monotonic() > end:
                return False
            await asyncio.sleep(POLL_S)

    async def pass_time(self, milliseconds: float) -> None:
        """Wait, while the lines keep themselves alive."""
        await asyncio.sleep(milliseconds / 1000)

    async def restart(self) -> None:
        """Kill the master and start it again."""
        assert self._kill_and_start is not None, "this master cannot be restarted from here"
        await self._close_streams()
        await asyncio.to_thread(self._kill_and_start)
        self._channel = self._connected()
        await self.ready()

    async def close(self) -> None:
        """End all streams."""
        await self._close_streams()

    async def _close_streams(self) -> None:
        for line in self._lines:
            await line.close()
        self._lines.clear()
        await self._channel.close()
