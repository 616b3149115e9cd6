"""Rule 17: agents that are drained, and agents that will be away."""

from __future__ import annotations

import pytest

from runrig.v1 import operator_pb2, resources_pb2, scheduler_pb2, tasks_pb2
from tests.conformance.cases import Need, case
from tests.conformance.cluster import Cluster
from tests.conformance.lines import Refused
from tests.conformance.messages import (
    FINISHED,
    KILLED,
    accept,
    acknowledge,
    answer_inverse_offer,
    group,
    launch,
    reason_name,
    spec,
    state_name,
)

LONG_MS = 600_000
SOON_MS = 1_500
DRAIN = scheduler_pb2.INVERSE_OFFER_REASON_DRAIN
MAINTENANCE = scheduler_pb2.INVERSE_OFFER_REASON_MAINTENANCE
ROW = 59


@case(rules=(17,))
async def test_an_agent_that_is_drained_has_its_offers_rescinded_and_gets_no_others(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    offer = await scheduler.offer()

    await cluster.drain(agent, notice_ms=LONG_MS)

    rescind = await scheduler.expect("rescind")
    assert (list(rescind.offer_ids), rescind.reason) == (
        [offer.offer_id],
        scheduler_pb2.RESCIND_REASON_AGENT_DEACTIVATED,
    )
    await agent.says(scheduler, "t", FINISHED, 2)
    await scheduler.update("t")
    other = await cluster.scheduler("g")
    await scheduler.hears_no("offer")
    await other.hears_no("offer")


@case(rules=(17,), mesos=(ROW,))
async def test_a_launch_on_the_offer_of_an_agent_that_is_drained_is_dropped(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    offer = await scheduler.offer()
    await cluster.drain(agent)

    await scheduler.send(accept(group(offer, launch(spec("t")))))

    update = await scheduler.update("t")
    assert (state_name(update), reason_name(update)) == ("TASK_DROPPED", "INVALID_OFFERS")
    await agent.hears_no("launch")


@case(rules=(17,))
async def test_a_framework_with_tasks_on_a_drained_agent_is_asked_for_them_and_told_when_it_is_done(
    cluster: Cluster,
) -> None:
    scheduler, agent = await cluster.running(spec("t"), spec("u"))
    other = await cluster.scheduler("g")

    await cluster.drain(agent, notice_ms=LONG_MS)

    inverse = await scheduler.expect("inverse_offer")
    assert (inverse.reason, inverse.agent_id, inverse.hostname) == (DRAIN, agent.id, agent.info.hostname)
    assert sorted(inverse.task_ids) == ["t", "u"]
    assert (inverse.resources.cpu_millis, inverse.resources.mem_mib) == (2_000, 128)
    assert inverse.deadline_unix_ms == (await agent.row()).drain_deadline_unix_ms
    await scheduler.send(answer_inverse_offer(inverse.inverse_offer_id, True), answer_inverse_offer("nonsense", False))
    await agent.says(scheduler, "t", FINISHED, 2)
    await scheduler.update("t")
    await scheduler.hears_no("inverse_offers_ended", "call_refused")
    await agent.says(scheduler, "u", FINISHED, 2)
    ended = await scheduler.expect("inverse_offers_ended")
    assert list(ended.inverse_offer_ids) == [inverse.inverse_offer_id]
    await other.hears_no("inverse_offer", "inverse_offers_ended")
    await agent.hears_no("kill")


@case(rules=(17,), mesos=(ROW,))
async def test_what_runs_on_a_drained_agent_at_the_deadline_is_killed_with_the_drains_grace(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    begun = cluster.now_ms()

    await cluster.drain(agent, notice_ms=SOON_MS, grace_ms=7)

    order = await agent.expect("kill", within_ms=SOON_MS)
    assert cluster.now_ms() - begun >= SOON_MS - 1
    assert (order.framework_id, order.task_id, order.kill_policy.grace_ms) == (scheduler.id, "t", 7)
    assert order.reason == tasks_pb2.REASON_AGENT_DRAINED
    await scheduler.expect("inverse_offers_ended")
    said = await agent.says(scheduler, "t", KILLED, 2, reason=tasks_pb2.REASON_AGENT_DRAINED)
    assert await scheduler.update("t") == said


@case(rules=(17,), mesos=(ROW,))
async def test_an_agent_is_drained_when_the_last_end_is_acknowledged(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await scheduler.offer()
    await cluster.drain(agent, notice_ms=0)
    await agent.expect("kill")
    await agent.says(scheduler, "t", KILLED, 2)
    await scheduler.update("t")
    assert await agent.state() == "DRAINING"

    await scheduler.send(acknowledge("t", agent.id, 2))

    await agent.becomes("DRAINED")
    await scheduler.hears_no("offer")


@case(rules=(17,), mesos=(ROW,))
async def test_an_agent_that_is_to_be_gone_is_marked_gone_once_it_is_drained(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await cluster.drain(agent, notice_ms=LONG_MS, then_gone=True)
    await agent.says(scheduler, "t", FINISHED, 2)
    assert state_name(await scheduler.update("t")) == "TASK_FINISHED"

    await scheduler.send(acknowledge("t", agent.id, 2))

    assert await agent.refusal() == "GONE"
    assert await agent.state() == "GONE"
    await scheduler.hears_no("update")


@case(rules=(17,), mesos=(ROW,))
async def test_an_agent_that_was_away_at_the_deadline_of_its_drain_is_told_to_kill_when_it_returns(
    cluster: Cluster,
) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await scheduler.offer()
    await agent.leaves()
    await cluster.drain(agent, notice_ms=0)
    await cluster.settle()

    await agent.returns(agent.has(scheduler, "t"))

    assert (await agent.expect("kill")).reason == tasks_pb2.REASON_AGENT_DRAINED
    await scheduler.hears_no("offer")


@case(rules=(17,), mesos=(ROW,), needs=(Need.SILENCE,))
async def test_an_unreachable_agent_drains_when_it_returns(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await scheduler.offer()
    await agent.leaves()
    await scheduler.update("t", within_ms=cluster.silence_timeout_ms)
    await cluster.drain(agent, notice_ms=LONG_MS)
    assert await agent.state() == "UNREACHABLE"
    await scheduler.hears_no("inverse_offer")

    await agent.returns(agent.has(scheduler, "t"))

    assert list((await scheduler.expect("inverse_offer")).task_ids) == ["t"]
    assert await agent.state() == "DRAINING"
    await agent.hears_no("kill")
    await scheduler.hears_no("offer")


@case(rules=(17,), mesos=(ROW,))
async def test_an_agent_that_is_activated_is_drained_no_more(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await scheduler.offer()
    await cluster.drain(agent, notice_ms=SOON_MS)
    inverse = await scheduler.expect("inverse_offer")
    await scheduler.hears_no("offer")

    await cluster.reactivate(agent)

    assert list((await scheduler.expect("inverse_offers_ended")).inverse_offer_ids) == [inverse.inverse_offer_id]
    assert (await scheduler.offer()).agent_id == agent.id
    await cluster.pass_time(SOON_MS)
    await agent.hears_no("kill")
    assert await agent.state() == "ACTIVE"


@case(rules=(17,))
async def test_a_scheduler_that_subscribes_hears_of_drains_that_last(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await scheduler.leaves()
    await cluster.drain(agent, notice_ms=LONG_MS)

    await scheduler.returns()

    assert list((await scheduler.expect("inverse_offer")).task_ids) == ["t"]


@case(rules=(17,), mesos=(ROW,), needs=(Need.RESTART,))
async def test_a_failover_neither_forgets_a_drain_nor_begins_its_notice_anew(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await cluster.drain(agent, notice_ms=LONG_MS)
    deadline = (await scheduler.expect("inverse_offer")).deadline_unix_ms

    await cluster.restart()
    await scheduler.returns()
    await agent.returns(agent.has(scheduler, "t"))

    inverse = await scheduler.expect("inverse_offer")
    assert (inverse.deadline_unix_ms, list(inverse.task_ids)) == (deadline, ["t"])
    assert await agent.state() == "DRAINING"
    await scheduler.hears_no("offer")


@case(rules=(17,), needs=(Need.RESTART,))
async def test_a_drain_whose_deadline_passes_without_a_master_kills_what_returns(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await cluster.drain(agent, notice_ms=SOON_MS, grace_ms=7)

    await cluster.restart()
    await cluster.pass_time(SOON_MS)
    await agent.returns(agent.has(scheduler, "t"))

    order = await agent.expect("kill")
    assert (order.task_id, order.kill_policy.grace_ms) == ("t", 7)
    assert order.reason == tasks_pb2.REASON_AGENT_DRAINED


@case(rules=(17,))
async def test_times_away_stand_in_offers_and_kill_nothing(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    offer = await scheduler.offer()
    away = resources_pb2.Unavailability(start_unix_ms=int((await agent.row()).since_unix_ms) + LONG_MS)

    await cluster.plan_absence(away, agent)

    rescind = await scheduler.expect("rescind")
    assert (list(rescind.offer_ids), rescind.reason) == ([offer.offer_id], scheduler_pb2.RESCIND_REASON_AGENT_CHANGED)
    assert (await scheduler.offer()).unavailability == away
    inverse = await scheduler.expect("inverse_offer")
    assert (inverse.reason, list(inverse.task_ids), inverse.unavailability) == (MAINTENANCE, ["t"], away)
    assert inverse.deadline_unix_ms == 0
    assert (await agent.row()).unavailability == away

    await cluster.plan_absence(None, agent)

    assert list((await scheduler.expect("inverse_offers_ended")).inverse_offer_ids) == [inverse.inverse_offer_id]
    assert not (await scheduler.offer()).HasField("unavailability")
    await agent.hears_no("kill")


@case(rules=(17,))
async def test_a_time_away_that_is_over_is_dropped_by_itself(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    now_ms = int((await agent.row()).since_unix_ms)
    await cluster.plan_absence(resources_pb2.Unavailability(start_unix_ms=now_ms, duration_ms=LONG_MS), agent)
    inverse = await scheduler.expect("inverse_offer")
    soon = resources_pb2.Unavailability(start_unix_ms=now_ms, duration_ms=SOON_MS * 4)
    await cluster.plan_absence(soon, agent)
    await scheduler.expect("inverse_offers_ended")

    ended = await scheduler.expect("inverse_offers_ended", within_ms=SOON_MS * 4)

    assert list(ended.inverse_offer_ids) != [inverse.inverse_offer_id]
    assert not (await agent.row()).HasField("unavailability")


@case(rules=(17,))
@pytest.mark.parametrize(
    "fields, says",
    [({"notice_ms": -1}, "notice_ms: -1"), ({"notice_ms": 2**62}, "notice_ms: "), ({"grace_ms": -7}, "grace_ms: -7")],
)
async def test_a_drain_with_times_that_cannot_be_is_refused_by_name(
    cluster: Cluster, fields: dict[str, int], says: str
) -> None:
    scheduler, agent = await cluster.pair()
    await scheduler.offer()

    with pytest.raises(Refused) as refused:
        await cluster.drain(agent, **fields)

    assert refused.value.status == "INVALID_ARGUMENT"
    assert says in refused.value.details
    await scheduler.hears_no("rescind")
    assert await agent.state() == "ACTIVE"


@case(rules=(17,))
async def test_an_agent_that_nobody_knows_or_that_is_gone_is_not_drained(cluster: Cluster) -> None:
    agent = await cluster.agent()
    await cluster.mark_gone(agent)
    nobody = operator_pb2.DrainAgentRequest(agent_id=cluster.name("nobody"))

    with pytest.raises(Refused) as unknown:
        await cluster.ask(cluster.operator.DrainAgent(nobody))
    with pytest.raises(Refused) as gone:
        await cluster.drain(agent)

    assert (unknown.value.status, gone.value.status) == ("NOT_FOUND", "FAILED_PRECONDITION")
