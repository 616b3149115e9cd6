"""The process on a real cluster: the example app, and a rollout through the death of the framework."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runrig.testing.processes import RealCluster, real_cluster, until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/apps"

# Real clusters start one after the other: two at once on two cores take longer than a start may.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.xdist_group("real-cluster")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    directory = tmp_path_factory.mktemp("service") / "c"
    with real_cluster(directory, "--agents", "2", "--no-restart", "--runtime", "process") as running:
        yield running


def test_the_example_app_serves_on_the_port_that_its_task_shows(cluster: RealCluster) -> None:
    cluster.runrig("service", "deploy", str(EXAMPLES / "web.json"), "--wait", "--timeout", "60s", timeout_s=90)

    tasks = cluster.json("service", "show", "web")["tasks"]
    answers = [httpx.get(f"http://127.0.0.1:{task['ports'][0]}/").status_code for task in tasks]

    assert answers == [200, 200]
    cluster.runrig("service", "rm", "web", "--wait", "--timeout", "60s", timeout_s=90)
    assert cluster.json("service", "ls") == []


def test_a_rollout_goes_on_when_the_framework_is_killed_and_starts_nothing_twice(
    cluster: RealCluster, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    app: dict[str, Any] = {
        "id": "/rolling",
        "cmd": f"echo started >> {marks}/$MESOS_TASK_ID; sleep 1000",
        "instances": 3,
        "cpus": 0.1,
        "mem": 16,
        "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 0.34},
    }
    file = tmp_path / "app.json"
    file.write_text(json.dumps(app))
    cluster.runrig("service", "deploy", str(file), "--wait", "--timeout", "60s", timeout_s=90)
    before = {task["id"] for task in cluster.json("service", "show", "rolling")["tasks"]}

    file.write_text(json.dumps({**app, "env": {"VERSION": "2"}}))
    cluster.runrig("service", "deploy", str(file))
    for _ in range(3):
        cluster.kill("service")
        cluster.start("service")
        until(lambda: cluster.json("service", "ls"), "the framework answers again")

    until(lambda: cluster.json("service", "show", "rolling")["deployments"] == [], "the rollout is complete", 90)
    after = {task["id"] for task in cluster.json("service", "show", "rolling")["tasks"]}
    assert len(after) == 3
    assert not before & after
    starts = Counter({path.name: path.read_text().count("started") for path in marks.iterdir()})
    assert dict(starts) == dict.fromkeys(before | after, 1)
