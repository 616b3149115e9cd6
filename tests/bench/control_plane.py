"""Benchmarks of the master: emulated agents and a framework over real gRPC, three processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.frameworks import Declining, OneAtATime, Saturating, measured
from tests.bench.processes import EmulatedAgents, Master, cpu_seconds, emulated_agents, master_process, resident_mib
from tests.bench.report import Row, row

MESOS = "Mesos 1.11.0, C++, 1,000 emulated agents"
SKELETON = "a master that only forwards"
AGENT = "cpus:24;mem:64G;disk:500G;ports:[31000-32000]"


@dataclass(frozen=True, slots=True)
class Shape:
    """How much is measured; each shape ends by itself within a minute or so on two slow cores."""

    agents: int = 1_000
    registered: tuple[int, ...] = (1_000, 10_000)
    """Numbers of agents for the registration benchmark."""
    idle_s: float = 16.0
    """How long idle heartbeats are watched; a heartbeat comes every 15 s."""
    samples: int = 500
    """Latencies taken one at a time."""
    scattered_tasks: int = 8_000
    scattered_window: int = 1_000
    grouped_tasks: int = 40_000
    grouped_window: int = 4_000
    processes_one_by_one: int = 200
    processes_at_once: int = 1_000
    containers_one_by_one: int = 20
    containers_at_once: int = 16
    pass_agents: int = 10_000
    pass_frameworks: int = 200
    passes: int = 3
    """Full passes of which the cheapest counts."""
    quota_roles: int = 3_000
    pending_demands: int = 10_000
    """That are counted by reason."""
    gangs: int = 100
    naive_size: int = 100
    """Agents of the shapes that the naive allocator is compared on."""
    multi_share: int = 1
    """Of the frameworks and agents of MultiFrameworkAllocations one in so many."""
    timeout_s: float = 120.0
    """After this long a benchmark has failed."""


QUICK = Shape(20, (20,), 0.2, 10, 100, 20, 400, 80, 5, 20, 2, 4, 50, 20, 1, 12, 20, 2, 12, 20, 30.0)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A master with its emulated agents registered."""

    master: Master
    agents: EmulatedAgents
    registered_s: float
    registered_cpu_s: float


@contextlib.asynccontextmanager
async def cluster(agents: int, timeout_s: float) -> AsyncIterator[Cluster]:
    """Run a master and emulated agents, each over a connection of its own as real ones are."""
    with tempfile.TemporaryDirectory(prefix="runrig-bench-") as name, master_process(Path(name)) as master:
        before = cpu_seconds(master.pid)
        with emulated_agents(master, agents, AGENT, connections=agents) as emulated:
            answer = await emulated.answer(timeout_s)
            yield Cluster(master, emulated, answer["seconds"], cpu_seconds(master.pid) - before)


async def registration(shape: Shape) -> list[Row]:
    """Time until all agents are registered and durable; memory after; the cost of having them."""
    rows = []
    for count in shape.registered:
        async with cluster(count, shape.timeout_s) as it:
            name = f"registration of {count:,} agents"
            mesos = (0.30 * count / 1000, MESOS if count == 1000 else f"{MESOS}, in proportion")
            rows.append(row(name, it.registered_s, "s", *mesos))
            rows.append(row(f"{name}: CPU of the master", it.registered_cpu_s / count * 1e6, "us/agent"))
            memory = resident_mib(it.master.pid)
            aim = (1024.0, "the aim for 10,000 agents")
            rows.append(row(f"{name}: resident memory of the master after", memory, "MiB", *aim))
            before = cpu_seconds(it.master.pid)
            await asyncio.sleep(shape.idle_s)
            busy = (cpu_seconds(it.master.pid) - before) / shape.idle_s * 100
            rows.append(row(f"{count:,} idle agents, heartbeats each 15 s: CPU of the master", busy, "% of a core"))
    return rows


async def latency(shape: Shape) -> list[Row]:
    """Accept to RUNNING with one task in flight."""
    async with cluster(shape.agents, shape.timeout_s) as it:
        logic = OneAtATime(shape.agents, shape.samples)
        await measured(logic, it.master.grpc, shape.timeout_s)
        await _expect_all_acknowledged(it, shape.samples)
    name = f"Accept to RUNNING, one in flight, {shape.agents:,} agents"
    return [
        row(f"{name}, p50", quantile(logic.seconds, 0.5) * 1000, "ms", 1.4, MESOS),
        row(f"{name}, p99", quantile(logic.seconds, 0.99) * 1000, "ms", 4.5, MESOS),
    ]


async def reoffer(shape: Shape) -> list[Row]:
    """Decline without a filter to the next offer of the agent."""
    async with cluster(shape.agents, shape.timeout_s) as it:
        logic = Declining(shape.agents, shape.samples)
        await measured(logic, it.master.grpc, shape.timeout_s)
    return [
        row("decline to offered again, p50", quantile(logic.seconds, 0.5) * 1000, "ms", 530, MESOS),
        row("decline to offered again, p99", quantile(logic.seconds, 0.99) * 1000, "ms", 1000, f"{MESOS}, its tick"),
    ]


async def scattered(shape: Shape) -> list[Row]:
    """Tasks a second with one task in each Accept, each on another agent."""
    mesos, skeleton = (769.0, f"{MESOS}, 1 per ACCEPT"), (410.0, SKELETON)
    return await _throughput(shape, 1, shape.scattered_tasks, shape.scattered_window, mesos, skeleton)


async def grouped(shape: Shape) -> list[Row]:
    """Tasks a second with 20 tasks in each Accept, on one agent."""
    mesos, skeleton = (1218.0, f"{MESOS}, 10 per ACCEPT"), (41.0, SKELETON)
    return await _throughput(shape, 20, shape.grouped_tasks, shape.grouped_window, mesos, skeleton)


async def _throughput(
    shape: Shape, group: int, tasks: int, window: int, mesos: tuple[float, str], skeleton: tuple[float, str]
) -> list[Row]:
    async with cluster(shape.agents, shape.timeout_s) as it:
        pids = {"the master": it.master.pid, "the framework": os.getpid(), "the emulated agents": it.agents.pid}
        marks: list[tuple[float, dict[str, float]]] = []

        def mark() -> None:
            marks.append((time.perf_counter(), {name: cpu_seconds(pid) for name, pid in pids.items()}))

        await measured(Saturating(shape.agents, tasks, group, window, mark), it.master.grpc, shape.timeout_s)
        mark()
        await _expect_all_acknowledged(it, tasks)
    (began, before), (ended, after) = marks
    name = f"tasks, {group} per Accept and agent, {shape.agents:,} agents"
    rows = [row(f"{name}, all updates acknowledged", tasks / (ended - began), "tasks/s", *mesos)]
    for process in pids:
        cost = (after[process] - before[process]) / tasks * 1e6
        against = skeleton if process == "the master" else (None, "")
        rows.append(row(f"{name}: CPU of {process}", cost, "us/task", *against))
    return rows


async def _expect_all_acknowledged(it: Cluster, tasks: int) -> None:
    """Fail when an update was lost: the last receipts may still be on their way for a moment."""
    counted: dict[str, int] = {}
    for _ in range(200):
        counted = await it.agents.count()
        if counted == {"launched": tasks, "unacknowledged": 0}:
            return
        await asyncio.sleep(0.05)
    raise RuntimeError(f"{tasks} tasks were launched and ended, but the agents count {counted}")


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value below which `part` of all lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]
