"""Long answers of the engine, read on the event loop: events, logs, and what is executed in a container.

The docker SDK reads such answers in a thread each, and its `logs` does not tell stdout from stderr. So these
few are asked for here, over a connection of their own: HTTP/1.1 over unix://, tcp:// or TLS as
DOCKER_TLS_VERIFY and DOCKER_CERT_PATH say. Everything else goes through the SDK.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from runrig.errors import Unavailable

_BUFFER_BYTES = 1 << 18
_CHUNK_BYTES = 1 << 16
_MAX_FRAME_BYTES = 16 << 20
_STREAMS = (1, 2)


class EngineAnswer(Exception):
    """The engine answered with an error: `status` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the engine is, and the version of its API to use."""

    address: str
    version: str

    async def open(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
        takes_over: bool = False,
    ) -> EngineStream:
        """Send a request; raises Unavailable, EngineAnswer.

        With `takes_over` the connection becomes a stream in both directions.
        """
        try:
            reader, writer = await self._connect()
        except OSError as error:
            raise Unavailable(f"the engine at {self.address} does not answer: {error}") from error
        stream = EngineStream(reader, writer)
        try:
            question = f"?{urlencode(query)}" if query else ""
            await stream.ask(method, f"/v{self.version}{path}{question}", body, takes_over)
        except BaseException:
            stream.close()
            raise
        return stream

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        url = urlsplit(self.address)
        if url.scheme == "unix":
            return await asyncio.open_unix_connection(url.path, limit=_BUFFER_BYTES)
        tls = _tls() if url.scheme == "https" or os.environ.get("DOCKER_TLS_VERIFY") else None
        return await asyncio.open_connection(
            url.hostname or "localhost", url.port or (2376 if tls else 2375), ssl=tls, limit=_BUFFER_BYTES
        )


class EngineStream:
    """One answer, as it comes in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._is_chunked = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    async def ask(self, method: str, target: str, body: dict[str, Any] | None, takes_over: bool) -> None:
        """Send the request and read the head of the answer; raises Unavailable, EngineAnswer."""
        data = b"" if body is None else json.dumps(body).encode()
        head = [f"{method} {target} HTTP/1.1", "Host: engine", f"Content-Length: {len(data)}"]
        head += ["Content-Type: application/json"] if data else []
        head += ["Connection: Upgrade", "Upgrade: tcp"] if takes_over else []
        self._writer.write("\r\n".join([*head, "", ""]).encode() + data)
        try:
            await self._writer.drain()
            status = await self._read_head()
            if status >= 400:
                raise EngineAnswer(status, _message(b"".join([data async for data in self.data()])))
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Unavailable(f"the engine hung up: {error}") from error

    async def _read_head(self) -> int:
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ", 2)[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self._is_chunked = headers.get("transfer-encoding", "") == "chunked"
        if not self._is_chunked and "content-length" in headers:
            body = await self._reader.readexactly(int(headers["content-length"]))
            self._reader = asyncio.StreamReader()
            self._reader.feed_data(body)
            self._reader.feed_eof()
        return status

    async def data(self) -> AsyncIterator[bytes]:
        """Yield the answer as it comes in, to its end; raises Unavailable when it is cut off."""
        chunks = _Chunks() if self._is_chunked else None
        try:
            while data := await self._reader.read(_CHUNK_BYTES):
                payload = data if chunks is None else chunks.feed(data)
                if payload:
                    yield payload
                if chunks is not None and chunks.is_complete:
                    return
        except (OSError, ValueError) as error:
            raise Unavailable(f"the engine hung up: {error}") from error
        if chunks is not None:
            raise Unavailable("the engine hung up")

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        """Yield JSON objects, one a line."""
        rest = b""
        async for data in self.data():
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                if line.strip():
                    yield json.loads(line)

    async def frames(self) -> AsyncIterator[list[tuple[int, bytes]]]:
        """Yield, in batches as they come in, (1 for stdout or 2 for stderr, data) of an answer without terminal."""
        buffer = bytearray()
        async for data in self.data():
            buffer += data
            frames, consumed = _unpacked(buffer)
            del buffer[:consumed]
            if frames:
                yield frames

    async def write(self, data: bytes) -> None:
        """Write to a stream that was taken over; what nobody reads any more is lost."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError:
            pass

    def end_input(self) -> None:
        """Say that nothing more will be written."""
        if self._writer.can_write_eof():
            self._writer.write_eof()


class _Chunks:
    """Takes the chunks of HTTP apart, many at once: the engine makes one of each line of a log."""

    def __init__(self) -> None:
        self.is_complete = False
        self._rest = b""
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """Return what `data` holds beside sizes and line ends; raises ValueError."""
        data = self._rest + data
        payload: list[bytes] = []
        at = 0
        while True:
            if self._left > 2:  # what is left of a chunk, with the line end behind it
                piece = data[at : at + self._left - 2]
                payload.append(piece)
                at += len(piece)
                self._left -= len(piece)
            if self._left:
                if self._left > 2 or len(data) - at < 2:
                    break
                at, self._left = at + 2, 0
            end = data.find(b"\r\n", at)
            if end < 0:
                break
            size = int(data[at:end].split(b";")[0], 16)
            at = end + 2
            if size == 0:
                self.is_complete = True
                break
            self._left = size + 2
        self._rest = data[at:]
        return b"".join(payload)


def _unpacked(buffer: bytearray) -> tuple[list[tuple[int, bytes]], int]:
    """Take the whole frames off a buffer: a byte for the stream, three of nothing, four of length, the data."""
    frames: list[tuple[int, bytes]] = []
    at = 0
    while len(buffer) - at >= 8:
        length = int.from_bytes(buffer[at + 4 : at + 8], "big")
        if buffer[at] > 2 or length > _MAX_FRAME_BYTES:
            raise Unavailable("the engine's answer is not understood")
        if len(buffer) - at - 8 < length:
            break
        if buffer[at] in _STREAMS:
            frames.append((buffer[at], bytes(buffer[at + 8 : at + 8 + length])))
        at += 8 + length
    return frames, at


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")


def _tls() -> ssl.SSLContext:
    folder = Path(os.environ.get("DOCKER_CERT_PATH") or "~/.docker").expanduser()
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.load_cert_chain(str(folder / "cert.pem"), str(folder / "key.pem"))
    return context
