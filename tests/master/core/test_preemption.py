"""Preemption: a higher priority takes the place of a lower one, with notice, within bounds, and with little waste."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runrig.agents import KillTask
from runrig.demand import Demand
from runrig.ids import AgentId, Role, TaskId
from runrig.offers import InverseOfferReason
from runrig.tasks import Reason, TaskSpec, TaskState, Terms
from runrig_master.core.commands import Command
from runrig_master.core.quotas import Quota, RoleQuota
from runrig_master.core.settings import CoreSettings
from tests.master.core.cluster import (
    FINISHED,
    World,
    agent,
    asked_back,
    demand,
    done_with,
    given,
    launch_on,
    offers_in,
    orders,
    said,
    task,
)

QUICK = CoreSettings(preempt_after_s=1.0, preemption_notice_s=10.0)


def low(task_id: str, priority: int = 0, gang_id: str = "") -> TaskSpec:
    """Describe a task of one cpu and a low priority."""
    return replace(task(task_id), terms=Terms(priority=priority, gang_id=gang_id))


def full(*specs: TaskSpec, settings: CoreSettings = QUICK, role: str = "low") -> World:
    """Return a world in which framework low fills one agent."""
    world = given(agent("a1", cpus=len(specs)), settings=settings)
    [offer] = offers_in(world.want(demand("d", count=len(specs)), by="low", role=role))
    world.accept(launch_on(offer, *specs), by="low")
    world.report(*(said(spec.task_id, framework_id="low") for spec in specs))
    return world


def killed(commands: list[Command]) -> list[str]:
    """Return the tasks that agents are told to kill for a higher priority."""
    return [item.task_id for item in orders(commands) if isinstance(item, KillTask) and item.reason is Reason.PREEMPTED]


def urgent(count: int = 1, cpus: float = 1, priority: int = 10, gang_id: str = "") -> Demand:
    """Describe demand of a high priority."""
    return replace(demand("urgent", cpus, count), priority=priority, gang_id=gang_id)


def test_the_victims_framework_gets_notice_and_the_demand_its_place() -> None:
    world = full(low("t1"), low("t2"))
    world.want(urgent(), by="high")

    [notice] = asked_back(world.turn(after=1.0))
    assert (notice.reason, len(notice.task_ids), notice.agent_id) == (InverseOfferReason.PREEMPTION, 1, "a1")
    assert notice.deadline_unix_ms == round((world.now + 10.0) * 1000)
    assert killed(world.turn(after=9.0)) == []

    commands = world.turn(after=1.0)
    assert killed(commands) == list(notice.task_ids)
    ended = said(notice.task_ids[0], TaskState.TASK_KILLED, 2, framework_id="low", reason=Reason.PREEMPTED)
    [offer] = offers_in(world.report(ended))
    assert offer.role == "high"


def test_a_framework_may_end_another_task_on_the_same_agent_instead() -> None:
    world = full(low("t1"), low("t2"))
    world.want(urgent(), by="high")
    [notice] = asked_back(world.turn(after=1.0))
    other = next(name for name in ("t1", "t2") if name not in notice.task_ids)

    commands = world.report(said(other, FINISHED, 2, framework_id="low"))

    assert [offer.role for offer in offers_in(commands)] == ["high"]
    assert done_with(commands) == [notice.inverse_offer_id] or done_with(world.turn()) == [notice.inverse_offer_id]
    assert killed(world.turn(after=60.0)) == []


@pytest.mark.parametrize("priority", [0, -1])
def test_an_equal_or_higher_priority_is_left_alone(priority: int) -> None:
    world = full(low("t1"))
    world.want(urgent(priority=priority), by="high")

    assert asked_back(world.turn(after=60.0)) == []


def test_demand_that_has_a_place_takes_nobody_elses() -> None:
    world = full(low("t1"))
    world.connect(agent("a2"))
    world.want(urgent(), by="high")

    assert asked_back(world.turn(after=60.0)) == []


def test_a_role_that_has_less_than_the_demands_keeps_what_it_has() -> None:
    world = given(agent("a1", cpus=4), settings=QUICK)
    [offer] = offers_in(world.want(demand("d", count=3), by="high"))
    world.accept(launch_on(offer, *(low(f"h{number}", priority=10) for number in range(3))), by="high")
    [offer] = offers_in(world.want(demand("d"), by="low"))
    world.accept(launch_on(offer, low("t1")), by="low")

    world.want(urgent(), by="high")

    assert asked_back(world.turn(after=60.0)) == []


def test_within_a_role_priority_alone_decides() -> None:
    world = full(low("t1"), low("t2"), role="shared")
    world.want(urgent(), by="high", role="shared")

    assert len(asked_back(world.turn(after=1.0))) == 1


def test_what_a_role_is_guaranteed_is_not_taken_from_it() -> None:
    world = full(low("t1"), low("t2"))
    world.set_quotas(RoleQuota(Role("low"), guarantee=Quota(cpu_millis=2000)))
    world.want(urgent(), by="high")

    assert asked_back(world.turn(after=60.0)) == []


def test_a_role_below_its_guarantee_takes_back_what_it_has_lent() -> None:
    world = full(low("t1"), low("t2"), low("t3"), low("t4"))
    world.set_quotas(RoleQuota(Role("vip"), guarantee=Quota(cpu_millis=3000)))
    world.want(urgent(count=3), by="vip")

    notices = asked_back(world.turn(after=1.0))

    assert sum(len(notice.task_ids) for notice in notices) == 3


def test_no_limit_is_exceeded_by_preemption() -> None:
    world = full(low("t1"), low("t2"))
    world.set_quotas(RoleQuota(Role("high"), limit=Quota(cpu_millis=500)))
    world.want(urgent(), by="high")

    assert asked_back(world.turn(after=60.0)) == []


def test_the_lowest_priority_goes_first_and_of_equals_what_has_run_shortest() -> None:
    world = given(agent("a1", cpus=3), settings=QUICK)
    [offer] = offers_in(world.want(demand("d", count=3), by="low"))
    world.accept(launch_on(offer, low("old"), low("rather", priority=5)), by="low")
    world.turn(after=100.0)
    world.want(demand("d", count=1), by="low")
    world.accept(launch_on(world.offers("low"), low("young")), by="low")

    world.want(urgent(), by="high")
    [notice] = asked_back(world.turn(after=1.0))

    assert notice.task_ids == ("young",)


def test_of_several_agents_the_one_with_the_least_waste_is_chosen() -> None:
    world = given(agent("a1", cpus=1), settings=QUICK)
    [offer] = offers_in(world.want(demand("d"), by="low"))
    world.accept(launch_on(offer, low("old")), by="low")
    world.connect(agent("a2", cpus=1), after=1000.0)
    [offer] = offers_in(world.want(demand("e"), by="low"))
    world.accept(launch_on(offer, low("young")), by="low")

    world.want(urgent(), by="high")
    [notice] = asked_back(world.turn(after=1.0))

    assert notice.agent_id == AgentId("a2")


def test_a_gang_is_a_victim_whole() -> None:
    world = full(low("g1", gang_id="g"), low("g2", gang_id="g"))
    world.want(urgent(), by="high")

    [notice] = asked_back(world.turn(after=1.0))

    assert set(notice.task_ids) == {TaskId("g1"), TaskId("g2")}


def test_a_gang_of_a_high_priority_hastens_its_lay_away() -> None:
    settings = replace(QUICK, layaway_after_s=5.0, layaway_fraction=1.0)
    world = full(low("t1"), low("t2"), settings=settings)
    world.want(urgent(count=2, gang_id="train"), by="high")
    assert asked_back(world.turn(after=1.0)) == []

    world.turn(after=4.0)
    notices = asked_back(world.turn(after=1.0)) or world.master.cluster.inverse_offers.of_agent(AgentId("a1"))

    assert len(notices) == 1


def test_no_more_are_preempted_in_a_minute_than_the_budget_allows() -> None:
    settings = replace(QUICK, preemptions_per_minute=2)
    world = full(*(low(f"t{number}") for number in range(6)), settings=settings)
    world.want(urgent(count=4), by="high")

    first = sum(len(notice.task_ids) for notice in asked_back(world.turn(after=1.0)))
    soon = sum(len(notice.task_ids) for notice in asked_back(world.turn(after=30.0)))

    assert (first, soon) == (2, 0)


def test_what_is_not_needed_any_more_is_called_off() -> None:
    world = full(low("t1"), low("t2"))
    world.want(urgent(), by="high")
    [notice] = asked_back(world.turn(after=1.0))

    commands = world.want(by="high")

    assert done_with([*commands, *world.turn()]) == [notice.inverse_offer_id]
    assert killed(world.turn(after=60.0)) == []
