from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from runrig.tasks import Reason, TaskState
from runrig_batch.collector import Collector
from runrig_batch.core.limits import Limits
from tests.batch.runner import Runner


@pytest_asyncio.fixture
async def runner(tmp_path: Path) -> AsyncIterator[Runner]:
    runner = Runner(tmp_path)
    yield runner
    await runner.http.aclose()


async def submitted(runner: Runner, **description: object) -> str:
    response = await runner.http.post("/v1/jobs", json={"name": "job", "command": "true", **description})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def until_stuck() -> None:
    """Let every task of the loop go on as far as it can."""
    for _ in range(30):
        await asyncio.sleep(0)


async def eventually(is_so: Callable[[], bool], passing: Runner | None = None) -> None:
    """Go on until it is so; threads write files, and the cluster's time passes if one is given."""
    for _ in range(2000):
        if is_so():
            return
        if passing is not None:
            passing.cluster.advance(1.1)
        await asyncio.sleep(0.001)
    raise AssertionError("it never came to be")


async def test_a_submitted_job_runs_and_is_shown_to_its_end(runner: Runner) -> None:
    response = await runner.http.post("/v1/jobs", json={"command": "echo hello", "array": 3})
    job = response.json()
    assert (response.status_code, response.headers["location"]) == (201, f"/v1/jobs/{job['id']}")
    assert (job["id"], job["state"], job["counts"]["waiting"]) == ("echo-1", "waiting", 3)

    runner.cluster.launch()
    runner.cluster.finish("echo-1.0.1", "echo-1.1.1")

    job = (await runner.http.get("/v1/jobs/echo-1")).json()
    assert job["state"] == "running"
    assert job["counts"] == {
        "waiting": 0,
        "running": 1,
        "retrying": 0,
        "succeeded": 2,
        "failed": 0,
        "killed": 0,
    }
    assert [task["state"] for task in job["tasks"]] == ["succeeded", "succeeded", "running"]
    assert job["tasks"][0]["exit_code"] == 0
    runner.cluster.finish()
    assert (await runner.http.get("/v1/jobs/echo-1")).json()["state"] == "succeeded"


async def test_a_description_comes_back_as_it_can_be_submitted_again(runner: Runner) -> None:
    job_id = await submitted(runner, array="0-4,9", env={"A": "b"}, cpus=0.5, mem="1G", timeout="1h30m", retries=2)

    description = (await runner.http.get(f"/v1/jobs/{job_id}/description")).json()

    again = await runner.http.post("/v1/jobs", json=description)
    assert again.status_code == 201
    assert (await runner.http.get(f"/v1/jobs/{again.json()['id']}/description")).json() == description
    assert description["array"] == "0-4,9"
    assert description["timeout"] == "1h30m"


async def test_toml_is_understood(runner: Runner) -> None:
    response = await runner.http.post(
        "/v1/jobs", content='command = "true"\n[env]\nA = "1"\n', headers={"content-type": "application/toml"}
    )

    assert response.status_code == 201


@pytest.mark.parametrize(
    "body, status",
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"", 400),
        (b"[" * 50_000, 400),
        (b'{"command": "x", "array": ' + b"9" * 5_000 + b"}", 400),
        (b"[]", 422),
        (b"null", 422),
        (b'{"command": "x", "cpus": NaN}', 422),
        (b'{"command": "\\ud800"}', 422),
        (b'{"command": "x", "env": {"\\ud800": "x"}}', 422),
        (b'{"command": "x", "\\ud800": 1}', 422),
        (b'{"command": "x", "cpus": 1e400}', 422),
        (b'{"command": "x", "array": 1e30}', 422),
        (b'{"command": "x", "array": 1000000000000000000000000000000}', 422),
        (b'{"command": "' + b"x" * 100_000 + b'"}', 413),
    ],
)
async def test_a_body_that_is_no_job_is_refused(runner: Runner, body: bytes, status: int) -> None:
    response = await runner.http.post("/v1/jobs", content=body)

    assert response.status_code == status
    assert response.json()["message"]


