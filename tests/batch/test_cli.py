"""The command line against a real server on loopback: the mind runs on a cluster that runs what is wanted at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from click.testing import CliRunner, Result

from runrig.cli.main import main
from runrig.ids import TaskId
from runrig.tasks import Reason, TaskState
from runrig.wants import Answer
from runrig_batch.cli.client import frames
from tests.batch.runner import Runner


class Server:
    """The API in a thread of its own; `python` is what every task does: it looks at its command."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.ready = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve()))

    async def serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.runner = Runner(self.tmp_path)
        answered = self.runner.cluster.on_answer

        def then_run(answer: Answer) -> None:
            answered(answer)
            self.loop.call_soon(self.run_wanted)

        self.runner.cluster.on_answer = then_run
        config = uvicorn.Config(self.runner.app, log_level="error", lifespan="off")
        self.server = uvicorn.Server(config)
        self.ready.set()
        await self.server.serve(sockets=[self.listener])
        await self.runner.http.aclose()

    def run_wanted(self) -> None:
        """Do what a task's command says: `write TEXT`, `exit CODE`, `hang`."""
        cluster, sandboxes = self.runner.cluster, self.runner.sandboxes
        for task_id in list(cluster.wanted):
            words = cluster.wanted[task_id].spec.command.argv
            cluster.launch(task_id)
            if words[0] == "hang":
                continue
            if words[0] == "write":
                sandboxes.write(task_id, f"{words[1]}\n".encode())
                sandboxes.write(task_id, b"done\n", "stderr")
            sandboxes.end(task_id)
            code = int(words[1]) if words[0] == "exit" else 0
            state = TaskState.TASK_FAILED if code else TaskState.TASK_FINISHED
            cluster.says(task_id, state, Reason.EXITED, code)
        for task_id in list(cluster.stopping):
            sandboxes.end(task_id)
            cluster.says(TaskId(task_id), TaskState.TASK_KILLED, Reason.KILLED_BY_FRAMEWORK)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.thread.start()
    server.ready.wait(10)
    yield server
    server.server.should_exit = True
    server.thread.join(10)
    with contextlib.suppress(OSError):
        server.listener.close()


def call(server: Server, *words: str, stdin: str | None = None) -> Result:
    env = {"RUNRIG_BATCH": server.url, "RUNRIG_OUTPUT": None, "XDG_CONFIG_HOME": str(server.tmp_path)}
    return CliRunner().invoke(main, ["batch", *words], input=stdin, env=env)


def test_a_command_that_is_no_unicode_is_refused_by_name(server: Server) -> None:
    result = call(server, "submit", "--", "write", os.fsdecode(b"\xff"))

    assert result.exit_code == 2
    assert result.stderr == "runrig: argv[1]: '\\udcff' is not allowed; allowed: valid Unicode\n"


def test_run_gives_the_commands_output_and_its_exit_code(server: Server) -> None:
    result = call(server, "run", "--", "write", "hello")
    assert (result.stdout, result.stderr, result.exit_code) == ("hello\n", "done\n", 0)

    result = call(server, "run", "exit", "7")
    assert (result.stdout, result.exit_code) == ("", 7)


def test_run_goes_through_retries(server: Server) -> None:
    result = call(server, "run", "--retries", "0", "--env", "A=b", "--", "exit", "3")

    assert result.exit_code == 3


