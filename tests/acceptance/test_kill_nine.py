"""The operator pulls any plug: kill -9 of each part in turn, started again by hand, while an app and an array run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runrig.testing.processes import RealCluster, real_cluster, until

pytestmark = pytest.mark.xdist_group("real-cluster")

SLEEP_S = 2
TASKS = 40


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RealCluster]:
    with real_cluster(tmp_path / "c", "--agents", "3", "--no-restart", "--runtime", "process") as running:
        yield running


@pytest.mark.timeout(240)
def test_no_kill_loses_or_doubles_a_task(cluster: RealCluster, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    app = {
        "id": "/web",
        "cmd": f"echo started >> {marks}/$MESOS_TASK_ID; exec python3 -m http.server $PORT0",
        "instances": 3,
        "cpus": 0.1,
        "mem": 64,
        "portDefinitions": [{"port": 0}],
    }
    app_file = tmp_path / "web.json"
    app_file.write_text(json.dumps(app))
    cluster.runrig("service", "deploy", str(app_file), "--wait")
    before = running(cluster, "web")
    command = f"echo started >> {marks}/$RUNRIG_TASK_ID; sleep {SLEEP_S}; echo $RUNRIG_ARRAY_INDEX"
    submitted = cluster.json(
        "batch", "submit", "--array", str(TASKS), "--cpus", "1", "--mem", "32M", "--", "sh", "-c", command
    )
    job = submitted["id"]

    for name in ("agent-1", "master", "service", "batch", "agent-2", "master"):
        cluster.kill(name)
        cluster.start(name)
        until(lambda: len(cluster.json("agents", "ls")) == 3, "the agents are listed again")
    until(lambda: cluster.json("batch", "show", job)["state"] == "running", "the array still runs after the last kill")
    cluster.runrig("batch", "wait", job, "--timeout", "90", timeout_s=120)
    until(lambda: all_active(cluster), "every agent is active again")

    assert running(cluster, "web") == before, "each instance is the same process as before"
    starts = Counter({path.name: path.read_text().count("started") for path in marks.iterdir()})
    assert set(starts.values()) == {1}, "no task ran twice"
    shown = cluster.json("batch", "show", job)
    assert shown["state"] == "succeeded"
    assert {task["pid"] for task in tasks(cluster)} == {pid for pid in before.values() if alive(pid)}


@pytest.mark.timeout(240)
def test_who_waits_for_a_job_outlasts_the_death_of_its_framework(cluster: RealCluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    command = f"echo first; until test -e {go}; do sleep 0.1; done; echo last; test $RUNRIG_ATTEMPT = 2"
    words = ("--retries", "1", "--retry-delay", "0s", "--mem", "32M")
    run = begin(cluster, "batch", "run", *words, "--", "sh", "-c", command)
    assert run.stdout is not None
    assert run.stdout.readline() == "first\n"
    [job] = cluster.json("batch", "ls")
    waits = count_waits(cluster)
    wait = begin(cluster, "batch", "wait", job["id"])
    until(lambda: count_waits(cluster) > waits, "the wait has begun")

    cluster.kill("batch")
    until(lambda: said(cluster, "run") and said(cluster, "wait"), "both have noticed")
    cluster.start("batch")
    until(lambda: cluster.json("batch", "show", job["id"])["state"] == "running", "the framework is back")
    go.touch()

    assert run.communicate(timeout=30)[0] == "last\nfirst\nlast\n"
    wait.communicate(timeout=30)
    assert (run.returncode, wait.returncode) == (0, 0)


def begin(cluster: RealCluster, *words: str) -> subprocess.Popen[str]:
    """Start a command of `runrig`; what it says to people goes to a file that is named after it."""
    with (cluster.directory.parent / f"{words[1]}.err").open("wb") as told:
        return subprocess.Popen(
            [sys.executable, "-m", "runrig", *words],
            env=cluster.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
        )


def count_waits(cluster: RealCluster) -> float:
    lines = httpx.get(f"{cluster.parts['batch']['http']}/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("runrig_batch_waits "))


def said(cluster: RealCluster, command: str) -> bool:
    return "waiting for it to come back" in (cluster.directory.parent / f"{command}.err").read_text()


def running(cluster: RealCluster, name: str) -> dict[str, int]:
    return {
        task["id"]: task["pid"] for task in tasks(cluster) if task["state"] == "TASK_RUNNING" and name in task["id"]
    }


def tasks(cluster: RealCluster) -> list[dict[str, Any]]:
    listed = cluster.json("tasks", "ls")
    assert isinstance(listed, list)
    return listed


def all_active(cluster: RealCluster) -> bool:
    return all("active" in agent["state"].lower() for agent in cluster.json("agents", "ls"))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
