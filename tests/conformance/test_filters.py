"""Rules 5 and 6: what a framework has declined, what it does not want to be offered, and how it changes its mind."""

from __future__ import annotations

import pytest

from tests.conformance.cases import case
from tests.conformance.cluster import Cluster
from tests.conformance.messages import (
    FINISHED,
    accept,
    agent_changed,
    attribute,
    decline,
    group,
    launch,
    revive,
    spec,
    suppress,
)

LONG_MS = 3_600_000
A_YEAR_MS = 365 * 86_400_000
DEFAULT_REFUSE_MS = 5_000


@case(rules=(5,), mesos=(49,))
@pytest.mark.parametrize("refuse_ms, hidden_ms", [(300, 300), (None, DEFAULT_REFUSE_MS)], ids=["300 ms", "unsaid"])
async def test_a_declined_agent_is_hidden_for_as_long_as_was_asked(
    cluster: Cluster, refuse_ms: int | None, hidden_ms: int
) -> None:
    scheduler, _ = await cluster.pair()
    offer = await scheduler.offer()
    begun = cluster.now_ms()
    await scheduler.send(decline(offer, refuse_ms=refuse_ms))

    again = await scheduler.offer(within_ms=hidden_ms)

    assert cluster.now_ms() - begun >= hidden_ms
    assert again.resources == offer.resources


@case(rules=(5, 7))
async def test_a_decline_for_no_time_hides_nothing(cluster: Cluster) -> None:
    scheduler, _ = await cluster.pair()
    offer = await scheduler.offer()

    await scheduler.send(decline(offer, refuse_ms=0))

    assert (await scheduler.offer()).resources == offer.resources


@case(rules=(5,))
@pytest.mark.parametrize("refuse_ms", [-1, A_YEAR_MS + 1])
async def test_a_filter_of_less_than_no_time_or_more_than_a_year_is_refused_by_name(
    cluster: Cluster, refuse_ms: int
) -> None:
    scheduler, _ = await cluster.pair()
    offer = await scheduler.offer()

    await scheduler.send(decline(offer, refuse_ms=refuse_ms))

    refused = await scheduler.expect("call_refused")
    assert refused.call == "decline"
    assert "refuse_ms" in refused.message
    await scheduler.send(decline(offer, refuse_ms=0))
    await scheduler.offer()


@case(rules=(5,), mesos=(52,))
async def test_what_one_framework_declines_is_offered_to_another_at_once(cluster: Cluster) -> None:
    first, agent = await cluster.pair()
    offer = await first.offer()
    second = await cluster.scheduler("g")

    await first.send(decline(offer, refuse_ms=LONG_MS))

    assert (await second.offer()).agent_id == agent.id


@case(rules=(5,), mesos=(52,))
async def test_a_framework_that_declines_for_no_time_does_not_keep_an_agent_from_others(cluster: Cluster) -> None:
    first, agent = await cluster.pair()
    offer = await first.offer()
    second = await cluster.scheduler("g")

    await first.send(decline(offer, refuse_ms=0))

    assert (await second.offer()).agent_id == agent.id
    await first.hears_no("offer")


