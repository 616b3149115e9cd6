"""How many instances to start and to stop now, while an app changes and at rest.

The arithmetic is that of Marathon's rolling restart, made a function of what runs at the moment instead of
a script with a memory: a rollout that is interrupted, by a crash or by another change, goes on from
whatever it finds. For an app whose old instances are all healthy each step is Marathon's. Where Marathon
would wait for ever because unhealthy old instances fill the capacity, they make room: that takes nothing
from what serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from runrig_service.core.app import UpgradeStrategy


@dataclass(frozen=True, slots=True)
class Counts:
    """What there is of an app.

    `new` have the current configuration, waiting ones included, and `old` an earlier one; neither is being
    stopped. Ready is healthy, or running where there are no checks. `stopping` are on their way out.
    """

    wanted: int
    new: int = 0
    new_ready: int = 0
    old_ready: int = 0
    old_not_ready: int = 0
    stopping: int = 0
    stopping_old: int = 0

    @property
    def is_rolling(self) -> bool:
        """Say whether anything of an earlier configuration is left."""
        return bool(self.old_ready or self.old_not_ready or self.stopping_old)


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now; the rest follows when something has changed."""

    start: int = 0
    stop_ready: int = 0
    """Old instances that serve."""
    stop_not_ready: int = 0
    """Old instances that do not."""
    stop_new: int = 0

    @property
    def stops(self) -> bool:
        """Say whether anything is to be stopped."""
        return bool(self.stop_ready or self.stop_not_ready or self.stop_new)


def step(counts: Counts, strategy: UpgradeStrategy) -> Step:
    """Return the next step towards `counts.wanted` instances of the current configuration."""
    stop_new = max(0, counts.new - counts.wanted)
    if not counts.is_rolling:
        return Step(start=_start(counts, counts.wanted), stop_new=stop_new)
    least_ready, capacity = bounds(counts.wanted, strategy, counts.old_ready + counts.new_ready)
    excess = max(0, min(counts.old_ready, counts.old_ready + counts.new_ready - least_ready))
    surplus = max(0, counts.old_ready + counts.old_not_ready - max(0, counts.wanted - counts.new_ready))
    if excess:
        not_ready = counts.old_not_ready
    else:
        not_ready = min(counts.old_not_ready, max(surplus, _shortage(counts, capacity)))
    ready = min(counts.old_ready, max(excess, surplus - not_ready))
    return Step(_start(counts, capacity), ready, not_ready, stop_new)


def bounds(wanted: int, strategy: UpgradeStrategy, ready: int) -> tuple[int, int]:
    """Return how many must stay ready and how many there may be at most.

    Where the strategy leaves no room to move, one more is allowed. The shares are read as the decimals that
    people wrote: in binary 20 x 1.15 is less than 23.
    """
    least_ready = -(-wanted * Fraction(str(strategy.minimum_health_capacity)) // 1)
    capacity = wanted * (1 + Fraction(str(strategy.maximum_over_capacity))) // 1
    if least_ready == capacity and capacity <= ready:
        capacity += 1
    return int(least_ready), int(capacity)


def _start(counts: Counts, capacity: int) -> int:
    return min(max(0, counts.wanted - counts.new), max(0, _room(counts, capacity)))


def _room(counts: Counts, capacity: int) -> int:
    """Return how many more there may be; what is being stopped takes its place until it has ended."""
    return capacity - counts.new - counts.old_ready - counts.old_not_ready - counts.stopping


def _shortage(counts: Counts, capacity: int) -> int:
    """Return how many places are missing, beyond those that become free by themselves."""
    missing = max(0, counts.wanted - counts.new)
    return max(0, missing - _room(counts, capacity) - counts.stopping)
