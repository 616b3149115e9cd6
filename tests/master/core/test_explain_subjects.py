"""Tasks, frameworks, roles and agents explained; ids that mean nothing, or several things; what waits, by reason."""

from __future__ import annotations

import pytest

from runrig.constraints import Operator
from runrig.errors import InvalidInput, NotFound
from runrig.explanations import DeclineCount, SubjectKind, Verdict
from runrig.ids import Role
from runrig.offers import Filter, Suppress
from runrig.tasks import Reason, TaskState
from runrig_master.core.explain import pending_by_reason
from runrig_master.core.quotas import Quota, RoleQuota
from tests.master.core.cluster import START, agent, framework, given, running, said, task
from tests.master.core.explaining import PATIENT, asked, occupied, on, states, want

NOW_MS = int(START * 1000)


def test_a_task_says_its_state_its_place_and_its_framework() -> None:
    world = running(task("t1"))

    told = asked(world, SubjectKind.TASK, "t1")

    assert told.summary == "t1 is RUNNING on host-a1"
    assert told.facts[0] == "it is of f, in role f, and holds 1 cpu and 128 MiB of memory"


def test_a_task_that_has_ended_says_why() -> None:
    world = running(task("t1"))
    world.report(said("t1", TaskState.TASK_FAILED, 2, reason=Reason.OUT_OF_MEMORY))

    told = asked(world, SubjectKind.ANY, "t1")

    assert told.kind is SubjectKind.TASK
    assert told.summary == "t1 is FAILED on host-a1: OUT_OF_MEMORY"
    assert "its framework has not acknowledged its end yet" in told.facts


def test_a_task_whose_agent_has_said_nothing_of_it_says_so() -> None:
    world = given(agent(), framework())
    world.run(task("t1"))

    told = asked(world, SubjectKind.TASK, "t1")

    assert told.summary.endswith("its agent was told to start it and has not said anything of it yet")


@pytest.mark.parametrize("kind", list(SubjectKind))
def test_what_is_not_known_is_said_not_to_be(kind: SubjectKind) -> None:
    world = given(agent(), framework())

    with pytest.raises(NotFound, match="nothing-like-it"):
        asked(world, kind, "nothing-like-it")


def test_an_id_that_several_frameworks_use_asks_for_the_framework() -> None:
    world = given(agent("a1", cpus=8), framework("f"), framework("g"))
    world.run(task("t"), by="f")
    world.decline(*world.offers("f"), by="f")
    world.run(task("t"), by="g")

    with pytest.raises(InvalidInput, match=r"framework_id.*one of f, g"):
        asked(world, SubjectKind.TASK, "t")
    assert asked(world, SubjectKind.TASK, "t", "g").facts[0].startswith("it is of g")


def test_an_id_of_several_kinds_asks_for_the_kind() -> None:
    world = given(agent(), framework("f"))

    with pytest.raises(InvalidInput, match="one of framework, role"):
        asked(world, SubjectKind.ANY, "f")


def test_a_framework_without_demand_says_what_keeps_agents_from_it_and_why_it_declines() -> None:
    world = given(agent("a1"), agent("a2"), agent("a3"), framework("f"), settings=PATIENT)
    world.turn()
    first, second, _ = world.offers()
    world.decline(first, second, filter_=Filter(60_000, "too small"))

    told = asked(world, SubjectKind.FRAMEWORK, "f")

    assert "takes whatever is free" in told.summary
    assert (
        "role f: it has 1 offer; of 3 agents 2 filter (refused until 13:47:40 UTC (60 s): too small), 1 offered"
        in told.facts
    )
    assert told.declines == (DeclineCount("too small", 2, NOW_MS),)


def test_a_framework_that_has_suppressed_its_offers_or_is_away_says_so() -> None:
    world = given(agent(), framework("f"), framework("g", timeout_s=60.0))
    world.call(Suppress())
    world.lose_framework("g")

    assert "has suppressed offers" in asked(world, SubjectKind.FRAMEWORK, "f").summary
    gone = asked(world, SubjectKind.FRAMEWORK, "g").summary
    assert gone == "g is disconnected, its tasks are kept until 13:47:40 UTC (60 s)"


def test_a_framework_with_demand_explains_what_waits() -> None:
    world = given(agent("a1"), settings=PATIENT)
    states(world, want("small"), want("large", cpus=16, count=3))

    told = asked(world, SubjectKind.FRAMEWORK, "f")

    assert told.summary == "f is connected; 3 tasks of 1 demand wait"
    assert [(item.demand.demand_id, item.verdict) for item in told.demands] == [("large", Verdict.INFEASIBLE)]
    assert "for 1 demand offers are out" in told.facts


def test_a_group_of_demands_is_explained_together() -> None:
    world = given(agent("a1"), settings=PATIENT)
    states(world, want("d1", group="web"), want("d2", cpus=16, group="web"))

    told = asked(world, SubjectKind.DEMAND, "web", "f")

    assert told.summary == "1 of 2 demands of web wait"
    assert len(told.demands) == 2


def test_a_role_says_what_it_holds_of_its_limits_and_who_is_served_before_it() -> None:
    world = given(agent("a1", cpus=8), settings=PATIENT)
    world.set_quotas(RoleQuota(Role("eng"), limit=Quota(cpu_millis=4000)))
    occupied(world, cpus=3, by="f", role="eng/ads")
    states(world, want(cpus=2), by="g", role="eng/web")

    told = asked(world, SubjectKind.ROLE, "eng/ads")

    assert told.summary == "role eng/ads holds 3 cpus and 128 MiB of memory: a share of 37.5%, by weight 1"
    assert "eng's limit: 3 cpus of 4 cpus" in told.facts
    assert "served before it, as their weighted share is smaller than its 37.5%: eng/web (0.0%)" in told.facts
    assert "tasks that wait in it: 1 by quota" in asked(world, SubjectKind.ROLE, "eng").facts


def test_an_agent_says_who_holds_it_and_why_nobody_takes_what_is_free() -> None:
    world = given(agent("a1", cpus=4), settings=PATIENT)
    occupied(world, cpus=3)
    states(world, want(cpus=2), want("e", constraints=(on("rack", Operator.EQUALS, "r1"),)))

    told = asked(world, SubjectKind.AGENT, "a1")

    assert told.summary == (
        "host-a1 (a1) is connected: 1 cpu and 3968 MiB of memory free of 4 cpus and 4 GiB of memory"
    )
    assert "tasks run there of other (1)" in told.facts
    assert told.facts[-1] == (
        "nobody takes what is free of what is not reserved: 2 demands that wait are turned away by free (1) and "
        "constraint rack EQUALS r1 (1); of 1 framework without demand: disconnected or suppressed"
    )


def test_what_waits_is_counted_by_reason() -> None:
    world = given(agent("a1", cpus=4), settings=PATIENT)
    occupied(world, cpus=3)
    world.set_quotas(RoleQuota(Role("q"), limit=Quota(cpu_millis=500)))
    none = (on("rack", Operator.EQUALS, "r9"),)
    states(world, want(cpus=2, count=3), want("big", cpus=40, count=5), want("none", constraints=none, count=7))
    states(world, want(count=11), by="q")
    states(world, want(count=13), by="away")
    world.lose_framework("away")

    counts = pending_by_reason(world.master.cluster, world.now)

    assert counts == {"free": 3, "infeasible": 12, "quota": 11, "disconnected": 13}
