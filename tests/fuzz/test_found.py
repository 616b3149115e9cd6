"""What fuzzing has found in the master, each by its name."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from runrig.v1 import agent_pb2, operator_pb2, resources_pb2, scheduler_pb2, tasks_pb2
from runrig_master.core.settings import CoreSettings
from tests.edges.master_server import accept, acknowledge, register, resources, serving, spec, task_report, update
from tests.fuzz import templates
from tests.fuzz.master_target import under_fire
from tests.fuzz.unary import status_of
from tests.master.core.books import check_books

RUNNING, FINISHED, ERROR = tasks_pb2.TASK_RUNNING, tasks_pb2.TASK_FINISHED, tasks_pb2.TASK_ERROR
LABELS = [resources_pb2.Label(name="n", value="v")]


def demanding(**fields: Any) -> scheduler_pb2.SchedulerCall:
    """State one demand."""
    known: dict[str, Any] = {"demand_id": "d", "count": 1, "resources": resources(100, 32)}
    demand = scheduler_pb2.Demand(**(known | fields))
    return scheduler_pb2.SchedulerCall(update_demand=scheduler_pb2.UpdateDemand(role="f", demands=[demand]))


def like(value: str) -> list[scheduler_pb2.Constraint]:
    """Constrain the rack."""
    return [scheduler_pb2.Constraint(attribute="rack", operator=scheduler_pb2.CONSTRAINT_OPERATOR_LIKE, value=value)]


@pytest.mark.parametrize(
    "call, words",
    [
        (demanding(constraints=like("(" * 900 + ")" * 900)), "constraints[0].value: '(((("),
        (demanding(constraints=like("a{4294967297}")), "constraints[0].value: 'a{4294967297}'"),
        (demanding(constraints=like("a" * 2_000)), "at most 1024 characters"),
        (demanding(constraints=[scheduler_pb2.Constraint(operator=1)]), "constraints[0].attribute: ''"),  # type: ignore[arg-type]
        (demanding(count=0), "demand d.count: 0"),
        (demanding(resources=resources(0, 0)), "demand d.resources:"),
        (demanding(gang_id="a/b"), "demand d.gang_id: 'a/b'"),
        (demanding(expected_duration_ms=-1), "demand d.expected_duration_ms: -1"),
    ],
)
async def test_a_demand_that_nothing_can_meet_is_refused_by_its_field(
    call: scheduler_pb2.SchedulerCall, words: str
) -> None:
    async with serving() as master:
        stream = await master.subscribed()
        await stream.send(call)

        refused = await stream.next("call_refused")

        assert words in refused.message
        assert "; allowed: " in refused.message


async def test_an_id_of_any_length_is_told_of_in_few_words() -> None:
    """A status travels in a call's trailers: with a long one the caller would get neither status nor words."""
    async with serving() as master:
        request = operator_pb2.TeardownFrameworkRequest(framework_id="x" * 1_000_000).SerializeToString()
        method = "/runrig.v1.OperatorService/TeardownFramework"
        code, details = await status_of(master.channel, method, request)
        stream = await master.subscribed()
        await stream.send(demanding(demand_id="x" * 1_000_000))

        refused = await stream.next("call_refused")

        assert code is grpc.StatusCode.NOT_FOUND
        assert details.startswith("there is no framework 'xxx")
        assert len(refused.message) < 2_000


async def test_bytes_that_are_no_message_are_the_fault_of_who_asks_and_no_bug() -> None:
    async with under_fire() as target:
        for method in ("runrig.v1.OperatorService/ListTasks", "grpc.health.v1.Health/Check"):
            code, details = await status_of(target.served.channel, f"/{method}", b"\xff\xff\xff")

            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert details.startswith("what was sent is no message")


async def test_a_state_that_does_not_exist_is_refused_and_not_merely_never_found() -> None:
    async with serving() as master:
        request = operator_pb2.ListTasksRequest(states=[99]).SerializeToString()  # type: ignore[list-item]

        code, details = await status_of(master.channel, "/runrig.v1.OperatorService/ListTasks", request)

        assert (code, details[:11]) == (grpc.StatusCode.INVALID_ARGUMENT, "states: 99 ")


def reported(**fields: Any) -> agent_pb2.AgentReport:
    """Register with a task that runs, some of its fields given."""
    task = task_report("t1")
    task.MergeFrom(agent_pb2.TaskReport(**fields))
    return register(tasks=[task])


REPORTS = [
    (update("t1", FINISHED, 0), "update.number: 0"),
    (register(tasks=[task_report("t1", 0, status=templates.status("f", "t1", "a1", 0, FINISHED))]), "t1.number: 0"),
    (reported(name="x" * 2_000), "register.task t1.name"),
    (reported(labels=LABELS * 300), "register.task t1.labels"),
    (reported(role="no role"), "register.task t1.role: 'no role'"),
    (register(tasks=[task_report(f"t{n}", resources=resources(2**46)) for n in range(3)]), "together.cpu_millis"),
    (register(address="x" * 2_000), "agent.address"),
    (register(runtimes=[tasks_pb2.RUNTIME_KIND_PROCESS] * 2), "agent.runtimes"),
]


