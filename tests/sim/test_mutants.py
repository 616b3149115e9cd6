"""The list of planted bugs is kept true, and some of them are really hunted; `make mutants` hunts them all."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.sim.hunt import copy_tree, hunt_one
from tests.sim.mutants import MUTANTS, Part
from tests.sim.mutants.mutant import ROOT

HUNTED = (
    "an ended task gives its resources back twice",
    "nothing waits for the checkpoint",
    "the intent to launch is not written",
    "the next attempt has the number of the last",
)


@pytest.mark.parametrize("part", Part)
def test_each_planted_bug_still_has_its_place_and_can_be_compiled(part: Part) -> None:
    for mutant in (each for each in MUTANTS if each.part is part):
        planted = mutant.planted((ROOT / mutant.file).read_text())

        compile(planted, mutant.file, "exec")


def test_bugs_are_planted_in_all_parts_and_each_has_a_name_of_its_own() -> None:
    parts = Counter(mutant.part for mutant in MUTANTS)
    names = Counter(mutant.name for mutant in MUTANTS)

    assert set(parts) == set(Part)
    assert min(parts.values()) >= 5
    assert max(names.values()) == 1


def test_a_bug_is_never_planted_in_the_working_tree() -> None:
    with pytest.raises(AssertionError, match="copies"):
        MUTANTS[0].plant(ROOT)


def test_bugs_that_are_hunted_are_caught(tmp_path: Path) -> None:
    """In a copy, which is what is simulated; afterwards it is as it was."""
    copy_tree(tmp_path)
    chosen = [mutant for mutant in MUTANTS if mutant.name in HUNTED]
    before = [(tmp_path / mutant.file).read_text() for mutant in chosen]

    catches = [asyncio.run(hunt_one(mutant, tmp_path)) for mutant in chosen]

    assert [catch.mutant.name for catch in catches if catch.is_fine and catch.story] == list(HUNTED)
    assert [(tmp_path / mutant.file).read_text() for mutant in chosen] == before
