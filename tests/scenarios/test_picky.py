"""A picky framework beside twenty greedy ones: 90 tasks, each on a host of its own, on 100 agents."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runrig import Constraint, Operator, Run, Want, task
from runrig.testing import Cluster, Weather
from tests.scenarios.frameworks import Crowd, Decliner, Raw, copies

GREEDY = 20
BOUND_S = 1.0
TASK = task("work", cpus=1, mem="512M", constraints=[Constraint("hostname", Operator.UNIQUE)])

holds = Raw
KINDS: dict[str, Callable[[str], Raw]] = {
    "holds": holds,
    "declines at once": Decliner,
    "declines soon for no time": lambda name: Decliner(name, refuse_ms=0, thinks_s=0.05),
    "declines after some thought": lambda name: Decliner(name, thinks_s=0.2),
    "declines after long thought": lambda name: Decliner(name, thinks_s=20.0),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("roles", ["one role", "a role each"])
def test_a_picky_framework_is_running_within_a_second_of_asking_whatever_greedy_ones_do(kind: str, roles: str) -> None:
    cluster = busy_with(kind, roles)
    picky = cluster.run("picky", Crowd, roles=("picky",))
    cluster.advance("1s")

    picky.tell(Run(copies(TASK, "picky", 90)))
    took_s = cluster.until(lambda: picky.count() == 90, within=BOUND_S)

    assert took_s <= BOUND_S
    assert len({view.hostname for view in picky.tasks.values()}) == 90


def test_it_is_as_fast_when_hosts_are_nearly_full_and_it_needs_all_that_is_left_of_each() -> None:
    cluster = busy_with("holds", "a role each")
    picky = cluster.run("picky", Crowd, roles=("picky",))
    cluster.advance("1s")
    whole: Want = task("work", cpus=4, mem="8G", constraints=[Constraint("hostname", Operator.UNIQUE)])

    picky.tell(Run(copies(whole, "picky", 90)))

    assert cluster.until(lambda: picky.count() == 90, within=BOUND_S) <= BOUND_S


def test_the_greedy_ones_are_offered_again_what_is_left() -> None:
    cluster = busy_with("holds", "a role each")
    picky = cluster.run("picky", Crowd, roles=("picky",))
    picky.tell(Run(copies(TASK, "picky", 90)))
    cluster.until(lambda: picky.count() == 90, within=BOUND_S)

    cluster.advance("6s")

    offered = sum(offer.resources.cpu_millis for offer in cluster.master.cluster.offers.values())
    assert offered == 100 * 4000 - 90 * 1000


def busy_with(kind: str, roles: str) -> Cluster:
    """Return a cluster of 100 agents and of greedy frameworks that want nothing; each envelope takes its time."""
    cluster = Cluster()
    cluster.weather = Weather(delay_least_s=0.005, delay_most_s=0.02)
    cluster.agents(100, "cpus:4;mem:8G", rack=["a", "b", "c"])
    for number in range(GREEDY):
        name = f"greedy-{number:02}"
        role = "greedy" if roles == "one role" else name
        cluster.run(name, lambda name=name: KINDS[kind](name), roles=(role,))  # type: ignore[misc]
    cluster.advance("1s")
    return cluster
