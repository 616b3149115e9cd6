"""A gang of 64 on a cluster that mixed short tasks keep busy: it runs in bounded time, and they go on meanwhile."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from runrig import Run, Want, task
from runrig.offers import LaunchableTask
from runrig.testing import Behaviour, Cluster, SimulatedFramework
from runrig.testing.runtimes import RealTask
from runrig_master.core.settings import CoreSettings
from tests.scenarios.frameworks import Crowd, copies, waves

SETTINGS = CoreSettings()
AGENTS = 64
GANG = task("train", cpus=2, mem="2G")
SHORTEST_S, LONGEST_S = 5, 30
LONG_S = 300
EVERY_S = 2.0
CHANCE = "mixed short tasks"


@dataclass
class Busy:
    """A cluster whose small tasks are more than fit, from a minute ago until long after."""

    cluster: Cluster
    small: SimulatedFramework
    crowd: Crowd
    began: float

    def throughput(self, since: float, until: float) -> float:
        """Return how many small tasks finished in a second."""
        return sum(since <= at < until for at in self.crowd.finished_at) / (until - since)


@pytest.mark.parametrize("promises, gangs_role", [(True, "small"), (True, "large"), (False, "large")])
def test_it_assembles_in_bounded_time_without_stopping_the_flow(promises: bool, gangs_role: str) -> None:
    busy = kept_busy(promises)
    cluster = busy.cluster
    before = busy.throughput(busy.began - LONGEST_S, busy.began)
    train = cluster.run("train", Crowd, roles=(gangs_role,))

    train.tell(Run(copies(GANG, "train", 64, gang="train")))
    took_s = cluster.until(lambda: train.count() == 64, within="5m")

    assert took_s <= SETTINGS.layaway_after_s + 2 * LONGEST_S
    meanwhile = busy.throughput(busy.began + LONGEST_S / 2, busy.began + took_s)
    assert meanwhile >= before / 2, f"{meanwhile:.2f} of {before:.2f} tasks a second"


def test_the_gang_starts_at_one_moment_and_nothing_of_it_before() -> None:
    busy = kept_busy(promises=True)
    train = busy.cluster.run("train", Crowd)
    starts: list[float] = []
    busy.cluster.truth.started.append(lambda task: starts.append(busy.cluster.now) if is_of(task, "train") else None)

    train.tell(Run(copies(GANG, "train", 64, gang="train")))
    busy.cluster.until(lambda: train.count() == 64, within="5m")

    assert len(starts) == 64
    assert len(set(starts)) == 1


def test_long_promises_do_not_put_off_a_gang_that_waits_for_tasks_that_promise_nothing() -> None:
    """Who cannot say when a gang may start must not lend its place for as long as it may wait."""
    busy = kept_busy(promises=False)
    cluster = busy.cluster
    long = cluster.run("long", Crowd, roles=("long",))
    train = cluster.run("train", Crowd, roles=("large",))

    train.tell(Run(copies(GANG, "train", 64, gang="train")))
    cluster.advance("11s")
    wants = copies(task("long", cpus=0.5, mem="256M", expected_duration_s=LONG_S), "long", 512)
    long.tell(Run(wants))

    took_s = cluster.until(lambda: train.count() == 64, within="20m")
    assert took_s <= SETTINGS.layaway_after_s + 2 * LONGEST_S


def kept_busy(promises: bool) -> Busy:
    """Return a cluster of 64 agents that is full of tasks of 5 to 30 seconds, with more waiting all the time."""
    cluster = Cluster(SETTINGS)
    cluster.agents(AGENTS, "cpus:4;mem:8G", script=lasting)
    small = cluster.run("small", Crowd, roles=("small",))
    waves(cluster, "small", 120, EVERY_S, lambda number: wave(number, promises))
    cluster.advance("60s")
    assert isinstance(small.logic, Crowd)
    return Busy(cluster, small, small.logic, cluster.now)


def wave(number: int, promises: bool) -> list[Want]:
    """Return tasks that together need a little more than the cluster has: 256 cpus, 17.5 s each on average."""
    chance = random.Random(f"{CHANCE}/{number}")
    wants: list[Want] = []
    for index in range(20):
        lasts_s = chance.randint(SHORTEST_S, LONGEST_S)
        cpus = chance.choice((1, 2, 2))
        promised_s = lasts_s if promises else 0
        want = task("small", cpus=cpus, mem="512M", expected_duration_s=promised_s)
        wants += copies(want, f"small-{number}-{index}-{lasts_s}", 1)
    return wants


def lasting(item: LaunchableTask) -> Behaviour:
    """Run small tasks for as long as their name says, long ones for as long as they promise, a gang for ever."""
    kind, _, rest = item.task_id.partition(".")[0].partition("-")
    if kind == "small":
        return Behaviour(float(rest.rsplit("-", 1)[1]))
    return Behaviour(LONG_S if kind == "long" else None)


def is_of(task: RealTask, name: str) -> bool:
    """Say whether a task is a framework's."""
    return task.key[0] == name
