"""Make a failing storm small: leave out faults as long as it fails in the same place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from runrig.testing.faults import Fault
from tests.sim.run import Failed, simulate


def failure_of(seed: int, faults: Sequence[Fault] | None = None) -> Failed | None:
    """Run a simulation and return how it failed."""
    try:
        simulate(seed, faults)
    except Failed as failure:
        return failure
    return None


def shrink(failure: Failed, tries_most: int = 60, run: Callable[..., Failed | None] = failure_of) -> Failed:
    """Return the same failure with as few faults as could be found (Zeller's ddmin, bounded)."""
    smallest, size, tries = failure, 2, 0
    while len(smallest.faults) >= 1 and size <= 2 * len(smallest.faults) and tries < tries_most:
        for part in _without_each(smallest.faults, size):
            tries += 1
            found = run(failure.seed, part)
            if found is not None and found.where == failure.where:
                smallest, size = found, max(size - 1, 2)
                break
            if tries >= tries_most:
                break
        else:
            size *= 2
    return smallest


def _without_each(faults: Sequence[Fault], parts: int) -> list[tuple[Fault, ...]]:
    parts = min(parts, len(faults))
    cuts = [len(faults) * number // parts for number in range(parts + 1)]
    return [tuple(faults[:begin]) + tuple(faults[end:]) for begin, end in pairwise(cuts) if begin < end]
