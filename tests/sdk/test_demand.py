"""What the SDK's scheduler tells the master that it wants next, and when."""

from __future__ import annotations

from dataclasses import replace

from runrig._waiting import Waiting, demand_of
from runrig.constraints import Constraint, Operator
from runrig.demand import Demand, Placement
from runrig.ids import FrameworkId, Role, TaskId
from runrig.offers import Accept, FrameworkInfo, OffersMade, Subscribe, Subscribed, Suppress, UpdateDemand
from runrig.resources import Resources
from runrig.scheduler import Scheduler, SchedulerCommand, SchedulerSettings, Told, TurnEnded
from runrig.session import Started, StreamClosed, StreamOpened
from runrig.tasks import Container, RuntimeKind, TaskState, Terms
from runrig.wants import PortWant, Run, Stop, Want
from tests.sdk.test_scheduler import INFO, Recorder, calls, connect, connected, offer, turn, want

DEFAULT = Role("default")


def test_it_subscribes_as_one_that_states_demand_and_states_it_at_once() -> None:
    scheduler = Scheduler(INFO, Recorder(Run((want("t1"),))), {}, 0.0)

    scheduler.handle(Started(1), 0.0)
    [subscribe] = calls(scheduler.handle(StreamOpened(1), 0.0))
    commands = turn(scheduler, Subscribed(INFO.framework_id, "c", 75_000, 15_000, 30_000))

    assert isinstance(subscribe, Subscribe)
    assert subscribe.uses_demand
    assert counts(commands) == [1]


def test_wants_of_one_shape_are_one_demand() -> None:
    scheduler = connected(Recorder(Run(tuple(want(f"t{number}") for number in range(5)))))

    commands = tell(scheduler, Run((want("t5"), want("big", cpus=4000))))

    assert sorted(counts(commands)) == [1, 6]


def test_a_demand_says_all_that_decides_where_its_tasks_may_run() -> None:
    picky = Want(
        replace(want("t1").spec, container=Container("busybox")),
        ports=(PortWant(8080), PortWant(), PortWant()),
        constraints=(Constraint("rack", Operator.UNIQUE),),
        group="/shop/web",
        placement=Placement.SPREAD,
        priority=7,
        gang="g-1",
        expected_duration_ms=60_000,
    )

    demand = demand_of(picky)

    assert demand == Demand(
        demand.demand_id,
        Resources.parse("cpus:1;mem:32M;ports:[8080-8080]"),
        1,
        picky.constraints,
        Placement.SPREAD,
        7,
        "g-1",
        60_000,
        2,
        "/shop/web",
        RuntimeKind.DOCKER,
    )
    assert demand.demand_id.startswith("shop_web-")


def test_the_id_of_a_demand_follows_from_its_shape() -> None:
    alike = demand_of(want("t1")), demand_of(want("t2"))
    others = demand_of(want("t1", cpus=500)), demand_of(replace(want("t1"), priority=1))

    assert alike[0].demand_id == alike[1].demand_id
    assert len({demand.demand_id for demand in (*alike, *others)}) == 3


def test_what_is_launched_is_taken_off_after_the_accept_of_the_same_turn() -> None:
    scheduler = connected(Recorder(Run(tuple(want(f"t{number}") for number in range(5)))))

    commands = turn(scheduler, OffersMade((offer("o1"),)))

    said = calls(commands)
    kinds = [type(call) for call in said]
    assert kinds.index(Accept) < kinds.index(UpdateDemand)
    assert counts(commands) == [1]


def test_what_is_stopped_is_taken_off_and_nothing_is_an_empty_list() -> None:
    scheduler = connected(Recorder(Run((want("t1"),))))

    commands = tell(scheduler, Stop(TaskId("t1")))

    assert calls(commands) == [Suppress((DEFAULT,)), UpdateDemand(DEFAULT, ())]


def test_a_turn_in_which_nothing_came_or_went_says_nothing() -> None:
    scheduler = connected(Recorder(Run((want("t1"),))))

    assert demands(tell(scheduler, Run((want("t1"),)))) == []
    assert demands(scheduler.handle(TurnEnded(), 2.0)) == []


def test_one_that_comes_as_another_goes_is_said_because_the_master_has_counted_what_went() -> None:
    scheduler = connected(Recorder(Run(tuple(want(f"t{number}") for number in range(5)))))
    scheduler.handle(Told([Run(tuple(want(f"more-{number}") for number in range(4)))]), 1.0)

    assert counts(turn(scheduler, OffersMade((offer("o1"),)))) == [5]


