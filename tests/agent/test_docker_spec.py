"""From a task to a container: plain data in, plain data out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runrig.ids import FrameworkId, TaskId
from runrig.resources import Resources
from runrig.tasks import Command, Container, Limits, NetworkMode, Port, Reason, TaskSpec, Volume
from runrig_agent.runtime import LaunchFailed, LaunchOrder
from runrig_agent.runtimes.docker_containers import State, unix_ms
from runrig_agent.runtimes.docker_errors import launch_failed
from runrig_agent.runtimes.docker_settings import ContainerSettings
from runrig_agent.runtimes.docker_spec import MIN_MEMORY_BYTES, container_name, key_of, planned
from runrig_agent.runtimes.docker_streams import EngineAnswer

AGENT = "agent-0123456789abcdef"
SETTINGS = ContainerSettings()


def ordered(
    sandbox: str = "/agent/sandboxes/1",
    env: tuple[tuple[str, str], ...] = (),
    task: str = "task-1",
    resources: Resources | None = None,
    image: str = "busybox",
    container: Container | None = None,
    **words: Any,
) -> LaunchOrder:
    spec = TaskSpec(
        TaskId(task),
        resources or Resources(cpu_millis=500, mem_mib=64),
        container=container or Container(image),
        **words,
    )
    return LaunchOrder((FrameworkId("fw"), spec.task_id), spec, Path(sandbox), env)


def body(order: LaunchOrder, settings: ContainerSettings = SETTINGS) -> dict[str, Any]:
    return planned(order, AGENT, settings).body


def host(order: LaunchOrder, settings: ContainerSettings = SETTINGS) -> dict[str, Any]:
    found: dict[str, Any] = body(order, settings)["HostConfig"]
    return found


def refused(order: LaunchOrder, settings: ContainerSettings = SETTINGS) -> LaunchFailed:
    with pytest.raises(LaunchFailed) as failed:
        planned(order, AGENT, settings)
    assert failed.value.is_task_fault
    return failed.value


def test_every_container_is_confined() -> None:
    confined = host(ordered())

    assert confined["Privileged"] is False
    assert confined["SecurityOpt"] == ["no-new-privileges"]
    assert set(confined["CapDrop"]) == {"NET_RAW", "MKNOD"}
    assert confined["Init"] is True
    assert confined["PidsLimit"] == 4096
    assert not {"PidMode", "IpcMode", "UTSMode", "Devices", "CapAdd", "Binds"} & set(confined)
    assert body(ordered())["Healthcheck"] == {"Test": ["NONE"]}


def test_the_sandbox_is_mounted_and_the_environment_says_where() -> None:
    order = ordered(env=(("RUNRIG_SANDBOX", "/agent/sandboxes/1"), ("PORT0", "31000")))

    assert body(order)["Env"] == ["RUNRIG_SANDBOX=/mnt/runrig/sandbox", "PORT0=31000"]
    assert host(order)["Mounts"] == [
        {"Type": "bind", "Source": "/agent/sandboxes/1", "Target": "/mnt/runrig/sandbox", "ReadOnly": False}
    ]


@pytest.mark.parametrize(
    "command, expected",
    [
        (Command(shell="echo $HOME"), {"Entrypoint": ["/bin/sh", "-c", "echo $HOME"], "Cmd": []}),
        (Command(argv=("echo", "$HOME")), {"Cmd": ["echo", "$HOME"]}),
        (Command(), {}),
    ],
)
def test_a_shell_replaces_the_entry_point_and_words_are_given_to_it(command: Command, expected: dict[str, Any]) -> None:
    made = body(ordered(command=command))

    assert {name: made[name] for name in ("Entrypoint", "Cmd") if name in made} == expected


@pytest.mark.parametrize(
    "directory, expected",
    [("/srv", "/srv"), ("data/in", "/mnt/runrig/sandbox/data/in"), (".", "/mnt/runrig/sandbox"), ("", None)],
)
def test_a_relative_working_directory_is_in_the_sandbox(directory: str, expected: str | None) -> None:
    made = body(ordered(command=Command(working_directory=directory)))

    assert made.get("WorkingDir") == expected


def test_limits_follow_the_resources() -> None:
    limits = host(ordered(resources=Resources(cpu_millis=1500, mem_mib=100)))

    assert (limits["CpuShares"], limits["Memory"], limits["MemorySwap"]) == (1536, 100 << 20, 100 << 20)
    assert "NanoCpus" not in limits


def test_limits_of_its_own_go_before_the_resources() -> None:
    limits = host(ordered(limits=Limits(cpu_millis=2500, mem_mib=256, pids=10)))

    assert (limits["NanoCpus"], limits["Memory"], limits["PidsLimit"]) == (2_500_000_000, 256 << 20, 10)


def test_limits_are_never_lower_than_the_engine_takes() -> None:
    limits = host(ordered(resources=Resources(cpu_millis=1, mem_mib=1)))

    assert (limits["CpuShares"], limits["Memory"]) == (2, MIN_MEMORY_BYTES)
    assert "Memory" not in host(ordered(resources=Resources(cpu_millis=1)))


def test_ports_are_mapped_on_networks_of_its_own_only() -> None:
    ports = (Port(31000, 80), Port(31001, protocol="udp"), Port(31002, 80))
    bridged = ordered(container=Container("busybox", network=NetworkMode.BRIDGE), ports=ports)

    assert host(bridged)["PortBindings"] == {
        "80/tcp": [{"HostPort": "31000"}, {"HostPort": "31002"}],
        "31001/udp": [{"HostPort": "31001"}],
    }
    assert body(bridged)["ExposedPorts"] == {"80/tcp": {}, "31001/udp": {}}
    assert host(ordered(ports=ports))["PortBindings"] == {}


@pytest.mark.parametrize(
    "mode, name, expected",
    [
        (NetworkMode.HOST, "", "host"),
        (NetworkMode.BRIDGE, "", "bridge"),
        (NetworkMode.NONE, "", "none"),
        (NetworkMode.USER, "backend", "backend"),
    ],
)
def test_networks_have_their_names(mode: NetworkMode, name: str, expected: str) -> None:
    assert host(ordered(container=Container("i", network=mode, network_name=name)))["NetworkMode"] == expected


@pytest.mark.parametrize("name", ["", "host", "container:other", "default", "a b"])
def test_a_network_of_another_container_or_of_the_host_is_not_had_by_its_name(name: str) -> None:
    failed = refused(ordered(container=Container("i", network=NetworkMode.USER, network_name=name)))

    assert failed.reason is Reason.INVALID_TASK


def test_a_volume_within_the_allowed_roots_is_mounted_as_what_it_really_is(tmp_path: Path) -> None:
    (tmp_path / "allowed/data").mkdir(parents=True)
    (tmp_path / "allowed/link").symlink_to(tmp_path / "allowed/data")
    settings = replace(SETTINGS, volume_roots=(tmp_path / "allowed",))
    order = ordered(volumes=(Volume(str(tmp_path / "allowed/link"), "in", read_only=True),))

    assert host(order, settings)["Mounts"][1] == {
        "Type": "bind",
        "Source": str(tmp_path / "allowed/data"),
        "Target": "/mnt/runrig/sandbox/in",
        "ReadOnly": True,
    }


@pytest.mark.parametrize("path", ["etc", "allowed/../etc", "allowed/link", "allowedtoo"])
def test_a_volume_elsewhere_is_refused(tmp_path: Path, path: str) -> None:
    for name in ("allowed", "allowedtoo", "etc"):
        (tmp_path / name).mkdir()
    (tmp_path / "allowed/link").symlink_to(tmp_path / "etc")
    settings = replace(SETTINGS, volume_roots=(tmp_path / "allowed",))

    assert refused(ordered(volumes=(Volume(str(tmp_path / path), "/data"),)), settings).reason is Reason.VOLUME_REFUSED
    assert "none" in str(refused(ordered(volumes=(Volume("/", "/data"),))))


def test_a_persistent_volume_is_mounted_though_no_root_allows_it() -> None:
    order = replace(
        ordered(volumes=(Volume("", "/data", True, volume_id="data"),)), volumes={"data": Path("/agent/volumes/data")}
    )

    assert host(order)["Mounts"][1] == {
        "Type": "bind",
        "Source": "/agent/volumes/data",
        "Target": "/data",
        "ReadOnly": True,
    }


@pytest.mark.parametrize("target", ["/", "../../etc", "/data/../etc"])
def test_a_volume_over_the_wrong_place_is_refused(tmp_path: Path, target: str) -> None:
    settings = replace(SETTINGS, volume_roots=(tmp_path,))

    assert refused(ordered(volumes=(Volume(str(tmp_path), target),)), settings).reason is Reason.VOLUME_REFUSED


def with_parameters(*parameters: tuple[str, str]) -> LaunchOrder:
    return ordered(container=Container("busybox", network=NetworkMode.BRIDGE, parameters=parameters))


def test_parameters_are_written_as_for_docker_run() -> None:
    order = with_parameters(
        ("shm-size", "64m"),
        ("ulimit", "nofile=1024:2048"),
        ("ulimit", "nproc=10"),
        ("tmpfs", "/tmp:size=10m"),
        ("dns", "10.0.0.1"),
        ("add-host", "db:10.0.0.7"),
        ("cap-drop", "chown"),
        ("hostname", "web-1"),
    )

    made = host(order)

    assert made["ShmSize"] == 64 << 20
    assert made["Ulimits"] == [
        {"Name": "nofile", "Soft": 1024, "Hard": 2048},
        {"Name": "nproc", "Soft": 10, "Hard": 10},
    ]
    assert (made["Tmpfs"], made["Dns"], made["ExtraHosts"]) == ({"/tmp": "size=10m"}, ["10.0.0.1"], ["db:10.0.0.7"])
    assert "CHOWN" in made["CapDrop"]
    assert body(order)["Hostname"] == "web-1"


@pytest.mark.parametrize(
    "name, value",
    [
        ("privileged", "true"),
        ("pid", "host"),
        ("device", "/dev/sda"),
        ("security-opt", "seccomp=unconfined"),
        ("volume", "/:/host"),
        ("cap-add", "SYS_ADMIN"),
        ("shm-size", "lots"),
        ("ulimit", "nofile"),
        ("tmpfs", "tmp"),
        ("add-host", "db"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(name: str, value: str) -> None:
    failed = refused(with_parameters((name, value)))

    assert failed.reason is Reason.INVALID_TASK
    assert name in str(failed) or value in str(failed)


def test_a_capability_that_the_agent_allows_is_added_however_it_is_written() -> None:
    settings = replace(SETTINGS, allowed_capabilities=frozenset({"NET_BIND_SERVICE"}))

    assert host(with_parameters(("cap-add", "cap_net_bind_service")), settings)["CapAdd"] == ["NET_BIND_SERVICE"]


def test_a_container_is_named_after_its_task_and_known_by_its_labels() -> None:
    order = ordered(task="job 17/äh:" + "x" * 100)

    plan = planned(order, AGENT, SETTINGS)

    assert re.fullmatch(r"runrig-agent-012345-job-17-h-x{30,}-[0-9a-f]{10}", plan.name)
    assert plan.name == container_name(AGENT, order.key)
    assert key_of(plan.labels) == order.key
    assert container_name("another", order.key) != plan.name


def test_the_spec_label_changes_with_the_description_only() -> None:
    def label(order: LaunchOrder) -> str:
        return planned(order, AGENT, SETTINGS).labels["runrig.spec"]

    assert label(ordered()) == label(ordered())
    assert label(ordered()) != label(ordered(image="other"))
    assert label(ordered()) != label(ordered(env=(("A", "b"),)))


# --- what the engine says ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status, text, reason, is_task_fault",
    [
        (
            500,
            "driver failed programming on endpoint x: Bind for 0.0.0.0:80 failed: port is already allocated",
            Reason.PORT_IN_USE,
            False,
        ),
        (500, "listen tcp4 0.0.0.0:5055: bind: address already in use", Reason.PORT_IN_USE, False),
        (400, "unable to find user bob: no matching entries in passwd file", Reason.USER_UNKNOWN, True),
        (
            400,
            'OCI runtime create failed: exec: "nope": executable file not found in $PATH: unknown',
            Reason.START_FAILED,
            True,
        ),
        (500, "write /var/lib/docker/x: no space left on device", Reason.DISK_FULL, False),
        (400, 'invalid mount config for type "bind": bind source path does not exist: /x', Reason.VOLUME_REFUSED, True),
        (404, "network backend not found", Reason.START_FAILED, True),
        (500, "something new", Reason.START_FAILED, False),
        (400, "something new", Reason.START_FAILED, True),
    ],
)
def test_complaints_of_the_engine_become_reasons(status: int, text: str, reason: Reason, is_task_fault: bool) -> None:
    failed = launch_failed(EngineAnswer(status, text))

    assert (failed.reason, failed.is_task_fault) == (reason, is_task_fault)
    assert text in str(failed)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T00:00:01.5Z", 1500),
        ("1970-01-01T00:00:01.123456789Z", 1123),
        ("2024-02-29T12:00:00.007Z", 1709208000007),
    ],
)
def test_times_of_the_engine_are_read(text: str, expected: int) -> None:
    assert unix_ms(text) == expected


@pytest.mark.parametrize(
    "code, flag, event, is_out_of_memory, words",
    [
        (0, False, False, False, ""),
        (0, False, True, False, ""),
        (137, True, False, True, "limit of 32 MiB"),
        (1, False, True, True, "out of memory"),
        (143, False, False, False, "ended by SIGTERM"),
        (127, False, False, False, "not in the image"),
        (3, False, False, False, ""),
    ],
)
def test_an_end_is_described(code: int, flag: bool, event: bool, is_out_of_memory: bool, words: str) -> None:
    facts = {
        "State": {"ExitCode": code, "OOMKilled": flag, "Error": "", "FinishedAt": "1970-01-01T00:00:02Z"},
        "HostConfig": {"Memory": 32 << 20},
    }

    ended = State("id", "name", {}, "exited", facts).ended(event)

    assert (ended.exit_code, ended.is_out_of_memory, ended.ended_at_unix_ms) == (code, is_out_of_memory, 2000)
    assert words in ended.message
    assert bool(words) == bool(ended.message)
