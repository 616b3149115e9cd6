"""Rule 17, and times at which agents will be away."""

from __future__ import annotations

import pytest

from runrig.agents import KillTask
from runrig.errors import Conflict, InvalidInput, NotFound
from runrig.ids import AgentId, TaskId
from runrig.offers import (
    AnswerInverseOffer,
    InverseOffer,
    InverseOfferReason,
    InverseOffersMade,
    Kill,
    OffersMade,
    RescindReason,
    Subscribed,
)
from runrig.reservations import Unavailability
from runrig.resources import Resources
from runrig.tasks import Reason, TaskState
from runrig_master.core.commands import AgentRecord, AnswerOperator, Drain, Persist, SendToScheduler
from runrig_master.core.events import DeactivationAsked, DrainAsked, QuestionId, UnavailabilityAsked
from runrig_master.core.settings import CoreSettings
from tests.master.core.cluster import (
    FINISHED,
    RUNNING,
    START,
    F,
    World,
    agent,
    alarms,
    answer,
    asked_back,
    done_with,
    found,
    framework,
    given,
    launch_on,
    launched,
    news,
    notes,
    of,
    offers_in,
    orders,
    receipt,
    rescinded,
    running,
    said,
    states,
    task,
)

KILLED = TaskState.TASK_KILLED
A1 = AgentId("a1")
T1, T2 = TaskId("t1"), TaskId("t2")
NOW_MS = int(START * 1000)
DRAIN = InverseOfferReason.DRAIN
MAINTENANCE = InverseOfferReason.MAINTENANCE
TOMORROW = Unavailability(NOW_MS + 86_400_000, 3_600_000)
EMPTY = "agent is drained"


def record(world: World, name: str = "a1") -> AgentRecord:
    """Return what the store has of an agent."""
    found_record = world.disk[f"agents/{name}"]
    assert isinstance(found_record, AgentRecord)
    return found_record


def kills(commands: object) -> list[tuple[str, int | None, Reason]]:
    """Return task, grace and reason of the kills that agents are told."""
    return [(order.task_id, order.grace_ms, order.reason) for order in of(KillTask, orders(commands))]  # type: ignore[arg-type]


# Draining


def test_an_agent_that_is_drained_gets_no_offers() -> None:
    """Rule 17."""
    world = given(agent(), framework())
    world.turn()
    [offer] = world.offers()

    commands = world.drain()

    assert rescinded(commands) == [(offer.offer_id, RescindReason.AGENT_DEACTIVATED)]
    assert offers_in(commands) == offers_in(world.turn(after=60.0)) == []
    assert offers_in(world.subscribe(framework("g"))) == []


def test_a_drain_is_durable_before_anybody_is_told() -> None:
    world = running(task("t1"))

    commands = world.drain(notice_ms=60_000, grace_ms=1_000)

    assert record(world).drain == Drain(NOW_MS + 60_000, 1_000, then_gone=False)
    written = next(place for place, command in enumerate(commands) if isinstance(command, Persist))
    told = next(
        place for place, command in enumerate(commands) if isinstance(command, SendToScheduler | AnswerOperator)
    )
    assert written < told


def test_frameworks_with_tasks_on_a_drained_agent_are_asked_to_end_them_in_their_own_way() -> None:
    """Rule 17."""
    world = given(agent(), framework("f"), framework("g"), framework("h"))
    world.run(task("t1"), task("t2", cpus=0.5), by="f")
    world.decline(*world.offers("f"), by="f")
    world.run(task("t3"), by="g")

    commands = world.drain(notice_ms=60_000)

    until = NOW_MS + 60_000
    assert asked_back(world.to("f", commands)) == [
        InverseOffer("i1-1", DRAIN, A1, "host-a1", (T1, T2), Resources(1500, 256), until)
    ]
    assert asked_back(world.to("g", commands)) == [
        InverseOffer("i1-2", DRAIN, A1, "host-a1", (TaskId("t3"),), Resources(1000, 128), until)
    ]
    assert asked_back(world.to("h", commands)) == []
    assert orders(commands) == []


def test_a_drain_without_a_notice_of_its_own_has_the_masters() -> None:
    world = running(task("t1"))

    [inverse] = asked_back(world.drain())

    assert inverse.deadline_unix_ms == NOW_MS + int(CoreSettings().drain_notice_s * 1000)


