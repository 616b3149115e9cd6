"""Times at which something is due."""

from __future__ import annotations

from runrig_master.core.alarms import LEAST_STALE, Alarms


def test_what_is_due_comes_up_once_the_earliest_first_and_by_name() -> None:
    alarms: Alarms[str] = Alarms()
    for name, at in (("c", 2.0), ("b", 1.0), ("a", 2.0), ("d", 3.0)):
        alarms.set(name, at)

    assert alarms.due(0.5) == []
    assert alarms.due(2.0) == ["b", "a", "c"]
    assert alarms.due(2.0) == []
    assert alarms.next() == 3.0


def test_a_time_that_is_set_anew_takes_the_place_of_the_last() -> None:
    alarms: Alarms[str] = Alarms()
    alarms.set("sooner", 9.0)
    alarms.set("later", 1.0)

    alarms.set("sooner", 2.0)
    alarms.set("later", 4.0)

    assert alarms.next() == 2.0
    assert alarms.due(5.0) == ["sooner", "later"]


def test_what_is_called_off_does_not_come_up() -> None:
    alarms: Alarms[str] = Alarms()
    alarms.set("a", 1.0)

    alarms.call_off("a")
    alarms.call_off("nobody")

    assert alarms.next() is None
    assert alarms.due(9.0) == []


def test_a_time_that_is_set_again_and_again_does_not_fill_the_memory() -> None:
    alarms: Alarms[str] = Alarms()

    for number in range(10_000):
        alarms.set("a", 10_000.0 - number)

    assert len(alarms._heap) <= 2 + LEAST_STALE + 1
    assert alarms.due(10_000.0) == ["a"]
