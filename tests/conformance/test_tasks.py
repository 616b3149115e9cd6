"""Rules 4 and 12: which tasks are launched, each judged on its own, each id once."""

from __future__ import annotations

import pytest

from runrig.v1 import resources_pb2, tasks_pb2
from tests.conformance.cases import case
from tests.conformance.cluster import Cluster
from tests.conformance.messages import (
    DROPPED,
    ERROR,
    FINISHED,
    accept,
    acknowledge,
    group,
    kill,
    launch,
    launch_task_group,
    reason_name,
    resources,
    spec,
    task_unknown,
)

BAD_IDS = {"empty": "", "a slash": "a/b", "a control character": "a\nb", "too long": "x" * 256, "a dot": "."}


@case(rules=(4,))
@pytest.mark.parametrize("task_id", BAD_IDS.values(), ids=BAD_IDS)
async def test_a_task_with_an_id_that_cannot_be_is_an_error_and_the_others_go_on(
    cluster: Cluster, task_id: str
) -> None:
    scheduler, agent = await cluster.pair()

    await scheduler.send(accept(group(await scheduler.offer(), launch(spec("t"), spec(task_id), spec("u")))))

    assert await agent.launched() == ["t", "u"]
    update = await scheduler.update(task_id)
    assert (update.state, reason_name(update), update.number) == (ERROR, "INVALID_TASK", 0)
    assert "task_id" in update.message


@case(rules=(4,))
async def test_an_id_of_255_characters_of_any_script_is_an_id(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    name = "\N{GREEK SMALL LETTER OMEGA} " * 127 + "x"

    await scheduler.send(accept(group(await scheduler.offer(), launch(spec(name)))))

    assert await agent.launched() == [name]


TOO_MUCH = {
    "more cpu than the offer has": resources(4001, 1),
    "more memory than the offer has": resources(1, 4097),
    "a port that is not offered": resources(1, 1, "80"),
    "a gpu that is not offered": resources(1, 1, gpus=1),
    "nothing": resources_pb2.Resources(),
    "less than nothing": resources(-1, 1),
}


@case(rules=(4,))
@pytest.mark.parametrize("asked", TOO_MUCH.values(), ids=TOO_MUCH)
async def test_a_task_whose_resources_cannot_be_is_an_error_that_says_so(
    cluster: Cluster, asked: resources_pb2.Resources
) -> None:
    scheduler, agent = await cluster.pair()
    bad = tasks_pb2.TaskSpec(task_id="bad", resources=asked)

    await scheduler.send(accept(group(await scheduler.offer(), launch(bad, spec("t")))))

    assert await agent.launched() == ["t"]
    update = await scheduler.update("bad")
    assert (update.state, reason_name(update)) == (ERROR, "INVALID_TASK")
    assert "resources" in update.message


@case(rules=(4,))
async def test_tasks_of_one_launch_take_from_the_offer_one_after_the_other(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    offer = await scheduler.offer()

    await scheduler.send(accept(group(offer, launch(spec("t", 3000), spec("too-big", 2000), spec("u", 1000)))))

    assert await agent.launched() == ["t", "u"]
    assert (await scheduler.update("too-big")).state == ERROR


@case(rules=(4, 7), mesos=(44,))
async def test_what_an_invalid_task_would_have_taken_is_offered_again(cluster: Cluster) -> None:
    scheduler, _ = await cluster.pair()
    offer = await scheduler.offer()

    await scheduler.send(accept(group(offer, launch(spec("bad/id")))))

    assert (await scheduler.update("bad/id")).state == ERROR
    assert (await scheduler.offer()).resources == offer.resources


@case(rules=(4, 12))
@pytest.mark.parametrize("life", ["running", "ended", "ended and acknowledged"])
async def test_an_id_is_never_used_twice(cluster: Cluster, life: str) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    if life != "running":
        await agent.says(scheduler, "t", FINISHED, 2)
        await scheduler.update("t")
    if life == "ended and acknowledged":
        await scheduler.send(acknowledge("t", agent.id, 2))
        await agent.expect("acknowledge")
    offer = await scheduler.offer()

    await scheduler.send(accept(group(offer, launch(spec("t")))))

    update = await scheduler.update("t")
    assert (update.state, reason_name(update), update.number) == (ERROR, "TASK_ID_USED", 0)
    await agent.hears_no("launch")


@case(rules=(4, 12))
async def test_an_id_used_twice_in_one_accept_is_launched_once(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()

    await scheduler.send(accept(group(await scheduler.offer(), launch(spec("t"), spec("t")))))

    assert await agent.launched() == ["t"]
    assert reason_name(await scheduler.update("t")) == "TASK_ID_USED"


@case(rules=(4,))
async def test_two_frameworks_may_use_the_same_id(cluster: Cluster) -> None:
    first, agent = await cluster.running(spec("t"))
    second = await cluster.scheduler("g")
    await first.leaves()

    await second.send(accept(group(await second.offer(), launch(spec("t")))))

    assert await agent.launched() == ["t"]


@case(rules=(4,))
async def test_one_invalid_member_fails_its_whole_task_group_and_costs_others_nothing(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    pod = launch_task_group(spec("m1", 3000), spec("m2", 3000))

    await scheduler.send(accept(group(await scheduler.offer(), pod, launch(spec("t", 4000)))))

    updates = [await scheduler.update(task_id) for task_id in ("m1", "m2")]
    assert [update.state for update in updates] == [ERROR, ERROR]
    assert [reason_name(update) for update in updates] == ["TASK_GROUP_REFUSED", "INVALID_TASK"]
    assert await agent.launched() == ["t"]


@case(rules=(4,))
async def test_a_task_group_is_launched_as_one(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()

    await scheduler.send(accept(group(await scheduler.offer(), launch_task_group(spec("m1"), spec("m2")))))

    order = await agent.expect("launch")
    assert ([task.task_id for task in order.tasks], order.is_task_group) == (["m1", "m2"], True)


@case(rules=(12, 13))
async def test_a_launch_that_its_agent_never_saw_is_dropped_once_the_agent_says_so(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    await scheduler.send(accept(group(await scheduler.offer(), launch(spec("t"))), refuse_ms=3_600_000))
    await agent.launched()
    await scheduler.send(kill("t"))
    await agent.expect("kill")

    await agent.send(task_unknown(scheduler.id, "t"))

    update = await scheduler.update("t")
    assert (update.state, reason_name(update), update.number) == (DROPPED, "LAUNCH_LOST", 0)
    assert (await scheduler.offer()).resources == agent.info.resources
