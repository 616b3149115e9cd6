"""Streams of agents and schedulers over real gRPC: what is said, what is refused, and when they end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from runrig.v1 import agent_pb2, operator_pb2, resources_pb2, scheduler_pb2, tasks_pb2
from runrig_master.core.settings import CoreSettings
from tests.edges.master_server import (
    Served,
    Stream,
    accept,
    acknowledge,
    register,
    resources,
    serving,
    spec,
    status,
    subscribe,
    update,
)

RUNNING, FINISHED = tasks_pb2.TASK_RUNNING, tasks_pb2.TASK_FINISHED


@contextlib.asynccontextmanager
async def alive(stream: Stream[Any]) -> AsyncIterator[None]:
    """Keep a stream from being cut off as silent."""

    async def beat() -> None:
        while True:
            await stream.send()
            await asyncio.sleep(0.05)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


async def launched(master: Served, **fields: Any) -> tuple[Stream[Any], Stream[Any]]:
    """Return a scheduler and an agent that is told to launch t1."""
    scheduler = await master.subscribed()
    agent = await master.registered(**fields)
    [offer] = (await scheduler.next("offers")).offers
    await scheduler.send(accept(offer, spec()))
    await agent.next("launch")
    return scheduler, agent


async def test_a_task_goes_all_the_way_round() -> None:
    async with serving() as master:
        scheduler = await master.subscribed()
        agent = await master.registered()
        [offer] = (await scheduler.next("offers")).offers
        sent = spec()
        await scheduler.send(accept(offer, sent))

        launch = await agent.next("launch")
        assert (launch.framework_id, launch.framework_name, launch.role) == ("f", "f", "f")
        assert list(launch.tasks) == [sent]
        [left] = (await scheduler.next("offers")).offers
        assert left.resources == resources(3000, 992)

        for number, state in ((1, RUNNING), (2, FINISHED)):
            await agent.send(update("t1", state, number))
            [said] = (await scheduler.next("updates")).updates
            assert said == status("t1", state, number)
            if state == FINISHED:
                [freed] = (await scheduler.next("offers")).offers
                assert freed.resources == resources(1000, 32)
            await scheduler.send(acknowledge("t1", number))
            receipt = await agent.next("acknowledge")
            assert (receipt.framework_id, receipt.task_id, receipt.number) == ("f", "t1", number)


async def test_envelopes_are_numbered_and_carry_the_epoch() -> None:
    async with serving() as master:
        scheduler = await master.subscribed()
        await master.registered()
        await scheduler.next("offers")

        assert scheduler.numbers == list(range(1, len(scheduler.numbers) + 1))
        assert set(scheduler.epochs) == {1}


async def test_an_idle_stream_has_heartbeats() -> None:
    """Mesos case 40."""
    async with serving(CoreSettings(heartbeat_s=0.05, silence_timeout_s=10.0)) as master:
        scheduler = await master.subscribed()

        assert await scheduler.envelope() == []
        assert await scheduler.envelope() == []


async def test_a_stream_on_which_nothing_is_heard_is_cut_off() -> None:
    async with serving(CoreSettings(heartbeat_s=0.1, silence_timeout_s=0.3)) as master:
        scheduler = await master.subscribed()

        code, details = await scheduler.end()

        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "0.3 s" in details


async def test_empty_envelopes_keep_a_stream_alive() -> None:
    async with serving(CoreSettings(heartbeat_s=0.1, silence_timeout_s=0.6)) as master:
        scheduler = await master.subscribed()
        for _ in range(10):
            await asyncio.sleep(0.1)
            await scheduler.send()

        assert not scheduler.call.done()


async def test_an_agent_that_is_cut_off_becomes_unreachable_and_its_task_too() -> None:
    core = CoreSettings(heartbeat_s=0.1, silence_timeout_s=0.5)
    async with serving(core) as master:
        scheduler, _ = await launched(master)

        async with alive(scheduler):
            updates = (await scheduler.next("updates")).updates

        assert [said.state for said in updates] == [tasks_pb2.TASK_UNREACHABLE]


async def test_a_scheduler_that_is_overtaken_is_told_and_its_stream_ends() -> None:
    """Rule 15."""
    async with serving() as master:
        old = await master.subscribed(session=1)
        new = await master.subscribed(session=2)

        refusal = await old.refusal()
        await master.registered()

        assert refusal.code == scheduler_pb2.REFUSAL_CODE_SUPERSEDED
        assert "newer scheduler" in refusal.message
        assert len((await new.next("offers")).offers) == 1


async def test_an_older_session_is_refused() -> None:
    async with serving() as master:
        await master.subscribed(session=5)
        late = master.scheduler()
        await late.send(subscribe(session=4))

        refusal = await late.refusal()

        assert refusal.code == scheduler_pb2.REFUSAL_CODE_SUPERSEDED
        assert "session 4 is not newer than 5" in refusal.message


async def test_a_framework_without_an_id_is_given_one() -> None:
    async with serving() as master:
        first, second = master.scheduler(), master.scheduler()
        await first.send(subscribe(framework_id=""))
        await second.send(subscribe(framework_id=""))

        ids = {(await stream.next("subscribed")).framework_id for stream in (first, second)}

        assert len(ids) == 2
        assert all(framework_id.startswith("f-") for framework_id in ids)


async def test_teardown_ends_the_stream_and_the_id() -> None:
    async with serving() as master:
        stream = await master.subscribed()
        await stream.send(scheduler_pb2.SchedulerCall(teardown=scheduler_pb2.Teardown()))
        removed = await stream.refusal()
        again = master.scheduler()
        await again.send(subscribe(session=2))

        assert removed.code == (await again.refusal()).code == scheduler_pb2.REFUSAL_CODE_REMOVED


async def test_an_agent_that_connects_anew_takes_over() -> None:
    async with serving() as master:
        old = await master.registered(session=1)
        await master.registered(session=2)

        assert (await old.refusal()).code == scheduler_pb2.REFUSAL_CODE_OUT_OF_ORDER


async def test_an_agent_that_has_seen_a_later_epoch_is_refused() -> None:
    async with serving() as master:
        agent = master.agent()
        await agent.send(register(epoch=9))

        assert (await agent.refusal()).code == scheduler_pb2.REFUSAL_CODE_STALE_EPOCH


# What cannot be


SCHEDULER_NONSENSE = [
    ([scheduler_pb2.SchedulerCall(revive=scheduler_pb2.Revive())], "OUT_OF_ORDER", "must be subscribe"),
    ([subscribe(), subscribe(session=2)], "OUT_OF_ORDER", "subscribed already"),
    ([subscribe(name="")], "INVALID", "framework.name: ''"),
    ([subscribe(framework_id="a/b")], "INVALID", "framework.framework_id: 'a/b'"),
    ([subscribe(roles=[])], "INVALID", "framework.roles: ()"),
    ([subscribe(roles=["a//b"])], "INVALID", "framework.roles: 'a//b'"),
    ([subscribe(roles=[f"r{number}" for number in range(5_000)])], "INVALID", "1 to 100 roles"),
    ([subscribe(failover_timeout_ms=-1)], "INVALID", "framework.failover_timeout_ms: -1"),
    ([subscribe(principal="x" * 5_000)], "INVALID", "framework.principal: 'xxx"),
    ([subscribe(web_url="x" * 5_000)], "INVALID", "framework.web_url: 'xxx"),
    ([subscribe(labels=[{"name": "x"}] * 5_000)], "INVALID", "framework.labels: 5000"),
]


@pytest.mark.parametrize("calls, code, words", SCHEDULER_NONSENSE)
async def test_a_scheduler_that_makes_no_sense_is_refused_in_words(
    calls: list[scheduler_pb2.SchedulerCall], code: str, words: str
) -> None:
    async with serving() as master:
        stream = master.scheduler()
        await stream.send(*calls)

        refusal = await stream.refusal()

        assert scheduler_pb2.RefusalCode.Name(refusal.code) == f"REFUSAL_CODE_{code}"
        assert words in refusal.message


def nonsense_task(**changes: object) -> agent_pb2.TaskReport:
    """Build the report of a task that is as `changes` say."""
    known: dict[str, object] = {"framework_id": "f", "task_id": "t", "status": status()}
    return agent_pb2.TaskReport(**(known | changes))  # type: ignore[arg-type]


AGENT_NONSENSE = [
    ([update()], "OUT_OF_ORDER", "must be register"),
    ([register(), register(session=2)], "OUT_OF_ORDER", "registered already"),
    ([agent_pb2.AgentReport()], "INVALID", "report: 'unset'"),
    ([register(agent_id="")], "INVALID", "agent.agent_id: ''"),
    ([register(agent_id="x" * 300)], "INVALID", "agent.agent_id: 'xxx"),
    ([register(hostname="")], "INVALID", "agent.hostname: ''"),
    ([register(resources=resources(-1))], "INVALID", "agent.resources.cpu_millis: -1"),
    ([register(resources=resources(2**62))], "INVALID", "agent.resources.cpu_millis: 4611686018427387904"),
    ([register(runtimes=[99])], "INVALID", "agent.runtimes: 99"),
    ([register(attributes=[{"name": "x", "value": "y"}] * 999)], "INVALID", "agent.attributes: 999"),
    ([register(attributes=[{"name": "x", "value": "y" * 1000}] * 99)], "INVALID", "agent.attributes: 99099"),
    (
        [register(resources=resources_pb2.Resources(ports=[resources_pb2.PortRange(begin=9, end=3)]))],
        "INVALID",
        "agent.resources.ports: '9-3'",
    ),
    ([register(tasks=[nonsense_task(task_id="")])], "INVALID", "task_id: ''"),
    ([register(tasks=[nonsense_task(resources=resources(-5))])], "INVALID", "resources.cpu_millis: -5"),
    ([register(), update(state=99)], "INVALID", "update.state: 99"),
    ([register(), update(state=0)], "INVALID", "update.state: 0"),
]


@pytest.mark.parametrize("reports, code, words", AGENT_NONSENSE)
async def test_an_agent_that_makes_no_sense_is_refused_in_words(
    reports: list[agent_pb2.AgentReport], code: str, words: str
) -> None:
    async with serving() as master:
        stream = master.agent()
        await stream.send(*reports)

        refusal = await stream.refusal()

        assert scheduler_pb2.RefusalCode.Name(refusal.code) == f"REFUSAL_CODE_{code}"
        assert words in refusal.message


CALL_NONSENSE = [
    (scheduler_pb2.SchedulerCall(), "unknown", "call: 'unset'"),
    (
        scheduler_pb2.SchedulerCall(decline={"filter": {"refuse_ms": -1}}),  # type: ignore[arg-type]
        "decline",
        "decline.filter.refuse_ms: -1",
    ),
    (
        scheduler_pb2.SchedulerCall(accept={"filter": {"reason": "x" * 300}}),  # type: ignore[arg-type]
        "accept",
        "accept.filter.reason",
    ),
    (scheduler_pb2.SchedulerCall(accept={"groups": [{"operations": [{}]}]}), "accept", "accept.operation"),  # type: ignore[arg-type]
    (scheduler_pb2.SchedulerCall(kill={"kill_policy": {"grace_ms": -1}}), "kill", "kill_policy.grace_ms: -1"),  # type: ignore[arg-type]
    (scheduler_pb2.SchedulerCall(revive={"roles": ["nobody"]}), "revive", "roles: 'nobody'"),  # type: ignore[arg-type]
    (scheduler_pb2.SchedulerCall(suppress={"roles": ["nobody"]}), "suppress", "roles: 'nobody'"),  # type: ignore[arg-type]
    (
        scheduler_pb2.SchedulerCall(update_framework={"framework": {"name": "f"}}),  # type: ignore[arg-type]
        "update_framework",
        "framework.roles: ()",
    ),
    (
        scheduler_pb2.SchedulerCall(update_demand={"role": "f", "demands": [{"demand_id": "d", "placement": 9}]}),  # type: ignore[arg-type]
        "update_demand",
        "demand d.placement: 9",
    ),
]


@pytest.mark.parametrize("call, name, words", CALL_NONSENSE)
async def test_a_call_that_makes_no_sense_is_refused_and_the_stream_goes_on(
    call: scheduler_pb2.SchedulerCall, name: str, words: str
) -> None:
    async with serving() as master:
        stream = await master.subscribed()
        await stream.send(call)

        refused = await stream.next("call_refused")
        await master.registered()

        assert refused.call == name
        assert words in refused.message
        assert "allowed: " in refused.message
        assert len((await stream.next("offers")).offers) == 1


async def test_an_envelope_that_comes_twice_counts_once() -> None:
    """Rule 20."""
    async with serving() as master:
        scheduler, agent = await launched(master)
        await agent.send(update("t1", RUNNING, 1))
        await agent.send(update("t1", FINISHED, 2), number=agent.number)
        await agent.send(update("t1", RUNNING, 3))

        said = [*(await scheduler.next("updates")).updates]
        while len(said) < 2:
            said.extend((await scheduler.next("updates")).updates)

        assert [item.number for item in said] == [1, 3]


@pytest.mark.parametrize("number, words", [(7, "envelope 7 follows 1"), (0, "numbered from 1")])
async def test_a_number_that_cannot_follow_ends_the_stream(number: int, words: str) -> None:
    async with serving() as master:
        stream = await master.subscribed()
        await stream.send(number=number)

        refusal = await stream.refusal()

        assert refusal.code == scheduler_pb2.REFUSAL_CODE_OUT_OF_ORDER
        assert words in refusal.message


async def test_an_envelope_that_is_too_large_ends_its_stream_and_nothing_else() -> None:
    async with serving() as master:
        stream, other = await master.subscribed("f"), await master.subscribed("g")
        await stream.send(accept(scheduler_pb2.Offer(), tasks_pb2.TaskSpec(data=b"x" * 20 * 1024 * 1024)))

        code, details = await stream.end()
        await master.registered()

        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in details
        assert len((await other.next("offers")).offers) == 1


async def test_bytes_that_are_no_message_end_their_stream_and_nothing_else() -> None:
    async with serving() as master:
        call: Any = master.channel.stream_stream("/runrig.v1.SchedulerService/Connect")()
        await call.write(b"\xff\xff\xff\xff")

        code, details = await Stream(call, None, "", "", "").end()

        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "is no message" in details
        assert (await master.subscribed()).numbers == [1]


async def test_a_hundred_thousand_reports_in_one_envelope_are_taken_in_their_time() -> None:
    async with serving(events_waiting=1_000, events_per_turn=500) as master:
        agent = await master.registered()
        unknown = agent_pb2.AgentReport(task_unknown=agent_pb2.TaskUnknown(framework_id="f", task_id="t"))
        await agent.send(*[unknown] * 100_000)

        scheduler = await master.subscribed()

        assert len((await scheduler.next("offers")).offers) == 1
        assert not agent.call.done()


async def test_tasks_whose_launch_would_not_fit_one_message_with_others_reach_their_agent() -> None:
    """Envelopes are cut before they grow past what a receiver takes."""
    options = [("grpc.max_receive_message_length", 8 * 1024 * 1024)]
    async with serving() as master, grpc.aio.insecure_channel(master.grpc_address, options) as small:
        scheduler = await master.subscribed()
        agent = Served(master.grpc_address, master.http, small).agent()
        await agent.send(register(resources=resources(4000, 100_000)))
        await agent.next("registered")
        [offer] = (await scheduler.next("offers")).offers
        specs = []
        for number in range(3):
            item = spec(f"t{number}", 1)
            item.data = b"x" * (3 * 1024 * 1024)
            specs.append(item)
        operations = [scheduler_pb2.Operation(launch=scheduler_pb2.LaunchTasks(tasks=[item])) for item in specs]
        group = scheduler_pb2.LaunchGroup(agent_id="a1", offer_ids=[offer.offer_id], operations=operations)
        await scheduler.send(scheduler_pb2.SchedulerCall(accept=scheduler_pb2.Accept(groups=[group])))

        names = [(await agent.next("launch")).tasks[0].task_id for _ in range(3)]

        assert names == ["t0", "t1", "t2"]


async def test_a_scheduler_that_does_not_read_is_cut_off() -> None:
    """Section 4: a stream whose receiver is too slow is closed, nothing is dropped silently."""
    async with serving(scheduler_outbox_items=50) as master:
        scheduler, agent = await launched(master)
        large = update("t1", RUNNING, 1)
        large.update.message = "x" * 60_000
        for number in range(1, 10_000):
            large.update.number = number
            await agent.send(large)
            frameworks = await master.operator.ListFrameworks(operator_pb2.ListFrameworksRequest())
            if not frameworks.frameworks[0].connected:
                break

        code, details = await scheduler.end()

        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "50 items wait" in details
        again = await master.subscribed(session=2)
        assert len((await again.next("updates")).updates) > 0


async def test_what_comes_over_a_stream_after_its_refusal_is_not_heeded() -> None:
    async with serving() as master:
        stream = master.scheduler()
        await stream.send(subscribe(roles=[]), subscribe(session=2))

        refusal = await stream.refusal()
        frameworks = await master.operator.ListFrameworks(operator_pb2.ListFrameworksRequest())

        assert refusal.code == scheduler_pb2.REFUSAL_CODE_INVALID
        assert len(frameworks.frameworks) == 0


async def test_a_client_that_ends_its_side_ends_the_stream() -> None:
    async with serving() as master:
        stream = await master.subscribed()
        await stream.call.done_writing()

        assert (await stream.end())[0] is grpc.StatusCode.OK


async def test_many_streams_come_and_go_and_leave_nothing_behind() -> None:
    async with serving() as master:
        for session in range(1, 30):
            stream = await master.subscribed(session=session)
            stream.cancel()
            agent = await master.registered(session=session)
            agent.cancel()
        last = await master.subscribed(session=30)
        await master.registered(session=30)

        assert len((await last.next("offers")).offers) == 1
        cluster = await master.operator.GetCluster(operator_pb2.GetClusterRequest())
        assert (cluster.agents, cluster.frameworks) == (1, 1)
