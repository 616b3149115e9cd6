"""The warden as a program: its protocol, its journal, its cgroups and its own end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runrig_agent.sandbox_logs import LogLimits, log_files, open_log, rotate_by_copy, rotate_by_rename
from runrig_agent.warden import PROTOCOL_VERSION, cgroups, processes
from runrig_agent.warden.cgroups import Cgroups, Hierarchy, Limits
from runrig_agent.warden.journal import End, Journal, Record
from tests.agent.runtimes import is_alive

DEADLINE_S = 20.0


class Warden:
    """A warden and a plain, blocking connection to it."""

    def __init__(self, directory: Path, *words: str) -> None:
        self.directory = directory
        self.start(*words)
        self.notices: list[dict[str, Any]] = []
        self.connect()

    def start(self, *words: str) -> None:
        subprocess.run(
            [sys.executable, "-I", "-m", "runrig_agent.warden", str(self.directory), "--no-cgroups", *words],
            check=True,
            stdin=subprocess.DEVNULL,
            timeout=DEADLINE_S,
        )

    def connect(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(os.path.relpath(self.directory / "socket"))
        self.lines = self.socket.makefile("rb")
        self.hello = self.ask("hello", version=PROTOCOL_VERSION)

    def disconnect(self) -> None:
        self.lines.close()
        self.socket.close()

    @property
    def pid(self) -> int:
        return int((self.directory / "lock").read_text())

    def send(self, **request: object) -> None:
        self.socket.sendall(json.dumps(request).encode() + b"\n")

    def ask(self, operation: str, **fields: object) -> dict[str, Any]:
        self.send(id=7, op=operation, **fields)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Return the next answer; an end may be told before it."""
        while "id" not in (message := self.read()):
            self.notices.append(message)
        return message

    def read(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.lines.readline())
        return message

    def launch(self, task: str, *argv: str) -> dict[str, Any]:
        return self.ask("launch", **launch_request(self.directory.parent, task, argv))

    def end_of(self, task: str) -> dict[str, Any]:
        while True:
            for notice in self.notices:
                if notice["ended"]["key"][1] == task:
                    end: dict[str, Any] = notice["ended"]["end"]
                    return end
            self.notices.append(self.read())


def launch_request(folder: Path, task: str, argv: tuple[str, ...]) -> dict[str, Any]:
    return {
        "key": ["framework", task],
        "argv": argv,
        "env": {"PATH": os.environ["PATH"]},
        "cwd": str(folder),
        "sandbox": str(folder),
        "user": None,
        "limits": {},
        "log": {"max_bytes": 1000, "max_files": 2},
    }


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.01)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "warden"
    yield directory
    lock = directory / "lock"
    if lock.exists() and is_alive(pid := int(lock.read_text() or 0)):
        os.kill(pid, signal.SIGKILL)


# --- the program ------------------------------------------------------------------------------------------


def test_a_second_warden_leaves_the_directory_to_the_first(directory: Path) -> None:
    warden = Warden(directory)
    first = warden.pid

    warden.start()

    assert (warden.pid, is_alive(first)) == (first, True)
    warden.disconnect()


def test_a_directory_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = subprocess.run(
        [sys.executable, "-I", "-m", "runrig_agent.warden", str(tmp_path / "file/warden")],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )

    assert done.returncode == 1
    assert "cannot start in" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_long_directory_name_is_no_obstacle(directory: Path) -> None:
    long = directory.joinpath(*["a-folder-with-a-name-of-some-length"] * 4)

    subprocess.run(
        [sys.executable, "-I", "-m", "runrig_agent.warden", str(long), "--no-cgroups", "--idle-s", "0"],
        check=True,
        timeout=DEADLINE_S,
    )

    until(lambda: not is_alive(int((long / "lock").read_text() or 0)), "its end")


def test_the_socket_is_for_its_owner_only(directory: Path) -> None:
    warden = Warden(directory)

    assert (directory / "socket").stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    warden.disconnect()


