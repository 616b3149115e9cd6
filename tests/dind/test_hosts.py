"""Hosts come up, and can be cut off, frozen, killed and started like machines."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from http.client import HTTPConnection

import pytest

from runrig._hosts import (
    OWNER_LABEL,
    RUN_LABEL,
    TEST_IMAGE,
    Host,
    Hosts,
    HostSettings,
    owner_of,
    sweep,
    wait_for,
)
from runrig.errors import Unavailable

pytestmark = [pytest.mark.docker, pytest.mark.dind, pytest.mark.xdist_group("dind")]

DEADLINE_S = 30.0
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5).close()"
DIE_WITH_A_HOST = """
import os, signal
from runrig._hosts import Hosts
print(Hosts.up(1).run, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_each_host_runs_containers_on_an_engine_of_its_own(hosts: Hosts) -> None:
    said = [host.docker("run", "--rm", "--name", "same", TEST_IMAGE, "echo", host.name) for host in hosts]
    engines = {host.docker("info", "--format", "{{.ID}}") for host in hosts}

    assert said == ["h1", "h2", "h3"]
    assert len(engines) == 3


def test_hosts_find_each_other_by_name(hosts: Hosts) -> None:
    found = hosts["h1"].run("getent", "hosts", "h2")

    assert found.split() == [hosts["h2"].address, "h2"]


def test_a_container_on_the_bridge_of_a_host_reaches_the_machine(hosts: Hosts) -> None:
    with socket.create_server((hosts.gateway, 0)) as server:
        port = str(server.getsockname()[1])

        hosts["h1"].docker("run", "--rm", TEST_IMAGE, "nc", "-w", "5", hosts.gateway, port, "-e", "true")


@pytest.mark.parametrize("network", [["--publish", "8001:8001"], ["--network", "host"]], ids=["bridge", "host"])
def test_the_machine_reaches_a_port_of_a_container_in_a_host(hosts: Hosts, network: list[str]) -> None:
    host = hosts["h3"]

    name = host.docker("run", "--detach", *network, TEST_IMAGE, "httpd", "-f", "-p", "8001")

    wait_for(lambda: answers(host.address, 8001), DEADLINE_S, "an answer")
    host.docker("rm", "--force", name)


def test_limits_of_inner_containers_are_set(hosts: Hosts) -> None:
    group = "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"
    script = f"cat {group[0]} 2>/dev/null || cat {group[1]}"

    limit = hosts["h1"].docker("run", "--rm", "--memory", "32m", TEST_IMAGE, "sh", "-c", script)

    assert limit == str(32 * 1024 * 1024)


def test_a_host_that_is_cut_off_reaches_nothing_until_it_is_healed(hosts: Hosts) -> None:
    host = hosts["h2"]
    with socket.create_server((hosts.gateway, 0)) as server:
        assert reaches(host, server)

        host.cut()
        assert not reaches(host, server)
        assert host.engine_answers()

        host.heal()
        assert reaches(host, server)
        assert host.address in host.run("ip", "-4", "-brief", "address")


def test_a_paused_host_stands_still_until_it_goes_on(hosts: Hosts) -> None:
    host = hosts["h3"]

    host.pause()
    beats = host.log("agent")
    assert not host.engine_answers()
    assert host.log("agent") == beats

    host.unpause()
    wait_for(lambda: host.log("agent") != beats, DEADLINE_S, "a beat")
    assert host.engine_answers()


def test_a_killed_host_comes_back_with_its_disk_and_its_agent_but_no_running_container(hosts: Hosts) -> None:
    host = hosts["h3"]
    host.docker("run", "--detach", "--name", "lost", TEST_IMAGE, "sleep", "600")
    starts = agent_starts(host)

    host.kill()
    assert not host.is_running()
    assert not host.engine_answers()

    host.start()
    wait_for(lambda: agent_starts(host) == starts + 1, DEADLINE_S, "the agent's second start")
    assert inspect(host, "lost", "{{.State.Status}}") == "exited"
    host.docker("run", "--rm", TEST_IMAGE, "true")


def test_a_container_and_the_agent_outlive_the_engine_of_their_host(hosts: Hosts) -> None:
    host = hosts["h1"]
    host.docker("run", "--detach", "--name", "live", TEST_IMAGE, "sleep", "600")
    pid, started = (inspect(host, "live", f"{{{{.State.{name}}}}}") for name in ("Pid", "StartedAt"))
    starts = agent_starts(host)

    host.stop_engine()
    assert not host.engine_answers()
    assert "sleep" in host.run("cat", f"/proc/{pid}/cmdline")

    host.start_engine()
    assert inspect(host, "live", "{{.State.Status}} {{.State.StartedAt}}") == f"running {started}"
    assert agent_starts(host) == starts


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_an_engine_that_is_restarted_takes_new_containers(hosts: Hosts, signal: str) -> None:
    host = hosts["h1"]

    host.restart_engine(signal)

    host.docker("run", "--rm", TEST_IMAGE, "true")


def test_an_agent_that_was_killed_stays_down_until_it_is_started(hosts: Hosts) -> None:
    host = hosts["h2"]
    starts = agent_starts(host)

    host.stop_agent()
    beats = host.log("agent")
    assert host.engine_answers()
    assert host.log("agent") == beats

    host.start_agent()
    wait_for(lambda: agent_starts(host) == starts + 1, DEADLINE_S, "the agent's second start")


def test_what_a_dead_run_left_is_swept_and_living_runs_are_not(hosts: Hosts) -> None:
    died = subprocess.run([sys.executable, "-c", DIE_WITH_A_HOST], stdout=subprocess.PIPE, check=False)
    run = died.stdout.decode().strip()
    assert run.startswith("runrig-")

    sweep()

    assert left(f"{RUN_LABEL}={run}") == ""
    assert all(host.is_running() for host in hosts)


def test_hosts_that_cannot_come_up_say_what_to_do_and_leave_nothing(hosts: Hosts) -> None:
    mine = f"{OWNER_LABEL}={owner_of(os.getpid())}"
    before = left(mine)

    with pytest.raises(Unavailable, match="make or pull the image first"):
        Hosts.up(1, settings=HostSettings(images=("runrig/nowhere:none",)))

    assert left(mine) == before


def test_an_error_of_a_hosts_engine_carries_its_words(hosts: Hosts) -> None:
    with pytest.raises(Unavailable, match=r"exit 7"):
        hosts["h1"].docker("run", "--rm", TEST_IMAGE, "sh", "-c", "exit 7")


def reaches(host: Host, server: socket.socket) -> bool:
    """Tell whether a process in the host can connect to the server."""
    address, port = server.getsockname()[:2]
    return succeeds(lambda: host.run(sys.executable, "-c", CONNECT, address, str(port)))


def answers(address: str, port: int) -> bool:
    """Tell whether something speaks HTTP there; any status will do."""
    connection = HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status > 0
    except OSError:
        return False
    finally:
        connection.close()


def succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except Unavailable:
        return False
    return True


def agent_starts(host: Host) -> int:
    return host.log("agent").splitlines().count("beat 0")


def inspect(host: Host, container: str, form: str) -> str:
    return host.docker("inspect", "--format", form, container)


def left(label: str) -> str:
    """List the containers, volumes and networks that bear a label."""
    commands = [["ps", "--all"], ["volume", "ls"], ["network", "ls"]]
    listings = [
        subprocess.run(["docker", *words, "--quiet", "--filter", f"label={label}"], capture_output=True, check=True)
        for words in commands
    ]
    return "".join(listing.stdout.decode() for listing in listings)
