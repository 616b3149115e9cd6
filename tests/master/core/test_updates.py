"""Rules 7, 8, 9 and 20: what agents say of tasks, and the receipts on their way back."""

from __future__ import annotations

from runrig.agents import AcknowledgeUpdate, TaskNotHere
from runrig.ids import AgentId, FrameworkId, TaskId
from runrig.offers import Acknowledge, Acknowledgement, TasksUpdated
from runrig.tasks import Reason, TaskState
from runrig_master.core.events import AgentReported
from runrig_master.core.settings import CoreSettings
from tests.master.core.cluster import (
    FINISHED,
    RUNNING,
    F,
    agent,
    framework,
    given,
    launch_on,
    news,
    of,
    offers_in,
    orders,
    receipt,
    running,
    said,
    states,
    task,
    updates,
)

FAILED = TaskState.TASK_FAILED


def test_an_update_reaches_its_framework_as_the_agent_said_it() -> None:
    world = given(agent(), framework())
    world.run(task("t1"))
    update = said("t1", RUNNING, 1)

    commands = world.report(update)

    assert updates(commands) == [update]


def test_a_receipt_reaches_the_agent_and_is_cumulative() -> None:
    world = running(task("t1"))
    world.report(said("t1", TaskState.TASK_KILLING, 2))

    commands = world.call(receipt("t1", 2))

    assert orders(commands) == [AcknowledgeUpdate(F, TaskId("t1"), 2)]
    assert world.master.cluster.frameworks[F].tasks[TaskId("t1")].unacknowledged == []


def test_a_later_update_does_not_wait_for_the_receipt_of_an_earlier_one() -> None:
    world = running(task("t1"))

    assert [update.number for update in updates(world.report(said("t1", FINISHED, 2)))] == [2]


def test_an_update_that_is_repeated_before_its_receipt_is_passed_on_and_changes_nothing() -> None:
    """Rule 20; Mesos case 55."""
    world = running(task("t1"))
    world.report(said("t1", FINISHED, 2))

    commands = world.report(said("t1", FINISHED, 2))

    assert [update.number for update in updates(commands)] == [2]
    assert offers_in(commands) == []
    assert len(world.master.cluster.frameworks[F].tasks[TaskId("t1")].unacknowledged) == 2


def test_an_update_that_is_repeated_after_its_receipt_is_acknowledged_again_and_not_passed_on() -> None:
    """Rule 20; Mesos case 55."""
    world = running(task("t1"))
    world.call(receipt("t1", 1))

    commands = world.report(said("t1", number=1))

    assert updates(commands) == []
    assert orders(commands) == [AcknowledgeUpdate(F, TaskId("t1"), 1)]


def test_the_last_update_of_a_finished_task_is_acknowledged_again_when_it_is_repeated() -> None:
    world = running(task("t1"))
    world.report(said("t1", FINISHED, 2))
    world.call(receipt("t1", 2))

    commands = world.report(said("t1", FINISHED, 2))

    assert orders(commands) == [AcknowledgeUpdate(F, TaskId("t1"), 2)]


def test_receipts_of_what_was_never_said_change_nothing() -> None:
    """Rule 20; Mesos case 55."""
    world = running(task("t1"))

    assert world.call(receipt("t1", 7)) == []
    assert world.call(receipt("t1", 0)) == []
    assert world.call(receipt("t1", 1)) != []
    assert world.call(receipt("t1", 1)) == []


def test_an_update_that_was_overtaken_by_the_end_is_no_news() -> None:
    """Rule 8: whoever knows the end would take it for another state; the receipt of the end covers it."""
    world = running(task("t1"))
    world.report(said("t1", FINISHED, 3))

    commands = world.report(said("t1", TaskState.TASK_KILLING, 2))

    assert updates(commands) == []
    assert world.master.cluster.frameworks[F].tasks[TaskId("t1")].state is FINISHED


def test_a_task_that_has_ended_never_changes() -> None:
    """Rule 8."""
    world = running(task("t1"))
    world.report(said("t1", FINISHED, 2))
    known = world.master.cluster.frameworks[F].tasks[TaskId("t1")]

    for state in (RUNNING, FAILED, TaskState.TASK_UNREACHABLE):
        world.witness.said.clear()
        world.report(said("t1", state, known.latest + 1))

    assert known.state is FINISHED
    assert known.status.number == 2


