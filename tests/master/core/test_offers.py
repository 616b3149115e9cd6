"""Rules 1 and 7: an offer holds, ends once, and what returns is offered again at once."""

from __future__ import annotations

from dataclasses import replace

from runrig.agents import AgentChanged
from runrig.offers import FrameworkInfo, RescindReason, UpdateFramework
from runrig_master.core.settings import CoreSettings
from tests.master.core.cluster import (
    FINISHED,
    NO_FILTER,
    agent,
    framework,
    given,
    launch_on,
    offers_in,
    renamed,
    rescinded,
    running,
    said,
    shape,
    states,
    task,
)

TIMEOUT_S = CoreSettings().offer_timeout_s


def test_an_offer_holds_all_that_one_agent_has_free_for_one_role_of_one_framework() -> None:
    world = given(agent("a1", cpus=4, ports="[31000-31009]", attributes=(("rack", "r1"),)), framework("f", "eng"))

    [offer] = offers_in(world.turn())

    assert (offer.agent_id, offer.role, offer.hostname) == ("a1", "eng", "host-a1")
    assert offer.resources == agent("a1", cpus=4, ports="[31000-31009]").resources
    assert offer.attribute("rack") == "r1"
    assert offer.agent_address == "a1:5051"


def test_what_is_offered_to_one_framework_is_not_offered_to_another() -> None:
    world = given(agent(), framework("f"), framework("g"))

    offers = offers_in(world.turn()) + offers_in(world.turn(after=1.0))

    assert len(offers) == 1


def test_an_offer_not_answered_in_time_is_rescinded_and_made_anew() -> None:
    """Rule 1; Mesos case 8."""
    world = given(agent(), framework())
    [offer] = offers_in(world.turn())

    commands = world.turn(after=TIMEOUT_S)

    assert rescinded(commands) == [(offer.offer_id, RescindReason.EXPIRED)]
    [again] = offers_in(commands)
    assert again.offer_id != offer.offer_id


def test_an_offer_stands_until_its_time_is_over() -> None:
    world = given(agent(), framework())
    world.turn()

    assert rescinded(world.turn(after=TIMEOUT_S - 0.001)) == []


def test_the_master_asks_to_be_woken_when_the_oldest_offer_expires() -> None:
    world = given(agent("a1"), framework())
    world.turn()
    world.connect(agent("a2"), after=10.0)

    assert world.master.next_deadline() == world.now - 10.0 + TIMEOUT_S


def test_an_offer_is_not_rescinded_once_it_was_used_or_declined() -> None:
    """Mesos case 9."""
    world = given(agent("a1"), agent("a2"), framework())
    world.turn()
    used, declined = world.offers()
    world.accept(launch_on(used, task("t1", cpus=4, mem_mib=4096)))
    world.decline(declined)

    assert rescinded(world.turn(after=TIMEOUT_S + 1)) == [] != world.offers()


def test_an_offer_that_expired_cannot_be_used() -> None:
    world = given(agent(), framework())
    [offer] = offers_in(world.turn())
    world.turn(after=TIMEOUT_S)

    commands = world.accept(launch_on(offer, task("t1")))

    assert [state for _, state, _ in states(commands)] == ["TASK_DROPPED"]


def test_what_a_task_used_is_offered_again_in_the_turn_in_which_its_end_is_known() -> None:
    """Rule 7: on the terminal state reaching the master, not on its acknowledgement; Mesos cases 3 and 10."""
    world = running(task("t1", cpus=3))
    [left] = world.offers()
    assert left.resources.cpu_millis == 1000

    commands = world.report(said("t1", FINISHED, 2))

    assert shape(offers_in(commands)) == [("a1", 3000)]


def test_an_unacknowledged_earlier_update_does_not_hold_resources_back() -> None:
    """Rule 7; Mesos case 11."""
    world = given(agent(), framework())
    world.run(task("t1", cpus=4, mem_mib=4096))
    world.report(said("t1", number=1))

    commands = world.report(said("t1", FINISHED, 3))

    assert shape(offers_in(commands)) == [("a1", 4000)]


def test_what_an_accept_leaves_is_offered_again_once_its_filter_is_over() -> None:
    world = given(agent(), framework())
    world.turn()

    commands = world.accept(launch_on(world.offers(), task("t1", cpus=1)))

    assert offers_in(commands) == []
    assert shape(offers_in(world.turn(after=5.0))) == [("a1", 3000)]


