"""The command line, as a person and as a script use it, on one real cluster of processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from runrig.testing.processes import RealCluster, real_cluster, until

PROMISED = """
    id name framework framework_id agent_id hostname role state reason message runtime container_id pid
    resources started_at finished_at
"""
AMOUNTS = {"cpu_millis", "mem_mib", "disk_mib", "gpus", "ports", "custom"}
pytestmark = pytest.mark.xdist_group("real-cluster")

FULL = Path("/dev/full")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    directory = tmp_path_factory.mktemp("cli") / "cluster"
    options = ("--agents", "2", "--no-restart", "--runtime", "process", "--resources", "cpus:8;mem:2G")
    with real_cluster(directory, *options) as running:
        yield running


@pytest.fixture(scope="module")
def web(cluster: RealCluster) -> list[dict[str, Any]]:
    """Deploy an app of three; return its tasks."""
    app = {
        "id": "/web",
        "cmd": "echo it serves; echo of its ills >&2; exec python3 -m http.server $PORT0",
        "instances": 3,
        "cpus": 0.1,
        "mem": 32,
        "portDefinitions": [{"port": 0, "name": "http"}],
        "healthChecks": [{"protocol": "HTTP", "path": "/", "intervalSeconds": 1, "gracePeriodSeconds": 20}],
    }
    path = cluster.directory / "web.json"
    path.write_text(json.dumps(app))
    cluster.runrig("service", "deploy", str(path), "--wait")
    tasks = cluster.json("tasks", "ls", "--framework", "service")
    assert isinstance(tasks, list)
    return tasks


# What is printed


def test_lists_in_json_have_what_was_promised(cluster: RealCluster, web: list[dict[str, Any]]) -> None:
    for task in web:
        assert set(PROMISED.split()) <= task.keys()
        assert (task["state"], task["runtime"], task["framework"]) == ("TASK_RUNNING", "process", "service")
        os.kill(task["pid"], 0)
    for agent in cluster.json("agents", "ls"):
        assert {"id", "hostname", "state", "attributes"} <= agent.keys()
        assert {name: agent["resources"][name].keys() for name in agent["resources"]} == dict.fromkeys(
            ("total", "used", "offered", "free"), AMOUNTS
        )
    frameworks = {each["name"]: each for each in cluster.json("frameworks", "ls")}
    assert {"id", "name", "roles", "state", "connected", "tasks", "tasks_by_state"} <= frameworks["service"].keys()
    assert (frameworks["service"]["tasks"], frameworks["service"]["connected"]) == (3, True)
    assert {each["id"] for each in cluster.json("roles", "ls")} == {"service", "batch"}
    assert cluster.json("offers", "ls") == []


@pytest.mark.parametrize("what", ["agents", "frameworks", "roles", "tasks"])
def test_what_is_listed_is_shown_by_its_id_and_by_the_beginning_of_it(
    cluster: RealCluster, web: list[dict[str, Any]], what: str
) -> None:
    assert web
    for identity in cluster.runrig(what, "ls", "-o", "name").stdout.split():
        assert cluster.json(what, "show", identity)["id"] == identity
    begun = identity if what == "roles" else identity[:-1]
    others = [each for each in cluster.runrig(what, "ls", "-o", "name").stdout.split() if each.startswith(begun)]
    if len(others) == 1:
        assert cluster.json(what, "show", begun)["id"] == identity


def test_data_goes_to_stdout_and_hints_to_stderr(cluster: RealCluster) -> None:
    none = cluster.runrig("offers", "ls")
    submitted = cluster.runrig("batch", "submit", "--mem", "32M", "--", "true")

    assert (none.stdout, none.stderr) == ("", "no outstanding offers: none is free, or nobody wants any\n")
    job = submitted.stdout.strip()
    assert submitted.stderr == f"follow it with: runrig batch wait {job}\n"
    assert cluster.runrig("batch", "wait", job).stdout.splitlines()[1].split("\t")[:2] == [job, "succeeded"]


def test_the_version_is_that_of_this_program_and_of_the_master(cluster: RealCluster) -> None:
    said = cluster.json("version")

    assert said["client"] == said["server"]["version"]
    assert said["server"]["leader"] == cluster.master


def test_a_master_that_is_down_in_a_list_of_them_is_passed_over(cluster: RealCluster) -> None:
    listed = cluster.runrig("agents", "ls", "-o", "name", "--master", f"127.0.0.1:1,{cluster.master}")

    assert len(listed.stdout.split()) == 2


# Tasks


def test_output_is_read_followed_and_told_apart(cluster: RealCluster, web: list[dict[str, Any]]) -> None:
    task = web[0]["id"]

    assert cluster.runrig("logs", "--stdout", task).stdout == "it serves\n"
    assert cluster.runrig("logs", "--stderr", task).stdout.startswith("of its ills\n")
    with started(cluster, "logs", "-f", task) as follower:
        assert {follower.stdout.readline(), follower.stdout.readline()} == {"it serves\n", "of its ills\n"}
        follower.process.send_signal(signal.SIGINT)
        assert follower.end() == 130
        assert follower.stderr.read() == ""


def test_exec_joins_a_command_with_this_process_and_ends_as_it_does(
    cluster: RealCluster, web: list[dict[str, Any]]
) -> None:
    task = web[0]["id"]

    done = cluster.runrig("exec", task, "--", "sh", "-c", "pwd; echo bad >&2; exit 7", check=False)

    assert done.returncode == 7
    assert done.stdout.strip().endswith(task)
    assert done.stderr == "bad\n"


def test_a_killed_instance_is_replaced_and_its_output_can_still_be_read(
    cluster: RealCluster, web: list[dict[str, Any]]
) -> None:
    victim = web[-1]["id"]

    assert cluster.runrig("kill", victim, "--grace", "1s").stdout == f"{victim}\n"

    until(lambda: running(cluster) >= 3 and victim not in live(cluster), "another takes its place")
    assert cluster.runrig("logs", "--stdout", victim).stdout == "it serves\n"
    assert cluster.runrig("kill", victim).stderr == "it had ended already: TASK_KILLED\n"
    ended = cluster.runrig("exec", victim, "--", "true", check=False)
    assert (ended.returncode, "has ended" in ended.stderr) == (5, True)


# The two frameworks


def test_an_app_is_scaled_restarted_shown_and_removed(cluster: RealCluster) -> None:
    app = cluster.directory / "sleeper.json"
    app.write_text('{"id": "sleeper", "cmd": "exec sleep 1000", "instances": 2, "cpus": 0.01, "mem": 16}')
    cluster.runrig("service", "deploy", str(app), "--wait")
    before = instances(cluster, "sleeper")

    cluster.runrig("service", "scale", "sleeper", "3", "--wait")
    scaled = instances(cluster, "sleeper")
    cluster.runrig("service", "restart", "sleeper", "--wait")
    restarted = instances(cluster, "sleeper")
    cluster.runrig("service", "rm", "sleeper", "--wait")

    assert before < scaled
    assert (len(before), len(scaled), len(restarted), scaled & restarted) == (2, 3, 3, set())
    assert instances(cluster, "sleeper") == set()
    assert cluster.runrig("service", "show", "sleeper", check=False).returncode == 3


def test_a_command_runs_with_its_output_as_it_comes_and_its_exit_code(cluster: RealCluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo early; echo bad >&2; while [ ! -e {gate} ]; do sleep 0.05; done; echo late; exit 7"
    with started(cluster, "batch", "run", "--mem", "32M", "--", "sh", "-c", script) as run:
        assert run.stdout.readline() == "early\n", "it is there while the command runs"
        gate.touch()

        assert run.stdout.read() == "late\n"
        assert run.end() == 7
        assert run.stderr.read() == "bad\n"


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (None, 141)])
def test_a_command_whose_reader_goes_is_killed(cluster: RealCluster, number: signal.Signals | None, code: int) -> None:
    endless = ("--name", "endless", "--mem", "32M", "--", "sh", "-c", "while :; do echo y; done")
    with started(cluster, "batch", "run", *endless) as run:
        assert run.stdout.readline() == "y\n"

        if number is None:
            run.stdout.close()
        else:
            run.process.send_signal(number)
            run.stdout.read()

        assert run.end() == code
        said = run.stderr.read()
    [job] = cluster.json("batch", "ls", "--all", "--limit", "1")
    assert said == f"killed {job['id']}\n"
    assert cluster.runrig("batch", "wait", job["id"], check=False).stdout.splitlines()[1].split("\t")[1] == "killed"


def test_an_array_runs_each_index_once_and_keeps_what_it_wrote(cluster: RealCluster) -> None:
    words = ("--array", "20", "--parallel", "5", "--cpus", "0.1", "--mem", "32M", "--name", "part")
    job = cluster.json("batch", "submit", "--wait", *words, "--", "sh", "-c", "echo part $RUNRIG_ARRAY_INDEX")

    assert (job["state"], job["counts"]["succeeded"]) == ("succeeded", 20)
    assert cluster.runrig("batch", "logs", job["id"]).stdout == "".join(f"part {number}\n" for number in range(20))
    assert cluster.runrig("batch", "logs", f"{job['id']}.7").stdout == "part 7\n"


def test_retries_and_timeouts_are_kept(cluster: RealCluster) -> None:
    tried = cluster.runrig(
        *("batch", "run", "--mem", "32M", "--retries", "2", "--retry-delay", "100ms"),
        *("--", "sh", "-c", "echo try $RUNRIG_ATTEMPT; test $RUNRIG_ATTEMPT = 3"),
    )
    late = cluster.runrig("batch", "run", "--mem", "32M", "--timeout", "300ms", "--", "sleep", "1000", check=False)

    assert tried.stdout == "try 1\ntry 2\ntry 3\n"
    assert late.returncode not in (0, 4)
    assert "MAX_RUN_TIME" in late.stderr


# What goes wrong


@pytest.mark.parametrize(
    "words, code, part",
    [
        (("tasks", "show", "nope"), 3, "there is no task 'nope'"),
        (("agents", "show", "agent"), 2, "it may mean agent-"),
        (("tasks", "ls", "--state", "asleep"), 2, "'asleep' is not one of"),
        (("agents", "ls", "--master", "h:99999"), 2, "--master: 'h:99999' is not allowed"),
        (("agents", "ls", "--master", "127.0.0.1:1"), 4, "no master answers at 127.0.0.1:1; start a cluster with"),
        (("logs", "-f", "x", "--master", "127.0.0.1:1"), 4, "no master answers at 127.0.0.1:1; start a cluster with"),
        (("service", "ls", "--service", "127.0.0.1:1"), 4, "no service framework answers at http://127.0.0.1:1; "),
        (("batch", "wait", "x", "--batch", "127.0.0.1:1"), 4, "no batch framework answers at http://127.0.0.1:1; "),
        (("batch", "submit", "--cpus", "-1", "--", "true"), 2, "cpus: '-1' is not allowed; allowed: a number"),
        (("batch", "submit", "--array", "99999999999", "--", "true"), 2, "array: 99999999999 is not allowed"),
        (("batch", "submit", "--mem", "5Q", "--", "true"), 2, "mem: '5Q' is not allowed; allowed: a size"),
        (("batch", "submit", "/nowhere.toml"), 2, "/nowhere.toml cannot be read"),
        (("batch", "submit", "--", os.fsdecode(b"\xff")), 2, "argv[0]: '\\udcff' is not allowed"),
        (("service", "scale", "nope", "3"), 3, "App '/nope' does not exist"),
        (("service", "scale", "web", "-3"), 2, "-3"),
        (("kill", "nope"), 3, "there is no task 'nope'"),
        (("batch", "kill", "nope"), 3, "there is no job 'nope'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line_with_its_exit_code(
    cluster: RealCluster, words: tuple[str, ...], code: int, part: str
) -> None:
    done = cluster.runrig(*words, check=False)

    assert done.returncode == code
    assert done.stdout == ""
    assert part in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith(("runrig:", "Error:"))]) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [("tasks", "ls", "--all", "-o", "name"), ("agents", "ls", "-o", "json"), ("frameworks", "ls", "-o", "json")],
)
def test_a_reader_that_has_read_enough_is_no_error(cluster: RealCluster, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "runrig", *words]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            command, env=cluster.environment, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    finally:
        os.close(writing)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_full_disk_behind_stdout_is_an_error(cluster: RealCluster) -> None:
    with FULL.open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "runrig", "roles", "ls"],
            env=cluster.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == 1
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("framework", ["service", "batch"])
@pytest.mark.parametrize(
    "body, status",
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"id": "x", "name": ' + b"9" * 5_000 + b"}", 400),
        (b'{"id": "X Y", "name": "X Y", "cmd": "x", "command": "x"}', 422),
        (b'{"id": "x", "cmd": 5, "command": 5}', 422),
        (b'{"id": "x", "cmd": "\\ud800", "command": "\\ud800"}', 422),
        (b'{"id": "x", "cmd": "x", "command": "x", "cpus": -1}', 422),
        (b'{"id": "x", "cmd": "x", "command": "x", "mem": 1e400}', (400, 422)),
        (b" " * (8 * 1024 * 1024 + 1), 413),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_bodies_that_are_no_apps_or_jobs_are_refused_and_nothing_is_lost(
    cluster: RealCluster, framework: str, body: bytes, status: int | tuple[int, ...]
) -> None:
    url = cluster.environment[f"RUNRIG_{framework.upper()}"]
    path = "/v2/apps" if framework == "service" else "/v1/jobs"

    answered, said = post(url + path, body)

    assert answered in (status if isinstance(status, tuple) else (status,))
    assert json.loads(said)["message"]
    assert urllib.request.urlopen(f"{url}/healthz", timeout=20).status == 200


def test_dev_names_the_port_that_is_in_use_and_one_cluster_has_one_directory(
    cluster: RealCluster, tmp_path: Path
) -> None:
    again = cluster.runrig("dev", "--ports", "auto", "--data-dir", str(cluster.directory), check=False)

    assert again.returncode == 5
    assert f"(pid {cluster.supervisor.pid}) runs the cluster in {cluster.directory}" in again.stderr
    for words, what in (
        (("service", "run", "--listen", address(cluster, "service")), "the service API"),
        (("batch", "serve", "--listen", address(cluster, "batch")), "the batch API"),
    ):
        taken = cluster.runrig(*words, "--data-dir", str(tmp_path / words[0]), check=False)
        assert taken.returncode == 5
        assert f"{address(cluster, words[0])}, for {what}, is in use" in taken.stderr


@dataclass
class Running:
    """A command whose output is read while it runs."""

    process: subprocess.Popen[str]
    stdout: IO[str]
    stderr: IO[str]

    def end(self) -> int:
        """Wait until it ends; return its exit code."""
        return self.process.wait(20)


@contextmanager
def started(cluster: RealCluster, *words: str) -> Iterator[Running]:
    """Start a command, and end it with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "runrig", *words],
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        try:
            yield Running(process, process.stdout, process.stderr)
        finally:
            process.kill()
            process.wait()


def live(cluster: RealCluster) -> set[str]:
    return set(cluster.runrig("tasks", "ls", "-o", "name").stdout.split())


def instances(cluster: RealCluster, app: str) -> set[str]:
    return {each for each in live(cluster) if each.startswith(f"{app}.")}


def running(cluster: RealCluster) -> int:
    return int(cluster.json("service", "show", "web")["tasksRunning"])


def address(cluster: RealCluster, name: str) -> str:
    return cluster.environment[f"RUNRIG_{name.upper()}"].removeprefix("http://")


def post(url: str, body: bytes) -> tuple[int, bytes]:
    """Send a body; return the status and what was answered."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()
