"""The wire mapping: what is sent is what was meant, and what cannot be is refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runrig import agents, offers
from runrig._wire import (
    ForwardedTask,
    add_call,
    add_news,
    add_order,
    add_report,
    agent_from_wire,
    agent_to_wire,
    call_from_wire,
    explanation_from_wire,
    explanation_to_wire,
    framework_from_wire,
    framework_to_wire,
    news_from_wire,
    order_from_wire,
    report_from_wire,
    resources_from_wire,
    resources_to_wire,
    task_from_wire,
    task_to_wire,
    update_from_wire,
    update_to_wire,
)
from runrig.constraints import Constraint, Operator
from runrig.demand import Demand, Placement
from runrig.errors import InvalidInput, ProtocolError
from runrig.explanations import (
    DeclineCount,
    DemandExplanation,
    Explanation,
    FunnelStep,
    NearMiss,
    SubjectKind,
    Verdict,
)
from runrig.ids import AgentId, FrameworkId, OfferId, Role, TaskId
from runrig.reservations import PersistentVolume, Reservation, Unavailability
from runrig.resources import MAX_AMOUNT, Resources, single_ports
from runrig.tasks import (
    CheckKind,
    Command,
    Container,
    Fetch,
    HealthCheck,
    Limits,
    NetworkMode,
    Port,
    Reason,
    RuntimeKind,
    Source,
    StatusUpdate,
    TaskSpec,
    TaskState,
    Terms,
    Volume,
)
from runrig.v1 import agent_pb2, scheduler_pb2, tasks_pb2

T = TypeVar("T")

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ids = st.text("abcXYZ0-_.é", min_size=3, max_size=8)
task_ids, agent_ids, framework_ids = ids.map(TaskId), ids.map(AgentId), ids.map(FrameworkId)
offer_ids, roles = ids.map(OfferId), ids.map(Role)
natural = st.integers(0, 2**31 - 1)
huge = st.integers(0, 2**53)
milliseconds = st.integers(0, 10**9)
flags = st.booleans()
pairs = st.lists(st.tuples(text, text), max_size=3).map(tuple)
named = st.lists(st.tuples(ids, text), max_size=3).map(tuple)


def many(item: st.SearchStrategy[T]) -> st.SearchStrategy[tuple[T, ...]]:
    """Draw up to three."""
    return st.lists(item, max_size=3).map(tuple)


resources = st.builds(
    Resources,
    *[st.integers(0, MAX_AMOUNT)] * 4,
    st.frozensets(st.integers(1, 99), max_size=9).map(sorted).map(single_ports),
    st.dictionaries(st.sampled_from("abc"), st.integers(1, MAX_AMOUNT)).map(lambda items: tuple(sorted(items.items()))),
)
updates = st.builds(
    StatusUpdate,
    framework_ids,
    task_ids,
    agent_ids,
    huge,
    st.sampled_from(TaskState),
    st.sampled_from(Reason),
    st.sampled_from(Source),
    text,
    huge,
    st.none() | flags,
    st.none() | st.integers(-255, 255),
    st.sampled_from(RuntimeKind),
    text,
    huge,
    text,
)
ports = st.integers(0, 65_535)
checks = (
    st.builds(HealthCheck, st.just(CheckKind.COMMAND), argv=many(text), shell=text)
    | st.builds(
        HealthCheck,
        st.just(CheckKind.HTTP),
        port=ports,
        port_index=ports,
        path=text.map("/{}".format),
        scheme=st.sampled_from(["http", "https"]),
        statuses=many(st.integers(100, 599)),
        delay_ms=milliseconds,
        interval_ms=st.integers(1, 10**9),
        timeout_ms=st.integers(1, 10**9),
        grace_ms=milliseconds,
        max_consecutive_failures=natural,
    )
    | st.builds(HealthCheck, st.just(CheckKind.TCP), port=ports, port_index=ports)
)
terms = st.builds(Terms, text, text, st.integers(-(2**31), 2**31 - 1), text, huge)
reservations = st.builds(Reservation, text, roles, resources, pairs, text, flags)
volumes = st.builds(PersistentVolume, text, text, huge)
unavailabilities = st.builds(Unavailability, huge, huge)
specs = st.builds(
    TaskSpec,
    task_ids,
    resources,
    text,
    pairs,
    st.builds(Limits, huge, huge, huge),
    st.sampled_from(RuntimeKind),
    st.builds(Command, many(text), text, pairs, text, text),
    st.none() | st.builds(Container, text, flags, st.sampled_from(NetworkMode), text, flags, pairs),
    many(st.builds(Port, ports, ports, text, st.sampled_from(["tcp", "udp"]))),
    many(st.builds(Volume, text, text, flags, text)),
    many(st.builds(Fetch, text, text, flags, flags, text)),
    st.none() | milliseconds,
    milliseconds,
    many(checks),
    st.binary(max_size=9),
    terms,
)
infos = st.builds(
    agents.AgentInfo,
    agent_ids,
    ids,
    resources,
    text,
    text,
    named,
    many(st.sampled_from(RuntimeKind)),
    text,
    many(reservations.map(lambda item: replace(item, is_static=True))),
)
task_reports = st.builds(
    agents.TaskReport, framework_ids, task_ids, text, roles, resources, pairs, updates, terms, many(ids)
)
reports = (
    updates
    | st.builds(agents.Register, infos, huge, huge, many(task_reports))
    | st.builds(agents.AgentChanged, infos)
    | st.builds(agents.TaskNotHere, framework_ids, task_ids)
    | st.builds(agents.VolumeDestroyed, ids)
)
refusals = st.builds(offers.StreamRefused, st.sampled_from(offers.RefusalCode), text, text)
orders = (
    st.builds(agents.Launch, framework_ids, text, roles, many(specs), flags)
    | st.builds(
        agents.KillTask,
        framework_ids,
        task_ids,
        st.none() | milliseconds,
        st.sampled_from([reason for reason in Reason if reason]),
    )
    | st.builds(agents.AcknowledgeUpdate, framework_ids, task_ids, huge)
    | st.builds(agents.ShutdownFramework, framework_ids)
    | st.builds(agents.Registered, text, huge, huge)
    | st.builds(agents.DestroyAgentVolume, ids)
    | refusals
)
refusal_times = st.integers(0, offers.MAX_REFUSE_MS)
filters = st.builds(offers.Filter, refusal_times, text)
frameworks = st.builds(offers.FrameworkInfo, text, many(roles), framework_ids, huge, text, pairs, text, flags)
launches = st.builds(offers.LaunchTasks, many(specs), flags)
operations = (
    launches
    | st.builds(offers.Reserve, reservations, text, text)
    | st.builds(offers.Unreserve, text, text)
    | st.builds(offers.CreateVolume, volumes, text)
    | st.builds(offers.DestroyVolume, text, text)
)
groups = st.builds(offers.LaunchGroup, agent_ids, many(offer_ids), many(operations))
receipts = st.builds(offers.Acknowledgement, task_ids, agent_ids, huge)
references = st.builds(offers.TaskReference, task_ids, agent_ids)
demands = st.builds(
    Demand,
    ids,
    resources,
    natural,
    many(st.builds(Constraint, text, st.sampled_from(Operator), text)),
    st.sampled_from(Placement),
    st.integers(-(2**31), 2**31 - 1),
    text,
    huge,
    natural,
    text,
    st.sampled_from(RuntimeKind),
    text,
)
calls = (
    st.builds(offers.Subscribe, frameworks, huge, many(roles), flags)
    | st.builds(offers.Accept, many(groups), flags, filters)
    | st.builds(offers.Decline, many(offer_ids), filters)
    | st.builds(offers.Revive, many(roles))
    | st.builds(offers.Suppress, many(roles))
    | st.builds(offers.Kill, task_ids, st.none() | milliseconds)
    | st.builds(offers.Acknowledge, many(receipts))
    | st.builds(offers.Reconcile, many(references))
    | st.builds(offers.UpdateDemand, roles, many(demands))
    | st.builds(offers.UpdateFramework, frameworks)
    | st.builds(offers.Teardown)
    | st.builds(offers.AnswerInverseOffer, text, flags, text)
)
made = st.builds(
    offers.Offer,
    offer_ids,
    agent_ids,
    text,
    roles,
    resources,
    pairs,
    text,
    text,
    many(st.sampled_from(RuntimeKind)),
    st.none() | reservations,
    many(volumes),
    st.none() | unavailabilities,
    flags,
)
inverse_offers = st.builds(
    offers.InverseOffer,
    text,
    st.sampled_from(offers.InverseOfferReason),
    agent_ids,
    text,
    many(task_ids),
    resources,
    huge,
    st.none() | unavailabilities,
)
results = st.builds(offers.OperationResult, text, agent_ids, flags, text)
news = (
    st.builds(offers.Subscribed, framework_ids, text, huge, huge, huge)
    | st.builds(offers.OffersMade, many(made))
    | st.builds(offers.OffersRescinded, many(offer_ids), st.sampled_from(offers.RescindReason))
    | st.builds(offers.TasksUpdated, many(updates))
    | st.builds(offers.TasksRecovering, many(references))
    | refusals
    | st.builds(offers.CallRefused, text, text)
    | st.builds(offers.OperationsDone, many(results))
    | st.builds(offers.InverseOffersMade, many(inverse_offers))
    | st.builds(offers.InverseOffersEnded, many(text))
)


def report_to_wire(report: agents.Report) -> agent_pb2.AgentReport:
    """Send a report in an envelope of its own."""
    envelope = agent_pb2.AgentServiceConnectRequest()
    assert add_report(envelope, report) > 0
    return envelope.reports[0]


def order_to_wire(order: agents.Order) -> agent_pb2.AgentCommand:
    """Send an order in an envelope of its own."""
    envelope = agent_pb2.AgentServiceConnectResponse()
    assert add_order(envelope, order) > 0
    return envelope.commands[0]


def call_to_wire(call: offers.Call) -> scheduler_pb2.SchedulerCall:
    """Send a call in an envelope of its own."""
    envelope = scheduler_pb2.SchedulerServiceConnectRequest()
    assert add_call(envelope, call) > 0
    return envelope.calls[0]


def news_to_wire(item: offers.News) -> scheduler_pb2.SchedulerEvent:
    """Send news in an envelope of its own."""
    envelope = scheduler_pb2.SchedulerServiceConnectResponse()
    add_news(envelope, item)
    return envelope.events[0]


def read_tasks(tasks: tuple[object, ...]) -> tuple[TaskSpec, ...]:
    """Read the bodies of forwarded tasks."""
    return tuple(task_from_wire(task.body) for task in tasks if isinstance(task, ForwardedTask))


def _report_message(report: agents.Report) -> agent_pb2.AgentReport:
    envelope = agent_pb2.AgentServiceConnectRequest()
    grown = add_report(envelope, report)
    assert 0 <= grown <= envelope.ByteSize()
    return envelope.reports[0]


def _order_message(order: agents.Order) -> agent_pb2.AgentCommand:
    envelope = agent_pb2.AgentServiceConnectResponse()
    grown = add_order(envelope, order)
    assert 0 <= grown <= envelope.ByteSize()
    return envelope.commands[0]


def _call_message(call: offers.Call) -> scheduler_pb2.SchedulerCall:
    envelope = scheduler_pb2.SchedulerServiceConnectRequest()
    grown = add_call(envelope, call)
    assert 0 <= grown <= envelope.ByteSize()
    return envelope.calls[0]


def _news_message(news: offers.News) -> scheduler_pb2.SchedulerEvent:
    envelope = scheduler_pb2.SchedulerServiceConnectResponse()
    grown = add_news(envelope, news)
    assert 0 <= grown <= envelope.ByteSize()
    return envelope.events[0]


@given(resources)
def test_resources_come_back(item: Resources) -> None:
    assert resources_from_wire(resources_to_wire(item)) == item


@settings(max_examples=200)
@given(specs)
def test_tasks_come_back(spec: TaskSpec) -> None:
    assert task_from_wire(task_to_wire(spec)) == spec


@given(specs)
def test_a_forwarded_task_is_what_was_sent_byte_for_byte(spec: TaskSpec) -> None:
    body = task_to_wire(spec)
    forwarded = ForwardedTask(body)

    order = _order_message(agents.Launch(FrameworkId("f"), "f", Role("r"), (forwarded,)))

    assert order.launch.tasks[0] == body
    assert (forwarded.task_id, forwarded.name, forwarded.resources, forwarded.labels) == (
        spec.task_id,
        spec.name,
        spec.resources,
        spec.labels,
    )


@given(updates)
def test_updates_come_back(update: StatusUpdate) -> None:
    assert update_from_wire(update_to_wire(update)) == update


@given(infos)
def test_agents_come_back(info: agents.AgentInfo) -> None:
    assert agent_from_wire(agent_to_wire(info)) == info


@given(frameworks)
def test_frameworks_come_back(info: offers.FrameworkInfo) -> None:
    assert framework_from_wire(framework_to_wire(info)) == info


@settings(max_examples=300)
@given(reports)
def test_reports_come_back(report: agents.Report) -> None:
    assert report_from_wire(_report_message(report)) == report


@settings(max_examples=300)
@given(orders)
def test_orders_come_back(order: agents.Order) -> None:
    back = order_from_wire(_order_message(order))

    if isinstance(order, agents.Launch) and isinstance(back, agents.Launch):
        assert read_tasks(back.tasks) == order.tasks
        back = agents.Launch(back.framework_id, back.framework_name, back.role, order.tasks, back.is_group)
    assert back == order


def _with_full_tasks(operation: offers.Operation) -> offers.Operation:
    if isinstance(operation, offers.LaunchTasks):
        return offers.LaunchTasks(read_tasks(operation.tasks), operation.is_group)
    return operation


@settings(max_examples=300)
@given(calls)
def test_calls_come_back(call: offers.Call) -> None:
    back = call_from_wire(_call_message(call))

    if isinstance(call, offers.Accept) and isinstance(back, offers.Accept):
        back = offers.Accept(
            tuple(
                offers.LaunchGroup(
                    group.agent_id,
                    group.offer_ids,
                    tuple(_with_full_tasks(item) for item in group.operations),
                )
                for group in back.groups
            ),
            back.atomic,
            back.filter,
        )
    assert back == call


@given(st.lists(news, max_size=5))
def test_news_that_travel_together_come_back_in_order(items: list[offers.News]) -> None:
    envelope = scheduler_pb2.SchedulerServiceConnectResponse()
    grown = [add_news(envelope, item) for item in items]
    back = [news_from_wire(event) for event in envelope.events]

    assert flat(back) == flat(items)
    assert abs(sum(grown) - envelope.ByteSize()) <= 10 * (len(items) + len(flat(items)))


def flat(items: list[offers.News]) -> list[object]:
    """Return news with updates one by one: those that stand together may travel as one."""
    return [one for item in items for one in (item.updates if isinstance(item, offers.TasksUpdated) else (item,))]


@settings(max_examples=300)
@given(news)
def test_news_come_back(item: offers.News) -> None:
    assert news_from_wire(_news_message(item)) == item


def test_every_kind_of_message_has_a_case_on_the_wire() -> None:
    for message, field in (
        (scheduler_pb2.SchedulerCall, "call"),
        (scheduler_pb2.SchedulerEvent, "event"),
        (agent_pb2.AgentReport, "report"),
        (agent_pb2.AgentCommand, "command"),
    ):
        for case in message.DESCRIPTOR.oneofs_by_name[field].fields:
            item = message()
            getattr(item, case.name).SetInParent()
            read = {
                scheduler_pb2.SchedulerCall: call_from_wire,
                scheduler_pb2.SchedulerEvent: news_from_wire,
                agent_pb2.AgentReport: report_from_wire,
                agent_pb2.AgentCommand: order_from_wire,
            }[message]
            try:
                read(item)  # type: ignore[operator]
            except InvalidInput as error:
                assert "unset" not in str(error), case.name  # noqa: PT017 (an empty body may be refused, not its kind)


@pytest.mark.parametrize(
    "read, message",
    [
        (call_from_wire, scheduler_pb2.SchedulerCall()),
        (report_from_wire, agent_pb2.AgentReport()),
        (news_from_wire, scheduler_pb2.SchedulerEvent()),
        (order_from_wire, agent_pb2.AgentCommand()),
    ],
)
def test_a_kind_that_is_not_known_is_refused_and_says_so(read: object, message: object) -> None:
    with pytest.raises((InvalidInput, ProtocolError)) as caught:
        read(message)  # type: ignore[operator]

    assert any(word in str(caught.value) for word in ("unset", "upgrade"))


def registration(**changes: object) -> agent_pb2.AgentReport:
    """Build the registration of an agent that is as `changes` say."""
    fields: dict[str, object] = {"agent_id": "a1", "hostname": "h"} | changes
    return agent_pb2.AgentReport(register=agent_pb2.Register(agent=agent_pb2.AgentInfo(**fields)))  # type: ignore[arg-type]


def reported(**changes: object) -> agent_pb2.AgentReport:
    """Build the registration of an agent whose one task is as `changes` say."""
    status = tasks_pb2.StatusUpdate(state=tasks_pb2.TASK_RUNNING, source=tasks_pb2.SOURCE_AGENT)
    fields: dict[str, object] = {"framework_id": "f", "task_id": "t", "status": status} | changes
    message = registration()
    message.register.tasks.append(agent_pb2.TaskReport(**fields))  # type: ignore[arg-type]
    return message


BAD_UPDATE = tasks_pb2.StatusUpdate(state=99, source=2)  # type: ignore[arg-type]
HUGE = resources_to_wire(Resources(2**60))
NEGATIVE = resources_to_wire(Resources(-1))


@pytest.mark.parametrize(
    "message, field, value",
    [
        (registration(agent_id=""), "agent.agent_id", "''"),
        (registration(agent_id="a/b"), "agent.agent_id", "'a/b'"),
        (registration(hostname=""), "agent.hostname", "''"),
        (registration(resources=HUGE), "agent.resources.cpu_millis", str(2**60)),
        (registration(resources=NEGATIVE), "agent.resources.cpu_millis", "-1"),
        (registration(runtimes=[77]), "agent.runtimes", "77"),
        (registration(attributes=[{"name": "", "value": "x"}]), "agent.attributes", "':x'"),
        (registration(attributes=[{"name": "x", "value": "y" * 2000}]), "agent.attributes", "y"),
        (registration(attributes=[{"name": "x", "value": "y"}] * 300), "agent.attributes", "300"),
        (reported(task_id="a/b"), "register.task a/b.task_id", "'a/b'"),
        (reported(framework_id=""), "register.task t.framework_id", "''"),
        (reported(resources=NEGATIVE), "register.task t.resources.cpu_millis", "-1"),
        (reported(status=BAD_UPDATE), "update.state", "99"),
        (agent_pb2.AgentReport(update=BAD_UPDATE), "update.state", "99"),
        (agent_pb2.AgentReport(update=tasks_pb2.StatusUpdate()), "update.state", "0"),
        (agent_pb2.AgentReport(update=tasks_pb2.StatusUpdate(state=3)), "update.source", "0"),  # type: ignore[arg-type]
    ],
)
def test_a_report_that_cannot_be_is_refused_by_field_value_and_what_is_allowed(
    message: agent_pb2.AgentReport, field: str, value: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        report_from_wire(message)

    assert caught.value.field == field
    assert value in str(caught.value)
    assert "allowed: " in str(caught.value)


def accept(**changes: object) -> scheduler_pb2.SchedulerCall:
    """Build an accept that is as `changes` say."""
    return scheduler_pb2.SchedulerCall(accept=scheduler_pb2.Accept(**changes))  # type: ignore[arg-type]


DEMAND = scheduler_pb2.Demand(demand_id="d", count=1)


@pytest.mark.parametrize(
    "message, field, value",
    [
        (accept(filter={"refuse_ms": -5}), "accept.filter.refuse_ms", "-5"),
        (accept(filter={"refuse_ms": 2**40}), "accept.filter.refuse_ms", str(2**40)),
        (accept(filter={"reason": "x" * 256}), "accept.filter.reason", "x"),
        (accept(groups=[{"operations": [{}]}]), "accept.operation", "unset"),
        (scheduler_pb2.SchedulerCall(decline={"filter": {"refuse_ms": -1}}), "decline.filter.refuse_ms", "-1"),  # type: ignore[arg-type]
        (scheduler_pb2.SchedulerCall(kill={"kill_policy": {"grace_ms": -1}}), "kill_policy.grace_ms", "-1"),  # type: ignore[arg-type]
        (
            scheduler_pb2.SchedulerCall(update_demand={"demands": [{"demand_id": ""}]}),  # type: ignore[arg-type]
            "demand .demand_id",
            "''",
        ),
        (
            scheduler_pb2.SchedulerCall(update_demand={"demands": [{"demand_id": "d", "placement": 9}]}),  # type: ignore[arg-type]
            "demand d.placement",
            "9",
        ),
        (
            scheduler_pb2.SchedulerCall(
                update_demand={"demands": [{"demand_id": "d", "constraints": [{"operator": 99}]}]}  # type: ignore[arg-type]
            ),
            "demand d.operator",
            "99",
        ),
    ],
)
def test_a_call_that_cannot_be_is_refused_by_field_value_and_what_is_allowed(
    message: scheduler_pb2.SchedulerCall, field: str, value: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        call_from_wire(message)

    assert caught.value.field == field
    assert value in str(caught.value)
    assert "allowed: " in str(caught.value)


def test_a_reason_of_a_later_version_is_none_of_ours() -> None:
    message = update_to_wire(StatusUpdate(FrameworkId("f"), TaskId("t"), AgentId("a"), 1, TaskState.TASK_RUNNING))
    message.reason = 9999  # type: ignore[assignment]

    assert update_from_wire(message).reason is Reason.NONE


def test_an_unset_filter_is_the_default_and_zero_is_none() -> None:
    unset = call_from_wire(accept())
    none = call_from_wire(accept(filter={"refuse_ms": 0}))

    assert isinstance(unset, offers.Accept)
    assert isinstance(none, offers.Accept)
    assert (unset.filter.refuse_ms, none.filter.refuse_ms) == (5_000, 0)


# Explanations

EXPLANATION = Explanation(
    SubjectKind.DEMAND,
    "web",
    "one task waits for 0.2 cpus",
    (
        DemandExplanation(
            FrameworkId("f-1"),
            "batch",
            Role("eng/ads"),
            Demand("d", Resources(1200, 512), 3, (Constraint("rack", Operator.EQUALS, "a"),), group="web"),
            Verdict.WAITS,
            "short of cpus",
            1_800_000_000_123,
            (FunnelStep("connected", 1, 9), FunnelStep("free", 9, 0, "short by 0.2 cpus at best")),
            (NearMiss(AgentId("a7"), "agent-7", "free", "short by 0.2 cpus", Resources(200)),),
            ("ask for 1 cpu",),
        ),
    ),
    ("nothing is declined",),
    (DeclineCount("too small", 7, 1_800_000_000_456),),
)


def test_an_explanation_is_the_same_after_the_wire() -> None:
    assert explanation_from_wire(explanation_to_wire(EXPLANATION)) == EXPLANATION


def test_a_verdict_that_a_newer_master_knows_is_read_as_waiting() -> None:
    message = explanation_to_wire(EXPLANATION)
    message.demands[0].verdict = 77  # type: ignore[assignment]
    message.kind = 77  # type: ignore[assignment]

    read = explanation_from_wire(message)

    assert (read.kind, read.demands[0].verdict) == (SubjectKind.ANY, Verdict.WAITS)


def test_an_explanation_as_json_has_all_of_it() -> None:
    said = EXPLANATION.as_json()

    [demand] = said["demands"]
    assert (said["kind"], said["summary"], said["facts"]) == ("demand", EXPLANATION.summary, ["nothing is declined"])
    assert said["declines"] == [{"reason": "too small", "count": 7, "last_at": "2027-01-15T08:00:00.456Z"}]
    assert (demand["verdict"], demand["framework"], demand["waiting_since"]) == (
        "waits",
        "batch",
        "2027-01-15T08:00:00.123Z",
    )
    assert demand["demand"]["constraints"] == ["rack EQUALS a"]
    assert demand["funnel"][1] == {"predicate": "free", "failed": 9, "left": 0, "detail": "short by 0.2 cpus at best"}
    assert demand["nearest"][0]["short_by"]["cpu_millis"] == 200
    assert demand["remedies"] == ["ask for 1 cpu"]
