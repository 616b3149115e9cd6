"""Rules 2, 3 and 4: what an Accept launches, and what becomes of that which it cannot."""

from __future__ import annotations

import pytest

from runrig.agents import Launch
from runrig.ids import AgentId, OfferId, TaskId
from runrig.offers import Accept, Filter, LaunchGroup, LaunchTasks
from runrig.resources import MAX_AMOUNT, Resources
from runrig.tasks import Reason, TaskSpec
from runrig_master.core.settings import CoreSettings
from tests.master.core.cluster import (
    FINISHED,
    NO_FILTER,
    World,
    agent,
    framework,
    given,
    launch_on,
    launched,
    of,
    offers_in,
    orders,
    receipt,
    running,
    said,
    shape,
    states,
    task,
    updates,
)


def offered(*cpus: int) -> World:
    """Return a world in which framework f has one offer of each of several agents."""
    world = given(*(agent(f"a{number}", count) for number, count in enumerate(cpus, 1)), framework())
    world.turn()
    return world


def test_an_accepted_task_goes_to_its_agent_in_one_order_with_its_group() -> None:
    world = offered(4)

    commands = world.accept(launch_on(world.offers(), task("t1"), task("t2")))

    [order] = of(Launch, orders(commands))
    assert [spec.task_id for spec in order.tasks] == ["t1", "t2"]
    assert (order.framework_id, order.role, order.is_group) == ("f", "f", False)
    assert world.to("a1", commands) != []


def test_operations_run_in_order_against_what_earlier_ones_left() -> None:
    """Rule 2."""
    world = offered(4)
    [offer] = world.offers()
    operations = tuple(LaunchTasks((task(name, cpus),)) for name, cpus in (("t1", 3), ("t2", 2), ("t3", 1)))

    commands = world.accept(LaunchGroup(AgentId("a1"), (offer.offer_id,), operations))

    assert launched(commands) == ["t1", "t3"]
    assert states(commands) == [("t2", "TASK_ERROR", Reason.INVALID_TASK)]
    assert "short of cpu_millis by 1000" in updates(commands)[0].message


def test_several_offers_of_one_agent_carry_one_task() -> None:
    """Mesos case 4."""
    world = running(task("t1", cpus=2))
    world.report(said("t1", FINISHED, 2))
    assert len(world.offers()) == 2

    commands = world.accept(launch_on(world.offers(), task("t2", cpus=4)))

    assert launched(commands) == ["t2"]


def test_one_accept_launches_on_several_agents() -> None:
    """Rule 3."""
    world = offered(1, 2)
    first, second = world.offers()

    commands = world.accept(launch_on(first, task("t1", cpus=1)), launch_on(second, task("t2", cpus=2)))

    assert [spec.task_id for command in world.to("a2", commands) for spec in command.order.tasks] == ["t2"]  # type: ignore[union-attr]
    assert launched(commands) == ["t1", "t2"]


def test_an_accept_without_operations_declines_with_its_filter() -> None:
    world = offered(4)

    assert offers_in(world.accept(launch_on(world.offers()))) == []
    assert offers_in(world.turn(after=4.9)) == []
    assert len(offers_in(world.turn(after=0.1))) == 1


def test_an_unknown_offer_drops_the_tasks_of_its_group_only() -> None:
    """Rule 2."""
    world = offered(4, 4)
    first, second = world.offers()
    bad = LaunchGroup(first.agent_id, (OfferId("o1-999"),), (LaunchTasks((task("t1"), task("t2"))),))

    commands = world.accept(bad, launch_on(second, task("t3")))

    assert states(commands) == [
        ("t1", "TASK_DROPPED", Reason.INVALID_OFFERS),
        ("t2", "TASK_DROPPED", Reason.INVALID_OFFERS),
    ]
    assert launched(commands) == ["t3"]
    assert world.offers() == [first]


def test_the_good_offers_of_a_bad_group_are_released_without_a_filter() -> None:
    """Rule 2."""
    world = offered(4)
    [offer] = world.offers()
    bad = LaunchGroup(offer.agent_id, (offer.offer_id, OfferId("o1-999")), (LaunchTasks((task("t1"),)),))

    commands = world.accept(bad, filter_=Filter(3_600_000))

    assert states(commands) == [("t1", "TASK_DROPPED", Reason.INVALID_OFFERS)]
    assert shape(offers_in(commands)) == [("a1", 4000)]


