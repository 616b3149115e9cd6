from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runrig.tasks import Reason, TaskState
from runrig_service.api import build_api
from runrig_service.settings import ApiSettings, Settings
from tests.service.runner import Runner

S = TaskState
WEB = {"id": "/shop/web", "cmd": "serve", "labels": {"tier": "web"}}


@pytest.fixture
def runner() -> Runner:
    return Runner()


@pytest.fixture
async def api(runner: Runner, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(tmp_path, api=ApiSettings(max_body_bytes=10_000))
    transport = httpx.ASGITransport(build_api(runner, settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def given_app(api: httpx.AsyncClient, runner: Runner, **fields: object) -> dict[str, Any]:
    answer = await api.post("/v2/apps", json={**WEB, **fields})
    assert answer.status_code == 201, answer.text
    runner.settle()
    return dict(answer.json())


async def test_a_created_app_is_answered_with_itself(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v2/apps", json=WEB)

    assert answer.status_code == 201
    assert answer.headers["location"] == "/v2/apps/shop/web"
    app = answer.json()
    assert (app["id"], app["cmd"], app["instances"], app["tasksRunning"]) == ("/shop/web", "serve", 1, 0)
    assert app["deployments"] == [{"id": answer.headers["marathon-deployment-id"]}]
    assert app["version"] == "2023-11-14T22:13:20.000Z"
    assert None not in app.values()


async def test_an_app_is_not_created_twice(api: httpx.AsyncClient, runner: Runner) -> None:
    await given_app(api, runner)

    answer = await api.post("/v2/apps", json=WEB)

    assert answer.status_code == 409
    assert answer.json() == {"message": "An app with id [/shop/web] already exists."}


async def test_what_is_not_valid_is_told_by_its_paths(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v2/apps", json={**WEB, "cpus": "many", "container": {"docker": {"image": ""}}})

    assert answer.status_code == 422
    body = answer.json()
    assert body["message"] == "Object is not valid"
    assert {each["path"] for each in body["details"]} == {"/cpus", "/container/docker/image"}
    assert all(isinstance(each["errors"], list) for each in body["details"])


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"cpus": NaN}', b"\xff", b"7", b"[" * 5000 + b"]" * 5000, b'{"a":' * 99 + b"1" + b"}" * 99],
)
async def test_what_is_no_json_object_is_refused(api: httpx.AsyncClient, content: bytes) -> None:
    answer = await api.post("/v2/apps", content=content)

    assert answer.status_code == 400
    assert answer.json()["message"] == "Invalid JSON"


async def test_a_body_that_is_too_large_is_refused(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v2/apps", json={**WEB, "cmd": "x" * 20_000})

    assert answer.status_code == 413
    assert answer.json() == {"message": "The body must have at most 10000 bytes"}


async def test_apps_are_listed_and_filtered(api: httpx.AsyncClient, runner: Runner) -> None:
    await given_app(api, runner)
    await given_app(api, runner, id="/shop/db", cmd="store", labels={})

    async def ids(**query: str) -> list[str]:
        answer = await api.get("/v2/apps", params=query)
        return [app["id"] for app in answer.json()["apps"]]

    assert await ids() == ["/shop/db", "/shop/web"]
    assert await ids(id="WEB") == ["/shop/web"]
    assert await ids(cmd="stor") == ["/shop/db"]
    assert await ids(label="tier==web") == ["/shop/web"]
    assert (await api.get("/v2/apps", params={"label": "tier=="})).status_code == 422


async def test_tasks_are_embedded_when_asked_for(api: httpx.AsyncClient, runner: Runner) -> None:
    await given_app(api, runner)

    [plain] = (await api.get("/v2/apps")).json()["apps"]
    [full] = (await api.get("/v2/apps?embed=app.counts&embed=app.tasks")).json()["apps"]

    assert "tasks" not in plain
    assert plain["tasksRunning"] == 1
    assert len(full["tasks"]) == 1


async def test_an_app_is_shown_with_its_tasks(api: httpx.AsyncClient, runner: Runner) -> None:
    await given_app(api, runner)

    app = (await api.get("/v2/apps/shop/web")).json()["app"]

    [task] = app["tasks"]
    assert task["appId"] == "/shop/web"
    assert (task["state"], task["host"], task["slaveId"]) == ("TASK_RUNNING", "h1", "agent-h1")
    assert (task["ports"], task["servicePorts"]) == ([31_000], [10_000])
    assert task["version"] == app["version"]
    assert task["stagedAt"] == task["startedAt"] == "2023-11-14T22:13:20.000Z"


@pytest.mark.parametrize(
    "path", ["/v2/apps//shop/web", "/v2/apps/shop/web/", "/v2//apps/shop//web", "/v2/apps/%2Fshop%2Fweb"]
)
async def test_slashes_may_be_doubled(api: httpx.AsyncClient, runner: Runner, path: str) -> None:
    await given_app(api, runner)

    assert (await api.get(path)).json()["app"]["id"] == "/shop/web"


async def test_the_apps_of_a_group_are_shown(api: httpx.AsyncClient, runner: Runner) -> None:
    await given_app(api, runner)
    await given_app(api, runner, id="/shopping")

    apps = (await api.get("/v2/apps/shop/*")).json()["*"]

    assert [each["id"] for each in apps] == ["/shop/web"]


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/v2/apps/none"),
        ("PATCH", "/v2/apps/none"),
        ("DELETE", "/v2/apps/none"),
        ("POST", "/v2/apps/none/restart"),
        ("GET", "/v2/apps/none/tasks"),
        ("DELETE", "/v2/apps/none/tasks"),
        ("GET", "/v2/apps/none/versions"),
        ("GET", "/v2/apps/none/versions/2023-11-14T22:13:20.000Z"),
    ],
)
async def test_an_app_that_is_not_there_is_404(api: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await api.request(method, path, json={"instances": 2} if method == "PATCH" else None)

    assert answer.status_code == 404
    assert answer.json() == {"message": "App '/none' does not exist"}


async def test_put_creates_and_changes(api: httpx.AsyncClient, runner: Runner) -> None:
    created = await api.put("/v2/apps//shop/web?force=False", json={"cmd": "serve"})
    runner.settle()
    changed = await api.put("/v2/apps//shop/web?force=True", json={"instances": 2})

    assert (created.status_code, changed.status_code) == (201, 200)
    assert created.headers["location"] == "/v2/apps/shop/web"
    assert set(changed.json()) == {"version", "deploymentId"}
    assert changed.headers["marathon-deployment-id"] == changed.json()["deploymentId"]
    assert (await api.get("/v2/apps/shop/web")).json()["app"]["cmd"] == "serve"


async def test_a_put_that_is_not_partial_replaces_the_app(api: httpx.AsyncClient, runner: Runner) -> None:
    await given_app(api, runner)

    refused = await api.put("/v2/apps/shop/web?partialUpdate=False", json={"instances": 2})
    await api.put("/v2/apps/shop/web?partialUpdate=false", json={"cmd": "other"})

    assert refused.status_code == 422
    assert (await api.get("/v2/apps/shop/web")).json()["app"]["labels"] == {}


async def test_several_apps_are_changed_together_or_not_at_all(api: httpx.AsyncClient, runner: Runner) -> None:
    await given_app(api, runner)

    good = await api.put("/v2/apps", json=[{"id": "/shop/web", "instances": 2}, {"id": "/api", "cmd": "serve"}])
    bad = await api.put("/v2/apps", json=[{"id": "/shop/web", "instances": 9}, {"id": "/api", "cpus": -1}])
    missing = await api.patch("/v2/apps", json=[{"id": "/none", "instances": 9}])

    assert (good.status_code, bad.status_code, missing.status_code) == (200, 422, 404)
    apps = (await api.get("/v2/apps")).json()["apps"]
    assert {app["id"]: app["instances"] for app in apps} == {"/api": 1, "/shop/web": 2}


async def test_an_id_in_the_body_must_be_that_of_the_address(api: httpx.AsyncClient) -> None:
    answer = await api.put("/v2/apps/shop/web", json={"id": "/other", "cmd": "serve"})

    assert answer.status_code == 422
    assert answer.json()["details"][0]["path"] == "/id"


async def test_versions_are_listed_shown_and_rolled_back_to(api: httpx.AsyncClient, runner: Runner) -> None:
    first = (await given_app(api, runner))["version"]
    runner.advance(5)
    second = (await api.patch("/v2/apps/shop/web", json={"cmd": "broken"})).json()["version"]

    listed = (await api.get("/v2/apps//shop/web/versions")).json()
    shown = (await api.get(f"/v2/apps//shop/web/versions/{first}")).json()
    rolled = await api.put("/v2/apps/shop/web", json={"version": first})
    missing = await api.get("/v2/apps/shop/web/versions/2001-01-01T00:00:00.000Z")

    assert listed == {"versions": [second, first]}
    assert (shown["cmd"], shown["version"]) == ("serve", first)
    assert rolled.status_code == 200
    assert (await api.get("/v2/apps/shop/web")).json()["app"]["cmd"] == "serve"
    assert missing.status_code == 404


async def test_an_app_is_removed(api: httpx.AsyncClient, runner: Runner) -> None:
    await given_app(api, runner)

    answer = await api.delete("/v2/apps/shop/web")

    assert answer.status_code == 200
    assert set(answer.json()) == {"version", "deploymentId"}
    assert (await api.get("/v2/apps")).json() == {"apps": []}
    assert len((await api.get("/v2/tasks")).json()["tasks"]) == 1
    runner.bury()
    assert (await api.get("/v2/tasks")).json() == {"tasks": []}


async def test_an_app_is_restarted(api: httpx.AsyncClient, runner: Runner) -> None:
    await given_app(api, runner)
    before = runner.running

    answer = await api.post("/v2/apps/shop/web/restart?force=True")
    runner.settle()

    assert answer.status_code == 200
    assert runner.running != before


async def test_tasks_are_listed_by_status(api: httpx.AsyncClient, runner: Runner) -> None:
    await given_app(api, runner)
    await api.patch("/v2/apps/shop/web", json={"instances": 3})
    runner.launch(runner.waiting[0])

    async def states(query: str) -> list[str]:
        return [task["state"] for task in (await api.get(f"/v2/tasks{query}")).json()["tasks"]]

    assert await states("") == ["TASK_RUNNING", "TASK_STAGING"]
    assert await states("?status=running") == ["TASK_RUNNING"]
    assert await states("?status[]=staging") == ["TASK_STAGING"]
    assert (await api.get("/v2/tasks?status=dead")).status_code == 400
    assert len((await api.get("/v2/apps/shop/web/tasks")).json()["tasks"]) == 2


async def test_tasks_are_stopped(api: httpx.AsyncClient, runner: Runner) -> None:
    await given_app(api, runner, instances=4)
    one, two, three, _ = runner.running

    by_ids = await api.post("/v2/tasks/delete", json={"ids": [one]})
    by_name = await api.delete(f"/v2/apps//shop/web/tasks/{two}?scale=False&wipe=False")
    scaled = await api.delete(f"/v2/apps/shop/web/tasks/{three}?scale=True")

    assert [each["id"] for each in by_ids.json()["tasks"]] == [one]
    assert by_name.json()["task"]["id"] == two
    assert set(scaled.json()) == {"version", "deploymentId"}
    assert sorted(runner.stopping) == sorted([one, two, three])
    assert (await api.get("/v2/apps/shop/web")).json()["app"]["instances"] == 3


async def test_stopping_is_refused_when_it_makes_no_sense(api: httpx.AsyncClient, runner: Runner) -> None:
    await given_app(api, runner)

    both = await api.delete("/v2/apps/shop/web/tasks?scale=true&wipe=true")
    unknown = await api.delete("/v2/apps/shop/web/tasks/none")
    no_ids = await api.post("/v2/tasks/delete", json={"ids": [7]})
    no_flag = await api.delete("/v2/apps/shop/web/tasks?scale=maybe")

    assert [each.status_code for each in (both, unknown, no_ids, no_flag)] == [400, 404, 400, 400]
    assert unknown.json() == {"message": "Task 'none' does not exist"}
    assert len(runner.running) == 1


async def test_tasks_of_a_host_are_stopped(api: httpx.AsyncClient, runner: Runner) -> None:
    await given_app(api, runner)

    other = await api.delete("/v2/apps/shop/web/tasks?host=h2")
    all_hosts = await api.delete("/v2/apps/shop/web/tasks?host=*")

    assert (len(other.json()["tasks"]), len(all_hosts.json()["tasks"])) == (0, 1)


async def test_the_last_failure_and_the_health_are_shown(api: httpx.AsyncClient, runner: Runner) -> None:
    await given_app(api, runner, instances=2, healthChecks=[{"protocol": "TCP"}])
    one, two = runner.running
    runner.change(one, S.TASK_FAILED, reason=Reason.OUT_OF_MEMORY)
    runner.change(two, S.TASK_RUNNING, healthy=True)

    app = (await api.get("/v2/apps/shop/web")).json()["app"]

    assert app["lastTaskFailure"]["message"] == "out of memory"
    assert (app["tasksHealthy"], app["tasksUnhealthy"]) == (1, 0)
    assert app["tasks"][0]["healthCheckResults"][0]["alive"] is True


async def test_the_process_says_who_and_how_it_is(api: httpx.AsyncClient, runner: Runner) -> None:
    info = (await api.get("/v2/info")).json()

    assert info["frameworkId"] == "f-1"
    assert {"marathon_config", "zookeeper_config", "http_config"} <= set(info)
    assert (await api.get("/v2/leader")).json() == {"leader": "localhost:8080"}
    assert (await api.get("/ping")).text == "pong"
    assert (await api.get("/ping", headers={"accept": "application/json"})).json() == "pong"
    assert (await api.get("/healthz")).status_code == 200
    assert (await api.get("/readyz")).status_code == 200
    runner.is_connected = False
    assert (await api.get("/readyz")).status_code == 503


async def test_metrics_count_what_there_is(api: httpx.AsyncClient, runner: Runner) -> None:
    await given_app(api, runner, instances=2)

    lines = (await api.get("/metrics")).text.splitlines()

    assert "runrig_service_apps 1.0" in lines
    assert 'runrig_service_instances{state="running"} 2.0' in lines


async def test_what_is_not_served_is_said_in_json(api: httpx.AsyncClient) -> None:
    missing = await api.get("/v3/apps")
    wrong = await api.delete("/ping")

    assert (missing.status_code, missing.json()) == (404, {"message": "URI not found: /v3/apps"})
    assert (wrong.status_code, wrong.json()) == (405, {"message": "Method Not Allowed"})


async def test_an_answer_that_does_not_come_is_504(tmp_path: Path) -> None:
    class Silent(Runner):
        async def ask(self, question: object) -> object:
            await asyncio.Event().wait()
            return question

    settings = Settings(tmp_path, api=ApiSettings(answer_timeout_s=0.01))
    transport = httpx.ASGITransport(build_api(Silent(), settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/v2/apps")

    assert answer.status_code == 504
    assert "look before you repeat it" in answer.json()["message"]


async def test_which_instances_wait_for_an_offer_is_told_with_what_explains_it(
    api: httpx.AsyncClient, runner: Runner
) -> None:
    await api.post("/v2/apps", json={"id": "/shop/web", "cmd": "sleep 1", "instances": 3})
    runner.declines = {"short by 1 cpus": 7}

    said = (await api.get("/v2/waiting/shop/web")).json()
    missing = await api.get("/v2/waiting/shop/none")
    waiting = sorted(runner.wants)
    runner.settle()
    nothing = (await api.get("/v2/waiting/shop/web")).json()

    assert (said["framework_id"], said["group"], said["count"]) == ("f-1", "/shop/web", 3)
    assert sorted(said["task_ids"]) == waiting
    assert (nothing["count"], nothing["task_ids"]) == (0, [])
    assert said["declines"] == [{"reason": "short by 1 cpus", "count": 7}]
    assert missing.status_code == 404
