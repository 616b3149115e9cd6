"""docs/conformance.md and the cases agree: what the page names exists, and what exists the page names."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType

from tests.conformance.cases import MARKER, Case, Need
from tests.house.tree import ROOT

PAGE = (ROOT / "docs/conformance.md").read_text()
RULES = range(1, 21)
ROWS = range(1, 61)
NOT_BUILT = "not built yet"
WORDS = {
    Need.RESTART: "restart",
    Need.DEFAULTS: "defaults",
    Need.OFFER_TIMEOUT: "waits",
    Need.SILENCE: "waits",
    Need.WIRE: "streams",
}
"""How the page calls what a case needs."""
FEWEST_WORDS = 3
"""A row without a case says why in at least so many."""


@dataclass(frozen=True)
class Row:
    """A row of the page's table of Mesos tests."""

    scenario: str
    cases: frozenset[str]
    note: str


def sentence(name: str) -> str:
    """Return a case's name as the page writes it."""
    return name.removeprefix("test_").replace("_", " ")


def cases() -> Iterator[tuple[str, Case]]:
    """Yield the sentence of each case, and what it says of itself."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.conformance.{path.stem}")
        for name, function in vars(module).items():
            if isinstance(function, FunctionType) and name.startswith("test_"):
                for mark in getattr(function, "pytestmark", ()):
                    if mark.name == MARKER:
                        yield sentence(name), mark.args[0]


def sections() -> dict[int, str]:
    """Return the page's sections on rules, by number."""
    parts = re.split(r"^### Rule (\d+).*$", PAGE.partition("\n## Mesos")[0], flags=re.MULTILINE)
    return {int(number): text for number, text in zip(parts[1::2], parts[2::2], strict=True)}


def rows() -> dict[int, Row]:
    """Return the rows of the page's table of Mesos tests, by number."""
    found = {}
    for number, scenario, named, note in re.findall(r"^\| (\d+) \| (.*?) \| (.*?) \| (.*?) ?\|$", PAGE, re.MULTILINE):
        found[int(number)] = Row(scenario, frozenset(filter(None, named.split("<br>"))), note)
    return found


def test_no_two_cases_have_one_name_and_each_is_for_something() -> None:
    names = [name for name, _ in cases()]

    assert sorted({name for name in names if names.count(name) > 1}) == []
    assert [name for name, case in cases() if not case.rules and not case.mesos] == []


def test_the_page_lists_each_rules_cases_with_what_they_need() -> None:
    listed = {number: set(re.findall(r"^- (.*)$", text, re.MULTILINE)) for number, text in sections().items()}

    assert listed == {number: {line(*each) for each in cases() if number in each[1].rules} for number in RULES}


def line(name: str, case: Case) -> str:
    """Return what the page says of a case under its rules."""
    words = sorted({WORDS[need] for need in case.needs})
    return f"{name} ({', '.join(words)})" if words else name


def test_a_rule_without_a_case_says_that_it_is_not_built() -> None:
    covered = {rule for _, case in cases() for rule in case.rules}

    assert [rule for rule in RULES if rule not in covered and NOT_BUILT not in sections()[rule]] == []


def test_the_page_lists_each_mesos_rows_cases() -> None:
    listed = {number: set(row.cases) for number, row in rows().items()}

    assert listed == {number: {name for name, case in cases() if number in case.mesos} for number in ROWS}


def test_a_mesos_row_without_a_case_says_why() -> None:
    silent = [number for number, row in rows().items() if not row.cases and len(row.note.split()) < FEWEST_WORDS]

    assert silent == []
    assert all(row.scenario for row in rows().values())