def test_an_offer_is_spent_once() -> None:
    """Rule 2; Mesos case 6 and code rule 20."""
    world = offered(4)
    [offer] = world.offers()
    world.accept(launch_on(offer, task("t1")))

    commands = world.accept(launch_on(offer, task("t2")))

    assert states(commands) == [("t2", "TASK_DROPPED", Reason.INVALID_OFFERS)]
    assert launched(commands) == []


def test_an_offer_named_twice_in_a_group_drops_its_tasks() -> None:
    """Mesos case 6."""
    world = offered(4)
    [offer] = world.offers()

    commands = world.accept(launch_on([offer, offer], task("t1")))

    assert states(commands) == [("t1", "TASK_DROPPED", Reason.INVALID_OFFERS)]
    assert "named twice" in updates(commands)[0].message
    assert shape(offers_in(commands)) == [("a1", 4000)]


def test_an_offer_named_in_two_groups_counts_for_the_first() -> None:
    world = offered(4)
    [offer] = world.offers()

    commands = world.accept(launch_on(offer, task("t1")), launch_on(offer, task("t2")))

    assert launched(commands) == ["t1"]
    assert states(commands) == [("t2", "TASK_DROPPED", Reason.INVALID_OFFERS)]


def test_an_offer_of_another_framework_drops_the_tasks_and_stays_with_its_owner() -> None:
    world = given(agent(), framework("f"), framework("g"))
    [offer] = offers_in(world.turn())
    thief = "g" if world.offers("f") else "f"

    commands = world.accept(launch_on(offer, task("t1")), by=thief)

    assert states(commands) == [("t1", "TASK_DROPPED", Reason.INVALID_OFFERS)]
    assert offer.offer_id in world.witness.offers
    assert offer.offer_id in world.master.cluster.offers


def test_offers_of_two_agents_in_one_group_drop_its_tasks() -> None:
    """Mesos case 5."""
    world = offered(4, 4)

    commands = world.accept(launch_on(world.offers(), task("t1")))

    assert states(commands) == [("t1", "TASK_DROPPED", Reason.INVALID_OFFERS)]
    assert sorted(shape(offers_in(commands))) == [("a1", 4000), ("a2", 4000)]


def test_an_offer_of_another_agent_than_its_launch_group_drops_its_tasks() -> None:
    """Rule 2."""
    world = offered(4, 4)
    offer = world.offers()[0]
    stray = LaunchGroup(AgentId("a2"), (offer.offer_id,), (LaunchTasks((task("t1"),)),))

    commands = world.accept(stray)

    assert states(commands) == [("t1", "TASK_DROPPED", Reason.INVALID_OFFERS)]
    assert updates(commands)[0].agent_id == "a2"


def test_offers_of_two_roles_in_one_group_drop_its_tasks() -> None:
    """Mesos case 7."""
    world = given(agent(), framework("f", "eng", "ops"))
    world.run(task("t1", cpus=3))
    world.report(said("t1", FINISHED, 1))
    offers = world.offers()
    assert {offer.role for offer in offers} == {"eng", "ops"}

    commands = world.accept(launch_on(offers, task("t2")))

    assert states(commands) == [("t2", "TASK_DROPPED", Reason.INVALID_OFFERS)]


def test_a_group_without_offers_drops_its_tasks() -> None:
    world = offered(4)

    commands = world.accept(LaunchGroup(AgentId("a1"), (), (LaunchTasks((task("t1"),)),)))

    assert states(commands) == [("t1", "TASK_DROPPED", Reason.INVALID_OFFERS)]


def test_an_atomic_accept_launches_all_or_nothing() -> None:
    """Rule 3."""
    world = offered(1, 1)
    first, second = world.offers()

    commands = world.accept(launch_on(first, task("t1")), launch_on(second, task("t2", cpus=2)), atomic=True)

    assert launched(commands) == []
    assert states(commands) == [
        ("t1", "TASK_DROPPED", Reason.ATOMIC_ACCEPT_REFUSED),
        ("t2", "TASK_DROPPED", Reason.ATOMIC_ACCEPT_REFUSED),
    ]
    assert len(offers_in(commands)) == 2


def test_an_atomic_accept_with_one_bad_offer_launches_nothing_and_keeps_nothing() -> None:
    world = offered(1, 1)
    first, second = world.offers()
    bad = LaunchGroup(second.agent_id, (second.offer_id, OfferId("x")), (LaunchTasks((task("t2"),)),))

    commands = world.accept(launch_on(first, task("t1")), bad, atomic=True)

    assert states(commands) == [
        ("t1", "TASK_DROPPED", Reason.ATOMIC_ACCEPT_REFUSED),
        ("t2", "TASK_DROPPED", Reason.INVALID_OFFERS),
    ]
    assert len(offers_in(commands)) == 2


