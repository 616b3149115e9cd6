"""`Wants` and what the master's real core does with their demand: reservations, drains, priorities."""

from __future__ import annotations

from runrig import AgentId, Reservation, Resources, Role, Wants, task
from runrig.testing import Cluster, SimulatedFramework
from runrig_master.core.events import DrainAsked, ReserveAsked


def test_a_task_that_names_a_reservation_is_found_a_place_in_it_among_many_agents() -> None:
    cluster = Cluster()
    cluster.agents(30)
    kept = Reservation("ssd", Role("default"), Resources.parse("cpus:2;mem:2G"))
    cluster.leader.ask(lambda question: ReserveAsked(question, AgentId("agent-17"), kept))
    cluster.advance("1s")
    wants = Wants()
    wants.keep("db", 1, task("serve", cpus=1, reservation="ssd"))

    database = cluster.run("db", wants)
    cluster.advance("10s")

    assert hosts_of(database) == ["agent-17"]


def test_what_runs_on_an_agent_that_is_drained_runs_elsewhere_well_before_the_deadline() -> None:
    cluster = Cluster()
    cluster.agents(3)
    wants = Wants()
    wants.keep("web", 3, task("serve", cpus=1))
    wants.gang("train", 3, task("work", cpus=1))
    framework = cluster.run("both", wants)
    cluster.until(lambda: framework.count() == 6)
    drained = hosts_of(framework)[0]

    cluster.leader.ask(lambda question: DrainAsked(question, AgentId(drained), 600_000))
    cluster.advance("20s")

    assert framework.count() == 6
    assert drained not in hosts_of(framework)


def test_a_higher_priority_takes_the_place_of_a_lower_one_alone_or_as_a_gang() -> None:
    cluster = Cluster()
    cluster.agents(2, "cpus:4;mem:4G")
    low, high = Wants(), Wants()
    low.keep("low", 8, task("serve", cpus=1))
    high.once("alone", task("work", cpus=1, priority=10))
    high.gang("together", 2, task("work", cpus=1, priority=10))
    patient = cluster.run("low", low)
    cluster.until(lambda: patient.count() == 8)

    urgent = cluster.run("high", high)
    cluster.until(lambda: urgent.count() == 3, within="3m")

    assert patient.count() == 5
    assert cluster.nothing_started_twice()


def hosts_of(framework: SimulatedFramework) -> list[str]:
    return [view.hostname for view in framework.tasks.values()]