def test_another_version_of_the_protocol_is_refused_with_words(directory: Path) -> None:
    warden = Warden(directory)

    answer = warden.ask("hello", version=99)

    assert answer["error"]["kind"] == "bad_request"
    assert "speaks version 1, not 99" in answer["error"]["message"]
    warden.disconnect()


@pytest.mark.parametrize(
    "line", [b"no json\n", b"{}\n", b'{"id": 1, "op": "fly"}\n', b'{"id": 1, "op": "launch"}\n', b"[]\n"]
)
def test_nonsense_is_answered_and_harms_nobody(directory: Path, line: bytes) -> None:
    warden = Warden(directory)

    warden.socket.sendall(line)

    assert warden.read()["error"]["kind"] == "bad_request"
    assert warden.launch("after", "true")["task"]["pid"] > 0
    warden.disconnect()


def test_a_task_started_twice_in_one_breath_starts_once(directory: Path) -> None:
    warden = Warden(directory)
    request = {"op": "launch", **launch_request(directory.parent, "twice", ("sh", "-c", "echo once"))}

    warden.send(id=1, **request)
    warden.send(id=2, **request)

    pids = {message["task"]["pid"] for message in (warden.answer(), warden.answer()) if "task" in message}
    assert len(pids) == 1
    warden.end_of("twice")
    assert (directory.parent / "stdout").read_text() == "once\n"
    warden.disconnect()


def test_the_warden_keeps_its_tasks_from_gaining_privileges(directory: Path) -> None:
    warden = Warden(directory)

    warden.launch("look", "grep", "NoNewPrivs", "/proc/self/status")

    assert warden.end_of("look")["code"] == 0
    assert (directory.parent / "stdout").read_text().split() == ["NoNewPrivs:", "1"]
    warden.disconnect()


def test_limits_of_the_shell_apply_to_tasks(directory: Path) -> None:
    warden = Warden(directory, "--rlimit", "core=0", "--rlimit", "nofile=77")

    warden.launch("look", "sh", "-c", "ulimit -c; ulimit -n")

    assert warden.end_of("look")["code"] == 0
    assert (directory.parent / "stdout").read_text() == "0\n77\n"
    warden.disconnect()


def test_a_task_has_a_session_of_its_own_and_default_signals(directory: Path) -> None:
    warden = Warden(directory)
    script = "import os, signal; print(os.getsid(0) == os.getpid(), sorted(signal.pthread_sigmask(0, [])))"

    warden.launch("look", sys.executable, "-c", f"{script}; print(open('/proc/self/status').read())")

    assert warden.end_of("look")["code"] == 0
    output = (directory.parent / "stdout").read_text()
    assert output.startswith("True []\n")
    pipe_is_ignored = int(output.split("SigIgn:")[1].split()[0], 16) >> (signal.SIGPIPE - 1) & 1
    assert pipe_is_ignored in (0, 1)  # Python itself ignores it; a shell tells
    warden.launch("pipe", "sh", "-c", "kill -PIPE $$")
    assert warden.end_of("pipe")["code"] == 128 + signal.SIGPIPE
    warden.disconnect()


def test_a_task_holds_no_file_of_the_warden(directory: Path) -> None:
    warden = Warden(directory)

    warden.launch("look", "sh", "-c", "ls /proc/$$/fd")

    warden.end_of("look")
    assert (directory.parent / "stdout").read_text().split() == ["0", "1", "2"]
    warden.disconnect()


# --- its own end ------------------------------------------------------------------------------------------


def test_a_warden_that_is_alone_and_idle_ends(directory: Path) -> None:
    warden = Warden(directory, "--idle-s", "0.1")
    warden.launch("short", "true")
    warden.end_of("short")
    pid = warden.pid

    warden.disconnect()

    until(lambda: not is_alive(pid), "its end")


def test_a_warden_with_a_task_stays_though_it_is_alone(directory: Path) -> None:
    warden = Warden(directory, "--idle-s", "0.5")
    task = warden.launch("long", "sh", "-c", "sleep 2; touch later; exec sleep 300")["task"]["pid"]
    pid = warden.pid
    warden.disconnect()

    until((directory.parent / "later").exists, "a time longer than its patience when idle")
    warden.connect()

    assert (is_alive(pid), is_alive(task)) == (True, True)
    assert warden.ask("leave")["leaves"] is False
    os.kill(task, signal.SIGKILL)
    assert warden.end_of("long")["code"] == 137
    assert warden.ask("leave")["leaves"] is True
    until(lambda: not is_alive(pid), "its end")
    warden.disconnect()


