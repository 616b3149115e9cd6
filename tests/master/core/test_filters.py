"""Rules 5 and 6: what is refused stays hidden for its time, and what suppress and revive do."""

from __future__ import annotations

import pytest

from runrig.agents import AgentChanged
from runrig.ids import AgentId, FrameworkId, OfferId, Role
from runrig.offers import Decline, Filter, Revive, Suppress
from runrig.resources import Resources
from runrig_master.core.clients import Client
from runrig_master.core.filters import Filters, Refusal
from runrig_master.core.pools import Pool
from runrig_master.core.settings import CoreSettings
from tests.master.core.cluster import (
    FINISHED,
    NO_FILTER,
    World,
    agent,
    framework,
    given,
    launch_on,
    offers_in,
    refused_calls,
    running,
    said,
    shape,
    task,
)


def refused(refuse_ms: int) -> World:
    """Return a world in which framework f has declined the one offer of agent a1."""
    world = given(agent(), framework())
    world.turn()
    world.decline(*world.offers(), filter_=Filter(refuse_ms))
    return world


@pytest.mark.parametrize("refuse_ms", [1_000, 5_000, 3_600_000, 365 * 86_400_000])
def test_a_declined_agent_is_hidden_for_as_long_as_was_asked(refuse_ms: int) -> None:
    """Rule 5; Mesos case 49."""
    world = refused(refuse_ms)

    assert offers_in(world.turn(after=refuse_ms / 1000 - 0.25)) == []
    assert shape(offers_in(world.turn(after=0.25))) == [("a1", 4000)]


def test_the_master_asks_to_be_woken_when_a_filter_runs_out() -> None:
    world = refused(7_000)

    assert world.master.next_deadline() == world.now + 7.0


def test_a_decline_without_a_time_hides_nothing() -> None:
    """Rule 5."""
    world = given(agent(), framework())
    world.turn()

    assert len(offers_in(world.decline(*world.offers(), filter_=NO_FILTER))) == 1


def test_the_default_is_five_seconds() -> None:
    world = given(agent(), framework())
    world.turn()
    world.decline(*world.offers())

    assert offers_in(world.turn(after=4.99)) == []
    assert len(offers_in(world.turn(after=0.01))) == 1


def test_a_declined_agent_is_offered_to_another_framework_at_once() -> None:
    world = given(agent(), framework("f"), framework("g"))
    [offer] = offers_in(world.turn())
    owner = world.witness.offers[offer.offer_id][0]

    commands = world.decline(offer, by=owner)

    assert [offer.role for offer in offers_in(commands)] == ["g" if owner == "f" else "f"]


def test_a_filter_of_one_role_leaves_the_frameworks_other_roles_alone() -> None:
    world = given(agent(), framework("f", "eng", "ops"))
    [offer] = offers_in(world.turn())

    commands = world.decline(offer)

    assert {offer.role for offer in offers_in(commands)} == {"eng", "ops"} - {offer.role}


def test_a_larger_offer_gets_through() -> None:
    """Rule 5."""
    world = running(task("t1", cpus=1))
    world.decline(*world.offers(), filter_=Filter(3_600_000))

    commands = world.report(said("t1", FINISHED, 2))

    assert shape(offers_in(commands)) == [("a1", 4000)]


def test_an_offer_larger_in_one_dimension_gets_through() -> None:
    world = given(agent(cpus=4, mem_mib=4096, ports="[31000-31009]"), framework())
    world.turn()
    world.decline(*world.offers(), filter_=Filter(3_600_000))

    commands = world.report(AgentChanged(agent(cpus=1, mem_mib=4096, ports="[31000-31010]")))

    assert shape(offers_in(commands)) == [("a1", 1000)]


def test_a_smaller_offer_stays_hidden() -> None:
    world = given(agent(), framework("f"), framework("g"))
    world.turn()
    [offer] = world.offers("f") or world.offers("g")
    first = world.witness.offers[offer.offer_id][0]
    second = "g" if first == "f" else "f"
    world.decline(offer, by=first, filter_=Filter(3_600_000))
    world.accept(launch_on(world.offers(second), task("t1")), by=second, filter_=Filter(3_600_000))

    assert offers_in(world.turn(after=60.0)) == []


def test_what_an_accept_leaves_is_hidden_by_its_own_filter() -> None:
    """Rule 2."""
    world = given(agent(), framework())
    world.turn()
    world.accept(launch_on(world.offers(), task("t1")), filter_=Filter(60_000))

    assert offers_in(world.turn(after=59.9)) == []
    assert shape(offers_in(world.turn(after=0.1))) == [("a1", 3000)]


def test_an_agent_that_changes_is_offered_again_in_spite_of_filters() -> None:
    """Mesos case 54."""
    world = refused(3_600_000)

    commands = world.report(AgentChanged(agent(attributes=(("rack", "r1"),))))

    assert shape(offers_in(commands)) == [("a1", 4000)]


def test_an_agent_that_returns_as_it_was_stays_hidden() -> None:
    world = refused(3_600_000)
    world.lose_agent()

    assert offers_in(world.connect(agent())) == []