def test_what_still_runs_at_the_deadline_of_a_drain_is_killed_with_its_grace() -> None:
    """Rule 17; Mesos case 59."""
    world = running(task("t1"), task("t2"))
    world.drain(notice_ms=60_000, grace_ms=2_000)
    world.report(said("t2", FINISHED, 2))

    before = world.turn(after=59.9)
    at = world.turn(after=0.1)

    assert kills(before) == []
    assert kills(at) == [("t1", 2_000, Reason.AGENT_DRAINED)]
    assert done_with(at) == ["i1-1"]
    assert kills(world.turn(after=60.0)) == []


def test_the_master_wakes_at_the_deadline_of_a_drain() -> None:
    world = given(agent())
    world.drain(notice_ms=60_000)

    assert world.master.next_deadline() == START + 60.0


def test_a_drain_without_a_grace_leaves_tasks_their_own() -> None:
    world = running(task("t1"))

    assert kills(world.drain(notice_ms=0)) == [("t1", None, Reason.AGENT_DRAINED)]


def test_without_notice_tasks_are_killed_at_once_and_nobody_is_asked() -> None:
    world = running(task("t1"))

    commands = world.drain(notice_ms=0)

    assert kills(commands) == [("t1", None, Reason.AGENT_DRAINED)]
    assert asked_back(commands) == []
    assert done_with(commands) == []


@pytest.mark.parametrize("theirs, at_the_deadline", [(500, []), (9_000, [2_000]), (None, [2_000])])
def test_a_kill_under_way_may_have_less_time_left_at_the_deadline_and_never_more(
    theirs: int | None, at_the_deadline: list[int]
) -> None:
    """Rule 13; the end is still the framework's."""
    world = running(task("t1"))
    world.drain(notice_ms=60_000, grace_ms=2_000)
    world.call(Kill(T1, theirs))

    commands = world.turn(after=60.0)

    assert kills(commands) == [("t1", grace, Reason.KILLED_BY_FRAMEWORK) for grace in at_the_deadline]


def test_an_agent_is_drained_once_all_its_tasks_have_ended_and_that_is_acknowledged() -> None:
    """Rule 17."""
    world = running(task("t1"), task("t2"))
    world.drain()

    one = world.report(said("t1", FINISHED, 2)) + world.call(receipt("t1", 2))
    ended = world.report(said("t2", FINISHED, 2))
    acknowledged = world.call(receipt("t2", 2))

    assert EMPTY not in notes(one) + notes(ended)
    assert notes(acknowledged) == [EMPTY]
    assert world.master.cluster.agents[A1].is_drained
    assert not record(world).is_gone
    assert notes(world.turn(after=600.0)) == []
    assert offers_in(world.turn()) == []


def test_an_agent_without_tasks_is_drained_at_once() -> None:
    assert EMPTY in notes(given(agent()).drain())


def test_an_agent_that_is_to_be_gone_after_its_drain_is_marked_gone_when_it_is_empty() -> None:
    """Mesos case 59."""
    world = running(task("t1"))
    world.drain(then_gone=True)
    world.report(said("t1", FINISHED, 2))
    assert not record(world).is_gone

    commands = world.call(receipt("t1", 2))

    assert record(world).is_gone
    assert record(world).drain is None
    assert alarms(commands) == ["agent marked gone"]
    assert states(commands) == []


def test_a_launch_on_an_offer_that_was_rescinded_by_a_drain_is_dropped() -> None:
    """Mesos case 59: a draining agent takes no new tasks."""
    world = given(agent(), framework())
    world.turn()
    [offer] = world.offers()
    world.drain()

    commands = world.accept(launch_on(offer, task("t1")))

    assert states(commands) == [("t1", "TASK_DROPPED", Reason.INVALID_OFFERS)]
    assert launched(commands) == []


def test_a_launch_that_was_accepted_before_a_drain_is_asked_back_and_killed_like_what_runs() -> None:
    world = given(agent(), framework())
    world.run(task("t1"))

    [inverse] = asked_back(world.drain(notice_ms=60_000))
    killed = world.turn(after=60.0)

    assert inverse.task_ids == ("t1",)
    assert kills(killed) == [("t1", None, Reason.AGENT_DRAINED)]
    assert EMPTY in notes(world.report(said("t1", KILLED)) + world.call(receipt("t1")))


def test_a_task_that_ends_is_no_longer_asked_for_and_the_last_ends_the_inverse_offer() -> None:
    world = running(task("t1"), task("t2"))
    world.drain()

    first = world.report(said("t1", FINISHED, 2))
    last = world.report(said("t2", FINISHED, 2))

    assert done_with(first) == []
    assert done_with(last) == ["i1-1"]


