"""Fairness per task between frameworks that state demand, whatever the shapes of their tasks and of the agents."""

from __future__ import annotations

import pytest

from runrig import Placement, Run, task
from runrig.testing import Behaviour, Cluster
from tests.scenarios.frameworks import Crowd, copies, waves
from tests.scenarios.operator import set_weight

LARGE_MEMORY = task("memory", cpus=1, mem="4G", placement=Placement.PACK)
LARGE_CPU = task("cpu", cpus=3, mem="1G", placement=Placement.PACK)


def test_two_shapes_end_with_equal_dominant_shares() -> None:
    """Ghodsi et al., DRF, section 4.1, ten times as large: 30 tasks of 1 cpu and 4 GB, 20 of 3 cpus and 1 GB."""
    cluster = Cluster()
    cluster.agents(10, "cpus:9;mem:18G")
    memory, cpu = (cluster.run(name, Crowd, roles=(name,)) for name in ("memory", "cpu"))

    memory.tell(Run(copies(LARGE_MEMORY, "memory", 100)))
    cpu.tell(Run(copies(LARGE_CPU, "cpu", 100)))
    cluster.settle()

    assert (memory.count(), cpu.count()) == (30, 20)


@pytest.mark.parametrize("weight, expected", [(1000, (20, 20)), (3000, (30, 10)), (250, (8, 32))])
def test_a_role_has_its_weight_in_tasks(weight: int, expected: tuple[int, int]) -> None:
    cluster = Cluster()
    cluster.agents(10, "cpus:4;mem:8G")
    set_weight(cluster, "one", weight)
    one, other = (cluster.run(name, Crowd, roles=(name,)) for name in ("one", "other"))

    one.tell(Run(copies(task("one", cpus=1, mem="1G"), "one", 100)))
    other.tell(Run(copies(task("other", cpus=1, mem="1G"), "other", 100)))
    cluster.settle()

    assert (one.count(), other.count()) == expected


def test_it_is_per_task_and_not_per_agent() -> None:
    """On two agents with room for many tasks each, three frameworks have a third each."""
    cluster = Cluster()
    cluster.agents(2, "cpus:30;mem:64G")
    names = ("a", "b", "c")
    crowds = [cluster.run(name, Crowd, roles=(name,)) for name in names]

    for crowd in crowds:
        crowd.tell(Run(copies(task("work", cpus=1, mem="1G"), crowd.name, 60)))
    cluster.settle()

    assert [crowd.count() for crowd in crowds] == [20, 20, 20]


def test_who_comes_late_has_its_part_as_soon_as_enough_tasks_have_ended() -> None:
    cluster = Cluster()
    cluster.agents(10, "cpus:4;mem:8G", script=lambda _: Behaviour(10.0))
    cluster.run("early", Crowd, roles=("early",))
    waves(cluster, "early", 60, 1.0, lambda number: copies(task("early", cpus=1, mem="1G"), f"early-{number}", 6))
    cluster.advance("20s")
    late = cluster.run("late", Crowd, roles=("late",))

    waves(cluster, "late", 40, 1.0, lambda number: copies(task("late", cpus=1, mem="1G"), f"late-{number}", 6))

    assert cluster.until(lambda: late.count() == 20, within="2m") <= 10.0
    cluster.advance("15s")
    assert late.count() in (19, 20, 21)


def test_below_one_role_the_tree_shares_again() -> None:
    cluster = Cluster()
    cluster.agents(12, "cpus:4;mem:8G")
    roles = ("eng/ads", "eng/web", "ops")
    crowds = [cluster.run(role.replace("/", "-"), Crowd, roles=(role,)) for role in roles]

    for crowd in crowds:
        crowd.tell(Run(copies(task("work", cpus=1, mem="1G"), crowd.name, 60)))
    cluster.settle()

    assert [crowd.count() for crowd in crowds] == [12, 12, 24]
