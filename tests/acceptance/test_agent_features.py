"""What an agent does for its tasks, with real processes: each test is a line of what a user is promised."""

from __future__ import annotations

import hashlib
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import runrig
from runrig import CheckKind, Fetch, HealthCheck, Limits, Reason, TaskState, Volume, task
from runrig.testing.processes import until
from runrig_agent.warden import cgroups
from tests.acceptance.author import Author
from tests.acceptance.features import Place, in_terminal, often, place_of

pytestmark = pytest.mark.xdist_group("agent-features")

GROUPS = set(cgroups.detect("tests").names)
limits_memory = pytest.mark.skipif(not {"memory", cgroups.V2} & GROUPS, reason="cgroups cannot limit memory here")
limits_cpu = pytest.mark.skipif(not {"cpu", cgroups.V2} & GROUPS, reason="cgroups cannot limit cpu here")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place_of(tmp_path_factory.mktemp("features"), "--runtime", "process") as place:
        yield place


@pytest.fixture
def author(place: Place) -> Author:
    return place.author


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Serve the test's directory; give its address."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_task_is_told_who_and_where_it_is_and_its_own_environment(place: Place, author: Author) -> None:
    author.launch("told", task("echo $RUNRIG_TASK_ID $RUNRIG_AGENT_HOSTNAME $MINE; pwd; env", env={"MINE": "x"}))

    printed = place.printed("told").splitlines()

    assert printed[:2] == ["told agent-1 x", str(place.sandbox("told"))]
    assert f"RUNRIG_SANDBOX={place.sandbox('told')}" in printed
    assert f"RUNRIG_FRAMEWORK_ID={author.told('told')[0].framework_id}" in printed


def test_ports_come_from_the_offer_and_are_booked(place: Place, author: Author) -> None:
    author.launch("ports", task("echo $PORT0 $PORT1 $PORT $PORTS; exec sleep 60", ports=2))
    author.running("ports")
    until(lambda: place.output("ports").endswith("\n"), "the task has written")

    first, second = (port.host_port for port in author.view("ports").ports)
    [agent] = place.cluster.json("agents", "ls")

    assert place.output("ports") == f"{first} {second} {first} {first},{second}\n"
    assert place.listed("ports")["resources"]["ports"] == [[first, second]]
    assert all(
        any(low <= port <= high for low, high in agent["resources"]["total"]["ports"]) for port in (first, second)
    )
    author.kill("ports", grace_s=0)


def test_a_task_that_ignores_sigterm_is_killed_after_its_grace(author: Author, place: Place) -> None:
    author.launch("stubborn", task("trap '' TERM; echo up; while :; do sleep 0.1; done", kill_grace_s=1))
    until(lambda: author.told("stubborn") and place.output("stubborn"), "the trap is set")

    author.kill("stubborn")
    ended = author.ended("stubborn")

    killing = author.reached("stubborn", TaskState.TASK_KILLING)
    assert (ended.state, ended.exit_code) == (TaskState.TASK_KILLED, 137)
    assert ended.at_unix_ms - killing.at_unix_ms >= 1000


def test_a_task_that_takes_sigterm_ends_its_own_way(author: Author, place: Place) -> None:
    author.launch("polite", task("trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.1; done"))
    until(lambda: author.told("polite") and place.output("polite"), "the trap is set")

    author.kill("polite")

    assert (author.ended("polite").state, place.output("polite")) == (TaskState.TASK_KILLED, "up\nbye\n")


def test_a_task_runs_no_longer_than_it_may(author: Author) -> None:
    author.launch("long", task("exec sleep 60", max_run_s=0.5))

    ended = author.ended("long")

    assert (ended.state, ended.reason) == (TaskState.TASK_FAILED, Reason.MAX_RUN_TIME)
    assert "0.5 s" in ended.message


