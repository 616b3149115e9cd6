"""Benchmarks of launches: a real master, a real agent and the SDK, against the bare kernel and the bare engine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import docker

from runrig import Command, Container, Framework, Resources, RuntimeKind, SqliteStore, TaskId, TaskSpec, Wants, task
from tests.bench.control_plane import Shape, quantile
from tests.bench.frameworks import Asked, Launched
from tests.bench.processes import Master, agent_process, cpu_seconds, master_process
from tests.bench.report import Row, row

RESOURCES = "cpus:1000;mem:100G;disk:100G"
"""More than any benchmark needs: what is measured is launching, not waiting for room."""
TRUE = ("/bin/true",)
A_WHILE = ("sleep", "0.2")
"""For a container whose start is clocked: the engine answers nothing about one that ends at once while it ends."""
SETTLE_S = 0.3
"""The engine cleans up after a container for a while, which the next measurement should not pay for."""
ROUNDS = 3
IMAGE = "runrig/busybox:test"
BARE = f"bench-{os.getpid()}"
"""In the label of containers that no agent made, to find them again."""
ENGINE = Path(__file__).parents[2] / "scripts" / "engine"


@dataclass(frozen=True, slots=True)
class RealCluster:
    """A master and one agent with one runtime."""

    master: Master
    agent_pid: int
    directory: Path


@contextlib.contextmanager
def real_cluster(*options: str) -> Iterator[RealCluster]:
    """Run a master and a real agent."""
    with (
        tempfile.TemporaryDirectory(prefix="runrig-bench-", ignore_cleanup_errors=True) as name,
        master_process(Path(name)) as master,
        agent_process(Path(name), master, "--resources", RESOURCES, *options) as agent,
    ):
        yield RealCluster(master, agent.pid, Path(name))


@dataclass(frozen=True, slots=True)
class Launcher:
    """A framework that launches what it is asked to; it holds what is offered meanwhile."""

    logic: Asked
    framework: Framework

    async def launch(self, spec: TaskSpec) -> Launched:
        """Launch a task and wait for its end."""
        ended = self.logic.expect(spec.task_id)
        self.framework.tell(spec)
        return await asyncio.wait_for(ended, 60)


@contextlib.asynccontextmanager
async def launcher(master: Master, warm: Callable[[str], TaskSpec]) -> AsyncIterator[Launcher]:
    """Run a framework that has launched a few tasks already."""
    logic = Asked()
    framework = Framework("launcher", logic, master=master.grpc)
    running = asyncio.create_task(framework.run())
    try:
        it = Launcher(logic, framework)
        for number in range(3):
            await it.launch(warm(f"warm-{number}"))
        yield it
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


# Processes


async def process(shape: Shape) -> list[Row]:
    """Launch processes one after the other, and many at once."""
    with real_cluster("--runtime", "process") as it:
        alone: list[float] = []
        through: list[Launched] = []
        async with launcher(it.master, _process_task) as framework:
            for number in range(shape.processes_one_by_one):
                alone.append(await _timed(lambda: asyncio.to_thread(_bare_process)))
                through.append(await framework.launch(_process_task(f"one-{number}")))
        rows = _latencies("process", alone, through, "subprocess.run in the same run")
        bare_s = await _timed(lambda: _bare_at_once(_bare_process, shape.processes_at_once, 2))
        rows.extend(await _wants(it, shape.processes_at_once, shape.processes_at_once / bare_s, shape.timeout_s))
    return rows


def _process_task(task_id: str) -> TaskSpec:
    return TaskSpec(TaskId(task_id), Resources(cpu_millis=100, mem_mib=16), command=Command(TRUE))


def _bare_process() -> None:
    subprocess.run(TRUE, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def _wants(it: RealCluster, tasks: int, bare: float, timeout_s: float) -> list[Row]:
    """Run tasks with `Wants` and a durable store: what the author of ten lines gets."""
    wants = Wants()
    for number in range(tasks):
        wants.once(f"true-{number}", task(argv=TRUE, cpus=0.1, mem="16M"))
    framework = Framework("wants", wants, store=SqliteStore(it.directory / "wants.db"), master=it.master.grpc)
    pids = {"the master": it.master.pid, "the agent": it.agent_pid}
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    own = time.process_time()
    seconds = await _timed(lambda: asyncio.wait_for(framework.run(until=lambda: wants.is_done), timeout_s))
    name = "processes with Wants and a durable store"
    rows = [row(f"{name}, {tasks:,} tasks", tasks / seconds, "tasks/s", bare, "subprocess.run in two threads")]
    costs = {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
    costs["the framework"] = time.process_time() - own
    rows.extend(row(f"{name}: CPU of {who}", cost / tasks * 1e6, "us/task") for who, cost in costs.items())
    return rows


# Containers


async def container(shape: Shape) -> list[Row]:
    """Launch containers one after the other, in turn with the bare engine, and several at once."""
    engine = _engine()
    if engine is None:
        return []
    with (
        real_cluster("--runtime", "docker", "--docker-host", engine) as it,
        contextlib.closing(docker.APIClient(base_url=engine, version="auto", timeout=60)) as client,
    ):
        async with launcher(it.master, _container_task) as framework:
            try:
                alone: list[Launched] = []
                through: list[Launched] = []
                for number in range(shape.containers_one_by_one):
                    alone.append(await asyncio.to_thread(_bare_container, client, A_WHILE))
                    await asyncio.sleep(SETTLE_S)
                    through.append(await framework.launch(_container_task(f"one-{number}")))
                    await asyncio.sleep(SETTLE_S)
                rows = _container_latencies(alone, through)
                rows.extend(await _containers_at_once(framework, client, shape.containers_at_once))
            finally:
                await asyncio.to_thread(_remove_containers, client, {BARE, *framework.logic.agent_ids})
    return rows


def _engine() -> str | None:
    """Return the address of an engine with the test image; None, and why, when there is none to be had."""
    done = subprocess.run([ENGINE, "start"], capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        sys.stderr.write(f"container: skipped: {done.stderr}")
        return None
    address = done.stdout.strip().removeprefix("DOCKER_HOST=")
    subprocess.run([ENGINE, "image"], env={"DOCKER_HOST": address}, check=True, capture_output=True, timeout=60)
    return address


def _container_task(task_id: str, argv: tuple[str, ...] = A_WHILE) -> TaskSpec:
    return TaskSpec(
        TaskId(task_id),
        Resources(cpu_millis=100, mem_mib=16),
        command=Command(argv),
        container=Container(IMAGE),
        runtime=RuntimeKind.DOCKER,
    )


def _bare_container(client: docker.APIClient, argv: tuple[str, ...]) -> Launched:
    """Create, start and wait for a container with the engine's own defaults; it is removed later, as by an agent."""
    began = time.perf_counter()
    host = client.create_host_config(network_mode="host")
    made = client.create_container(IMAGE, list(argv), host_config=host, labels={"runrig.agent": BARE})["Id"]
    client.start(made)
    running_s = time.perf_counter() - began
    client.wait(made)
    return Launched(running_s, time.perf_counter() - began)


