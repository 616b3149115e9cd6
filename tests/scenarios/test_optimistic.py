"""Optimistic offers: the same resources in several offers, given to who accepts first, and never twice."""

from __future__ import annotations

import random

import pytest

from runrig.offers import Decline, Filter, RescindReason
from runrig.testing import Cluster, Weather, finishing
from runrig_master.core.quotas import Quota
from tests.scenarios.frameworks import Raw, accept, launch
from tests.scenarios.operator import set_optimistic, set_quota

CONFLICT = "TASK_DROPPED OFFER_CONFLICT"
RUNS = "TASK_RUNNING NONE"


def shared(agents: int, *names: str, role: str = "shared") -> tuple[Cluster, list[Raw]]:
    """Return a cluster that several frameworks of one optimistic role are offered."""
    cluster = Cluster()
    cluster.agents(agents, "cpus:4;mem:8G")
    set_optimistic(cluster, role)
    minds = []
    for name in names:
        minds.append(Raw(name))
        cluster.run(name, minds[-1], roles=(role,))
    return cluster, minds


def test_two_hold_the_same_resources_and_the_second_is_told_what_is_short() -> None:
    cluster, (first, second) = shared(1, "first", "second")
    [mine], [theirs] = first.held.values(), second.held.values()
    assert mine.resources == theirs.resources
    assert (mine.is_optimistic, theirs.is_optimistic) == (True, True)
    cluster.weather = Weather(delay_least_s=0.01, delay_most_s=0.01)

    cluster.frameworks["first"].tell([accept(launch(mine, first.task("cpus:3;mem:1G")))])
    cluster.after(
        0.001, lambda: cluster.frameworks["second"].tell([accept(launch(theirs, second.task("cpus:2;mem:1G")))])
    )
    cluster.advance("1s")

    assert first.states() == {"first-1": RUNS}
    assert second.states() == {"second-1": CONFLICT}
    assert "short of cpu_millis by 3000, mem_mib by 1024" in second.updates[-1].message
    assert cluster.running == [("first", "first-1")]


def test_two_accepts_that_arrive_in_one_turn_are_decided_in_their_order() -> None:
    cluster, minds = shared(1, "first", "second")
    for mind in minds:
        [offer] = mind.held.values()
        cluster.frameworks[mind.name].tell([accept(launch(offer, mind.task("cpus:3;mem:1G")))])

    cluster.settle()

    assert sorted(state for mind in minds for state in mind.states().values()) == [CONFLICT, RUNS]


def test_who_has_not_answered_has_the_offer_taken_back_and_is_offered_what_is_left() -> None:
    cluster, (first, second) = shared(1, "first", "second")
    [mine] = first.held.values()

    cluster.frameworks["first"].tell([accept(launch(mine, first.task("cpus:3;mem:1G")))])
    cluster.settle()

    assert [each.reason for each in second.rescinded] == [RescindReason.CONFLICT]
    assert [offer.resources.cpu_millis for mind in (first, second) for offer in mind.held.values()] == [1000, 1000]


@pytest.mark.parametrize("refuse_ms", [0, 2_000])
def test_who_has_declined_is_offered_it_again_when_its_filter_is_over(refuse_ms: int) -> None:
    cluster, (first, second) = shared(1, "first", "second")
    [mine] = first.held

    cluster.frameworks["first"].tell([Decline((mine,), Filter(refuse_ms))])
    cluster.advance(refuse_ms / 1000)

    assert [offer.resources.cpu_millis for offer in first.held.values()] == [4000]
    assert len(second.offered) == 1


def test_who_lets_an_offer_expire_is_offered_it_again() -> None:
    cluster, (first,) = shared(1, "first")

    cluster.advance("31s")

    assert [each.reason for each in first.rescinded] == [RescindReason.EXPIRED]
    assert len(first.held) == 1


def test_one_framework_in_two_optimistic_roles_cannot_spend_the_same_twice_in_one_accept() -> None:
    cluster, _ = shared(1, role="other")
    set_optimistic(cluster, "shared")
    mind = Raw("both")
    both = cluster.run("both", mind, roles=("other", "shared"))
    one, other = mind.held.values()

    both.tell([accept(launch(one, mind.task("cpus:3;mem:1G")), launch(other, mind.task("cpus:3;mem:1G")))])
    cluster.settle()

    assert mind.states() == {"both-1": RUNS, "both-2": CONFLICT}


def test_a_limit_holds_for_all_that_one_accept_launches() -> None:
    cluster, (mind,) = shared(3, "first")
    set_quota(cluster, "shared", limit=Quota(cpu_millis=5_000))
    groups = [launch(offer, mind.task("cpus:2;mem:1G")) for offer in mind.held.values()]

    cluster.frameworks["first"].tell([accept(*groups)])
    cluster.settle()

    assert sorted(mind.states().values()) == [CONFLICT, RUNS, RUNS]


def test_an_atomic_accept_with_one_conflict_launches_nothing() -> None:
    cluster, (first, second) = shared(2, "first", "second")
    taken = next(iter(first.held.values()))
    groups = [launch(offer, second.task("cpus:3;mem:1G")) for offer in second.held.values()]

    cluster.frameworks["first"].tell([accept(launch(taken, first.task("cpus:3;mem:1G")))])
    cluster.frameworks["second"].tell([accept(*groups, atomic=True)])
    cluster.settle()

    assert cluster.running == [("first", "first-1")]
    assert set(second.states().values()) == {CONFLICT, "TASK_DROPPED ATOMIC_ACCEPT_REFUSED"}


@pytest.mark.parametrize("seed", range(3))
def test_ten_frameworks_that_race_for_twenty_agents_never_overcommit_one(seed: int) -> None:
    """The simulated hosts fail at once when more runs than there is room for."""
    chance = random.Random(seed)
    cluster, minds = shared(20, *(f"f{number}" for number in range(10)))
    for agent in cluster.all_agents.values():
        agent.host.script = finishing(7)
    cluster.weather = Weather(delay_least_s=0.005, delay_most_s=0.2)
    for _ in range(150):
        mind = chance.choice(minds)
        offers = [offer for offer in mind.held.values() if offer.resources.cpu_millis]
        if offers:
            offer = chance.choice(offers)
            cpus = chance.randint(1, offer.resources.cpu_millis // 1000)
            cluster.frameworks[mind.name].tell([accept(launch(offer, mind.task(f"cpus:{cpus};mem:512M")))])
        cluster.advance(0.1)
    cluster.advance("10s")

    outcomes = [state for mind in minds for state in mind.states().values()]
    assert outcomes.count("TASK_FINISHED EXITED") > 25
    assert outcomes.count(CONFLICT) > 0
    assert set(outcomes) <= {"TASK_FINISHED EXITED", CONFLICT}
