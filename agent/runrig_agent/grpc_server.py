"""The agent's process: checkpoint, core, loop, runtimes, gRPC and HTTP, from start to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from runrig._serving_grpc import RefuseNoMessages
from runrig._streams import SERVER_OPTIONS
from runrig.agents import AgentInfo
from runrig.errors import Conflict, Unavailable
from runrig.serving import serving_http
from runrig.tasks import RuntimeKind
from runrig.v1 import sandbox_pb2_grpc
from runrig_agent.checkpoint import Checkpoint, Opened
from runrig_agent.core import events
from runrig_agent.core.agent import AgentCore
from runrig_agent.disk import DiskWatch, release_reserve
from runrig_agent.fetch import Fetcher
from runrig_agent.grpc_master import MasterStreams
from runrig_agent.grpc_sandbox import SandboxService
from runrig_agent.http import http_app
from runrig_agent.loop import Loop
from runrig_agent.runtime import Runtime, TaskKey
from runrig_agent.runtimes.process import ProcessRuntime
from runrig_agent.sandbox_service import SandboxAccess
from runrig_agent.sandboxes import Sandboxes
from runrig_agent.settings import AgentSettings
from runrig_agent.task_runs import TaskRuns
from runrig_agent.volumes import Volumes

log = structlog.get_logger()

SERVICES = ("runrig.v1.SandboxService",)


async def run_agent(settings: AgentSettings, serving: Callable[[str, str], None] | None = None) -> None:
    """Run tasks until SIGTERM or SIGINT; tasks run on. `serving` is told the gRPC and HTTP addresses.

    Raises Conflict when another agent uses the work directory or no master will have this agent, Unavailable
    when a port or the work directory cannot be used.
    """
    checkpoint, opened = await Checkpoint.open(settings.work_dir, lambda: release_reserve(settings.work_dir))
    try:
        loop = Loop(AgentCore(settings.policy), checkpoint, settings.loop)
        disk = DiskWatch(settings.work_dir, loop.tell, settings.disk)
        runtimes = open_runtimes(settings, opened)
        sandboxes = await _sandboxes(settings, opened, runtimes)
        async with (
            _serving_sandboxes(settings, sandboxes, loop) as address,
            serving_http(http_app(loop), settings.http, "HTTP of the agent") as http_address,
        ):
            info = _info(settings, opened, address, http_address, tuple(runtimes))
            loop.start(events.AgentStarted(info, opened.saved, opened.is_host_rebooted))
            log.info(
                "agent runs",
                agent=info.agent_id,
                grpc=address,
                http=http_address,
                resources=str(info.resources),
                tasks=len(opened.saved.tasks),
            )
            if serving is not None:
                serving(address, http_address)
            await _work(settings, loop, runtimes, sandboxes, disk)
    finally:
        await checkpoint.close()


async def _work(
    settings: AgentSettings,
    loop: Loop,
    runtimes: dict[RuntimeKind, Runtime],
    sandboxes: Sandboxes,
    disk: DiskWatch,
) -> None:
    """Turn until somebody wants the agent to stop, or something fails."""
    fetcher = Fetcher(settings.fetch)
    volumes = Volumes(settings.work_dir)
    runs = TaskRuns(runtimes, sandboxes, volumes, fetcher, loop.tell, settings.hostname, settings.runs)
    streams = MasterStreams(loop.tell, loop.is_behind, settings.stream)
    parts = [asyncio.create_task(part) for part in (loop.run(runs, streams), sandboxes.run(), disk.run())]
    runs.start()
    try:
        await _until_stopped(*parts, runs.failure)
    finally:
        await streams.end()
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        if settings.removes_ended:
            await sandboxes.forget_ended()
        await runs.close()
    if loop.stopped is not None:
        raise Conflict(loop.stopped.why)


async def _until_stopped(*parts: asyncio.Future[None]) -> None:
    """Wait for a signal, or for the first part to end or fail; raise what it failed with."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    waiting = asyncio.create_task(stopped.wait())
    try:
        awaited: set[asyncio.Future[Any]] = {*parts, waiting}
        done, _ = await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        for part in done:
            part.result()
        log.info("agent stops; its tasks run on")
    finally:
        waiting.cancel()


def open_runtimes(settings: AgentSettings, opened: Opened) -> dict[RuntimeKind, Runtime]:
    """Make the runtimes that the settings name."""
    runtimes: dict[RuntimeKind, Runtime] = {}
    if settings.runtime in ("docker", "auto"):
        from runrig_agent.runtimes.docker import DockerRuntime  # an agent without it starts sooner

        runtimes[RuntimeKind.DOCKER] = DockerRuntime(settings.work_dir, opened.agent_id, settings.docker)
    if settings.runtime in ("process", "auto"):
        runtimes[RuntimeKind.PROCESS] = ProcessRuntime(settings.work_dir, settings.process)
    return runtimes


async def _sandboxes(settings: AgentSettings, opened: Opened, runtimes: dict[RuntimeKind, Runtime]) -> Sandboxes:
    async def forget(key: TaskKey, kind: RuntimeKind) -> None:
        if kind in runtimes:
            await runtimes[kind].forget(key)

    sandboxes = Sandboxes(settings.work_dir, forget, settings.sandboxes)
    living = {
        saved.record.key for saved in opened.saved.tasks if not (saved.updates and saved.updates[-1].state.is_terminal)
    }
    await sandboxes.recover(living)
    return sandboxes


def _info(
    settings: AgentSettings,
    opened: Opened,
    address: str,
    http_address: str,
    runtimes: tuple[RuntimeKind, ...],
) -> AgentInfo:
    return AgentInfo(
        agent_id=opened.agent_id,
        hostname=settings.hostname,
        resources=settings.resources,
        address=settings.advertise or address,
        http_address=http_address,
        attributes=settings.attributes,
        runtimes=runtimes,
        version=version("runrig"),
        reservations=settings.reservations,
    )


@contextlib.asynccontextmanager
async def _serving_sandboxes(settings: AgentSettings, sandboxes: Sandboxes, loop: Loop) -> AsyncIterator[str]:
    """Serve logs, files and exec while the block runs; yield the address."""
    access = SandboxAccess(sandboxes, loop, settings.sandbox_service)
    server = grpc.aio.server(interceptors=[RefuseNoMessages()], options=SERVER_OPTIONS)
    sandbox_pb2_grpc.add_SandboxServiceServicer_to_server(SandboxService(access), server)
    answers = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(answers, server)
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        port = server.add_insecure_port(settings.listen)
    except RuntimeError:
        port = 0
    if port == 0:
        raise Unavailable(f"{settings.listen} for gRPC of the agent cannot be used: is another program there?")
    await server.start()
    for service in ("", *SERVICES):
        await answers.set(service, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield f"{settings.listen.rpartition(':')[0]}:{port}"
    finally:
        await server.stop(grace=None)
        access.close()
