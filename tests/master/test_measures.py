"""What the loop measures by looking at the core's events and commands."""

from __future__ import annotations

from dataclasses import replace

from runrig.demand import Demand
from runrig.ids import Role
from runrig.offers import Accept, Decline, LaunchGroup, Subscribe, UpdateDemand
from runrig.resources import Resources
from runrig_master.core.events import SchedulerCalled
from runrig_master.measures import Distribution, Measures
from tests.master.core.cluster import World, agent, framework, given


def answered(world: World, name: str, call: Accept | Decline, after_s: float) -> Distribution:
    """Let a framework answer; return how long its offers have stood."""
    measures = Measures()
    measures.heard(world.master.cluster, SchedulerCalled(world.stream(name), call), world.now + after_s)
    return measures.offer_answer_s


def test_a_distribution_counts_what_is_not_above_each_bound() -> None:
    distribution = Distribution((1.0, 10.0))
    for value in (0.5, 1.0, 2.0, 99.0):
        distribution.add(value)
    distribution.add(3.0, 2)

    assert distribution.cumulative() == [("1.0", 2), ("10.0", 5), ("+Inf", 6)]
    assert distribution.sum == 108.5


def test_an_offer_is_answered_by_an_accept_and_by_a_decline() -> None:
    world = given(agent("a1"), framework("f"))
    world.turn()
    [(_, offer)] = world.witness.offers.values()
    accept = Accept((LaunchGroup(offer.agent_id, (offer.offer_id, offer.offer_id), ()),))

    for call in (accept, Decline((offer.offer_id,))):
        seen = answered(world, "f", call, 2.0)
        assert (seen.cumulative()[-1], seen.sum) == (("+Inf", 1), 2.0)


def test_what_is_no_offer_of_ones_own_is_not_counted() -> None:
    world = given(agent("a1"), framework("f"), framework("g"))
    world.turn()
    [(owner, offer)] = world.witness.offers.values()
    other = "g" if owner == "f" else "f"

    assert answered(world, other, Decline((offer.offer_id,)), 2.0).cumulative()[-1] == ("+Inf", 0)


def test_what_is_wanted_waits_from_when_it_was_first_stated() -> None:
    world = World()
    event = world.subscription(framework("f"))
    assert isinstance(event.call, Subscribe)
    world.turn(replace(event, call=replace(event.call, uses_demand=True)))
    world.call(UpdateDemand(Role("f"), (Demand("d", Resources(1000, 32), 2),)))
    measures = Measures()

    measures.did(world.master.cluster, world.connect(agent("a1"), after=20.0))

    assert measures.offer_wait_s.cumulative()[-1] == ("+Inf", 2)
    assert measures.offer_wait_s.sum == 40.0
