"""Serve a Starlette application beside other work on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import uvicorn

from runrig._addresses import split_address
from runrig.errors import Unavailable

if TYPE_CHECKING:
    from starlette.applications import Starlette


class _Server(uvicorn.Server):
    """A server that leaves signals to the program that it is a part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@contextlib.asynccontextmanager
async def serving_http(app: Starlette, listen: str, what: str) -> AsyncIterator[str]:
    """Serve `app` at `listen` (`host:port`, port 0: any) while the block runs; yield the address it has.

    Raises Unavailable naming `what` when the port is taken.
    """
    host, port = split_address(f"{what} address", listen)
    try:
        bound = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise Unavailable(f"port {port} for {what} cannot be used: {error.strerror}; choose another") from None
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=2)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110 (uvicorn has no event for it)
            await asyncio.sleep(0.005)
        yield f"{host}:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)
        bound.close()
