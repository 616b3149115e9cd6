"""The whole cluster through storms drawn from seeds: 50 of them in `make test`, thousands in `make sim SEEDS=5000`."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter

import pytest

from runrig import Wants
from runrig.tasks import StatusUpdate
from runrig.testing import Cluster
from runrig.testing.faults import Climate, storm
from tests.sim.run import CLIMATE, STORM_S, Failed, Simulation, simulate
from tests.sim.shrink import shrink

SEEDS = int(os.environ.get("RUNRIG_SIM_SEEDS", "50"))
FIRST = int(os.environ.get("RUNRIG_SIM_FIRST", "0"))
AT_ONCE = 25
"""Seeds of one test: a test for each would cost more than the seed."""


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, AT_ONCE))
def test_nothing_is_lost_nothing_runs_twice_and_all_that_is_wanted_comes_true(first: int) -> None:
    for seed in range(first, min(first + AT_ONCE, FIRST + SEEDS)):
        try:
            simulate(seed)
        except Failed as failure:
            smallest = shrink(failure)
            listed = "\n".join(f"  {fault}" for fault in smallest.faults)
            pytest.fail(f"{smallest}\nwith these faults of {len(failure.faults)}:\n{listed}", pytrace=False)


@pytest.mark.parametrize("seed", [3, 14, 101])
def test_the_same_seed_gives_the_same_trace_byte_for_byte(seed: int) -> None:
    """In processes whose sets and dicts of strings have other orders, too."""
    program = f"from tests.sim.test_simulation import digest; print(digest({seed}))"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": number},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for number in ("1", "2")
    }

    assert len(digests) == 1


def digest(seed: int) -> str:
    """Return a digest of all that happened."""
    simulation = Simulation(seed)
    simulation.run()
    return hashlib.sha256("\n".join(map(str, simulation.cluster.world.trace)).encode()).hexdigest()


def test_storms_differ_in_kind_and_have_all_there_is() -> None:
    cluster = Cluster(masters=("master-1", "master-2"))
    cluster.agents(3)
    cluster.run("greedy", Wants())
    storms = [storm(seed, cluster, STORM_S, CLIMATE) for seed in range(200)]

    kinds = Counter(fault.kind for faults in storms for fault in faults)
    sets = {frozenset(fault.kind for fault in faults) for faults in storms}

    assert set(Climate().kinds) - {"cut"} <= set(kinds)
    assert {"cut", "cut up", "cut down"} <= set(kinds)
    assert len(sets) > 150


def test_storms_reach_what_they_should() -> None:
    """Beside the checkers: what happened in some storms, seen in their traces and in what was said of tasks."""
    said: Counter[str] = Counter()
    for seed in range(12):
        simulation = Simulation(seed)
        simulation.run()
        said.update(entry.what.split(" ")[0] for entry in simulation.cluster.world.trace if entry.who == "storm")
        for entry in simulation.cluster.world.trace:
            said.update(update.reason.name for update in updates_of(entry.detail))

    wanted = {"AGENT_UNREACHABLE", "AGENT_RETURNED", "LAUNCH_LOST", "INVALID_OFFERS", "KILLED_BY_OPERATOR"}
    assert wanted <= set(said), wanted - set(said)


def updates_of(detail: object) -> list[StatusUpdate]:
    """Return the updates in what a framework heard."""
    items = detail if isinstance(detail, tuple) else ()
    return [update for item in items for update in getattr(item, "updates", ())]
