"""The engine's long answers, taken apart wherever they were cut."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from runrig.errors import Unavailable
from runrig_agent.runtimes.docker_streams import Endpoint, EngineAnswer

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FRAMES = [(1, b"first\n"), (2, b"oops\n"), (1, b"x" * 3000), (1, b"")]

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def served(tmp_path: Path, answer: Answer) -> tuple[asyncio.Server, Endpoint]:
    """Serve one kind of answer on a unix socket."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await answer(writer)
        writer.close()

    server = await asyncio.start_unix_server(serve, str(tmp_path / "engine.sock"))
    return server, Endpoint(f"unix://{tmp_path}/engine.sock", "1.41")


def pieces(data: bytes, size: int) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        for at in range(0, len(data), size):
            writer.write(data[at : at + size])
            await writer.drain()
            await asyncio.sleep(0)

    return answer


async def all_of(endpoint: Endpoint) -> bytes:
    async with await endpoint.open("GET", "/logs") as stream:
        return b"".join([data async for data in stream.data()])


def framed(number: int, data: bytes) -> bytes:
    return bytes([number, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
@pytest.mark.parametrize("per_chunk", [1, 5, 100_000])
async def test_frames_are_whole_however_they_arrive(tmp_path: Path, size: int, per_chunk: int) -> None:
    body = b"".join(framed(*frame) for frame in FRAMES)
    chunks = b"".join(chunk(body[at : at + per_chunk]) for at in range(0, len(body), per_chunk))
    server, endpoint = await served(tmp_path, pieces(HEAD + chunks + b"0\r\n\r\n", size))

    async with server, await endpoint.open("GET", "/logs") as stream:
        frames = [frame async for batch in stream.frames() for frame in batch]

    assert frames == FRAMES


@pytest.mark.parametrize("cut", [len(HEAD), len(HEAD) + 2, len(HEAD) + 7, -3, -6])
async def test_an_answer_that_is_cut_off_is_no_end(tmp_path: Path, cut: int) -> None:
    data = HEAD + chunk(framed(1, b"hello")) + b"0\r\n\r\n"
    server, endpoint = await served(tmp_path, pieces(data[:cut], 100))

    async with server, await endpoint.open("GET", "/logs") as stream:
        with pytest.raises(Unavailable):
            async for _ in stream.frames():
                pass


async def test_lines_of_json_are_whole(tmp_path: Path) -> None:
    data = HEAD + chunk(b'{"a": 1}\n{"b"') + chunk(b': 2}\n\n{"c": 3}\n') + b"0\r\n\r\n"
    server, endpoint = await served(tmp_path, pieces(data, 5))

    async with server, await endpoint.open("GET", "/events") as stream:
        lines = [line async for line in stream.lines()]

    assert lines == [{"a": 1}, {"b": 2}, {"c": 3}]


async def test_an_error_is_raised_with_its_words(tmp_path: Path) -> None:
    body = b'{"message": "no such container"}'
    head = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body)
    server, endpoint = await served(tmp_path, pieces(head + body, 100))

    async with server:
        with pytest.raises(EngineAnswer, match="no such container") as raised:
            await endpoint.open("GET", "/logs")

    assert raised.value.status == 404


async def test_an_engine_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        await Endpoint(f"unix://{tmp_path}/none.sock", "1.41").open("GET", "/events")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n", HEAD + b"no number\r\n"])
async def test_nonsense_is_unavailable(tmp_path: Path, answer: bytes) -> None:
    server, endpoint = await served(tmp_path, pieces(answer, 100))

    async with server:
        with pytest.raises(Unavailable):
            await all_of(endpoint)
