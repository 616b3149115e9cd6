"""Section 6: whose turn it is. Weighted dominant resource fairness over roles, then over the frameworks of a role."""

from __future__ import annotations

from collections import Counter

import pytest

from runrig.errors import InvalidInput
from runrig.offers import Decline, Filter
from runrig_master.core.commands import RoleRecord
from runrig_master.core.events import SchedulerCalled
from tests.master.core.cluster import (
    NO_FILTER,
    World,
    agent,
    answer,
    framework,
    given,
    launch_on,
    offers_in,
    task,
)


def many(agents: int, *names: str) -> World:
    """Return a world of equal agents and of frameworks, each in a role of its own."""
    return given(*(agent(f"a{number:02}") for number in range(agents)), *(framework(name) for name in names))


def shares(world: World) -> Counter[str]:
    """Count the offers of each framework."""
    return Counter(owner for owner, _ in world.witness.offers.values())


def test_equal_roles_get_equal_parts_within_one_turn() -> None:
    """Mesos case 48."""
    world = many(12, "f", "g", "h")

    world.turn()

    assert shares(world) == {"f": 4, "g": 4, "h": 4}


def test_frameworks_of_one_role_get_equal_parts() -> None:
    world = given(*(agent(f"a{number}") for number in range(6)), framework("f", "eng"), framework("g", "eng"))

    world.turn()

    assert shares(world) == {"f": 3, "g": 3}


def test_two_frameworks_of_one_role_share_what_one_of_another_role_has() -> None:
    """Mesos case 48."""
    world = given(
        *(agent(f"a{number}") for number in range(8)),
        framework("f", "eng"),
        framework("g", "eng"),
        framework("h", "ops"),
    )

    world.turn()

    assert shares(world) == {"f": 2, "g": 2, "h": 4}


def test_a_role_of_twice_the_weight_gets_twice_as_much() -> None:
    world = many(12, "f", "g")
    world.weigh("f", 2000)

    world.turn()

    assert shares(world) == {"f": 8, "g": 4}


def test_a_weight_survives_a_failover() -> None:
    world = World()
    world.weigh("f", 3000)
    world.restart()

    assert world.disk["roles/f"] == RoleRecord(framework("f").roles[0], 3000)
    assert world.master.cluster.weight(framework("f").roles[0]) == 3000


@pytest.mark.parametrize("role, weight", [("f", 0), ("f", -1), ("f", 2**63 - 1), ("a//b", 1000), ("", 1000)])
def test_a_weight_that_cannot_be_is_refused(role: str, weight: int) -> None:
    world = World()

    assert isinstance(answer(world.weigh(role, weight)), InvalidInput)
    assert world.disk == {}


def test_the_dominant_share_counts_not_the_number_of_agents() -> None:
    """Ghodsi et al., section 4.1: f takes cpus, g memory; each ends with the same dominant share."""
    world = given(agent("a1", cpus=9, mem_mib=18_432), framework("f"), framework("g"))
    world.turn()
    counts = {"f": 0, "g": 0}
    for number in range(20):
        [(owner, offer)] = world.witness.offers.values()
        spec = task(f"t{number}", cpus=1, mem_mib=4096) if owner == "f" else task(f"t{number}", cpus=3, mem_mib=1024)
        if not offer.resources.contains(spec.resources):
            break
        world.accept(launch_on(offer, spec), by=owner, filter_=NO_FILTER)
        counts[owner] += 1

    assert counts == {"f": 3, "g": 2}


def test_equal_shares_alternate() -> None:
    """Mesos case 50."""
    world = given(agent("a1"), framework("f"), framework("g"))
    world.turn()
    owners = []
    for _ in range(6):
        [(owner, offer)] = world.witness.offers.values()
        owners.append(owner)
        world.decline(offer, by=owner, filter_=Filter(1))
        world.turn(after=0.01)

    assert owners in (["f", "g"] * 3, ["g", "f"] * 3)


def test_a_framework_that_refuses_for_no_time_does_not_keep_an_agent_from_others() -> None:
    """Without it one that declines all with no filter would be offered the agent again for ever, others never."""
    world = given(agent("a1"), framework("f"), framework("g"))
    world.turn()
    seen = set()
    for _ in range(4):
        [(owner, offer)] = world.witness.offers.values()
        seen.add(owner)
        world.decline(offer, by=owner, filter_=NO_FILTER)

    assert seen == {"f", "g"}


def test_what_a_framework_refuses_does_not_wait_for_it() -> None:
    world = many(4, "f", "g")
    world.turn()
    declined = world.offers("f")

    commands = world.decline(*declined, by="f", filter_=Filter(60_000))

    assert {offer.agent_id for offer in offers_in(commands)} == {offer.agent_id for offer in declined}
    assert shares(world) == {"g": 4}


def test_a_new_framework_is_offered_what_is_free_and_nothing_is_taken_for_it() -> None:
    world = many(4, "f")
    world.turn()
    kept = world.offers("f")
    world.decline(kept[0], filter_=Filter(60_000))

    commands = world.subscribe(framework("g"))

    assert [offer.agent_id for offer in offers_in(commands)] == [kept[0].agent_id]
    assert len(world.offers("f")) == 3


def test_the_poorer_framework_is_first_even_if_it_came_last() -> None:
    world = many(2, "f")
    world.turn()
    for offer in world.offers("f"):
        world.accept(launch_on(offer, task(f"t-{offer.agent_id}")), filter_=NO_FILTER)
    world.subscribe(framework("g"))

    commands = world.connect(agent("b1"))

    assert [offer.role for offer in offers_in(commands)] == ["g"]


def test_the_same_events_have_the_same_answers() -> None:
    world = many(6, "f", "g")
    world.turn()
    for owner, offer in list(world.witness.offers.values()):
        world.accept(launch_on(offer, task(f"t-{offer.agent_id}")), by=owner)
    world.turn(after=100.0)

    world.assert_replays()


def test_of_roles_with_equal_weighted_shares_the_first_by_name_is_served() -> None:
    """1 of 11 by a weight of 1 is 3 of 11 by a weight of 3: rounded twice, the second seemed the smaller."""
    world = given(framework("a"), framework("b"))
    world.weigh("b", 3000)
    first = offers_in(world.connect(agent("a1", cpus=1, mem_mib=1)))
    second = offers_in(world.connect(agent("a2", cpus=3, mem_mib=1)))

    third = offers_in(world.connect(agent("a3", cpus=7, mem_mib=4096)))

    assert [offer.role for offer in (*first, *second, *third)] == ["a", "b", "a"]


def test_who_declined_in_an_earlier_turn_is_not_served_last_when_the_agent_comes_back() -> None:
    world = given(agent("a1"), framework("f"), framework("g"))
    [offer] = offers_in(world.turn())
    world.handle(SchedulerCalled(world.stream("f"), Decline((offer.offer_id,), NO_FILTER)))
    world.lose_agent()

    [again] = offers_in(world.connect(agent("a1")))

    assert [offer.role, again.role] == ["f", "f"]
