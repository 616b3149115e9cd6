"""Agents without runtimes, many in one process: `python -m tests.bench.emulated --master HOST:PORT --agents 1000`.

Each has a stream of its own to the master and speaks the real protocol. A launched task is RUNNING at once, FINISHED
after `RUN_S`, and forgotten when FINISHED is acknowledged: two updates per task, in envelopes of their own unless the
tasks were launched together. It writes one JSON line once all are registered, and one for each line that it reads.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterable

import grpc

from runrig._streams import CHANNEL_OPTIONS
from runrig._wire import add_report
from runrig.agents import AgentInfo, Register
from runrig.ids import AgentId
from runrig.resources import Resources
from runrig.tasks import RuntimeKind, Source, TaskState
from runrig.v1 import agent_pb2, agent_pb2_grpc
from runrig.v1.tasks_pb2 import StatusUpdate

Request = agent_pb2.AgentServiceConnectRequest
Response = agent_pb2.AgentServiceConnectResponse

RUN_S = 0.01
"""How long a task runs."""
JOINING_AT_ONCE = 50
"""As many agents register at the same time: with many more gRPC's core fails some connections on a busy machine."""


class Agent:
    """One emulated agent."""

    def __init__(self, number: int, resources: Resources) -> None:
        self.id = f"agent-{number:05}"
        self.tasks: set[str] = set()
        """Those whose FINISHED was not acknowledged yet."""
        self.launched = 0
        self.failures = 0
        """Of connections."""
        self.joined = asyncio.Event()
        self.heartbeat_s = 0.0
        self.written_at = 0.0
        self._info = AgentInfo(
            AgentId(self.id),
            f"host-{number:05}",
            resources,
            "127.0.0.1:5051",
            attributes=(("rack", f"r{number % 40}"),),
        )
        self._session = 0
        self._number = 0
        self._writing = asyncio.Lock()
        self._later: set[asyncio.Task[None]] = set()
        self._call: grpc.aio.StreamStreamCall[Request, Response] | None = None

    async def run(self, channel: grpc.aio.Channel) -> None:
        """Register, anew if the connection fails, then answer the master until it ends the stream."""
        while True:
            self._number = 0
            self._session += 1
            try:
                await self._serve(channel)
            except grpc.aio.AioRpcError:
                self.failures += 1
            if self.joined.is_set():
                return
            await asyncio.sleep(0.5)

    async def _serve(self, channel: grpc.aio.Channel) -> None:
        call = self._call = agent_pb2_grpc.AgentServiceStub(channel).Connect()
        assert call is not None
        await self._write(_registration(Register(self._info, self._session, epoch=0)))
        while isinstance(envelope := await call.read(), Response):
            await self._heard(envelope.commands)

    async def keep_alive(self, now: float) -> None:
        """Write an empty envelope if none was written for the time that the master asks for."""
        if self.heartbeat_s and now >= self.written_at + self.heartbeat_s:
            await self._write([])

    async def _write(self, reports: list[agent_pb2.AgentReport]) -> None:
        async with self._writing:
            assert self._call is not None
            self._number += 1
            self.written_at = time.monotonic()
            await self._call.write(Request(number=self._number, reports=reports))

    async def _heard(self, commands: Iterable[agent_pb2.AgentCommand]) -> None:
        for command in commands:
            kind = command.WhichOneof("command")
            if kind == "launch":
                await self._launch(command.launch)
            elif kind == "acknowledge":
                receipt = command.acknowledge
                if receipt.number == 2:
                    self.tasks.discard(receipt.task_id)
            elif kind == "registered":
                self.heartbeat_s = command.registered.heartbeat_ms / 1000
                self.joined.set()

    async def _launch(self, launch: agent_pb2.Launch) -> None:
        task_ids = [task.task_id for task in launch.tasks]
        self.launched += len(task_ids)
        self.tasks.update(task_ids)
        await self._write(self._updates(launch.framework_id, task_ids, 1, TaskState.TASK_RUNNING, ""))
        finished = self._updates(launch.framework_id, task_ids, 2, TaskState.TASK_FINISHED, "exited with status 0")
        asyncio.get_running_loop().call_later(RUN_S, self._write_later, finished)

    def _write_later(self, reports: list[agent_pb2.AgentReport]) -> None:
        task = asyncio.create_task(self._write(reports))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def _updates(
        self, framework_id: str, task_ids: list[str], number: int, state: TaskState, message: str
    ) -> list[agent_pb2.AgentReport]:
        common = StatusUpdate(
            framework_id=framework_id,
            agent_id=self.id,
            number=number,
            state=state.value,  # type: ignore[arg-type]
            source=Source.AGENT.value,  # type: ignore[arg-type]
            at_unix_ms=int(time.time() * 1000),
            runtime=RuntimeKind.PROCESS.value,  # type: ignore[arg-type]
            pid=4711,
            message=message,
        )
        reports = []
        for task_id in task_ids:
            common.task_id = task_id
            reports.append(agent_pb2.AgentReport(update=common))
        return reports


def _registration(report: Register) -> list[agent_pb2.AgentReport]:
    envelope = Request()
    add_report(envelope, report)
    return list(envelope.reports)


async def _main(master: str, agents: list[Agent], connections: int) -> None:
    channels = [grpc.aio.insecure_channel(master, options=CHANNEL_OPTIONS) for _ in range(connections)]
    room = asyncio.Semaphore(JOINING_AT_ONCE)
    tasks: list[asyncio.Task[None]] = []

    async def join(agent: Agent, channel: grpc.aio.Channel) -> None:
        async with room:
            tasks.append(asyncio.create_task(agent.run(channel)))
            await agent.joined.wait()

    started = time.monotonic()
    await asyncio.gather(*(join(agent, channels[index % connections]) for index, agent in enumerate(agents)))
    seconds = time.monotonic() - started
    _say({"registered": len(agents), "seconds": seconds, "failures": sum(agent.failures for agent in agents)})
    tasks.append(asyncio.create_task(_keep_alive(agents)))
    await asyncio.gather(*tasks, _answer(agents))


async def _keep_alive(agents: list[Agent]) -> None:
    """One sweep for all: a timer per agent would cost more than the heartbeats."""
    while True:
        await asyncio.sleep(1)
        for agent in agents:
            await agent.keep_alive(time.monotonic())


async def _answer(agents: list[Agent]) -> None:
    while await asyncio.to_thread(sys.stdin.readline):
        _say(
            {
                "launched": sum(agent.launched for agent in agents),
                "unacknowledged": sum(len(agent.tasks) for agent in agents),
            }
        )


def _say(answer: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run until the input ends or the process is told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--master", required=True)
    parser.add_argument("--agents", type=int, required=True)
    parser.add_argument("--resources", type=Resources.parse, required=True)
    parser.add_argument("--connections", type=int, required=True)
    options = parser.parse_args()
    agents = [Agent(number, options.resources) for number in range(options.agents)]
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(options.master, agents, options.connections))


main()
