"""Twelve arranged situations and some more: in each, explain names exactly what is short, and what would help."""

from __future__ import annotations

import copy
from dataclasses import replace

from runrig.constraints import Operator
from runrig.explanations import Verdict
from runrig.ids import Role
from runrig.offers import Filter
from runrig.reservations import Reservation, Unavailability
from runrig.resources import Resources
from runrig.tasks import RuntimeKind
from runrig_master.core.cluster import Cluster
from runrig_master.core.quotas import Quota, RoleQuota
from tests.master.core.cluster import START, agent, framework, given, launch_on, task
from tests.master.core.explaining import (
    PATIENT,
    detail,
    misses,
    occupied,
    on,
    states,
    steps,
    want,
    why,
)

RACKS = (("rack", "r1"),)


def test_short_of_cpu_by_how_much_on_the_nearest_agent() -> None:
    world = given(agent("a1", cpus=4), agent("a2", cpus=8), agent("a3", cpus=4), settings=PATIENT)
    occupied(world, cpus=3.5)

    states(world, want(cpus=4.7, count=12))

    item = why(world)
    assert item.verdict is Verdict.WAITS
    assert steps(item) == [("size", 2, 1), ("free", 1, 0)]
    assert misses(item)[0] == ("a2", "short by 0.2 cpus")
    assert item.nearest[0].short_by == Resources(cpu_millis=200)
    assert item.summary.startswith("12 tasks wait: no agent that would suit has 4.7 cpus and 128 MiB of memory free")
    assert item.remedies == (
        "ask for 4.5 cpus: host-a2 has that",
        "task other-a2 of other ends on host-a2 (3.5 cpus and 128 MiB of memory)",
    )


def test_short_of_memory() -> None:
    world = given(agent("a1", mem_mib=4096), agent("a2", mem_mib=4096), settings=PATIENT)
    occupied(world, cpus=1, mem_mib=3072)

    states(world, want(mem_mib=1536))

    item = why(world)
    assert item.verdict is Verdict.WAITS
    assert detail(item, "free") == "short by 512 MiB of memory at best (host-a1)"
    assert item.remedies[0] == "ask for 1 GiB of memory: host-a1 has that"


def test_no_ports() -> None:
    world = given(agent("a1", ports="[31000-31001]"), settings=PATIENT)

    states(world, want(port_count=3))

    item = why(world)
    assert item.verdict is Verdict.INFEASIBLE
    assert steps(item) == [("size", 1, 0)]
    assert misses(item) == [("a1", "short by 1 port even when empty")]
    assert item.remedies == ("ask for 2 ports: host-a1 has that",)


def test_a_constraint_that_nobody_meets() -> None:
    world = given(agent("a1", attributes=RACKS), agent("a2"), settings=PATIENT)

    states(world, want(constraints=(on("rack", Operator.EQUALS, "r9"),)))

    item = why(world)
    assert item.verdict is Verdict.INFEASIBLE
    assert item.summary == "1 task can never run: none of 2 agents meets constraint rack EQUALS r9"
    assert steps(item) == [("constraint rack EQUALS r9", 2, 0)]
    assert misses(item) == [("a1", "rack is r1"), ("a2", "has no rack")]
    assert item.remedies == ("drop the constraint rack EQUALS r9: host-a1 has room",)


def test_too_large_for_any_agent() -> None:
    world = given(agent("a1", cpus=4), agent("a2", cpus=6), settings=PATIENT)

    states(world, want(cpus=8))

    item = why(world)
    assert item.verdict is Verdict.INFEASIBLE
    assert "no agent is large enough for 8 cpus" in item.summary
    assert "short by 2 cpus even when empty at best (host-a2)" in item.summary
    assert item.remedies == ("ask for 6 cpus: host-a2 has that",)


