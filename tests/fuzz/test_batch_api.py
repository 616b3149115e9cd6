"""The REST API of the batch framework under fire, over loopback; the cluster below it is in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runrig.serving import serving_http
from tests.batch.runner import Runner
from tests.fuzz import http_client, json_values
from tests.fuzz.faults import no_faults
from tests.fuzz.http_client import Reply, exchanged, request
from tests.fuzz.rounds import rounds

STRIKES = 250
JOB: dict[str, Any] = {
    "name": "squares",
    "command": "echo $RUNRIG_INDEX",
    "image": "busybox",
    "env": {"A": "b"},
    "cpus": 0.5,
    "mem": "64M",
    "disk": "1G",
    "gpus": 0,
    "array": "0-9,20",
    "parallelism": 2,
    "retries": 1,
    "retry_delay": "1s",
    "timeout": "1h",
    "kill_grace": "2s",
    "constraints": [["hostname", "UNIQUE"], ["rack", "LIKE", "a.*"]],
    "priority": 1,
    "role": "batch",
    "user": "nobody",
    "fetch": [{"uri": "https://localhost/a.tgz", "destination": "a", "extract": True}],
    "labels": {"team": "red"},
    "key": "once",
}
PLAIN = {"argv": ["true", "-x"], "items": ["a", "b"], "labels": {"team": "red"}, "env": {"A": "b"}, "cpus": 1}
TOML = b'name = "t"\ncommand = "true"\ncpus = 1\n[labels]\nteam = "red"\n'
PATHS = (
    (b"GET", b"/v1/jobs"),
    (b"GET", b"/v1/jobs/steady-1"),
    (b"GET", b"/v1/jobs/steady-1/description"),
    (b"GET", b"/v1/jobs/steady-1/waiting"),
    (b"GET", b"/v1/jobs/steady-1/logs"),
    (b"GET", b"/v1/jobs/steady-1/wait"),
    (b"GET", b"/v1/jobs/squares-1/logs"),
    (b"GET", b"/v1/jobs/squares-1/wait"),
    (b"DELETE", b"/v1/jobs/squares-1"),
    (b"POST", b"/v1/jobs/squares-2/kill"),
    (b"GET", b"/v1/info"),
    (b"GET", b"/metrics"),
)
QUERIES = (
    b"?timeout=0.01s",
    b"?timeout=-1",
    b"?timeout=1e999h",
    b"?timeout=999999999999999999999999d",
    b"?index=-1",
    b"?index=9999999999999999",
    b"?index=%ff",
    b"?attempt=x&framed=maybe",
    b"?stream=stdin",
    b"?index=0&attempt=1",
    b"?limit=0",
    b"?limit=99999999999999999999",
    b"?limit=%C2%B2",
    b"?before=-1&state=lost",
    b"?label=:",
    b"?label=%00&prefix=((((",
    b"?after=x",
    b"?=&&&=%",
    b"?" + b"a=b&" * 500,
)


@dataclass
class Target:
    """The API, what is below it, and a job that nobody shall disturb."""

    address: str
    runner: Runner
    jobs: int = 0

    async def check(self) -> None:
        """See that a fresh job runs to its end, through a restart of the framework, and that all can be shown."""
        self.jobs += 1
        steady = {"name": "steady", "command": "true", "priority": 100}
        reply = await exchanged(self.address, request(b"POST", b"/v1/jobs", json.dumps(steady).encode()))
        assert reply.status == 201, reply
        self.runner.cluster.restart()
        task = f"{json.loads(reply.body)['id']}.0.1"
        self.runner.cluster.launch(task)
        self.runner.cluster.finish(task)
        job = json.loads((await exchanged(self.address, request(b"GET", b"/v1/jobs/steady-1"))).body)
        assert job["state"] == "succeeded", job
        for path in (b"/v1/jobs?limit=1000", b"/metrics", b"/v1/info"):
            assert (await exchanged(self.address, request(b"GET", path))).status == 200


@asynccontextmanager
async def under_fire(directory: Path) -> AsyncIterator[Target]:
    """Serve the API; see at the end that nothing was logged that is a bug."""
    runner = Runner(directory)
    with no_faults():
        async with serving_http(runner.app, "127.0.0.1:0", "the API") as address:
            target = Target(address, runner)
            await target.check()
            yield target
            await target.check()
    await runner.http.aclose()


async def strike(target: Target, chance: Random) -> None:
    headers: list[tuple[bytes, bytes]] = []
    content = b""
    if chance.random() < 0.6:
        method, path = b"POST", b"/v1/jobs"
        content = json_values.body(chance.choice((JOB, PLAIN)), chance)
        if chance.random() < 0.15:
            headers.append((b"Content-Type", b"application/toml"))
            content = chance.choice((TOML, content, TOML[: chance.randrange(len(TOML))], TOML + chance.randbytes(4)))
    else:
        method, path = chance.choice(PATHS)
        if chance.random() < 0.3:
            path += chance.choice(http_client.TEXTS)
        if chance.random() < 0.6:
            path += chance.choice(QUERIES)
        if b"/wait" in path:
            path += b"&timeout=0.01s" if b"?" in path else b"?timeout=0.01s"
    asked = request(method, path, content, *headers)
    is_strange = chance.random() < 0.2
    if is_strange:
        asked = http_client.strange(asked, chance)
    asking = asyncio.create_task(exchanged(target.address, asked, is_half_closed=is_strange))
    while not asking.done():
        target.runner.cluster.advance(0.1)  # what waits, waits for the cluster's time
        await asyncio.sleep(0)
    check(asking.result(), asked)


def check(reply: Reply, asked: bytes) -> None:
    http_client.check_reply(reply, asked)
    if reply.status >= 400 and b"application/json" in reply.head and reply.body:
        assert reply.message, (asked[:300], reply)
        assert len(reply.body) < 20_000, (asked[:300], len(reply.body))


async def barrage(seed: int, directory: Path) -> None:
    """Strike until the API breaks, or it is enough."""
    chance = Random(seed)
    async with under_fire(directory) as target:
        for number in range(STRIKES):
            await strike(target, chance)
            if number % 50 == 0:
                await target.check()


@pytest.mark.parametrize("seed", rounds(3))
async def test_nothing_that_is_sent_to_the_batch_api_harms_it_or_the_jobs_of_others(seed: int, tmp_path: Path) -> None:
    await barrage(seed, tmp_path)