async def test_a_wrong_field_is_refused_with_its_name_its_value_and_what_is_allowed(runner: Runner) -> None:
    response = await runner.http.post("/v1/jobs", json={"command": "true", "retries": -1})

    assert response.status_code == 422
    said = response.json()
    assert (said["field"], said["value"]) == ("retries", -1)
    assert "0 to 100" in said["allowed"]
    assert "retries" in said["message"]


async def test_a_job_that_is_not_there_is_404_everywhere(runner: Runner) -> None:
    calls = [
        ("GET", "/v1/jobs/x-1"),
        ("DELETE", "/v1/jobs/x-1"),
        ("POST", "/v1/jobs/x-1/kill"),
        ("GET", "/v1/jobs/x-1/logs"),
        ("GET", "/v1/jobs/x-1/logs?index=0"),
        ("GET", "/v1/jobs/x-1/wait"),
        ("GET", "/v1/jobs/x-1/description"),
        ("GET", "/v1/nothing"),
    ]

    answers = [await runner.http.request(method, path) for method, path in calls]

    assert [answer.status_code for answer in answers] == [404] * len(calls)
    assert all(answer.json()["message"] for answer in answers)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs?state=done",
        "/v1/jobs?limit=0",
        "/v1/jobs?limit=1e3",
        "/v1/jobs?before=-1",
        "/v1/jobs?label=x",
        "/v1/jobs?color=red",
        "/v1/jobs/job-1?state=active",
        "/v1/jobs/job-1?after=x",
        "/v1/jobs/job-1/wait?timeout=soon",
        "/v1/jobs/job-1/logs?stream=stdin",
        "/v1/jobs/job-1/logs?follow=maybe",
        "/v1/jobs/job-1/logs?index=-1",
        "/v1/jobs/job-1/logs",
    ],
)
async def test_a_wrong_parameter_is_refused_by_name(runner: Runner, path: str) -> None:
    await submitted(runner, array=2)

    response = await runner.http.get(path)

    assert response.status_code == 422
    assert {"field", "value", "allowed", "message"} == set(response.json())


async def test_a_key_makes_a_submission_idempotent(runner: Runner) -> None:
    first = await runner.http.post("/v1/jobs", json={"command": "true", "key": "nightly"})

    second = await runner.http.post("/v1/jobs", json={"command": "true", "key": "nightly"})
    other = await runner.http.post("/v1/jobs", json={"command": "false", "key": "nightly"})

    assert (first.status_code, second.status_code, other.status_code) == (201, 200, 409)
    assert second.json()["id"] == first.json()["id"]
    assert "nightly" in other.json()["message"]


async def test_jobs_are_listed_newest_first_by_state_label_and_page(runner: Runner) -> None:
    ids = [await submitted(runner, labels={"team": "red" if number % 2 else "blue"}) for number in range(5)]
    runner.cluster.launch("job-1.0.1")
    runner.cluster.finish()

    async def listed(**params: Any) -> list[str]:
        response = await runner.http.get("/v1/jobs", params=params)
        return [job["id"] for job in response.json()["jobs"]]

    assert await listed() == list(reversed(ids))
    assert await listed(state="active") == ["job-5", "job-4", "job-3", "job-2"]
    assert await listed(state="succeeded") == ["job-1"]
    assert await listed(label="team:red") == ["job-4", "job-2"]
    page = (await runner.http.get("/v1/jobs?limit=2")).json()
    assert [job["id"] for job in page["jobs"]] == ["job-5", "job-4"]
    assert await listed(limit=2, before=page["next_before"]) == ["job-3", "job-2"]


