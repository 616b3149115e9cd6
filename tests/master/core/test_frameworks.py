"""Rules 15 and 16: subscription, failover, absence, removal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runrig.agents import AcknowledgeUpdate, ShutdownFramework
from runrig.errors import NotFound
from runrig.ids import FrameworkId, Role, TaskId
from runrig.offers import Reconcile, RefusalCode, Revive, Subscribe, Subscribed, Teardown, UpdateDemand, UpdateFramework
from runrig.tasks import TaskState
from runrig_master.core.commands import CloseStream, FrameworkRecord, Persist, SendToScheduler
from runrig_master.core.events import SchedulerCalled, SchedulerStreamClosed
from runrig_master.core.settings import CoreSettings
from tests.master.core.cluster import (
    FINISHED,
    F,
    agent,
    answer,
    demand,
    found,
    framework,
    given,
    news,
    of,
    offers_in,
    orders,
    receipt,
    refusals,
    refused_calls,
    renamed,
    rescinded,
    running,
    said,
    shape,
    states,
    task,
)

HOUR_S = 3600.0


def test_a_framework_is_admitted_durably_before_it_is_told() -> None:
    """Mesos case 40."""
    world = given()

    commands = world.subscribe(framework())

    kinds = [type(command) for command in commands if isinstance(command, Persist | SendToScheduler)]
    assert kinds == [Persist, SendToScheduler]
    assert of(Subscribed, news(commands)) == [Subscribed(F, "c1", 75_000, 15_000, 30_000)]


def test_a_framework_without_an_id_is_given_one() -> None:
    world = given(agent())

    commands = world.subscribe(renamed(framework("f"), framework_id=FrameworkId("")))

    assert [item.framework_id for item in of(Subscribed, news(commands))] == ["fresh-f"]
    assert len(offers_in(commands)) == 1


def test_a_subscription_with_a_known_id_wins_and_the_old_stream_is_told() -> None:
    """Rule 15; Mesos case 42."""
    world = given(agent(), framework())
    world.turn()
    old = world.stream()

    commands = world.subscribe(framework())

    assert [(close.stream, close.refusal.code) for close in of(CloseStream, commands)] == [
        (old, RefusalCode.SUPERSEDED)
    ]
    assert len(world.offers()) == 1
    assert rescinded(commands) == []


def test_what_the_old_scheduler_was_offered_cannot_be_used_by_the_new_one() -> None:
    """Rule 15; Mesos case 35."""
    world = given(agent(), framework())
    [old] = offers_in(world.turn())

    [new] = offers_in(world.subscribe(framework()))

    assert new.offer_id != old.offer_id
    assert old.offer_id not in world.master.cluster.offers


def test_the_end_of_an_overtaken_stream_changes_nothing() -> None:
    world = given(agent(), framework())
    world.turn()
    old = world.stream()
    world.subscribe(framework())

    assert world.turn(SchedulerStreamClosed(old)) == []
    assert len(world.offers()) == 1


@pytest.mark.parametrize("call", [Revive(), Reconcile(), Teardown()])
def test_an_overtaken_scheduler_is_not_heeded(call: Teardown) -> None:
    """Mesos cases 28 and 37."""
    world = running(task("t1"))
    old = world.stream()
    world.subscribe(framework())

    world.master.handle(SchedulerCalled(old, call), world.now)

    assert F in world.master.cluster.frameworks


@pytest.mark.parametrize("session", [1, 6, 7])
def test_a_session_that_is_not_newer_is_refused(session: int) -> None:
    """Section 4: overtaken messages are refused, never applied; rule 20."""
    world = given(agent())
    world.subscribe(framework(), session=7)

    commands = world.subscribe(framework(), session=session)
    after_failover = world.restart() + world.subscribe(framework(), session=session)

    assert [refusal.code for refusal in refusals(commands + after_failover)] == [RefusalCode.SUPERSEDED] * 2


def test_the_first_call_must_be_a_subscription() -> None:
    """Mesos case 41."""
    world = given(agent())

    commands = world.turn(SchedulerCalled(world.new_stream("f/f"), Revive()))

    assert [refusal.code for refusal in refusals(commands)] == [RefusalCode.OUT_OF_ORDER]
    assert "subscribe" in refusals(commands)[0].message


def test_a_stream_subscribes_once() -> None:
    world = given(agent(), framework())

    commands = world.turn(SchedulerCalled(world.stream(), Subscribe(framework(), 99)))

    assert [refusal.code for refusal in refusals(commands)] == [RefusalCode.OUT_OF_ORDER]


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"name": ""}, "framework.name"),
        ({"name": "x" * 1025}, "framework.name"),
        ({"roles": ()}, "framework.roles"),
        ({"roles": (Role("a"), Role("a"))}, "framework.roles"),
        ({"roles": tuple(Role(f"r{number}") for number in range(101))}, "framework.roles"),
        ({"roles": (Role(""),)}, "framework.roles"),
        ({"roles": (Role("a//b"),)}, "framework.roles"),
        ({"roles": (Role("../etc"),)}, "framework.roles"),
        ({"roles": (Role("a/b/c/d/e/f/g/h/i"),)}, "framework.roles"),
        ({"roles": (Role("*"),)}, "framework.roles"),
        ({"framework_id": FrameworkId("a/b")}, "framework.framework_id"),
        ({"framework_id": FrameworkId("x" * 256)}, "framework.framework_id"),
        ({"failover_timeout_ms": -1}, "framework.failover_timeout_ms"),
        ({"failover_timeout_ms": 2**62}, "framework.failover_timeout_ms"),
        ({"principal": "x" * 1025}, "framework.principal"),
        ({"web_url": "x" * 1025}, "framework.web_url"),
        ({"labels": (("a", "b"),) * 257}, "framework.labels"),
    ],
)
def test_a_framework_that_cannot_be_is_refused_by_the_name_of_the_field(changes: dict[str, object], field: str) -> None:
    world = given(agent())

    refused = refusals(world.subscribe(renamed(framework(), **changes)))
    world.subscribe(framework("g"))
    call = refused_calls(world.call(UpdateFramework(renamed(framework("g"), **changes)), by="g"))

    assert [refusal.code for refusal in refused] == [RefusalCode.INVALID]
    assert refused[0].message.startswith(f"{field}: ")
    assert "framework_id" in field or [(name, text.split(": ")[0]) for name, text in call] == [
        ("update_framework", field)
    ]


def test_the_principal_cannot_change() -> None:
    """Rule 15; Mesos case 39."""
    world = given(framework(principal="ann"))

    commands = world.subscribe(framework(principal="bob"))
    world.restart()
    again = world.subscribe(framework(principal="bob"))
    right = world.subscribe(framework(principal="ann"))

    assert [refusal.code for refusal in refusals(commands + again)] == [RefusalCode.PRINCIPAL_CHANGED] * 2
    assert "'bob'" in refusals(commands)[0].message
    assert "'ann'" in refusals(commands)[0].message
    assert refusals(right) == []


def test_the_principal_cannot_change_by_an_update() -> None:
    world = given(framework(principal="ann"))

    [(name, message)] = refused_calls(world.call(UpdateFramework(framework(principal="bob"))))

    assert name == "update_framework"
    assert message == "framework.principal: 'bob' is not allowed; allowed: 'ann'"


def test_all_else_may_change_at_a_failover() -> None:
    """Rule 15; Mesos case 39."""
    world = given(agent(), framework("f", "eng"))
    changed = replace(framework("f", "ops", timeout_s=60), name="new name", web_url="http://h:1")

    commands = world.subscribe(changed)

    assert [offer.role for offer in offers_in(commands)] == ["ops"]
    assert world.disk["frameworks/f"] == FrameworkRecord(changed, 2)


def test_all_else_may_change_by_an_update() -> None:
    world = given(agent(), framework("f", "eng"))
    changed = replace(framework("f", "eng", "ops"), name="new name")

    world.call(UpdateFramework(changed))

    assert world.disk["frameworks/f"] == FrameworkRecord(changed, 1)


def test_an_update_cannot_change_the_id() -> None:
    world = given(framework("f"), framework("g"))

    world.call(UpdateFramework(framework("g", "f")), by="f")

    record = world.disk["frameworks/f"]
    assert isinstance(record, FrameworkRecord)
    assert (record.framework.framework_id, record.framework.name) == ("f", "g")


def test_a_disconnected_framework_keeps_its_tasks_until_its_deadline() -> None:
    """Rule 16."""
    world = running(task("t1"))
    world.lose_framework()

    assert orders(world.turn(after=HOUR_S - 0.5)) == []
    assert orders(world.turn(after=0.5)) == [ShutdownFramework(F)]


def test_the_master_asks_to_be_woken_at_the_deadline() -> None:
    world = given(framework())
    world.lose_framework()

    assert world.master.next_deadline() == world.now + HOUR_S


def test_a_framework_that_returns_in_time_keeps_its_tasks() -> None:
    """Rule 16."""
    world = running(task("t1"))
    world.lose_framework()
    world.subscribe(framework(), after=HOUR_S - 1)

    assert orders(world.turn(after=2 * HOUR_S)) == []
    assert states(world.call(Reconcile()))[0][1] == "TASK_RUNNING"


def test_a_failover_of_the_master_neither_forgets_a_deadline_nor_begins_it_anew() -> None:
    """Rule 16."""
    world = running(task("t1"))
    world.lose_framework()
    for _ in range(5):
        world.restart(after=HOUR_S / 6)
        world.connect(agent(), found("t1"))
    assert F in world.master.cluster.frameworks

    commands = world.turn(after=HOUR_S / 6)

    assert orders(commands) == [ShutdownFramework(F)]


def test_a_framework_that_was_connected_has_its_whole_time_after_a_failover_once() -> None:
    """Rule 16: the first master after it counts; the next one goes on counting."""
    world = running(task("t1"))
    world.restart(after=100.0)
    began = world.now
    world.restart(after=HOUR_S - 1)
    assert F in world.master.cluster.frameworks

    world.turn(after=1.0)

    assert world.now == began + HOUR_S
    assert F in world.master.cluster.completed


def test_a_framework_without_a_failover_timeout_ends_with_its_stream() -> None:
    world = given(agent(), framework(timeout_s=0))
    world.run(task("t1"))

    assert orders(world.lose_framework()) == [ShutdownFramework(F)]


def test_an_id_that_timed_out_is_refused() -> None:
    """Rule 15; Mesos case 34."""
    world = given(framework())
    world.lose_framework()
    world.turn(after=HOUR_S)

    assert [refusal.code for refusal in refusals(world.subscribe(framework()))] == [RefusalCode.REMOVED]


@pytest.mark.parametrize("by_operator", [False, True])
def test_a_framework_that_is_torn_down_has_its_tasks_killed_and_its_id_refused(by_operator: bool) -> None:
    """Rules 15 and 16; Mesos case 34."""
    world = running(task("t1"))

    commands = world.tear_down() if by_operator else world.call(Teardown())
    at_once = world.subscribe(framework())
    world.restart()
    after_failover = world.subscribe(framework())

    assert orders(commands) == [ShutdownFramework(F)]
    assert [refusal.code for refusal in refusals(commands + at_once + after_failover)] == [RefusalCode.REMOVED] * 3


def test_removal_is_durable_before_the_framework_or_its_agents_are_told() -> None:
    world = running(task("t1"))

    commands = world.tear_down()

    assert isinstance(commands[0], Persist)


def test_what_a_removed_framework_used_returns_when_its_tasks_have_ended() -> None:
    """Rule 7; Mesos case 44."""
    world = running(task("t1"))
    world.subscribe(framework("g"))
    assert sum(offer.resources.cpu_millis for offer in offers_in(world.tear_down())) == 3000

    commands = world.report(said("t1", TaskState.TASK_KILLED, 2))

    assert shape(offers_in(commands)) == [("a1", 1000)]
    assert orders(commands) == [AcknowledgeUpdate(F, TaskId("t1"), 2)]


def test_updates_of_a_removed_framework_are_acknowledged_by_the_master() -> None:
    world = running(task("t1"), task("t2"))
    world.report(said("t1", FINISHED, 2))
    world.tear_down()

    late = world.report(said("t1", FINISHED, 2), said("t2", TaskState.TASK_KILLING, 2))

    assert orders(late) == [AcknowledgeUpdate(F, TaskId("t1"), 2), AcknowledgeUpdate(F, TaskId("t2"), 2)]


def test_tearing_down_twice_changes_nothing() -> None:
    """Rule 20."""
    world = given(framework())
    world.tear_down()

    commands = world.tear_down()

    assert len(commands) == 1
    assert answer(commands) is None


def test_an_operator_is_told_that_there_is_no_such_framework() -> None:
    assert isinstance(answer(given().tear_down("nobody")), NotFound)


def test_the_oldest_removed_frameworks_are_forgotten_above_a_bound() -> None:
    world = given(settings=CoreSettings(completed_frameworks=2))
    for name in ("f1", "f2", "f3"):
        world.subscribe(framework(name))
        world.tear_down(name)

    assert list(world.master.cluster.completed) == ["f2", "f3"]
    assert "frameworks/f1" not in world.disk


def test_a_removed_framework_whose_tasks_still_run_is_remembered_and_keeps_none_else() -> None:
    world = given(agent(), settings=CoreSettings(completed_frameworks=2))
    for name in ("f1", "f2", "f3", "f4"):
        world.subscribe(framework(name))
        if name == "f1":
            world.run(task("t1"), by="f1")
        world.tear_down(name)
    assert list(world.master.cluster.completed) == ["f1", "f4"]

    world.report(said("t1", TaskState.TASK_KILLED, 1, framework_id="f1"))
    world.subscribe(framework("f5"))
    world.tear_down("f5")

    assert list(world.master.cluster.completed) == ["f4", "f5"]


def test_above_its_bound_of_frameworks_the_cluster_refuses_more() -> None:
    world = given(framework("f"), settings=CoreSettings(max_frameworks=1))

    assert "max_frameworks" in refusals(world.subscribe(framework("g")))[0].message
    assert [item.code for item in refusals(world.subscribe(framework("f")))] == [RefusalCode.SUPERSEDED]


def test_demand_is_kept_by_role_and_its_bound_is_named() -> None:
    world = given(framework(), settings=CoreSettings(max_demands_per_role=2))
    too_many = tuple(demand(f"d{number}") for number in range(3))

    world.call(UpdateDemand(Role("f"), too_many[:2]))
    refused = refused_calls(world.call(UpdateDemand(Role("f"), too_many)))
    alien = refused_calls(world.call(UpdateDemand(Role("g"), ())))

    client = world.master.cluster.frameworks[F].clients[Role("f")]
    assert [wanted.demand for wanted in client.wanted.values()] == list(too_many[:2])
    assert refused == [
        ("update_demand", "update_demand.demands: 3 is not allowed; allowed: at most 2 (max_demands_per_role)")
    ]
    assert alien == [("update_demand", "roles: 'g' is not allowed; allowed: those of the framework: f")]


def test_a_framework_may_have_no_agents_and_an_agent_no_frameworks() -> None:
    assert offers_in(given(framework()).turn()) == []
    assert offers_in(given(agent()).turn()) == []


def test_a_receipt_of_a_removed_framework_is_not_heeded() -> None:
    world = running(task("t1"))
    stream = world.stream()
    world.tear_down()

    commands = world.master.handle(SchedulerCalled(stream, receipt("t1", 1)), world.now)

    assert orders(commands) == []
