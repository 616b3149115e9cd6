"""Amounts against numbers and sets: whatever is put together and taken apart, nothing is lost, doubled or invented."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from runrig._wire.common import resources_from_wire, resources_to_wire
from runrig.errors import InvalidInput
from runrig.resources import MAX_PORT, NOTHING, Resources, checked_resources, count_ports, milli_text, ports_text
from runrig.v1 import resources_pb2
from tests.properties.amounts import SCALARS, Amounts, amounts, counted, ranges
from tests.properties.effort import searching

cuts = st.sets(st.integers(1, 12), max_size=4)
"""After which ports a range is broken in two that touch, as others may send it."""


def written(item: Amounts, cuts: set[int]) -> Resources:
    """Return `item` as it may come over the wire: ranges may touch."""
    pieces: list[tuple[int, int]] = []
    for begin, end in ranges(item.ports):
        for cut in sorted(cuts):
            if begin <= cut < end:
                pieces.append((begin, cut))
                begin = cut + 1
        pieces.append((begin, end))
    return replace(item.resources(), ports=tuple(pieces))


class Pool(RuleBasedStateMachine):
    """A pool to which agents bring what they have, and from which pieces are taken and given back."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = NOTHING
        self.model = Amounts()
        self.taken: list[tuple[Resources, Amounts]] = []

    @rule(item=amounts(most=20), cuts=cuts)
    def somebody_brings(self, item: Amounts, cuts: set[int]) -> None:
        more = checked_resources("more", written(item, cuts))
        assert more == item.resources()
        if item.ports & self.model.ports:
            with pytest.raises(AssertionError, match="overlap"):
                self.pool + more
            return
        assert self.pool + more == more + self.pool
        self.pool = self.pool + more
        self.model.add(item)

    @rule(item=amounts(), cuts=cuts)
    def somebody_takes(self, item: Amounts, cuts: set[int]) -> None:
        need = written(item, cuts)
        assert self.pool.contains(need) == self.model.holds(item)
        assert self.pool.shortfall(need) == self.model.missing(item)
        if self.model.holds(item):
            self.pool = self.pool - need
            self.model.take(item)
            self.taken.append((need, item))
        else:
            with pytest.raises(AssertionError, match="is not within"):
                self.pool - need

    @rule(count=st.integers(0, 14))
    def somebody_takes_the_lowest_ports(self, count: int) -> None:
        lowest = self.pool.take_ports(count)
        assert lowest == tuple(sorted(self.model.ports)[:count])
        piece = Amounts(ports=set(lowest))
        self.pool = self.pool - piece.resources()
        self.model.take(piece)
        self.taken.append((piece.resources(), piece))

    @rule(which=st.integers(0, 100))
    def what_was_taken_comes_back(self, which: int) -> None:
        if not self.taken:
            return
        need, item = self.taken.pop(which % len(self.taken))
        if item.ports & self.model.ports:  # others brought the same ports meanwhile
            need, item = need.without_ports(), Amounts(item.scalars)
        self.pool = self.pool + need
        self.model.add(item)

    @rule(item=amounts(), cuts=cuts)
    def ports_are_closed_as_far_as_they_are_here(self, item: Amounts, cuts: set[int]) -> None:
        self.pool = self.pool.less_ports(written(item, cuts).ports)
        self.model.take(Amounts(ports=item.ports & self.model.ports))

    @rule()
    def all_is_taken(self) -> None:
        assert self.pool - self.pool == NOTHING
        assert self.pool.contains(NOTHING)
        assert self.pool.without_ports() + Resources(ports=self.pool.ports) == self.pool

    @invariant()
    def sums_are_exact(self) -> None:
        assert self.pool == self.model.resources()
        assert counted(self.pool).ports == self.model.ports
        assert count_ports(self.pool.ports) == len(self.model.ports)
        assert self.pool.is_empty == (not self.model.ports and not any(self.model.scalars.values()))

    @invariant()
    def ranges_and_names_are_in_order(self) -> None:
        assert all(begin <= end for begin, end in self.pool.ports)
        assert all(left[1] + 1 < right[0] for left, right in pairwise(self.pool.ports)), "ranges overlap or touch"
        assert [name for name, _ in self.pool.custom] == sorted(name for name, amount in self.pool.custom if amount)

    @invariant()
    def it_is_read_as_it_was_written(self) -> None:
        assert Resources.parse(str(self.pool)) == self.pool
        sent = resources_pb2.Resources.FromString(resources_to_wire(self.pool).SerializeToString())
        assert checked_resources("pool", resources_from_wire(sent)) == self.pool


TestPool = Pool.TestCase
TestPool.settings = searching(examples=100, steps=40)

bounds = st.sampled_from([0, 1, 2, 3, 5, 6, 7, 8, 9, MAX_PORT, MAX_PORT + 1])


@given(st.lists(st.tuples(bounds, bounds), max_size=4))
@searching(examples=300)
def test_ranges_are_refused_exactly_when_they_are_no_set_of_ports(pieces: list[tuple[int, int]]) -> None:
    ports = [port for begin, end in pieces for port in (begin, end)]
    is_set = all(
        left[1] < right[0] or right[1] < left[0] for place, left in enumerate(pieces) for right in pieces[place + 1 :]
    )
    can_be = is_set and all(1 <= port <= MAX_PORT for port in ports) and all(begin <= end for begin, end in pieces)
    text = "ports:" + ",".join(f"{begin}-{end}" for begin, end in pieces)

    if can_be:
        read = Resources.parse(text)
        assert counted(read) == counted(Resources(ports=tuple(pieces)))
        assert read == counted(read).resources()
    else:
        with pytest.raises(InvalidInput):
            Resources.parse(text)
    if can_be and pieces == sorted(pieces):
        checked_resources("it", Resources(ports=tuple(pieces)))
    else:
        with pytest.raises(InvalidInput):
            checked_resources("it", Resources(ports=tuple(pieces)))


@given(amounts(most=5_000), cuts, st.randoms(use_true_random=False))
@searching(examples=100)
def test_what_people_write_in_any_order_means_the_same(item: Amounts, cuts: set[int], order: object) -> None:
    parts = [f"{name}:{milli_text(amount)}" for name, amount in item.scalars.items() if name not in SCALARS]
    parts.append(f"cpus:{milli_text(item.scalars['cpu_millis'])}")
    parts.extend(f"{name}:{item.scalars[f'{name}_mib']}M" for name in ("mem", "disk"))
    parts.append(f"gpus:{item.scalars['gpus']}")
    pieces = list(written(item, cuts).ports)
    order.shuffle(pieces)  # type: ignore[attr-defined]
    parts.append(f"ports:{ports_text(tuple(pieces))}")
    order.shuffle(parts)  # type: ignore[attr-defined]

    assert Resources.parse(";".join(parts)) == item.resources()
