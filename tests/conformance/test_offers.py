"""Rule 1: what an offer is, and how it ends."""

from __future__ import annotations

from runrig.v1 import operator_pb2, scheduler_pb2
from tests.conformance.cases import Need, case
from tests.conformance.cluster import Cluster
from tests.conformance.messages import (
    DROPPED,
    accept,
    agent_changed,
    attribute,
    decline,
    group,
    launch,
    resources,
    spec,
)

EXPIRED = scheduler_pb2.RESCIND_REASON_EXPIRED


@case(rules=(1,))
async def test_an_offer_holds_what_one_agent_has_free_for_one_role_of_one_framework(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler()
    fields = {"attributes": [attribute("rack", "r1")], "address": "host:5051"}
    big = await cluster.agent("big", resources=resources(8000, 2048, "31000-31003"), **fields)
    small = await cluster.agent("small", resources=resources(1000, 512))

    one, other = await scheduler.offers(2)

    assert (one.agent_id, other.agent_id) == (big.id, small.id)
    assert (one.resources, other.resources) == (big.info.resources, small.info.resources)
    assert {one.role, other.role} == {scheduler.role}
    assert (one.hostname, one.agent_address) == (big.info.hostname, "host:5051")
    assert list(one.attributes) == [attribute("rack", "r1")]
    assert one.offer_id != other.offer_id


@case(rules=(1,))
async def test_what_is_offered_to_one_framework_is_not_offered_to_another(cluster: Cluster) -> None:
    first = await cluster.scheduler("f")
    await cluster.agent()
    await first.offer()

    second = await cluster.scheduler("g")

    await second.hears_no("offer")


@case(rules=(1,), mesos=(8,), needs=(Need.OFFER_TIMEOUT,))
async def test_an_offer_not_answered_in_time_is_rescinded_and_made_anew(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler()
    begun = cluster.now_ms()
    await cluster.agent()
    offer = await scheduler.offer()

    rescind = await scheduler.expect("rescind", within_ms=cluster.offer_timeout_ms)

    assert cluster.now_ms() - begun >= cluster.offer_timeout_ms
    assert (list(rescind.offer_ids), rescind.reason) == ([offer.offer_id], EXPIRED)
    again = await scheduler.offer()
    assert again.offer_id != offer.offer_id
    assert again.resources == offer.resources


@case(rules=(1,))
async def test_an_offer_expires_when_the_master_said_that_it_would(cluster: Cluster) -> None:
    scheduler, _ = await cluster.pair()
    offer = await scheduler.offer()

    listed = (await cluster.ask(cluster.operator.ListOffers(operator_pb2.ListOffersRequest()))).offers

    [row] = [row for row in listed if row.offer_id == offer.offer_id]
    assert abs(row.expires_at_unix_ms - row.made_at_unix_ms - cluster.offer_timeout_ms) <= 1
    assert (row.framework_id, row.agent_id, row.role) == (scheduler.id, offer.agent_id, scheduler.role)


@case(rules=(1,), mesos=(9,), needs=(Need.OFFER_TIMEOUT,))
async def test_an_offer_that_was_used_or_declined_is_not_rescinded_when_its_time_comes(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler()
    await cluster.agent("a", resources=resources(1000, 64))
    await cluster.agent("b", resources=resources(1000, 64))
    used, declined = await scheduler.offers(2)
    await scheduler.send(accept(group(used, launch(spec("t")))), decline(declined, refuse_ms=3_600_000))

    await cluster.pass_time(cluster.offer_timeout_ms * 1.2)

    await scheduler.hears_no("rescind", "offer")


@case(rules=(1, 2), needs=(Need.OFFER_TIMEOUT,))
async def test_an_offer_that_expired_cannot_be_used(cluster: Cluster) -> None:
    scheduler, _ = await cluster.pair()
    offer = await scheduler.offer()
    await scheduler.expect("rescind", within_ms=cluster.offer_timeout_ms)

    await scheduler.send(accept(group(offer, launch(spec("t")))))

    update = await scheduler.update("t")
    assert (update.state, update.number) == (DROPPED, 0)


@case(rules=(1,), mesos=(54,))
async def test_an_agent_that_changes_has_its_offers_replaced(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    offer = await scheduler.offer()
    agent.info.resources.CopyFrom(resources(6000, 1024))
    agent.info.attributes.append(attribute("rack", "r2"))

    await agent.send(agent_changed(agent.info))

    rescind = await scheduler.expect("rescind")
    assert list(rescind.offer_ids) == [offer.offer_id]
    assert rescind.reason == scheduler_pb2.RESCIND_REASON_AGENT_CHANGED
    again = await scheduler.offer()
    assert again.resources == resources(6000, 1024)
    assert list(again.attributes) == [attribute("rack", "r2")]
