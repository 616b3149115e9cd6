"""Those who hold what they are offered without an answer delay others by one offer timeout at most."""

from __future__ import annotations

import pytest

from runrig import Run, task
from runrig.demand import Demand
from runrig.resources import Resources
from runrig.testing import Cluster
from runrig_master.core.settings import CoreSettings
from tests.scenarios.frameworks import Crowd, Demanding, Eager, Raw, copies

SETTINGS = CoreSettings()
TASK = task("work", cpus=1, mem="512M")
AGENTS = 10
MARGIN_S = 0.01


def test_demand_waits_behind_a_hoarder_for_as_long_as_one_may_think_about_an_offer() -> None:
    cluster = hoarded()
    crowd = cluster.run("crowd", Crowd)
    cluster.advance("3s")

    crowd.tell(Run(copies(TASK, "crowd", 40)))

    assert cluster.until(lambda: crowd.count() == 40, within="2s") <= SETTINGS.offer_hold_s + MARGIN_S


@pytest.mark.parametrize("hoarders", [1, 4, 9])
def test_a_raw_framework_waits_for_its_fair_part_behind_hoarders_for_one_offer_timeout(hoarders: int) -> None:
    cluster = hoarded(hoarders)
    part = AGENTS // (hoarders + 1)

    cluster.run("eager", lambda: Eager("eager", "cpus:4;mem:8G", most=part), roles=("eager",))

    took_s = cluster.until(lambda: len(cluster.running) == part, within="10m")
    assert took_s <= SETTINGS.offer_timeout_s + MARGIN_S


@pytest.mark.parametrize("role", ["hoarders", "crowd"])
def test_demand_waits_behind_who_states_demand_and_never_answers_for_one_offer_timeout(role: str) -> None:
    cluster = Cluster()
    cluster.agents(AGENTS, "cpus:4;mem:8G")
    everything = Demand("all", Resources.parse("cpus:1;mem:512M"), 40)
    for number in range(3):
        name = f"a-hoarder-{number}"
        cluster.run(name, Demanding(name, "hoarders", everything), roles=("hoarders",))
    cluster.advance("10s")
    crowd = cluster.run("crowd", Crowd, roles=(role,))

    crowd.tell(Run(copies(TASK, "crowd", 10)))

    took_s = cluster.until(lambda: crowd.count() == 10, within="10m")
    assert took_s <= SETTINGS.offer_timeout_s + MARGIN_S


def test_a_hoarder_that_comes_back_again_and_again_holds_up_an_endless_stream_of_demand_no_longer() -> None:
    cluster = hoarded(5)
    crowd = cluster.run("crowd", Crowd)
    cluster.advance("3s")
    for wave in range(20):
        crowd.tell(Run(copies(TASK, f"crowd-{wave}", 2)))
        count = 2 * (wave + 1)

        took_s = cluster.until(lambda count=count: crowd.count() == count, within="2s")  # type: ignore[misc]

        assert took_s <= SETTINGS.offer_hold_s + MARGIN_S, f"wave {wave}"
        cluster.advance("7s")


def hoarded(hoarders: int = 1) -> Cluster:
    """Return a cluster of which all is held by frameworks that never answer."""
    cluster = Cluster(SETTINGS)
    for number in range(hoarders):
        name = f"a-hoarder-{number:02}"
        cluster.run(name, Raw(name), roles=(name,))
    cluster.agents(AGENTS, "cpus:4;mem:8G")
    cluster.advance("1s")
    assert sum(offer.resources.cpu_millis for offer in cluster.master.cluster.offers.values()) == 40_000
    return cluster
