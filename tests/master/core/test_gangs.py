"""Gangs: all or nothing, offered as one set, assembled by lay-away, never in each other's way."""

from __future__ import annotations

from dataclasses import replace

from runrig.constraints import Constraint, Operator
from runrig.demand import Demand
from runrig.offers import Filter, Offer, RescindReason
from runrig.resources import Resources
from runrig.tasks import Reason, TaskSpec, Terms
from runrig_master.core.settings import CoreSettings
from tests.master.core.cluster import (
    FINISHED,
    World,
    agent,
    demand,
    framework,
    given,
    launch_on,
    launched,
    offers_in,
    rescinded,
    said,
    states,
    task,
)

SOON = CoreSettings(layaway_after_s=10.0, layaway_s=100.0, layaway_fraction=1.0)


def gang(count: int, cpus: float = 1, name: str = "train", **fields: object) -> Demand:
    """Describe a gang of one shape."""
    return replace(demand(name, cpus, count), gang_id=name, **fields)  # type: ignore[arg-type]


def busy(agents: int, cpus: int = 4, settings: CoreSettings = SOON, promise_ms: int = 0) -> World:
    """Return a world in which framework g runs one task per cpu."""
    world = given(*(agent(f"a{number}", cpus=cpus) for number in range(agents)), settings=settings)
    offers = offers_in(world.want(demand("d", count=agents * cpus), by="g"))
    for offer in offers:
        specs = [_filler(f"{offer.agent_id}-{index}", promise_ms) for index in range(cpus)]
        world.accept(launch_on(offer, *specs), by="g")
    return world


def _filler(task_id: str, promise_ms: int) -> TaskSpec:
    return replace(task(task_id), terms=Terms(expected_duration_ms=promise_ms))


def end(world: World, *names: str) -> list[Offer]:
    """End tasks of g, and return the offers that follow."""
    made: list[Offer] = []
    for name in names:
        made += offers_in(
            world.report(
                said(name, FINISHED, agent_id=name.partition("-")[0], framework_id="g"), by=name.partition("-")[0]
            )
        )
    return made


def test_a_gang_is_offered_as_one_set_or_not_at_all() -> None:
    world = given(agent("a1", cpus=2), agent("a2", cpus=1))
    assert offers_in(world.want(gang(4))) == []

    made = offers_in(world.connect(agent("a3", cpus=1)))

    assert {(offer.agent_id, offer.gang_id, offer.resources.cpu_millis) for offer in made} == {
        ("a1", "train", 2000),
        ("a2", "train", 1000),
        ("a3", "train", 1000),
    }


def test_a_gang_that_does_not_fit_beside_demand_that_balances_the_same_group_ends_the_pass() -> None:
    by_rack = (Constraint("rack", Operator.GROUP_BY),)
    world = given(agent("a1", cpus=1, attributes=(("rack", "x"),)))
    large = replace(demand("large"), resources=Resources(500, 999_999), priority=9, constraints=by_rack, group="web")

    made = offers_in(world.want(large, replace(gang(2), constraints=by_rack, group="web")))

    assert made == []


def test_a_gang_of_several_shapes_starts_whole() -> None:
    world = given(agent("a1", cpus=4))
    shapes = (replace(demand("big", 3), gang_id="g"), replace(demand("small", 1, 2), gang_id="g"))
    assert offers_in(world.want(*shapes)) == []

    made = offers_in(world.connect(agent("a2", cpus=1)))

    assert sum(offer.resources.cpu_millis for offer in made) == 5000


def test_the_offers_of_a_gang_are_accepted_by_one_atomic_accept() -> None:
    world = given(agent("a1", cpus=1), agent("a2", cpus=1))
    first, second = offers_in(world.want(gang(2)))

    lone = world.accept(launch_on(first, task("t1")), atomic=True)
    assert states(lone) == [("t1", "TASK_DROPPED", Reason.INVALID_OFFERS)]
    assert second.offer_id not in world.master.cluster.offers

    both = world.offers()
    commands = world.accept(launch_on(both[0], task("t2")), launch_on(both[1], task("t3")), atomic=True)
    assert launched(commands) == ["t2", "t3"]


def test_when_one_offer_of_a_gang_ends_the_others_end_with_it() -> None:
    world = given(agent("a1", cpus=1), agent("a2", cpus=1))
    world.want(gang(2))

    commands = world.lose_agent("a1")

    assert sorted(reason.name for _, reason in rescinded(commands)) == ["AGENT_LEFT", "GANG_BROKEN"]
    assert world.offers() == []


def test_a_gang_that_is_declined_in_part_is_declined_whole() -> None:
    world = given(agent("a1", cpus=1), agent("a2", cpus=1))
    first, second = offers_in(world.want(gang(2)))

    commands = world.decline(first, filter_=Filter(60_000))

    assert rescinded(commands) == [(second.offer_id, RescindReason.GANG_BROKEN)]


