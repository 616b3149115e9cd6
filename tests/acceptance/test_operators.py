"""What operators do to a cluster of processes while frameworks use it: quotas, explanations, drains, reservations."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from runrig.testing.processes import RealCluster, real_cluster, until

pytestmark = pytest.mark.xdist_group("real-cluster")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    directory = tmp_path_factory.mktemp("operators") / "cluster"
    options = ("--agents", "2", "--runtime", "process", "--resources", "cpus:2;mem:1G;disk:10G")
    with real_cluster(directory, *options) as running:
        yield running


def submitted(cluster: RealCluster, cpus: str, *command: str) -> str:
    return cluster.runrig("batch", "submit", "--cpus", cpus, "--mem", "32M", "--", *command).stdout.strip()


def explained(cluster: RealCluster, *words: str) -> dict[str, Any]:
    said = cluster.json("explain", *words)
    assert isinstance(said, dict)
    return said


def test_a_limit_keeps_a_job_waiting_which_is_explained_until_it_is_taken_away(cluster: RealCluster) -> None:
    cluster.runrig("quota", "set", "batch", "--limit", "cpus:0.3")
    first = submitted(cluster, "0.2", "sleep", "600")
    until(lambda: cluster.json("tasks", "ls", "--framework", "batch"), "the first runs")
    second = submitted(cluster, "0.2", "true")
    until(lambda: explained(cluster, second)["demands"], "the second waits")

    said = explained(cluster, second)
    [demand] = said["demands"]
    cluster.runrig("quota", "unset", "batch")
    cluster.runrig("batch", "wait", second)
    cluster.runrig("batch", "kill", first)

    assert (said["kind"], said["id"], said["waiting"]["task_ids"]) == ("job", second, [f"{second}.0.1"])
    assert demand["verdict"] == "waits"
    assert any(step["predicate"].startswith("quota") and step["failed"] for step in demand["funnel"]), demand
    assert "batch" in said["summary"]
    assert explained(cluster, second)["summary"] == f"nothing of job {second} waits for an offer"


def test_an_app_that_is_too_large_for_any_agent_is_explained_in_words_and_over_http(cluster: RealCluster) -> None:
    path = cluster.directory / "large.json"
    path.write_text(json.dumps({"id": "/large", "cmd": "sleep 600", "cpus": 3, "mem": 32, "instances": 2}))
    cluster.runrig("service", "deploy", str(path))
    until(lambda: explained(cluster, "/large")["demands"], "the app waits")

    words = cluster.runrig("explain", "/large")
    [demand] = explained(cluster, "app", "large")["demands"]
    cluster.runrig("service", "rm", "/large")

    assert "can never run" in words.stdout.splitlines()[0]
    assert "size" in words.stdout
    assert "see: runrig service show /large" in words.stderr
    assert (demand["verdict"], demand["demand"]["count"]) == ("infeasible", 2)
    assert demand["nearest"][0]["short_by"]["cpu_millis"] == 1000


def test_the_master_explains_over_http_what_the_command_line_shows(cluster: RealCluster) -> None:
    [agent, _] = cluster.json("agents", "ls")
    http = next(part["http"] for part in parts(cluster) if part["kind"] == "master")

    with urllib.request.urlopen(f"{http}/v1/explain?kind=agent&id={agent['id']}", timeout=20) as answer:
        said = json.load(answer)

    assert said["summary"] == explained(cluster, agent["hostname"])["summary"]
    assert (said["kind"], said["id"]) == ("agent", agent["id"])


def test_an_agent_is_emptied_and_taken_back(cluster: RealCluster) -> None:
    job = submitted(cluster, "0.2", "sleep", "600")
    [task] = until(lambda: cluster.json("tasks", "ls", "--framework", "batch", "--state", "running"), "it runs")

    drained = cluster.runrig("drain", task["hostname"], "--notice", "0s", "--grace", "100ms", "--wait")
    shown = cluster.json("agents", "show", task["hostname"])
    cluster.runrig("agents", "activate", task["hostname"])
    cluster.runrig("batch", "kill", job)

    assert drained.stdout.strip() == task["agent_id"]
    assert (shown["state"], shown["tasks"]) == ("DRAINED", 0)
    assert cluster.json("agents", "show", task["hostname"])["state"] == "ACTIVE"


def test_what_is_reserved_is_kept_and_given_back(cluster: RealCluster) -> None:
    cluster.runrig("reserve", "agent-1", "db-1", "eng/db", "cpus:1;disk:2G", "--label", "tier=fast")
    cluster.runrig("volumes", "create", "agent-1", "db-1", "data", "1G")
    [kept] = cluster.json("reservations", "ls", "--role", "eng/db")
    [volume] = cluster.json("volumes", "ls")
    cluster.runrig("volumes", "rm", "agent-1", "data")
    until(lambda: not cluster.json("volumes", "ls"), "the data is gone")
    cluster.runrig("unreserve", "agent-1", "db-1")

    assert (kept["hostname"], kept["labels"], kept["resources"]["total"]["cpu_millis"]) == (
        "agent-1",
        {"tier": "fast"},
        1000,
    )
    assert (volume["id"], volume["reservation_id"], volume["disk_mib"]) == ("data", "db-1", 1024)
    assert cluster.json("reservations", "ls") == []


def parts(cluster: RealCluster) -> list[dict[str, Any]]:
    return list(json.loads((cluster.directory / "cluster.json").read_text())["parts"])