def test_a_filter_until_when_with_the_frameworks_own_reason() -> None:
    world = given(agent("a1"), settings=PATIENT)
    states(world, want())
    world.decline(*world.offers(), filter_=Filter(60_000, "the image is still being built"))

    item = why(world)

    assert item.verdict is Verdict.WAITS
    assert steps(item) == [("filter", 1, 0)]
    assert detail(item, "filter") == "refused until 13:47:40 UTC (60 s): the image is still being built"
    assert item.remedies == ("the framework revives its offers for role f; its refusal of host-a1 ends in 60 s",)


def test_all_is_held_by_another_frameworks_offers() -> None:
    world = given(agent("a1"), agent("a2"), framework("batch"), settings=PATIENT)
    world.turn()

    states(world, want())
    world.turn(after=10.0)

    item = why(world)
    assert item.verdict is Verdict.WAITS
    assert steps(item) == [("offered", 2, 0)]
    assert detail(item, "offered") == "held by batch (2 offers), the first for 20 s at most"
    assert misses(item)[0][1] == "batch holds 4 cpus and 4 GiB of memory in offer o1-1, for 20 s at most"
    assert item.remedies == ("batch lets go of offer o1-1 on host-a1; it ends in 20 s",)


def test_drained() -> None:
    world = given(agent("a1"), settings=PATIENT)
    occupied(world, cpus=1)
    world.drain(notice_ms=60_000)

    states(world, want())

    item = why(world)
    assert item.verdict is Verdict.WAITS
    assert steps(item) == [("draining", 1, 0)]
    assert detail(item, "draining") == "drained by an operator, its tasks have until 13:47:40 UTC (60 s)"
    assert item.remedies == ("an operator activates host-a1",)


def test_the_quota_of_a_parent_role_and_by_how_much() -> None:
    world = given(agent("a1", cpus=16), settings=PATIENT)
    world.set_quotas(RoleQuota(Role("eng"), limit=Quota(cpu_millis=10_000)))
    world.subscribe(framework("other", "eng/web"))
    [offer] = world.offers("other")
    world.accept(launch_on(offer, task("t", cpus=9.5)), by="other", filter_=Filter(60_000))

    states(world, want(), by="f", role="eng/ads")

    item = why(world)
    assert item.verdict is Verdict.WAITS
    assert steps(item) == [("quota", 1, 0)]
    assert detail(item, "quota") == "role eng holds 9.5 cpus of 10 cpus, so a task is 0.5 cpus too much"
    assert item.remedies == (
        "ask for 0.5 cpus: host-a1 has that",
        "task t of other ends on host-a1 (9.5 cpus and 128 MiB of memory)",
        "an operator raises the limit of eng to 10.5 cpus",
    )


def test_reserved_for_another_role() -> None:
    kept = Reservation("fast", Role("db"), Resources(4000, 4096), is_static=True)
    world = given(replace(agent("a1"), reservations=(kept,)), agent("a2", cpus=1), settings=PATIENT)

    states(world, want(cpus=2))

    item = why(world)
    assert steps(item) == [("reserved", 1, 1), ("size", 1, 0)]
    assert detail(item, "reserved") == "4 cpus and 4 GiB of memory kept for db"
    assert "reservation fast of host-a1 is given back (4 cpus and 4 GiB of memory kept for db)" in item.remedies


def test_the_reservation_that_alone_will_do_is_nowhere() -> None:
    world = given(agent("a1"), agent("a2"), settings=PATIENT)

    states(world, want(reservation_id="ssd"))

    item = why(world)
    assert item.verdict is Verdict.INFEASIBLE
    assert item.summary == ("1 task can never run: none of 2 agents has reservation ssd for it, which alone will do")
    assert detail(item, "reserved") == "not of reservation ssd, which alone will do"


def test_a_gang_short_of_some_of_its_members() -> None:
    world = given(*(agent(f"a{number}", cpus=4) for number in range(4)), settings=PATIENT)
    occupied(world, cpus=2)

    states(world, want(cpus=1, count=11, gang_id="g"))

    item = why(world)
    assert item.verdict is Verdict.WAITS
    assert item.summary == "gang g waits: 8 of 11 tasks can run now, 3 tasks too few"
    assert world.offers() == []