def test_a_scheduler_that_subscribes_hears_of_the_drains_that_last() -> None:
    world = running(task("t1"), task("t2"))
    world.drain(notice_ms=60_000)
    world.lose_framework()
    world.report(said("t1", FINISHED, 2))

    commands = world.subscribe(framework(), after=10.0)

    [inverse] = asked_back(commands)
    assert (inverse.task_ids, inverse.deadline_unix_ms) == (("t2",), NOW_MS + 60_000)
    kinds = [type(item) for item in news(commands)]
    assert kinds.index(Subscribed) < kinds.index(InverseOffersMade)


def test_tasks_of_an_absent_framework_are_killed_at_the_deadline_and_hold_the_agent_until_they_are_acknowledged() -> (
    None
):
    world = running(task("t1"))
    world.lose_framework()
    assert asked_back(world.drain(notice_ms=60_000)) == []

    killed = world.turn(after=60.0)
    ended = world.report(said("t1", KILLED, 2, reason=Reason.AGENT_DRAINED))
    world.subscribe(framework())

    assert kills(killed) == [("t1", None, Reason.AGENT_DRAINED)]
    assert EMPTY not in notes(ended)
    assert EMPTY in notes(world.call(receipt("t1", 2)))


def test_an_agent_is_drained_without_the_receipts_of_a_framework_that_is_removed() -> None:
    world = running(task("t1"), task("t2"))
    world.drain()
    world.report(said("t1", FINISHED, 2))

    removed = world.tear_down()
    ended = world.report(said("t2", KILLED, 2))

    assert EMPTY not in notes(removed)
    assert EMPTY in notes(ended)


def test_what_is_said_last_of_a_drain_counts() -> None:
    world = running(task("t1"))
    world.drain(notice_ms=60_000)

    commands = world.drain(notice_ms=120_000, grace_ms=7)

    assert done_with(commands) == ["i1-1"]
    assert [inverse.deadline_unix_ms for inverse in asked_back(commands)] == [NOW_MS + 120_000]
    assert kills(world.turn(after=60.0)) == []
    assert kills(world.turn(after=60.0)) == [("t1", 7, Reason.AGENT_DRAINED)]


# The end of a drain


def test_an_agent_that_is_activated_while_it_is_drained_goes_on_as_before() -> None:
    """Mesos case 59 has this refused: here an operator who thinks again calls the drain off."""
    world = running(task("t1"))
    world.drain(notice_ms=60_000)

    commands = world.reactivate()

    assert answer(commands) is None
    assert record(world).drain is None
    assert done_with(commands) == ["i1-1"]
    assert len(offers_in(commands)) == 1
    assert kills(world.turn(after=60.0)) == []


def test_an_agent_that_was_drained_and_is_activated_is_offered_again() -> None:
    world = given(agent(), framework())
    world.drain()

    commands = world.reactivate()

    assert [offer.resources for offer in offers_in(commands)] == [agent().resources]
    assert not world.master.cluster.agents[A1].is_drained


def test_kills_that_wait_for_an_agent_are_forgotten_when_its_drain_is_called_off() -> None:
    world = running(task("t1"))
    world.drain(notice_ms=0)
    world.lose_agent()

    world.reactivate()

    assert kills(world.connect(agent(), found("t1"))) == []


def test_a_deactivated_agent_can_be_drained_and_is_activated_by_one_word() -> None:
    world = given(agent(), framework())
    world.deactivate()
    world.drain()

    assert len(offers_in(world.reactivate())) == 1


# Agents that are away


def test_an_agent_that_is_away_at_the_deadline_is_told_to_kill_when_it_returns() -> None:
    """Mesos case 59: a disconnected agent; rule 11."""
    world = running(task("t1"))
    world.drain(notice_ms=10_000, grace_ms=5)
    world.lose_agent()
    assert kills(world.turn(after=10.0)) == []

    commands = world.connect(agent(), found("t1"))

    assert kills(commands) == [("t1", 5, Reason.AGENT_DRAINED)]
    assert offers_in(commands) == []


def test_an_unreachable_agent_drains_when_it_returns() -> None:
    """Mesos case 59."""
    world = running(task("t1"))
    world.lose_agent()
    world.turn(after=100.0)

    asked = world.drain(notice_ms=60_000)
    returned = world.connect(agent(), found("t1"), after=10.0)

    assert asked_back(asked) == []
    assert EMPTY not in notes(asked)
    assert [inverse.task_ids for inverse in asked_back(returned)] == [("t1",)]
    assert kills(returned) == []
    assert kills(world.turn(after=50.0)) == [("t1", None, Reason.AGENT_DRAINED)]


