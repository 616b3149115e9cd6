"""Keeping web pages away from an API that runs commands.

A browser on this machine reaches what listens on this machine, on behalf of any page that it shows. Such a request
tells on itself: it carries the page's `Origin`, or, when the page's name was made to point here (DNS rebinding), that
name as its `Host`.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Refuse requests from pages of other origins; with `is_local` also those that name another host than this one."""

    def __init__(self, app: ASGIApp, is_local: bool) -> None:
        self._app = app
        self._is_local = is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 403."""
        problem = self._problem(Headers(scope=scope)) if scope["type"] == "http" else ""
        if problem:
            await JSONResponse({"message": problem}, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _problem(self, headers: Headers) -> str:
        host = headers.get("host", "")
        origin = headers.get("origin")
        if self._is_local and not is_loopback(_name(f"//{host}")):
            return f"Host: {host[:100]!r} is not allowed; allowed: localhost, as only this machine is served"
        if origin is not None and origin.partition("://")[2] != host:
            return f"Origin: {origin[:100]!r} is not allowed; web pages of other origins may not use this API"
        return ""


def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