async def test_indices_are_paged_and_chosen_by_state(runner: Runner) -> None:
    job_id = await submitted(runner, array=10)
    runner.cluster.launch()
    runner.cluster.fail("job-1.3.1", 7)

    failed = (await runner.http.get(f"/v1/jobs/{job_id}?state=failed")).json()
    page = (await runner.http.get(f"/v1/jobs/{job_id}?limit=4")).json()
    rest = (await runner.http.get(f"/v1/jobs/{job_id}?limit=40&after={page['next_after']}")).json()

    assert [(task["index"], task["exit_code"]) for task in failed["tasks"]] == [(3, 7)]
    assert [task["index"] for task in page["tasks"]] == [0, 1, 2, 3]
    assert [task["index"] for task in rest["tasks"]] == [4, 5, 6, 7, 8, 9]
    assert rest["next_after"] is None


async def test_killing_answers_at_once_and_again_changes_nothing(runner: Runner) -> None:
    job_id = await submitted(runner, array=2, parallelism=1)
    runner.cluster.launch()

    killed = (await runner.http.delete(f"/v1/jobs/{job_id}")).json()
    assert (killed["state"], killed["is_stopping"]) == ("running", True)
    assert runner.cluster.stopping == {"job-1.0.1"}
    runner.cluster.says("job-1.0.1", TaskState.TASK_KILLED, Reason.KILLED_BY_FRAMEWORK)

    again = await runner.http.post(f"/v1/jobs/{job_id}/kill")
    assert again.status_code == 200
    assert (again.json()["state"], again.json()["counts"]["killed"]) == ("killed", 2)


async def test_waiting_is_answered_by_the_end(runner: Runner) -> None:
    job_id = await submitted(runner)
    waiting = asyncio.create_task(runner.http.get(f"/v1/jobs/{job_id}/wait?timeout=60"))
    await until_stuck()
    assert not waiting.done()

    runner.cluster.launch()
    runner.cluster.finish()

    assert (await waiting).json()["state"] == "succeeded"


async def test_waiting_is_answered_by_its_time(runner: Runner) -> None:
    job_id = await submitted(runner)
    waiting = asyncio.create_task(runner.http.get(f"/v1/jobs/{job_id}/wait?timeout=60"))
    await until_stuck()

    runner.cluster.advance(61)

    assert (await waiting).json()["state"] == "waiting"


async def test_live_output_is_read_from_the_agent(runner: Runner) -> None:
    job_id = await submitted(runner)
    runner.cluster.launch()
    runner.sandboxes.write("job-1.0.1", b"out\n")
    runner.sandboxes.write("job-1.0.1", b"err\n", "stderr")

    async def read(query: str) -> bytes:
        return (await runner.http.get(f"/v1/jobs/{job_id}/logs?{query}")).content

    assert await read("stream=stdout") == b"out\n"
    assert await read("stream=stderr") == b"err\n"
    assert await read("") == b"out\nerr\n"
    assert await read("framed=true") == b"\x01\x00\x00\x00\x04out\n\x02\x00\x00\x00\x04err\n"


async def test_a_follower_of_a_task_that_waits_is_told_so_once(runner: Runner) -> None:
    job_id = await submitted(runner)
    following = asyncio.create_task(runner.http.get(f"/v1/jobs/{job_id}/logs?follow=true&framed=true"))
    await until_stuck()
    for _ in range(5):
        runner.cluster.advance(40)
        await until_stuck()

    await runner.http.delete(f"/v1/jobs/{job_id}")

    assert (await following).content.count(b"job-1.0.1 waits for room") == 1


async def test_following_goes_through_the_retries_and_ends_with_the_index(runner: Runner) -> None:
    job_id = await submitted(runner, retries=1)
    following = asyncio.create_task(runner.http.get(f"/v1/jobs/{job_id}/logs?follow=true"))
    await until_stuck()
    runner.cluster.launch()
    await until_stuck()
    runner.sandboxes.write("job-1.0.1", b"first\n")
    await until_stuck()
    runner.sandboxes.end("job-1.0.1")
    runner.cluster.fail("job-1.0.1")
    await until_stuck()
    runner.cluster.advance(2)
    runner.cluster.launch()
    await until_stuck()
    runner.sandboxes.write("job-1.0.2", b"second\n")
    runner.sandboxes.end("job-1.0.2")
    runner.cluster.finish()

    assert (await following).content == b"first\nsecond\n"


