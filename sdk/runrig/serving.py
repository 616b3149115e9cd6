"""Serve HTTP beside other work on one event loop: a framework's REST API, a program's health and metrics.

    with listening("the API", "127.0.0.1:8080") as listener:
        await serve_beside({"framework": framework.run()}, app, listener)

Needs starlette and uvicorn: the extra `runrig[web]`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from ipaddress import ip_address
from typing import Any

import structlog
import uvicorn
from h11 import IDLE, SEND_BODY
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from runrig._addresses import host_of, is_loopback, split_address
from runrig.errors import Conflict, Unavailable

__all__ = ["Guard", "is_loopback", "listening", "serve_beside", "serving_http", "split_address", "url_of"]

log = structlog.get_logger()

REQUEST_S = 30.0
"""How long a request may take to come, body and all: connections that say nothing must not use up what there are."""
MOST_CONNECTIONS = 1_000
"""Connections to a port for health and metrics at the same time; more are 503."""
GRACE_S = 2
"""How long requests that are being answered may take when the program is told to end."""


@contextlib.contextmanager
def listening(what: str, address: str) -> Iterator[socket.socket]:
    """Listen at `address` (`host:port`, port 0: any) while the block runs.

    Raises InvalidInput when it is no address; naming `what`, Conflict when somebody listens there, Unavailable when it
    cannot be used for another reason.
    """
    host, port = split_address(what, address)
    try:
        bound = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Conflict(f"{address}, for {what}, is in use: end what listens there, or choose another") from None
        raise Unavailable(f"{what} cannot listen on {address}: {error.strerror}; choose another address") from None
    with bound:
        yield bound


def url_of(listener: socket.socket) -> str:
    """Return the URL at which `listener` is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.asynccontextmanager
async def serving_http(
    app: ASGIApp,
    listen: str,
    what: str,
    most_connections: int = MOST_CONNECTIONS,
    request_timeout_s: float = REQUEST_S,
) -> AsyncIterator[str]:
    """Serve `app` at `listen` while the block runs; yield the `host:port` it has. Raises as `listening`."""
    with listening(what, listen) as listener:
        server = _server(app, most_connections, request_timeout_s)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started and not serving.done():  # noqa: ASYNC110 (uvicorn has no event for it)
                await asyncio.sleep(0.005)
            yield url_of(listener).removeprefix("http://")
        finally:
            server.should_exit = True
            await asyncio.gather(serving, return_exceptions=True)


async def serve_beside(
    parts: Mapping[str, Coroutine[Any, Any, None]],
    app: ASGIApp,
    listener: socket.socket,
    most_requests: int | None = None,
    request_timeout_s: float = REQUEST_S,
) -> None:
    """Serve `app` and run `parts` until SIGTERM, SIGINT or the end of any of them; raise what that one raised.

    The API goes first, so that what it was asked is still answered. `most_requests` at the same time; more are 503.
    A connection whose request is not complete after `request_timeout_s` is closed.
    """
    server = _server(app, most_requests, request_timeout_s)
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    api = asyncio.create_task(server.serve(sockets=[listener]), name="api")
    end = asyncio.create_task(_told(told), name="signal")
    tasks = [*(asyncio.create_task(part, name=name) for name, part in parts.items()), api, end]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    log.info("stopping", because=sorted(task.get_name() for task in done))
    server.should_exit = True
    await asyncio.wait([api], timeout=GRACE_S + 1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


class Guard:
    """Middleware that keeps web pages away from an API that runs commands, by answering 403.

    A browser on this machine reaches what listens on this machine, on behalf of any page that it shows. Such a
    request tells on itself: it carries the page's `Origin`, or, when the page's name was made to point here (DNS
    rebinding), that name as its `Host`. With `is_local` the host must be named as this machine.
    """

    def __init__(self, app: ASGIApp, is_local: bool) -> None:
        self._app = app
        self._is_local = is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        problem = self._problem(Headers(scope=scope)) if scope["type"] == "http" else ""
        if problem:
            await JSONResponse({"message": problem}, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _problem(self, headers: Headers) -> str:
        host = headers.get("host", "")
        origin = headers.get("origin")
        if self._is_local and not _is_this_machine(host_of(host)):
            return f"Host: {host[:100]!r} is not allowed; allowed: localhost, as only this machine is served"
        if origin is not None and origin.partition("://")[2] != host:
            return f"Origin: {origin[:100]!r} is not allowed; web pages of other origins may not use this API"
        return ""


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Server(uvicorn.Server):
    """A server that leaves signals to the program that it is a part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class _Impatient(H11Protocol):
    """A connection that is closed when a request, or the rest of one, is too long in coming."""

    request_timeout_s = REQUEST_S
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait for the rest, from the first byte on, or no more."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        self._stop_waiting()

    def _wait(self) -> None:
        is_incomplete = self.conn.their_state in (IDLE, SEND_BODY)
        if not is_incomplete:
            self._stop_waiting()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(self.request_timeout_s, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


def _server(app: ASGIApp, most_requests: int | None, request_timeout_s: float) -> _Server:
    protocol = type("_Connection", (_Impatient,), {"request_timeout_s": request_timeout_s})
    return _Server(
        uvicorn.Config(
            app,
            http=protocol,
            log_level="warning",
            access_log=False,
            lifespan="off",
            limit_concurrency=most_requests,
            timeout_graceful_shutdown=GRACE_S,
        )
    )


async def _told(event: asyncio.Event) -> None:
    await event.wait()
