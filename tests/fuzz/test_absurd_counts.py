"""Envelopes that hold more than anybody could want: the process that gets them goes on, and does not grow with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest

from runrig.v1 import agent_pb2, scheduler_pb2
from tests.edges.master_server import Served, process
from tests.free_ports import free_ports
from tests.fuzz import templates
from tests.fuzz.bystander import Bystander, steady
from tests.fuzz.connect_stream import HONEST_ENDS
from tests.fuzz.faults import is_telltale
from tests.fuzz.raw_bytes import LENGTH_DELIMITED, VARINT, field
from tests.fuzz.rounds import PATIENCE_S
from tests.fuzz.unary import BROKEN_WRITE, check_fault, status_of

pytestmark = [pytest.mark.xdist_group("real-master")]

MOST_BYTES = 16 * 1024 * 1024
NEARLY_MOST = MOST_BYTES - 2_000
FEWER = 2 * 1024 * 1024
"""For what protobuf itself makes a hundred times larger when it reads it."""
MOST_GROWTH = 1_200 * 1024 * 1024
"""A message of 16 MiB of the smallest parts is 350 to 800 MiB once it is read, before anybody can look at it."""
MOST_KEPT = 300 * 1024 * 1024
"""Less than any one of them: what was refused is let go of."""


@dataclass
class Target:
    """A master in a process of its own."""

    served: Served
    bystander: Bystander
    pid: int

    def resident_bytes(self) -> int:
        """Return what it holds of memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * 4096

    async def lets_go(self, before: int) -> None:
        """Wait until it holds nothing any more of what was refused."""
        async with asyncio.timeout(PATIENCE_S):
            while self.resident_bytes() - before > MOST_KEPT:  # noqa: ASYNC110 (another process has to do it)
                await asyncio.sleep(0.02)

    def peak_bytes(self) -> int:
        """Return the most that it has ever held of it."""
        [line] = [each for each in Path(f"/proc/{self.pid}/status").read_text().splitlines() if "VmHWM" in each]
        return int(line.split()[1]) * 1024


@asynccontextmanager
async def under_fire(directory: Path) -> AsyncIterator[Target]:
    """Run the master with the bystanders; see that their work goes on and that nothing was logged that is a bug."""
    grpc_port, http_port = free_ports(2)
    with process(directory / "state", grpc_port, http_port) as running:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            await asyncio.wait_for(channel.channel_ready(), PATIENCE_S)
            served = Served(f"127.0.0.1:{grpc_port}", f"127.0.0.1:{http_port}", channel, running)
            async with steady(served) as bystander:
                yield Target(served, bystander, running.pid)
                await bystander.runs_a_task()
        assert running.poll() is None
    faults = [line for line in (directory / "state.log").read_text().splitlines() if is_telltale(line)]
    assert not faults, faults


async def end_of(target: Target, method: str, opening: bytes, *more: bytes) -> tuple[grpc.StatusCode, str]:
    """Open a stream, send more once the master has answered, and hang up; return how it ended.

    One after the other: what several send at once, the master must hold at once.
    """
    call: Any = target.served.channel.stream_stream(f"/runrig.v1.{method}/Connect")()
    try:
        async with asyncio.timeout(PATIENCE_S):
            await call.write(opening)
            await call.read()
            for envelope in more:
                await call.write(envelope)
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass  # it has ended: the call knows how
    return await call.code(), await call.details()


