from __future__ import annotations

from runrig_agent.core.timers import TimerKind, Timers
from tests.agent.core.given import key


def test_a_timer_that_is_set_again_is_due_once_at_the_new_time() -> None:
    timers = Timers()
    timers.set(TimerKind.KILL, 5.0, key())
    timers.set(TimerKind.KILL, 7.0, key())

    assert timers.due(6.0) == []
    assert timers.next_deadline() == 7.0
    assert timers.due(7.0) == [(TimerKind.KILL, key())]
    assert timers.due(100.0) == []


def test_a_timer_that_is_cancelled_is_never_due() -> None:
    timers = Timers()
    timers.set(TimerKind.KILL, 5.0, key())
    timers.cancel(TimerKind.KILL, key())

    assert timers.next_deadline() is None
    assert timers.due(100.0) == []


def test_timers_are_due_in_the_order_of_their_times_and_then_of_their_setting() -> None:
    timers = Timers()
    for name, at in (("late", 3.0), ("b", 2.0), ("a", 2.0)):
        timers.set(TimerKind.KILL, at, key(name))

    assert [name[1] for _, name in timers.due(3.0)] == ["b", "a", "late"]


def test_cancelled_timers_do_not_pile_up() -> None:
    timers = Timers()
    for number in range(10_000):
        timers.set(TimerKind.KILL, 1000.0 + number, key())

    assert len(timers._heap) < 2000