def test_health_is_seen_in_the_list_of_tasks(place: Place, author: Author) -> None:
    serve = "echo hi > index.html; exec python3 -m http.server $PORT0 --bind 127.0.0.1"
    checks = (
        HealthCheck(CheckKind.COMMAND, shell='test -e "$RUNRIG_SANDBOX/index.html"'),
        HealthCheck(CheckKind.HTTP, path="/index.html"),
        HealthCheck(CheckKind.TCP),
    )
    author.launch(
        "healthy",
        task(serve, mem="64M", ports=1, health_checks=[replace(often(check), grace_ms=10_000) for check in checks]),
    )

    until(lambda: author.told("healthy") and author.told("healthy")[-1].healthy, "it is healthy")
    assert place.listed("healthy")["healthy"] is True
    (place.sandbox("healthy") / "index.html").unlink()
    ended = author.ended("healthy")

    assert [each.healthy for each in author.told("healthy") if each.state is TaskState.TASK_RUNNING] == [
        None,
        True,
        False,
    ]
    assert (ended.state, ended.reason) == (TaskState.TASK_FAILED, Reason.HEALTH_CHECK)
    assert "3 times" in ended.message


@pytest.mark.parametrize(
    "check, word",
    [
        (HealthCheck(CheckKind.COMMAND, shell="echo no good; exit 4"), "exit code 4: no good"),
        (HealthCheck(CheckKind.HTTP), "GET http://127.0.0.1:"),
        (HealthCheck(CheckKind.TCP), "Connection refused"),
    ],
    ids=["command", "http", "tcp"],
)
def test_a_task_that_fails_its_health_check_is_killed_and_says_why(
    author: Author, check: HealthCheck, word: str
) -> None:
    name = f"ill-{check.kind.name.lower()}"
    author.launch(name, task("exec sleep 60", ports=1, health_checks=[often(check)]))

    ended = author.ended(name)

    assert (ended.state, ended.reason, ended.healthy) == (TaskState.TASK_FAILED, Reason.HEALTH_CHECK, False)
    assert word in ended.message


def test_files_are_fetched_from_allowed_directories_and_the_web(
    place: Place, author: Author, web: str, tmp_path: Path
) -> None:
    (place.files / "local.txt").write_text("local\n")
    (tmp_path / "tool").write_text("#!/bin/sh\necho fetched tool\n")
    digest = hashlib.sha256((tmp_path / "tool").read_bytes()).hexdigest()
    fetch = (
        Fetch(str(place.files / "local.txt")),
        Fetch(f"{web}/tool", destination="bin/tool", executable=True, sha256=digest),
    )
    author.launch("fetches", task("cat local.txt; ./bin/tool"), fetch=fetch)

    assert place.printed("fetches") == "local\nfetched tool\n"
    assert author.told("fetches")[0].reason is Reason.FETCHING


@pytest.mark.parametrize("uri, word", [("/etc/passwd", "--allow-fetch"), ("{web}/nothing", "404")])
def test_a_file_that_cannot_be_fetched_fails_the_task_with_the_reason(
    author: Author, web: str, uri: str, word: str
) -> None:
    name = author.launch(f"fetch-{word.strip('-')}", task("true"), fetch=(Fetch(uri.format(web=web)),))

    ended = author.ended(name)

    assert (ended.state, ended.reason) == (TaskState.TASK_FAILED, Reason.FETCH_FAILED)
    assert word in ended.message


def test_a_volume_is_shared_with_the_host_when_the_operator_allows_it(place: Place, author: Author) -> None:
    (place.volumes / "in").write_text("from the host\n")
    author.launch("shares", task("cat v/in; echo back > v/out"), volumes=(Volume(str(place.volumes), "v"),))
    author.launch("pries", task("ls e"), volumes=(Volume("/etc", "e"),))

    assert place.printed("shares") == "from the host\n"
    assert (place.volumes / "out").read_text() == "back\n"
    refused = author.ended("pries")
    assert (refused.state, refused.reason) == (TaskState.TASK_ERROR, Reason.VOLUME_REFUSED)
    assert "--allow-volume" in refused.message


