"""Rules 10, 14 and 17: agents that break off, are given up, marked gone, or deactivated."""

from __future__ import annotations

from itertools import pairwise

from runrig.v1 import operator_pb2, scheduler_pb2
from tests.conformance.cases import Need, case
from tests.conformance.cluster import Cluster
from tests.conformance.ends import PlayedAgent
from tests.conformance.messages import (
    FINISHED,
    acknowledge,
    reason_name,
    spec,
    state_name,
)

LONG_MS = 3_600_000
MARKED_PER_S = 10
LEAST_FOR_THE_STOP = 10


@case(rules=(10,))
async def test_when_an_agents_stream_breaks_its_offers_are_rescinded_and_its_tasks_left_alone(
    cluster: Cluster,
) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    offer = await scheduler.offer()

    await agent.leaves()

    rescind = await scheduler.expect("rescind")
    assert list(rescind.offer_ids) == [offer.offer_id]
    assert rescind.reason == scheduler_pb2.RESCIND_REASON_AGENT_LEFT
    await scheduler.hears_no("update", "offer")
    assert state_name(await scheduler.says_of("t", agent.id)) == "TASK_RUNNING"


@case(rules=(8, 9, 10), mesos=(12, 21), needs=(Need.SILENCE,))
async def test_an_agent_that_is_silent_for_too_long_is_unreachable_and_may_come_back(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await scheduler.offer()
    begun = cluster.now_ms()
    await cluster.settle()
    await agent.leaves()

    update = await scheduler.update("t", within_ms=cluster.silence_timeout_ms)

    assert cluster.now_ms() - begun >= cluster.silence_timeout_ms
    assert (state_name(update), reason_name(update)) == ("TASK_UNREACHABLE", "AGENT_UNREACHABLE")
    assert update.number == 0
    assert await agent.state() == "UNREACHABLE"

    await agent.returns(agent.has(scheduler, "t"))

    update = await scheduler.update("t")
    assert (state_name(update), reason_name(update)) == ("TASK_RUNNING", "AGENT_RETURNED")
    assert update.number == 0
    assert await agent.state() == "ACTIVE"
    await agent.hears_no("kill", "shutdown_framework")
    assert (await scheduler.offer()).resources.cpu_millis == 3000


@case(rules=(10,), needs=(Need.SILENCE,))
async def test_the_resources_of_an_unreachable_agent_leave_the_pool(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await agent.leaves()
    await scheduler.update("t", within_ms=cluster.silence_timeout_ms)

    await cluster.agent("b")
    roles = (await cluster.ask(cluster.operator.ListRoles(operator_pb2.ListRolesRequest()))).roles

    [role] = [role for role in roles if role.role == scheduler.role]
    offer = await scheduler.expect("offer", lambda offer: offer.agent_id != agent.id)
    assert role.offered == offer.resources
    assert role.dominant_share_millionths == 1_000_000


@case(rules=(10,), mesos=(14,), needs=(Need.SILENCE,))
async def test_an_agent_that_returns_in_time_is_not_given_up(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await agent.leaves()
    await agent.returns(agent.has(scheduler, "t"))

    await cluster.pass_time(cluster.silence_timeout_ms * 1.2)

    await scheduler.hears_no("update")
    assert await agent.state() == "ACTIVE"


async def many(cluster: Cluster, count: int) -> list[PlayedAgent]:
    """Return agents in the order in which they will be found silent."""
    return [await cluster.agent(f"a{number:02}") for number in range(count)]


@case(rules=(10,), mesos=(14,), needs=(Need.SILENCE, Need.DEFAULTS))
async def test_many_agents_are_given_up_at_a_limited_rate(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler()
    agents = await many(cluster, 4)
    for agent in agents:
        await scheduler.runs(spec(agent.id), on=agent)
    for agent in agents:
        await agent.break_off()

    updates = [await scheduler.update(agent.id, within_ms=cluster.silence_timeout_ms) for agent in agents]

    times = sorted(update.at_unix_ms for update in updates)
    assert {state_name(update) for update in updates} == {"TASK_UNREACHABLE"}
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) >= 1000 / MARKED_PER_S - 1


@case(rules=(10,), mesos=(14,), needs=(Need.SILENCE, Need.DEFAULTS))
async def test_giving_up_stops_when_half_of_the_agents_are_unreachable(cluster: Cluster) -> None:
    await cluster.scheduler()
    agents = await many(cluster, LEAST_FOR_THE_STOP)
    for agent in agents:
        await agent.break_off()

    await cluster.pass_time(cluster.silence_timeout_ms + LEAST_FOR_THE_STOP * 1000 / MARKED_PER_S)

    async def half_are() -> bool:
        return [await agent.state() for agent in agents].count("UNREACHABLE") == LEAST_FOR_THE_STOP // 2

    await cluster.until(half_are, "half of the agents are unreachable")
    await cluster.pass_time(2 * 1000 / MARKED_PER_S)
    assert await half_are()


@case(rules=(10,), needs=(Need.WIRE, Need.SILENCE))
async def test_an_agent_that_says_nothing_on_an_open_stream_is_cut_off(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))

    agent.line.freeze()

    assert await agent.end(within_ms=cluster.silence_timeout_ms) != "OK"
    assert state_name(await scheduler.update("t", within_ms=cluster.silence_timeout_ms)) == "TASK_UNREACHABLE"


@case(rules=(14,), mesos=(60,))
async def test_the_tasks_of_an_agent_that_is_gone_are_gone(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    offer = await scheduler.offer()

    await cluster.mark_gone(agent)

    update = await scheduler.update("t")
    assert (state_name(update), reason_name(update)) == ("TASK_GONE_BY_OPERATOR", "AGENT_GONE")
    assert list((await scheduler.expect("rescind")).offer_ids) == [offer.offer_id]
    assert await agent.refusal() == "GONE"
    await agent.register(agent.has(scheduler, "t"))
    assert await agent.refusal() == "GONE"


@case(rules=(17,))
async def test_a_deactivated_agent_has_no_offers_and_keeps_its_tasks(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await scheduler.offer()

    await cluster.ask(cluster.operator.DeactivateAgent(operator_pb2.DeactivateAgentRequest(agent_id=agent.id)))

    rescind = await scheduler.expect("rescind")
    assert rescind.reason == scheduler_pb2.RESCIND_REASON_AGENT_DEACTIVATED
    await agent.says(scheduler, "t", FINISHED, 2)
    await scheduler.update("t")
    await scheduler.send(acknowledge("t", agent.id, 2))
    await agent.returns()
    await scheduler.hears_no("offer")
    assert await agent.state() == "DEACTIVATED"

    await cluster.ask(cluster.operator.ReactivateAgent(operator_pb2.ReactivateAgentRequest(agent_id=agent.id)))

    assert (await scheduler.offer()).resources == agent.info.resources
