"""Faults that authors let happen by name, and storms."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runrig import TaskState, Wants, task
from runrig.errors import Conflict, InvalidInput, NotFound
from runrig.testing import Climate, Cluster, SimulatedFramework, Weather
from runrig.testing.runtimes import TaskKey


def test_a_process_is_meant_by_its_name_or_by_the_object() -> None:
    cluster, web = given()

    cluster.kill("agent-1")
    cluster.kill(web)
    cluster.kill(cluster.leader)

    assert not cluster.agent("agent-1").is_up
    assert not web.is_up
    assert not cluster.masters["master"].is_up


@pytest.mark.parametrize("fault", ["kill", "start", "restart", "freeze", "thaw", "cut", "heal"])
def test_a_wrong_name_is_answered_with_those_that_there_are(fault: str) -> None:
    cluster, _ = given()
    befall: Callable[[str], None] = getattr(cluster, fault)

    with pytest.raises(NotFound, match="'agnet-1'; there are: web, agent-1, agent-2, agent-3, master"):
        befall("agnet-1")


def test_a_wrong_agent_is_answered_with_the_agents() -> None:
    cluster, _ = given()

    with pytest.raises(NotFound, match=r"there are: agent-1, agent-2, agent-3\Z"):
        cluster.agent("master")


def test_a_name_is_given_once() -> None:
    cluster, _ = given()

    with pytest.raises(Conflict, match="'agent-1' is there already"):
        cluster.run("agent-1", kept)


def test_a_killed_framework_that_is_started_again_knows_what_was_durable() -> None:
    cluster, web = given()
    first = web.logic

    cluster.kill("web")
    cluster.advance("10s")
    cluster.start("web")
    cluster.advance("10s")

    assert web.logic is not first
    assert web.count() == len(cluster.starts) == 4


def test_a_framework_is_restarted_with_another_logic() -> None:
    cluster, web = given()

    cluster.restart("web", kept(2))
    cluster.advance("1m")

    assert web.count() == len(cluster.running) == 2


def test_only_a_framework_has_a_logic_to_restart_with() -> None:
    cluster, _ = given()

    with pytest.raises(InvalidInput, match="who: 'agent-1' is not allowed"):
        cluster.restart("agent-1", kept())


def test_a_logic_that_was_made_already_serves_one_process_only() -> None:
    cluster = Cluster()
    cluster.run("web", kept())

    with pytest.raises(InvalidInput, match="a function that makes it, as web starts a second time"):
        cluster.restart("web")


def test_a_restarted_agent_keeps_its_tasks() -> None:
    cluster, web = given()

    for name in cluster.all_agents:
        cluster.restart(name)
    cluster.advance("5m")

    assert web.count() == len(cluster.starts) == 4


def test_what_was_said_to_a_frozen_process_is_heard_when_it_goes_on() -> None:
    cluster, web = given()
    agent_id, key = where_one_runs(cluster)

    cluster.freeze("web")
    cluster.agent(agent_id).end_task(key, exit_code=1)
    cluster.advance("10s")
    assert len(cluster.starts) == 4
    cluster.thaw("web")
    cluster.advance("10s")

    assert web.count() == 4
    assert len(cluster.starts) == 5


def test_an_agent_that_is_cut_off_is_given_up_and_returns_when_it_is_healed() -> None:
    cluster, web = given()
    agent_id, _ = where_one_runs(cluster)

    cluster.cut(agent_id)
    cluster.advance("80s")
    assert web.count() == 4
    assert len(cluster.running) > 4, "the tasks that nobody hears of run on"
    cluster.heal(agent_id)
    cluster.advance("1m")

    assert web.count() == len(cluster.running) == 4


def test_who_is_not_heard_still_hears() -> None:
    cluster, _ = given()
    agent_id, key = where_one_runs(cluster)
    before = len(cluster.world.trace)

    cluster.cut("web", "out")
    cluster.agent(agent_id).end_task(key, exit_code=1)
    cluster.advance("10s")

    lines = [(entry.who, entry.what) for entry in cluster.world.trace[before:]]
    assert ("web", "hears master") in lines
    assert ("master", "hears web") not in lines


def test_who_hears_nothing_is_still_heard() -> None:
    cluster, _ = given()
    agent_id, key = where_one_runs(cluster)
    before = len(cluster.world.trace)

    cluster.cut(agent_id, "in")
    cluster.agent(agent_id).end_task(key, exit_code=1)
    cluster.advance("30s")

    lines = [(entry.who, entry.what) for entry in cluster.world.trace[before:]]
    assert ("master", f"hears {agent_id}") in lines
    assert (agent_id, "hears master") not in lines


def test_a_master_is_cut_off_from_all() -> None:
    cluster, web = given()

    cluster.cut("master")
    cluster.advance("80s")
    assert not is_connected(web)
    cluster.heal("master")
    cluster.advance("1m")

    assert is_connected(web)
    assert web.count() == 4


def test_weather_befalls_what_is_said_until_it_is_clear() -> None:
    cluster, web = given()

    cluster.weather = Weather(loss=1.0)
    cluster.kill("agent-1")
    cluster.advance("10m")
    assert "is not heard" in cluster.story(last=1000)
    cluster.weather = Weather()
    cluster.start("agent-1")

    cluster.until(lambda: web.count() == 4)


@pytest.mark.parametrize("weather", [Weather(loss=1.5), Weather(doubling=-1), Weather(echo=2)])
def test_weather_is_a_share(weather: Weather) -> None:
    with pytest.raises(InvalidInput, match="a share, from 0 to 1"):
        Cluster().weather = weather


def test_a_storm_passes_and_leaves_nothing_broken() -> None:
    for seed in range(20):
        cluster, web = given(seed)
        cluster.cut("agent-3")

        faults = cluster.storm(seed, lasts="3m")

        assert cluster.now - 1_000_000_000.0 == 180
        assert all(fault.at < 180 for fault in faults)
        assert not {fault.kind for fault in faults} & {"gone", "tear down"}
        assert cluster.weather == Weather()
        everybody = [cluster.find(name) for name in ("web", "master", *cluster.all_agents)]
        assert all(each.is_up and not each.is_frozen for each in everybody)
        cluster.until(lambda web=web, cluster=cluster: web.count() == len(cluster.running) == 4)  # type: ignore[misc]


def test_what_is_killed_after_a_storm_stays_dead() -> None:
    cluster, _ = given()
    cluster.storm(1, climate=Climate(("kill agent", "freeze", "reboot")))

    for name in cluster.all_agents:
        cluster.kill(name)
    cluster.advance("10m")

    assert not any(agent.is_up for agent in cluster.all_agents.values())


def test_a_storm_has_the_kinds_of_its_climate() -> None:
    cluster, _ = given()

    faults = cluster.storm(5, climate=Climate(kinds=("gone",)))

    assert {fault.kind for fault in faults} == {"gone"}


def test_the_same_seed_is_the_same_run() -> None:
    traces = []
    for _ in range(2):
        cluster, _ = given(3)
        cluster.storm(3)
        traces.append([str(entry) for entry in cluster.world.trace])

    assert traces[0] == traces[1]


def test_nobody_leads_while_no_master_is_up() -> None:
    cluster, _ = given()
    cluster.kill("master")

    with pytest.raises(AssertionError, match="no master is up"):
        _ = cluster.leader


def given(seed: int = 0) -> tuple[Cluster, SimulatedFramework]:
    """Return a cluster of three agents on which four tasks are kept."""
    cluster = Cluster(seed=seed)
    cluster.agents(3)
    web = cluster.run("web", kept)
    cluster.until(lambda: web.count(TaskState.TASK_RUNNING) == 4)
    return cluster, web


def kept(count: int = 4) -> Wants:
    wants = Wants()
    wants.keep("web", count, task("serve", cpus=1, mem="64M"))
    return wants


def is_connected(framework: SimulatedFramework) -> bool:
    return framework.scheduler is not None and framework.scheduler.is_connected


def where_one_runs(cluster: Cluster) -> tuple[str, TaskKey]:
    """Return the agent and the key of a task that runs."""
    found = cluster.truth.running()[0]
    return found.agent_id, found.key
