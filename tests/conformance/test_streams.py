"""What every stream keeps: its first word, its numbers, its heartbeats, its end. Rule 20 begins here."""

from __future__ import annotations

import pytest

from runrig.v1 import scheduler_pb2
from tests.conformance.cases import Need, case
from tests.conformance.cluster import Cluster
from tests.conformance.lines import SCHEDULER
from tests.conformance.messages import accept, group, kill, launch, register, revive, spec, subscribe

WIRE = (Need.WIRE,)


@case(rules=(20,), mesos=(40,), needs=(Need.WIRE, Need.SILENCE))
async def test_an_idle_stream_has_heartbeats(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler()
    agent = await cluster.agent(runtimes=[])
    heard = [len(end.line.numbers) for end in (scheduler, agent)]

    await cluster.pass_time(cluster.silence_timeout_ms)

    more = [len(end.line.numbers) - before for end, before in zip((scheduler, agent), heard, strict=True)]
    assert min(more) >= 2
    assert (scheduler.line.kinds(), agent.line.kinds()) == ([], [])


@case(rules=(20,), needs=WIRE)
async def test_envelopes_are_numbered_from_one_without_gaps(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    await cluster.settle()

    for end in (scheduler, agent):
        assert end.line.numbers == list(range(1, len(end.line.numbers) + 1))


@case(rules=(20,))
async def test_an_envelope_that_comes_twice_counts_once(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    launching = accept(group(await scheduler.offer(), launch(spec("t"))))
    await scheduler.send(launching)
    assert await agent.launched() == ["t"]

    await scheduler.line.write(launching, number=scheduler.line.number)

    await scheduler.hears_no("update")
    await agent.hears_no("launch")
    await scheduler.send(kill("t"))
    assert (await agent.expect("kill")).task_id == "t"


@case(rules=(20,))
async def test_an_accept_that_is_replayed_under_a_new_number_launches_nothing_twice(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    launching = accept(group(await scheduler.offer(), launch(spec("t"))))
    await scheduler.send(launching)
    assert await agent.launched() == ["t"]

    await scheduler.send(launching)

    update = await scheduler.update("t")
    assert (update.state, update.number) == (1, 0)
    await agent.hears_no("launch", "kill")


@case(rules=(20,))
@pytest.mark.parametrize("jump", [2, -100], ids=["a gap", "no number"])
async def test_an_envelope_that_cannot_follow_ends_the_stream(cluster: Cluster, jump: int) -> None:
    scheduler = await cluster.scheduler()

    await scheduler.send(revive(), number=max(0, scheduler.line.number + jump))

    assert await scheduler.refusal() == "OUT_OF_ORDER"


@case(rules=(20,), mesos=(41,))
async def test_the_first_word_on_a_stream_must_be_who_speaks(cluster: Cluster) -> None:
    scheduler = cluster.new_scheduler()

    await scheduler.send(revive())

    assert await scheduler.refusal() == "OUT_OF_ORDER"


@case(rules=(15, 20), mesos=(41,))
async def test_a_stream_subscribes_or_registers_once(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()

    await scheduler.send(subscribe(scheduler.info, session=9))
    await agent.send(register(agent.info, session=9))

    assert await scheduler.refusal() == "OUT_OF_ORDER"
    assert await agent.refusal() == "OUT_OF_ORDER"
    await scheduler.returns()
    await agent.returns()
    await scheduler.offer()


@case(rules=(15,), mesos=(41,))
@pytest.mark.parametrize(
    "fields, named",
    [
        ({"framework_id": "a/b"}, "framework_id"),
        ({"name": ""}, "name"),
        ({"roles": []}, "roles"),
        ({"roles": ["a b"]}, "roles"),
        ({"roles": ["twice", "twice"]}, "roles"),
        ({"failover_timeout_ms": -1}, "failover_timeout_ms"),
    ],
)
async def test_a_framework_that_cannot_be_is_refused_by_the_name_of_the_field(
    cluster: Cluster, fields: dict[str, object], named: str
) -> None:
    known = {"framework_id": cluster.name("f"), "name": "f", "roles": [cluster.name("f")]}
    info = scheduler_pb2.FrameworkInfo(**(known | fields))  # type: ignore[arg-type]
    line = cluster.driver.line(SCHEDULER)

    await line.write(subscribe(info))

    await cluster.driver.wait(lambda: line.end is not None, 0)
    [refusal] = line.waiting("refusal")
    assert refusal.code == scheduler_pb2.REFUSAL_CODE_INVALID
    assert named in refusal.message


@case(rules=(20,), mesos=(41,))
async def test_a_call_that_makes_no_sense_is_refused_and_the_stream_goes_on(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler()

    await scheduler.send(scheduler_pb2.SchedulerCall())

    assert (await scheduler.expect("call_refused")).message
    await cluster.agent()
    await scheduler.offer()


@case(rules=(15,), mesos=(28,), needs=(Need.WIRE, Need.SILENCE))
async def test_a_scheduler_that_says_nothing_is_cut_off_and_can_subscribe_anew(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler()

    scheduler.line.freeze()

    assert await scheduler.end(within_ms=cluster.silence_timeout_ms) != "OK"
    await scheduler.returns()
    await cluster.agent()
    await scheduler.offer()
