"""What is kept for a gang is lent to tasks that promise to end in time; the offer says within which time."""

from __future__ import annotations

from dataclasses import replace

from runrig.constraints import Constraint, Operator
from runrig.offers import Offer
from runrig.tasks import Terms
from runrig_master.core.settings import CoreSettings
from tests.master.core.cluster import FINISHED, World, agent, demand, given, launch_on, offers_in, said, task

SETTINGS = CoreSettings(layaway_after_s=10.0, layaway_s=600.0, layaway_fraction=1.0)


def laid_away(promise_ms: int) -> World:
    """Return a world in which a gang waits for the two tasks of an agent, `promise_ms` long, since ten seconds."""
    world = given(agent("a1", cpus=2), settings=SETTINGS)
    [offer] = offers_in(world.want(demand("d", count=2), by="g"))
    specs = [replace(task(name), terms=Terms(expected_duration_ms=promise_ms)) for name in ("g1", "g2")]
    world.accept(launch_on(offer, *specs), by="g")
    world.want(replace(demand("train", count=2), gang_id="train"))
    world.turn(after=10.0)
    return world


def freed(world: World) -> list[Offer]:
    """End one of the two tasks; return the offers that follow."""
    return offers_in(world.report(said("g1", FINISHED, framework_id="g"), by="a1"))


def promising(promise_ms: int) -> list[Offer]:
    """Return what a demand with a promise is offered of what is laid away, 20 seconds before the rest of it is free."""
    world = laid_away(promise_ms=30_000)
    world.want(replace(demand("short"), expected_duration_ms=promise_ms), by="h")
    return freed(world)


def test_an_offer_of_what_is_kept_for_a_gang_says_for_how_long_it_is_lent() -> None:
    [offer] = promising(20_000)

    assert offer.lent_for_ms == 20_000
    assert promising(20_001) == []


def test_an_offer_of_what_nobody_has_claimed_is_not_lent() -> None:
    world = given(agent("a1", cpus=2), settings=SETTINGS)

    [offer] = offers_in(world.want(replace(demand("short"), expected_duration_ms=1_000)))

    assert offer.lent_for_ms == 0


def test_what_is_lent_of_a_pool_and_what_is_not_stand_in_offers_of_their_own() -> None:
    world = given(agent("a1", cpus=2), agent("a2", cpus=1), settings=SETTINGS)
    for offer in offers_in(world.want(demand("d", count=3), by="g")):
        names = [f"{offer.agent_id}-{number}" for number in range(offer.resources.cpu_millis // 1000)]
        specs = [replace(task(name), terms=Terms(expected_duration_ms=30_000)) for name in names]
        world.accept(launch_on(offer, *specs), by="g")
    alone = (Constraint("hostname", Operator.UNIQUE),)
    world.want(replace(demand("train", count=2), gang_id="train", constraints=alone))
    world.turn(after=10.0)
    world.want(replace(demand("short", count=2), expected_duration_ms=5_000), by="h")

    ends = [said(name, FINISHED, framework_id="g") for name in ("a1-0", "a1-1")]
    made = offers_in(world.report(*ends, by="a1"))

    assert sorted((offer.resources.cpu_millis, offer.lent_for_ms) for offer in made) == [(1000, 0), (1000, 5_000)]


def test_where_tasks_promise_nothing_what_is_lent_is_no_longer_than_they_have_run() -> None:
    for promise_ms, is_offered in ((10_000, True), (10_001, False)):
        world = laid_away(promise_ms=0)
        world.want(replace(demand("short"), expected_duration_ms=promise_ms), by="h")

        assert bool(freed(world)) is is_offered
