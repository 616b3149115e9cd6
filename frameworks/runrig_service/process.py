"""The process of the service framework: the core on the SDK's engine, and the REST API beside it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

import structlog
import uvicorn

from runrig.errors import Unavailable
from runrig.framework import Framework
from runrig.store import SqliteStore
from runrig_service.api import build_api
from runrig_service.core.service import Service
from runrig_service.settings import Settings, checked

log = structlog.get_logger("runrig.service")

GRACE_S = 2
"""How long requests that are being answered may take when the process is told to end."""


async def run_service(settings: Settings, on_listening: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT, or until a part fails; `on_listening` is told the API's URL.

    Instances run on: the next process with the same data directory takes them up. Raises InvalidInput for settings,
    Conflict where another process has the directory open, Unavailable for a port that is taken, and as the SDK does.
    """
    checked(settings)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with _listener(settings.api.host, settings.api.port) as listener:
        settings = replace(settings, api=replace(settings.api, port=listener.getsockname()[1]))
        framework = Framework(
            name=settings.name,
            roles=settings.roles,
            logic=Service(settings.limits, settings.policy),
            store=SqliteStore(settings.data_dir / "state.db"),
            master=settings.master,
            failover_timeout_ms=settings.failover_timeout_ms,
            web_url=settings.api.url,
        )
        server = _Server(
            uvicorn.Config(
                build_api(framework, settings),
                log_level="warning",
                access_log=False,
                lifespan="off",
                limit_concurrency=settings.api.max_requests,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        on_listening(settings.api.url)
        await _until_one_ends(framework, server, listener)


class _Server(uvicorn.Server):
    """A server that leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def _until_one_ends(framework: Framework, server: _Server, listener: socket.socket) -> None:
    """Run both until a signal comes or one of them ends; raise what it raised.

    The API goes first, so that what it was asked is still answered.
    """
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    mind = asyncio.create_task(framework.run(), name="framework")
    api = asyncio.create_task(server.serve(sockets=[listener]), name="api")
    end = asyncio.create_task(_told(told), name="signal")
    done, _ = await asyncio.wait([mind, api, end], return_when=asyncio.FIRST_COMPLETED)
    log.info("stopping", because=sorted(task.get_name() for task in done))
    server.should_exit = True
    await asyncio.wait([api], timeout=GRACE_S + 1)
    for task in (api, mind, end):
        task.cancel()
    await asyncio.gather(api, mind, end, return_exceptions=True)
    for task in done:
        task.result()


async def _told(event: asyncio.Event) -> None:
    await event.wait()


def _listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror}; choose another address with --listen"
        raise Unavailable(message) from None
