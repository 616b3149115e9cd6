"""Rules 15 and 16: who speaks for a framework, what of it may change, and what outlives its absence."""

from __future__ import annotations

import pytest

from runrig.v1 import scheduler_pb2
from tests.conformance.cases import Need, case
from tests.conformance.cluster import Cluster
from tests.conformance.messages import (
    DROPPED,
    KILLED,
    accept,
    group,
    launch,
    spec,
    state_name,
    teardown,
    update_framework,
)

BRIEF_MS = 400


@case(rules=(15,), mesos=(40,))
async def test_a_subscription_is_answered_with_the_terms_of_the_cluster(cluster: Cluster) -> None:
    scheduler = cluster.new_scheduler()

    terms = await scheduler.returns()

    assert (terms.framework_id, bool(terms.cluster_id)) == (scheduler.id, True)
    assert 0 < terms.heartbeat_ms * 2 <= terms.silence_timeout_ms
    assert terms.offer_timeout_ms > 0


@case(rules=(15,))
async def test_a_framework_without_an_id_is_given_one(cluster: Cluster) -> None:
    one = await cluster.scheduler("f", framework_id="")
    other = await cluster.scheduler("g", framework_id="")

    assert one.id
    assert one.id != other.id
    await one.becomes("ACTIVE")


@case(rules=(15,), mesos=(35, 42))
async def test_a_newer_subscription_wins_and_the_old_stream_is_told_and_ends(cluster: Cluster) -> None:
    scheduler, _ = await cluster.pair()
    offer = await scheduler.offer()
    old = scheduler.line

    await scheduler.returns()

    await cluster.driver.wait(lambda: old.end is not None, 0)
    assert [refusal.code for refusal in old.waiting("refusal")] == [scheduler_pb2.REFUSAL_CODE_SUPERSEDED]
    again = await scheduler.offer()
    assert (again.resources, again.offer_id == offer.offer_id) == (offer.resources, False)
    await scheduler.send(accept(group(offer, launch(spec("t")))))
    assert (await scheduler.update("t")).state == DROPPED