async def test_a_follower_whose_agent_breaks_off_gets_the_rest_once(runner: Runner) -> None:
    job_id = await submitted(runner)
    runner.cluster.launch()
    following = asyncio.create_task(runner.http.get(f"/v1/jobs/{job_id}/logs?follow=true"))
    runner.sandboxes.write("job-1.0.1", b"one\n")
    await until_stuck()
    runner.sandboxes.go_down()
    await eventually(lambda: len(runner.sandboxes.reads) >= 2, runner)
    runner.sandboxes.is_down = False

    runner.sandboxes.write("job-1.0.1", b"two\n")
    runner.sandboxes.end("job-1.0.1")
    runner.cluster.finish()
    await eventually(following.done, runner)

    assert following.result().content == b"one\ntwo\n"


async def test_an_agent_that_does_not_answer_is_a_503(runner: Runner) -> None:
    job_id = await submitted(runner)
    runner.cluster.launch()
    runner.sandboxes.go_down()

    response = await runner.http.get(f"/v1/jobs/{job_id}/logs")

    assert response.status_code == 503


async def test_output_outlives_the_agent(runner: Runner) -> None:
    job_id = await submitted(runner, array=2)
    runner.cluster.launch()
    runner.sandboxes.write("job-1.0.1", b"kept\n")
    runner.sandboxes.write("job-1.1.1", b"x" * 5000)
    runner.cluster.finish()

    await collect(runner)
    runner.sandboxes.go_down()

    assert (await runner.http.get(f"/v1/jobs/{job_id}/logs?index=0")).content == b"kept\n"
    clipped = (await runner.http.get(f"/v1/jobs/{job_id}/logs?index=1")).content
    assert b"4000 bytes are left out" in clipped
    assert len(clipped) < 1100


async def test_the_latest_output_of_an_index_that_pauses_is_that_of_its_failure(runner: Runner) -> None:
    job_id = await submitted(runner, retries=1)
    runner.cluster.launch()
    runner.sandboxes.write("job-1.0.1", b"why it failed\n")
    runner.sandboxes.end("job-1.0.1")
    runner.cluster.fail("job-1.0.1")

    assert (await runner.http.get(f"/v1/jobs/{job_id}/logs")).content == b"why it failed\n"


async def test_output_of_an_agent_that_is_gone_is_said_to_be_missing(runner: Runner) -> None:
    job_id = await submitted(runner)
    runner.cluster.launch()
    runner.cluster.finish()
    runner.sandboxes.is_wiped = True

    await collect(runner)

    framed = (await runner.http.get(f"/v1/jobs/{job_id}/logs?framed=true")).content
    assert framed.startswith(b"\x03")
    assert b"could not be fetched" in framed


async def test_output_is_fetched_after_a_restart_and_after_an_agent_came_back(runner: Runner) -> None:
    await submitted(runner)
    runner.cluster.launch()
    runner.sandboxes.write("job-1.0.1", b"late\n")
    runner.cluster.finish()
    runner.cluster.restart()
    runner.sandboxes.is_down = True
    collecting = asyncio.create_task(collect(runner))
    await eventually(lambda: len(runner.sandboxes.reads) >= 3)

    runner.sandboxes.is_down = False
    await collecting

    assert (await runner.http.get("/v1/jobs/job-1/logs")).content == b"late\n"
    assert not any(key.startswith("output/") for key in runner.cluster.entries)


async def test_output_of_a_forgotten_job_is_deleted(tmp_path: Path) -> None:
    runner = Runner(tmp_path, limits=Limits(retained_jobs=1))
    for _ in range(2):
        await submitted(runner)
        runner.cluster.launch()
        runner.sandboxes.write(next(iter(runner.cluster.live)), b"x")
        runner.cluster.finish()
        await collect(runner)

    await collect(runner)
    await eventually(lambda: len(list((tmp_path / "outputs").iterdir())) == 1)

    assert [folder.name for folder in (tmp_path / "outputs").iterdir()] == ["job-2"]
    assert (await runner.http.get("/v1/jobs/job-1")).status_code == 404


