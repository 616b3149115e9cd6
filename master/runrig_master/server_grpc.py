"""The master's process: store, core, loop, gRPC and HTTP, from start to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import uuid
from collections.abc import Callable
from dataclasses import replace

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from runrig._serving_grpc import RefuseNoMessages
from runrig._streams import SERVER_OPTIONS
from runrig.errors import Conflict
from runrig.serving import serving_http
from runrig.v1 import agent_pb2_grpc, operator_pb2_grpc, scheduler_pb2_grpc
from runrig_master.agent_grpc import AgentService
from runrig_master.core.master import Master
from runrig_master.http import http_app
from runrig_master.loop import Loop
from runrig_master.operator_grpc import OperatorService
from runrig_master.records_grpc import CLUSTER_KEY, cluster_entry, read_cluster, record
from runrig_master.scheduler_grpc import SchedulerService
from runrig_master.settings import MasterSettings
from runrig_master.store import Store, Term, open_store

log = structlog.get_logger()

SERVICES = ("runrig.v1.AgentService", "runrig.v1.SchedulerService", "runrig.v1.OperatorService")


async def run_master(settings: MasterSettings, serving: Callable[[str, str], None] | None = None) -> None:
    """Lead until SIGTERM or SIGINT; `serving` is told the gRPC and HTTP addresses once both answer.

    Raises Conflict when another master uses the store or a program a port, Unavailable when the store cannot be used.
    """
    store = open_store(settings.state)
    try:
        term = await store.campaign()
        loop = await _restored(store, term, settings)
        _collect_rarely()
        async with serving_http(http_app(loop), settings.http, "HTTP of the master") as http_address:
            server, grpc_address = await _grpc_server(loop, settings)
            log.info("master leads", epoch=term.epoch, grpc=grpc_address, http=http_address, state=settings.state)
            if serving is not None:
                serving(grpc_address, http_address)
            try:
                await _until_stopped(asyncio.create_task(loop.run()))
            finally:
                await server.stop(grace=None)
    finally:
        store.close()


def _collect_rarely() -> None:
    """Look for cycles of garbage after each 20,000 new objects, not 700, and never among those that are there already.

    Nearly nothing here is in a cycle, but every message makes objects: this takes a fifth off a task's CPU time
    (docs/benchmarks.md).
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _restored(store: Store, term: Term, settings: MasterSettings) -> Loop:
    entries = await store.read("")
    if CLUSTER_KEY in entries:
        cluster_id = read_cluster(entries[CLUSTER_KEY])
    else:
        cluster_id = uuid.uuid4().hex[:12]
        await store.commit({CLUSTER_KEY: cluster_entry(cluster_id)}, (), term)
    records = [item for key, value in entries.items() if (item := record(key, value)) is not None]
    loop = Loop(Master(cluster_id, term.epoch), store, term, settings.events_waiting, settings.events_per_turn)
    loop.master = Master(cluster_id, term.epoch, settings.core, records, loop.now())
    log.info("state restored", cluster=cluster_id, epoch=term.epoch, entries=len(records))
    return loop


async def _grpc_server(loop: Loop, settings: MasterSettings) -> tuple[grpc.aio.Server, str]:
    server = grpc.aio.server(interceptors=[RefuseNoMessages()], options=SERVER_OPTIONS)
    try:
        port = server.add_insecure_port(settings.listen)
    except RuntimeError:
        port = 0
    if port == 0:
        raise Conflict(f"{settings.listen}, for gRPC of the master, cannot be used: end what listens there")
    address = f"{settings.listen.rpartition(':')[0]}:{port}"
    settings = replace(settings, advertise=settings.advertise or address)
    agent_pb2_grpc.add_AgentServiceServicer_to_server(AgentService(loop, settings), server)
    scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(SchedulerService(loop, settings), server)
    operator_pb2_grpc.add_OperatorServiceServicer_to_server(OperatorService(loop, settings), server)
    answers = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(answers, server)
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    await server.start()
    for service in ("", *SERVICES):
        await answers.set(service, health_pb2.HealthCheckResponse.SERVING)
    return server, address


async def _until_stopped(turning: asyncio.Task[None]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    waiting = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({turning, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if turning.done():
            turning.result()
        log.info("master stops")
    finally:
        for task in (turning, waiting):
            task.cancel()
        await asyncio.gather(turning, waiting, return_exceptions=True)
