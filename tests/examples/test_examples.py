"""Each example runs, against a real master and a real agent."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from runrig.testing.processes import until

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_run_once_runs_each_command_to_its_end(master: str) -> None:
    done = run("run_once.py", master)

    assert sorted(re.findall(r"(hello-\d)\.0\.0 TASK_FINISHED", done)) == [f"hello-{number}" for number in range(5)]
    assert done.endswith("failed: none\n")


def test_gang_runs_all_four_of_one_run_to_their_end(master: str) -> None:
    done = run("gang.py", master)

    assert sorted(re.findall(r"(train\.\d\.\d) TASK_FINISHED", done)) == [f"train.0.{index}" for index in range(4)]
    assert done.endswith("failed: none\n")


def test_raw_offers_runs_one_task_on_each_agent(master: str) -> None:
    done = run("raw_offers.py", master)

    assert done.count("TASK_FINISHED") == 1


def test_keep_running_starts_nothing_twice_when_it_is_killed_and_started_again(master: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    state = str(tmp_path / "state.db")
    first = start("keep_running.py", log, master, state)
    until(lambda: log.read_text().count("TASK_RUNNING") == 3, "three servers run")
    first.kill()
    first.wait()

    second_log = tmp_path / "log2"
    second = start("keep_running.py", second_log, master, state)
    try:
        until(lambda: listed(master).count("TASK_RUNNING") == 3, "the three are still listed")
        assert "TASK_RUNNING" not in second_log.read_text()
        assert len(set(re.findall(r"web\.\d\.\d+", listed(master)))) == 3
    finally:
        second.kill()
        second.wait()
        runrig(master, "frameworks", "teardown", framework_of(master, "keep-running"))
        until(lambda: "web." not in listed(master), "its tasks have ended")


def test_one_leader_is_found_again_when_its_framework_is_killed_and_started_again(master: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    state = str(tmp_path / "state.db")
    first = start("one_leader.py", log, master, state)
    until(lambda: "leader-1 TASK_RUNNING" in log.read_text(), "a leader runs")
    first.kill()
    first.wait()

    second_log = tmp_path / "log2"
    second = start("one_leader.py", second_log, master, state)
    try:
        until(lambda: "leader-1 TASK_RUNNING" in second_log.read_text(), "the leader is found again")
        assert "leader-2" not in listed(master)
    finally:
        second.kill()
        second.wait()
        runrig(master, "frameworks", "teardown", framework_of(master, "one-leader"))
        until(lambda: "leader-" not in listed(master), "it has ended")


def run(example: str, *words: str) -> str:
    command = [sys.executable, str(EXAMPLES / example), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def start(example: str, log: Path, *words: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen([sys.executable, str(EXAMPLES / example), *words], stdout=file, stderr=file)


def listed(master: str) -> str:
    return runrig(master, "tasks", "ls", "-o", "json")


def framework_of(master: str, name: str) -> str:
    found = re.search(rf'"framework_id": "({name}-\w+)"', listed(master))
    assert found is not None
    return found[1]


def runrig(master: str, *words: str) -> str:
    command = [sys.executable, "-m", "runrig", *words, "--master", master]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