def test_tasks_that_return_after_the_deadline_are_killed_at_once() -> None:
    world = running(task("t1"))
    world.lose_agent()
    world.turn(after=100.0)
    world.drain(notice_ms=10_000)

    commands = world.connect(agent(), found("t1"), after=20.0)

    assert kills(commands) == [("t1", None, Reason.AGENT_DRAINED)]
    assert asked_back(commands) == []


def test_a_drained_agent_that_connects_anew_is_drained_still() -> None:
    world = given(agent(), framework())
    world.drain()
    world.lose_agent()

    commands = world.connect(agent())

    assert EMPTY not in notes(commands)
    assert offers_in(commands) == []
    assert world.master.cluster.agents[A1].is_drained


def test_an_agent_that_comes_back_with_tasks_after_it_was_drained_is_not_drained() -> None:
    world = given(agent(), framework())
    world.drain(notice_ms=0)
    world.lose_agent()

    commands = world.connect(agent(), found("t1"))

    assert kills(commands) == [("t1", None, Reason.AGENT_DRAINED)]
    assert not world.master.cluster.agents[A1].is_drained


# Failovers


def test_a_failover_neither_forgets_a_drain_nor_starts_its_notice_anew() -> None:
    """Rule 17."""
    world = running(task("t1"))
    world.drain(notice_ms=60_000, grace_ms=3)
    world.restart(after=20.0)

    returned = world.connect(agent(), found("t1"))
    subscribed = world.subscribe(framework())
    at = world.turn(after=40.0)

    assert offers_in(returned) == offers_in(subscribed) == []
    assert [inverse.deadline_unix_ms for inverse in asked_back(subscribed)] == [NOW_MS + 60_000]
    assert kills(at) == [("t1", 3, Reason.AGENT_DRAINED)]


def test_a_deadline_that_passed_without_a_master_holds_for_what_the_agent_returns_with() -> None:
    """Rule 17."""
    world = running(task("t1"))
    world.drain(notice_ms=10_000)

    started = world.restart(after=60.0)
    returned = world.connect(agent(), found("t1"))

    assert EMPTY not in notes(started)
    assert kills(returned) == [("t1", None, Reason.AGENT_DRAINED)]


def test_after_a_failover_an_agent_is_gone_only_once_it_has_said_that_it_is_empty() -> None:
    world = running(task("t1"))
    world.drain(then_gone=True)
    world.restart()
    world.subscribe(framework())
    world.turn(after=10.0)
    assert not record(world).is_gone

    world.connect(agent())

    assert record(world).is_gone


def test_an_agent_that_has_not_come_back_is_not_drained_whatever_is_known_of_it() -> None:
    world = running(task("t1"))
    world.restart()

    asked = world.drain(notice_ms=0)
    returned = world.connect(agent(), found("t1"))

    assert EMPTY not in notes(asked)
    assert kills(returned) == [("t1", None, Reason.AGENT_DRAINED)]


# What frameworks answer


def test_what_a_framework_means_to_do_is_kept_for_people() -> None:
    world = running(task("t1"))
    world.drain()

    commands = world.call(AnswerInverseOffer("i1-1", is_accepted=False, reason="it is the last replica"))

    [inverse] = world.master.cluster.inverse_offers.of_agent(A1)
    assert inverse.answer == AnswerInverseOffer("i1-1", False, "it is the last replica")
    assert commands == []
    assert kills(world.turn(after=300.0)) == [("t1", None, Reason.AGENT_DRAINED)]


@pytest.mark.parametrize("by, inverse_id", [("f", "i1-9"), ("f", ""), ("g", "i1-1")])
def test_an_answer_to_what_was_not_asked_changes_nothing(by: str, inverse_id: str) -> None:
    """Rule 20."""
    world = running(task("t1"))
    world.subscribe(framework("g"))
    world.drain()

    commands = world.call(AnswerInverseOffer(inverse_id, is_accepted=True), by=by)

    assert commands == []
    assert [each.answer for each in world.master.cluster.inverse_offers.standing.values()] == [None]


# Unavailability


def test_offers_say_when_their_agent_will_be_away() -> None:
    world = given(agent(), framework())
    world.turn()
    [before] = world.offers()

    commands = world.plan_absence(TOMORROW)

    assert before.unavailability is None
    assert rescinded(commands) == [(before.offer_id, RescindReason.AGENT_CHANGED)]
    assert [offer.unavailability for offer in offers_in(commands)] == [TOMORROW]


