"""Reservations and volumes: who is offered them, what runs in them, who may make them and give them back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from runrig.agents import AgentInfo, DestroyAgentVolume, TaskReport, VolumeDestroyed
from runrig.errors import Conflict, InvalidInput, NotFound, RunrigError, Unavailable
from runrig.ids import AgentId, Role, TaskId
from runrig.offers import (
    CreateVolume,
    DestroyVolume,
    LaunchGroup,
    LaunchTasks,
    Offer,
    Operation,
    OperationResult,
    OperationsDone,
    RescindReason,
    Reserve,
    Unreserve,
)
from runrig.reservations import PersistentVolume, Reservation
from runrig.resources import Resources
from runrig.tasks import Reason, TaskSpec, Terms, Volume
from runrig_master.core.commands import Command, Persist, ReservationRecord, SendToAgent, SendToScheduler, VolumeRecord
from runrig_master.core.events import (
    CreateVolumeAsked,
    DestroyVolumeAsked,
    QuestionId,
    ReservationEvent,
    ReserveAsked,
    UnreserveAsked,
)
from tests.master.core.cluster import (
    FINISHED,
    NO_FILTER,
    F,
    World,
    agent,
    answer,
    framework,
    given,
    launched,
    news,
    of,
    offers_in,
    orders,
    rescinded,
    said,
    states,
    task,
    updates,
)
from tests.master.core.witness import pool_of

Q = QuestionId(1)
A1 = AgentId("a1")


def kept(
    name: str = "r", cpus: float = 2, role: str = F, mem_mib: int = 1000, disk_mib: int = 0, is_static: bool = False
) -> Reservation:
    """Describe a reservation."""
    amounts = Resources(round(cpus * 1000), mem_mib, disk_mib)
    return Reservation(name, Role(role), amounts, is_static=is_static)


def host(*reservations: Reservation, cpus: float = 8, disk_mib: int = 1000) -> AgentInfo:
    """Describe an agent with what its flags reserve."""
    return replace(agent(cpus=cpus, disk_mib=disk_mib), reservations=reservations)


def inside(task_id: str = "t", pool: str = "r", cpus: float = 1, volumes: Iterable[str] = ()) -> TaskSpec:
    """Describe a task that runs in a reservation."""
    mounted = tuple(Volume("", volume, volume_id=volume) for volume in volumes)
    return replace(task(task_id, cpus), terms=Terms(reservation_id=pool), volumes=mounted)


def group(offers: Offer | Iterable[Offer], *operations: Operation) -> LaunchGroup:
    """Build a launch group with any operations."""
    offers = [offers] if isinstance(offers, Offer) else list(offers)
    return LaunchGroup(offers[0].agent_id, tuple(offer.offer_id for offer in offers), operations)


def launch(*specs: TaskSpec, is_group: bool = False) -> LaunchTasks:
    """Launch tasks."""
    return LaunchTasks(specs, is_group)


def reserve(reservation: Reservation, source: str = "") -> Reserve:
    """Reserve, and want to hear of it."""
    return Reserve(reservation, source, f"reserve {reservation.reservation_id}")


def create(name: str = "v", pool: str = "r", disk_mib: int = 100) -> CreateVolume:
    """Make a volume, and want to hear of it."""
    return CreateVolume(PersistentVolume(name, pool, disk_mib), f"create {name}")


def pools(offers: Iterable[Offer]) -> dict[str, int]:
    """Return the cpus (in thousandths) of each pool that is offered."""
    found: dict[str, int] = {}
    for offer in offers:
        found[pool_of(offer)] = found.get(pool_of(offer), 0) + offer.resources.cpu_millis
    return found


def results(commands: Iterable[Command]) -> list[tuple[str, bool]]:
    """Return which operations are said to be done, and which not."""
    told = [result for item in of(OperationsDone, news(commands)) for result in item.results]
    return [(result.operation_id, result.is_done) for result in told]


def refusal(commands: Iterable[Command]) -> str:
    """Return why the one operation that was told of was refused."""
    [result] = [result for item in of(OperationsDone, news(commands)) for result in item.results]
    assert not result.is_done
    return result.message


def reserved(*made: Operation, disk_mib: int = 500, cpus: float = 2, on: AgentInfo | None = None) -> World:
    """Return a world in which framework f has reserved r out of its offer, and done more; r is offered to it."""
    world = given(on or host(), framework())
    world.turn()
    operation = reserve(kept(cpus=cpus, disk_mib=disk_mib))
    commands = world.accept(group(world.offers(), operation, *made), filter_=NO_FILTER)
    assert all(is_done for _, is_done in results(commands))
    return world


def of_pool(world: World, pool: str, by: str = F) -> list[Offer]:
    """Return the offers of a pool that a framework has."""
    return [offer for offer in world.offers(by) if pool_of(offer) == pool]


def held(offers: Iterable[Offer]) -> list[str]:
    """Return the volumes that are offered."""
    return [volume.volume_id for offer in offers for volume in offer.volumes]


# Who is offered what


def test_a_static_reservation_is_offered_to_its_role_and_those_below_and_to_nobody_else() -> None:
    world = given(host(kept(role="db")), framework("f", "web"), framework("g", "db/main"), framework("h", "dbx"))

    world.turn()

    assert pools(world.offers("g"))["r"] == 2000
    assert "r" not in pools([*world.offers("f"), *world.offers("h")])


def test_reserved_resources_whose_role_nobody_has_stay_reserved() -> None:
    world = given(host(kept(role="db")), framework())

    world.turn()
    world.decline(*world.offers(), filter_=NO_FILTER)

    assert pools(world.offers()) == {"": 6000}


def test_a_framework_is_offered_each_pool_for_itself_and_told_of_which_it_is() -> None:
    static = kept(disk_mib=100, is_static=True)
    world = given(host(static), framework())

    world.turn()

    assert pools(world.offers()) == {"": 6000, "r": 2000}
    [offer] = of_pool(world, "r")
    assert offer.reservation == static
    assert offer.resources == static.resources


def test_what_is_refused_of_one_pool_is_not_refused_of_another() -> None:
    world = given(host(kept()), framework())
    world.turn()

    world.decline(*of_pool(world, ""))

    assert pools(world.offers()) == {"r": 2000}


# What runs where


def test_a_task_runs_in_the_pool_that_its_terms_name() -> None:
    world = given(host(kept()), framework())
    world.turn()

    commands = world.accept(group(world.offers(), launch(inside("t"), task("u", cpus=3))), filter_=NO_FILTER)

    assert launched(commands) == ["t", "u"]
    assert pools(world.offers()) == {"": 3000, "r": 1000}


def test_a_task_does_not_take_from_another_pool_what_its_own_is_short_of() -> None:
    world = given(host(kept()), framework())
    world.turn()

    commands = world.accept(group(world.offers(), launch(inside("t", cpus=3))))

    assert states(commands) == [("t", "TASK_ERROR", Reason.INVALID_TASK)]
    assert "short of cpu_millis by 1000" in updates(commands)[0].message


@pytest.mark.parametrize("pool", ["x", "r"])
def test_a_task_in_a_reservation_that_is_not_among_the_offers_is_an_error(pool: str) -> None:
    world = given(host(kept()), framework())
    world.turn()

    commands = world.accept(group(of_pool(world, ""), launch(inside("t", pool), task("u"))))

    assert launched(commands) == ["u"]
    assert states(commands) == [("t", "TASK_ERROR", Reason.INVALID_TASK)]
    allowed = "those of the offers: none (what is not reserved)"
    assert updates(commands)[0].message == f"terms.reservation_id: '{pool}' is not allowed; allowed: {allowed}"


def test_a_task_without_a_reservation_does_not_run_in_one() -> None:
    world = given(host(kept()), framework())
    world.turn()

    commands = world.accept(group(of_pool(world, "r"), launch(task("t"))))

    assert states(commands) == [("t", "TASK_ERROR", Reason.INVALID_TASK)]
    assert "terms.reservation_id: '' is not allowed; allowed: those of the offers: 'r'" in updates(commands)[0].message


def test_what_ends_returns_to_its_pool() -> None:
    world = given(host(kept()), framework())
    world.turn()
    world.accept(group(world.offers(), launch(inside("t", cpus=2))), filter_=NO_FILTER)

    commands = world.report(said("t", FINISHED, 1))

    assert pools(offers_in(commands)) == {"r": 2000}


# What frameworks reserve


def test_a_framework_reserves_out_of_its_offer_and_launches_there_at_once() -> None:
    world = given(host(), framework(principal="p"))
    world.turn()

    commands = world.accept(group(world.offers(), reserve(kept()), launch(inside("t"))), filter_=NO_FILTER)

    assert results(commands) == [("reserve r", True)]
    assert launched(commands) == ["t"]
    assert world.disk["reservations/a1/r"] == ReservationRecord(A1, replace(kept(), principal="p"))
    assert pools(world.offers()) == {"": 6000, "r": 1000}


def test_a_reservation_is_durable_before_anybody_hears_of_it() -> None:
    world = given(host(), framework())
    world.turn()

    commands = world.accept(group(world.offers(), reserve(kept()), launch(inside("t"))))

    kinds = [type(command) for command in commands]
    assert kinds.index(Persist) < kinds.index(SendToScheduler)
    assert kinds.index(Persist) < kinds.index(SendToAgent)


def test_what_was_just_reserved_is_offered_at_once_though_the_rest_of_the_offer_is_declined() -> None:
    world = given(host(), framework())
    world.turn()

    commands = world.accept(group(world.offers(), reserve(kept())))

    assert pools(offers_in(commands)) == {"r": 2000}


def test_operations_run_in_order_against_what_is_left_and_each_is_judged_for_itself() -> None:
    """Rule 2."""
    world = given(host(), framework())
    world.turn()
    asked = (
        launch(inside("early", "a")),
        reserve(kept("a", 5)),
        reserve(kept("b", 4)),
        launch(task("t", cpus=3), task("u", cpus=1), inside("v", "a", 5)),
    )

    commands = world.accept(group(world.offers(), *asked))

    assert results(commands) == [("reserve a", True), ("reserve b", False)]
    assert launched(commands) == ["t", "v"]
    assert [name for name, *_ in states(commands)] == ["early", "u"]


@pytest.mark.parametrize(
    "operation, words",
    [
        (
            reserve(kept(cpus=9)),
            "reserve r.resources: 'cpus:9;mem:1000M' is not allowed; allowed: at most what the offers have left: cpus:",
        ),
        (reserve(kept(role="web")), "reserve r.role: 'web' is not allowed; allowed: f, the role of the offers, or one"),
        (reserve(kept(role="..")), "role"),
        (reserve(kept(cpus=0, mem_mib=0)), "reserve r.resources"),
        (reserve(kept("a/b")), "reserve.reservation_id"),
        (reserve(kept(), "x"), "there is no reservation 'x'; on agent a1 there are: s"),
        (reserve(kept(), "s"), "reserve r.from_reservation_id: 's' is not allowed; allowed: those of the offers: none"),
        (Unreserve("s", "o"), "reservation s is static"),
        (Unreserve("x", "o"), "there is no reservation 'x'"),
        (create(pool="x"), "there is no reservation 'x'"),
        (create(pool="s"), "create_volume v.reservation_id: 's' is not allowed"),
        (create(disk_mib=0), "create_volume.disk_mib"),
        (DestroyVolume("x", "o"), "there is no volume 'x'; on agent a1 there are: none"),
    ],
)
def test_an_operation_that_cannot_be_is_refused_with_what_is_allowed(operation: Operation, words: str) -> None:
    world = given(host(kept("s", 1, disk_mib=10), cpus=9), framework())
    world.turn()

    commands = world.accept(group(of_pool(world, ""), operation, launch(task("t"))))

    assert words in refusal(commands)
    assert launched(commands) == ["t"]


def test_a_framework_reserves_for_a_role_below_its_own() -> None:
    world = given(host(), framework(), framework("g", "f/x"))
    world.turn()

    world.accept(group(world.offers(), reserve(kept(role="f/x"))))

    assert pools(world.offers("g"))["r"] == 2000
    assert "r" not in pools(world.offers())


def test_what_is_taken_out_of_a_reservation_returns_to_it() -> None:
    world = given(host(kept("s", 4)), framework())
    world.turn()

    world.accept(group(of_pool(world, "s"), reserve(kept("r", 1), "s")), filter_=NO_FILTER)
    carved = pools(world.offers())
    world.accept(group(of_pool(world, "r"), Unreserve("r", "o")), filter_=NO_FILTER)

    assert carved == {"": 4000, "s": 3000, "r": 1000}
    assert pools(world.offers()) == {"": 4000, "s": 4000}
    assert "reservations/a1/r" not in world.disk


def test_a_reservation_with_a_task_is_not_given_back() -> None:
    world = reserved(launch(inside("t")))

    commands = world.accept(group(of_pool(world, "r"), Unreserve("r", "o")))

    assert "unreserve r: the offers have cpus:1" in refusal(commands)
    assert "reservations/a1/r" in world.disk


def test_an_alien_reservation_is_not_given_back() -> None:
    """A framework of a role below is offered the reservation, and may not end it."""
    world = given(host(), framework("f", "f/x"))
    world.ask(ReserveAsked(world.question(), A1, kept(role="f")))

    commands = world.accept(group(of_pool(world, "r"), Unreserve("r", "o")))

    assert "unreserve r.role: 'f' is not allowed; allowed: f/x" in refusal(commands)


def test_rule_20_a_repeated_operation_is_done_and_one_with_other_content_refused() -> None:
    world = reserved(create())

    offers = world.offers()
    again = world.accept(group(offers, reserve(kept(disk_mib=500)), create()), filter_=NO_FILTER)
    other = world.accept(group(world.offers(), reserve(kept(cpus=3)), create(disk_mib=7)), filter_=NO_FILTER)

    assert results(again) == [("reserve r", True), ("create v", True)]
    assert results(other) == [("reserve r", False), ("create v", False)]


def test_rule_20_an_accept_that_is_sent_twice_is_told_that_its_operations_are_done() -> None:
    world = given(host(), framework())
    world.turn()
    asked = group(world.offers(), reserve(kept(disk_mib=500)), create(), reserve(kept("big", 100)))
    world.accept(asked)

    commands = world.accept(asked)

    assert results(commands) == [("reserve r", True), ("create v", True), ("reserve big", False)]


def test_rule_3_an_atomic_accept_does_all_operations_or_none() -> None:
    world = given(host(), framework())
    world.turn()

    commands = world.accept(group(world.offers(), reserve(kept()), reserve(kept("b", 9)), launch(task())), atomic=True)

    assert results(commands) == [("reserve r", False), ("reserve b", False)]
    assert states(commands) == [("t", "TASK_DROPPED", Reason.ATOMIC_ACCEPT_REFUSED)]
    assert not [key for key in world.disk if key.startswith("reservations/")]


def test_operations_of_a_group_with_a_bad_offer_are_refused() -> None:
    world = given(host(), framework())
    world.turn()
    [offer] = world.offers()
    bad = LaunchGroup(A1, (offer.offer_id, offer.offer_id), (reserve(kept()),))

    commands = world.accept(bad)

    [told] = of(OperationsDone, news(commands))
    assert told.results == (OperationResult("reserve r", A1, False, f"offer {offer.offer_id} is named twice"),)
    assert "reservations/a1/r" not in world.disk


def test_an_operation_without_an_id_is_not_told_of() -> None:
    world = given(host(), framework())
    world.turn()

    commands = world.accept(group(world.offers(), Reserve(kept())))

    assert of(OperationsDone, news(commands)) == []
    assert "reservations/a1/r" in world.disk


def test_of_a_refused_task_group_nothing_is_taken_off_the_reservation() -> None:
    world = reserved(create())
    both = launch(inside("t", volumes=["v"]), inside("u", cpus=9), is_group=True)

    commands = world.accept(group(of_pool(world, "r"), both, launch(inside("w", cpus=2, volumes=["v"]))))

    assert launched(commands) == ["w"]


# Volumes


def test_a_volume_takes_its_disk_out_of_the_reservation_and_is_offered_with_it() -> None:
    world = reserved(create("v"), create("w", disk_mib=300))

    [offer] = of_pool(world, "r")

    assert offer.resources.disk_mib == 100
    assert offer.volumes == (PersistentVolume("v", "r", 100), PersistentVolume("w", "r", 300))
    assert world.disk["volumes/a1/v"] == VolumeRecord(A1, PersistentVolume("v", "r", 100))


def test_a_volume_is_used_by_one_task_at_a_time() -> None:
    world = reserved(create())
    tasks = launch(inside("t", volumes=["v"]), inside("u", volumes=["v"]))

    commands = world.accept(group(of_pool(world, "r"), tasks), filter_=NO_FILTER)

    assert launched(commands) == ["t"]
    assert states(commands) == [("u", "TASK_ERROR", Reason.INVALID_TASK)]
    assert "volumes.volume_id: 'v' is not allowed; allowed: those of the task's reservation: none" in (
        updates(commands)[0].message
    )
    assert held(world.offers()) == []


def test_a_volume_is_offered_again_when_its_task_has_ended() -> None:
    world = reserved(create())
    world.accept(group(of_pool(world, "r"), launch(inside("t", cpus=2, volumes=["v"]))), filter_=NO_FILTER)
    world.decline(*of_pool(world, "r"))

    commands = world.report(said("t", FINISHED, 1))

    assert held(offers_in(commands)) == ["v"]


def test_a_volume_is_not_used_outside_its_reservation() -> None:
    world = reserved(create())
    outside = replace(task("t"), volumes=(Volume("", "v", volume_id="v"),))

    commands = world.accept(group(world.offers(), launch(outside)))

    assert states(commands) == [("t", "TASK_ERROR", Reason.INVALID_TASK)]


def test_a_volume_that_is_made_can_be_used_in_the_same_accept() -> None:
    world = given(host(), framework())
    world.turn()
    asked = (reserve(kept(disk_mib=500)), create(), launch(inside("t", volumes=["v"])))

    commands = world.accept(group(world.offers(), *asked))

    assert launched(commands) == ["t"]


def test_a_destroyed_volume_is_deleted_by_its_agent_and_its_disk_returns_after_that() -> None:
    world = reserved(create())

    commands = world.accept(group(of_pool(world, "r"), DestroyVolume("v", "o")), filter_=NO_FILTER)
    [between] = of_pool(world, "r")
    world.report(VolumeDestroyed("v"))
    world.decline(*world.offers(), filter_=NO_FILTER)
    [after] = of_pool(world, "r")

    assert results(commands) == [("o", True)]
    assert of(DestroyAgentVolume, orders(commands)) == [DestroyAgentVolume("v")]
    assert (between.volumes, between.resources.disk_mib) == ((), 400)
    assert after.resources.disk_mib == 500
    assert "volumes/a1/v" not in world.disk


def test_a_doomed_volume_is_neither_used_nor_made_anew_before_its_data_is_gone() -> None:
    world = reserved(create())
    asked = (DestroyVolume("v", "o"), create(), launch(inside("t", volumes=["v"])), DestroyVolume("v", "again"))

    commands = world.accept(group(of_pool(world, "r"), *asked), filter_=NO_FILTER)
    world.report(VolumeDestroyed("v"))
    later = world.accept(group(of_pool(world, "r"), create()), filter_=NO_FILTER)

    assert results(commands) == [("o", True), ("create v", False), ("again", True)]
    assert states(commands) == [("t", "TASK_ERROR", Reason.INVALID_TASK)]
    assert results(later) == [("create v", True)]


def test_a_volume_that_a_task_uses_is_not_destroyed() -> None:
    world = reserved(create())
    world.accept(group(of_pool(world, "r"), launch(inside("t", volumes=["v"]))), filter_=NO_FILTER)

    commands = world.accept(group(of_pool(world, "r"), DestroyVolume("v", "o")), filter_=NO_FILTER)

    assert refusal(commands) == "volume v is used by task t; destroy it when that has ended"


def test_an_agent_that_returns_is_told_again_to_delete_what_was_destroyed() -> None:
    world = reserved(create())
    world.accept(group(of_pool(world, "r"), DestroyVolume("v")), filter_=NO_FILTER)
    world.lose_agent()

    commands = world.connect(host())

    assert of(DestroyAgentVolume, orders(commands)) == [DestroyAgentVolume("v")]
    assert of(DestroyAgentVolume, orders(world.report(VolumeDestroyed("v"), VolumeDestroyed("v")))) == []


# What operators reserve


def asks(world: World, event: ReservationEvent) -> RunrigError | None:
    """Return what an operator is answered."""
    return answer(world.ask(event))


def test_an_operator_reserves_what_is_free_and_gives_it_back() -> None:
    world = given(host())

    made = asks(world, ReserveAsked(Q, A1, replace(kept(), principal="ops")))
    record = world.disk["reservations/a1/r"]
    world.subscribe(framework())
    before = pools(world.offers())
    ended = asks(world, UnreserveAsked(Q, A1, "r"))

    assert (made, ended) == (None, None)
    assert record == ReservationRecord(A1, replace(kept(), principal="ops"))
    assert before == {"": 6000, "r": 2000}
    assert pools(world.offers()) == {"": 8000}
    assert "reservations/a1/r" not in world.disk


def test_an_operator_takes_offers_back_when_what_is_free_is_not_enough_and_no_more_of_them_than_that() -> None:
    world = given(host(), framework())
    world.run(task("t", cpus=1))
    world.report(said("t"))
    world.report(said("t", FINISHED, 2))
    first, second = world.offers()
    assert (first.resources.cpu_millis, second.resources.cpu_millis) == (7000, 1000)

    commands = world.ask(ReserveAsked(Q, A1, kept(cpus=7)))

    assert answer(commands) is None
    assert rescinded(commands) == [(first.offer_id, RescindReason.RESERVATION_CHANGED)]
    assert pools(world.offers()) == {"": 1000, "r": 7000}


def test_an_operator_takes_no_offer_back_when_enough_is_free() -> None:
    world = given(host(), framework())
    world.turn()
    world.decline(*world.offers())

    commands = world.ask(ReserveAsked(Q, A1, kept(role="web")))

    assert answer(commands) is None
    assert rescinded(commands) == []


def test_an_operator_does_not_take_from_tasks() -> None:
    world = given(host(), framework())
    world.run(task("t", cpus=5, mem_mib=1000))

    error = asks(world, ReserveAsked(Q, A1, kept(cpus=4)))

    assert isinstance(error, InvalidInput)
    assert "reservation r.resources: 'cpus:4;mem:1000M' is not allowed; allowed: at most what that is not" in str(error)
    assert "no task uses: cpus:3;mem:3096M;disk:1000M" in str(error)


@pytest.mark.parametrize(
    "event, kind, words",
    [
        (ReserveAsked(Q, AgentId("x"), kept()), NotFound, "there is no agent 'x'"),
        (ReserveAsked(Q, A1, kept(role="/")), InvalidInput, "reservation r.role"),
        (ReserveAsked(Q, A1, kept("s")), Conflict, "reservation s is there already"),
        (ReserveAsked(Q, A1, kept(), "x"), NotFound, "there is no reservation 'x'"),
        (ReserveAsked(Q, A1, kept(cpus=1, role="web"), "s"), InvalidInput, "reservation r.role: 'web'"),
        (ReserveAsked(Q, A1, kept(cpus=9)), InvalidInput, "no task uses: cpus:6"),
        (UnreserveAsked(Q, A1, "x"), NotFound, "there is no reservation 'x'"),
        (UnreserveAsked(Q, A1, "s"), Conflict, "reservation s is static"),
        (CreateVolumeAsked(Q, A1, PersistentVolume("v", "x", 1)), NotFound, "there is no reservation 'x'"),
        (CreateVolumeAsked(Q, A1, PersistentVolume("v", "s", 0)), InvalidInput, "volume.disk_mib"),
        (
            CreateVolumeAsked(Q, A1, PersistentVolume("v", "s", 60)),
            InvalidInput,
            "volume v.disk_mib: 60 is not allowed; allowed: at most what of s no task or volume uses: 50",
        ),
        (DestroyVolumeAsked(Q, A1, "x"), NotFound, "there is no volume 'x'"),
    ],
)
def test_what_an_operator_cannot_have_is_refused_with_what_is_allowed(
    event: ReservationEvent, kind: type[RunrigError], words: str
) -> None:
    world = given(host(kept("s", disk_mib=50)), framework())
    world.turn()
    before = dict(world.disk)

    commands = world.ask(event)

    assert isinstance(answer(commands), kind)
    assert words in str(answer(commands))
    assert rescinded(commands) == []
    assert world.disk == before


def test_nothing_of_an_agent_that_is_away_is_changed() -> None:
    world = given(host(), framework())
    world.lose_agent()

    away = asks(world, ReserveAsked(Q, A1, kept()))
    world.mark_gone()
    gone = asks(world, ReserveAsked(Q, A1, kept()))

    assert isinstance(away, Unavailable)
    assert "agent a1 is disconnected; try again when it is back" in str(away)
    assert isinstance(gone, Conflict)


def test_rule_20_what_an_operator_asks_again_is_done_already() -> None:
    world = given(host())
    volume = PersistentVolume("v", "r", 100)
    asked = (ReserveAsked(Q, A1, kept(disk_mib=100)), CreateVolumeAsked(Q, A1, volume), DestroyVolumeAsked(Q, A1, "v"))

    answers = [asks(world, event) for event in asked for _ in range(2)]

    assert answers == [None] * 6


def test_an_operator_does_not_give_back_what_has_tasks() -> None:
    world = reserved(launch(inside("t")))

    error = asks(world, UnreserveAsked(Q, A1, "r"))

    assert isinstance(error, Conflict)
    assert str(error) == "reservation r has tasks: t; end them first"


def test_the_offers_of_a_reservation_end_with_it() -> None:
    world = reserved()
    [offer] = of_pool(world, "r")

    commands = world.ask(UnreserveAsked(Q, A1, "r"))

    assert (offer.offer_id, RescindReason.RESERVATION_CHANGED) in rescinded(commands)
    assert pools(offers_in(commands)) == {"": 2000}


def test_an_operator_makes_and_destroys_a_volume_out_of_an_offer() -> None:
    world = reserved(disk_mib=100)
    [first] = of_pool(world, "r")

    made = world.ask(CreateVolumeAsked(Q, A1, PersistentVolume("v", "r", 60)))
    [second] = of_pool(world, "r")
    destroyed = world.ask(DestroyVolumeAsked(Q, A1, "v"))
    [third] = of_pool(world, "r")

    assert rescinded(made) == [(first.offer_id, RescindReason.RESERVATION_CHANGED)]
    assert (second.resources.disk_mib, held([second])) == (40, ["v"])
    assert rescinded(destroyed) == [(second.offer_id, RescindReason.RESERVATION_CHANGED)]
    assert of(DestroyAgentVolume, orders(destroyed)) == [DestroyAgentVolume("v")]
    assert (third.resources.disk_mib, held([third])) == (40, [])


def test_an_operator_does_not_destroy_a_volume_that_a_task_uses() -> None:
    world = reserved(create(), launch(inside("t", volumes=["v"])))

    error = asks(world, DestroyVolumeAsked(Q, A1, "v"))

    assert isinstance(error, Conflict)
    assert "volume v is used by task t" in str(error)


# Over restarts, departures and changes


def returned(task_id: str = "t", pool: str = "r", volumes: tuple[str, ...] = ()) -> TaskReport:
    """Say that a returning agent has a task in a reservation."""
    spec = inside(task_id, pool)
    status = said(task_id)
    return TaskReport(F, TaskId(task_id), task_id, Role(F), spec.resources, (), status, spec.terms, volumes)


def test_another_master_finds_reservations_and_volumes_with_what_runs_there() -> None:
    world = reserved(create("v"), create("w", disk_mib=1), launch(inside("t", volumes=["v"])))

    world.restart()
    world.connect(host(), returned(volumes=("v",)))
    world.subscribe(framework())

    assert pools(world.offers()) == {"": 6000, "r": 1000}
    assert held(world.offers()) == ["w"]
    assert isinstance(asks(world, UnreserveAsked(Q, A1, "r")), Conflict)


def test_another_master_goes_on_with_a_destruction() -> None:
    world = reserved(create())
    world.ask(DestroyVolumeAsked(Q, A1, "v"))

    world.restart()
    commands = world.connect(host())

    assert of(DestroyAgentVolume, orders(commands)) == [DestroyAgentVolume("v")]


def test_what_was_reserved_of_an_agent_that_is_gone_is_forgotten() -> None:
    world = reserved(create())

    world.mark_gone()

    assert not [key for key in world.disk if key.startswith(("reservations/", "volumes/"))]
    world.restart()
    assert world.offers() == []


def test_an_agent_that_shrank_is_not_offered_beyond_what_it_has() -> None:
    world = reserved(launch(inside("t", cpus=2)), cpus=4)
    world.lose_agent()

    world.connect(host(cpus=3), replace(returned(), resources=Resources(2000, 128)))

    assert pools(world.offers()) == {"": 0, "r": 1000}
    world.report(said("t", FINISHED, 2))
    assert pools(world.offers()) == {"": 0, "r": 3000}


def test_flags_that_an_agent_returns_with_count_from_then_on() -> None:
    world = given(host(kept("s", 2), kept("old", 1)), framework())
    world.turn()
    world.accept(group(world.offers(), launch(inside("t", "old"))), filter_=NO_FILTER)
    world.lose_agent()

    world.connect(host(kept("s", 3)), returned(pool="old"))

    assert pools(world.offers()) == {"": 4000, "s": 3000}
    world.report(said("t", FINISHED, 2))
    assert pools(world.offers()) == {"": 5000, "s": 3000}


def test_a_task_of_a_static_reservation_that_is_there_again_runs_in_it() -> None:
    world = given(host(kept("s", 2)), framework())
    world.turn()
    world.accept(group(world.offers(), launch(inside("t", "s"))), filter_=NO_FILTER)
    for info in (host(), host(kept("s", 2))):
        world.lose_agent()
        world.connect(info, returned(pool="s"))

    assert pools(world.offers()) == {"": 6000, "s": 1000}


def test_a_reservation_of_flags_takes_the_place_of_one_that_was_made_with_its_id() -> None:
    world = reserved()
    world.lose_agent()

    world.connect(host(kept("r", 5, role="web")))

    assert pools(world.offers()) == {"": 3000}
    assert "reservations/a1/r" not in world.disk


def test_all_of_it_replays() -> None:
    world = reserved(create(), launch(inside("t", volumes=["v"])))
    world.ask(UnreserveAsked(Q, A1, "r"))
    world.report(said("t", FINISHED, 1))
    world.ask(DestroyVolumeAsked(Q, A1, "v"))
    world.report(VolumeDestroyed("v"))
    world.ask(UnreserveAsked(Q, A1, "r"))

    world.assert_replays()