def test_an_atomic_accept_that_fits_is_launched_everywhere() -> None:
    world = offered(1, 1)
    first, second = world.offers()

    commands = world.accept(launch_on(first, task("t1")), launch_on(second, task("t2")), atomic=True)

    assert launched(commands) == ["t1", "t2"]


@pytest.mark.parametrize("task_id", ["", "a/b", "a\nb", "a\x7fb", ".", "..", "x" * 256])
def test_a_task_with_an_id_that_cannot_be_is_an_error_and_the_others_go_on(task_id: str) -> None:
    """Rule 4."""
    world = offered(4)

    commands = world.accept(launch_on(world.offers(), task(task_id), task("t2")))

    assert states(commands) == [(task_id, "TASK_ERROR", Reason.INVALID_TASK)]
    assert "task_id" in updates(commands)[0].message
    assert launched(commands) == ["t2"]


@pytest.mark.parametrize("task_id", ["x" * 255, "schön", "a b", "...", "-"])
def test_an_unusual_id_is_an_id(task_id: str) -> None:
    world = offered(4)

    assert launched(world.accept(launch_on(world.offers(), task(task_id)))) == [task_id]


@pytest.mark.parametrize(
    "resources, field",
    [
        (Resources(), "resources"),
        (Resources(cpu_millis=-1), "resources.cpu_millis"),
        (Resources(cpu_millis=MAX_AMOUNT + 1), "resources.cpu_millis"),
        (Resources(mem_mib=-5), "resources.mem_mib"),
        (Resources(cpu_millis=1, gpus=-1), "resources.gpus"),
        (Resources(cpu_millis=1, ports=((31000, 30000),)), "resources.ports"),
        (Resources(cpu_millis=1, ports=((0, 0),)), "resources.ports"),
        (Resources(cpu_millis=1, ports=((1, 5), (3, 9))), "resources.ports"),
        (Resources(cpu_millis=1, custom=(("x", -3),)), "resources.x"),
        (Resources(cpu_millis=1, custom=(("x", 1), ("x", 1))), "resources.custom"),
        (Resources(cpu_millis=1, custom=(("UPPER", 1),)), "resources"),
    ],
)
def test_resources_that_cannot_be_are_an_error_that_names_them(resources: Resources, field: str) -> None:
    """Rule 4."""
    world = offered(4)

    commands = world.accept(launch_on(world.offers(), TaskSpec(TaskId("t1"), resources), task("t2")))

    assert states(commands) == [("t1", "TASK_ERROR", Reason.INVALID_TASK)]
    assert updates(commands)[0].message.startswith(field)
    assert launched(commands) == ["t2"]


def test_a_port_that_is_not_offered_is_an_error() -> None:
    world = given(agent(ports="[31000-31001]"), framework())
    world.turn()
    specs = [task("t1", ports="[31001]"), task("t2", ports="[31001]"), task("t3", ports="[31000-31001]")]

    commands = world.accept(launch_on(world.offers(), *specs))

    assert launched(commands) == ["t1"]
    assert [update.message for update in updates(commands)] == [
        "resources: what the offers have left is short of ports by 1",
        "resources: what the offers have left is short of ports by 1",
    ]


def test_port_ranges_that_touch_are_one_range() -> None:
    """An agent may split its range; a task may ask across the split."""
    split = agent()
    split = type(split)(split.agent_id, split.hostname, Resources(4000, 4096, ports=((31000, 31004), (31005, 31009))))
    world = given(split, framework())
    world.turn()

    commands = world.accept(launch_on(world.offers(), task("t1", ports="[31003-31006]")))

    assert launched(commands) == ["t1"]


def test_an_id_is_never_used_twice() -> None:
    """Rules 4 and 12; code rule 12 of Mesos."""
    world = running(task("t1"))

    alive = world.run(task("t1"))
    world.report(said("t1", FINISHED, 2))
    ended = world.run(task("t1"))
    world.call(receipt("t1", 2))
    acknowledged = world.run(task("t1"))

    for commands in (alive, ended, acknowledged):
        assert states(commands) == [("t1", "TASK_ERROR", Reason.TASK_ID_USED)]
        assert launched(commands) == []


