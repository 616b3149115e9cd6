"""A small real web server on loopback, whose answers a test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Web:
    """Answers of each path, used up in order, the last one for ever; `asked` lists what was asked for."""

    address: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def on(self, path: str, *answers: Answer) -> str:
        """Set the answers of a path; return its url."""
        self.answers[path] = list(answers)
        return f"{self.url}{path}"

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection, until `close` at the latest."""
        task = asyncio.create_task(self._serve(reader, writer))
        self.serving.add(task)
        task.add_done_callback(self.serving.discard)

    async def close(self) -> None:
        for task in self.serving:
            task.cancel()
        await asyncio.gather(*self.serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            try:
                request = (await reader.readuntil(b"\r\n\r\n")).decode()
                path = request.split()[1]
                self.asked.append(path)
                answers = self.answers.get(path) or [status(404)]
                await (answers.pop(0) if len(answers) > 1 else answers[0])(writer)
                await writer.drain()
            finally:
                writer.close()
                await writer.wait_closed()


@asynccontextmanager
async def web_server(host: str = "127.0.0.1") -> AsyncIterator[Web]:
    """Serve while the block runs."""
    web = Web()
    server = await asyncio.start_server(web.accept, host, 0)
    web.address = f"{host}:{server.sockets[0].getsockname()[1]}"
    try:
        yield web
    finally:
        server.close()
        await web.close()


def content(data: bytes, claimed: int | None = None) -> Answer:
    """Answer with `data`, claimed to be so long."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        length = len(data) if claimed is None else claimed
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode() + data)

    return answer


def status(code: int, *headers: str) -> Answer:
    """Answer with a status and nothing else."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {code} Said", "Content-Length: 0", "Connection: close", *headers]
        writer.write("\r\n".join([*lines, "", ""]).encode())

    return answer


def redirect(place: str) -> Answer:
    """Answer that it is elsewhere."""
    return status(302, f"Location: {place}")


def endless(block: bytes) -> Answer:
    """Answer with a file that has no end."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            writer.write(block)
            await writer.drain()

    return answer


def silence(began: asyncio.Event) -> Answer:
    """Begin an answer and never go on."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbeginning")
        await writer.drain()
        began.set()
        await asyncio.Event().wait()

    return answer


async def nothing(writer: asyncio.StreamWriter) -> None:
    """Accept, and never answer."""
    await asyncio.Event().wait()
