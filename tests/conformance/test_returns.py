"""Rule 11: agents that return, what they bring, and what they do not bring any more."""

from __future__ import annotations

import pytest

from runrig.v1 import scheduler_pb2
from tests.conformance.cases import Need, case
from tests.conformance.cluster import Cluster
from tests.conformance.messages import (
    DROPPED,
    FINISHED,
    KILLED,
    LOST,
    STAGING,
    accept,
    group,
    kill,
    launch,
    reason_name,
    spec,
    state_name,
)

LONG_MS = 3_600_000


@case(rules=(11,), mesos=(21,))
async def test_an_agent_that_returns_keeps_its_tasks_running(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await agent.leaves()

    await agent.returns(agent.has(scheduler, "t"))

    await agent.hears_no("kill", "shutdown_framework")
    await scheduler.hears_no("update")
    assert state_name(await scheduler.says_of("t", agent.id)) == "TASK_RUNNING"


@case(rules=(11, 16), mesos=(22, 57))
async def test_tasks_of_a_framework_that_was_removed_meanwhile_are_killed(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await agent.leaves()
    await cluster.tear_down(scheduler)

    await agent.returns(agent.has(scheduler, "t"))

    assert (await agent.expect("shutdown_framework")).framework_id == scheduler.id


@case(rules=(11, 20), mesos=(23, 27))
async def test_an_agent_that_connects_anew_before_it_was_missed_takes_over(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    offer = await scheduler.offer()
    old = agent.line

    await agent.returns(agent.has(scheduler, "t"))

    await cluster.driver.wait(lambda: old.end is not None, 0)
    assert [message.code for message in old.waiting("refusal")] == [scheduler_pb2.REFUSAL_CODE_OUT_OF_ORDER]
    assert list((await scheduler.expect("rescind")).offer_ids) == [offer.offer_id]
    assert (await scheduler.offer()).resources == offer.resources
    await agent.hears_no("kill", "shutdown_framework")
    await scheduler.hears_no("update")


@case(rules=(11, 20), mesos=(23,))
async def test_a_registration_that_was_overtaken_is_refused_and_changes_nothing(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    ghost = cluster.new_agent("a")

    await ghost.register(session=agent.session)

    assert await ghost.refusal() == "SUPERSEDED"
    await scheduler.hears_no("update")
    assert await agent.state() == "ACTIVE"
    await scheduler.send(kill("t"))
    await agent.expect("kill")


@case(rules=(11,), mesos=(24,))
async def test_what_an_agent_says_without_being_registered_is_not_heeded(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    ghost = cluster.new_agent("a")

    await ghost.says(scheduler, "t", FINISHED, 2)

    assert await ghost.refusal() == "OUT_OF_ORDER"
    await scheduler.hears_no("update")
    assert state_name(await scheduler.says_of("t", agent.id)) == "TASK_RUNNING"


@case(rules=(8, 11), mesos=(20, 24, 25), needs=(Need.SILENCE,))
@pytest.mark.parametrize("is_given_up", [False, True], ids=["missed", "given up"])
async def test_a_task_that_ended_while_its_agent_was_away_has_ended(cluster: Cluster, is_given_up: bool) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await agent.leaves()
    if is_given_up:
        update = await scheduler.update("t", within_ms=cluster.silence_timeout_ms)
        assert state_name(update) == "TASK_UNREACHABLE"

    await agent.returns(agent.has(scheduler, "t", FINISHED, 2))
    await agent.says(scheduler, "t", FINISHED, 2)

    update = await scheduler.update("t")
    assert (state_name(update), update.number) == ("TASK_FINISHED", 2)
    assert (await agent.row()).used.cpu_millis == 0


@case(rules=(11, 12), mesos=(45, 46))
async def test_a_task_that_the_agent_never_heard_of_is_dropped(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    await scheduler.send(accept(group(await scheduler.offer(), launch(spec("t")))))
    await agent.launched()

    await agent.returns()

    update = await scheduler.update("t")
    assert (update.state, reason_name(update), update.number) == (DROPPED, "LAUNCH_LOST", 0)


@case(rules=(11, 12), mesos=(46,))
async def test_a_launch_that_races_a_registration_is_launched_or_dropped_and_never_both(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    offer = await scheduler.offer()

    await agent.register()
    await scheduler.send(accept(group(offer, launch(spec("t")))))

    await agent.admitted()
    update = await scheduler.update("t")
    assert update.state == DROPPED
    await agent.hears_no("launch")
    again = await scheduler.expect("offer", lambda offer: offer.resources == agent.info.resources)
    await scheduler.send(accept(group(again, launch(spec("u")))))
    assert await agent.launched() == ["u"]


@case(rules=(11,), mesos=(45,))
async def test_a_task_that_the_agent_has_forgotten_is_lost(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))

    await agent.returns()

    update = await scheduler.update("t")
    assert (update.state, reason_name(update), update.number) == (LOST, "AGENT_FORGOT_TASK", 0)


@case(rules=(11, 12), mesos=(46, 47))
async def test_a_task_that_is_still_being_launched_is_kept(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    await scheduler.send(accept(group(await scheduler.offer(), launch(spec("t")))))
    await agent.launched()

    await agent.returns(agent.has(scheduler, "t", STAGING, 0))

    await scheduler.hears_no("update")
    await agent.says(scheduler, "t")
    assert state_name(await scheduler.update("t")) == "TASK_RUNNING"


@case(rules=(8, 11), mesos=(47,))
async def test_a_task_that_ended_and_that_the_agent_has_forgotten_keeps_its_end(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await agent.says(scheduler, "t", FINISHED, 2)
    await scheduler.update("t")

    await agent.returns()

    await scheduler.hears_no("update")
    assert state_name(await scheduler.says_of("t", agent.id)) == "TASK_FINISHED"


@case(rules=(8, 11), mesos=(19,))
async def test_a_task_that_was_given_up_and_is_reported_again_is_killed(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await agent.returns()
    assert (await scheduler.update("t")).state == LOST

    await agent.returns(agent.has(scheduler, "t"))

    order = await agent.expect("kill")
    assert (order.framework_id, order.task_id) == (scheduler.id, "t")
    await agent.says(scheduler, "t", KILLED, 2)
    assert (await agent.expect("acknowledge")).number == 2
    await scheduler.hears_no("update")
    assert state_name(await scheduler.says_of("t", agent.id)) == "TASK_LOST"


@case(rules=(11, 13), mesos=(57,))
async def test_a_kill_asked_while_the_agent_is_away_is_delivered_when_it_returns(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await agent.leaves()
    await scheduler.send(kill("t", grace_ms=7_000))
    await cluster.settle()

    await agent.returns(agent.has(scheduler, "t"))

    order = await agent.expect("kill")
    assert (order.task_id, order.kill_policy.grace_ms) == ("t", 7_000)


@case(rules=(11,), mesos=(15,))
async def test_a_framework_that_is_known_only_by_its_tasks_can_claim_them(cluster: Cluster) -> None:
    agent = cluster.new_agent()
    scheduler = cluster.new_scheduler()

    await agent.returns(agent.has(scheduler, "t"))

    assert not (await scheduler.row()).connected
    await scheduler.returns()
    assert state_name(await scheduler.says_of("t", agent.id)) == "TASK_RUNNING"
    assert (await scheduler.offer()).resources.cpu_millis == 3000
