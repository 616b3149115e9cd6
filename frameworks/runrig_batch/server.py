"""The process of the batch framework: the mind on the SDK's engine, the REST API, the collector of output."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import structlog
import uvicorn

from runrig.errors import Unavailable
from runrig.framework import Framework
from runrig.store import SqliteStore
from runrig_batch.api import app
from runrig_batch.collector import Collector
from runrig_batch.core.batch import Batch
from runrig_batch.logs import Logs
from runrig_batch.outputs import OutputFiles
from runrig_batch.sandboxes import AgentSandboxes
from runrig_batch.settings import Settings, checked

log = structlog.get_logger("runrig.batch")


class _Server(uvicorn.Server):
    """A server that leaves signals to `serve`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def serve(settings: Settings, on_listening: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT, or until a part fails; `on_listening` is told the API's URL.

    Tasks run on: the next process with the same data directory takes them up.
    """
    checked(settings)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with _bound(settings.api.host, settings.api.port) as listener:
        host = f"[{settings.api.host}]" if ":" in settings.api.host else settings.api.host
        url = f"http://{host}:{listener.getsockname()[1]}"
        framework = Framework(
            name=settings.name,
            roles=settings.roles,
            logic=Batch(settings.limits),
            store=SqliteStore(settings.data_dir / "state.db"),
            master=settings.master,
            failover_timeout_ms=settings.failover_timeout_ms,
            web_url=url,
        )
        sandboxes = AgentSandboxes(lambda: framework.framework_id)
        files = OutputFiles(settings.data_dir)
        api = app(framework, Logs(framework, sandboxes, files, settings.api), settings)
        server = _Server(
            uvicorn.Config(api, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=2)
        )
        parts = {
            "framework": framework.run(),
            "collector": Collector(framework, sandboxes, files, settings.outputs).run(),
            "api": server.serve(sockets=[listener]),
        }
        on_listening(url)
        try:
            await _until_stopped({name: asyncio.create_task(part, name=name) for name, part in parts.items()}, server)
        finally:
            await sandboxes.close()


async def _until_stopped(parts: dict[str, asyncio.Task[None]], server: _Server) -> None:
    """Wait for a signal or for the first part to end, then end the others; raise what the first raised."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([*parts.values(), stopped], return_when=asyncio.FIRST_COMPLETED)
    log.info("stopping", because="signal" if stopped in done else [task.get_name() for task in done])
    server.should_exit = True
    await asyncio.wait([parts["api"]], timeout=5)
    for task in (*parts.values(), stopped):
        task.cancel()
    await asyncio.gather(*parts.values(), stopped, return_exceptions=True)
    for task in done - {stopped}:
        task.result()


def _bound(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        problem = f"the batch API cannot listen on {host}:{port}: {error.strerror}; choose another with --listen"
        raise Unavailable(problem) from None
