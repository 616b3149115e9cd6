"""Which indices an array has: ranges, so that a hundred thousand cost as much as one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from runrig.errors import InvalidInput

Ranges = tuple[tuple[int, int], ...]
"""Disjoint ascending ranges, inclusive at both ends: `((0, 99),)`."""

MAX_INDEX = 2**31 - 1
MAX_RANGES = 10_000
_RANGE = re.compile(r"(\d{1,10})(?:-(\d{1,10}))?\Z")


def first_indices(count: int) -> Ranges:
    """Return the ranges of `0 … count - 1`."""
    return ((0, count - 1),)


def ranges_of(field: str, numbers: Iterable[int]) -> Ranges:
    """Return the ranges that hold just `numbers`; raise InvalidInput naming `field` if one stands twice."""
    return _joined(field, [(number, number) for number in numbers])


def parse_ranges(field: str, text: str) -> Ranges:
    """Read `0-99,200`; raise InvalidInput naming `field`."""
    found: list[tuple[int, int]] = []
    for part in text.split(","):
        match = _RANGE.match(part.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise InvalidInput(field, part, "indices and ranges such as 0-99,200, the lower end first")
        found.append((int(match[1]), int(match[2] or match[1])))
    return _joined(field, found)


def count_of(ranges: Ranges) -> int:
    """Return how many indices there are."""
    return sum(high - low + 1 for low, high in ranges)


def all_of(ranges: Ranges, after: int = -1) -> Iterator[int]:
    """Yield the indices above `after`, ascending."""
    for low, high in ranges:
        if high > after:
            yield from range(max(low, after + 1), high + 1)


def holds(ranges: Ranges, index: int) -> bool:
    """Say whether `index` is one of them."""
    return any(low <= index <= high for low, high in ranges)


def text_of(ranges: Ranges) -> str:
    """Return `0-99,200`."""
    return ",".join(f"{low}-{high}" if high > low else str(low) for low, high in ranges)


def _joined(field: str, found: list[tuple[int, int]]) -> Ranges:
    joined: list[tuple[int, int]] = []
    for low, high in sorted(found):
        if high > MAX_INDEX:
            raise InvalidInput(field, high, f"indices up to {MAX_INDEX}")
        if joined and low <= joined[-1][1]:
            raise InvalidInput(field, low, "each index once")
        if joined and low == joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    if not joined:
        raise InvalidInput(field, "", "at least one index")
    if len(joined) > MAX_RANGES:
        raise InvalidInput(field, len(joined), f"at most {MAX_RANGES} separate ranges")
    return tuple(joined)