def test_a_gang_that_has_waited_long_keeps_what_becomes_free() -> None:
    world = busy(agents=2, cpus=2)
    world.want(demand("d", count=99), by="g")
    world.want(gang(2, cpus=2))
    world.turn(after=SOON.layaway_after_s)

    kept = end(world, "a0-0", "a0-1", "a1-0")
    whole = end(world, "a1-1")

    assert kept == [], "small tasks of the other framework wait behind the lay-away"
    assert [(offer.role, offer.gang_id) for offer in whole] == [("f", "train"), ("f", "train")]


def test_before_that_it_keeps_nothing() -> None:
    world = busy(agents=1, cpus=2)
    world.want(demand("d", count=99), by="g")
    world.want(gang(1, cpus=2))
    world.turn(after=SOON.layaway_after_s - 1)

    [offer] = end(world, "a0-0")

    assert offer.role == "g"


def test_tasks_that_promise_to_end_in_time_may_use_what_is_laid_away() -> None:
    world = busy(agents=2, cpus=2, promise_ms=60_000)
    world.want(gang(2, cpus=2))
    world.turn(after=SOON.layaway_after_s)
    world.want(replace(demand("short", count=9), expected_duration_ms=20_000), by="g")

    [backfill] = end(world, "a0-0")
    world.want(replace(demand("long", count=9), expected_duration_ms=70_000), by="g")
    late = end(world, "a1-0")

    assert backfill.role == "g"
    assert late == []


def test_a_lay_away_ends_with_its_time_and_the_next_gang_has_its_turn() -> None:
    world = busy(agents=1, cpus=4)
    world.want(gang(1, cpus=4, name="first"), by="f", role="gangs")
    world.turn(after=1.0)
    world.want(gang(1, cpus=4, name="second"), by="h", role="gangs")
    world.turn(after=SOON.layaway_after_s)
    assert [claim.wanted.demand.demand_id for claim in world.master.cluster.backlog.claims] == ["first"]

    world.turn(after=SOON.layaway_s)
    world.turn(after=0.1)

    assert [claim.wanted.demand.demand_id for claim in world.master.cluster.backlog.claims] == ["second"]


def test_of_two_gangs_in_two_roles_the_older_gets_all_that_it_needs() -> None:
    world = busy(agents=2, cpus=2)
    world.want(gang(2, cpus=2, name="older"), by="f")
    world.turn(after=1.0)
    world.want(gang(2, cpus=2, name="younger"), by="h")
    world.turn(after=SOON.layaway_after_s)

    made = end(world, "a0-0", "a0-1", "a1-0", "a1-1")

    assert {offer.gang_id for offer in made} == {"older"}


def test_a_gang_that_needs_more_than_may_be_laid_away_keeps_nothing() -> None:
    world = busy(agents=2, cpus=2, settings=replace(SOON, layaway_fraction=0.5))
    world.want(gang(2, cpus=2))

    world.turn(after=SOON.layaway_after_s)

    assert not world.master.cluster.backlog.claims
    due = world.master.next_deadline()
    assert due is None or due > world.now


def test_a_task_that_needs_a_whole_agent_does_not_starve_behind_small_ones() -> None:
    world = busy(agents=1, cpus=4)
    world.want(demand("d", count=99), by="g")
    world.want(demand("whole", cpus=4))
    world.turn(after=SOON.layaway_after_s)

    made = end(world, "a0-0", "a0-1", "a0-2", "a0-3")

    assert [offer.role for offer in made] == ["f"]


def test_what_is_laid_away_is_let_go_when_the_gang_is_not_wanted_any_more() -> None:
    world = busy(agents=1, cpus=2)
    world.want(gang(1, cpus=2))
    world.turn(after=SOON.layaway_after_s)
    end(world, "a0-0")
    world.want(demand("d", count=99), by="g")
    assert world.offers("g") == []

    world.want()

    assert len(world.offers("g")) == 1


def test_a_lay_away_survives_no_lost_agent() -> None:
    world = busy(agents=2, cpus=2)
    world.want(gang(2, cpus=2))
    world.turn(after=SOON.layaway_after_s)
    assert world.master.cluster.backlog.claims

    world.lose_agent("a0")
    world.turn(after=200.0)

    assert not world.master.cluster.backlog.claims


def test_gangs_are_framework_and_role_deep_only() -> None:
    world = given(agent("a1", cpus=2))
    world.want(gang(1, name="same"), by="f")

    [offer] = offers_in(world.want(gang(1, name="same"), by="h"))

    assert framework("h").roles[0] == offer.role
