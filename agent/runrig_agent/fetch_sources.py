"""Where fetched files come from: folders of this host that the operator allows, and HTTP servers."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

CHUNK_BYTES = 1024 * 1024
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses after which the same request may succeed."""


class FetchProblem(Exception):
    """It cannot be fetched; the message says why and what to do. The same request fails again."""


class SourceUnavailable(Exception):
    """It cannot be fetched now; the same request may succeed later."""


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """How files are read from where they come from."""

    allowed_paths: tuple[Path, ...] = ()
    """Folders of the host that files may be fetched from; none, as the agent may read more than tasks may."""

    redirects_max: int = 5
    """Redirections followed from one HTTP server to the next."""

    connect_timeout_s: float = 10
    """Seconds to connect to a server."""

    stall_timeout_s: float = 60
    """Seconds that a server may be silent."""

    connections_max: int = 16
    """Connections to all servers."""

    use_environment: bool = True
    """Whether HTTP_PROXY, NO_PROXY and SSL_CERT_FILE of the agent's environment count."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next bytes of a file; `expected_bytes` is the size of all of it, 0 when not known."""

    data: bytes
    expected_bytes: int


def shown(uri: str) -> str:
    """Return a uri for people: without password, query and fragment, which often hold secrets."""
    try:
        parts = urlsplit(uri)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return repr(uri[:100])
    return f"{parts.scheme}://{host}{parts.path}"[:200] if parts.scheme else uri[:200]


def last_part(uri: str) -> str:
    """Return the file's name in a uri; empty when there is none."""
    try:
        return unquote(urlsplit(uri).path if "://" in uri else uri).rpartition("/")[2]
    except ValueError:
        return ""


class Sources:
    """Reads files by their uri; local ones in threads of `threads`."""

    def __init__(self, settings: SourceSettings, threads: Executor) -> None:
        self._settings = settings
        self._threads = threads
        self._client: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    def read(self, uri: str) -> AsyncGenerator[Chunk, None]:
        """Yield a file's content; the generator raises FetchProblem, SourceUnavailable and OSError."""
        try:
            parts = urlsplit(uri)
        except ValueError as error:
            raise FetchProblem(f"it is no uri: {error}") from error
        if parts.scheme in ("http", "https"):
            return self._read_http(uri)
        if parts.scheme == "file" and parts.netloc in ("", "localhost"):
            return self._read_local(unquote(parts.path))
        if uri.startswith("/"):
            return self._read_local(uri)
        raise FetchProblem("it is neither http://, https://, file:/// nor a path that begins with /")

    async def _read_local(self, path: str) -> AsyncGenerator[Chunk, None]:
        loop = asyncio.get_running_loop()
        descriptor, size = await loop.run_in_executor(self._threads, self._open_local, path)
        try:
            while data := await loop.run_in_executor(self._threads, os.read, descriptor, CHUNK_BYTES):
                yield Chunk(data, size)
        finally:
            os.close(descriptor)

    def _open_local(self, path: str) -> tuple[int, int]:
        """Open a regular file within the allowed folders, by its name and by where it really is."""
        allowed = self._settings.allowed_paths
        names = ", ".join(map(str, allowed)) or "none is"
        refusal = f"it is not in a folder that this agent allows ({names}): its operator can, with --allow-fetch"
        if "\0" in path or not _is_below(os.path.normpath(path), [os.path.normpath(each) for each in allowed]):
            raise FetchProblem(refusal)
        found = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not _is_below(os.readlink(f"/proc/self/fd/{found}"), map(os.path.realpath, allowed)):
                raise FetchProblem(refusal)
            status = os.fstat(found)
            if not stat.S_ISREG(status.st_mode):
                raise FetchProblem("it is no regular file: pack a folder, and have it unpacked")
            return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC), status.st_size
        finally:
            os.close(found)

    async def _read_http(self, uri: str) -> AsyncGenerator[Chunk, None]:
        try:
            # Raw and unencoded: the sum is of the file, and a .gz is to stay one.
            async with self._http_client().stream("GET", uri) as response:
                _check_status(response.status_code)
                expected = response.headers.get("content-length", "0")
                size = int(expected) if expected.isdecimal() else 0
                yield Chunk(b"", size)  # so that a file too large is known before it is read
                async for data in response.aiter_raw(CHUNK_BYTES):
                    yield Chunk(data, size)
        except httpx.TransportError as error:
            if isinstance(error, (httpx.UnsupportedProtocol, httpx.ProxyError)):
                raise FetchProblem(str(error)) from error
            raise SourceUnavailable(str(error) or type(error).__name__) from error
        except httpx.TooManyRedirects as error:
            raise FetchProblem(f"it redirects more than {self._settings.redirects_max} times") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FetchProblem(str(error) or type(error).__name__) from error

    def _http_client(self) -> httpx.AsyncClient:
        """Return the client, made when first needed: reading the system's certificates takes a while."""
        if self._client is None:
            settings = self._settings
            self._client = httpx.AsyncClient(
                follow_redirects=True,
                max_redirects=settings.redirects_max,
                timeout=httpx.Timeout(settings.stall_timeout_s, connect=settings.connect_timeout_s, pool=None),
                limits=httpx.Limits(max_connections=settings.connections_max, max_keepalive_connections=4),
                headers={"User-Agent": "runrig-agent", "Accept-Encoding": "identity"},
                trust_env=settings.use_environment,
            )
        return self._client


def _check_status(status: int) -> None:
    if status in PASSING:
        raise SourceUnavailable(f"the server answers with status {status}")
    if status != 200:
        raise FetchProblem(f"the server answers with status {status}")


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)
