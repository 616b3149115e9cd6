"""Explanations against decisions, on random clusters: what is said of a demand is what the next pass does."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from hypothesis import event, given

from runrig.explanations import Verdict
from runrig_master.core.allocation.predicates import Kind, fits, is_refused, problems, suitable
from runrig_master.core.clients import Wanted
from runrig_master.core.explain.demand import explain_demand, judged
from runrig_master.core.explain.funnel import funnel_of
from runrig_master.core.pools import is_worth_offering
from runrig_master.core.state import Presence
from tests.master.core.cluster import World
from tests.properties.effort import searching
from tests.properties.naive_predicates import fits_empty, is_turned_away
from tests.properties.waiting_world import alone, apply, offered, shown_all, worlds


def waiting(world: World) -> Iterator[Wanted]:
    """Yield what waits."""
    for framework in world.master.cluster.frameworks.values():
        for client in framework.clients.values():
            yield from (wanted for wanted in client.wanted.values() if wanted.unmet > 0)


@searching(60)
@given(worlds())
def test_each_agent_is_turned_away_by_the_predicate_that_is_named_and_by_none_before_it(world: World) -> None:
    cluster = world.master.cluster
    known = [agent for agent in cluster.agents.values() if agent.presence is not Presence.GONE]
    for wanted in waiting(world):
        funnel = funnel_of(cluster, wanted, world.now)
        named = [(predicate, pool) for predicate, pools in funnel.turned.items() for pool in pools]

        assert len(named) + len(funnel.left) == len(known) == funnel.agents
        assert {pool.agent for _, pool in named} | {pool.agent for pool in funnel.left} == set(known)
        order = list(funnel.turned)
        for predicate, pool in named:
            event(predicate.kind.name.lower())
            told = (predicate.kind, predicate.constraint, world.now)
            assert is_turned_away(cluster, wanted, pool, *told), f"{predicate.name} does not turn {pool.agent.id} away"
            for before in order[: order.index(predicate)]:
                told = (before.kind, before.constraint, world.now)
                assert not is_turned_away(cluster, wanted, pool, *told), f"{before.name} turns {pool.agent.id} away"


@searching(30)
@given(worlds())
def test_the_verdict_is_what_a_pass_decides_when_all_is_shown(world: World) -> None:
    cluster = world.master.cluster
    for wanted in waiting(world):
        item = explain_demand(cluster, wanted, world.now)
        event(item.verdict.name)
        other = alone(world, wanted)
        shown_all(other, wanted.client.name)
        is_offered = offered(other, wanted.client.name, wanted.demand.demand_id) > wanted.offered

        assert (item.verdict is Verdict.FITS) == is_offered, item.summary
        assert (item.verdict is Verdict.INFEASIBLE) == (not fits_empty(cluster, wanted, world.now)), item.summary


@searching(30)
@given(worlds())
def test_what_is_said_to_help_does(world: World) -> None:
    cluster = world.master.cluster
    for wanted in waiting(world):
        if any(each.claims for each in wanted.client.wanted.values() if not each.is_with(wanted)):
            continue  # what is kept for its other demands may go elsewhere when something becomes free
        funnel = funnel_of(cluster, wanted, world.now)
        _, _, remedies = judged(cluster, wanted, funnel, world.now)
        for remedy in remedies:
            event(type(remedy).__name__)
            other = alone(world, wanted)

            apply(other, wanted, remedy)

            assert offered(other, wanted.client.name, wanted.demand.demand_id) > wanted.offered, remedy.text


@searching(15)
@given(worlds())
def test_what_the_passes_ask_fast_is_what_explain_asks_by_name(world: World) -> None:
    cluster = world.master.cluster
    for wanted in waiting(world):
        for pool in cluster.pools.within(suitable(cluster, wanted) & cluster.pools.offerable):
            is_taken = is_worth_offering(pool.free) and fits(cluster, wanted, pool, world.now)
            is_taken = is_taken and not is_refused(cluster, wanted, pool, world.now)
            away = is_turned_away_by_time(world, wanted)
            named = next(problems(cluster, wanted, pool, world.now), None)

            assert is_taken == (named is None and pool not in away)


@searching(20)
@given(worlds())
def test_explaining_changes_nothing(world: World) -> None:
    untouched = copy.deepcopy(world)

    for wanted in waiting(world):
        explain_demand(world.master.cluster, wanted, world.now)

    assert repr(world.turn(after=100.0)) == repr(untouched.turn(after=100.0))


def is_turned_away_by_time(world: World, wanted: Wanted) -> list[object]:
    """Return the pools of agents that will be away."""
    funnel = funnel_of(world.master.cluster, wanted, world.now)
    agents = {pool.agent for pool in funnel.pools_of(Kind.MAINTENANCE)}
    return [pool for agent in agents for pool in agent.pools.values()]
