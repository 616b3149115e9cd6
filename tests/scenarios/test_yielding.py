"""A low priority fills the cluster and yields to a guarantee: with notice, within its grace, with little waste."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from runrig import Placement, Run, Wants, task
from runrig.offers import LaunchableTask
from runrig.testing import Behaviour, Cluster, SimulatedFramework
from runrig_master.core.quotas import Quota
from runrig_master.core.settings import CoreSettings
from tests.scenarios.frameworks import Crowd, copies, waves
from tests.scenarios.operator import set_quota

SETTINGS = CoreSettings()
AGENTS = 8
GRACE_S = 5.0
URGENT = task("urgent", cpus=1, mem="1G")
LOW = task("low", cpus=1, mem="1G", priority=-1, kill_grace_s=GRACE_S)
MARGIN_S = 0.01


@pytest.mark.parametrize("yields, bound_s", [(True, GRACE_S), (False, SETTINGS.preemption_notice_s + GRACE_S)])
def test_it_yields_within_notice_and_grace(yields: bool, bound_s: float) -> None:
    cluster, low = filled(lambda: Crowd(yields), stubborn)
    urgent = cluster.run("urgent", Crowd, roles=("prod",))

    urgent.tell(Run(copies(URGENT, "urgent", 16)))
    took_s = cluster.until(lambda: urgent.count() == 16, within="2m")

    assert took_s <= SETTINGS.preempt_after_s + bound_s + MARGIN_S
    assert low.count() == AGENTS * 4 - 16


def test_nobody_is_killed_before_the_notice_is_over() -> None:
    cluster, low = filled(lambda: Crowd(yields=False))
    urgent = cluster.run("urgent", Crowd, roles=("prod",))

    urgent.tell(Run(copies(URGENT, "urgent", 16)))
    cluster.advance(SETTINGS.preempt_after_s + SETTINGS.preemption_notice_s - MARGIN_S)
    assert low.count() == AGENTS * 4
    cluster.advance(2 * MARGIN_S)

    assert isinstance(low.logic, Crowd)
    assert low.logic.ended == {"TASK_KILLED PREEMPTED": 16}
    assert sum(len(inverse.task_ids) for inverse in low.logic.asked_back) == 16


def test_a_demand_that_has_less_than_its_role_may_take_leaves_the_rest() -> None:
    """Beyond the guarantee the share decides: half of the cluster each is where taking ends."""
    cluster, low = filled(Crowd)
    urgent = cluster.run("urgent", Crowd, roles=("prod",))

    urgent.tell(Run(copies(URGENT, "urgent", 32)))
    cluster.advance("2m")

    assert (urgent.count(), low.count()) == (16, 16)


def test_what_one_victim_leaves_serves_several_small_tasks() -> None:
    cluster = Cluster(SETTINGS)
    cluster.agents(AGENTS, "cpus:4;mem:8G")
    low = cluster.run("low", Crowd, roles=("low",))
    low.tell(Run(copies(task("low", cpus=4, mem="8G", priority=-1), "low", AGENTS)))
    cluster.until(lambda: low.count() == AGENTS)
    urgent = cluster.run("urgent", Crowd, roles=("prod",))

    urgent.tell(Run(copies(URGENT, "urgent", 6)))
    cluster.until(lambda: urgent.count() == 6, within="1m")

    assert low.count() == AGENTS - 2


def test_gangs_are_never_broken_in_part() -> None:
    cluster = Cluster(SETTINGS)
    cluster.agents(AGENTS, "cpus:4;mem:8G")
    low = cluster.run("low", lambda: Crowd(yields=False), roles=("low",))
    for number in range(4):
        member = task("low", cpus=1, mem="1G", priority=-1, placement=Placement.SPREAD)
        low.tell(Run(copies(member, f"gang-{number}", AGENTS, gang=f"gang-{number}")))
    cluster.until(lambda: low.count() == AGENTS * 4)
    urgent = cluster.run("urgent", Crowd, roles=("prod",))

    urgent.tell(Run(copies(URGENT, "urgent", 10)))
    cluster.until(lambda: urgent.count() == 10, within="1m")
    cluster.advance("1m")

    alive = Counter(key[1].split(".")[0] for key in cluster.running if key[0] == "low")
    assert alive == {f"gang-{number}": AGENTS for number in range(4) if f"gang-{number}" in alive}
    assert len(alive) == 2


def test_a_gang_of_a_high_priority_takes_the_place_of_low_ones_whole() -> None:
    cluster, low = filled(Crowd)
    train = cluster.run("train", Crowd, roles=("prod",))

    train.tell(Run(copies(URGENT, "train", 12, gang="train")))

    took_s = cluster.until(lambda: train.count() == 12, within="2m")
    assert took_s <= SETTINGS.layaway_after_s + SETTINGS.preemption_notice_s + MARGIN_S
    assert low.count() == AGENTS * 4 - 12


def test_the_budget_keeps_priorities_from_thrashing_a_cluster() -> None:
    """Urgent tasks that come and end all the time displace no more than the budget in any minute."""
    cluster = Cluster(CoreSettings(preemptions_per_minute=6))
    cluster.agents(AGENTS, "cpus:4;mem:8G", script=short_if_urgent)
    killed: list[float] = []
    wants = Wants()
    wants.keep("low", AGENTS * 4, LOW)
    low = cluster.run("low", wants, roles=("low",))
    cluster.until(lambda: low.count() == AGENTS * 4)
    low.heard.append(lambda news: note_preemptions(news, killed, cluster))
    cluster.run("urgent", Crowd, roles=("prod",))

    waves(cluster, "urgent", 60, 5.0, lambda number: copies(URGENT, f"urgent-{number}", 4))
    cluster.advance("5m")

    assert killed
    assert all(later - earlier >= 60.0 - MARGIN_S for earlier, later in zip(killed, killed[6:], strict=False))


def test_a_lent_guarantee_comes_back_as_tasks_of_the_same_priority_end() -> None:
    cluster = Cluster(SETTINGS)
    cluster.agents(AGENTS, "cpus:4;mem:8G", script=lambda item: Behaviour(20.0 if "batch" in item.task_id else None))
    set_quota(cluster, "prod", guarantee=Quota(cpu_millis=16_000))
    cluster.run("batch", Crowd, roles=("batch",))
    waves(cluster, "batch", 100, 1.0, lambda number: copies(task("batch", cpus=1, mem="1G"), f"batch-{number}", 4))
    cluster.advance("30s")
    assert len(cluster.running) == AGENTS * 4
    prod = cluster.run("prod", Crowd, roles=("prod",))

    prod.tell(Run(copies(URGENT, "prod", 16)))

    took_s = cluster.until(lambda: prod.count() == 16, within="2m")
    assert took_s <= 20.0
    cluster.advance("60s")
    assert prod.count() == 16


def note_preemptions(news: object, killed: list[float], cluster: Cluster) -> None:
    """Note when tasks end that were preempted."""
    asked = getattr(news, "inverse_offers", ())
    killed.extend(cluster.now for inverse in asked for _ in inverse.task_ids)
    assert all(earlier <= later for earlier, later in pairwise(killed))


def stubborn(item: LaunchableTask) -> Behaviour:
    """Let tasks of low priority live for all of their grace."""
    return Behaviour(ignores_term=item.task_id.startswith("low"))


def short_if_urgent(item: LaunchableTask) -> Behaviour:
    """Let urgent tasks end after a while."""
    return Behaviour(4.0 if item.task_id.startswith("urgent") else None)


def filled(logic: object, script: object = lambda _: Behaviour()) -> tuple[Cluster, SimulatedFramework]:
    """Return a cluster of 32 cpus that one framework of low priority fills, half of it guaranteed to another role."""
    cluster = Cluster(SETTINGS)
    cluster.agents(AGENTS, "cpus:4;mem:8G", script=script)  # type: ignore[arg-type]
    set_quota(cluster, "prod", guarantee=Quota(cpu_millis=16_000))
    low = cluster.run("low", logic, roles=("low",))  # type: ignore[arg-type]
    low.tell(Run(copies(LOW, "low", AGENTS * 4)))
    cluster.until(lambda: low.count() == AGENTS * 4)
    return cluster, low