def test_a_warden_whose_directory_vanished_ends_with_its_last_task(directory: Path) -> None:
    warden = Warden(directory)
    task = warden.launch("long", "sleep", "300")["task"]["pid"]
    pid = warden.pid

    shutil.rmtree(directory)

    assert warden.ask("signal", key=["framework", "long"], signal=signal.SIGKILL) == {"id": 7}
    assert warden.end_of("long")["code"] == 137
    assert not is_alive(task)
    until(lambda: not is_alive(pid), "its end")
    warden.disconnect()


def test_a_start_that_was_announced_is_never_repeated(directory: Path) -> None:
    directory.mkdir()
    journal = Journal(directory / "journal")
    journal.announce(record("perhaps"))
    journal.close()

    warden = Warden(directory)

    task = warden.launch("perhaps", "touch", "started")["task"]
    assert (task["pid"], task["end"]["code"]) == (0, None)
    assert "whether it ran is not known" in task["end"]["message"]
    assert not (directory.parent / "started").exists()
    warden.disconnect()


def test_a_start_that_happened_but_was_not_noted_is_found_by_its_token(directory: Path) -> None:
    directory.mkdir()
    journal = Journal(directory / "journal")
    journal.announce(record("orphan"))
    journal.close()
    env = {**os.environ, "RUNRIG_WARDEN_TOKEN": "token-of-orphan"}
    with subprocess.Popen(["sleep", "300"], env=env, start_new_session=True) as orphan:
        until(lambda: processes.token_of(orphan.pid) == "token-of-orphan", "its exec")

        warden = Warden(directory)

        assert warden.launch("orphan", "false")["task"]["pid"] == orphan.pid
        orphan.kill()
    assert warden.end_of("orphan")["code"] in (None, 137)
    warden.disconnect()


# --- the journal ------------------------------------------------------------------------------------------


def record(task: str) -> Record:
    return Record(
        key=("framework", task),
        token=f"token-of-{task}",
        boot_id=processes.boot_id(),
        sandbox="/nowhere",
        cwd="/nowhere",
    )


def test_the_journal_remembers_what_it_was_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    for task in ("running", "ended", "forgotten"):
        journal.announce(record(task))
    running = journal.records["framework", "running"]
    running.pid, running.start_ticks, running.started_at_ms = 12, 34, 56
    journal.started(running)
    journal.ended(journal.records["framework", "ended"], End(3, 78, message="because"))
    journal.forgotten(journal.records["framework", "forgotten"])
    journal.flush()
    journal.close()

    again = Journal(tmp_path / "journal")

    assert again.records == {record.key: record for record in journal.records.values()}
    assert [key[1] for key in again.records] == ["running", "ended"]
    again.close()


def test_a_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.announce(record("whole"))
    journal.announce(record("cut"))
    journal.close()
    data = (tmp_path / "journal").read_bytes()
    (tmp_path / "journal").write_bytes(data[:-10])

    again = Journal(tmp_path / "journal")

    assert [key[1] for key in again.records] == ["whole"]
    again.close()


def test_the_journal_does_not_grow_without_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.announce(record("keep"))

    for number in range(3000):
        journal.announce(record(f"task-{number}"))
        journal.forgotten(journal.records["framework", f"task-{number}"])
        journal.flush()

    assert (tmp_path / "journal").stat().st_size < 1_000_000
    journal.close()
    again = Journal(tmp_path / "journal")
    assert list(again.records) == [("framework", "keep")]
    again.close()


# --- cgroups: version 2 is written to plain files, for machines that have only version 1 ------------------


