"""Rule 13: kills, of tasks that run, that have ended, and that nobody knows."""

from __future__ import annotations

import pytest

from runrig.v1 import operator_pb2, tasks_pb2
from tests.conformance.cases import Need, case
from tests.conformance.cluster import Cluster
from tests.conformance.lines import Refused
from tests.conformance.messages import FAILED, KILLED, accept, group, kill, launch, reason_name, spec, state_name


@case(rules=(13,), mesos=(1,))
async def test_a_kill_of_an_unknown_task_is_answered_as_a_reconciliation_of_it(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()

    await scheduler.send(kill("nothing"))

    update = await scheduler.update("nothing")
    assert (state_name(update), reason_name(update), update.number) == ("TASK_UNKNOWN", "RECONCILIATION", 0)
    await agent.hears_no("kill")


@case(rules=(13,))
async def test_a_kill_goes_to_the_agent_with_its_grace(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))

    await scheduler.send(kill("t", grace_ms=12_345))

    order = await agent.expect("kill")
    assert (order.framework_id, order.task_id, order.kill_policy.grace_ms) == (scheduler.id, "t", 12_345)
    assert order.reason == tasks_pb2.REASON_KILLED_BY_FRAMEWORK
    await scheduler.hears_no("update")


@case(rules=(13,), mesos=(58,))
async def test_a_kill_of_a_task_that_has_not_been_heard_of_goes_to_the_agent_after_its_launch(
    cluster: Cluster,
) -> None:
    scheduler, agent = await cluster.pair()
    offer = await scheduler.offer()

    await scheduler.send(accept(group(offer, launch(spec("t")))), kill("t"))

    await agent.expect("kill")
    assert agent.line.kinds() == ["launch"]
    await agent.says(scheduler, "t", KILLED)
    assert state_name(await scheduler.update("t")) == "TASK_KILLED"


@case(rules=(13,))
@pytest.mark.parametrize("second, told", [(1_000, 1_000), (9_000, 5_000), (None, 5_000)])
async def test_a_second_kill_may_shorten_the_grace_and_never_lengthens_it(
    cluster: Cluster, second: int | None, told: int
) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await scheduler.send(kill("t", grace_ms=5_000))
    await agent.expect("kill")

    await scheduler.send(kill("t", grace_ms=second))

    assert (await agent.expect("kill")).kill_policy.grace_ms == told


@case(rules=(8, 13))
async def test_a_kill_of_a_task_that_has_ended_is_answered_with_its_end(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await agent.says(scheduler, "t", FAILED, 2, reason=tasks_pb2.REASON_EXITED, exit_code=3)
    await scheduler.update("t")

    await scheduler.send(kill("t"))

    update = await scheduler.update("t")
    assert (state_name(update), update.exit_code, update.number) == ("TASK_FAILED", 3, 0)
    await agent.hears_no("kill")


@case(rules=(11, 13))
async def test_no_kill_is_delivered_to_a_task_that_ended_while_its_agent_was_away(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await agent.leaves()
    await scheduler.send(kill("t"))
    await cluster.settle()

    await agent.returns(agent.has(scheduler, "t", FAILED, 2))

    await agent.hears_no("kill")


@case(rules=(13,))
async def test_a_framework_cannot_kill_anothers_task(cluster: Cluster) -> None:
    _, agent = await cluster.running(spec("t"))
    other = await cluster.scheduler("g")

    await other.send(kill("t"))

    assert state_name(await other.update("t")) == "TASK_UNKNOWN"
    await agent.hears_no("kill")


@case(rules=(13,), mesos=(37,))
async def test_a_scheduler_that_was_overtaken_kills_nothing(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    old = scheduler.line
    await scheduler.returns()

    await old.write(kill("t"))

    await agent.hears_no("kill")
    assert state_name(await scheduler.update("t")) == "TASK_RUNNING"


@case(rules=(13,))
async def test_an_operator_kills_a_task_and_its_framework_is_told_as_of_any_end(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))

    await cluster.ask(cluster.operator.KillTask(operator_pb2.KillTaskRequest(task_id="t", framework_id=scheduler.id)))

    assert (await agent.expect("kill")).reason == tasks_pb2.REASON_KILLED_BY_OPERATOR
    said = await agent.says(scheduler, "t", KILLED, 2)
    assert await scheduler.update("t") == said
    with pytest.raises(Refused) as refused:
        await cluster.ask(
            cluster.operator.KillTask(operator_pb2.KillTaskRequest(task_id="u", framework_id=scheduler.id))
        )
    assert refused.value.status == "NOT_FOUND"


@case(rules=(13, 14), mesos=(2,), needs=(Need.RESTART,))
async def test_a_kill_of_a_task_whose_agent_may_yet_return_is_no_verdict(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await cluster.restart()
    await scheduler.returns()

    await scheduler.send(kill("t"))

    recovering = await scheduler.expect("recovering")
    assert [reference.task_id for reference in recovering.tasks] == ["t"]
    await scheduler.hears_no("update")
    assert await agent.state() == "RECOVERING"
