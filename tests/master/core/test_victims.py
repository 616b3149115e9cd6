"""Who is asked to end for a higher priority: no more than it takes, gangs whole, and no further than shares go."""

from __future__ import annotations

from dataclasses import replace

from runrig.constraints import Constraint, Operator
from runrig.demand import Demand
from runrig.ids import FrameworkId
from runrig.offers import Filter, InverseOffer
from runrig.resources import Resources
from runrig.tasks import TaskSpec, Terms
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
    said,
    task,
)

SETTINGS = CoreSettings(preempt_after_s=1.0, preemption_notice_s=10.0, layaway_after_s=5.0, layaway_fraction=1.0)


def low(task_id: str, cpus: float = 1, priority: int = 0, gang_id: str = "") -> TaskSpec:
    return replace(task(task_id, cpus), terms=Terms(priority=priority, gang_id=gang_id))


def full(*agents: tuple[TaskSpec, ...], settings: CoreSettings = SETTINGS) -> World:
    """Return a world of agents a0, a1 …, each filled by tasks of a framework `low` in a role of its own."""
    sizes = [sum(spec.resources.cpu_millis for spec in specs) / 1000 for specs in agents]
    world = given(settings=settings)
    for number, (size, specs) in enumerate(zip(sizes, agents, strict=True)):
        world.connect(agent(f"a{number}", cpus=size))
        whole = Demand("d", Resources(round(size * 1000), 128 * len(specs)))
        [offer] = offers_in(world.want(whole, by="low"))
        world.accept(launch_on(offer, *specs), by="low")
        world.want(by="low")
    return world


def asked(inverse_offers: list[InverseOffer]) -> list[str]:
    return sorted(task_id for inverse in inverse_offers for task_id in inverse.task_ids)


def test_what_one_victim_leaves_has_room_for_several_tasks() -> None:
    world = full((low("t0", cpus=4),), (low("t1", cpus=4),))
    world.want(replace(demand("urgent", count=4), priority=5))

    assert len(asked(asked_back(world.turn(after=1.0)))) == 1


def test_who_is_needless_beside_a_larger_victim_is_left_alone() -> None:
    world = full((low("small", cpus=1, priority=0), low("large", cpus=4, priority=1)))
    world.want(replace(demand("urgent", cpus=4), priority=5))

    assert asked(asked_back(world.turn(after=1.0))) == ["large"]


def test_the_demand_stops_where_its_role_would_have_more_than_the_victims() -> None:
    world = full(*((low(f"t{number}"), low(f"u{number}")) for number in range(4)))
    world.want(replace(demand("urgent", count=8), priority=5))

    assert len(asked(asked_back(world.turn(after=1.0)))) == 4
    assert asked(asked_back(world.turn(after=2.0))) == []


def test_a_gang_on_several_agents_is_asked_and_killed_whole() -> None:
    world = full((low("t0", gang_id="g"),), (low("t1", gang_id="g"),), (low("t2"), low("t3"), low("t4")))
    world.want(replace(demand("urgent"), priority=5, constraints=(Constraint("hostname", Operator.EQUALS, "host-a1"),)))
    assert asked(asked_back(world.turn(after=1.0))) == ["t0", "t1"]

    assert done_with(world.turn(after=1.0)) == []
    world.turn(after=9.0)

    assert {
        item.id for item in world.master.cluster.frameworks[FrameworkId("low")].tasks.values() if item.kill_reason
    } == {"t0", "t1"}


def test_a_gang_of_which_one_has_ended_for_it_is_not_called_off() -> None:
    world = full((low("t0", gang_id="g"),), (low("t1", gang_id="g"),), (low("t2"), low("t3"), low("t4")))
    world.want(replace(demand("urgent"), priority=5, constraints=(Constraint("hostname", Operator.EQUALS, "host-a1"),)))
    world.turn(after=1.0)

    ended = world.report(said("t1", FINISHED, agent_id="a1", framework_id="low"), by="a1")

    assert len(offers_in(ended)) == 1
    assert [inverse.agent.id for inverse in world.master.cluster.inverse_offers.standing.values()] == ["a0"]


def test_a_gang_with_one_member_of_a_high_priority_is_no_victim() -> None:
    world = full((low("t0", gang_id="g", priority=7),), (low("t1", gang_id="g"),), (low("t2"),))
    world.want(replace(demand("urgent", count=3), priority=5))

    assert asked(asked_back(world.turn(after=1.0))) == ["t2"]


def test_a_gang_takes_the_place_of_others_whole_or_not_at_all() -> None:
    alone = (Constraint("hostname", Operator.UNIQUE),)
    found = []
    for priority in (9, 0):
        world = full((low("t0"),), (low("t1", priority=priority),), (low("t2", priority=9),))
        world.want(replace(demand("train", count=2), gang_id="train", priority=5, constraints=alone))
        commands = [*world.turn(after=5.0), *world.turn(after=1.0)]
        found.append(asked(asked_back(commands)))

    assert found == [[], ["t0", "t1"]]


def test_a_pool_that_the_demand_has_refused_is_not_cleared_for_it() -> None:
    world = full((low("t0"),))
    world.connect(agent("a9", cpus=2))
    [offer] = offers_in(world.want(replace(demand("urgent", count=2), priority=5)))
    world.decline(offer, filter_=Filter(60_000))
    world.want(demand("d", count=2), by="low")
    [offer] = world.offers("low")
    world.accept(launch_on(offer, low("t1"), low("t2")), by="low")

    assert asked(asked_back(world.turn(after=2.0))) == ["t0"]