def _container_latencies(alone: Sequence[Launched], through: Sequence[Launched]) -> list[Row]:
    source = "the bare Docker API in the same run, create and start"
    name = "container, one at a time"
    running = [quantile([item.running_s for item in items], 0.5) * 1000 for items in (through, alone)]
    finished = [quantile([item.finished_s for item in items], 0.5) * 1000 for items in (through, alone)]
    return [
        row(f"{name}: Accept to RUNNING, p50", running[0], "ms", running[1], source),
        row(f"{name}: Accept to FINISHED of sleep 0.2, p50", finished[0], "ms", finished[1], f"{source}, and wait"),
    ]


async def _containers_at_once(framework: Launcher, client: docker.APIClient, count: int) -> list[Row]:
    """Launch many in rounds: all at once through Runrig, whose agent starts four at a time, and from four threads."""
    bare_s = seconds = 0.0
    for turn in range(ROUNDS):
        bare_s += await _timed(lambda: _bare_at_once(lambda: _bare_container(client, TRUE), count, 4))
        await asyncio.sleep(SETTLE_S)
        specs = [_container_task(f"many-{turn}-{number}", TRUE) for number in range(count)]
        seconds += await _timed(lambda: asyncio.gather(*map(framework.launch, specs)))  # noqa: B023 (awaited at once)
        await asyncio.sleep(SETTLE_S)
    source = "the bare Docker API in the same run, create, start and wait in four threads"
    every = ROUNDS * count
    return [row(f"{count} containers of true at once", every / seconds, "containers/s", every / bare_s, source)]


def _remove_containers(client: docker.APIClient, agent_ids: set[str]) -> None:
    """Leave the engine as it was: the agent would keep ended containers with their sandboxes."""
    for agent_id in agent_ids:
        for item in client.containers(all=True, filters={"label": f"runrig.agent={agent_id}"}):
            with contextlib.suppress(docker.errors.NotFound):
                client.remove_container(item["Id"], force=True)


# Both


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def _bare_at_once(work: Callable[[], object], count: int, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(pool, work) for _ in range(count)))


def _latencies(what: str, alone: Sequence[float], through: Sequence[Launched], source: str) -> list[Row]:
    bare = quantile(alone, 0.5) * 1000
    finished = quantile([item.finished_s for item in through], 0.5) * 1000
    running = quantile([item.running_s for item in through], 0.5) * 1000
    return [
        row(f"{what}, one at a time: Accept to FINISHED of true, p50", finished, "ms", bare, source),
        row(f"{what}, one at a time: Accept to RUNNING, p50", running, "ms"),
    ]
