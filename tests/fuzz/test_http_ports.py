"""HTTP ports under fire: random bytes, strange requests, and connections that say little or nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random

import pytest

from runrig.serving import serving_http
from runrig_service.api import build_api
from runrig_service.settings import Settings
from tests.fuzz import http_client
from tests.fuzz.faults import no_faults
from tests.fuzz.http_client import exchanged, request
from tests.fuzz.master_target import under_fire
from tests.fuzz.rounds import PATIENCE_S, rounds
from tests.service.runner import Runner

STRIKES = 250
EXPLAIN = (
    b"/v1/explain?kind=framework&id=steady",
    b"/v1/explain?kind=agent&id=",
    b"/v1/explain?kind=demand&id=%ff%00&framework=\xc3\x28",
    b"/v1/explain?id=" + b"x" * 3_000,
)
HALVES = (b"", b"G", b"POST /v2/apps HTTP/1.1\r\nHost: localhost\r\n", b"POST /v2/apps HTTP/1.1\r\nHost: localhost\r\n")


async def strike(address: str, chance: Random) -> None:
    """Ask something strange of a port for health and metrics."""
    path = chance.choice((b"/healthz", b"/readyz", b"/metrics", *EXPLAIN, *http_client.TEXTS))
    method = chance.choice((b"GET", b"GET", *http_client.METHODS))
    asked = request(method, path, chance.choice((b"", b"", b"{}", chance.randbytes(5_000))))
    if chance.random() < 0.6:
        asked = http_client.strange(asked, chance)
    reply = await exchanged(address, asked, is_half_closed=True)
    http_client.check_reply(reply, asked)


@pytest.mark.parametrize("seed", rounds(2))
async def test_nothing_that_is_sent_to_the_masters_http_port_harms_the_master(seed: int) -> None:
    chance = Random(seed)
    async with under_fire() as target:
        for _ in range(STRIKES):
            await strike(target.served.http, chance)

        for path in (b"/healthz", b"/readyz", b"/metrics"):
            assert (await exchanged(target.served.http, request(b"GET", path))).status == 200


async def test_connections_whose_request_never_ends_are_closed_and_leave_room_for_others(tmp_path: Path) -> None:
    api = build_api(Runner(), Settings(tmp_path))
    with no_faults():
        async with serving_http(api, "127.0.0.1:0", "HTTP", most_connections=9, request_timeout_s=0.2) as address:
            host, port = address.split(":")
            opened = [await asyncio.open_connection(host, int(port)) for _ in range(12)]
            for number, (_, writer) in enumerate(opened):
                writer.write(HALVES[number % len(HALVES)])
                if number % len(HALVES) == 3:
                    writer.write(b"Content-Length: 100\r\n\r\n{")

            ends = [await asyncio.wait_for(reader.read(), PATIENCE_S) for reader, _ in opened]

            assert all(end == b"" or end.startswith((b"HTTP/1.1 400", b"HTTP/1.1 503")) for end in ends), ends
            app = json.dumps({"id": "/late", "cmd": "true"}).encode()
            assert (await exchanged(address, request(b"POST", b"/v2/apps", app))).status == 201
            for _, writer in opened:
                writer.close()


async def test_a_request_that_comes_byte_by_byte_in_time_is_answered() -> None:
    async with under_fire() as target:
        host, port = target.served.http.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for byte in request(b"GET", b"/healthz"):
            writer.write(bytes([byte]))
            await writer.drain()

        answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"ok\n")