def test_frameworks_with_tasks_on_an_agent_are_told_when_it_will_be_away_and_nothing_is_killed() -> None:
    world = running(task("t1"))
    start = Unavailability(NOW_MS + 60_000)

    commands = world.plan_absence(start)

    expected = InverseOffer("i1-1", MAINTENANCE, A1, "host-a1", (T1,), Resources(1000, 128), 0, start)
    assert asked_back(commands) == [expected]
    assert orders(commands) == orders(world.turn(after=120.0)) == []
    assert done_with(world.report(said("t1", FINISHED, 2))) == ["i1-1"]


def test_a_scheduler_that_subscribes_hears_when_the_agents_of_its_tasks_will_be_away() -> None:
    world = running(task("t1"))
    world.plan_absence(TOMORROW)

    [inverse] = asked_back(world.subscribe(framework()))

    assert inverse.unavailability == TOMORROW


def test_a_plan_that_is_changed_ends_what_was_said_of_the_last() -> None:
    world = running(task("t1"))
    world.plan_absence(TOMORROW)
    later = Unavailability(TOMORROW.start_unix_ms + 1, 5)

    changed = world.plan_absence(later)
    cleared = world.plan_absence(None)

    assert done_with(changed) == ["i1-1"]
    assert [inverse.unavailability for inverse in asked_back(changed)] == [later]
    assert done_with(cleared) == ["i1-2"]
    assert record(world).unavailability is None
    assert [offer.unavailability for offer in offers_in(cleared)] == [None]


def test_a_plan_that_is_said_twice_changes_nothing() -> None:
    """Rule 20."""
    world = running(task("t1"))
    world.plan_absence(TOMORROW)

    commands = world.plan_absence(TOMORROW)

    assert [type(command) for command in commands] == [AnswerOperator]


def test_a_time_away_that_is_over_is_dropped_by_itself() -> None:
    world = running(task("t1"))
    world.plan_absence(Unavailability(NOW_MS + 10_000, 20_000))

    before = world.turn(after=29.9)
    after = world.turn(after=0.1)

    assert news(before) == []
    assert done_with(after) == ["i1-1"]
    assert record(world).unavailability is None
    assert [offer.unavailability for offer in offers_in(after)] == [None]


def test_a_failover_does_not_forget_when_agents_will_be_away() -> None:
    world = running(task("t1"))
    world.plan_absence(TOMORROW)
    world.restart()
    world.connect(agent(), found("t1"))

    commands = world.subscribe(framework())

    assert [inverse.unavailability for inverse in asked_back(commands)] == [TOMORROW]
    assert [offer.unavailability for offer in offers_in(commands)] == [TOMORROW]


def test_a_time_away_that_ended_without_a_master_is_dropped_when_one_begins() -> None:
    world = given(agent())
    world.plan_absence(Unavailability(NOW_MS + 1_000, 1_000))

    world.restart(after=5.0)

    assert record(world).unavailability is None


def test_several_agents_are_planned_to_be_away_at_once() -> None:
    world = given(agent("a1"), agent("a2"), agent("a3"))

    world.plan_absence(TOMORROW, "a1", "a2", "a1")

    assert [record(world, name).unavailability for name in ("a1", "a2", "a3")] == [TOMORROW, TOMORROW, None]


def test_an_agent_that_is_gone_has_no_plans() -> None:
    world = running(task("t1"))
    world.plan_absence(Unavailability(NOW_MS + 1_000, 1_000))
    world.drain(notice_ms=5_000)

    commands = world.mark_gone()

    assert (record(world).drain, record(world).unavailability) == (None, None)
    assert set(done_with(commands)) == {"i1-1", "i1-2"}
    assert world.turn(after=10.0) == []


# What cannot be


@pytest.mark.parametrize("name, kind", [("nobody", NotFound), ("a2", Conflict)])
def test_only_agents_that_are_known_and_not_gone_are_drained_or_planned_for(name: str, kind: type) -> None:
    world = given(agent("a1"), agent("a2"))
    world.mark_gone("a2")
    before = dict(world.disk)

    drained, planned = world.drain(name), world.plan_absence(TOMORROW, "a1", name)

    assert isinstance(answer(drained), kind)
    assert isinstance(answer(planned), kind)
    assert name in str(answer(drained))
    assert world.disk == before, "for all that are named, or for none"


