"""Rule 14: what is known of tasks."""

from __future__ import annotations

from runrig.ids import AgentId, TaskId
from runrig.offers import Kill, Reconcile, TaskReference, TasksUpdated
from runrig.tasks import Reason, TaskState
from tests.master.core.cluster import (
    FINISHED,
    World,
    agent,
    found,
    framework,
    given,
    news,
    of,
    receipt,
    recovering,
    running,
    said,
    states,
    task,
    updates,
)


def about(*names: str, agent_id: str = "") -> Reconcile:
    """Ask of tasks by their names."""
    return Reconcile(tuple(TaskReference(TaskId(name), AgentId(agent_id)) for name in names))


def after_failover(*agents: str) -> World:
    """Return a world whose master was restarted, and framework f is back, and `agents` are not."""
    world = given(*(agent(name) for name in agents), framework())
    world.restart()
    world.subscribe(framework())
    return world


def test_a_known_task_is_answered_with_its_latest_state() -> None:
    """Mesos case 29."""
    world = running(task("t1"))
    [before] = updates(world.call(about("t1")))
    world.report(said("t1", FINISHED, 2))
    [after] = updates(world.call(about("t1")))

    assert (before.state, before.reason, before.number) == (TaskState.TASK_RUNNING, Reason.RECONCILIATION, 0)
    assert (after.state, after.number) == (FINISHED, 0)


def test_a_task_that_ended_and_was_acknowledged_is_remembered_for_a_while() -> None:
    world = running(task("t1"))
    world.report(said("t1", FINISHED, 2))
    world.call(receipt("t1", 2))

    assert [state for _, state, _ in states(world.call(about("t1")))] == ["TASK_FINISHED"]


def test_an_unknown_task_is_unknown() -> None:
    """Mesos case 30."""
    world = given(agent(), framework())

    for question in (about("x"), about("x", agent_id="a1"), about("x", agent_id="nobody")):
        assert states(world.call(question)) == [("x", "TASK_UNKNOWN", Reason.RECONCILIATION)]


def test_a_task_of_an_agent_that_is_not_back_is_no_verdict() -> None:
    """Mesos case 31."""
    world = after_failover("a1", "a2")
    world.connect(agent("a2"))

    assert recovering(world.call(about("x", agent_id="a1"))) == ["x"]
    assert recovering(world.call(about("x"))) == ["x"]
    assert states(world.call(about("x", agent_id="a2"))) == [("x", "TASK_UNKNOWN", Reason.RECONCILIATION)]


def test_once_its_agent_is_back_a_task_has_its_state() -> None:
    world = after_failover("a1")
    world.connect(agent("a1"), found("t1"))

    assert states(world.call(about("t1", agent_id="a1"))) == [("t1", "TASK_RUNNING", Reason.RECONCILIATION)]


def test_a_task_of_an_unreachable_agent_is_unreachable() -> None:
    world = running(task("t1"))
    world.lose_agent()
    world.turn(after=100.0)

    known = world.call(about("t1"))
    unknown = world.call(about("x", agent_id="a1"))

    assert [state for _, state, _ in states(known) + states(unknown)] == ["TASK_UNREACHABLE"] * 2


def test_after_a_failover_a_task_of_an_unreachable_agent_is_still_unreachable_and_nothing_else_is_said_of_it() -> None:
    """Mesos case 13."""
    world = running(task("t1"))
    world.lose_agent()
    world.turn(after=100.0)
    restarted = world.restart() + world.subscribe(framework())

    commands = world.call(about("t1", agent_id="a1"))

    assert states(restarted) == []
    assert states(commands) == [("t1", "TASK_UNREACHABLE", Reason.RECONCILIATION)]


def test_a_task_of_an_agent_that_is_gone_is_gone() -> None:
    world = running(task("t1"))
    world.mark_gone()
    world.restart()
    world.subscribe(framework())

    assert [state for _, state, _ in states(world.call(about("t1", agent_id="a1")))] == ["TASK_GONE_BY_OPERATOR"]


def test_implicit_reconciliation_covers_all_that_is_not_finished_and_acknowledged() -> None:
    """Mesos case 32."""
    world = running(task("t1"), task("t2"), task("t3"))
    world.report(said("t2", FINISHED, 2), said("t3", FINISHED, 2))
    world.call(receipt("t3", 2))

    assert [(name, state) for name, state, _ in states(world.call(Reconcile()))] == [
        ("t1", "TASK_RUNNING"),
        ("t2", "TASK_FINISHED"),
    ]


def test_reconciliation_changes_nothing() -> None:
    """Rule 20."""
    world = running(task("t1"))
    first = world.call(about("t1", "x"), Reconcile())

    assert world.call(about("t1", "x"), Reconcile()) == first


def test_answers_go_out_in_messages_of_a_bounded_size() -> None:
    """One message for each task would fill the bound of a stream: a large framework could never reconcile."""
    world = given(agent(), framework())
    world.run(*(task(f"t{number}", cpus=0.001, mem_mib=1) for number in range(2_500)))

    for question in (Reconcile(), about(*(f"t{number}" for number in range(2_500)))):
        commands = world.call(question)
        told = of(TasksUpdated, news(commands))

        assert len(updates(commands)) == 2_500
        assert len(told) == 3


def test_a_question_about_another_frameworks_task_says_nothing_of_it() -> None:
    world = running(task("t1"))
    world.subscribe(framework("g"))

    assert [state for _, state, _ in states(world.call(about("t1"), by="g"))] == ["TASK_UNKNOWN"]


def test_after_a_failover_a_task_without_its_agent_is_not_unknown_while_an_unreachable_agent_may_have_it() -> None:
    """Its framework would be told that it was never launched, and it runs."""
    world = running(task("t1"))
    world.lose_agent()
    world.turn(after=100.0)
    world.restart()
    world.subscribe(framework())

    assert recovering(world.call(about("t1"))) == ["t1"]
    assert recovering(world.call(Kill(TaskId("t1")))) == ["t1"]

    world.connect(agent("a1"), found("t1"))
    assert [state for _, state, _ in states(world.call(about("x")))] == ["TASK_UNKNOWN"]
