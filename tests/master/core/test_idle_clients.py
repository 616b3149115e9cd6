"""Frameworks on raw offers that have no use for what they are offered: demand that waits goes before them."""

from __future__ import annotations

from dataclasses import replace

from runrig.constraints import Constraint, Operator
from runrig.offers import Filter, Revive
from tests.master.core.cluster import (
    FINISHED,
    World,
    agent,
    demand,
    framework,
    given,
    launch_on,
    offers_in,
    rescinded,
    said,
    shape,
    task,
)

ALWAYS = Filter(0)


def looked_at() -> World:
    """Return a world in which `d` runs a task on a1, and the poorer `f`, on raw offers, has just refused a2."""
    world = given(agent("a1", cpus=1, mem_mib=128))
    world.want(demand("d"), by="d")
    [offer] = world.offers("d")
    world.accept(launch_on(offer, task("d1")), by="d")
    world.subscribe(framework("f"))
    world.connect(agent("a2", cpus=1, mem_mib=128))
    [offer] = world.offers("f")
    world.decline(offer, filter_=ALWAYS)
    return world


def test_what_waiting_demand_could_use_does_not_go_first_to_who_has_just_declined() -> None:
    world = looked_at()
    [offer] = world.offers("f")
    world.want(demand("d"), by="d")

    world.decline(offer, filter_=ALWAYS)
    world.connect(agent("a3", cpus=1, mem_mib=128))

    assert shape(world.offers("d")) == [("a2", 1000)]
    assert shape(world.offers("f")) == [("a3", 1000)]


def test_without_demand_that_waits_who_has_declined_is_offered_again_at_once() -> None:
    world = looked_at()

    assert shape(world.offers("f")) == [("a2", 1000)]


def test_a_framework_that_launches_or_revives_is_asked_in_its_fair_turn_again() -> None:
    world = looked_at()
    world.call(Revive())
    world.want(demand("d", count=5), by="d")
    world.weigh("f", 3000)

    world.connect(agent("a3", cpus=1, mem_mib=128))
    assert shape(world.offers("f")) == [("a2", 1000), ("a3", 1000)]
    for_f = world.offers("f")
    world.decline(for_f[0], filter_=ALWAYS)
    world.accept(launch_on(for_f[1], task("f1")))
    world.connect(agent("a4", cpus=1, mem_mib=128))

    assert shape(world.offers("f")) == [("a4", 1000)]


def test_of_hosts_that_take_one_task_each_as_many_are_called_in_as_tasks_are_wanted() -> None:
    unique = replace(demand("d", count=3), constraints=(Constraint("hostname", Operator.UNIQUE),))
    world = given(*(agent(f"a{number}", cpus=8) for number in range(4)), framework("f"))
    world.turn()

    world.turn(after=1.0)
    commands = world.want(unique, by="d")

    assert len(rescinded(commands)) == 3
    assert len(world.offers("d")) == 3


def test_offers_in_which_a_task_of_the_group_runs_already_are_not_called_in_for_another() -> None:
    unique = replace(demand("d", count=2), constraints=(Constraint("hostname", Operator.UNIQUE),), group="g")
    world = given(agent("a1", cpus=8))
    world.want(unique, by="d")
    [offer] = world.offers("d")
    spec = task("d1")
    world.accept(launch_on(offer, replace(spec, terms=replace(spec.terms, group="g"))), by="d")
    world.subscribe(framework("f"))
    assert shape(world.offers("f")) == [("a1", 7000)]

    assert rescinded(world.turn(after=1.0)) == []


def test_pieces_of_one_agent_in_several_offers_are_called_in_together() -> None:
    world = given(agent("a1", cpus=2, mem_mib=256))
    [offer] = offers_in(world.want(demand("d", count=2), by="g"))
    world.accept(launch_on(offer, task("g1"), task("g2")), by="g")
    world.subscribe(framework("f"))
    for name in ("g1", "g2"):
        world.report(said(name, FINISHED, framework_id="g"), by="a1")
    assert shape(world.offers("f")) == [("a1", 1000), ("a1", 1000)]

    commands = world.want(demand("large", cpus=2), by="d", after=1.0)

    assert len(rescinded(commands)) == 2
    assert shape(world.offers("d")) == [("a1", 2000)]