def test_it_is_said_again_after_each_subscription() -> None:
    scheduler = connected(Recorder(Run((want("t1"),))))
    scheduler.handle(StreamClosed(1, "reset"), 1.0)
    scheduler.handle(TurnEnded(), 2.0)
    scheduler.handle(StreamOpened(2), 2.0)

    commands = turn(scheduler, Subscribed(INFO.framework_id, "c", 75_000, 15_000, 30_000), stream=2)

    assert counts(commands) == [1]


def test_what_is_wanted_in_no_particular_role_is_wanted_in_each() -> None:
    info = FrameworkInfo("f", (Role("a"), Role("b")), FrameworkId("f-1"))
    scheduler = Scheduler(info, Recorder(Run((want("any"), replace(want("one"), role=Role("b"))))), {}, 0.0)

    said = {call.role: [each.count for each in call.demands] for call in demands(connect(scheduler))}

    assert said == {"a": [1], "b": [1, 1]}


def test_only_the_role_in_which_something_changed_is_stated() -> None:
    info = FrameworkInfo("f", (Role("a"), Role("b")), FrameworkId("f-1"))
    scheduler = Scheduler(info, Recorder(Run((replace(want("one"), role=Role("b")),))), {}, 0.0)
    connect(scheduler)

    commands = tell(scheduler, Run((replace(want("two"), role=Role("a")),)))

    assert [call.role for call in demands(commands)] == ["a"]


def test_of_more_shapes_than_the_bound_the_most_urgent_are_stated_and_no_gang_in_part() -> None:
    late = [replace(want(f"t{number}", cpus=number), priority=number) for number in (1, 2, 3, 4)]
    gang = [replace(want(f"g{number}", cpus=number), priority=3, gang="g") for number in (1, 2)]

    stated = Waiting([*late, *gang]).demands(DEFAULT, 3)
    all_of_it = Waiting([*late, *gang]).demands(DEFAULT, 4)

    assert [each.priority for each in stated] == [4, 3]
    assert [each.gang_id for each in all_of_it] == ["", "", "g", "g"]


def test_the_bound_is_a_setting() -> None:
    logic = Recorder(Run(tuple(want(f"t{number}", cpus=number) for number in range(1, 9))))
    scheduler = Scheduler(INFO, logic, {}, 0.0, SchedulerSettings(demands_per_role=3))

    assert counts(connect(scheduler)) == [1, 1, 1]


def test_a_role_with_many_shapes_is_stated_anew_only_after_a_pause_that_grows_with_them() -> None:
    settings = SchedulerSettings(many_demands=3, demand_pause_s=0.1)
    logic = Recorder(Run(tuple(want(f"t{number}", cpus=number) for number in range(1, 5))))
    scheduler = Scheduler(INFO, logic, {}, 0.0, settings)
    connect(scheduler)

    assert demands(tell(scheduler, Stop(TaskId("t1")))) == []
    assert scheduler.next_deadline() == 1.4
    assert demands(scheduler.handle(TurnEnded(), 1.39)) == []

    assert counts(scheduler.handle(TurnEnded(), 1.4)) == [1, 1, 1]
    assert counts(tell(scheduler, Stop(TaskId("t2")))) == [1, 1]


def test_a_want_that_no_demand_can_state_is_told_as_an_error() -> None:
    wrong = [
        replace(want("regex"), constraints=(Constraint("rack", Operator.LIKE, "("),)),
        replace(want("gang"), gang="a/b"),
        replace(want("priority"), priority=10**9),
        replace(want("terms"), spec=replace(want("terms").spec, terms=Terms(priority=3))),
    ]
    logic = Recorder(Run(tuple(wrong)))

    scheduler = connected(logic)

    assert [(view.task_id, view.state) for view in logic.news] == [
        (each.task_id, TaskState.TASK_ERROR) for each in wrong
    ]
    assert len(scheduler.waiting) == 0


def tell(scheduler: Scheduler, *decisions: Run | Stop) -> list[SchedulerCommand]:
    scheduler.handle(Told(list(decisions)), 1.0)
    return scheduler.handle(TurnEnded(), 1.0)


def demands(commands: list[SchedulerCommand]) -> list[UpdateDemand]:
    return [call for call in calls(commands) if isinstance(call, UpdateDemand)]


def counts(commands: list[SchedulerCommand]) -> list[int]:
    """Return the counts of the one statement that is made."""
    [stated] = demands(commands)
    return [demand.count for demand in stated.demands]
