"""The REST API of the service framework under fire, over loopback; the cluster below it is in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runrig.serving import serving_http
from runrig_service.api import build_api
from runrig_service.settings import ApiSettings, Settings
from tests.fuzz import http_client, json_values
from tests.fuzz.faults import no_faults
from tests.fuzz.http_client import Reply, exchanged, request
from tests.fuzz.rounds import rounds
from tests.service.runner import Runner

STRIKES = 250
APP: dict[str, Any] = {
    "id": "/shop/web",
    "cmd": "serve $PORT0",
    "args": None,
    "instances": 2,
    "cpus": 0.5,
    "mem": 64,
    "disk": 1,
    "gpus": 0,
    "user": "nobody",
    "env": {"A": "b"},
    "labels": {"tier": "web"},
    "constraints": [["hostname", "UNIQUE"], ["rack", "LIKE", "a.*"], ["rack", "MAX_PER", "2"]],
    "container": {
        "type": "DOCKER",
        "docker": {"image": "busybox", "forcePullImage": True, "parameters": [{"key": "a", "value": "b"}]},
        "volumes": [{"containerPath": "/d", "hostPath": "/d", "mode": "RO"}],
        "portMappings": [{"containerPort": 80, "hostPort": 0, "servicePort": 10_001, "name": "http", "labels": {}}],
    },
    "networks": [{"mode": "container/bridge"}],
    "portDefinitions": [{"port": 10_000, "protocol": "tcp", "name": "http", "labels": {"a": "b"}}],
    "requirePorts": False,
    "fetch": [{"uri": "https://localhost/a.tgz", "extract": True, "executable": False, "destPath": "a"}],
    "healthChecks": [
        {
            "protocol": "MESOS_HTTP",
            "path": "/",
            "portIndex": 0,
            "gracePeriodSeconds": 3,
            "intervalSeconds": 2,
            "timeoutSeconds": 1,
            "maxConsecutiveFailures": 2,
        },
        {"protocol": "COMMAND", "command": {"value": "true"}},
    ],
    "backoffSeconds": 1,
    "backoffFactor": 1.5,
    "maxLaunchDelaySeconds": 60,
    "upgradeStrategy": {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.5},
    "unreachableStrategy": {"inactiveAfterSeconds": 1, "expungeAfterSeconds": 2},
    "killSelection": "YOUNGEST_FIRST",
    "taskKillGracePeriodSeconds": 2,
    "role": None,
    "acceptedResourceRoles": ["*"],
    "dependencies": ["../db"],
}
PLAIN = {name: APP[name] for name in ("id", "cmd", "instances", "cpus", "mem", "labels", "constraints", "env")}
QUERIES = (
    b"?force=maybe",
    b"?scale=true&wipe=true",
    b"?embed=apps.tasks&embed=\xff",
    b"?label=%00&id=%ff&cmd=((((",
    b"?label=tier==web,,in(,)",
    b"?partialUpdate=2",
    b"?status=lost",
    b"?host=%ed%a0%80&" + b"a=b&" * 500,
    b"?=&&&=%",
    b"",
)
PATHS = (
    (b"POST", b"/v2/apps"),
    (b"PUT", b"/v2/apps"),
    (b"PATCH", b"/v2/apps"),
    (b"GET", b"/v2/apps"),
    (b"PUT", b"/v2/apps/shop/web"),
    (b"PATCH", b"/v2/apps/shop/web"),
    (b"GET", b"/v2/apps/shop/web"),
    (b"POST", b"/v2/apps/shop/web/restart"),
    (b"GET", b"/v2/apps/shop/web/versions"),
    (b"GET", b"/v2/apps/shop/web/versions/2023-11-14T22:13:20.000Z"),
    (b"GET", b"/v2/waiting/shop/web"),
    (b"GET", b"/v2/apps/shop/web/tasks"),
    (b"DELETE", b"/v2/apps/shop/web/tasks"),
    (b"DELETE", b"/v2/apps/shop/web/tasks/shop_web.1"),
    (b"DELETE", b"/v2/apps/shop/web"),
    (b"GET", b"/v2/tasks"),
    (b"POST", b"/v2/tasks/delete"),
    (b"GET", b"/v2/info"),
    (b"GET", b"/v2/leader"),
    (b"GET", b"/metrics"),
)


@dataclass
class Target:
    """The API, its logic, and an app that nobody shall disturb."""

    address: str
    runner: Runner
    apps: int = 0

    async def check(self) -> None:
        """See that a fresh app is deployed and runs, that all can be shown, and that a new process takes all up."""
        self.apps += 1
        steady = {"id": f"/steady/{self.apps}", "cmd": "true"}
        reply = await exchanged(self.address, request(b"POST", b"/v2/apps", json.dumps(steady).encode()))
        assert reply.status == 201, reply
        self.runner.start([each for each in self.runner.waiting if f"steady_{self.apps}." in each])
        self.runner.crash()
        for number in range(1, self.apps + 1):
            reply = await exchanged(self.address, request(b"GET", f"/v2/apps/steady/{number}".encode()))
            assert json.loads(reply.body)["app"]["tasksRunning"] == 1, reply
        for path in (b"/v2/apps?embed=apps.tasks", b"/v2/tasks", b"/metrics"):
            assert (await exchanged(self.address, request(b"GET", path))).status == 200


@asynccontextmanager
async def under_fire(directory: Path) -> AsyncIterator[Target]:
    """Serve the API; see at the end that nothing was logged that is a bug."""
    runner = Runner()
    api = build_api(runner, Settings(directory, api=ApiSettings(max_body_bytes=100_000)))
    with no_faults():
        async with serving_http(api, "127.0.0.1:0", "the API") as address:
            target = Target(address, runner)
            yield target
            await target.check()


async def strike(target: Target, chance: Random) -> None:
    method, path = chance.choice(PATHS) if chance.random() < 0.9 else (chance.choice(http_client.METHODS), b"/v2/apps")
    valid = chance.choice((APP, PLAIN, PLAIN))
    content: bytes = json_values.body([valid] if path == b"/v2/apps" and method != b"POST" else valid, chance)
    if path.endswith(b"/delete"):
        content = json_values.body({"ids": ["shop_web.1", "x"]}, chance)
    if chance.random() < 0.3:
        path += chance.choice(http_client.TEXTS)
    if chance.random() < 0.3:
        path += chance.choice(QUERIES)
    asked = request(method, path, content)
    is_strange = chance.random() < 0.25
    if is_strange:
        asked = http_client.strange(asked, chance)
    reply = await exchanged(target.address, asked, is_half_closed=is_strange)
    check(reply, asked)
    target.runner.advance(chance.choice((0, 0.1, 5)))


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
async def test_nothing_that_is_sent_to_the_service_api_harms_it_or_the_apps_of_others(
    seed: int, tmp_path: Path
) -> None:
    await barrage(seed, tmp_path)
