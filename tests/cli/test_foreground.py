"""The supervisor of `runrig dev`, with real processes as parts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runrig.cli.ports import FreePorts
from runrig.cli.processes import find, runs
from tests.house.tree import ROOT

DEADLINE_S = 30.0
PROGRAM = Path(__file__).with_name("fake_dev.py")


class Dev:
    """A supervisor in a process of its own, over two parts."""

    def __init__(self, directory: Path, *words: str) -> None:
        self.directory = directory
        self.told = directory.with_suffix(".err")
        with self.told.open("ab") as told:
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(directory), *words],
                stderr=told,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def cluster(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / "cluster.json").read_text())
        return found

    def parts(self) -> dict[str, dict[str, Any]]:
        return {part["name"]: part for part in self.cluster()["parts"]}

    def until(self, text: str, times: int = 1) -> None:
        """Wait until it has told something."""
        wait_until(lambda: self.told.read_text().count(text) >= times, self.told.read_text)

    def insist(self) -> bool:
        """Signal once more, unless it has heard; say whether it has."""
        if "ending all parts at once" not in self.told.read_text():
            self.process.send_signal(signal.SIGINT)
            return False
        return True

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


def wait_until(condition: Callable[[], bool], said: Callable[[], str] = str, deadline_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, said()
        time.sleep(0.02)


Start = Callable[..., Dev]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a supervisor; whatever the test does, none of its parts outlives it."""
    started: list[Dev] = []
    ports = FreePorts()
    words = [f"master={ports.one()}", f"agent-1={ports.one()}"]

    def begin(mode: str = "restart", *others: str) -> Dev:
        dev = Dev(tmp_path / "cluster", mode, *(others or words))
        started.append(dev)
        return dev

    yield begin
    for dev in started:
        if dev.process.poll() is None:
            dev.process.kill()
            dev.process.wait()
    for dev in started:
        for part in dev.parts().values() if (dev.directory / "cluster.json").exists() else ():
            for command in filter(None, (part["command"], part["process"])):
                while (pid := find(command)) is not None:
                    os.kill(pid, signal.SIGKILL)
                    wait_until(lambda pid=pid, command=command: not runs(pid, command))  # type: ignore[misc]


def test_all_parts_run_and_the_file_says_how_to_start_each(start: Start) -> None:
    dev = start()
    dev.until("announced")

    cluster = dev.cluster()
    assert cluster["state"] == "ready"
    assert cluster["supervisor"] == dev.process.pid
    assert [part["name"] for part in cluster["parts"]] == ["master", "agent-1"]
    for part in cluster["parts"]:
        assert runs(part["pid"], part["command"])
        assert part["env"] == {"FAKE": "1"}
        assert part["http"].startswith("http://127.0.0.1:")
    assert "listening on" in (dev.directory / "logs" / "agent-1.log").read_text()


def test_a_signal_of_the_terminal_does_not_reach_the_parts(start: Start) -> None:
    dev = start()
    dev.until("announced")

    sessions = [os.getsid(part["pid"]) for part in dev.parts().values()]

    assert sessions == [part["pid"] for part in dev.parts().values()]


def test_a_second_signal_ends_all_parts_at_once(start: Start) -> None:
    dev = start("endless")
    dev.until("announced")

    dev.process.send_signal(signal.SIGINT)
    dev.until("tasks do not end")
    wait_until(dev.insist)

    assert dev.process.wait(DEADLINE_S) == 0
    assert "ending all parts at once: tasks may go on running" in dev.told.read_text()
    assert [name for name, part in dev.parts().items() if find(part["command"]) is not None] == []


def test_signals_that_come_together_ask_once(start: Start) -> None:
    dev = start()
    dev.until("announced")

    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):
        dev.process.send_signal(number)

    assert dev.process.wait(DEADLINE_S) == 0
    assert "at once: tasks may go on running" not in dev.told.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_tasks_and_all_parts(start: Start, number: signal.Signals) -> None:
    dev = start()
    dev.until("announced")
    parts = dev.parts()

    assert dev.end(number) == 0

    assert [name for name, part in parts.items() if runs(part["pid"], part["command"])] == []
    assert "tasks ended" in dev.told.read_text()
    assert dev.cluster()["state"] == "stopped"
    assert {part["pid"] for part in dev.parts().values()} == {None}


def test_a_signal_before_all_is_ready_ends_what_was_started(start: Start) -> None:
    dev = start()
    wait_until((dev.directory / "cluster.json").exists)

    assert dev.end() == 0

    assert [part["name"] for part in dev.parts().values() if find(part["command"]) is not None] == []