@case(rules=(5,))
async def test_a_larger_offer_gets_through_a_filter_and_a_smaller_one_does_not(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"), spec("u"))
    await scheduler.send(decline(await scheduler.offer(), refuse_ms=LONG_MS))
    agent.info.resources.mem_mib -= 1
    await agent.leaves()
    await agent.returns(agent.has(scheduler, "t"), agent.has(scheduler, "u"))
    await scheduler.send(decline(await scheduler.offer(), refuse_ms=LONG_MS))
    await scheduler.hears_no("offer")

    await agent.says(scheduler, "t", FINISHED, 2)

    assert (await scheduler.offer()).resources.cpu_millis == 3000


@case(rules=(5,))
async def test_an_offer_contained_in_what_was_refused_stays_hidden(cluster: Cluster) -> None:
    first = await cluster.scheduler("f")
    await cluster.agent()
    second = await cluster.scheduler("g")
    await first.send(decline(await first.offer(), refuse_ms=LONG_MS))
    await second.send(accept(group(await second.offer(), launch(spec("t"))), refuse_ms=LONG_MS))

    await first.hears_no("offer")


@case(rules=(5,), mesos=(53,))
async def test_a_filter_of_one_role_leaves_the_frameworks_other_roles_alone(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler("f", "eng", "ops")
    await cluster.agent()
    offer = await scheduler.offer()

    await scheduler.send(decline(offer, refuse_ms=LONG_MS))

    other = await scheduler.offer()
    assert {offer.role, other.role} == set(scheduler.info.roles)
    await scheduler.send(decline(other, refuse_ms=LONG_MS))
    await scheduler.hears_no("offer")


@case(rules=(5,), mesos=(43,))
async def test_revive_clears_filters_at_once(cluster: Cluster) -> None:
    scheduler, _ = await cluster.pair()
    offer = await scheduler.offer()
    await scheduler.send(decline(offer, refuse_ms=A_YEAR_MS))
    await scheduler.hears_no("offer")

    await scheduler.send(revive())

    assert (await scheduler.offer()).resources == offer.resources


@case(rules=(5,), mesos=(53,))
async def test_revive_of_one_role_clears_the_filters_of_that_role_only(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler("f", "eng", "ops")
    await cluster.agent()
    for _ in scheduler.info.roles:
        await scheduler.send(decline(await scheduler.offer(), refuse_ms=LONG_MS))
    ops = cluster.name("ops")

    await scheduler.send(revive(ops))

    offer = await scheduler.offer()
    assert offer.role == ops
    await scheduler.send(decline(offer, refuse_ms=LONG_MS))
    await scheduler.hears_no("offer")


@case(rules=(5,), mesos=(54,))
async def test_an_agent_that_changes_is_offered_again_in_spite_of_filters(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    await scheduler.send(decline(await scheduler.offer(), refuse_ms=LONG_MS))
    agent.info.attributes.append(attribute("rack", "r9"))

    await agent.send(agent_changed(agent.info))

    assert list((await scheduler.offer()).attributes) == [attribute("rack", "r9")]


@case(rules=(5, 20))
async def test_declining_what_is_not_ones_own_any_more_changes_nothing(cluster: Cluster) -> None:
    scheduler, _ = await cluster.pair()
    offer = await scheduler.offer()
    await scheduler.send(decline(offer, refuse_ms=0))
    again = await scheduler.offer()

    await scheduler.send(decline(offer, refuse_ms=LONG_MS))

    await scheduler.hears_no("offer", "rescind", "call_refused")
    await scheduler.send(decline(again, refuse_ms=0))
    await scheduler.offer()


@case(rules=(6,), mesos=(43, 53))
async def test_suppress_stops_offers_and_rescinds_none(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    offer = await scheduler.offer()
    await scheduler.send(suppress())

    await cluster.agent("b")
    await scheduler.hears_no("offer", "rescind")

    await scheduler.send(accept(group(offer, launch(spec("t")))))
    assert await agent.launched() == ["t"]
    await scheduler.hears_no("offer")


@case(rules=(6,), mesos=(43,))
async def test_revive_ends_suppression_at_once(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler()
    await scheduler.send(suppress())
    await cluster.agent()
    await scheduler.hears_no("offer")

    await scheduler.send(revive())

    await scheduler.offer()


@case(rules=(6,), mesos=(53,))
async def test_suppress_of_one_role_leaves_the_others(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler("f", "eng", "ops")
    await scheduler.send(suppress(cluster.name("eng")))
    await cluster.agent()

    offer = await scheduler.offer()

    assert offer.role == cluster.name("ops")
    await scheduler.send(decline(offer, refuse_ms=LONG_MS))
    await scheduler.hears_no("offer")


@case(rules=(6,), mesos=(43,))
async def test_a_framework_may_subscribe_suppressed(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler("f", "eng", "ops", suppressed=[cluster.name("eng")])
    await cluster.agent()

    assert (await scheduler.offer()).role == cluster.name("ops")


@case(rules=(6, 15), mesos=(43,))
async def test_a_framework_that_subscribes_anew_says_anew_what_it_suppresses(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler()
    await cluster.agent()
    await scheduler.offer()

    await scheduler.returns(suppressed=[scheduler.role])
    await scheduler.hears_no("offer")

    await scheduler.returns()
    await scheduler.offer()


@case(rules=(5, 6))
@pytest.mark.parametrize("call", [suppress, revive])
async def test_a_role_that_is_not_the_frameworks_is_refused_by_name(cluster: Cluster, call: object) -> None:
    scheduler, _ = await cluster.pair()
    assert callable(call)

    await scheduler.send(call("stranger"))

    refused = await scheduler.expect("call_refused")
    assert "stranger" in refused.message
    await scheduler.offer()
