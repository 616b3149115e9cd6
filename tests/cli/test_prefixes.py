from __future__ import annotations

import pytest

from runrig.cli.durations import parse_duration
from runrig.cli.prefixes import cut, find, shortest
from runrig.errors import InvalidInput, NotFound


def test_the_beginning_of_an_id_is_enough_when_it_is_unique() -> None:
    assert find("task", "web", ["web-1", "batch-1"], str) == "web-1"


def test_a_whole_id_wins_over_longer_ones_that_begin_with_it() -> None:
    assert find("task", "web-1", ["web-1", "web-10"], str) == "web-1"


def test_another_name_is_taken_whole() -> None:
    agents = {"9f3c": "agent-1", "77aa": "agent-11"}

    assert find("agent", "agent-1", agents, str, also=lambda identity: agents[identity]) == "9f3c"
    with pytest.raises(NotFound):
        find("agent", "agent", agents, str, also=lambda identity: agents[identity])


def test_a_prefix_of_several_ids_is_refused_with_their_names() -> None:
    with pytest.raises(InvalidInput, match=r"it may mean web-1, web-2, web-3 and 1 more"):
        find("task", "web", ["web-1", "web-2", "web-3", "web-4"], str)


def test_what_fits_nothing_is_not_found_with_the_command_that_lists() -> None:
    with pytest.raises(NotFound, match=r"there is no task 'x'; `runrig tasks ls` lists"):
        find("task", "x", ["web-1"], str)


def test_nothing_given_finds_nothing() -> None:
    with pytest.raises(NotFound):
        find("task", "", ["web-1"], str)


def test_short_ids_stay_unique_and_long_enough_to_be_typed() -> None:
    assert shortest(["abcdef-1", "abcdef-2", "x"], 4) == {
        "abcdef-1": "abcdef-1",
        "abcdef-2": "abcdef-2",
        "x": "x",
    }
    assert shortest(["aaaaaaaaaaaa", "bbbbbbbbbbbb"], 4) == {"aaaaaaaaaaaa": "aaaa", "bbbbbbbbbbbb": "bbbb"}
    assert shortest(["abc", "abcd"], 1) == {"abc": "abc", "abcd": "abcd"}


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("10", 10.0),
        ("0.5", 0.5),
        ("500ms", 0.5),
        ("10s", 10.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1d", 86_400.0),
    ],
)
def test_a_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration("--grace", text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "ten", "10x", "-1s", "1s later"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"--grace: .* a time such as 500ms, 10s"):
        parse_duration("--grace", text)


def test_an_id_that_a_table_cut_in_the_middle_is_found_as_it_was_copied() -> None:
    ids = ["0b2c3d4e-1111.web-1", "0b2c3d4e-1111.web-2"]

    assert cut(ids[1], 15) == "0b2c3d4…1.web-2"
    assert [find("task", cut(each, 15), ids, str) for each in ids] == ids
