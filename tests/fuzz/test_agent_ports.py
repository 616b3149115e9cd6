"""An agent's SandboxService and HTTP port under fire: the process of an agent, and a task that runs on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError, Message

from runrig.tasks import TaskState
from runrig.v1 import sandbox_pb2
from tests.edges.agent_master import FRAMEWORK, FakeMaster
from tests.edges.agent_process import AgentProcess, appears, running_agent, running_master, shell
from tests.fuzz.faults import is_telltale
from tests.fuzz.http_client import exchanged, request
from tests.fuzz.messages import mutated, serialized
from tests.fuzz.raw_bytes import damaged
from tests.fuzz.rounds import rounds
from tests.fuzz.test_http_ports import strike as strike_http
from tests.fuzz.unary import check_fault, status_of, streamed

STRIKES = 200
SANDBOX = "/runrig.v1.SandboxService"
SCRIPT = (
    "echo out; echo err >&2; mkdir d; echo x > d/f; ln -s /etc/passwd leak; ln -s / root; mkfifo pipe; exec sleep 600"
)


@dataclass
class Target:
    """The agent, and who can tell it what to run."""

    master: FakeMaster
    agent: AgentProcess
    channel: grpc.aio.Channel
    tasks: int = 0

    async def check(self) -> None:
        """See that a fresh task runs to its end, that its output can be read, and that the old one still runs."""
        self.tasks += 1
        name = f"fresh-{self.tasks}"
        self.master.launch(shell(name, f"echo {name}"))
        await self.master.state(name, TaskState.TASK_FINISHED)
        logs = sandbox_pb2.ReadLogsRequest(framework_id=FRAMEWORK, task_id=name)
        _, _, answers = await streamed(self.channel, f"{SANDBOX}/ReadLogs", logs.SerializeToString())
        said = b"".join(sandbox_pb2.ReadLogsResponse.FromString(answer).data for answer in answers)
        assert said == f"{name}\n".encode()
        assert self.master.states("steady")[-1] is TaskState.TASK_RUNNING
        for path in (b"/healthz", b"/readyz", b"/metrics"):
            assert (await exchanged(self.agent.http, request(b"GET", path))).status == 200


@asynccontextmanager
async def under_fire(directory: Path) -> AsyncIterator[Target]:
    """Run the agent; see at the end that it has logged nothing that is a bug."""
    async with running_master() as master, running_agent(master, directory) as agent:
        address = (await master.registered()).agent.address
        async with grpc.aio.insecure_channel(address) as channel:
            master.launch(shell("steady", SCRIPT))
            await master.state("steady", TaskState.TASK_RUNNING)
            await appears(agent.sandbox("steady") / "pipe")
            target = Target(master, agent, channel)
            yield target
            await target.check()
            assert len(master.registrations) == 1, "the agent was disturbed"
    faults = [line for line in (directory / "agent.log").read_text().splitlines() if is_telltale(line)]
    assert not faults, faults


def reading() -> list[tuple[str, Message]]:
    """Build valid requests that read."""
    who: dict[str, Any] = {"framework_id": FRAMEWORK, "task_id": "steady"}
    return [
        (f"{SANDBOX}/ReadLogs", sandbox_pb2.ReadLogsRequest(**who, stream=sandbox_pb2.LOG_STREAM_STDOUT, tail_lines=2)),
        (f"{SANDBOX}/ReadFile", sandbox_pb2.ReadFileRequest(**who, path="d/f", offset_bytes=1, length_bytes=1)),
        *((f"{SANDBOX}/ReadFile", sandbox_pb2.ReadFileRequest(**who, path=path)) for path in TEMPTING),
        *((f"{SANDBOX}/ListFiles", sandbox_pb2.ListFilesRequest(**who, path=path)) for path in TEMPTING),
    ]


TEMPTING = ("d", "d/../..", "leak", "root/etc/passwd", "pipe", "/etc/passwd", "..", "d/" * 2_000, "x" * 5_000, "d\0f")


def executing(chance: Random) -> list[Message]:
    """Build what a caller of Exec may send."""
    size = sandbox_pb2.TerminalSize(rows=24, columns=80)
    start = sandbox_pb2.ExecStart(
        framework_id=FRAMEWORK, task_id="steady", argv=["cat"], tty=chance.random() < 0.2, size=size
    )
    return [
        sandbox_pb2.ExecRequest(start=start),
        sandbox_pb2.ExecRequest(stdin=b"hello"),
        sandbox_pb2.ExecRequest(resize=size),
        sandbox_pb2.ExecRequest(stdin_end=True),
    ]


def spoilt(message: Message, chance: Random) -> bytes:
    if chance.random() < 0.7:
        mutated(message, chance)
    return damaged(serialized(message), chance) if chance.random() < 0.2 else serialized(message)


def is_following(request: bytes) -> bool:
    """Say whether a request for logs waits for what the task will write, which is nothing."""
    try:
        return sandbox_pb2.ReadLogsRequest.FromString(request).follow
    except DecodeError:
        return False


async def strike(target: Target, chance: Random) -> None:
    match chance.randrange(10):
        case 0 | 1:
            await strike_http(target.agent.http, chance)
        case 2:
            method = f"{SANDBOX}/Exec"
            messages = executing(chance)
            if chance.random() < 0.3:
                chance.shuffle(messages)
            requests = [spoilt(message, chance) for message in messages]
            code, details, _ = await streamed(target.channel, method, *requests)
            check_fault(method, code, details)
        case 3:
            method, valid = chance.choice(reading())
            check_fault(method, *await status_of(target.channel, f"{SANDBOX}/ListFiles", spoilt(valid, chance)))
        case _:
            method, valid = chance.choice(reading())
            sent = spoilt(valid, chance)
            most = 0 if method.endswith("ReadLogs") and is_following(sent) else 10
            code, details, answers = await streamed(target.channel, method, sent, most=most)
            check_fault(method, code, details)
            assert not any(b"root:" in answer for answer in answers), "a file outside the sandbox was read"


async def barrage(seed: int, directory: Path) -> None:
    """Strike until the agent breaks, or it is enough."""
    chance = Random(seed)
    async with under_fire(directory) as target:
        for number in range(STRIKES):
            await strike(target, chance)
            if number % 50 == 0:
                await target.check()


@pytest.mark.parametrize("seed", rounds(2))
async def test_nothing_that_is_sent_to_an_agents_ports_harms_it_or_its_tasks(seed: int, tmp_path: Path) -> None:
    await barrage(seed, tmp_path)