def test_a_user_that_the_host_does_not_know_is_told_with_what_to_do(author: Author) -> None:
    author.launch("martian", task("id", user="martian"))

    ended = author.ended("martian")

    assert (ended.state, ended.reason) == (TaskState.TASK_FAILED, Reason.USER_UNKNOWN)
    assert "there is no user 'martian' on this agent; name one that it has" in ended.message


@limits_memory
def test_a_task_that_takes_too_much_memory_ends_as_out_of_memory(author: Author) -> None:
    author.launch("greedy", task("x=a; while :; do x=$x$x$x; done", mem="16M"))

    ended = author.ended("greedy")

    assert (ended.state, ended.reason) == (TaskState.TASK_FAILED, Reason.OUT_OF_MEMORY)
    assert "16 MiB" in ended.message


@limits_cpu
def test_a_limit_of_cpu_holds(place: Place, author: Author) -> None:
    burn = (
        "import time\nbegin = time.monotonic()\nwhile time.process_time() < 0.4: pass\nprint(time.monotonic() - begin)"
    )
    author.launch("burns", task(argv=[sys.executable, "-c", burn], mem="64M"), limits=Limits(cpu_millis=200))

    assert float(place.printed("burns")) > 1.2, "0.4 s of work at a fifth of a cpu"


def test_output_is_rotated(place: Place, author: Author) -> None:
    author.launch("chatty", task("head -c 11000000 /dev/zero; echo end; exec sleep 60", mem="64M"))
    author.running("chatty")

    until((place.sandbox("chatty") / "stdout.1").exists, "it was rotated")

    shown = place.cluster.runrig("logs", "-n", "1", "chatty").stdout
    assert shown.endswith("end\n")
    author.kill("chatty", grace_s=0)


def test_logs_are_shown_followed_and_cut_to_the_last_lines(place: Place, author: Author) -> None:
    author.launch("talks", task("for i in 1 2 3 4 5; do echo line $i; done; echo oops >&2; sleep 1; echo end"))
    author.running("talks")

    followed = place.cluster.runrig("logs", "-f", "--stdout", "talks").stdout

    assert followed == "".join(f"line {number}\n" for number in range(1, 6)) + "end\n"
    assert place.cluster.runrig("logs", "-n", "2", "--stdout", "talks").stdout == "line 5\nend\n"
    assert place.cluster.runrig("logs", "--stderr", "talks").stdout == "oops\n"


def test_files_of_a_sandbox_are_listed_and_read_and_nothing_else(place: Place, author: Author) -> None:
    author.launch("writes", task("mkdir d; echo one > d/one; ln -s /etc/passwd leak"))
    place.printed("writes")

    async def look() -> tuple[list[str], bytes]:
        status, address = author.told("writes")[-1], author.view("writes").agent_address
        async with runrig.Sandbox(address) as sandbox:
            names = [file.path for file in await sandbox.list_files(status.framework_id, "writes")]
            content = b"".join([data async for data in sandbox.read_file(status.framework_id, "writes", "d/one")])
            with pytest.raises(runrig.InvalidInput, match="leak"):
                [data async for data in sandbox.read_file(status.framework_id, "writes", "leak")]
        return names, content

    assert author.ask(look()) == (["d", "leak", "stderr", "stdout"], b"one\n")


def test_commands_run_where_the_task_runs(place: Place, author: Author) -> None:
    author.launch("host", task("exec sleep 60", env={"MINE": "x"}))
    author.running("host")
    ask = "echo $MINE $RUNRIG_TASK_ID $RUNRIG_SANDBOX; pwd; echo oops >&2; exit 7"

    done = place.cluster.runrig("exec", "host", "--", "sh", "-c", ask, check=False)
    missing = place.cluster.runrig("exec", "host", "--", "/no/such", check=False)

    home = place.sandbox("host")
    assert (done.returncode, done.stdout, done.stderr) == (7, f"x host {home}\n{home}\n", "oops\n")
    assert missing.returncode != 0
    assert "cannot start '/no/such'" in missing.stderr


