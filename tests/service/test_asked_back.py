"""What the service does when the master asks for resources back."""

from __future__ import annotations

import pytest

from runrig.ids import AgentId, TaskId
from runrig.offers import InverseOffer, InverseOfferReason, InverseOffersEnded, InverseOffersMade
from runrig.resources import Resources
from runrig.tasks import Reason, TaskState
from runrig.wants import Connected
from runrig_service.core.questions import ShowApp
from tests.service.runner import Runner
from tests.service.test_service import change, given, show

DRAIN, MAINTENANCE, PREEMPTION = InverseOfferReason.DRAIN, InverseOfferReason.MAINTENANCE, InverseOfferReason.PREEMPTION


def ask_back(runner: Runner, reason: InverseOfferReason, *task_ids: TaskId, inverse_offer_id: str = "i1") -> None:
    agent_id, deadline_ms = AgentId("agent-h1"), int(runner.now + 600) * 1000
    offer = InverseOffer(inverse_offer_id, reason, agent_id, "h1", task_ids, Resources(cpu_millis=1), deadline_ms)
    runner.tell(InverseOffersMade((offer,)))


def test_on_a_drained_agent_an_instance_is_replaced_before_it_is_stopped() -> None:
    runner = given(instances=2)
    first, second = runner.running

    ask_back(runner, DRAIN, first)

    [replacement] = runner.waiting
    assert runner.stopping == []
    runner.start([replacement])
    assert runner.stopping == [first]
    runner.bury()
    assert set(runner.running) == {second, replacement}
    assert runner.waiting == []


def test_a_replacement_with_checks_must_serve_before_the_old_one_is_stopped() -> None:
    runner = given(healthChecks=[{"protocol": "COMMAND", "command": {"value": "true"}}])
    [first] = runner.running
    ask_back(runner, DRAIN, first)
    [replacement] = runner.waiting

    runner.start([replacement])
    assert runner.stopping == []
    runner.change(replacement, TaskState.TASK_RUNNING, healthy=True)

    assert runner.stopping == [first]


def test_of_each_app_one_instance_is_replaced_at_a_time() -> None:
    runner = given(instances=3)
    before = runner.running
    ask_back(runner, DRAIN, *before)

    for number, task_id in enumerate(before):
        [replacement] = runner.waiting
        runner.start([replacement])
        assert runner.stopping == [task_id]
        assert len(runner.running) == 3
        runner.bury()
        assert len(set(before) & set(runner.running)) == 2 - number

    assert runner.waiting == []


@pytest.mark.parametrize("least, stops_first", [(1.0, False), (0.5, True)])
def test_where_no_more_than_are_wanted_may_exist_the_old_one_goes_first_if_fewer_may_serve(
    least: float, stops_first: bool
) -> None:
    runner = given(instances=2, upgradeStrategy={"minimumHealthCapacity": least, "maximumOverCapacity": 0})

    ask_back(runner, DRAIN, runner.running[0])

    assert (len(runner.stopping), len(runner.waiting)) == ((1, 0) if stops_first else (0, 1))
    runner.settle()
    assert len(runner.running) == 2


def test_fewer_may_serve_is_not_used_where_one_more_may_exist() -> None:
    runner = given(instances=2, upgradeStrategy={"minimumHealthCapacity": 0, "maximumOverCapacity": 1})

    ask_back(runner, DRAIN, *runner.running)

    assert (len(runner.stopping), len(runner.waiting)) == (0, 1)


def test_a_drain_that_is_called_off_leaves_what_runs_and_drops_what_waits() -> None:
    runner = given(instances=2)
    before = runner.running
    ask_back(runner, DRAIN, *before)
    assert len(runner.waiting) == 1

    runner.tell(InverseOffersEnded(("i1",)))

    assert (runner.running, runner.stopping, runner.waiting) == (before, [], [])


def test_what_was_asked_back_in_another_session_counts_once_it_is_told_again() -> None:
    runner = given(instances=2)
    before = runner.running
    ask_back(runner, DRAIN, *before)

    runner.tell(Connected())
    assert runner.waiting == []
    ask_back(runner, DRAIN, *before, inverse_offer_id="i2")
    runner.settle()

    assert not set(before) & set(runner.running)
    assert len(runner.running) == 2


def test_an_instance_that_two_inverse_offers_name_is_asked_back_until_both_have_ended() -> None:
    runner = given()
    [task_id] = runner.running
    ask_back(runner, DRAIN, task_id)
    ask_back(runner, DRAIN, task_id, inverse_offer_id="i2")

    runner.tell(InverseOffersEnded(("i1",)))
    assert len(runner.waiting) == 1
    runner.tell(InverseOffersEnded(("i2", "never heard of")))

    assert runner.waiting == []


def test_what_the_drain_kills_at_its_deadline_is_replaced_at_once_and_no_failure() -> None:
    runner = given()
    [task_id] = runner.running
    ask_back(runner, DRAIN, task_id)
    [replacement] = runner.waiting

    runner.change(task_id, TaskState.TASK_KILLED, reason=Reason.AGENT_DRAINED)

    assert runner.waiting == [replacement]


def test_instances_that_must_make_room_are_stopped_at_once_and_replaced_when_they_have_ended() -> None:
    runner = given(instances=3)
    first, second, third = runner.running

    ask_back(runner, PREEMPTION, first, second)

    assert (runner.stopping, runner.waiting, runner.running) == ([first, second], [], [third])
    runner.bury()
    assert len(runner.waiting) == 2


def test_a_preempted_instance_is_replaced_without_a_delay() -> None:
    runner = given()
    [task_id] = runner.running

    runner.change(task_id, TaskState.TASK_KILLED, reason=Reason.PREEMPTED)

    assert len(runner.waiting) == 1


def test_planned_maintenance_changes_nothing_and_is_answered() -> None:
    runner = given(instances=2)

    ask_back(runner, MAINTENANCE, *runner.running)

    assert (runner.stopping, runner.waiting) == ([], [])
    assert [answer.is_accepted for answer in runner.inverse_answers] == [False]


def test_what_is_meant_to_be_done_is_answered() -> None:
    runner = given(instances=2)

    ask_back(runner, DRAIN, runner.running[0])
    ask_back(runner, PREEMPTION, runner.running[1], TaskId("unknown"), inverse_offer_id="i2")

    assert [(each.inverse_offer_id, each.is_accepted) for each in runner.inverse_answers] == [
        ("i1", True),
        ("i2", True),
    ]


def test_a_change_in_the_middle_of_a_drain_comes_to_its_end() -> None:
    runner = given(instances=3)
    before = runner.running
    ask_back(runner, DRAIN, *before)

    change(runner, {"cmd": "serve better"})
    runner.settle()

    assert not set(before) & set(runner.running)
    assert len(runner.running) == 3
    assert show(runner)["deployments"] == []


def test_a_drain_that_finds_no_room_does_not_hold_up_the_end_of_a_change() -> None:
    runner = given(instances=2)
    ask_back(runner, DRAIN, *runner.running)

    change(runner, {"instances": 3})
    runner.start(runner.waiting[:1])

    answer = runner.answer(ShowApp("/web"))
    assert isinstance(answer, dict)
    assert answer["deployments"] == []
