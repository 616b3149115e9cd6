"""Amounts: containment, port ranges, and what people write; sums and differences are in tests/properties."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runrig.errors import InvalidInput
from runrig.resources import (
    MAX_AMOUNT,
    NOTHING,
    Resources,
    checked_resources,
    count_ports,
    milli_text,
    parse_count,
    parse_mib,
    parse_milli,
    parse_ports,
    ports_contain,
    ports_text,
    single_ports,
)

amount = st.integers(0, 10_000)
port_sets = st.frozensets(st.integers(1, 40), max_size=25)
custom = st.dictionaries(st.sampled_from(["licences", "fpga", "x-y.z_0"]), st.integers(1, 5_000), max_size=3)


@st.composite
def resources(draw: st.DrawFn, ports: st.SearchStrategy[frozenset[int]] = port_sets) -> Resources:
    """Draw amounts as they stand in the books: ranges joined, names ascending, no zeros."""
    return Resources(
        draw(amount),
        draw(amount),
        draw(amount),
        draw(st.integers(0, 8)),
        single_ports(sorted(draw(ports))),
        tuple(sorted(draw(custom).items())),
    )


@st.composite
def disjoint(draw: st.DrawFn) -> tuple[Resources, Resources]:
    """Draw two amounts that name no port in common."""
    first, second = draw(port_sets), draw(port_sets)
    return draw(resources(st.just(first))), draw(resources(st.just(second - first)))


def port_set(item: Resources) -> set[int]:
    return {port for begin, end in item.ports for port in range(begin, end + 1)}


@given(resources(), resources())
def test_there_is_no_shortfall_exactly_when_it_fits(has: Resources, need: Resources) -> None:
    assert (not has.shortfall(need)) == has.contains(need)


@given(resources(), resources())
def test_a_shortfall_says_how_much_is_missing(has: Resources, need: Resources) -> None:
    short = has.shortfall(need)

    assert all(missing > 0 for missing in short.values())
    assert short.get("cpu_millis", 0) == max(0, need.cpu_millis - has.cpu_millis)
    assert short.get("ports", 0) == len(port_set(need) - port_set(has))
    assert short.get("fpga", 0) == max(0, dict(need.custom).get("fpga", 0) - dict(has.custom).get("fpga", 0))


@given(resources(), resources(), resources())
def test_containing_is_transitive(first: Resources, second: Resources, third: Resources) -> None:
    assert not (first.contains(second) and second.contains(third)) or first.contains(third)


def test_ranges_that_touch_are_joined_when_they_come_in() -> None:
    """Otherwise one set of ports has two spellings, and an agent that changes its spelling seems to have changed."""
    touching = Resources(ports=((1, 5), (6, 6), (8, 9)))

    assert checked_resources("agent", touching).ports == ((1, 6), (8, 9))


def test_ports_cannot_be_added_twice() -> None:
    with pytest.raises(AssertionError):
        Resources(ports=((1, 5),)) + Resources(ports=((5, 6),))


@given(port_sets, port_sets)
def test_ranges_are_sets_of_ports(first: frozenset[int], second: frozenset[int]) -> None:
    mine, others = single_ports(sorted(first)), single_ports(sorted(second))

    assert count_ports(mine) == len(first)
    assert ports_contain(mine, others) == (second <= first)
    assert port_set(Resources(ports=mine).less_ports(others)) == first - second
    assert parse_ports("ports", ports_text(mine)) == mine


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 3)), max_size=5), port_sets)
def test_ranges_that_touch_contain_what_their_union_contains(
    pieces: list[tuple[int, int]], wanted: frozenset[int]
) -> None:
    touching = []
    begin = 1
    for _, length in pieces:
        touching.append((begin, begin + length))
        begin += length + 1
    has = Resources(ports=tuple(touching))
    need = Resources(ports=single_ports(sorted(wanted)))

    assert has.contains(has)
    assert has.contains(need) == (not has.shortfall(need)) == (wanted <= port_set(has))


@given(port_sets, st.integers(0, 30))
def test_the_lowest_ports_are_taken_first(ports: frozenset[int], count: int) -> None:
    assert Resources(ports=single_ports(sorted(ports))).take_ports(count) == tuple(sorted(ports)[:count])


@given(resources())
def test_what_is_written_is_read_back(item: Resources) -> None:
    assert Resources.parse(str(item)) == item


@given(st.integers(0, MAX_AMOUNT) | st.integers(MAX_AMOUNT - 2_000, MAX_AMOUNT))
def test_thousandths_are_written_and_read_exactly(millis: int) -> None:
    assert parse_milli("cpus", milli_text(millis)) == millis


@pytest.mark.parametrize(
    "text, expected",
    [
        ("cpus:2;mem:4G", Resources(2000, 4096)),
        (" cpus : 0.5 ; mem : 512M ; ", Resources(500, 512)),
        ("cpus:1;mem:1.5G;disk:2T;gpus:1", Resources(1000, 1536, 2 * 1024 * 1024, 1)),
        ("mem:1", Resources(0, 1)),
        ("mem:1K", Resources(0, 1)),
        ("mem:512MiB", Resources(0, 512)),
        ("mem:512mb", Resources(0, 512)),
        ("ports:[31000-31001,31002,40000]", Resources(ports=((31000, 31002), (40000, 40000)))),
        ("ports:31000-31001", Resources(ports=((31000, 31001),))),
        ("licences:1.5;fpga:2", Resources(custom=(("fpga", 2000), ("licences", 1500)))),
        ("licences:0", NOTHING),
        ("", NOTHING),
    ],
)
def test_what_people_write_is_understood(text: str, expected: Resources) -> None:
    assert Resources.parse(text) == expected
    assert checked_resources("resources", Resources.parse(text)) == expected


@pytest.mark.parametrize(
    "text, field",
    [
        ("cpus", "resources"),
        (":2", "resources"),
        ("cpus:", "resources.cpus"),
        ("cpus:two", "resources.cpus"),
        ("cpus:-1", "resources.cpus"),
        ("cpus:0.0001", "resources.cpus"),
        ("cpus:0.00049999999999999999999999999999999999", "resources.cpus"),
        ("cpus:0.99999999999999999999999999999999999999", "resources.cpus"),
        ("cpus:nan", "resources.cpus"),
        ("cpus:snan", "resources.cpus"),
        ("cpus:inf", "resources.cpus"),
        ("cpus:1e400", "resources.cpus"),
        ("cpus:1e999999999999", "resources.cpus"),
        ("cpus:1e-999999999", "resources.cpus"),
        ("cpus:1;cpus:2", "resources"),
        ("mem:4X", "resources.mem"),
        ("mem:-4G", "resources.mem"),
        ("mem:99999999999999999T", "resources.mem"),
        ("gpus:0.5", "resources.gpus"),
        ("gpus:-1", "resources.gpus"),
        ("ports:[31000-30000]", "resources.ports"),
        ("ports:[0]", "resources.ports"),
        ("ports:[65536]", "resources.ports"),
        ("ports:[1-5,3-9]", "resources.ports"),
        ("ports:[a-b]", "resources.ports"),
        ("ports:[1];ports:[2]", "resources"),
        ("GPUs:1", "resources"),
        ("a b:1", "resources"),
        ("licences:1;licences:1", "resources"),
        ("licences:x", "resources.licences"),
    ],
)
def test_what_cannot_be_is_refused_by_field_value_and_what_is_allowed(text: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Resources.parse(text)

    assert caught.value.field == field
    assert "allowed" in str(caught.value)


@given(st.text(max_size=30))
@example("0\x1f")
@example("1e999999999999")
def test_no_text_breaks_the_parsers(text: str) -> None:
    for parse in (parse_milli, parse_mib, parse_count, parse_ports, lambda field, it: Resources.parse(it, field)):
        try:
            parse("field", text)
        except InvalidInput as error:
            assert error.field.startswith("field")  # noqa: PT017 (either outcome is right)


@given(st.decimals(0, 1000, places=6))
def test_sizes_are_rounded_up_to_whole_mebibytes(size: Decimal) -> None:
    assert 0 <= parse_mib("mem", f"{size:f}") - size < 1


@pytest.mark.parametrize(
    "item, field",
    [
        (Resources(cpu_millis=-1), "it.cpu_millis"),
        (Resources(mem_mib=MAX_AMOUNT + 1), "it.mem_mib"),
        (Resources(ports=((2, 1),)), "it.ports"),
        (Resources(ports=((5, 9), (1, 2))), "it.ports"),
        (Resources(ports=tuple((number * 2, number * 2) for number in range(1, 1030))), "it.ports"),
        (Resources(custom=(("b", 1), ("a", 1))), "it.custom"),
        (Resources(custom=(("a", 0),)), "it.a"),
        (Resources(custom=(("cpus", 1),)), "it"),
        (Resources(custom=tuple((f"r{number:03}", 1) for number in range(65))), "it.custom"),
    ],
)
def test_amounts_that_came_over_the_wire_are_checked(item: Resources, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        checked_resources("it", item)

    assert caught.value.field == field