def test_a_part_that_is_killed_is_started_again_and_the_file_follows(start: Start) -> None:
    dev = start()
    dev.until("announced")
    before = dev.parts()["agent-1"]["pid"]

    os.kill(before, signal.SIGKILL)

    wait_until(lambda: dev.parts()["agent-1"]["pid"] not in (before, None))
    assert runs(dev.parts()["agent-1"]["pid"], dev.parts()["agent-1"]["command"])
    assert f"agent-1 (pid {before}): killed by SIGKILL; starting it again" in dev.told.read_text()


def test_without_restarts_a_dead_part_stays_dead_until_it_is_started_by_hand(start: Start) -> None:
    dev = start("no-restart")
    dev.until("announced")
    part = dev.parts()["agent-1"]

    os.kill(part["pid"], signal.SIGKILL)
    dev.until("left dead (--no-restart)")
    assert dev.parts()["agent-1"]["pid"] is None

    by_hand = subprocess.Popen(part["command"], env={**os.environ, **part["env"]}, stdout=subprocess.DEVNULL)
    dev.until(f"agent-1 was started by hand (pid {by_hand.pid})")
    assert dev.parts()["agent-1"]["pid"] == by_hand.pid
    assert dev.end() == 0
    assert by_hand.wait(DEADLINE_S) == 0


def test_a_part_in_a_container_is_known_by_the_process_there(start: Start) -> None:
    ports = FreePorts()
    dev = start("restart", f"master={ports.one()}", f"agent-1={ports.one()}:contained")
    dev.until("announced")
    before = dev.parts()["agent-1"]
    assert runs(before["pid"], before["process"])

    os.kill(before["pid"], signal.SIGKILL)
    wait_until(lambda: dev.parts()["agent-1"]["pid"] not in (before["pid"], None))

    after = dev.parts()["agent-1"]["pid"]
    assert runs(after, before["process"])
    assert dev.end() == 0
    assert not runs(after, before["process"])


def test_a_part_in_a_container_is_found_when_it_is_started_by_hand(start: Start) -> None:
    ports = FreePorts()
    dev = start("no-restart", f"master={ports.one()}", f"agent-1={ports.one()}:contained")
    dev.until("announced")
    part = dev.parts()["agent-1"]
    os.kill(part["pid"], signal.SIGKILL)
    dev.until("left dead (--no-restart)")

    by_hand = subprocess.Popen(part["command"], stdout=subprocess.DEVNULL)
    dev.until("agent-1 was started by hand")

    assert runs(dev.parts()["agent-1"]["pid"], part["process"])
    assert dev.end() == 0
    assert by_hand.wait(DEADLINE_S) == 137


def test_a_dead_part_is_revived_for_the_end_of_tasks(start: Start) -> None:
    dev = start("no-restart")
    dev.until("announced")

    os.kill(dev.parts()["agent-1"]["pid"], signal.SIGKILL)
    dev.until("left dead")

    assert dev.end() == 0
    assert dev.told.read_text().count("agent-1 is ready") == 2
    assert find(dev.parts()["agent-1"]["command"]) is None


def test_parts_outlive_a_killed_supervisor_and_the_next_one_takes_them_over(start: Start) -> None:
    first = start()
    first.until("announced")
    before = {name: part["pid"] for name, part in first.parts().items()}

    first.process.kill()
    first.process.wait()
    assert all(runs(part["pid"], part["command"]) for part in first.parts().values())

    second = start()
    second.until("announced", times=2)
    assert {name: part["pid"] for name, part in second.parts().items()} == before
    assert second.end() == 0
    assert [name for name, part in second.parts().items() if find(part["command"]) is not None] == []


def test_a_second_supervisor_is_refused_with_the_pid_of_the_first(start: Start) -> None:
    first = start()
    first.until("announced")

    second = start()

    assert second.process.wait(DEADLINE_S) == 1  # without the trunk that maps Conflict to 5
    assert f"`runrig dev` (pid {first.process.pid}) runs the cluster in {first.directory}" in second.told.read_text()
    assert first.cluster()["state"] == "ready"


def test_a_part_that_cannot_start_is_given_up_with_the_end_of_its_log(start: Start) -> None:
    ports = FreePorts()
    dev = start("restart", f"master={ports.one()}", f"agent-1={ports.one()}:crash")

    assert dev.process.wait(DEADLINE_S) == 1

    told = dev.told.read_text()
    assert "agent-1 does not start: exit 2; the end of its log" in told
    assert "no such option: --nonsense" in told
    assert find(dev.parts()["master"]["command"]) is None


def test_a_part_that_ignores_sigterm_is_killed(start: Start) -> None:
    dev = start("restart", f"master={FreePorts().one()}:stubborn")
    dev.until("announced")

    assert dev.end() == 0

    assert "master (pid" in dev.told.read_text()
    assert find(dev.parts()["master"]["command"]) is None