def test_a_shell_in_a_terminal_passes_keys_on_and_ends_with_its_exit_code(place: Place, author: Author) -> None:
    author.launch("shell", task("exec sleep 60"))
    author.running("shell")

    shown, code = in_terminal(
        place.cluster,
        ["exec", "-it", "shell", "--", "sh"],
        ("# ", "stty size; echo A$((1+1))B\n"),
        ("A2B\r\n# ", "sleep 60\n"),
        ("sleep 60\r\n", "\x03"),
        ("# ", "exit 9\n"),
    )

    assert code == 9
    assert "A2B" in shown


def test_kill_nine_of_the_agent_costs_nothing(place: Place, author: Author, tmp_path: Path) -> None:
    marker = f"touch {tmp_path}/$RUNRIG_TASK_ID"
    check = often(HealthCheck(CheckKind.COMMAND, shell="test ! -e ill"))
    author.launch("stays", task("exec sleep 60", health_checks=[check]))
    author.launch("fails", task(f"until test -e {tmp_path}/go; do sleep 0.05; done; echo last words; {marker}; exit 6"))
    author.launch("ends", task(f"until test -e {tmp_path}/go; do sleep 0.05; done; {marker}"))
    author.launch("unwanted", task("exec sleep 60"))
    pids = {name: author.running(name).pid for name in ("stays", "fails", "ends", "unwanted")}

    place.cluster.kill("agent-1")
    (tmp_path / "go").touch()
    author.kill("unwanted")
    until(lambda: (tmp_path / "fails").exists() and (tmp_path / "ends").exists(), "two end while no agent looks")
    place.cluster.start("agent-1")

    ended = {name: author.ended(name) for name in ("fails", "ends", "unwanted")}
    assert {name: (each.state.name, each.exit_code) for name, each in ended.items()} == {
        "fails": ("TASK_FAILED", 6),
        "ends": ("TASK_FINISHED", 0),
        "unwanted": ("TASK_KILLED", 143),
    }
    assert place.output("fails") == "last words\n"
    listed = place.listed("stays")
    assert (listed["state"], listed["pid"]) == ("TASK_RUNNING", pids["stays"])
    (place.sandbox("stays") / "ill").touch()
    assert author.ended("stays").reason is Reason.HEALTH_CHECK, "it is checked by the new agent as well"


def test_a_full_disk_stops_no_agent_and_starts_no_task(place: Place, author: Author, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no small disk can be made here")
    on = [runrig.Constraint("hostname", runrig.Operator.EQUALS, "small")]
    words = [sys.executable, "-m", "runrig", "agent", "--master", place.cluster.master, "--work-dir", str(small / "w")]
    words += ["--ports", "auto", "--hostname", "small", "--resources", "cpus:1;mem:512M", "--runtime", "process"]
    quiet = partial(
        subprocess.Popen, words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    agent = quiet()

    def state() -> tuple[str, list[str]]:
        [shown] = [each for each in place.cluster.json("agents", "ls") if each["hostname"] == "small"]
        return shown["state"], shown["runtimes"]

    try:
        fill = "head -c 100m /dev/zero > hog; until test -e go; do sleep 0.1; done; exit 3"
        author.launch("hog", task(fill, constraints=on))
        author.running("hog")
        until(lambda: state()[1] == [], "the agent says that nothing can be started on it")
        author.launch("waits", task("echo started", constraints=on))
        hog = small / "w" / "sandboxes" / author.told("hog")[0].framework_id / "hog"
        go = hog / "go"
        go.symlink_to("/")  # takes no block of the disk
        failed = author.ended("hog")

        assert (failed.state, failed.exit_code) == (TaskState.TASK_FAILED, 3), "told although the disk is full"
        assert author.told("waits") == []
        assert agent.poll() is None, "the agent runs on"
        agent.kill()
        agent.wait()
        agent = quiet()
        until(lambda: state() == ("ACTIVE", []), "a new agent starts on the full disk")
        (hog / "hog").unlink()
        assert author.ended("waits").state is TaskState.TASK_FINISHED
    finally:
        agent.terminate()
        agent.wait()
        subprocess.run(["umount", "--lazy", str(small)], check=True)