def test_a_gang_larger_than_an_empty_cluster_can_never_run() -> None:
    world = given(agent("a1", cpus=4), agent("a2", cpus=4), settings=PATIENT)

    states(world, want(cpus=3, count=3, gang_id="g"))

    item = why(world)
    assert item.verdict is Verdict.INFEASIBLE
    assert item.summary == "3 tasks can never run: of 3 tasks of d in gang g an empty cluster holds 2"


def test_unique_hosts_are_exhausted() -> None:
    world = given(agent("a1"), agent("a2"), settings=PATIENT)
    unique = (on("hostname", Operator.UNIQUE),)
    states(world, want(count=3, constraints=unique, group="web"))

    item = why(world)

    assert item.verdict is Verdict.WAITS
    assert steps(item) == [("group hostname UNIQUE", 2, 0)]
    assert misses(item)[0] == ("a1", "1 task of group web where hostname is host-a1")
    assert item.remedies[0] == "drop the constraint hostname UNIQUE: host-a1 has room"


def test_a_maintenance_window_comes_too_soon() -> None:
    world = given(agent("a1"), settings=PATIENT)
    world.plan_absence(Unavailability(int(START * 1000) + 600_000, 3_600_000))

    states(world, want(expected_duration_ms=1_200_000))

    item = why(world)
    assert item.verdict is Verdict.WAITS
    assert steps(item) == [("maintenance", 1, 0)]
    assert detail(item, "maintenance") == "away in 10 min, until 14:56:40 UTC (70 min)"
    assert item.remedies == (
        "promise to end within 10 min: host-a1 is there so long",
        "an operator ends the maintenance of host-a1",
    )


def test_no_agent_has_the_runtime() -> None:
    world = given(agent("a1"), agent("a2"), settings=PATIENT)

    states(world, want(runtime=RuntimeKind.DOCKER))

    item = why(world)
    assert item.verdict is Verdict.INFEASIBLE
    assert item.summary == "1 task can never run: none of 2 agents has the docker runtime"
    assert detail(item, "runtime") == "has process, not docker"


def test_what_fits_is_said_to_be_due_and_what_is_offered_to_await_an_answer() -> None:
    world = given(agent("a1"), settings=PATIENT)
    states(world, want(count=2))
    world.turn(after=5.0)

    item = why(world)

    assert item.verdict is Verdict.FITS
    assert item.summary == "1 offer for 2 tasks is out: the framework has 25 s at most to answer"
    assert item.remedies == ()


def test_an_agent_that_is_away_is_said_to_be_and_would_help_if_it_came_back() -> None:
    world = given(agent("a1"), settings=PATIENT)
    world.turn()
    world.lose_agent("a1")

    states(world, want())

    item = why(world)
    assert item.verdict is Verdict.WAITS
    assert steps(item) == [("connected", 1, 0)]
    assert item.remedies == ("host-a1 comes back",)


def test_a_framework_that_is_away_is_what_its_demand_waits_for() -> None:
    world = given(agent("a1"), settings=PATIENT)
    states(world, want())
    world.lose_framework()

    item = why(world)

    assert item.verdict is Verdict.WAITS
    assert item.summary == "1 task waits: its framework is disconnected, and kept until 14:46:40 UTC (60 min)"


def test_nothing_of_the_cluster_is_changed_by_asking() -> None:
    world = given(agent("a1"), agent("a2"), settings=PATIENT)
    occupied(world, cpus=1)
    states(world, want(cpus=2, count=3, gang_id="g"), want("e", cpus=3.5))
    before = _books(world.master.cluster)

    why(world)
    why(world, "e")

    assert _books(world.master.cluster) == before
    assert world.turn() == []


def _books(cluster: Cluster) -> list[object]:
    pools = cluster.pools
    seen: list[object] = [(pool.free, pool.used, pool.total) for pool in pools.within(pools.all)]
    seen += [(node.role, node.holding.as_resources()) for node in cluster.tree]
    frameworks = cluster.frameworks.values()
    return [
        *seen,
        *(copy.deepcopy(framework.groups._by_group) for framework in frameworks),
        pools.worth,
        pools.offerable,
    ]