async def collect(runner: Runner) -> None:
    """Run the collector until nothing is left to fetch."""
    collector = Collector(runner.mind, runner.sandboxes, runner.files, runner.settings.outputs)
    running = asyncio.create_task(collector.run())
    await until_stuck()
    await eventually(lambda: not any(key.startswith("output/") for key in runner.cluster.entries))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_job_of_a_role_that_the_framework_has_not_is_refused(runner: Runner) -> None:
    response = await runner.http.post("/v1/jobs", json={"command": "true", "role": "other"})

    assert response.status_code == 422
    assert response.json()["allowed"] == "the roles of this framework: batch, eng/ads"


async def test_health_info_and_metrics(runner: Runner) -> None:
    await submitted(runner, array=4)
    runner.cluster.launch()
    runner.cluster.finish("job-1.0.1")

    assert (await runner.http.get("/healthz")).status_code == 200
    assert (await runner.http.get("/readyz")).status_code == 200
    runner.mind.is_connected = False
    assert (await runner.http.get("/readyz")).status_code == 503
    info = (await runner.http.get("/v1/info")).json()
    assert (info["is_connected"], info["limits"]["max_tasks"]) == (False, 100_000)
    metrics = (await runner.http.get("/metrics")).text
    assert 'runrig_batch_tasks{state="running"} 3.0' in metrics
    assert 'runrig_batch_attempts_ended_total{verdict="success"} 1.0' in metrics


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"host": "evil.example:8090", "origin": "http://evil.example:8090"},
        {"host": "evil.example"},
        {"host": "[::1"},
        {"host": ""},
    ],
)
async def test_a_web_page_cannot_submit_jobs(runner: Runner, headers: dict[str, str]) -> None:
    response = await runner.http.post("/v1/jobs", json={"command": "true"}, headers=headers)

    assert response.status_code == 403
    assert not runner.cluster.wanted


@pytest.mark.parametrize("host", ["localhost:8090", "127.0.0.1", "[::1]:8090"])
async def test_this_machine_may_by_any_of_its_names(runner: Runner, host: str) -> None:
    headers = {"host": host, "origin": f"http://{host}"}

    assert (await runner.http.post("/v1/jobs", json={"command": "true"}, headers=headers)).status_code == 201


async def test_a_method_that_is_not_there_is_refused_in_json(runner: Runner) -> None:
    response = await runner.http.put("/v1/jobs")

    assert response.status_code == 405
    assert response.json()["message"]


async def test_what_of_a_job_waits_for_an_offer_is_told_with_what_explains_it(runner: Runner) -> None:
    job = await submitted(runner, array=150)
    runner.mind.declines = {"nothing is wanted": 2, "short by 1 cpus": 7}

    said = (await runner.http.get(f"/v1/jobs/{job}/waiting")).json()
    missing = await runner.http.get("/v1/jobs/nope-1/waiting")
    runner.cluster.launch("job-1.0.1", "job-1.2.1")
    less = (await runner.http.get(f"/v1/jobs/{job}/waiting")).json()
    odd = await runner.http.get(f"/v1/jobs/{job}/waiting?limit=1")

    assert (said["framework_id"], said["group"], said["count"]) == ("fw", job, 150)
    assert said["task_ids"] == [f"{job}.{index}.1" for index in range(100)]
    assert said["declines"] == [{"reason": "short by 1 cpus", "count": 7}, {"reason": "nothing is wanted", "count": 2}]
    assert (missing.status_code, odd.status_code) == (404, 422)
    assert (less["count"], less["task_ids"][:2]) == (148, ["job-1.1.1", "job-1.3.1"])
