"""Rules of the cluster over three docker-in-docker hosts: what operators fear, done to a host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from runrig.testing.hosts import HostsCluster, hosts_cluster
from runrig.testing.processes import until

pytestmark = [pytest.mark.docker, pytest.mark.dind, pytest.mark.xdist_group("dind"), pytest.mark.timeout(300)]

IMAGE = "runrig/busybox:test"
APP = {
    "id": "/web",
    "cmd": "sleep 100000",
    "instances": 6,
    "cpus": 0.1,
    "mem": 32,
    "container": {"type": "DOCKER", "docker": {"image": IMAGE}},
    "constraints": [["hostname", "GROUP_BY"]],
}


@pytest.fixture(scope="module")
def cluster(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostsCluster]:
    directory: Path = tmp_path_factory.mktemp("hosts")
    with hosts_cluster(directory) as running:
        app = directory / "web.json"
        app.write_text(json.dumps(APP))
        running.runrig("service", "deploy", str(app), "--wait", timeout_s=120)
        yield running


def test_tasks_of_both_frameworks_run_on_all_hosts(cluster: HostsCluster) -> None:
    job = cluster.json(
        *("batch", "submit", "--image", IMAGE, "--array", "12", "--cpus", "1", "--mem", "32M", "--", "sleep", "3")
    )["id"]
    cluster.runrig("batch", "wait", job, "--timeout", "100", timeout_s=120)

    listed = cluster.json("tasks", "ls", "--all")
    assert hosts_of(listed, "web") == {"h1", "h2", "h3"}
    assert hosts_of(listed, job) == {"h1", "h2", "h3"}
    assert reported(cluster) == really_running(cluster)


def test_rule_10_and_11_a_host_that_is_cut_off_is_given_up_replaced_and_taken_back(cluster: HostsCluster) -> None:
    host = cluster.hosts["h1"]
    lost = {task_id for task_id, task in cluster.tasks().items() if task["hostname"] == "h1"}
    assert lost

    host.cut()
    until(lambda: cluster.agent_state(host) == "unreachable", "h1 is given up", 60)
    until(lambda: len(elsewhere(cluster, "h1")) == APP["instances"], "its instances run elsewhere", 60)
    host.heal()

    until(lambda: cluster.agent_state(host) == "active", "h1 is back", 60)
    until(lambda: not lost & set(cluster.tasks()), "what was replaced has been killed", 60)
    until(lambda: reported(cluster) == really_running(cluster), "master and engines agree", 60)
    assert len(cluster.tasks()) == APP["instances"]


def test_a_host_that_is_frozen_for_a_moment_keeps_its_tasks(cluster: HostsCluster) -> None:
    host = cluster.hosts["h2"]
    before = cluster.containers(host)

    host.pause()
    host.unpause()

    until(lambda: cluster.agent_state(host) == "active", "h2 is active", 60)
    assert cluster.containers(host) == before
    assert len(cluster.tasks()) == APP["instances"]


def test_a_host_frozen_beyond_the_silence_timeout_is_given_up_and_taken_back(cluster: HostsCluster) -> None:
    host = cluster.hosts["h2"]

    host.pause()
    until(lambda: cluster.agent_state(host) == "unreachable", "h2 is given up", 60)
    host.unpause()

    until(lambda: cluster.agent_state(host) == "active", "h2 is back", 60)
    until(lambda: len(cluster.tasks()) == APP["instances"], "the app is whole", 60)
    until(lambda: reported(cluster) == really_running(cluster), "master and engines agree", 60)


def test_a_host_that_is_killed_and_brought_back_reports_what_ended_and_the_app_is_whole_again(
    cluster: HostsCluster,
) -> None:
    host = cluster.hosts["h3"]

    host.kill()
    host.start()

    until(lambda: cluster.agent_state(host) == "active", "h3 is back", 90)
    until(lambda: len(cluster.tasks()) == APP["instances"], "the app is whole", 90)
    until(lambda: reported(cluster) == really_running(cluster), "master and engines agree", 60)


def test_an_engine_that_is_restarted_under_a_running_agent_costs_no_task(cluster: HostsCluster) -> None:
    host = next(host for host in cluster.hosts if cluster.containers(host))
    before = {task_id: task["container_id"] for task_id, task in cluster.tasks().items()}

    host.restart_engine()

    until(lambda: reported(cluster) == really_running(cluster), "master and engines agree", 60)
    assert {task_id: task["container_id"] for task_id, task in cluster.tasks().items()} == before


def test_a_master_that_is_killed_and_started_again_disturbs_no_container(cluster: HostsCluster) -> None:
    before = really_running(cluster)

    cluster.processes["master"].kill()
    cluster.processes["master"].start()

    until(lambda: reported(cluster) == before, "the master knows all tasks again", 60)
    assert really_running(cluster) == before


def hosts_of(listed: list[dict[str, str]], name: str) -> set[str]:
    return {task["hostname"] for task in listed if name in task["id"]}


def elsewhere(cluster: HostsCluster, hostname: str) -> list[str]:
    return [task_id for task_id, task in cluster.tasks().items() if task["hostname"] != hostname]


def reported(cluster: HostsCluster) -> set[str]:
    return {str(task["container_id"]) for task in cluster.tasks().values()}


def really_running(cluster: HostsCluster) -> set[str]:
    return {container for host in cluster.hosts for container in cluster.containers(host)}
