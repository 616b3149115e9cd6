"""Rules 7, 8, 9 and 20: what is said of tasks, what follows from it, and what does not change any more."""

from __future__ import annotations

import pytest

from runrig.v1 import tasks_pb2
from tests.conformance.cases import Need, case
from tests.conformance.cluster import Cluster
from tests.conformance.messages import (
    FAILED,
    FINISHED,
    KILLED,
    RUNNING,
    accept,
    acknowledge,
    group,
    kill,
    launch,
    reason_name,
    resources,
    spec,
    state_name,
    status,
    update_report,
)

LONG_MS = 3_600_000


@case(rules=(7,), mesos=(3, 10))
async def test_resources_return_when_an_end_reaches_the_master_not_when_it_is_acknowledged(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    await scheduler.send(accept(group(await scheduler.offer(), launch(spec("t"))), refuse_ms=LONG_MS))
    await agent.launched()
    await scheduler.send(kill("t"))
    await agent.expect("kill")

    await agent.says(scheduler, "t", KILLED)

    assert (await scheduler.offer()).resources == resources(4000, 4096)


@case(rules=(7,), mesos=(11,))
async def test_an_unacknowledged_earlier_update_does_not_hold_resources_back(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t", 4000, 4096))

    await agent.says(scheduler, "t", FINISHED, 2)

    assert (await scheduler.update("t")).number == 2
    assert (await scheduler.offer()).resources == resources(4000, 4096)


@case(rules=(7,), mesos=(44,))
async def test_what_a_framework_that_left_was_offered_goes_to_another_at_once(cluster: Cluster) -> None:
    first, agent = await cluster.pair()
    await first.offer()
    second = await cluster.scheduler("g")

    await first.break_off()

    assert (await second.offer()).agent_id == agent.id


@case(rules=(7, 16), mesos=(44,))
async def test_what_a_removed_framework_used_returns_when_its_tasks_have_ended(cluster: Cluster) -> None:
    first, agent = await cluster.running(spec("t"))
    second = await cluster.scheduler("g")
    await cluster.tear_down(first)
    assert (await second.offer()).resources.cpu_millis == 3000

    await agent.says(first, "t", KILLED, 2)

    assert (await second.offer()).resources.cpu_millis == 1000
    receipt = await agent.expect("acknowledge")
    assert (receipt.framework_id, receipt.task_id, receipt.number) == (first.id, "t", 2)


@case(rules=(7,))
async def test_an_update_reaches_its_framework_as_the_agent_said_it(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    fields = {"message": "words", "exit_code": 3, "reason": tasks_pb2.REASON_EXITED, "pid": 7, "healthy": False}

    said = await agent.says(scheduler, "t", FAILED, 2, **fields)

    assert await scheduler.update("t") == said


@case(rules=(8,))
@pytest.mark.parametrize("later", [RUNNING, FINISHED, FAILED], ids=tasks_pb2.TaskState.Name)
async def test_a_task_that_has_ended_never_changes(cluster: Cluster, later: tasks_pb2.TaskState.ValueType) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await agent.says(scheduler, "t", KILLED, 2)
    await scheduler.update("t")

    await agent.says(scheduler, "t", later, 3)

    await scheduler.hears_no("update")
    assert state_name(await scheduler.says_of("t", agent.id)) == "TASK_KILLED"
    assert (await agent.row()).used.cpu_millis == 0


@case(rules=(8, 20))
async def test_an_update_that_was_overtaken_turns_nothing_back(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await agent.says(scheduler, "t", RUNNING, 3, message="third")
    await scheduler.update("t")

    await agent.says(scheduler, "t", tasks_pb2.TASK_STARTING, 2)

    await cluster.settle()
    scheduler.line.inbox.clear()
    answer = await scheduler.says_of("t", agent.id)
    assert (state_name(answer), answer.message) == ("TASK_RUNNING", "third")


@case(rules=(8,), mesos=(26,), needs=(Need.SILENCE,))
async def test_a_task_that_had_ended_keeps_its_end_when_its_agent_becomes_unreachable(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"), spec("u"))
    await agent.says(scheduler, "t", FINISHED, 2)
    await scheduler.update("t")
    await agent.leaves()

    update = await scheduler.update("u", within_ms=cluster.silence_timeout_ms)

    assert state_name(update) == "TASK_UNREACHABLE"
    await scheduler.hears_no("update")
    assert state_name(await scheduler.says_of("t", agent.id)) == "TASK_FINISHED"


@case(rules=(9,))
async def test_what_the_master_says_has_no_number_and_is_not_repeated(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    await scheduler.send(accept(group(await scheduler.offer(), launch(spec("bad/id"), spec("t")))))
    assert (await scheduler.update("bad/id")).number == 0
    await agent.launched()
    await agent.says(scheduler, "t")
    await scheduler.update("t")

    await scheduler.returns()

    assert (await scheduler.update("t")).number == 1
    await scheduler.hears_no("update")


@case(rules=(9, 15), mesos=(36,))
async def test_a_scheduler_that_returns_gets_what_it_has_not_acknowledged(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await scheduler.send(acknowledge("t", agent.id, 1))
    await agent.expect("acknowledge")
    await scheduler.leaves()
    said = await agent.says(scheduler, "t", FINISHED, 2)

    await scheduler.returns()

    assert await scheduler.update("t") == said
    await scheduler.hears_no("update")


@case(rules=(9, 20))
async def test_receipts_are_cumulative_and_later_updates_do_not_wait_for_them(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    for number in (2, 3):
        await agent.says(scheduler, "t", RUNNING, number)
        assert (await scheduler.update("t")).number == number

    await scheduler.send(acknowledge("t", agent.id, 3))

    receipt = await agent.expect("acknowledge")
    assert (receipt.framework_id, receipt.task_id, receipt.number) == (scheduler.id, "t", 3)
    await scheduler.returns()
    await scheduler.hears_no("update")


@case(rules=(20,), mesos=(55,))
async def test_an_update_that_is_repeated_before_its_receipt_changes_nothing(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await agent.says(scheduler, "t", FINISHED, 2)
    await scheduler.update("t")
    await scheduler.offers(2)

    await agent.says(scheduler, "t", FINISHED, 2)

    await scheduler.hears_no("offer")
    assert (await agent.row()).used.cpu_millis == 0


@case(rules=(20,), mesos=(55,))
@pytest.mark.parametrize("state", [RUNNING, FINISHED], ids=tasks_pb2.TaskState.Name)
async def test_an_update_that_is_repeated_after_its_receipt_is_acknowledged_again(
    cluster: Cluster, state: tasks_pb2.TaskState.ValueType
) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await agent.says(scheduler, "t", state, 2)
    await scheduler.update("t")
    await scheduler.send(acknowledge("t", agent.id, 2))
    await agent.expect("acknowledge")

    await agent.says(scheduler, "t", state, 2)

    assert (await agent.expect("acknowledge")).number == 2
    await scheduler.hears_no("update")


@case(rules=(20,), mesos=(55,))
async def test_receipts_of_what_was_never_said_change_nothing(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))

    await scheduler.send(acknowledge("t", agent.id, 9), acknowledge("t", agent.id, 0))

    await agent.hears_no("acknowledge")
    await scheduler.returns()
    assert (await scheduler.update("t")).number == 1


@case(rules=(8,))
async def test_an_agent_cannot_speak_of_anothers_task(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    liar = await cluster.agent("liar")

    await liar.send(update_report(status(scheduler.id, "t", agent.id, FAILED, 2)))
    await liar.says(scheduler, "t", FAILED, 2)

    await scheduler.hears_no("update")
    answer = await scheduler.says_of("t", agent.id)
    assert (state_name(answer), reason_name(answer)) == ("TASK_RUNNING", "RECONCILIATION")
