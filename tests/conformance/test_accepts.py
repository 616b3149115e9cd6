"""Rules 2 and 3: what an Accept does with the offers that it names, for one agent and for several."""

from __future__ import annotations

import pytest

from runrig.v1 import scheduler_pb2
from tests.conformance.cases import case
from tests.conformance.cluster import Cluster
from tests.conformance.ends import PlayedScheduler
from tests.conformance.messages import (
    DROPPED,
    ERROR,
    FINISHED,
    accept,
    group,
    launch,
    reason_name,
    resources,
    spec,
)

LONG_MS = 3_600_000
NEVER_MADE = scheduler_pb2.Offer(offer_id="o-never-made", agent_id="nobody")


async def drops(scheduler: PlayedScheduler, *task_ids: str, reason: str = "INVALID_OFFERS") -> None:
    """See that tasks are dropped, by the master's own word."""
    for task_id in task_ids:
        update = await scheduler.update(task_id)
        assert (update.state, reason_name(update), update.number) == (DROPPED, reason, 0)
        assert update.message


@case(rules=(2,), mesos=(4,))
async def test_several_offers_of_one_agent_carry_one_task(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    whole = await scheduler.offer()
    await scheduler.send(accept(group(whole, launch(spec("half", cpu_millis=2000)))))
    rest = await scheduler.offer()
    await agent.says(scheduler, "half", FINISHED)
    freed = await scheduler.offer()

    await scheduler.send(accept(group([rest, freed], launch(spec("t", cpu_millis=4000)))))

    assert [await agent.launched(), await agent.launched()] == [["half"], ["t"]]


@case(rules=(2,))
async def test_a_launch_reaches_its_agent_as_the_framework_wrote_it(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    written = spec("t", data=b"\0\xff", max_run_ms=5)

    await scheduler.send(accept(group(await scheduler.offer(), launch(written, spec("u")))))

    order = await agent.expect("launch")
    assert list(order.tasks) == [written, spec("u")]
    assert (order.framework_id, order.role, order.is_task_group) == (scheduler.id, scheduler.role, False)


@case(rules=(2,), mesos=(5,))
async def test_offers_of_two_agents_in_one_launch_group_drop_its_tasks(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler()
    agents = [await cluster.agent(word) for word in ("a", "b")]
    offers = await scheduler.offers(2)

    await scheduler.send(accept(group(offers, launch(spec("t")))))

    await drops(scheduler, "t")
    for agent in agents:
        await agent.hears_no("launch")


@case(rules=(2,), mesos=(5,))
async def test_an_offer_of_another_agent_than_the_launch_group_names_drops_its_tasks(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    other = await cluster.agent("b")
    offers = {offer.agent_id: offer for offer in await scheduler.offers(2)}

    await scheduler.send(accept(group(offers[agent.id], launch(spec("t")), agent_id=other.id)))

    await drops(scheduler, "t")
    await other.hears_no("launch")


@case(rules=(2,), mesos=(6,))
async def test_an_offer_named_twice_drops_the_tasks_of_its_launch_group(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    offer = await scheduler.offer()

    await scheduler.send(accept(group([offer, offer], launch(spec("t")))))

    await drops(scheduler, "t")
    await agent.hears_no("launch")


@case(rules=(1, 2), mesos=(6,))
async def test_an_offer_is_spent_once(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    offer = await scheduler.offer()
    await scheduler.send(accept(group(offer, launch(spec("t")))))
    assert await agent.launched() == ["t"]

    await scheduler.send(accept(group(offer, launch(spec("u")))))

    await drops(scheduler, "u")
    await agent.hears_no("launch")


@case(rules=(2,), mesos=(6,))
async def test_an_offer_named_in_two_launch_groups_counts_for_the_first(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    offer = await scheduler.offer()

    await scheduler.send(accept(group(offer, launch(spec("t"))), group(offer, launch(spec("u")))))

    assert await agent.launched() == ["t"]
    await drops(scheduler, "u")


@case(rules=(2,), mesos=(7,))
async def test_offers_of_two_roles_in_one_launch_group_drop_its_tasks(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler("f", "eng", "ops")
    agent = await cluster.agent()
    offer = await scheduler.offer()
    await scheduler.send(accept(group(offer, launch(spec("half", cpu_millis=2000, mem_mib=2048)))))
    rest = await scheduler.offer()
    assert {offer.role, rest.role} == set(scheduler.info.roles)
    await agent.says(scheduler, "half", FINISHED)
    freed = await scheduler.expect("offer", lambda offer: offer.role != rest.role)

    await scheduler.send(accept(group([rest, freed], launch(spec("t")))))

    await drops(scheduler, "t")


@case(rules=(2,))
async def test_an_offer_that_was_never_made_drops_the_tasks_of_its_group_and_no_others(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    offer = await scheduler.offer()

    await scheduler.send(accept(group(NEVER_MADE, launch(spec("u"))), group(offer, launch(spec("t")))))

    await drops(scheduler, "u")
    assert await agent.launched() == ["t"]


@case(rules=(2,))
async def test_a_launch_group_without_offers_drops_its_tasks(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()

    await scheduler.send(accept(group([], launch(spec("t")), agent_id=agent.id)))

    await drops(scheduler, "t")


@case(rules=(2,))
async def test_an_offer_of_another_framework_drops_the_tasks_and_stays_with_its_owner(cluster: Cluster) -> None:
    owner, agent = await cluster.pair()
    offer = await owner.offer()
    thief = await cluster.scheduler("thief")

    await thief.send(accept(group(offer, launch(spec("t")))))

    await drops(thief, "t")
    await owner.hears_no("rescind")
    await owner.send(accept(group(offer, launch(spec("mine")))))
    assert await agent.launched() == ["mine"]


@case(rules=(2,))
async def test_the_good_offers_of_a_bad_launch_group_are_released_without_a_filter(cluster: Cluster) -> None:
    scheduler, _ = await cluster.pair()
    offer = await scheduler.offer()

    await scheduler.send(accept(group([offer, NEVER_MADE], launch(spec("t"))), refuse_ms=LONG_MS))

    await drops(scheduler, "t")
    assert (await scheduler.offer()).resources == offer.resources


@case(rules=(2, 10))
async def test_an_offer_whose_rescission_is_on_its_way_cannot_be_used(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    offer = await scheduler.offer()
    await agent.leaves()

    await scheduler.send(accept(group(offer, launch(spec("t")))))

    await drops(scheduler, "t")


@case(rules=(2,))
async def test_operations_run_in_order_against_what_earlier_ones_left(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    offer = await scheduler.offer()
    operations = [launch(spec("t", cpu_millis=3000)), launch(spec("u", cpu_millis=2000)), launch(spec("v"))]

    await scheduler.send(accept(group(offer, *operations)))

    assert [await agent.launched(), await agent.launched()] == [["t"], ["v"]]
    assert (await scheduler.update("u")).state == ERROR


@case(rules=(2, 5))
async def test_what_an_accept_leaves_is_declined_with_its_filter(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    await scheduler.send(accept(group(await scheduler.offer(), launch(spec("t"))), refuse_ms=LONG_MS))
    assert await agent.launched() == ["t"]

    await scheduler.hears_no("offer")

    await scheduler.send(scheduler_pb2.SchedulerCall(revive=scheduler_pb2.Revive()))
    assert (await scheduler.offer()).resources == resources(3000, 4096 - 64)


@case(rules=(2, 7), mesos=(44,))
async def test_what_an_accept_leaves_is_offered_again_at_once_without_a_filter(cluster: Cluster) -> None:
    scheduler, _ = await cluster.pair()

    await scheduler.send(accept(group(await scheduler.offer(), launch(spec("t"))), refuse_ms=0))

    assert (await scheduler.offer()).resources == resources(3000, 4096 - 64)


@case(rules=(3,), mesos=(5,))
async def test_one_accept_launches_on_several_agents(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler()
    one, other = await cluster.agent("a"), await cluster.agent("b")
    first, second = await scheduler.offers(2)

    await scheduler.send(accept(group(first, launch(spec("t"))), group(second, launch(spec("u")))))

    assert [await one.launched(), await other.launched()] == [["t"], ["u"]]


@case(rules=(3,))
async def test_an_atomic_accept_that_fits_is_launched_everywhere(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler()
    one, other = await cluster.agent("a"), await cluster.agent("b")
    first, second = await scheduler.offers(2)

    await scheduler.send(accept(group(first, launch(spec("t"))), group(second, launch(spec("u"))), atomic=True))

    assert [await one.launched(), await other.launched()] == [["t"], ["u"]]


@case(rules=(3,))
@pytest.mark.parametrize("why", ["a bad offer", "an invalid task"])
async def test_an_atomic_accept_that_fails_anywhere_launches_nothing(cluster: Cluster, why: str) -> None:
    scheduler = await cluster.scheduler()
    agents = [await cluster.agent("a"), await cluster.agent("b")]
    first, second = await scheduler.offers(2)
    bad = group(NEVER_MADE, launch(spec("u"))) if why == "a bad offer" else group(second, launch(spec("u", 9000)))

    await scheduler.send(accept(group(first, launch(spec("t"))), bad, atomic=True))

    await drops(scheduler, "t", reason="ATOMIC_ACCEPT_REFUSED")
    assert (await scheduler.update("u")).state == DROPPED
    for agent in agents:
        await agent.hears_no("launch")
    assert (await scheduler.offer()).resources == first.resources
