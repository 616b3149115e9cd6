"""Rule 13, and kills that operators ask."""

from __future__ import annotations

import pytest

from runrig.agents import KillTask
from runrig.errors import Conflict, NotFound
from runrig.ids import TaskId
from runrig.offers import Kill
from runrig.tasks import Reason, TaskState
from runrig_master.core.events import SchedulerCalled
from tests.master.core.cluster import (
    FINISHED,
    F,
    agent,
    answer,
    found,
    framework,
    given,
    of,
    orders,
    receipt,
    recovering,
    running,
    said,
    states,
    task,
)

T1 = TaskId("t1")


def test_a_kill_goes_to_the_agent_with_its_grace() -> None:
    world = running(task("t1"))

    assert orders(world.call(Kill(T1, 1_500))) == [KillTask(F, T1, 1_500, Reason.KILLED_BY_FRAMEWORK)]


def test_a_kill_of_a_task_that_has_not_been_heard_of_goes_to_the_agent() -> None:
    """Rule 13: the agent lets the kill win over its launch; Mesos case 58."""
    world = given(agent(), framework())
    world.run(task("t1"))

    assert orders(world.call(Kill(T1))) == [KillTask(F, T1, None, Reason.KILLED_BY_FRAMEWORK)]


@pytest.mark.parametrize("second, grace", [(500, 500), (9_000, 2_000), (None, 2_000)])
def test_a_second_kill_may_shorten_the_grace_and_never_lengthens_it(second: int | None, grace: int) -> None:
    """Rule 13."""
    world = running(task("t1"))
    world.call(Kill(T1, 2_000))

    [order] = of(KillTask, orders(world.call(Kill(T1, second))))

    assert order.grace_ms == grace


def test_a_kill_of_an_unknown_task_is_answered_as_a_reconciliation() -> None:
    """Rule 13; Mesos case 1."""
    world = given(agent(), framework())

    assert states(world.call(Kill(T1))) == [("t1", "TASK_UNKNOWN", Reason.RECONCILIATION)]


def test_a_kill_of_a_task_whose_agent_may_yet_return_is_no_verdict() -> None:
    """Rule 14; Mesos case 2."""
    world = running(task("t1"))
    world.restart()
    world.subscribe(framework())

    commands = world.call(Kill(T1))

    assert recovering(commands) == ["t1"]
    assert states(commands) == []


def test_a_kill_of_a_task_that_has_ended_is_answered_with_its_end() -> None:
    world = running(task("t1"))
    world.report(said("t1", FINISHED, 2))

    unacknowledged = world.call(Kill(T1))
    world.call(receipt("t1", 2))
    acknowledged = world.call(Kill(T1))

    assert [state for _, state, _ in states(unacknowledged) + states(acknowledged)] == ["TASK_FINISHED"] * 2
    assert orders(unacknowledged) == orders(acknowledged) == []


@pytest.mark.parametrize("is_unreachable", [False, True])
def test_a_kill_asked_while_the_agent_is_away_is_delivered_when_it_returns(is_unreachable: bool) -> None:
    """Rule 11; Mesos case 57."""
    world = running(task("t1"), task("t2"))
    world.lose_agent()
    if is_unreachable:
        world.turn(after=100.0)
    assert orders(world.call(Kill(T1, 100))) == []

    commands = world.connect(agent(), found("t1"), found("t2"))

    assert of(KillTask, orders(commands)) == [KillTask(F, T1, 100, Reason.KILLED_BY_FRAMEWORK)]


def test_no_kill_is_delivered_to_a_task_that_ended_meanwhile() -> None:
    world = running(task("t1"))
    world.lose_agent()
    world.call(Kill(T1))

    commands = world.connect(agent(), found("t1", TaskState.TASK_FAILED, 2))

    assert of(KillTask, orders(commands)) == []


def test_a_scheduler_that_was_overtaken_kills_nothing() -> None:
    """Mesos case 37."""
    world = running(task("t1"))
    old = world.stream()
    world.subscribe(framework())

    commands = world.master.handle(SchedulerCalled(old, Kill(T1)), world.now)

    assert orders(commands) == []


def test_a_framework_cannot_kill_anothers_task() -> None:
    world = running(task("t1"))
    world.subscribe(framework("g"))

    commands = world.call(Kill(T1), by="g")

    assert orders(commands) == []
    assert states(commands) == [("t1", "TASK_UNKNOWN", Reason.RECONCILIATION)]


def test_an_operator_kills_a_task() -> None:
    world = running(task("t1"))

    commands = world.kill_as_operator("t1", grace_ms=0)

    assert orders(commands) == [KillTask(F, T1, 0, Reason.KILLED_BY_OPERATOR)]
    assert answer(commands) is None


@pytest.mark.parametrize("task_id, name", [("nonsense", "f"), ("t1", "nobody")])
def test_an_operator_is_told_that_there_is_no_such_task(task_id: str, name: str) -> None:
    world = running(task("t1"))

    assert isinstance(answer(world.kill_as_operator(task_id, name)), NotFound)


def test_an_operator_is_told_that_a_task_has_ended() -> None:
    world = running(task("t1"))
    world.report(said("t1", FINISHED, 2))

    error = answer(world.kill_as_operator("t1"))

    assert isinstance(error, Conflict)
    assert "TASK_FINISHED" in str(error)
