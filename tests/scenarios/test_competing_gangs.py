"""Gangs that want the same agents: they never hold half of what both need, and none starves behind small tasks."""

from __future__ import annotations

from itertools import pairwise

import pytest

from runrig import Run, task
from runrig.testing import Behaviour, Cluster, SimulatedFramework
from runrig_master.core.quotas import Quota
from runrig_master.core.settings import CoreSettings
from tests.scenarios.frameworks import Crowd, copies, waves
from tests.scenarios.operator import set_quota

SETTINGS = CoreSettings()
SMALL_S = 10.0
GANG_S = 60.0
MEMBER = task("train", cpus=1, mem="1G")
SMALL = task("small", cpus=1, mem="1G")


@pytest.mark.parametrize("roles", [("train", "train"), ("train-a", "train-b"), ("train", "train/deep")])
@pytest.mark.parametrize("size", [8, 16])
def test_two_gangs_that_start_in_the_same_moment_both_run_in_bounded_time(roles: tuple[str, str], size: int) -> None:
    """Of 16, each needs all that may be laid away."""
    cluster = full_of_small_tasks(rounds=200)
    gangs = [
        cluster.run(f"gang-{role.replace('/', '-')}-{number}", Crowd, roles=(role,))
        for number, role in enumerate(roles)
    ]

    for gang in gangs:
        gang.tell(Run(copies(MEMBER, gang.name, size, gang=gang.name)))
    took_s = [0.0, 0.0]
    began = cluster.now
    cluster.until(lambda: done(gangs, took_s, cluster.now - began), within="10m")

    first, last = sorted(took_s)
    assert first <= SETTINGS.layaway_after_s + 2 * SMALL_S
    assert last <= SETTINGS.layaway_after_s + 3 * SMALL_S + GANG_S + SETTINGS.layaway_after_s


def test_many_gangs_of_many_roles_run_one_after_another_in_the_order_in_which_they_came() -> None:
    cluster = full_of_small_tasks(rounds=200)
    gangs: list[SimulatedFramework] = []
    for number in range(6):
        gangs.append(cluster.run(f"gang-{number}", Crowd, roles=(f"role-{number % 3}",)))
        gangs[-1].tell(Run(copies(MEMBER, f"gang-{number}", 14, gang=f"gang-{number}")))
        cluster.advance("1s")
    took_s = [0.0] * 6

    began = cluster.now
    cluster.until(lambda: done(gangs, took_s, cluster.now - began), within="30m")

    assert took_s == sorted(took_s)
    assert all(
        later - earlier <= GANG_S + 2 * SMALL_S + SETTINGS.layaway_after_s for earlier, later in pairwise(took_s)
    )


@pytest.mark.parametrize("promise_s", [0.0, SMALL_S])
def test_a_gang_does_not_starve_behind_a_hundred_rounds_of_small_tasks(promise_s: float) -> None:
    cluster = full_of_small_tasks(rounds=100, promise_s=promise_s)
    train = cluster.run("train", Crowd, roles=("train",))

    train.tell(Run(copies(MEMBER, "train", 16, gang="train")))

    took_s = cluster.until(lambda: train.count() == 16, within="10m")
    assert took_s <= SETTINGS.layaway_after_s + 2 * SMALL_S


def test_a_task_that_needs_a_whole_agent_does_not_starve_either() -> None:
    cluster = full_of_small_tasks(rounds=100)
    large = cluster.run("large", Crowd, roles=("small",))

    large.tell(Run(copies(task("large", cpus=4, mem="8G"), "large", 1)))

    took_s = cluster.until(lambda: large.count() == 1, within="10m")
    assert took_s <= SETTINGS.layaway_after_s + 2 * SMALL_S


def test_a_gang_that_would_exceed_a_limit_keeps_nothing_from_others() -> None:
    """What its role may not have is not laid away for it."""
    cluster = full_of_small_tasks(rounds=20)
    set_quota(cluster, "train", limit=Quota(cpu_millis=8_000))
    train = cluster.run("train", Crowd, roles=("train",))

    train.tell(Run(copies(MEMBER, "train", 16, gang="train")))
    cluster.advance("60s")

    assert train.count() == 0
    assert not cluster.master.cluster.backlog.claims


def done(gangs: list[SimulatedFramework], took_s: list[float], now: float) -> bool:
    """Note when each gang has all of its tasks running; say whether all have."""
    for number, gang in enumerate(gangs):
        logic = gang.logic
        assert isinstance(logic, Crowd)
        if not took_s[number] and logic.started_at:
            took_s[number] = now
    return all(took_s)


def full_of_small_tasks(rounds: int, promise_s: float = 0.0) -> Cluster:
    """Return a cluster of 8 agents and 32 cpus on which more small tasks are wanted each second than end."""
    cluster = Cluster(SETTINGS)
    cluster.agents(8, "cpus:4;mem:8G", script=lambda item: Behaviour(SMALL_S if "small" in item.task_id else GANG_S))
    cluster.run("small", Crowd, roles=("small",))
    small = task("small", cpus=1, mem="1G", expected_duration_s=promise_s)
    waves(cluster, "small", rounds, 1.0, lambda number: copies(small, f"small-{number}", 4))
    cluster.advance("15s")
    assert len(cluster.running) == 32
    return cluster
