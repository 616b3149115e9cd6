"""Rules 10, 11, 17 (deactivation) and 19: agents come, go silent, come back, and are marked gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runrig.agents import AgentChanged, KillTask, Register, Registered, ShutdownFramework, TaskNotHere
from runrig.errors import Conflict, NotFound
from runrig.ids import FrameworkId, TaskId
from runrig.offers import RefusalCode, RescindReason
from runrig.tasks import Reason, TaskState
from runrig_master.core.commands import AgentRecord, Persist, SendToAgent, SendToScheduler
from runrig_master.core.events import AgentReported, AgentStreamClosed
from runrig_master.core.settings import CoreSettings
from tests.master.core.cluster import (
    FINISHED,
    RUNNING,
    F,
    World,
    agent,
    alarms,
    answer,
    found,
    framework,
    given,
    launch_on,
    launched,
    of,
    offers_in,
    orders,
    receipt,
    refusals,
    rescinded,
    running,
    said,
    shape,
    states,
    task,
    updates,
)

SILENCE_S = CoreSettings().silence_timeout_s
GONE = TaskState.TASK_GONE_BY_OPERATOR


def marked(count: int, world: World) -> int:
    """Let time pass and return how many agents were marked unreachable."""
    for _ in range(count * 4):
        world.turn(after=1.0)
    records = world.disk.values()
    return sum(isinstance(record, AgentRecord) and record.is_unreachable for record in records)


def silent(agents: int, lost: int, settings: CoreSettings) -> World:
    """Return a world in which some of its agents left long ago, all at once."""
    world = given(*(agent(f"a{number}") for number in range(agents)), framework(), settings=settings)
    world.turn(*(AgentStreamClosed(world.streams.pop(f"a{number}"), world.now) for number in range(lost)))
    world.now += settings.silence_timeout_s
    return world


# Coming


def test_an_agent_is_admitted_durably_before_it_is_told() -> None:
    world = World()

    commands = world.connect(agent())

    kinds = [type(command) for command in commands if isinstance(command, Persist | SendToAgent)]
    assert kinds == [Persist, SendToAgent]
    [registered] = of(Registered, orders(commands))
    assert (registered.cluster_id, registered.silence_timeout_ms, registered.heartbeat_ms) == ("c1", 75_000, 15_000)


def test_an_agent_that_comes_back_as_it_was_costs_no_write() -> None:
    world = given(agent())
    world.lose_agent()

    assert of(Persist, world.connect(agent())) == []


def test_the_first_report_must_be_a_registration() -> None:
    world = given()

    commands = world.turn(AgentReported(world.new_stream("a1"), said("t1")))

    assert [refusal.code for refusal in refusals(commands)] == [RefusalCode.OUT_OF_ORDER]
    assert "register" in refusals(commands)[0].message


def test_an_agent_that_registers_again_on_its_stream_is_refused_and_comes_back_on_a_new_one() -> None:
    world = given(agent(), framework())
    world.turn()
    stream = world.streams["a1"]

    commands = world.turn(AgentReported(stream, Register(agent(), 99, 0)))

    assert [refusal.code for refusal in refusals(commands)] == [RefusalCode.OUT_OF_ORDER]
    assert orders(commands) == []
    world.lose_agent()
    assert len(of(Registered, orders(world.connect(agent(), session=100)))) == 1


def test_a_registration_that_was_overtaken_is_refused() -> None:
    """Rule 20."""
    world = given()
    world.connect(agent(), session=7)
    stream = world.streams["a1"]

    commands = world.connect(agent(), session=7)

    assert [refusal.code for refusal in refusals(commands)] == [RefusalCode.SUPERSEDED]
    assert world.master.cluster.agents[agent().agent_id].stream == stream
    world.streams["a1"] = stream


def test_an_agent_that_connects_anew_before_its_old_stream_was_missed_takes_over() -> None:
    """Mesos cases 23 and 27."""
    world = running(task("t1"))
    old = world.streams["a1"]
    [offer] = world.offers()

    commands = world.connect(agent(), found("t1"))
    late = world.turn(AgentStreamClosed(old, world.now))

    assert [refusal.code for refusal in refusals(commands)] == [RefusalCode.OUT_OF_ORDER]
    assert (offer.offer_id, RescindReason.AGENT_LEFT) in rescinded(commands)
    assert shape(offers_in(commands)) == [("a1", 3000)]
    assert late == []
    assert of(KillTask, orders(commands)) == []


def test_an_agent_that_has_seen_a_later_epoch_is_refused() -> None:
    world = given()

    commands = world.turn(world.registration(agent(), epoch=2))

    assert [refusal.code for refusal in refusals(commands)] == [RefusalCode.STALE_EPOCH]


def test_above_its_bound_of_agents_the_cluster_refuses_more() -> None:
    world = given(agent("a1"), settings=CoreSettings(max_agents=1))

    assert "max_agents" in refusals(world.connect(agent("a2")))[0].message
    world.lose_agent("a1")
    assert refusals(world.connect(agent("a1"))) == []


def test_an_agent_brings_the_tasks_of_a_framework_that_the_store_has_lost() -> None:
    """Mesos case 15."""
    world = World()

    commands = world.connect(agent(), found("t1"))

    assert alarms(commands) == ["framework known only by its tasks"]
    returned = world.subscribe(framework())
    assert refusals(returned) == []
    assert shape(offers_in(returned)) == [("a1", 3000)]


# Leaving


def test_when_an_agents_stream_breaks_its_offers_are_rescinded_and_its_tasks_left_alone() -> None:
    """Rule 10."""
    world = running(task("t1"))
    [offer] = world.offers()

    commands = world.lose_agent()

    assert rescinded(commands) == [(offer.offer_id, RescindReason.AGENT_LEFT)]
    assert states(commands) == []
    assert states(world.turn(after=SILENCE_S - 0.1)) == []


def test_an_agent_that_is_silent_for_too_long_is_unreachable_first_durably_then_for_its_tasks() -> None:
    """Rule 10."""
    world = running(task("t1"), task("t2"))
    world.lose_agent()

    commands = world.turn(after=SILENCE_S)

    first = next(number for number, item in enumerate(commands) if isinstance(item, Persist))
    told = next(number for number, item in enumerate(commands) if isinstance(item, SendToScheduler))
    assert first < told
    assert states(commands) == [
        ("t1", "TASK_UNREACHABLE", Reason.AGENT_UNREACHABLE),
        ("t2", "TASK_UNREACHABLE", Reason.AGENT_UNREACHABLE),
    ]
    assert {update.number for update in updates(commands)} == {0}


def test_silence_is_counted_from_when_the_agent_was_last_heard() -> None:
    world = running(task("t1"))
    world.now += 60.0
    world.turn(AgentStreamClosed(world.streams.pop("a1"), world.now - 60.0))

    assert states(world.turn(after=SILENCE_S - 60.0)) != []


def test_the_resources_of_an_unreachable_agent_leave_the_pool() -> None:
    """Rule 10."""
    world = running(task("t1"))
    world.lose_agent()
    world.turn(after=SILENCE_S)
    cluster = world.master.cluster

    assert cluster.tree.total.cpu_millis == 0
    assert cluster.frameworks[F].clients[framework().roles[0]].holding.cpu_millis == 0


def test_the_master_asks_to_be_woken_when_an_agent_becomes_unreachable() -> None:
    world = given(agent())
    world.lose_agent()

    assert world.master.next_deadline() == world.now + SILENCE_S


def test_a_task_that_had_ended_keeps_its_end_when_its_agent_becomes_unreachable() -> None:
    """Mesos case 26."""
    world = running(task("t1"))
    world.report(said("t1", FINISHED, 2))
    world.lose_agent()

    assert states(world.turn(after=SILENCE_S)) == []


def test_agents_are_marked_unreachable_at_a_limited_rate() -> None:
    """Rule 10; Mesos case 14."""
    world = silent(8, 4, CoreSettings(unreachable_per_s=1.0))

    counts = [marked(0, world)]
    for _ in range(6):
        world.turn(after=1.0)
        counts.append(marked(0, world))

    assert counts == [0, 1, 2, 3, 4, 4, 4]


def test_marking_stops_loudly_above_the_configured_fraction() -> None:
    """Rule 10."""
    world = silent(20, 15, CoreSettings(unreachable_fraction=0.5))

    heard = [text for _ in range(40) for text in alarms(world.turn(after=1.0))]

    assert marked(0, world) == 10
    assert sum("no more are marked" in text for text in heard) == 1
    assert world.master.next_deadline() is None or world.master.next_deadline() > world.now  # type: ignore[operator]


def test_marking_goes_on_once_enough_agents_are_back() -> None:
    world = silent(20, 15, CoreSettings(unreachable_fraction=0.5))
    marked(10, world)

    for number in range(3):
        world.connect(agent(f"a{number}"))

    assert marked(5, world) == 10


def test_a_small_cluster_marks_all_its_agents() -> None:
    world = silent(3, 3, CoreSettings())

    assert marked(3, world) == 3


def test_an_agent_that_returns_in_time_is_not_marked() -> None:
    """Mesos case 14 (cancel)."""
    world = running(task("t1"))
    world.lose_agent()
    world.connect(agent(), found("t1"), after=SILENCE_S - 1)

    assert states(world.turn(after=SILENCE_S)) == []


# Coming back


def test_an_agent_that_returns_keeps_its_tasks_running() -> None:
    """Rule 11; Mesos case 21."""
    world = running(task("t1"))
    world.lose_agent()
    world.turn(after=SILENCE_S)

    commands = world.connect(agent(), found("t1"))

    assert states(commands) == [("t1", "TASK_RUNNING", Reason.AGENT_RETURNED)]
    assert of(KillTask, orders(commands)) == []
    assert shape(offers_in(commands)) == [("a1", 3000)]


def test_an_agent_that_returns_to_another_master_says_that_its_tasks_run() -> None:
    """Rule 8: the framework was told by the former master that they are unreachable, and waits for their state."""
    world = running(task("t1"))
    world.call(receipt("t1", 1))
    world.lose_agent()
    world.turn(after=SILENCE_S)
    world.restart()
    world.subscribe(framework())

    commands = world.connect(agent(), found("t1"))

    assert states(commands) == [("t1", "TASK_RUNNING", Reason.AGENT_RETURNED)]


def test_a_task_that_ended_while_its_agent_was_away_has_ended() -> None:
    """Rule 11; Mesos case 25."""
    world = running(task("t1"))
    world.lose_agent()
    world.turn(after=SILENCE_S)

    commands = world.connect(agent(), found("t1", FINISHED, 2))

    assert shape(offers_in(commands)) == [("a1", 4000)]
    assert states(world.report(said("t1", FINISHED, 2))) == [("t1", "TASK_FINISHED", Reason.NONE)]


def test_a_task_that_the_agent_never_heard_of_is_dropped() -> None:
    """Rules 11 and 12; Mesos case 45."""
    world = given(agent(), framework())
    world.run(task("t1", cpus=4, mem_mib=4096))
    world.lose_agent()

    commands = world.connect(agent())

    assert states(commands) == [("t1", "TASK_DROPPED", Reason.LAUNCH_LOST)]
    assert shape(offers_in(commands)) == [("a1", 4000)]


def test_a_task_that_the_agent_has_forgotten_is_lost() -> None:
    """Rule 11; Mesos case 45."""
    world = running(task("t1"))
    world.lose_agent()

    assert states(world.connect(agent())) == [("t1", "TASK_LOST", Reason.AGENT_FORGOT_TASK)]


def test_a_task_that_ended_and_that_the_agent_has_forgotten_keeps_its_end() -> None:
    """Mesos case 47."""
    world = running(task("t1"))
    world.report(said("t1", FINISHED, 2))
    world.lose_agent()

    assert states(world.connect(agent())) == []
    assert world.master.cluster.frameworks[F].tasks == {}


def test_a_task_that_is_still_being_launched_is_kept() -> None:
    """Mesos cases 46 and 47."""
    world = given(agent(), framework())
    world.run(task("t1"))
    world.lose_agent()

    commands = world.connect(agent(), found("t1", TaskState.TASK_STAGING, 0))

    assert states(commands) == []
    assert states(world.report(said("t1", RUNNING, 1))) == [("t1", "TASK_RUNNING", Reason.NONE)]


def test_tasks_of_a_framework_that_was_removed_meanwhile_are_killed() -> None:
    """Rule 11; Mesos cases 22 and 57."""
    world = running(task("t1"))
    world.lose_agent()
    world.tear_down()

    commands = world.connect(agent(), found("t1"))

    assert of(ShutdownFramework, orders(commands)) == [ShutdownFramework(F)]
    assert world.master.cluster.agents[agent().agent_id].used.cpu_millis == 1000
    world.report(said("t1", TaskState.TASK_KILLED, 2))
    assert world.master.cluster.agents[agent().agent_id].used.cpu_millis == 0


def test_tasks_of_a_framework_that_was_removed_before_a_failover_are_killed() -> None:
    world = running(task("t1"))
    world.tear_down()
    world.restart()

    commands = world.connect(agent(), found("t1"))

    assert of(ShutdownFramework, orders(commands)) == [ShutdownFramework(F)]


def test_a_task_that_was_given_up_and_is_reported_again_is_killed() -> None:
    """Rule 8: its framework was told that it has ended, and may have started another in its place; Mesos case 19."""
    world = running(task("t1"))
    world.lose_agent()
    world.connect(agent())
    world.lose_agent()

    commands = world.connect(agent(), found("t1"))

    assert [order.task_id for order in of(KillTask, orders(commands))] == ["t1"]
    assert states(commands) == []


def test_two_agents_that_report_one_task_are_noticed() -> None:
    world = running(task("t1"))

    commands = world.connect(agent("a2"), found("t1", agent_id="a2"))

    assert alarms(commands) == ["two agents report one task"]
    assert world.master.cluster.frameworks[F].tasks[TaskId("t1")].agent.id == "a1"


def test_tasks_that_an_agent_reports_may_use_more_than_it_has() -> None:
    world = given(framework())

    world.connect(agent(cpus=2, ports="[31000]"), found("t1", cpus=2, ports="[31000]"), found("t2", ports="[31000]"))
    assert world.master.cluster.agents[agent().agent_id].is_overcommitted
    world.report(said("t2", FINISHED, 2))
    world.report(said("t1", FINISHED, 2))

    assert not world.master.cluster.agents[agent().agent_id].is_overcommitted
    assert sum(offer.resources.cpu_millis for offer in world.offers()) == 2000


def test_reporting_a_task_twice_is_reporting_it_once() -> None:
    """Rule 20."""
    world = given(framework())

    world.connect(agent(), found("t1"), found("t1"))

    assert shape(world.offers()) == [("a1", 3000)]


# Failover


def test_after_a_failover_an_agent_is_offered_when_it_is_back_and_not_before() -> None:
    """Rule 19."""
    world = given(agent("a1"), agent("a2"), framework())
    world.restart()

    commands = world.subscribe(framework())
    returned = world.connect(agent("a2"))

    assert offers_in(commands) == []
    assert shape(offers_in(returned)) == [("a2", 4000)]


def test_an_agent_that_does_not_return_after_a_failover_is_unreachable_in_the_end() -> None:
    """Mesos cases 12 and 17."""
    world = running(task("t1"))
    world.restart()
    world.subscribe(framework())

    commands = world.turn(after=CoreSettings().agent_return_timeout_s)

    assert world.disk["agents/a1"] == AgentRecord(agent(), is_unreachable=True, since=world.now)
    assert states(commands) == []
    assert states(world.connect(agent(), found("t1"))) == [("t1", "TASK_RUNNING", Reason.AGENT_RETURNED)]


def test_tasks_come_back_with_their_agents_after_a_failover() -> None:
    world = running(task("t1"))
    world.restart()
    world.subscribe(framework())

    commands = world.connect(agent(), found("t1"))

    assert shape(offers_in(commands)) == [("a1", 3000)]
    assert orders(world.call(receipt("t1", 1))) != []


# Deactivation


def test_an_agent_on_which_nothing_can_run_is_not_offered_until_something_can() -> None:
    bare = replace(agent(), runtimes=())
    world = given(bare, framework())

    assert offers_in(world.turn()) == []
    assert len(offers_in(world.report(AgentChanged(agent())))) == 1
    assert offers_in(world.report(AgentChanged(bare))) == [] == world.offers()


def test_a_deactivated_agent_has_no_offers_and_keeps_its_tasks() -> None:
    """Rule 17."""
    world = running(task("t1"))
    [offer] = world.offers()

    commands = world.deactivate()

    assert rescinded(commands) == [(offer.offer_id, RescindReason.AGENT_DEACTIVATED)]
    assert states(commands) == []
    assert offers_in(world.report(said("t1", FINISHED, 2))) == []
    assert shape(offers_in(world.reactivate())) == [("a1", 4000)]


def test_deactivation_survives_a_failover_and_a_reconnection() -> None:
    """Rule 17."""
    world = given(agent(), framework())
    world.deactivate()
    world.restart()
    world.subscribe(framework())

    assert offers_in(world.connect(agent())) == []
    assert len(offers_in(world.reactivate())) == 1


def test_deactivating_twice_changes_nothing() -> None:
    """Rule 20."""
    world = given(agent(), framework())
    world.deactivate()

    assert answer(world.deactivate()) is None
    assert world.offers() == []


@pytest.mark.parametrize("is_deactivated", [True, False])
def test_only_agents_that_are_known_and_not_gone_can_be_deactivated(is_deactivated: bool) -> None:
    world = given(agent())
    act = world.deactivate if is_deactivated else world.reactivate

    assert isinstance(answer(act("nobody")), NotFound)
    world.mark_gone()
    assert isinstance(answer(act("a1")), Conflict)


def test_an_unreachable_agent_that_is_deactivated_stays_unreachable() -> None:
    world = given(agent())
    world.lose_agent()
    world.turn(after=SILENCE_S)
    world.deactivate()

    record = world.disk["agents/a1"]

    assert isinstance(record, AgentRecord)
    assert (record.is_unreachable, record.is_deactivated) == (True, True)


# Gone


@pytest.mark.parametrize("away_s", [None, 1.0, SILENCE_S + 1])
def test_the_tasks_of_an_agent_that_is_gone_are_gone(away_s: float | None) -> None:
    world = running(task("t1"))
    if away_s is not None:
        world.lose_agent()
        world.turn(after=away_s)

    commands = world.mark_gone()

    assert states(commands) == [("t1", "TASK_GONE_BY_OPERATOR", Reason.AGENT_GONE)]
    assert [refusal.code for refusal in refusals(commands)] == ([RefusalCode.GONE] if away_s is None else [])
    assert answer(commands) is None


def test_an_agent_that_is_gone_is_never_admitted_again() -> None:
    world = running(task("t1"))
    world.mark_gone()

    before = world.connect(agent(), found("t1"))
    world.restart()
    after = world.connect(agent(), found("t1"))

    assert [refusal.code for refusal in refusals(before) + refusals(after)] == [RefusalCode.GONE] * 2
    assert orders(before) == orders(after) == []


def test_marking_gone_twice_changes_nothing() -> None:
    """Rule 20."""
    world = running(task("t1"))
    world.mark_gone()

    commands = world.mark_gone()

    assert answer(commands) is None
    assert len(commands) == 1


def test_the_last_words_of_an_agent_that_is_gone_change_nothing() -> None:
    world = running(task("t1"))
    stream = world.streams["a1"]
    world.mark_gone()

    commands = world.turn(AgentReported(stream, TaskNotHere(FrameworkId("f"), TaskId("t1"))))
    closed = world.turn(AgentStreamClosed(stream, world.now))

    assert states(commands) == []
    assert orders(commands) == []
    assert closed == []
    assert world.master.cluster.agents[agent().agent_id].presence.value == "gone"


def test_a_task_cannot_be_launched_on_an_agent_that_left() -> None:
    """Mesos code rule 18."""
    world = given(agent(), framework())
    [offer] = offers_in(world.turn())
    world.lose_agent()

    commands = world.accept(launch_on(offer, task("t1")))

    assert states(commands) == [("t1", "TASK_DROPPED", Reason.INVALID_OFFERS)]
    assert launched(commands) == []
