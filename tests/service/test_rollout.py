from __future__ import annotations

import pytest

from runrig_service.core.app import UpgradeStrategy
from runrig_service.core.rollout import Counts, Step, bounds, step


@pytest.mark.parametrize(
    "wanted, least, over, healthy, least_ready, capacity, stop, start",
    [
        (1, 1, 1, 1, 1, 2, 0, 1),
        (4, 1, 1, 4, 4, 8, 0, 4),
        (4, 0.5, 0, 4, 2, 4, 2, 0),
        (4, 0.5, 0.5, 4, 2, 6, 2, 2),
        (10, 0.9, 0.1, 10, 9, 11, 1, 1),
        (10, 1, 0, 10, 10, 11, 0, 1),
        (3, 0.7, 0, 3, 3, 4, 0, 1),
        (5, 0.5, 0, 5, 3, 5, 2, 0),
        (5, 0.5, 0, 2, 3, 5, 0, 3),
        (10, 0, 0, 10, 0, 10, 10, 0),
    ],
)
def test_the_first_step_of_a_rollout_is_marathons(
    wanted: int, least: float, over: float, healthy: int, least_ready: int, capacity: int, stop: int, start: int
) -> None:
    strategy = UpgradeStrategy(least, over)

    planned = step(Counts(wanted, old_ready=healthy), strategy)

    assert bounds(wanted, strategy, healthy) == (least_ready, capacity)
    assert planned == Step(start=start, stop_ready=stop)


def test_an_old_instance_makes_room_for_each_new_one_that_is_ready() -> None:
    counts = Counts(wanted=4, new=4, new_ready=3, old_ready=4)

    planned = step(counts, UpgradeStrategy(1.0, 1.0))

    assert planned == Step(stop_ready=3)


def test_what_is_being_stopped_takes_its_place_until_it_has_ended() -> None:
    strategy = UpgradeStrategy(0.5, 0.0)

    assert step(Counts(4, old_ready=2, stopping=2, stopping_old=2), strategy) == Step(start=0)
    assert step(Counts(4, old_ready=2, stopping=1, stopping_old=1), strategy) == Step(start=1)


def test_with_fewer_wanted_than_there_are_the_surplus_goes_at_once_the_unhealthy_first() -> None:
    planned = step(Counts(wanted=2, old_ready=4, old_not_ready=1), UpgradeStrategy(1.0, 0.0))

    assert (planned.stop_not_ready, planned.stop_ready) == (1, 2)


def test_unhealthy_old_instances_make_room_where_there_is_none() -> None:
    planned = step(Counts(wanted=4, old_not_ready=4), UpgradeStrategy(1.0, 0.0))

    assert planned == Step(stop_not_ready=4)


def test_unhealthy_old_instances_stay_where_there_is_room() -> None:
    planned = step(Counts(wanted=4, old_ready=2, old_not_ready=2), UpgradeStrategy(1.0, 1.0))

    assert planned == Step(start=4)


def test_shares_are_decimals() -> None:
    assert bounds(20, UpgradeStrategy(0.7, 0.15), 0) == (14, 23)


@pytest.mark.parametrize("wanted", range(7))
@pytest.mark.parametrize("least", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("over", [0.0, 0.2, 1.0])
def test_a_rollout_ends_and_never_goes_below_its_least_or_above_its_capacity(
    wanted: int, least: float, over: float
) -> None:
    strategy = UpgradeStrategy(least, over)
    old, new, new_ready = max(wanted, 3), 0, 0
    least_ready, capacity = bounds(wanted, strategy, old)

    for _ in range(100):
        planned = step(Counts(wanted, new, new_ready, old), strategy)
        if planned == Step() and new == new_ready:
            break
        old -= planned.stop_ready
        assert old + new_ready >= min(least_ready, wanted)
        new += planned.start
        assert old + new <= max(capacity, 3)
        new_ready = min(new, new_ready + 1)

    assert (old, new, new_ready) == (0, wanted, wanted)