@pytest.mark.parametrize("report, words", REPORTS, ids=[words for _, words in REPORTS])
async def test_a_report_that_the_master_could_not_show_or_settle_ends_its_stream_in_words(
    report: agent_pb2.AgentReport, words: str
) -> None:
    async with under_fire() as target:
        agent = target.served.agent() if report.HasField("register") else await target.served.registered()
        await agent.send(report)

        refusal = await agent.refusal()

        assert refusal.code == scheduler_pb2.REFUSAL_CODE_INVALID
        assert words in refusal.message


async def test_a_message_of_an_update_is_cut_where_it_could_keep_others_from_travelling() -> None:
    """A thousand updates travel in one message, of which a receiver takes 32 MiB."""
    async with serving() as master:
        scheduler, agent = await master.subscribed(), await master.registered()
        [offer] = (await scheduler.next("offers")).offers
        await scheduler.send(accept(offer, spec("t1")))
        await agent.next("launch")
        report = update("t1", RUNNING, 1)
        report.update.message = "x" * 10_000_000
        await agent.send(report)

        [said] = (await scheduler.next("updates")).updates

        assert len(said.message) == 4_096
        assert said.message.endswith("x...")


async def test_a_task_that_ends_under_a_number_that_was_acknowledged_is_settled() -> None:
    async with under_fire() as target:
        scheduler = await target.served.subscribed()
        agent = await target.served.registered(tasks=[task_report("t1", 1)])
        await scheduler.send(acknowledge("t1", 1))
        await agent.next("acknowledge")

        ended = task_report("t1", status=templates.status("f", "t1", "a1", 1, FINISHED))
        await target.served.registered(session=2, tasks=[ended])

        check_books(target.loop.master.cluster)


async def test_an_agent_whose_tasks_name_more_frameworks_than_there_may_be_is_refused() -> None:
    async with serving(CoreSettings(max_frameworks=3)) as master:
        agent = master.agent()
        await agent.send(register(tasks=[task_report("t1", name=f"f{number}") for number in range(4)]))

        refusal = await agent.refusal()

        assert "(max_frameworks)" in refusal.message


@pytest.mark.parametrize("fields", [{"name": "x" * 2_000}, {"labels": LABELS * 300}])
async def test_a_task_whose_name_or_labels_nobody_could_show_is_an_error(fields: dict[str, Any]) -> None:
    async with serving() as master:
        scheduler = await master.subscribed()
        await master.registered()
        [offer] = (await scheduler.next("offers")).offers
        task = spec("t1")
        task.MergeFrom(tasks_pb2.TaskSpec(**fields))
        await scheduler.send(accept(offer, task))

        [said] = (await scheduler.next("updates")).updates

        assert said.state == ERROR
        assert said.message.startswith(f"task.{next(iter(fields))}: ")


async def test_more_items_than_are_taken_at_once_are_refused_by_the_bound_that_says_so() -> None:
    reference = scheduler_pb2.TaskReference(task_id="t")
    many = scheduler_pb2.SchedulerCall(reconcile=scheduler_pb2.Reconcile(tasks=[reference] * 11))
    async with serving(max_items=10) as master:
        stream = await master.subscribed()
        await stream.send(many)
        refused = await stream.next("call_refused")
        await stream.send(*[scheduler_pb2.SchedulerCall(revive=scheduler_pb2.Revive())] * 11)

        refusal = await stream.refusal()

        assert refused.message == "reconcile.tasks: 11 is not allowed; allowed: at most 10 (max_items)"
        assert refusal.message == "calls: 11 is not allowed; allowed: at most 10 (max_items)"


async def test_an_id_that_no_task_can_have_is_refused_and_not_looked_for() -> None:
    """The answer would carry it, and with 16 MB of it no scheduler could receive the answer."""
    long = "x" * 5_000_000
    reference = scheduler_pb2.TaskReference(task_id=long)
    async with serving() as master:
        stream = await master.subscribed()
        await stream.send(scheduler_pb2.SchedulerCall(kill=scheduler_pb2.Kill(task_id=long)))
        kill = await stream.next("call_refused")
        await stream.send(scheduler_pb2.SchedulerCall(reconcile=scheduler_pb2.Reconcile(tasks=[reference])))
        reconcile = await stream.next("call_refused")

        assert kill.message.startswith("kill.task_id: 'xxx")
        assert reconcile.message.startswith("reconcile.tasks[0].task_id: 'xxx")
