"""HTTP by hand, over a socket of its own: what no client library would send."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from random import Random

from tests.fuzz.rounds import PATIENCE_S

TEXTS = (
    b"",
    b"/",
    b"//",
    b"/..",
    b"/../../etc/passwd",
    b"/%2e%2e/%2e%2e/etc/passwd",
    b"/%00",
    b"/%ff%fe",
    b"/%ed%a0%80",
    b"/%",
    b"/a%2Fb%0d%0aX:y",
    b"/" + b"x" * 9_000,
    b"/" + b"a/" * 500,
    b"/*",
    b"*",
    b"http://elsewhere/",
    b"/\xff",
    b"/ ",
)
METHODS = (
    b"GET",
    b"POST",
    b"PUT",
    b"PATCH",
    b"DELETE",
    b"HEAD",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
    b"BREW",
    b"get",
    b"",
)
_HEADERS = (
    (b"Content-Type", b"text/html"),
    (b"Content-Type", b"application/toml"),
    (b"Content-Type", b"\xff\xfe"),
    (b"Content-Type", b"application/json; charset=utf-32"),
    (b"Content-Encoding", b"gzip"),
    (b"Expect", b"100-continue"),
    (b"Upgrade", b"websocket"),
    (b"Accept", b"application/json"),
    (b"Range", b"bytes=0-"),
    (b"X-Large", b"x" * 12_000),
    (b"X-Larger", b"x" * 70_000),
    (b"Cookie", b"a=b; " * 300),
    (b"X", b"\0"),
    (b"Transfer-Encoding", b"chunked"),
    (b"Content-Length", b"-1"),
    (b"Content-Length", b"99999999999999999999"),
    (b"Content-Length", b"5"),
    (b"Host", b"evil.example"),
    (b"Origin", b"http://evil.example"),
)


@dataclass(frozen=True)
class Reply:
    """The first answer of a connection; status 0: it was closed without one."""

    status: int
    head: bytes
    body: bytes

    @property
    def message(self) -> str:
        """Return what a body in JSON says."""
        return str(json.loads(self.body).get("message", ""))


async def exchanged(address: str, data: bytes, is_half_closed: bool = False) -> Reply:
    """Send bytes over a connection of their own and return the reply; whoever gives none must close."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(PATIENCE_S):
            writer.write(data)
            if is_half_closed:
                writer.write_eof()
            return await _reply(reader, has_body=not data.startswith(b"HEAD"))
    except (ConnectionError, asyncio.IncompleteReadError):
        return Reply(0, b"", b"")
    finally:
        writer.close()


async def _reply(reader: asyncio.StreamReader, has_body: bool) -> Reply:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].split(b":")[1]) if lengths and has_body else 0
    return Reply(status, head, await reader.readexactly(length))


def request(method: bytes, target: bytes, content: bytes = b"", *headers: tuple[bytes, bytes]) -> bytes:
    """Return the bytes of a request over a connection that is closed after it."""
    known: list[tuple[bytes, bytes]] = [(b"Host", b"localhost"), (b"Connection", b"close")]
    if content and not any(name in (b"Content-Length", b"Transfer-Encoding") for name, _ in headers):
        known.append((b"Content-Length", str(len(content)).encode()))
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in (*known, *headers))
    return method + b" " + target + b" HTTP/1.1\r\n" + lines + b"\r\n" + content


def strange(valid: bytes, chance: Random) -> bytes:
    """Return a request that a valid one has become: by other headers, or by damage to its bytes."""
    head, _, content = valid.partition(b"\r\n\r\n")
    match chance.randrange(5):
        case 0:
            return chance.randbytes(chance.choice((1, 16, 300, 70_000)))
        case 1:
            place = chance.randrange(len(valid))
            return valid[:place] + chance.randbytes(chance.randrange(1, 5)) + valid[place + 1 :]
        case 2:
            return valid[: chance.randrange(1, len(valid))]
        case 3:
            return valid.replace(b"HTTP/1.1", chance.choice((b"HTTP/9.9", b"HTTP/1.0", b"HTTP/2.0", b"")))
        case _:
            name, value = chance.choice(_HEADERS)
            return head + b"\r\n" + name + b": " + value + b"\r\n\r\n" + content


def check_reply(reply: Reply, asked: bytes) -> None:
    """See that no answer is a bug's."""
    assert reply.status < 500 or reply.status in (503, 504), (asked[:300], reply)
