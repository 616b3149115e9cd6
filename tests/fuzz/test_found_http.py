"""What fuzzing has found in the REST APIs of the frameworks, each by its name."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.fuzz import test_batch_api, test_service_api
from tests.fuzz.http_client import exchanged, request
from tests.fuzz.rounds import PATIENCE_S

HALF_A_PAIR = (b'{"id": "/\\ud800", "cmd": "true"}', b'{"command": "true", "\\ud83d": 1}')


async def test_a_client_that_hangs_up_before_its_body_is_complete_is_no_bug(tmp_path: Path) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
    async with test_service_api.under_fire(tmp_path) as service, test_batch_api.under_fire(tmp_path) as batch:
        for address, path in ((service.address, b"/v2/apps"), (batch.address, b"/v1/jobs")):
            host, port = address.split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(head % path)
            await writer.drain()
            writer.write_eof()
            writer.close()

            assert b"500" not in await asyncio.wait_for(reader.read(), PATIENCE_S)


async def test_half_of_a_surrogate_pair_is_no_text_of_json(tmp_path: Path) -> None:
    async with test_service_api.under_fire(tmp_path) as service, test_batch_api.under_fire(tmp_path) as batch:
        for address, path, body in (
            (service.address, b"/v2/apps", HALF_A_PAIR[0]),
            (batch.address, b"/v1/jobs", HALF_A_PAIR[1]),
        ):
            reply = await exchanged(address, request(b"POST", path, body))

            assert reply.status in (400, 422), reply
            assert reply.message


@pytest.mark.parametrize("field", ["cpus", "mem", "backoffFactor"])
async def test_a_number_beyond_what_a_float_holds_is_refused_by_its_field(tmp_path: Path, field: str) -> None:
    async with test_service_api.under_fire(tmp_path) as service:
        body = json.dumps({"id": "/a", "cmd": "true", field: 10**400}).encode()

        reply = await exchanged(service.address, request(b"POST", b"/v2/apps", body))

        assert reply.status == 422
        assert json.loads(reply.body)["details"][0]["path"] == f"/{field}"