@pytest.mark.parametrize(
    "notice_ms, grace_ms, says",
    [
        (-1, None, "notice_ms: -1"),
        (2**62, None, "notice_ms: 46116"),
        (None, -5, "grace_ms: -5"),
        (0, 2**62, "grace_ms: "),
    ],
)
def test_a_drain_with_times_that_cannot_be_is_refused_by_name(
    notice_ms: int | None, grace_ms: int | None, says: str
) -> None:
    world = running(task("t1"))

    commands = world.drain(notice_ms=notice_ms, grace_ms=grace_ms)

    error = answer(commands)
    assert isinstance(error, InvalidInput)
    assert str(error).startswith(says)
    assert record(world).drain is None
    assert len(commands) == 1


@pytest.mark.parametrize(
    "window, says",
    [
        (Unavailability(-1, 5), "unavailability.start_unix_ms: -1"),
        (Unavailability(0), "unavailability.start_unix_ms: 0"),
        (Unavailability(2**52, 5), "unavailability.start_unix_ms: "),
        (Unavailability(NOW_MS, -5), "unavailability.duration_ms: -5"),
        (Unavailability(NOW_MS, 2**62), "unavailability.duration_ms: "),
        (Unavailability(NOW_MS - 10, 10), "unavailability.duration_ms: 10"),
    ],
)
def test_a_time_away_that_cannot_be_or_is_over_is_refused_by_name(window: Unavailability, says: str) -> None:
    world = given(agent(), settings=CoreSettings(max_window_distance_s=900_000.0))

    error = answer(world.plan_absence(window))

    assert isinstance(error, InvalidInput)
    assert str(error).startswith(says)
    assert record(world).unavailability is None


def test_a_plan_names_the_agents_that_it_is_for() -> None:
    error = answer(given(agent()).turn(UnavailabilityAsked(QuestionId(1), (), TOMORROW)))

    assert isinstance(error, InvalidInput)
    assert "agent_ids" in str(error)


# Bounds


def test_a_framework_has_so_many_inverse_offers_and_no_more() -> None:
    world = given(
        agent("a1"), agent("a2"), framework(), settings=CoreSettings(inverse_offers_per_framework=1, drain_notice_s=9.0)
    )
    world.run(task("t1"))
    world.run(task("t2"))
    world.report(said("t1"), by="a1")
    world.report(said("t2", agent_id="a2"), by="a2")

    first, second = world.drain("a1"), world.drain("a2")

    assert len(asked_back(first)) == 1
    assert asked_back(second) == []
    assert any("inverse_offers_per_framework" in text for text in alarms(second))
    assert [task_id for task_id, _, _ in kills(world.turn(after=9.0))] == ["t1", "t2"]


def test_very_many_tasks_are_asked_back_in_inverse_offers_of_a_bounded_size() -> None:
    big = agent(mem_mib=1_000_000)
    world = given(framework())
    world.handle(world.registration(big, *[found(f"t{number}", cpus=0.001) for number in range(1_001)]))

    commands = world.drain()

    asked = asked_back(commands)
    assert [len(inverse.task_ids) for inverse in asked] == [1_000, 1]
    assert len(of(InverseOffersMade, news(commands))) == 2, "no message is larger than the largest inverse offer"
    assert sum(inverse.resources.cpu_millis for inverse in asked) == 1_001


def test_inverse_offers_are_told_before_new_offers_of_the_same_turn() -> None:
    world = given(agent("a1"), agent("a2"), framework())
    world.run(task("t1"))

    commands = world.turn(
        DrainAsked(world.question(), A1), world.subscription(framework()), DrainAsked(world.question(), A1)
    )

    kinds = [type(item) for item in news(commands)]
    assert kinds.index(InverseOffersMade) < kinds.index(OffersMade)
    assert len(asked_back(commands)) == 1
    assert done_with(commands) == []


def test_a_scheduler_does_not_hear_of_the_end_of_what_it_was_never_told() -> None:
    world = running(task("t1"))
    world.drain()

    commands = world.turn(DeactivationAsked(world.question(), A1, False), world.subscription(framework()))

    assert asked_back(commands) == []
    assert done_with(commands) == []


def test_running_is_what_a_drain_leaves_alone_until_its_deadline() -> None:
    world = running(task("t1"))
    world.drain(notice_ms=60_000)

    world.lose_agent()
    commands = world.connect(agent(), found("t1", RUNNING, 2), after=30.0)

    assert kills(commands) == []
    assert asked_back(commands) == [], "it stands already"
    assert world.master.cluster.find_task((F, T1)) is not None