@case(rules=(15, 20), mesos=(28, 37))
async def test_an_overtaken_scheduler_is_not_heeded(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    old = scheduler.line
    await scheduler.returns()

    await old.write(teardown())

    await agent.hears_no("shutdown_framework")
    assert (await scheduler.row()).connected


@case(rules=(15, 20), mesos=(37,))
async def test_a_session_that_is_not_newer_is_refused_and_the_newer_one_goes_on(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler()
    await scheduler.returns()

    for session in (1, 2):
        ghost = cluster.new_scheduler()
        await ghost.subscribe(session=session)
        assert await ghost.refusal() == "SUPERSEDED"

    await cluster.agent()
    await scheduler.offer()


@case(rules=(15,), mesos=(39,))
async def test_the_principal_cannot_change(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler(principal="alice")
    mallory = cluster.new_scheduler(principal="mallory")

    await mallory.subscribe(session=2)

    assert await mallory.refusal() == "PRINCIPAL_CHANGED"
    scheduler.info.principal = "mallory"
    await scheduler.send(update_framework(scheduler.info))
    assert "principal" in (await scheduler.expect("call_refused")).message
    assert (await scheduler.row()).principal == "alice"


@case(rules=(15,), mesos=(39,))
@pytest.mark.parametrize("how", ["at a failover", "by an update"])
async def test_all_but_the_principal_may_change(cluster: Cluster, how: str) -> None:
    scheduler = await cluster.scheduler(principal="alice")
    scheduler.info.name = "renamed"
    scheduler.info.web_url = "http://host:1"
    scheduler.info.failover_timeout_ms = 7_000
    scheduler.info.roles.append(cluster.name("more"))

    if how == "at a failover":
        await scheduler.returns()
    else:
        await scheduler.send(update_framework(scheduler.info))
        await cluster.settle()

    row = await scheduler.row()
    assert (row.name, row.web_url, row.failover_timeout_ms) == ("renamed", "http://host:1", 7_000)
    assert list(row.roles) == list(scheduler.info.roles)


@case(rules=(15,), mesos=(18, 60))
async def test_a_role_that_a_framework_leaves_has_its_offers_rescinded_and_its_tasks_left_alone(
    cluster: Cluster,
) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    offer = await scheduler.offer()
    left = offer.role
    scheduler.info.roles[:] = [cluster.name("other")]

    await scheduler.send(update_framework(scheduler.info))

    rescind = await scheduler.expect("rescind")
    assert list(rescind.offer_ids) == [offer.offer_id]
    assert rescind.reason == scheduler_pb2.RESCIND_REASON_FRAMEWORK_CHANGED
    again = await scheduler.offer()
    assert (again.role, left == again.role) == (cluster.name("other"), False)
    await agent.hears_no("kill", "shutdown_framework")
    assert state_name(await scheduler.says_of("t", agent.id)) == "TASK_RUNNING"


@case(rules=(15, 16), mesos=(34,))
@pytest.mark.parametrize("by", ["an operator", "the framework itself"])
async def test_a_framework_that_is_torn_down_has_its_tasks_killed_and_its_id_refused(cluster: Cluster, by: str) -> None:
    scheduler, agent = await cluster.running(spec("t"))

    if by == "an operator":
        await cluster.tear_down(scheduler)
    else:
        await scheduler.send(teardown())

    assert (await agent.expect("shutdown_framework")).framework_id == scheduler.id
    assert await scheduler.refusal() == "REMOVED"
    await scheduler.becomes("COMPLETED")
    await scheduler.subscribe()
    assert await scheduler.refusal() == "REMOVED"


@case(rules=(16, 20))
async def test_tearing_down_twice_changes_nothing(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await cluster.tear_down(scheduler)
    await agent.expect("shutdown_framework")

    await cluster.tear_down(scheduler)

    await agent.hears_no("shutdown_framework", "kill")


@case(rules=(16,))
async def test_a_disconnected_framework_keeps_its_tasks(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))

    await scheduler.leaves()

    await agent.hears_no("kill", "shutdown_framework")
    row = await scheduler.row()
    assert (dict(row.tasks_by_state), row.failover_deadline_unix_ms > 0) == ({"TASK_RUNNING": 1}, True)


@case(rules=(15, 16), mesos=(34,))
async def test_a_framework_that_does_not_return_in_time_is_removed_and_its_id_refused(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    scheduler.info.failover_timeout_ms = BRIEF_MS
    await scheduler.returns()
    begun = cluster.now_ms()
    await scheduler.break_off()

    order = await agent.expect("shutdown_framework", within_ms=BRIEF_MS)

    assert cluster.now_ms() - begun >= BRIEF_MS
    assert order.framework_id == scheduler.id
    await agent.says(scheduler, "t", KILLED, 2)
    await agent.expect("acknowledge")
    assert (await agent.row()).used.cpu_millis == 0
    await scheduler.subscribe()
    assert await scheduler.refusal() == "REMOVED"


@case(rules=(16,))
async def test_a_framework_that_returns_in_time_keeps_its_tasks(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    scheduler.info.failover_timeout_ms = 3_000
    await scheduler.returns()
    await scheduler.leaves()
    scheduler.info.failover_timeout_ms = 3_600_000
    await scheduler.returns()

    await cluster.pass_time(3_200)

    await agent.hears_no("shutdown_framework", "kill")
    assert state_name(await scheduler.says_of("t", agent.id)) == "TASK_RUNNING"


@case(rules=(16,), needs=(Need.RESTART,))
async def test_a_failover_of_the_master_neither_forgets_a_deadline_nor_begins_it_anew(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler(failover_timeout_ms=60_000)
    await scheduler.leaves()
    before = (await scheduler.row()).failover_deadline_unix_ms
    await cluster.pass_time(100)

    await cluster.restart()

    row = await scheduler.row()
    assert before
    assert row.failover_deadline_unix_ms == before
    assert not row.connected


@case(rules=(16,), needs=(Need.RESTART,))
async def test_a_framework_whose_deadline_passes_while_no_master_leads_is_removed(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler(failover_timeout_ms=1)
    scheduler.info.failover_timeout_ms = 1
    await scheduler.break_off()

    await cluster.restart()

    await scheduler.becomes("COMPLETED", within_ms=1)
    await scheduler.subscribe()
    assert await scheduler.refusal() == "REMOVED"
