"""The whole cluster through storms drawn from seeds: 50 of them in `make test`, thousands in `make sim SEEDS=5000`."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter

import pytest

from runrig import Wants
from runrig.tasks import Reason, StatusUpdate
from runrig.testing import Cluster
from runrig.testing.faults import Climate, Fault, storm
from tests.sim.run import CLIMATE, STORM_S, Failed, Simulation, simulate
from tests.sim.shrink import shrink

SEEDS = int(os.environ.get("RUNRIG_SIM_SEEDS", "50"))
FIRST = int(os.environ.get("RUNRIG_SIM_FIRST", "0"))
AT_ONCE = 25
"""Seeds of one test: a test for each would cost more than the seed."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, AT_ONCE))
def test_nothing_is_lost_nothing_runs_twice_and_all_that_is_wanted_comes_true(first: int) -> None:
    for seed in range(first, min(first + AT_ONCE, FIRST + SEEDS)):
        try:
            simulate(seed)
        except Failed as failure:
            smallest = shrink(failure)
            listed = "\n".join(f"  {fault}" for fault in smallest.faults)
            pytest.fail(f"{smallest}\nwith these faults of {len(failure.faults)}:\n{listed}", pytrace=False)


@pytest.mark.parametrize("seed", [3, 14, 15])
def test_the_same_seed_gives_the_same_trace_byte_for_byte(seed: int) -> None:
    """In processes whose sets and dicts of strings have other orders, too; the last seed's envelopes are bytes."""
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


def test_faults_lead_to_what_they_should() -> None:
    """Beside the checkers: what each kind of fault leads to is seen in what frameworks were told of their tasks."""
    cuts = [Fault(30.0, "cut", f"agent-{number}", "master-1", lasts_s=150.0) for number in range(1, 9)]
    deaths = [Fault(10.0 * number, "kill agent", f"agent-{number}", lasts_s=5.0) for number in range(9, 20)]
    echo = Fault(2.0, "echo", lasts_s=25.0, amount=0.5)
    operator = [Fault(200.0 + 2 * number, "kill task", "service", amount=number / 10) for number in range(5)]
    reboots = [Fault(240.0, "reboot", f"agent-{number}", lasts_s=3.0) for number in range(1, 15)]
    said: set[Reason] = set()

    for seed in range(3):
        simulation = Simulation(seed, [echo, *cuts, *deaths, *operator, *reboots])
        simulation.run()
        for entry in simulation.cluster.world.trace:
            said.update(update.reason for update in updates_of(entry.detail))

    wanted = {
        Reason.AGENT_UNREACHABLE, Reason.AGENT_RETURNED, Reason.LAUNCH_LOST, Reason.INVALID_OFFERS,
        Reason.KILLED_BY_OPERATOR, Reason.HOST_REBOOTED, Reason.EXITED, Reason.KILLED_BY_FRAMEWORK,
    }  # fmt: skip
    assert wanted <= said, wanted - said


def updates_of(detail: object) -> list[StatusUpdate]:
    """Return the updates in what a framework heard."""
    items = detail if isinstance(detail, tuple) else ()
    return [update for item in items for update in getattr(item, "updates", ())]
