"""Optimistic offers: the same resources in several hands, and the first Accept has them."""

from __future__ import annotations

from runrig.offers import Filter, RescindReason
from runrig.tasks import Reason
from runrig_master.core.quotas import Quota, RoleQuota
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
    updates,
)


def contested(cpus: float = 4) -> World:
    """Return a world in which frameworks f and g of one optimistic role see one agent."""
    world = given(framework("f", "free"), framework("g", "free"))
    world.set_offers("free", True)
    world.connect(agent("a1", cpus=cpus))
    return world


def test_the_same_resources_are_offered_to_all_of_an_optimistic_role() -> None:
    world = contested()

    [one], [other] = world.offers("f"), world.offers("g")

    assert one.resources == other.resources
    assert (one.is_optimistic, other.is_optimistic) == (True, True)


def test_the_first_accept_has_them_and_the_other_offer_is_rescinded() -> None:
    world = contested()
    [one], [other] = world.offers("f"), world.offers("g")

    commands = world.accept(launch_on(one, task("t1", cpus=3)))

    assert launched(commands) == ["t1"]
    assert (other.offer_id, RescindReason.CONFLICT) in rescinded(commands)


def test_an_accept_that_comes_later_is_answered_with_what_is_short() -> None:
    world = contested()
    [one], [other] = world.offers("f"), world.offers("g")
    world.accept(launch_on(one, task("t1", cpus=3)))

    commands = world.accept(launch_on(other, task("t2", cpus=3)), by="g")

    assert states(commands) == [("t2", "TASK_DROPPED", Reason.OFFER_CONFLICT)]
    [update] = updates(commands)
    assert "cpu_millis by 3000" in update.message


def test_two_accepts_in_one_turn_never_overcommit() -> None:
    world = contested()
    [one], [other] = world.offers("f"), world.offers("g")
    events = [
        world.acceptance(launch_on(one, task("t1", cpus=3))),
        world.acceptance(launch_on(other, task("t2", cpus=3)), by="g"),
    ]

    commands = world.turn(*events)

    assert launched(commands) == ["t1"]
    assert ("t2", "TASK_DROPPED", Reason.OFFER_CONFLICT) in states(commands)


def test_what_the_first_left_is_offered_to_both_again() -> None:
    world = contested()
    [one] = world.offers("f")

    made = offers_in(world.accept(launch_on(one, task("t1", cpus=1)), filter_=Filter(0)))

    assert sorted((offer.resources.cpu_millis, offer.is_optimistic) for offer in made) == [(3000, True), (3000, True)]


def test_a_decline_hides_it_from_the_one_that_declined_alone() -> None:
    world = contested()
    [one], [other] = world.offers("f"), world.offers("g")

    world.decline(one, filter_=Filter(60_000))

    assert world.offers("f") == []
    assert world.offers("g") == [other]


def test_demand_takes_what_stands_in_optimistic_offers_only() -> None:
    world = contested()

    world.want(demand("d", cpus=2), by="h")

    [offer] = world.offers("h")
    assert not offer.is_optimistic
    assert sum(item.resources.cpu_millis for item in world.offers("f")) <= 2000


def test_optimistic_offers_hold_nothing_of_a_share() -> None:
    world = contested()
    client = world.master.cluster.frameworks[framework("f").framework_id].clients[framework("x", "free").roles[0]]

    assert client.holding.is_empty


def test_a_limit_holds_when_both_accept() -> None:
    world = given(framework("f", "free"), framework("g", "free"))
    world.set_offers("free", True)
    world.set_quotas(RoleQuota(framework("x", "free").roles[0], limit=Quota(cpu_millis=3000)))
    world.connect(agent("a1", cpus=8))
    [one], [other] = world.offers("f"), world.offers("g")
    assert one.resources.cpu_millis == 3000

    world.accept(launch_on(one, task("t1", cpus=2)))
    commands = world.accept(launch_on(other, task("t2", cpus=2)), by="g")

    assert launched(commands) == []


def test_what_becomes_free_is_offered_to_all_anew() -> None:
    world = contested()
    [one] = world.offers("f")
    world.accept(launch_on(one, task("t1", cpus=4, mem_mib=4096)))
    assert (world.offers("f"), world.offers("g")) == ([], [])

    made = offers_in(world.report(said("t1", FINISHED)))

    assert sorted(offer.is_optimistic for offer in made) == [True, True]


def test_a_role_may_go_back_to_exclusive_offers() -> None:
    world = contested()

    world.set_offers("free", False)
    world.turn(after=60.0)

    held = [*world.offers("f"), *world.offers("g")]
    assert [offer.is_optimistic for offer in held] == [False]
