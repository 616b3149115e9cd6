"""Refuses what a web page asks of this API through the browser of somebody who may reach it.

The API runs commands, and has no passwords yet. A page of another origin says so in `Origin`; a page whose name was
pointed at this address (DNS rebinding) cannot but send that name as `Host`.
"""

from __future__ import annotations

from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


def is_of_this_machine(host: str) -> bool:
    """Say whether only this machine reaches `host`, a name or an address without a port."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Answers 403 to requests of another site's pages; `is_local`: the host must be named as this machine."""

    def __init__(self, app: ASGIApp, is_local: bool) -> None:
        self._app = app
        self._is_local = is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, unless it is refused."""
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await JSONResponse({"message": refusal}, 403)(scope, receive, send)

    def _refusal(self, headers: Headers) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if origin is not None and origin.removeprefix("http://").removeprefix("https://") != host:
            return "requests of web pages of other origins are refused"
        if self._is_local and not is_of_this_machine(_without_port(host)):
            return "the Host must be this machine's, such as localhost: the API listens there only"
        return None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