def test_without_a_filter_what_an_accept_leaves_is_offered_again_at_once() -> None:
    world = given(agent(), framework())
    world.turn()

    commands = world.accept(launch_on(world.offers(), task("t1", cpus=1)), filter_=NO_FILTER)

    assert shape(offers_in(commands)) == [("a1", 3000)]


def test_what_a_framework_that_left_was_offered_goes_to_another_at_once() -> None:
    """Mesos case 44."""
    world = given(agent(), framework("f"))
    world.turn()
    world.subscribe(framework("g"))

    commands = world.lose_framework("f")

    assert [offer.role for offer in offers_in(commands)] == ["g"]
    assert rescinded(commands) == []


def test_ports_and_disk_alone_are_not_offered() -> None:
    world = given(agent(cpus=1, mem_mib=128, ports="[31000-31009]", disk_mib=100), framework())
    world.turn()

    commands = world.accept(launch_on(world.offers(), task("t1", cpus=1, mem_mib=128)), filter_=NO_FILTER)

    assert offers_in(commands) == []


def test_an_agent_that_changes_has_its_offers_replaced() -> None:
    world = given(agent(cpus=4), framework())
    [offer] = offers_in(world.turn())

    commands = world.report(AgentChanged(agent(cpus=8)))

    assert rescinded(commands) == [(offer.offer_id, RescindReason.AGENT_CHANGED)]
    assert shape(offers_in(commands)) == [("a1", 8000)]


def test_an_agent_none_of_whose_runtimes_can_be_used_is_not_offered() -> None:
    world = given(agent(), framework())
    [offer] = offers_in(world.turn())

    dead = world.report(AgentChanged(replace(agent(), runtimes=())))
    back = world.report(AgentChanged(agent()))

    assert rescinded(dead) == [(offer.offer_id, RescindReason.AGENT_CHANGED)]
    assert offers_in(dead) == []
    assert shape(offers_in(back)) == [("a1", 4000)]


def test_an_agent_that_says_again_what_is_known_of_it_changes_nothing() -> None:
    """Rule 20."""
    world = given(agent(), framework())
    world.turn()

    assert world.report(AgentChanged(agent())) == []


def test_an_agent_cannot_speak_of_another_agent() -> None:
    world = given(agent("a1"), agent("a2"), framework())
    world.turn()

    assert world.report(AgentChanged(agent("a2", cpus=99)), by="a1") == []


def test_an_agent_that_shrinks_below_what_it_runs_offers_no_more_than_it_has() -> None:
    world = running(task("t1", cpus=2), task("t2", cpus=2))

    world.report(AgentChanged(agent(cpus=2.5)))
    assert sum(offer.resources.cpu_millis for offer in world.offers()) == 0
    commands = world.report(said("t1", FINISHED, 2))

    assert shape(offers_in(commands)) == [("a1", 500)]
    commands = world.report(said("t2", FINISHED, 2))
    assert sum(offer.resources.cpu_millis for offer in world.offers()) == 2500


def test_a_role_that_a_framework_leaves_has_its_offers_rescinded_and_its_tasks_left_alone() -> None:
    """Mesos cases 18 and 60 (update_framework_tests:618)."""
    world = given(agent("a1"), agent("a2"), framework("f", "eng", "ops"))
    world.turn()
    eng, ops = sorted(world.offers(), key=lambda offer: offer.role)
    world.accept(launch_on(ops, task("t1")), filter_=NO_FILTER)
    left = FrameworkInfo("f", (eng.role,), framework("f").framework_id, 3_600_000)

    commands = world.call(UpdateFramework(left))

    assert {reason for _, reason in rescinded(commands)} == {RescindReason.FRAMEWORK_CHANGED}
    assert {offer.role for offer in offers_in(commands)} == {"eng"}
    assert states(commands) == []
    assert [kept.state.name for kept in world.master.cluster.frameworks[renamed(left).framework_id].tasks.values()] == [
        "TASK_STAGING"
    ]


def test_offers_go_out_in_messages_of_a_bounded_size() -> None:
    world = given(*(agent(f"a{number:05}") for number in range(2_500)), framework())

    commands = world.turn()

    assert len(offers_in(commands)) == 2_500
    assert len(commands) > 2
