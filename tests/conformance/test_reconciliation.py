"""Rule 14: what is answered when a framework asks of its tasks."""

from __future__ import annotations

from tests.conformance.cases import Need, case
from tests.conformance.cluster import Cluster
from tests.conformance.messages import (
    FAILED,
    FINISHED,
    accept,
    acknowledge,
    group,
    launch,
    reason_name,
    reconcile,
    spec,
    state_name,
)


@case(rules=(14,), mesos=(29, 33))
async def test_a_known_task_is_answered_with_its_latest_state(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    await scheduler.send(accept(group(await scheduler.offer(), launch(spec("t"), spec("u")))))
    await agent.launched()
    await agent.says(scheduler, "t")
    await scheduler.update("t")

    running, staging = await scheduler.says_of("t", agent.id), await scheduler.says_of("u", agent.id)

    assert (state_name(running), reason_name(running), running.number) == ("TASK_RUNNING", "RECONCILIATION", 0)
    assert (state_name(staging), staging.agent_id) == ("TASK_STAGING", agent.id)


@case(rules=(14,), mesos=(29,))
async def test_a_task_that_ended_and_was_acknowledged_is_remembered_for_a_while(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await agent.says(scheduler, "t", FAILED, 2, exit_code=3)
    await scheduler.update("t")
    await scheduler.send(acknowledge("t", agent.id, 2))
    await agent.expect("acknowledge")

    answer = await scheduler.says_of("t", agent.id)

    assert (state_name(answer), answer.exit_code, answer.number) == ("TASK_FAILED", 3, 0)


@case(rules=(14,), mesos=(30,))
async def test_an_unknown_task_is_unknown(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()

    for agent_id in (agent.id, cluster.name("nowhere"), ""):
        answer = await scheduler.says_of("nothing", agent_id)
        assert (state_name(answer), answer.agent_id, answer.number) == ("TASK_UNKNOWN", agent_id, 0)


@case(rules=(14,), mesos=(30, 60))
async def test_an_unknown_task_of_an_agent_that_is_gone_is_gone(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    await cluster.mark_gone(agent)

    assert state_name(await scheduler.says_of("nothing", agent.id)) == "TASK_GONE_BY_OPERATOR"


@case(rules=(14,), mesos=(30,), needs=(Need.SILENCE,))
async def test_an_unknown_task_of_an_unreachable_agent_is_unreachable(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await agent.leaves()
    await scheduler.update("t", within_ms=cluster.silence_timeout_ms)

    for task_id in ("t", "nothing"):
        assert state_name(await scheduler.says_of(task_id, agent.id)) == "TASK_UNREACHABLE"


@case(rules=(14,), mesos=(32,))
async def test_implicit_reconciliation_covers_all_that_is_not_finished_and_acknowledged(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("runs"), spec("ended"), spec("settled"))
    for task_id in ("ended", "settled"):
        await agent.says(scheduler, task_id, FINISHED, 2)
        await scheduler.update(task_id)
    await scheduler.send(acknowledge("settled", agent.id, 2))
    await agent.expect("acknowledge")

    await scheduler.send(reconcile())

    answers = {task_id: state_name(await scheduler.update(task_id)) for task_id in ("runs", "ended")}
    assert answers == {"runs": "TASK_RUNNING", "ended": "TASK_FINISHED"}
    await scheduler.hears_no("update")


@case(rules=(14, 20))
async def test_reconciliation_changes_nothing(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    before = await agent.row()

    for _ in range(3):
        await scheduler.send(reconcile(("t", agent.id), ("nothing", "nowhere")), reconcile())
    await cluster.settle()

    assert await agent.row() == before
    await agent.hears_no("kill", "launch", "acknowledge")


@case(rules=(14,))
async def test_a_question_about_anothers_task_says_nothing_of_it(cluster: Cluster) -> None:
    _, agent = await cluster.running(spec("t"))
    other = await cluster.scheduler("g")

    assert state_name(await other.says_of("t", agent.id)) == "TASK_UNKNOWN"


@case(rules=(14, 19), mesos=(31,), needs=(Need.RESTART,))
async def test_a_task_whose_agent_is_not_back_after_a_failover_is_no_verdict_until_it_is(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await cluster.restart()
    await scheduler.returns()

    await scheduler.send(reconcile(("t", agent.id), ("nothing", agent.id)), reconcile())

    recovering = await scheduler.expect("recovering")
    assert [(item.task_id, item.agent_id) for item in recovering.tasks] == [("t", agent.id), ("nothing", agent.id)]
    await scheduler.hears_no("update")
    await agent.returns(agent.has(scheduler, "t"))
    assert state_name(await scheduler.says_of("t", agent.id)) == "TASK_RUNNING"
    assert state_name(await scheduler.says_of("nothing", agent.id)) == "TASK_UNKNOWN"


@case(rules=(10, 14), mesos=(13,), needs=(Need.RESTART, Need.SILENCE))
async def test_after_a_failover_a_task_of_an_unreachable_agent_is_unreachable_and_not_announced(
    cluster: Cluster,
) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await agent.leaves()
    await scheduler.update("t", within_ms=cluster.silence_timeout_ms)
    await cluster.restart()

    await scheduler.returns()

    await scheduler.hears_no("update")
    assert state_name(await scheduler.says_of("t", agent.id)) == "TASK_UNREACHABLE"
