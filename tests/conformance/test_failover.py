"""Rules 10, 15, 16 and 19: what a new leadership knows, and what it asks the agents for."""

from __future__ import annotations

from runrig.v1 import operator_pb2
from tests.conformance.cases import Need, case
from tests.conformance.cluster import Cluster
from tests.conformance.messages import DROPPED, FINISHED, accept, group, launch, spec, state_name

RESTART = (Need.RESTART,)


@case(rules=(19,), needs=RESTART)
async def test_after_a_failover_each_agent_is_offered_when_it_is_back_and_none_waits_for_another(
    cluster: Cluster,
) -> None:
    scheduler = await cluster.scheduler()
    one, other = await cluster.agent("a"), await cluster.agent("b")
    await scheduler.offers(2)
    await cluster.restart()
    await scheduler.returns()
    await scheduler.hears_no("offer")

    await one.returns()

    assert (await scheduler.offer()).agent_id == one.id
    await scheduler.hears_no("offer")
    assert await other.state() == "RECOVERING"
    await other.returns()
    assert (await scheduler.offer()).agent_id == other.id


@case(rules=(11, 19), mesos=(35,), needs=RESTART)
async def test_after_a_failover_old_offers_are_void_and_tasks_run_on(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    old = await scheduler.offer()
    await cluster.restart()
    await agent.returns(agent.has(scheduler, "t"))
    await scheduler.returns()

    new = await scheduler.offer()
    await scheduler.send(accept(group(old, launch(spec("u")))))

    assert (new.resources, new.offer_id == old.offer_id) == (old.resources, False)
    assert (await scheduler.update("u")).state == DROPPED
    assert state_name(await scheduler.says_of("t", agent.id)) == "TASK_RUNNING"
    await agent.hears_no("kill", "shutdown_framework", "launch")


@case(rules=(15,), mesos=(36,), needs=RESTART)
async def test_after_a_failover_an_update_that_its_agent_repeats_reaches_the_framework(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await cluster.restart()
    await scheduler.returns()
    await agent.returns(agent.has(scheduler, "t", FINISHED, 2))

    said = await agent.says(scheduler, "t", FINISHED, 2)

    assert await scheduler.update("t") == said


@case(rules=(15,), mesos=(34, 37), needs=RESTART)
async def test_after_a_failover_what_was_removed_gone_or_overtaken_stays_so(cluster: Cluster) -> None:
    removed, scheduler = await cluster.scheduler("removed"), await cluster.scheduler()
    await scheduler.returns()
    agent = await cluster.agent()
    await cluster.tear_down(removed)
    await cluster.mark_gone(agent)

    await cluster.restart()

    await removed.subscribe()
    assert await removed.refusal() == "REMOVED"
    await agent.register()
    assert await agent.refusal() == "GONE"
    await scheduler.subscribe(session=scheduler.session)
    assert await scheduler.refusal() == "SUPERSEDED"


@case(rules=(11,), mesos=(22,), needs=RESTART)
async def test_tasks_of_a_framework_that_was_removed_before_a_failover_are_killed(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await cluster.tear_down(scheduler)
    await cluster.restart()

    await agent.returns(agent.has(scheduler, "t"))

    assert (await agent.expect("shutdown_framework")).framework_id == scheduler.id


@case(mesos=(15,), rules=(16,), needs=RESTART)
async def test_after_a_failover_a_framework_is_known_before_it_returns(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler()

    await cluster.restart()

    row = await scheduler.row()
    assert (row.name, row.connected, row.failover_deadline_unix_ms > 0) == ("f", False, True)


@case(rules=(17,), needs=RESTART)
async def test_a_deactivation_and_a_weight_survive_a_failover(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    await scheduler.offer()
    await cluster.ask(cluster.operator.DeactivateAgent(operator_pb2.DeactivateAgentRequest(agent_id=agent.id)))
    await cluster.weigh(scheduler.role, 3_000)

    await cluster.restart()
    await scheduler.returns()
    await agent.returns()

    await scheduler.hears_no("offer")
    roles = (await cluster.ask(cluster.operator.ListRoles(operator_pb2.ListRolesRequest()))).roles
    assert [role.weight_millis for role in roles if role.role == scheduler.role] == [3_000]


@case(rules=(10, 14), mesos=(12, 17), needs=(Need.RESTART, Need.SILENCE))
async def test_an_agent_that_does_not_register_after_a_failover_is_unreachable_in_the_end(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await cluster.restart()
    await scheduler.returns()
    ghost = cluster.new_agent("a")
    await ghost.send()

    await agent.becomes("UNREACHABLE", within_ms=cluster.silence_timeout_ms)

    assert state_name(await scheduler.says_of("t", agent.id)) == "TASK_UNREACHABLE"
    await agent.returns(agent.has(scheduler, "t"))
    assert state_name(await scheduler.update("t")) == "TASK_RUNNING"


@case(rules=(20,), mesos=(38,), needs=RESTART)
async def test_each_leadership_has_a_higher_epoch_and_says_it_in_every_envelope(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    await scheduler.offer()
    first = await cluster.epoch()
    assert {*scheduler.line.epochs, *agent.line.epochs} == {first}

    await cluster.restart()
    await scheduler.returns()
    await agent.returns()
    await scheduler.offer()

    second = await cluster.epoch()
    assert second > first
    assert {*scheduler.line.epochs, *agent.line.epochs} == {second}


@case(rules=(20,), mesos=(38,))
async def test_an_agent_that_has_seen_a_later_epoch_is_refused_by_a_leader_whose_time_is_over(
    cluster: Cluster,
) -> None:
    agent = cluster.new_agent()

    await agent.register(epoch=await cluster.epoch() + 1)

    assert await agent.refusal() == "STALE_EPOCH"
