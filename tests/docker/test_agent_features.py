"""What an agent does for its tasks, with a real engine: each test is a line of what a user is promised."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runrig import CheckKind, HealthCheck, Limits, NetworkMode, PortWant, Reason, TaskState, Volume, Want, task
from runrig.testing.processes import until
from tests.acceptance.author import Author
from tests.acceptance.features import Place, in_terminal, often, place_of
from tests.docker.conftest import OwnEngine

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker-engine")]

IMAGE = "runrig/busybox:test"
INSIDE = "/mnt/runrig/sandbox"


@pytest.fixture(scope="module")
def place(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("features")
    with place_of(folder, "--runtime", "docker", "--docker-host", engine) as place:
        yield place


@pytest.fixture
def author(place: Place) -> Author:
    return place.author


def box(shell: str = "", **words: object) -> Want:
    """Describe a container."""
    return task(shell, image=IMAGE, **words)  # type: ignore[arg-type]


def test_a_container_finds_its_sandbox_by_its_environment_and_may_write_there(place: Place, author: Author) -> None:
    author.launch(
        "told", box("echo mine > $RUNRIG_SANDBOX/file; echo $RUNRIG_TASK_ID $RUNRIG_SANDBOX $MINE", env={"MINE": "x"})
    )

    assert place.printed("told") == f"told {INSIDE} x\n"
    assert (place.sandbox("told") / "file").read_text() == "mine\n"


def test_a_user_of_the_image_may_write_to_the_sandbox(place: Place, author: Author) -> None:
    author.launch("nobody", box("id -un; touch $RUNRIG_SANDBOX/mine && echo written", user="nobody"))

    assert place.printed("nobody") == "nobody\nwritten\n"


def test_commands_run_inside_the_container(place: Place, author: Author) -> None:
    author.launch("host", box("exec sleep 60", env={"MINE": "x"}))
    author.running("host")
    ask = "echo $MINE $RUNRIG_TASK_ID; touch $RUNRIG_SANDBOX/seen; echo oops >&2; exit 7"

    done = place.cluster.runrig("exec", "host", "--", "sh", "-c", ask, check=False)
    missing = place.cluster.runrig("exec", "host", "--", "/no/such", check=False)
    shown, code = in_terminal(
        place.cluster, ["exec", "-it", "host", "--", "sh"], ("# ", "echo A$((1+1))B\n"), ("A2B", "exit 9\n")
    )

    assert (done.returncode, done.stdout, done.stderr) == (7, "x host\n", "oops\n")
    assert (place.sandbox("host") / "seen").exists()
    assert (missing.returncode, missing.stdout) == (5, "")
    assert "cannot start '/no/such': it is not in the container" in missing.stderr
    assert (code, "A2B" in shown) == (9, True)


def test_health_is_checked_inside_the_container_and_over_its_network(place: Place, author: Author) -> None:
    serve = "mkdir /w; echo hi > /w/index.html; exec httpd -f -p 80 -h /w"
    checks = [
        HealthCheck(CheckKind.COMMAND, shell='test ! -e "$RUNRIG_SANDBOX/ill"'),
        HealthCheck(CheckKind.HTTP, path="/index.html"),
        HealthCheck(CheckKind.TCP, port=80),
    ]
    want = box(
        serve,
        network=NetworkMode.BRIDGE,
        ports=[PortWant(container_port=80)],
        health_checks=[replace(often(check), grace_ms=10_000) for check in checks],
    )
    author.launch("healthy", want)

    until(lambda: author.told("healthy") and author.told("healthy")[-1].healthy, "it is healthy")
    assert place.listed("healthy")["healthy"] is True
    (place.sandbox("healthy") / "ill").touch()
    ended = author.ended("healthy")

    assert (ended.state, ended.reason) == (TaskState.TASK_FAILED, Reason.HEALTH_CHECK)
    assert "command health check failed 3 times" in ended.message


def test_a_container_that_ignores_sigterm_is_killed_after_its_grace(place: Place, author: Author) -> None:
    author.launch("stubborn", box("trap '' TERM; echo up; while :; do sleep 0.1; done", kill_grace_s=1))
    until(lambda: author.told("stubborn") and place.output("stubborn"), "the trap is set")

    author.kill("stubborn")
    ended = author.ended("stubborn")

    killing = author.reached("stubborn", TaskState.TASK_KILLING)
    assert (ended.state, ended.exit_code) == (TaskState.TASK_KILLED, 137)
    assert ended.at_unix_ms - killing.at_unix_ms >= 1000


def test_a_container_runs_no_longer_than_it_may(author: Author) -> None:
    author.launch("long", box("exec sleep 60", max_run_s=0.5))

    assert author.ended("long").reason is Reason.MAX_RUN_TIME


def test_limits_hold_and_a_lack_of_memory_is_named(place: Place, author: Author) -> None:
    author.launch("greedy", box("x=a; while :; do x=$x$x$x; done", mem="16M"))
    limits = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us || cut -d' ' -f1 /sys/fs/cgroup/cpu.max"
    author.launch("slow", box(f"({limits}) 2>/dev/null"), limits=Limits(cpu_millis=250))

    ended = author.ended("greedy")

    assert (ended.state, ended.reason) == (TaskState.TASK_FAILED, Reason.OUT_OF_MEMORY)
    assert "16 MiB" in ended.message
    assert place.printed("slow") == "25000\n"


@pytest.mark.parametrize(
    "image, reason, word",
    [
        ("localhost:1/no/such:image", Reason.IMAGE_UNAVAILABLE, "docker load"),
        ("NOT a name", Reason.INVALID_TASK, "container.image is not the name of an image"),
    ],
)
def test_an_image_that_cannot_be_had_is_told_with_what_to_do(
    author: Author, image: str, reason: Reason, word: str
) -> None:
    name = author.launch(f"image-{reason.name.lower()}", task("true", image=image))

    ended = author.ended(name)

    assert (ended.state, ended.reason) == (TaskState.TASK_FAILED, reason)
    assert image in ended.message
    assert word in ended.message


def test_a_user_that_the_image_does_not_know_is_told_with_what_to_do(author: Author) -> None:
    author.launch("martian", box("id", user="martian"))

    ended = author.ended("martian")

    assert (ended.state, ended.reason) == (TaskState.TASK_FAILED, Reason.USER_UNKNOWN)
    assert "name one of its users, or give a uid" in ended.message


def test_a_port_that_something_else_uses_is_told(place: Place, author: Author) -> None:
    [agent] = place.cluster.json("agents", "ls")
    port = agent["resources"]["total"]["ports"][0][1]
    with socket.create_server(("0.0.0.0", port)):
        want = box("exec sleep 60", network=NetworkMode.BRIDGE, ports=[PortWant(host_port=port, container_port=80)])
        author.launch("second", want)
        ended = author.ended("second")

    assert (ended.state, ended.reason) == (TaskState.TASK_FAILED, Reason.PORT_IN_USE)
    assert str(port) in ended.message


def test_volumes_are_mounted_when_the_operator_allows_it(place: Place, author: Author) -> None:
    (place.volumes / "in").write_text("from the host\n")
    (place.volumes / "leak").symlink_to("/etc")
    shared, read_only = Volume(str(place.volumes), "/v"), Volume(str(place.volumes), "/r", read_only=True)
    author.launch("shares", box("cat /r/in; echo back > /v/out; touch /r/no || true"), volumes=(shared, read_only))
    author.launch("pries", box("ls /e"), volumes=(Volume("/etc", "/e"),))
    author.launch("sneaks", box("ls /e"), volumes=(Volume(str(place.volumes / "leak"), "/e"),))

    assert place.printed("shares") == "from the host\n"
    assert ((place.volumes / "out").read_text(), (place.volumes / "no").exists()) == ("back\n", False)
    assert "--allow-volume" in author.ended("pries").message
    assert {author.ended(name).reason for name in ("pries", "sneaks")} == {Reason.VOLUME_REFUSED}


def test_kill_nine_of_the_agent_costs_nothing(place: Place, author: Author) -> None:
    check = often(HealthCheck(CheckKind.COMMAND, shell='test ! -e "$RUNRIG_SANDBOX/ill"'))
    wait = "cd $RUNRIG_SANDBOX; until test -e go; do sleep 0.05; done"
    author.launch("stays", box("exec sleep 60", health_checks=[check]))
    author.launch("fails", box(f"{wait}; echo last words; exit 6"))
    author.launch("grows", box(f"{wait}; x=a; while :; do x=$x$x$x; done", mem="16M"))
    author.launch("unwanted", box("exec sleep 60"))
    before = {name: author.running(name) for name in ("stays", "fails", "grows", "unwanted")}

    place.cluster.kill("agent-1")
    for name in ("fails", "grows"):
        (place.sandbox(name) / "go").touch()
    author.kill("unwanted")
    until(lambda: not any(is_there(before[name].pid) for name in ("fails", "grows")), "two end while no agent looks")
    place.cluster.start("agent-1")

    ended = {name: author.ended(name) for name in ("fails", "grows", "unwanted")}
    assert {name: (each.reason, each.exit_code) for name, each in ended.items()} == {
        "fails": (Reason.EXITED, 6),
        "grows": (Reason.OUT_OF_MEMORY, 137),
        "unwanted": (Reason.KILLED_BY_FRAMEWORK, 143),
    }
    assert place.output("fails") == "last words\n"
    listed = place.listed("stays")
    assert (listed["state"], listed["container_id"]) == ("TASK_RUNNING", before["stays"].container_id)
    (place.sandbox("stays") / "ill").touch()
    assert author.ended("stays").reason is Reason.HEALTH_CHECK, "it is checked by the new agent as well"


@pytest.mark.dind
def test_while_the_engine_is_dead_its_containers_run_on_and_new_ones_wait(
    own_engine: OwnEngine, tmp_path: Path
) -> None:
    address = own_engine.start()
    with place_of(tmp_path, "--runtime", "docker", "--docker-host", address) as place:
        author = place.author
        author.launch("stays", box("i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done"))
        author.launch("ends", box("until test -e $RUNRIG_SANDBOX/go; do sleep 0.05; done; exit 6"))
        before = {name: author.running(name) for name in ("stays", "ends")}

        own_engine.kill()
        until(lambda: place.cluster.json("agents", "ls")[0]["runtimes"] == [], "the agent says so")
        author.launch("late", box("echo late"))
        (place.sandbox("ends") / "go").touch()
        until(lambda: not is_there(before["ends"].pid), "one ends without engine")
        refused = place.cluster.runrig("exec", "stays", "--", "true", check=False)
        own_engine.start()

        assert place.printed("late") == "late\n"
        assert [each.state for each in author.told("late")] == [TaskState.TASK_RUNNING, TaskState.TASK_FINISHED]
        assert author.ended("ends").exit_code == 6
        assert place.listed("stays")["container_id"] == before["stays"].container_id
        assert "Docker engine" in refused.stderr
        numbers = place.output("stays").split()
        assert numbers == [str(number) for number in range(1, len(numbers) + 1)]


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
