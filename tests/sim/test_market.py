"""Allocation under pressure, from seeds: limits, gangs, priorities and optimistic offers at once."""

from __future__ import annotations

import os

import pytest

from tests.sim.market import simulate

FIRST = int(os.environ.get("RUNRIG_SIM_FIRST", "0"))
SEEDS = max(12, int(os.environ.get("RUNRIG_SIM_SEEDS", "50")) // 4)
AT_ONCE = 6


@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, AT_ONCE))
def test_whatever_is_wanted_and_set_the_rules_of_allocation_hold_and_all_runs_in_the_end(first: int) -> None:
    for seed in range(first, min(first + AT_ONCE, FIRST + SEEDS)):
        try:
            simulate(seed)
        except AssertionError as error:
            raise AssertionError(f"market seed {seed}: {error}") from error