def test_a_scheduler_that_returns_gets_what_it_has_not_acknowledged() -> None:
    """Mesos case 36."""
    world = running(task("t1"), task("t2"))
    world.lose_framework()
    world.report(said("t1", FINISHED, 2))

    commands = world.subscribe(framework())

    assert [(update.task_id, update.number) for update in updates(commands)] == [("t1", 1), ("t1", 2), ("t2", 1)]


def test_updates_for_a_scheduler_that_was_away_go_out_in_messages_of_a_bounded_size() -> None:
    specs = [task(f"t{number}", cpus=0.001, mem_mib=1) for number in range(2_500)]
    world = given(agent(), framework())
    world.run(*specs)
    for spec in specs:
        world.handle(AgentReported(world.streams["a1"], said(spec.task_id)))
    world.lose_framework()

    commands = world.subscribe(framework())

    assert len(updates(commands)) == 2_500
    assert max(len(item.updates) for item in of(TasksUpdated, news(commands))) <= 1_000


def test_updates_kept_for_a_scheduler_that_is_away_are_bounded() -> None:
    world = given(agent(), framework(), settings=CoreSettings(unacknowledged_per_task=3))
    world.run(task("t1"))
    world.lose_framework()
    for number in range(1, 10):
        world.report(said("t1", number=number))

    assert [update.number for update in updates(world.subscribe(framework()))] == [7, 8, 9]


def test_what_the_master_says_has_no_number_and_is_not_kept() -> None:
    """Rule 9."""
    world = given(agent(), framework())
    world.turn()

    commands = world.accept(launch_on(world.offers(), task("t1", cpus=99)))
    world.lose_framework()

    assert [update.number for update in updates(commands)] == [0]
    assert updates(world.subscribe(framework())) == []


def test_an_update_of_a_task_that_the_master_does_not_know_is_passed_on_with_its_receipt() -> None:
    world = running(task("t1"))

    told = world.report(said("stranger", RUNNING, 1))
    back = world.call(receipt("stranger", 1))

    assert states(told) == [("stranger", "TASK_RUNNING", Reason.NONE)]
    assert orders(back) == [AcknowledgeUpdate(F, TaskId("stranger"), 1)]


def test_an_agent_cannot_speak_of_anothers_task() -> None:
    world = given(agent("a1"), agent("a2"), framework())
    world.run(task("t1"))
    [known] = world.master.cluster.frameworks[F].tasks.values()
    other = "a2" if known.agent.id == "a1" else "a1"

    commands = world.report(said("t1", FINISHED, 1, agent_id=known.agent.id), by=other)

    assert updates(commands) == []
    assert known.state is TaskState.TASK_STAGING


def test_a_launch_that_was_lost_on_the_way_becomes_dropped() -> None:
    """Rule 12."""
    world = given(agent(), framework())
    world.run(task("t1", cpus=4, mem_mib=4096))

    commands = world.report(TaskNotHere(F, TaskId("t1")))

    assert states(commands) == [("t1", "TASK_DROPPED", Reason.LAUNCH_LOST)]
    assert len(offers_in(commands)) == 1


def test_not_here_said_again_changes_nothing() -> None:
    """Rule 20."""
    world = given(agent(), framework())
    world.run(task("t1"))
    world.report(TaskNotHere(F, TaskId("t1")))

    assert world.report(TaskNotHere(F, TaskId("t1"))) == []
    assert world.report(TaskNotHere(FrameworkId("nobody"), TaskId("t1"))) == []


def test_not_here_of_another_agent_changes_nothing() -> None:
    world = given(agent("a1"), framework())
    world.run(task("t1"))
    world.connect(agent("a2"))

    assert states(world.report(TaskNotHere(F, TaskId("t1")), by="a2")) == []


def test_a_task_keeps_its_place_in_the_list_of_those_that_ended_until_newer_ones_fill_it() -> None:
    world = given(agent(), framework(), settings=CoreSettings(ended_tasks_per_framework=2))
    for number in range(4):
        world.run(task(f"t{number}"))
        world.report(said(f"t{number}", FINISHED, 1))
        world.call(receipt(f"t{number}", 1))

    assert list(world.master.cluster.frameworks[F].ended) == ["t2", "t3"]


def test_receipts_for_several_tasks_come_in_one_call() -> None:
    world = running(task("t1"), task("t2"))
    receipts = tuple(Acknowledgement(TaskId(name), AgentId("a1"), 1) for name in ("t1", "t2"))

    assert [order.task_id for order in of(AcknowledgeUpdate, orders(world.call(Acknowledge(receipts))))] == ["t1", "t2"]
