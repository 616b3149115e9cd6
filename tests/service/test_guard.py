from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from runrig_service.api import build_api
from runrig_service.settings import ApiSettings, Settings
from tests.service.runner import Runner


@pytest.mark.parametrize(
    "listens_on, headers, status",
    [
        ("127.0.0.1", {"host": "127.0.0.1:8080"}, 200),
        ("127.0.0.1", {"host": "localhost"}, 200),
        ("127.0.0.1", {"host": "[::1]:8080"}, 200),
        ("127.0.0.1", {"host": "evil.example:8080"}, 403),
        ("127.0.0.1", {"host": "localhost:8080", "origin": "http://localhost:8080"}, 200),
        ("127.0.0.1", {"host": "localhost:8080", "origin": "http://evil.example"}, 403),
        ("127.0.0.1", {"host": "localhost:8080", "origin": "null"}, 403),
        ("0.0.0.0", {"host": "service.example:8080"}, 200),
        ("0.0.0.0", {"host": "service.example:8080", "origin": "https://evil.example"}, 403),
    ],
)
async def test_pages_of_other_sites_are_kept_away(
    tmp_path: Path, listens_on: str, headers: dict[str, str], status: int
) -> None:
    transport = httpx.ASGITransport(build_api(Runner(), Settings(tmp_path, api=ApiSettings(host=listens_on))))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        answer = await client.get("/v2/apps", headers=headers)

    assert answer.status_code == status