def test_submit_from_a_command_a_file_and_standard_input(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text('argv = ["exit", "0"]\nname = "mine"\narray = 3\n')

    assert call(server, "submit", "--array", "2", "--", "exit", "0").stdout == "exit-1\n"
    assert call(server, "submit", str(file), "--wait").stdout == "mine-2\n"
    assert call(server, "submit", "-", stdin='{"argv": ["exit", "1"]}').stdout == "exit-3\n"
    result = call(server, "submit", str(file), "--name", "yours", "--wait", "-o", "json")
    shown = json.loads(result.stdout)
    assert (shown["id"], shown["state"], shown["size"]) == ("yours-4", "succeeded", 3)


def test_submit_makes_a_task_of_each_line(server: Server, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("a b\n\nc\n")

    call(server, "submit", "--each-line", str(lines), "--wait", "--", "exit", "0")

    shown = json.loads(call(server, "show", "exit", "-o", "json").stdout)
    assert [task["item"] for task in shown["tasks"]] == ["a b", "c"]


def test_submit_starts_a_gang_and_refuses_what_cannot_be_one(server: Server) -> None:
    words = ("submit", "--gang", "3", "--expected-runtime", "10m", "--wait", "-o", "json", "--", "exit", "0")

    job = json.loads(call(server, *words).stdout)
    refused = call(server, "submit", "--gang", "3", "--array", "3", "--", "exit", "0")

    assert (job["state"], job["size"], job["is_gang"]) == ("succeeded", 3, True)
    assert refused.exit_code != 0
    assert "array: '3' is not allowed; allowed: nothing beside gang" in refused.stderr


def test_progress_is_shown_on_stderr_while_it_waits(server: Server) -> None:
    result = call(server, "submit", "--array", "3", "--progress", "--", "exit", "0")

    assert (result.stdout, result.exit_code) == ("exit-1\n", 0)


def test_submit_exits_with_1_if_the_job_it_waited_for_failed(server: Server) -> None:
    result = call(server, "submit", "--wait", "--", "exit", "9")
    assert (result.exit_code, result.stdout) == (1, "exit-1\n")
    assert result.stderr == "runrig: exit-1 failed: EXITED\n"


def test_submit_names_the_first_task_that_failed_of_those_it_waited_for(server: Server) -> None:
    result = call(server, "submit", "--array", "2", "--wait", "--", "exit", "9")

    assert "runrig: exit-1 failed: 2 of 2 tasks failed; exit-1.0: EXITED" in result.stderr


@pytest.mark.parametrize(
    "words, said",
    [
        (["submit", "echo", "hi"], "after `--`"),
        (["submit", "nothing-here"], "cannot be read"),
        (["submit", "--retries", "many", "--", "x"], "retries"),
        (["submit"], "command"),
        (["run", "-e", "A", "--", "x"], "NAME=VALUE"),
        (["run"], "command"),
        (["logs", "a.b.c"], "JOB.INDEX"),
        (["wait", "x", "--timeout", "soon"], "--timeout"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_allowed(server: Server, words: list[str], said: str) -> None:
    result = call(server, *words)

    assert result.exit_code == 2
    assert said in result.stderr


def test_serve_listens_beyond_this_machine_only_when_told_so(server: Server) -> None:
    result = call(server, "serve", "--listen", "0.0.0.0:8090")

    assert result.exit_code == 2
    assert "--allow-remote" in result.stderr


def test_a_job_that_is_not_there_exits_with_3(server: Server) -> None:
    for words in (["show", "x"], ["logs", "x"], ["kill", "x"], ["wait", "x"], ["logs", "x.3"]):
        assert call(server, *words).exit_code == 3


def test_a_server_that_is_not_there_exits_with_4(server: Server) -> None:
    result = call(server, "ls", "--batch", "http://127.0.0.1:1")

    assert result.exit_code == 4
    assert result.stderr.startswith("runrig: no batch framework answers at http://127.0.0.1:1; ")


def test_a_key_used_for_another_job_exits_with_5(server: Server) -> None:
    assert call(server, "submit", "--key", "k", "--", "exit", "0").exit_code == 0
    assert call(server, "submit", "--key", "k", "--", "exit", "0").exit_code == 0

    assert call(server, "submit", "--key", "k", "--", "exit", "1").exit_code == 5


def test_ls_shows_what_is_active_and_all_on_demand(server: Server) -> None:
    call(server, "submit", "--", "hang")
    call(server, "submit", "--", "exit", "1")

    lines = call(server, "ls").stdout.splitlines()
    assert lines[0].split("\t")[:3] == ["ID", "STATE", "DONE"]
    assert [line.split("\t")[:3] for line in lines[1:]] == [["hang-1", "running", "0/1"]]
    assert call(server, "ls", "--all", "-o", "name").stdout == "exit-2\nhang-1\n"
    assert [job["state"] for job in json.loads(call(server, "ls", "--state", "failed", "-o", "json").stdout)] == [
        "failed"
    ]


def test_logs_of_a_task_and_of_a_whole_array(server: Server) -> None:
    call(server, "submit", "--array", "2", "--", "write", "hello")

    one = call(server, "logs", "write-1.1")
    assert (one.stdout, one.stderr) == ("hello\n", "done\n")
    assert call(server, "logs", "write.0", "--stream", "stdout").stdout == "hello\n"
    every = call(server, "logs", "write-1")
    assert every.stdout == "hello\nhello\n"
    assert "==> write-1.1" in every.stderr
    assert call(server, "logs", "-f", "write-1").exit_code == 2


def test_kill_and_wait(server: Server) -> None:
    call(server, "submit", "--", "hang")
    assert call(server, "wait", "hang", "--timeout", "1ms").exit_code == 124

    assert call(server, "kill", "hang-1").exit_code == 0

    result = call(server, "wait", "hang-1")
    assert result.exit_code == 1
    assert "killed" in result.stdout


def test_a_prefix_that_may_mean_several_jobs_is_refused(server: Server) -> None:
    call(server, "submit", "--", "exit", "0")
    call(server, "submit", "--", "exit", "0")

    result = call(server, "show", "exit")

    assert result.exit_code == 2
    assert "exit-2, exit-1" in result.stderr


def test_frames_are_found_however_they_are_cut() -> None:
    data = b"\x01\x00\x00\x00\x02hi" + b"\x02\x00\x00\x00\x00" + b"\x03\x00\x00\x00\x01!"

    for size in range(1, len(data) + 1):
        chunks = (data[start : start + size] for start in range(0, len(data), size))
        assert list(frames(chunks)) == [("stdout", b"hi"), ("stderr", b""), ("note", b"!")]