def test_an_id_used_twice_in_one_accept_is_launched_once() -> None:
    world = offered(4, 4)
    first, second = world.offers()

    commands = world.accept(launch_on(first, task("t1"), task("t1")), launch_on(second, task("t1")))

    assert launched(commands) == ["t1"]
    assert [reason for _, _, reason in states(commands)] == [Reason.TASK_ID_USED] * 2


def test_two_frameworks_may_use_the_same_id() -> None:
    world = given(agent("a1"), agent("a2"), framework("f"), framework("g"))
    world.turn()

    assert launched(world.accept(launch_on(world.offers("f"), task("t1")))) == ["t1"]
    assert launched(world.accept(launch_on(world.offers("g")[0], task("t1")), by="g")) == ["t1"]


def test_one_invalid_member_fails_its_whole_group_and_costs_the_others_nothing() -> None:
    """Rule 4."""
    world = offered(4)
    [offer] = world.offers()
    pod = LaunchTasks((task("t1", cpus=3), task("t2", cpus=3)), is_group=True)
    after = LaunchTasks((task("t3", cpus=4, mem_mib=4096), task("t1", cpus=1)))

    commands = world.accept(LaunchGroup(offer.agent_id, (offer.offer_id,), (pod, after)))

    assert launched(commands) == ["t3"]
    assert sorted(states(commands)) == [
        ("t1", "TASK_ERROR", Reason.TASK_GROUP_REFUSED),
        ("t1", "TASK_ERROR", Reason.INVALID_TASK),
        ("t2", "TASK_ERROR", Reason.INVALID_TASK),
    ] or sorted(reason.name for _, _, reason in states(commands)) == [
        "INVALID_TASK",
        "INVALID_TASK",
        "TASK_GROUP_REFUSED",
    ]


def test_a_group_is_launched_as_one() -> None:
    world = offered(4)

    commands = world.accept(launch_on(world.offers(), task("t1"), task("t2"), is_group=True))

    [order] = of(Launch, orders(commands))
    assert order.is_group
    assert len(order.tasks) == 2


def test_an_empty_group_launches_nothing() -> None:
    world = offered(4)
    [offer] = world.offers()
    empty = LaunchGroup(offer.agent_id, (offer.offer_id,), (LaunchTasks(()), LaunchTasks((), is_group=True)))

    assert orders(world.accept(empty)) == []


def test_what_an_invalid_task_would_have_taken_is_offered_again() -> None:
    """Mesos case 44."""
    world = offered(4)

    commands = world.accept(launch_on(world.offers(), task("t1", cpus=5)), filter_=NO_FILTER)

    assert shape(offers_in(commands)) == [("a1", 4000)]


def test_above_its_bound_of_tasks_the_cluster_refuses_more() -> None:
    world = given(agent(), framework(), settings=CoreSettings(max_tasks=2))
    world.turn()

    commands = world.accept(launch_on(world.offers(), task("t1"), task("t2"), task("t3")))

    assert launched(commands) == ["t1", "t2"]
    assert "max_tasks" in updates(commands)[0].message


def test_an_accept_that_is_replayed_changes_nothing() -> None:
    """Rule 20: the tasks run; to call them dropped would have the framework start them again."""
    world = offered(4)
    call = Accept((launch_on(world.offers(), task("t1")),))
    world.call(call)
    world.report(said("t1"))

    commands = world.call(call)

    assert launched(commands) == []
    assert [state for _, state, _ in states(commands)] == ["TASK_RUNNING"]


def test_an_atomic_accept_that_is_replayed_changes_nothing() -> None:
    """Rule 20."""
    world = offered(4, 4)
    call = Accept(tuple(launch_on(offer, task(f"t{number}")) for number, offer in enumerate(world.offers())), True)
    world.call(call)
    world.report(said("t0"))
    world.report(said("t0", FINISHED, 2))
    world.call(receipt("t0", 2))

    commands = world.call(call)

    assert [(name, state) for name, state, _ in states(commands)] == [("t0", "TASK_FINISHED"), ("t1", "TASK_STAGING")]


def test_naming_ten_thousand_offers_of_as_many_agents_in_one_group_is_refused_quickly() -> None:
    world = given(*(agent(f"a{number}") for number in range(10)), framework())
    world.turn()
    offers = world.offers()
    names = tuple(offer.offer_id for offer in offers) * 10_000

    commands = world.accept(LaunchGroup(offers[0].agent_id, names, (LaunchTasks((task("t1"),)),)))

    assert states(commands) == [("t1", "TASK_DROPPED", Reason.INVALID_OFFERS)]
