"""Ask a part whether it is ready, over HTTP."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

PROBE_TIMEOUT_S = 2.0


async def is_ready(url: str) -> bool:
    """Say whether `url` answers; 5xx is an answer of one that is not ready. No url: nothing to wait for."""
    if not url:
        return True
    with suppress(OSError, TimeoutError, ValueError, IndexError):
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return await _status(url) < 500
    return False


async def _status(url: str) -> int:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        await writer.drain()
        line = await reader.readline()  # HTTP/1.1 200 OK
        return int(line.split()[1])
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
