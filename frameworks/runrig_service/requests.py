"""Reads what Marathon's clients send: bodies within bounds, Python's `True`, doubled slashes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from runrig_service.core.errors import InvalidApp
from runrig_service.core.paths import canonical

_SLASHES = re.compile(r"/{2,}")
_TRUE, _FALSE = ("true", "1", ""), ("false", "0")
MAX_DEPTH = 64
"""How deep JSON may nest: apps need eight."""


class Malformed(Exception):
    """What was sent is not JSON, or not of the shape that was asked for: 400."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class TooLarge(Exception):
    """The body is larger than the setting allows: 413."""

    def __init__(self, most: int) -> None:
        super().__init__(f"The body must have at most {most} bytes")


class CollapsedSlashes:
    """Makes `/v2/apps//shop/web/` `/v2/apps/shop/web`: clients join addresses and ids that begin with `/`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with the plain address."""
        if scope["type"] == "http":
            path = _SLASHES.sub("/", scope["path"])
            scope = {**scope, "path": path.rstrip("/") or "/"}
        await self._app(scope, receive, send)


async def read_json(request: Request, most: int) -> object:
    """Return the body as JSON; raise Malformed or TooLarge."""
    chunks = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise TooLarge(most)
        chunks.append(chunk)
    try:
        body = b"".join(chunks)
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Malformed("Invalid JSON", str(error)[:200]) from None
    if _is_deeper(value, MAX_DEPTH):
        raise Malformed("Invalid JSON", f"it must not nest deeper than {MAX_DEPTH}")
    if b"\\u" in body and (path := _path_of_no_text(value)) is not None:
        raise InvalidApp({path: ("must be valid Unicode: half of a surrogate pair is no text",)})
    return value


async def read_object(request: Request, most: int) -> Mapping[str, object]:
    """Return the body, which must be a JSON object; raise Malformed or TooLarge."""
    value = await read_json(request, most)
    if not isinstance(value, dict):
        raise Malformed("Invalid JSON", "the body must be an object")
    return value


async def read_objects(request: Request, most: int) -> tuple[Mapping[str, object], ...]:
    """Return the body, which must be a JSON array of objects; raise Malformed or TooLarge."""
    value = await read_json(request, most)
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise Malformed("Invalid JSON", "the body must be an array of objects")
    return tuple(value)


def flag(request: Request, name: str, default: bool = False) -> bool:
    """Return a boolean of the query; raise Malformed for what is none."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise Malformed(f"Invalid query parameter {name}", f"true or false; got {ascii(text)[:80]}")


def app_id(request: Request) -> str:
    """Return the id of the app that the address names."""
    return canonical(request.path_params["app_id"])


def embedded(request: Request) -> frozenset[str]:
    """Return what to embed in apps: clients write `apps.tasks`, `app.tasks`, `apps.failures`."""
    names = {each.rpartition(".")[2] for each in request.query_params.getlist("embed")}
    return frozenset("lastTaskFailure" if name == "failures" else name for name in names)


def _path_of_no_text(value: object, path: str = "") -> str | None:
    """Return where the first text stands that cannot be told, as it has half of a surrogate pair."""
    if isinstance(value, str):
        return None if _is_text(value) else path or "/"
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        if isinstance(key, str) and not _is_text(key):
            return f"{path}/{ascii(key)[1:-1]}"
        if (found := _path_of_no_text(inner, f"{path}/{key}")) is not None:
            return found
    return None


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _is_deeper(value: object, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True
