"""`runrig dev` with its real parts, as a person at a terminal runs it; tasks are plain processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runrig.cli.processes import find, runs
from tests.cli.test_foreground import DEADLINE_S, wait_until
from tests.house.tree import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("cluster")]
START_S = 120.0  # five interpreters start on a machine that also runs other tests


class Cluster:
    """A `runrig dev` in the background, and the commands of its user."""

    def __init__(self, directory: Path, *words: str) -> None:
        self.directory = directory
        self.by_hand: list[subprocess.Popen[bytes]] = []
        self.log = directory.with_suffix(".log")
        command = ["dev", "--ports", "auto", "--runtime", "process", "--data-dir", str(directory), *words]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "runrig", *command], stdout=log, stderr=log)

    def described(self) -> dict[str, Any]:
        path = self.directory / "cluster.json"
        return dict(json.loads(path.read_text())) if path.exists() else {"state": None, "parts": []}

    def part(self, name: str) -> dict[str, Any]:
        [part] = [part for part in self.described()["parts"] if part["name"] == name]
        return dict(part)

    def wait_ready(self) -> None:
        mine = self.process.pid

        def is_up() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            described = self.described()
            return bool(described["state"] == "ready" and described["supervisor"] == mine)

        wait_until(is_up, self.log.read_text, START_S)

    def runrig(self, *words: str) -> str:
        described = self.described()
        env = {f"RUNRIG_{kind.upper()}": described[kind] for kind in ("master", "service", "batch")}
        done = subprocess.run(
            [sys.executable, "-m", "runrig", *words],
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr + self.log.read_text()
        return done.stdout

    def tasks(self) -> list[dict[str, Any]]:
        return list(json.loads(self.runrig("tasks", "ls", "-o", "json")))

    def running(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many tasks run; return them."""
        found: list[dict[str, Any]] = []

        def are_there() -> bool:
            found[:] = [task for task in self.tasks() if task["state"] == "TASK_RUNNING"]
            return len(found) == count

        wait_until(are_there, self.log.read_text)
        return found

    def kill_and_start_by_hand(self, name: str) -> None:
        """Do what cluster.json is for."""
        part = self.part(name)
        os.kill(part["pid"], signal.SIGKILL)
        wait_until(lambda: self.part(name)["pid"] is None, self.log.read_text)
        process = subprocess.Popen(
            part["command"],
            env={**os.environ, **part["env"]},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        self.by_hand.append(process)
        wait_until(lambda: self.part(name)["pid"] == process.pid, self.log.read_text)

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(START_S)


Start = Callable[..., Cluster]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a cluster; whatever the test does, nothing of it outlives it."""
    started: list[Cluster] = []

    def begin(*words: str) -> Cluster:
        started.append(Cluster(tmp_path / "d", *words))
        return started[-1]

    yield begin
    for cluster in started:
        if cluster.process.poll() is None:
            cluster.process.kill()
            cluster.process.wait()
    for cluster in started:
        for process in cluster.by_hand:
            process.kill()
            process.wait()
        for part in cluster.described()["parts"]:
            while (pid := find(part["command"])) is not None:
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda pid=pid, command=part["command"]: not runs(pid, command))  # type: ignore[misc]


def left_of(cluster: Cluster) -> list[str]:
    """List the command lines of processes that name the cluster's directory."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if str(cluster.directory) in line]


def test_a_cluster_starts_runs_a_command_and_leaves_nothing_behind(start: Start) -> None:
    cluster = start("--agents", "2")
    cluster.wait_ready()

    agents = json.loads(cluster.runrig("agents", "ls", "-o", "json"))
    frameworks = json.loads(cluster.runrig("frameworks", "ls", "-o", "json"))
    hello = cluster.runrig("batch", "run", "--", "echo", "hello")
    cluster.runrig("batch", "submit", "--cpus", "0.1", "--mem", "32M", "--", "sleep", "1000")
    [task] = cluster.running(1)

    assert [(agent["hostname"], agent["state"]) for agent in agents] == [
        ("agent-1", "ACTIVE"),
        ("agent-2", "ACTIVE"),
    ]
    assert sorted((each["name"], each["connected"]) for each in frameworks) == [("batch", True), ("service", True)]
    assert hello == "hello\n"
    assert "export RUNRIG_MASTER=" in cluster.log.read_text()
    assert cluster.end() == 0, cluster.log.read_text()
    assert left_of(cluster) == []
    assert not Path(f"/proc/{task['pid']}").exists()


def test_each_part_can_be_killed_and_started_by_hand_and_no_task_notices(start: Start) -> None:
    cluster = start("--agents", "1", "--no-restart")
    cluster.wait_ready()
    cluster.runrig("batch", "submit", "--array", "3", "--cpus", "0.1", "--mem", "32M", "--", "sleep", "1000")
    before = {task["id"]: task["pid"] for task in cluster.running(3)}

    for name in ("agent-1", "master", "batch", "service"):
        cluster.kill_and_start_by_hand(name)
    wait_until(lambda: all_are_back(cluster), cluster.log.read_text)

    assert {task["id"]: task["pid"] for task in cluster.running(3)} == before
    assert cluster.end() == 0, cluster.log.read_text()
    assert [process.wait(DEADLINE_S) for process in cluster.by_hand] == [0, 0, 0, 0]
    assert left_of(cluster) == []


def all_are_back(cluster: Cluster) -> bool:
    """Say whether the master knows of all others again; right after its start it may not even answer."""
    try:
        agents = json.loads(cluster.runrig("agents", "ls", "-o", "json"))
        frameworks = json.loads(cluster.runrig("frameworks", "ls", "-o", "json"))
    except AssertionError:
        return False
    known = [agent["state"] == "ACTIVE" for agent in agents] + [each["connected"] for each in frameworks]
    return len(known) == 3 and all(known)


def test_tasks_that_are_kept_are_found_again(start: Start) -> None:
    first = start("--agents", "1", "--keep-tasks")
    first.wait_ready()
    first.runrig("batch", "submit", "--cpus", "0.1", "--mem", "32M", "--", "sleep", "1000")
    [task] = first.running(1)

    assert first.end() == 0, first.log.read_text()
    assert Path(f"/proc/{task['pid']}").exists()

    second = start("--agents", "1")
    second.wait_ready()
    [found] = second.running(1)
    assert (found["id"], found["pid"]) == (task["id"], task["pid"])
    assert second.end() == 0, second.log.read_text()
    assert not Path(f"/proc/{task['pid']}").exists()


def test_the_demo_does_all_that_it_says() -> None:
    done = subprocess.run(
        [ROOT / "scripts/demo", "--runtime", "process"], capture_output=True, text=True, timeout=280, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "hello from" in done.stdout
    assert "= 2470" in done.stdout
    assert "nothing of it is left" in done.stdout