def test_an_agent_that_returns_changed_is_offered_again() -> None:
    world = refused(3_600_000)
    world.lose_agent()

    assert len(offers_in(world.connect(agent(attributes=(("rack", "r1"),))))) == 1


def test_a_framework_that_subscribes_anew_has_no_filters() -> None:
    world = refused(3_600_000)
    world.lose_framework()

    assert len(offers_in(world.subscribe(framework()))) == 1


def test_revive_clears_filters_at_once() -> None:
    """Rule 5; Mesos case 43."""
    world = refused(3_600_000)

    assert len(offers_in(world.call(Revive()))) == 1


def test_revive_of_one_role_clears_that_roles_filters_only() -> None:
    """Mesos case 53."""
    world = given(agent(), framework("f", "eng", "ops"))
    world.turn()
    world.decline(*world.offers(), filter_=Filter(3_600_000))
    world.decline(*world.offers(), filter_=Filter(3_600_000))
    assert world.offers() == []

    assert [offer.role for offer in offers_in(world.call(Revive((Role("ops"),))))] == ["ops"]


def test_suppress_stops_offers_and_rescinds_none() -> None:
    """Rule 6."""
    world = given(agent("a1"), framework())
    [offer] = offers_in(world.turn())

    commands = world.call(Suppress()) + world.connect(agent("a2"))

    assert offers_in(commands) == []
    assert world.offers() == [offer]


def test_revive_ends_suppression_at_once() -> None:
    """Rules 5 and 6; Mesos case 43."""
    world = given(agent(), framework())
    world.call(Suppress())
    world.turn()

    assert len(offers_in(world.call(Revive()))) == 1


def test_suppress_of_one_role_leaves_the_others() -> None:
    """Rule 6; Mesos case 53."""
    world = given(framework("f", "eng", "ops"))
    world.call(Suppress((Role("eng"),)))

    commands = world.connect(agent("a1")) + world.connect(agent("a2"))

    assert [offer.role for offer in offers_in(commands)] == ["ops", "ops"]


def test_a_framework_may_subscribe_suppressed() -> None:
    """Rule 6; Mesos case 43."""
    world = given(agent())
    commands = world.subscribe(framework(), suppressed=("f",))

    assert offers_in(commands) == []
    assert len(offers_in(world.call(Revive()))) == 1


def test_a_suppressed_framework_that_fails_over_says_anew_what_it_suppresses() -> None:
    world = given(agent(), framework())
    world.call(Suppress())

    assert len(offers_in(world.subscribe(framework()))) == 1


@pytest.mark.parametrize("call", [Suppress((Role("ops"),)), Revive((Role("ops"),))])
def test_a_role_that_is_not_the_frameworks_is_refused_by_name(call: Suppress | Revive) -> None:
    world = given(agent(), framework("f", "eng"))

    commands = world.call(call)

    assert refused_calls(commands) == [
        (type(call).__name__.lower(), "roles: 'ops' is not allowed; allowed: those of the framework: eng")
    ]


def test_declining_what_is_not_ones_own_changes_nothing() -> None:
    """Rule 20."""
    world = given(agent(), framework("f"), framework("g"))
    [offer] = offers_in(world.turn())
    other = "g" if world.offers("f") else "f"

    assert world.call(Decline((offer.offer_id, OfferId("nonsense"), offer.offer_id)), by=other) == []
    assert offer.offer_id in world.master.cluster.offers


def test_a_decline_that_is_replayed_changes_nothing() -> None:
    """Rule 20."""
    world = given(agent(), framework())
    world.turn()
    [offer] = world.offers()
    world.decline(offer, filter_=Filter(1_000))
    world.turn(after=1.0)

    world.decline(offer, filter_=Filter(3_600_000))

    assert len(world.offers()) == 1


def test_refusals_of_one_agent_are_bounded_and_the_oldest_go_first() -> None:
    settings = CoreSettings(filters_per_agent_and_framework=2)
    filters = Filters(settings.filters_per_agent_and_framework)
    pool, client = _pool_and_client()
    for cpus, mem in ((1, 30), (2, 20), (3, 10)):
        filters.refuse(pool, client, Refusal(Resources(cpus, mem), 100.0, ""))

    assert not filters.hide(pool, client, Resources(1, 30), 0.0)
    assert filters.hide(pool, client, Resources(2, 20), 0.0)
    assert filters.hide(pool, client, Resources(3, 10), 0.0)


def _pool_and_client() -> tuple[Pool, Client]:
    cluster = given(agent("a1"), framework("f")).master.cluster
    [pool] = cluster.agents[AgentId("a1")].pools.values()
    return pool, cluster.frameworks[FrameworkId("f")].clients[Role("f")]


def test_refusals_that_are_revived_again_and_again_leave_nothing_behind() -> None:
    """A framework that refuses for a year and revives every second must not fill the master's memory."""
    filters = Filters(16)
    pool, client = _pool_and_client()
    for second in range(50_000):
        filters.refuse(pool, client, Refusal(Resources(1), second + 365 * 86_400.0, ""))
        filters.clear_client(client)

    assert len(filters._expiries) < 5_000
