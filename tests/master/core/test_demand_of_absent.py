"""What a framework wanted whose scheduler is gone: nothing is kept for who may never come back, or wants otherwise."""

from __future__ import annotations

from dataclasses import replace

from runrig_master.core.settings import CoreSettings
from tests.master.core.cluster import World, agent, demand, framework, given, launch_on, notes, offers_in, task

SETTINGS = CoreSettings(layaway_after_s=10.0, layaway_fraction=1.0)


def laying_away() -> World:
    """Return a world in which a gang of framework f has claimed an agent that another uses."""
    world = given(agent("a1", cpus=2), settings=SETTINGS)
    [offer] = offers_in(world.want(demand("d", count=2), by="g"))
    world.accept(launch_on(offer, task("t1"), task("t2")), by="g")
    world.want(replace(demand("train", count=2), gang_id="train"))
    world.turn(after=10.0)
    assert world.master.cluster.backlog.claims
    return world


def test_what_was_laid_away_is_let_go_when_the_scheduler_goes() -> None:
    world = laying_away()

    world.lose_framework("f")

    assert not world.master.cluster.backlog.claims
    assert notes(world.turn(after=20.0)) == []


def test_what_the_last_scheduler_wanted_does_not_wait_when_the_next_takes_over_at_once() -> None:
    world = laying_away()

    world.subscribe(framework("f"), uses_demand=True)

    assert not world.master.cluster.backlog.claims
    assert not world.master.cluster.backlog.waiting
