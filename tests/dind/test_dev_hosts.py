"""`runrig dev --hosts`: the agent of each host is a part like any other, killed and started again by its entry."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runrig.testing.processes import RealCluster, real_cluster, until
from tests.docker.conftest import engine

__all__ = ["engine"]

pytestmark = [pytest.mark.docker, pytest.mark.dind, pytest.mark.slow, pytest.mark.xdist_group("dind")]


@pytest.fixture
def cluster(tmp_path: Path, engine: str) -> Iterator[RealCluster]:
    with real_cluster(tmp_path / "c", "--hosts", "2", "--no-restart", "--docker-host", engine) as running:
        yield running


@pytest.mark.timeout(240)
def test_the_agent_of_a_host_is_killed_and_started_by_hand_and_its_container_runs_on(cluster: RealCluster) -> None:
    command = ("--image", "runrig/busybox:test", "--mem", "16M", "--", "sleep 1000")
    cluster.runrig("batch", "submit", "--constraint", "hostname:EQUALS:h2", *command)
    until(lambda: [task["state"] for task in tasks(cluster)] == ["TASK_RUNNING"], "the task runs")
    [before] = tasks(cluster)
    part = entry(cluster, "h2")

    os.kill(part["pid"], signal.SIGKILL)
    until(lambda: entry(cluster, "h2")["pid"] is None, "the agent is known to be dead")
    by_hand = subprocess.Popen(part["command"], env={**os.environ, **part["env"]}, start_new_session=True)
    until(lambda: entry(cluster, "h2")["pid"] not in (None, part["pid"]), "the agent is known to run again")
    until(lambda: state(cluster, "h2") == "ACTIVE", "the agent is active again")

    assert tasks(cluster) == [before], "the same container"
    os.kill(entry(cluster, "h2")["pid"], signal.SIGKILL)
    assert by_hand.wait(30) != 0
    assert (cluster.directory / "logs" / "h2.log").read_text()


def entry(cluster: RealCluster, name: str) -> dict[str, Any]:
    parts = json.loads((cluster.directory / "cluster.json").read_text())["parts"]
    found: dict[str, Any] = next(part for part in parts if part["name"] == name)
    return found


def tasks(cluster: RealCluster) -> list[dict[str, Any]]:
    listed = cluster.json("tasks", "ls")
    assert isinstance(listed, list)
    return listed


def state(cluster: RealCluster, hostname: str) -> str:
    [found] = [agent["state"] for agent in cluster.json("agents", "ls") if agent["hostname"] == hostname]
    return str(found)
