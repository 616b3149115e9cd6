"""What of one agent is kept for roles: how much each pool has, what may change, and what the store is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runrig.agents import AgentInfo
from runrig.errors import Conflict, InvalidInput, NotFound, RunrigError
from runrig.ids import AgentId, Role
from runrig.reservations import MAX_RESERVATIONS, MAX_VOLUMES, PersistentVolume, Reservation
from runrig.resources import Resources
from runrig_master.core.commands import Forget, Record, ReservationRecord, VolumeRecord
from runrig_master.core.quotas import is_within
from runrig_master.core.reservations import Reserves, changes
from runrig_master.records_grpc import entry, key_of, record

A1 = AgentId("a1")
TOTAL = Resources.parse("cpus:10;mem:1000;disk:1000;ports:[31000-31009];licences:5")


def kept(name: str, cpus: int = 1, disk_mib: int = 0, role: str = "db", more: str = "") -> Reservation:
    """Describe a reservation."""
    amounts = Resources.parse(more) + Resources(cpu_millis=cpus * 1000, disk_mib=disk_mib)
    return Reservation(name, Role(role), amounts)


def reserves(*made: Reservation | tuple[Reservation, str], static: tuple[Reservation, ...] = ()) -> Reserves:
    """Return what is kept of an agent: static reservations, and others with what they were taken out of."""
    found = Reserves(A1)
    found.replace_static(AgentInfo(A1, "h", TOTAL, reservations=static))
    for each in made:
        reservation, source = each if isinstance(each, tuple) else (each, "")
        assert not found.has_reserved(reservation, source)
        found.reserve(reservation, source)
    return found


def cpus(found: Reserves, total: Resources = TOTAL) -> dict[str, int]:
    """Return the whole cpus of each pool."""
    return {name: amount.cpu_millis // 1000 for name, amount in found.amounts(total).items()}


def test_what_is_not_reserved_is_what_is_left() -> None:
    found = reserves(kept("a", 2, more="ports:[31000-31001];licences:1"), static=(kept("s", 3),))

    amounts = found.amounts(TOTAL)

    assert cpus(found) == {"": 5, "s": 3, "a": 2}
    assert amounts[""] == Resources.parse("cpus:5;mem:1000;disk:1000;ports:[31002-31009];licences:4")
    assert amounts["a"] == Resources.parse("cpus:2;ports:[31000-31001];licences:1")


def test_what_is_taken_out_of_a_reservation_leaves_it_the_rest() -> None:
    found = reserves((kept("a", 2, role="db/x"), "s"), (kept("b", 1, role="db/x/y"), "a"), static=(kept("s", 5),))

    assert cpus(found) == {"": 5, "s": 3, "a": 1, "b": 1}


def test_what_is_given_back_returns_to_where_it_was_taken_and_so_does_what_was_taken_out_of_it() -> None:
    found = reserves((kept("a", 2), "s"), (kept("b", 1), "a"), static=(kept("s", 5),))

    found.unreserve("a")
    between = cpus(found)
    found.unreserve("b")

    assert between == {"": 5, "s": 4, "b": 1}
    assert cpus(found) == {"": 5, "s": 5}


def test_the_disk_of_a_volume_comes_out_of_its_reservation_until_its_data_is_gone() -> None:
    found = reserves(kept("a", 1, 100))
    found.create(PersistentVolume("v", "a", 60))

    made = found.amounts(TOTAL)["a"].disk_mib
    found.doom("v")
    doomed = found.amounts(TOTAL)["a"].disk_mib
    was_waited_for = found.is_gone("v")

    assert (made, doomed, found.amounts(TOTAL)["a"].disk_mib) == (40, 40, 100)
    assert was_waited_for
    assert not found.is_gone("v")


def test_a_volume_that_nobody_destroyed_is_not_gone_whatever_its_agent_says() -> None:
    found = reserves(kept("a", 1, 100))
    found.create(PersistentVolume("v", "a", 60))

    assert not found.is_gone("v")
    assert found.volumes_of("a") == [PersistentVolume("v", "a", 60)]


def test_an_agent_that_shrank_keeps_no_more_than_it_has() -> None:
    found = reserves(kept("a", 4), (kept("b", 2), "a"), static=(kept("s", 3),))
    found.create(PersistentVolume("v", "a", 10))

    amounts = cpus(found, Resources(cpu_millis=5000))

    assert amounts == {"": 0, "s": 3, "a": 0, "b": 2}


def test_the_disk_of_a_volume_is_nobody_elses_even_if_its_reservation_has_less_than_that() -> None:
    found = reserves(kept("a", 1, 100), static=(kept("s", 1, 950),))
    found.create(PersistentVolume("v", "a", 60))

    amounts = found.amounts(TOTAL)

    assert {name: amount.disk_mib for name, amount in amounts.items()} == {"": 0, "s": 940, "a": 0}


def test_what_was_on_a_static_reservation_remains_when_that_is_gone() -> None:
    found = reserves((kept("a", 2), "s"), static=(kept("s", 5, 100),))
    found.create(PersistentVolume("v", "s", 60))

    found.replace_static(AgentInfo(A1, "h", TOTAL))
    without = found.amounts(TOTAL)
    found.replace_static(AgentInfo(A1, "h", TOTAL, reservations=(kept("s", 5, 100),)))

    assert (without[""].cpu_millis, without[""].disk_mib) == (8000, 940)
    assert cpus(found) == {"": 5, "s": 3, "a": 2}
    assert found.amounts(TOTAL)["s"].disk_mib == 40


def test_a_static_reservation_takes_the_place_of_another_with_its_id() -> None:
    found = reserves(kept("a", 2))
    before = found.copy()

    found.replace_static(AgentInfo(A1, "h", TOTAL, reservations=(kept("a", 3, role="web"),)))

    assert found.reservations["a"].reservation == replace(kept("a", 3, role="web"), is_static=True)
    assert changes(before, found) == (Forget(A1, reservation_id="a"),)


def test_rule_20_the_same_reservation_is_made_already_whoever_asks_again() -> None:
    found = reserves(kept("a", 2))

    assert found.has_reserved(replace(kept("a", 2), principal="somebody"), "")


@pytest.mark.parametrize(
    "reservation, source, kind, words",
    [
        (kept("a", 3), "", Conflict, "reservation a is there already, with cpus:2;mem:0M for db"),
        (kept("a", 2, role="web"), "", Conflict, "is there already"),
        (replace(kept("a", 2), labels=(("k", "v"),)), "", Conflict, "is there already"),
        (kept("a", 2), "s", Conflict, "is there already"),
        (kept("b"), "x", NotFound, "there is no reservation 'x'; on agent a1 there are: s, a"),
        (kept("b", role="web"), "s", InvalidInput, "reservation b.role: 'web' is not allowed; allowed: db, as s is"),
        (kept("b", role="dbx"), "s", InvalidInput, "reservation b.role"),
    ],
)
def test_what_cannot_be_reserved_says_why(
    reservation: Reservation, source: str, kind: type[RunrigError], words: str
) -> None:
    found = reserves(kept("a", 2), static=(kept("s", 5),))

    with pytest.raises(kind) as refused:
        found.has_reserved(reservation, source)

    assert words in str(refused.value)


def test_the_number_of_reservations_is_bounded() -> None:
    found = reserves(*(kept(f"r{number}", 0, more="cpus:0.001") for number in range(MAX_RESERVATIONS)))

    with pytest.raises(Conflict, match=f"agent a1 has {MAX_RESERVATIONS} reservations"):
        found.has_reserved(kept("more"), "")


@pytest.mark.parametrize(
    "name, kind, words",
    [
        ("x", NotFound, "there is no reservation 'x'; on agent a1 there are: s, a, b"),
        ("s", Conflict, "reservation s is static: only --reserve of agent a1 changes it"),
        ("b", Conflict, "reservation b has volumes: v; destroy them first"),
    ],
)
def test_what_cannot_be_given_back_says_why(name: str, kind: type[RunrigError], words: str) -> None:
    found = reserves(kept("a"), kept("b", 1, 100), static=(kept("s"),))
    found.create(PersistentVolume("v", "b", 60))

    with pytest.raises(kind, match=words):
        found.to_unreserve(name)


def test_a_reservation_cannot_be_given_back_before_the_data_of_its_volumes_is_gone() -> None:
    found = reserves(kept("b", 1, 100))
    found.create(PersistentVolume("v", "b", 60))
    found.doom("v")

    with pytest.raises(Conflict):
        found.to_unreserve("b")
    found.is_gone("v")

    assert found.to_unreserve("b").reservation == kept("b", 1, 100)


@pytest.mark.parametrize(
    "volume, kind, words",
    [
        (PersistentVolume("v", "a", 50), Conflict, "volume v is there already, with 60 MiB on a"),
        (PersistentVolume("v", "b", 60), Conflict, "volume v is there already"),
        (PersistentVolume("d", "a", 10), Conflict, "volume d is being destroyed"),
        (PersistentVolume("w", "x", 10), NotFound, "there is no reservation 'x'; on agent a1 there are: a, b"),
    ],
)
def test_a_volume_that_cannot_be_says_why(volume: PersistentVolume, kind: type[RunrigError], words: str) -> None:
    found = reserves(kept("a", 1, 100), kept("b", 1, 100))
    found.create(PersistentVolume("v", "a", 60))
    found.create(PersistentVolume("d", "a", 10))
    found.doom("d")

    with pytest.raises(kind, match=words):
        found.has_created(volume)
    assert found.has_created(PersistentVolume("v", "a", 60))


def test_the_number_of_volumes_is_bounded() -> None:
    found = reserves(kept("a", 1, 100))
    for number in range(MAX_VOLUMES):
        found.create(PersistentVolume(f"v{number}", "a", 1))

    with pytest.raises(Conflict, match=f"agent a1 has {MAX_VOLUMES} volumes"):
        found.has_created(PersistentVolume("more", "a", 1))


def test_the_store_is_told_what_changed_and_nothing_of_static_reservations() -> None:
    before = reserves(kept("a"), kept("b"), (kept("c"), "b"), static=(kept("s"),))
    before.create(PersistentVolume("v", "a", 60))
    before.create(PersistentVolume("w", "a", 60))
    after = before.copy()

    after.unreserve("b")
    after.reserve(kept("d"), "s")
    after.doom("v")
    after.doom("w")
    after.is_gone("w")

    assert changes(before, before.copy()) == ()
    assert changes(before, after) == (
        Forget(A1, reservation_id="b"),
        ReservationRecord(A1, kept("c")),
        ReservationRecord(A1, kept("d"), "s"),
        VolumeRecord(A1, PersistentVolume("v", "a", 60), is_doomed=True),
        Forget(A1, volume_id="w"),
    )


def test_what_the_store_was_told_comes_back_the_same() -> None:
    reservation = replace(kept("a", 2, 100, more="ports:[31000-31001]"), labels=(("k", "v"),), principal="p")
    volume = VolumeRecord(A1, PersistentVolume("v", "a", 60), is_doomed=True)
    written: list[Record] = [ReservationRecord(A1, reservation, "s"), volume]

    entries = [entry(each) for each in written]

    assert [key for key, _ in entries] == ["reservations/a1/a", "volumes/a1/v"]
    assert [record(key, value) for key, value in entries] == written
    forgotten = (Forget(A1, reservation_id="a"), Forget(A1, volume_id="v"))
    assert [key_of(each) for each in forgotten] == [key for key, _ in entries]


@pytest.mark.parametrize(
    "role, above, expected",
    [("eng", "eng", True), ("eng/ads", "eng", True), ("eng", "eng/ads", False), ("engine", "eng", False)],
)
def test_a_role_is_within_those_above_it(role: str, above: str, expected: bool) -> None:
    assert is_within(Role(role), Role(above)) is expected