def test_limits_of_version_2_are_written_as_the_kernel_reads_them(tmp_path: Path) -> None:
    groups = Cgroups([Hierarchy(cgroups.V2, tmp_path, tmp_path / "base")], [])
    token = tmp_path / "base/token"
    token.mkdir(parents=True)
    for file in ("cpu.weight", "cpu.max", "memory.max", "memory.swap.max", "pids.max"):
        (token / file).touch()
    limits = Limits(cpu_shares=1024, cpu_millis=1500, memory_bytes=64 << 20, pids=100)

    groups.share({cgroups.V2: str(token)}, limits)
    groups.limit({cgroups.V2: str(token)}, limits)

    written = {file.name: file.read_text() for file in token.iterdir()}
    assert written == {
        "cpu.weight": "39",
        "cpu.max": "150000 100000",
        "memory.max": str(64 << 20),
        "memory.swap.max": "0",
        "pids.max": "100",
    }


def test_out_of_memory_and_usage_of_version_2_are_read(tmp_path: Path) -> None:
    groups = {cgroups.V2: str(tmp_path)}
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 2000000\n")
    (tmp_path / "memory.current").write_text("5000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 1000000\n")

    assert cgroups.was_out_of_memory(groups)
    assert cgroups.usage(groups) == (2.5, 4_000_000)


def test_what_runs_is_killed_before_forks_are_forbidden(tmp_path: Path) -> None:
    """A shell that may no longer fork would end with an exit code of its own."""
    with subprocess.Popen(["sleep", "300"]) as process:
        (tmp_path / "cgroup.procs").write_text(f"{process.pid}\n")
        os.mkfifo(tmp_path / "pids.max")  # a write waits here until somebody reads
        killing = threading.Thread(target=cgroups.kill, args=({"pids": str(tmp_path)},), daemon=True)
        killing.start()

        try:
            assert process.wait(timeout=DEADLINE_S) == -signal.SIGKILL
        finally:
            process.kill()
        assert (tmp_path / "pids.max").read_text() == "0"
        killing.join()


def test_a_group_that_cannot_be_made_is_a_reason_not_an_error() -> None:
    found = cgroups.detect("tests-nowhere", Path("/proc/no/such/group"))

    assert isinstance(found.names, list)


# --- logs -------------------------------------------------------------------------------------------------


def test_a_log_is_rotated_by_copy_while_its_writer_goes_on(tmp_path: Path) -> None:
    limits = LogLimits(max_bytes=10, max_files=3)
    writer = open_log(tmp_path / "stdout")
    for word in ("first", "second", "third"):
        os.write(writer, f"{word} line\n".encode())
        assert rotate_by_copy(tmp_path / "stdout", limits)
    os.write(writer, b"last\n")
    os.close(writer)

    assert not rotate_by_copy(tmp_path / "stdout", limits)
    contents = [path.read_text() for path in log_files(tmp_path, "stdout")]
    assert contents == ["second line\n", "third line\n", "last\n"]


def test_a_log_is_rotated_by_rename(tmp_path: Path) -> None:
    for word in ("first", "second", "third"):
        (tmp_path / "stderr").write_text(word)
        rotate_by_rename(tmp_path / "stderr", LogLimits(max_bytes=1, max_files=3))

    assert [path.read_text() for path in log_files(tmp_path, "stderr")] == ["second", "third"]


def test_with_one_file_only_a_log_is_cut(tmp_path: Path) -> None:
    (tmp_path / "stdout").write_text("x" * 100)

    assert rotate_by_copy(tmp_path / "stdout", LogLimits(max_bytes=10, max_files=1))

    assert [path.stat().st_size for path in log_files(tmp_path, "stdout")] == [0]


def test_a_log_is_never_opened_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("x" * 100)
    (tmp_path / "stdout").symlink_to(tmp_path / "elsewhere")
    os.link(tmp_path / "elsewhere", tmp_path / "stderr")

    with pytest.raises(OSError, match="symbolic links"):
        open_log(tmp_path / "stdout")
    for stream in ("stdout", "stderr"):
        assert not rotate_by_copy(tmp_path / stream, LogLimits(max_bytes=10))
    assert (tmp_path / "elsewhere").stat().st_size == 100