def filled(unit: bytes, most: int = NEARLY_MOST) -> bytes:
    """Repeat the encoding of a part until there is no room for more."""
    return unit * (most // len(unit))


def part(number: int, content: bytes = b"") -> bytes:
    """Encode a sub-message, or a text."""
    return field(number, LENGTH_DELIMITED, content)


def envelope(number: int, *items: bytes) -> bytes:
    """Encode an envelope; its items are field 2."""
    return field(1, VARINT, bytes([number])) + b"".join(part(2, item) for item in items)


def subscription(session: int = 1) -> bytes:
    return templates.subscribe("absurd", session).SerializeToString()


def registration(session: int = 1) -> bytes:
    return templates.registration("absurd", [], session).SerializeToString()


GROUP = part(1, b"nobody") + part(2, b"o")
CALLS = {
    "8 million empty calls": filled(part(2)),
    "4 million calls": filled(part(2, part(4))),
    "tasks": part(2, part(2, part(1, GROUP + part(3, part(1, filled(part(1), FEWER)))))),
    "launch groups": part(2, part(2, filled(part(1)))),
    "offers": part(2, part(2, part(1, filled(part(2, b"o"))))),
    "operations": part(2, part(2, part(1, GROUP + filled(part(3))))),
    "ports of a task": part(2, part(2, part(1, GROUP + part(3, part(1, part(1, part(3, filled(part(5))))))))),
    "labels of a task": part(2, part(2, part(1, GROUP + part(3, part(1, part(1, filled(part(4)))))))),
    "declined offers": part(2, part(3, filled(part(1)))),
    "revived roles": part(2, part(4, filled(part(1)))),
    "receipts": part(2, part(7, filled(part(1)))),
    "references": part(2, part(8, filled(part(1)))),
    "demands": part(2, part(9, part(1, b"hostile") + filled(part(2)))),
    "constraints": part(2, part(9, part(1, b"hostile") + part(2, part(1, b"d") + filled(part(4))))),
    "roles": part(2, part(10, part(1, filled(part(3))))),
    "a long id": part(2, part(6, part(1, b"x" * NEARLY_MOST))),
    "a long message": part(2, part(10, part(1, part(2, b"\xc3\xbc" * (NEARLY_MOST // 2))))),
    "an unknown field": part(99, b"x" * NEARLY_MOST),
}
REPORTS = {
    "8 million empty reports": filled(part(2)),
    "reports": filled(part(2, part(4))),
    "tasks": part(2, part(1, filled(part(4), FEWER))),
    "ports": part(2, part(1, part(1, part(1, b"a") + part(2, b"h") + part(5, filled(part(5)))))),
    "attributes": part(2, part(3, part(1, b"a") + part(2, b"h") + filled(part(6)))),
    "runtimes": part(2, part(3, part(1, b"absurd") + part(2, b"h") + part(7, b"\x02" * NEARLY_MOST))),
    "an address": part(2, part(3, part(1, b"absurd") + part(2, b"h") + part(3, b"x" * NEARLY_MOST))),
    "a message": part(2, part(2, part(8, b"x" * NEARLY_MOST) + field(5, VARINT, b"\3") + field(7, VARINT, b"\2"))),
}
"""An absurd number of each thing, as the items of an envelope that is just not too large."""


def check_end(code: grpc.StatusCode, details: str) -> None:
    assert code in HONEST_ENDS or (code, details) == BROKEN_WRITE, (code, details)


@pytest.mark.timeout(300)
async def test_absurd_numbers_of_anything_are_refused_or_taken_and_nobody_is_disturbed(tmp_path: Path) -> None:
    async with under_fire(tmp_path) as target:
        before = target.resident_bytes()
        for services, method, opening in (
            (CALLS, "SchedulerService", subscription),
            (REPORTS, "AgentService", registration),
        ):
            for session, (name, items) in enumerate(services.items(), 1):
                check_end(*await end_of(target, method, envelope(1, opening(session)), b"\x08\x02" + items))
                assert target.peak_bytes() - before < MOST_GROWTH, name
                await target.lets_go(before)
            await target.bystander.runs_a_task()


async def test_an_envelope_beyond_the_limit_says_so_and_one_just_below_it_is_read(tmp_path: Path) -> None:
    async with under_fire(tmp_path) as target:
        above = await end_of(target, "SchedulerService", envelope(1, subscription()) + part(99, b"x" * MOST_BYTES))
        call: Any = target.served.channel.stream_stream("/runrig.v1.SchedulerService/Connect")()
        await call.write(envelope(1, subscription()) + part(99, b"x" * NEARLY_MOST))
        answer = await asyncio.wait_for(call.read(), PATIENCE_S)
        call.cancel()

    assert above[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in above[1]
    assert scheduler_pb2.SchedulerServiceConnectResponse.FromString(answer).events[0].HasField("subscribed")


async def test_an_operator_who_names_millions_is_refused(tmp_path: Path) -> None:
    async with under_fire(tmp_path) as target:
        for method, number in (("ListAgents", 1), ("ListFrameworks", 1), ("ListTasks", 1)):
            method = f"/runrig.v1.OperatorService/{method}"
            code, details = await status_of(target.served.channel, method, filled(part(number, b"z")))

            check_fault(method, code, details)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert "at most 1000" in details


async def test_agents_with_as_much_as_may_be_are_summed_for_operators(tmp_path: Path) -> None:
    """Amounts stay within the numbers of the wire, however many agents there are and whatever they report."""
    async with under_fire(tmp_path) as target:
        chance, most = Random(7), 2**47
        for number in range(40):
            report = templates.registration(f"huge-{number}", [])
            report.register.agent.resources.Clear()
            for name in ("cpu_millis", "mem_mib", "disk_mib", "gpus"):
                setattr(report.register.agent.resources, name, most - chance.randrange(3))
            sent = agent_pb2.AgentServiceConnectRequest(number=1, reports=[report]).SerializeToString()
            check_end(*await end_of(target, "AgentService", sent))
        for method in ("ListAgents", "ListRoles", "ListFrameworks", "ListOffers"):
            method = f"/runrig.v1.OperatorService/{method}"
            assert (await status_of(target.served.channel, method, b""))[0] is grpc.StatusCode.OK
