"""What the hints do: PACK leaves whole agents free, SPREAD puts tasks apart."""

from __future__ import annotations

from collections import Counter

from runrig import Placement, Run, Stop, task
from runrig.testing import Cluster, SimulatedFramework
from tests.scenarios.frameworks import Crowd, copies


def placed(framework: SimulatedFramework) -> list[int]:
    """Return how many tasks run on each agent that has any, the most first."""
    hosts = Counter(view.hostname for view in framework.tasks.values())
    return sorted(hosts.values(), reverse=True)


def crowd_on(agents: int) -> tuple[Cluster, SimulatedFramework]:
    """Return a cluster of agents of four cpus, and a framework."""
    cluster = Cluster()
    cluster.agents(agents, "cpus:4;mem:8G", rack=["a", "b"])
    return cluster, cluster.run("crowd", Crowd)


def wanted(cluster: Cluster, crowd: SimulatedFramework, placement: Placement, name: str, count: int) -> None:
    """Want tasks and let them start."""
    crowd.tell(Run(copies(task("work", cpus=1, mem="1G", placement=placement), name, count)))
    cluster.settle()


def test_pack_fills_as_few_agents_as_possible() -> None:
    cluster, crowd = crowd_on(5)

    wanted(cluster, crowd, Placement.PACK, "first", 6)
    wanted(cluster, crowd, Placement.PACK, "second", 4)

    assert placed(crowd) == [4, 4, 2]


def test_pack_fills_holes_before_it_begins_another_agent() -> None:
    cluster, crowd = crowd_on(3)
    wanted(cluster, crowd, Placement.SPREAD, "old", 3)

    wanted(cluster, crowd, Placement.PACK, "new", 3)

    assert placed(crowd) == [4, 1, 1]


def test_spread_uses_all_agents_alike() -> None:
    cluster, crowd = crowd_on(5)

    wanted(cluster, crowd, Placement.SPREAD, "first", 7)
    assert placed(crowd) == [2, 2, 1, 1, 1]
    wanted(cluster, crowd, Placement.SPREAD, "first-again", 3)

    assert placed(crowd) == [2, 2, 2, 2, 2]


def test_spread_looks_at_the_tasks_of_its_group_before_it_looks_at_what_is_free() -> None:
    """A group of two goes to two agents even when one that has one of it is the emptiest."""
    cluster, crowd = crowd_on(2)
    wanted(cluster, crowd, Placement.PACK, "heavy", 3)
    busy = next(view.hostname for view in crowd.tasks.values())
    alike = copies(task("work", cpus=0.5, mem="1G", placement=Placement.SPREAD), "pair", 2)

    crowd.tell(Run(alike[:1]))
    cluster.settle()
    crowd.tell(Run(alike[1:]))
    cluster.settle()

    pair = {view.hostname for view in crowd.tasks.values() if view.group == "pair"}
    assert pair == {busy, *pair}
    assert len(pair) == 2


def test_packed_tasks_leave_room_for_one_that_needs_a_whole_agent() -> None:
    cluster, crowd = crowd_on(4)
    wanted(cluster, crowd, Placement.PACK, "small", 12)

    crowd.tell(Run(copies(task("large", cpus=4, mem="8G"), "large", 1)))
    cluster.settle()

    assert crowd.count() == 13
    crowd.tell(Stop(next(iter(crowd.tasks))))
    cluster.settle()
    assert crowd.count() == 12
