"""Limits and guarantees as operators set them: which are taken, which are refused, and what follows at once."""

from __future__ import annotations

import pytest

from runrig.errors import InvalidInput
from runrig.ids import Role
from runrig.offers import RescindReason
from runrig.v1 import state_pb2
from runrig_master.core.commands import AnswerOperator, Persist, RoleRecord
from runrig_master.core.quotas import MAX_QUOTA, Quota, RoleQuota
from runrig_master.core.state import Presence
from runrig_master.records_grpc import entry, record
from tests.master.core.cluster import (
    SETTINGS,
    START,
    World,
    agent,
    answer,
    found,
    framework,
    given,
    of,
    offers_in,
    rescinded,
    running,
    task,
)


def quota(role: str, limit: Quota | None = None, guarantee: Quota | None = None) -> RoleQuota:
    return RoleQuota(Role(role), limit, guarantee)


def cpus(number: int) -> Quota:
    return Quota(cpu_millis=number * 1000)


def refusal(world: World, *quotas: RoleQuota, is_forced: bool = False) -> tuple[str, object, str]:
    before, stored = dict(world.master.cluster.role_settings), dict(world.disk)
    error = answer(world.set_quotas(*quotas, is_forced=is_forced))
    assert isinstance(error, InvalidInput), error
    assert world.master.cluster.role_settings == before
    assert world.disk == stored
    return error.field, error.value, error.allowed


def test_quotas_are_durable_before_they_are_answered_and_survive_a_failover() -> None:
    world = given(agent("a1", cpus=8))
    commands = world.set_quotas(quota("eng", cpus(4), cpus(2)), quota("ops", Quota(gpus=0)))

    kinds = [type(command) for command in commands if isinstance(command, Persist | AnswerOperator)]
    assert kinds == [Persist, Persist, AnswerOperator]
    world.restart()
    assert world.master.cluster.role_settings == {
        "eng": RoleRecord(Role("eng"), 1000, cpus(4), cpus(2)),
        "ops": RoleRecord(Role("ops"), 1000, Quota(gpus=0)),
    }


def test_a_quota_leaves_the_weight_as_it_is_and_a_weight_the_quota() -> None:
    world = World()
    world.weigh("eng", 2500)
    world.set_quotas(quota("eng", cpus(4)))
    world.set_offers("eng", is_optimistic=True)
    world.weigh("eng", 3000)

    assert world.disk["roles/eng"] == RoleRecord(Role("eng"), 3000, cpus(4), None, is_optimistic=True)


def test_a_role_that_has_the_defaults_again_is_forgotten() -> None:
    world = World()
    world.set_quotas(quota("eng", cpus(4)))
    world.set_quotas(quota("eng", Quota()))

    assert world.master.cluster.role_settings == {}
    assert world.disk == {}


@pytest.mark.parametrize(
    "asked, field, allowed",
    [
        (quota("a//b", cpus(1)), "quotas[0].role", "a path of 1 to 8 parts"),
        (quota("eng", cpus(-1)), "quotas eng.limit.cpu_millis", f"0 to {MAX_QUOTA}"),
        (quota("eng", None, Quota(mem_mib=2**62)), "quotas eng.guarantee.mem_mib", f"0 to {MAX_QUOTA}"),
        (quota("eng", cpus(1), cpus(2)), "quotas eng.guarantee.cpu_millis", "at most 1000, its limit"),
    ],
)
def test_a_quota_that_cannot_be_is_refused_by_its_field(asked: RoleQuota, field: str, allowed: str) -> None:
    world = given(agent("a1", cpus=8))

    said = refusal(world, asked)

    assert said[0] == field
    assert said[2].startswith(allowed)


def test_of_several_quotas_one_that_cannot_be_refuses_all() -> None:
    world = given(agent("a1", cpus=8))

    assert refusal(world, quota("eng", cpus(4)), quota("ops", cpus(-1)))[0] == "quotas ops.limit.cpu_millis"


def test_no_quota_twice_the_same_and_too_many_are_refused() -> None:
    world = World()

    assert refusal(world) == ("quotas", 0, "1 to 10000")
    assert refusal(world, quota("eng"), quota("eng"))[:2] == ("quotas[1].role", "eng")
    assert refusal(world, *(quota(f"r{number}") for number in range(10_001)))[:2] == ("quotas", 10_001)


def test_a_guarantee_above_the_limit_of_a_role_above_is_refused() -> None:
    world = given(agent("a1", cpus=8))
    world.set_quotas(quota("eng", cpus(4)))

    said = refusal(world, quota("eng/ads/web", None, cpus(5)))

    assert said == ("quotas eng/ads/web.guarantee.cpu_millis", 5000, "at most 4000, the limit of eng")


def test_a_limit_below_what_the_roles_below_are_guaranteed_is_refused() -> None:
    world = given(agent("a1", cpus=8))
    world.set_quotas(quota("eng/a", None, cpus(3)), quota("eng/b", None, cpus(3)))

    said = refusal(world, quota("eng", cpus(5)))

    assert said[:2] == ("quotas eng.limit.cpu_millis", 5000)
    assert said[2].startswith("at least 6000")


def test_what_a_role_is_guaranteed_counts_once_with_what_those_below_it_are() -> None:
    world = given(agent("a1", cpus=8))

    assert answer(world.set_quotas(quota("eng", cpus(8), cpus(6)), quota("eng/a", None, cpus(5)))) is None


def test_more_than_the_cluster_has_is_guaranteed_only_when_forced() -> None:
    world = given(agent("a1", cpus=8))
    world.set_quotas(quota("eng", None, cpus(5)))

    said = refusal(world, quota("ops", None, cpus(4)))

    assert said[:2] == ("quotas.guarantee.cpu_millis", 9000)
    assert "8000" in said[2]
    assert "is_forced" in said[2]
    assert answer(world.set_quotas(quota("ops", None, cpus(4)), is_forced=True)) is None


def test_guarantees_that_are_too_much_may_be_lowered_without_force() -> None:
    world = given(agent("a1", cpus=8))
    world.set_quotas(quota("eng", None, cpus(20)), is_forced=True)

    assert answer(world.set_quotas(quota("eng", None, cpus(10)))) is None


def test_agents_that_are_expected_back_count_as_capacity() -> None:
    world = given(agent("a1", cpus=8))
    world.restart()

    assert answer(world.set_quotas(quota("eng", None, cpus(8)))) is None


def test_offers_above_a_new_limit_are_taken_back_the_newest_first() -> None:
    world = given(framework("f", "eng/ads"))
    for number in range(4):
        world.connect(agent(f"a{number}", cpus=2))
    offers = [offer.offer_id for _, offer in world.witness.offers.values()]

    commands = world.set_quotas(quota("eng", cpus(5)))

    reason = RescindReason.QUOTA_CHANGED
    assert rescinded(commands) == [(offers[3], reason), (offers[2], reason)]


def test_a_limit_that_is_kept_takes_no_offer_back() -> None:
    world = given(agent("a1", cpus=8), framework("f"), framework("g"))
    assert len(offers_in(world.turn())) == 1

    assert rescinded(world.set_quotas(quota("f", cpus(8)), quota("g", cpus(0)))) == []


def test_a_limited_role_is_offered_nothing_after_a_failover_until_it_is_known_what_it_holds() -> None:
    world = given(agent("a1"), agent("a2"), framework("f"), framework("g"))
    world.set_quotas(quota("f", cpus(4)))
    world.restart()
    world.subscribe(framework("f"))

    early = offers_in(world.connect(agent("a2")))
    late = offers_in(world.connect(agent("a1"), found("t", cpus=3)))

    assert early == []
    assert [offer.resources.cpu_millis for offer in late] == [1000]


def test_roles_without_a_limit_do_not_wait_for_agents_after_a_failover() -> None:
    """Rule 19."""
    world = given(agent("a1"), agent("a2"), framework("f"))
    world.set_quotas(quota("g", cpus(4)))
    world.restart()
    world.subscribe(framework("f"))

    assert [offer.role for offer in offers_in(world.connect(agent("a2")))] == ["f"]


@pytest.mark.parametrize("leave", ["time", "gone"])
def test_a_limited_role_does_not_wait_for_ever_for_an_agent_that_never_comes_back(leave: str) -> None:
    world = given(agent("a1"), agent("a2"), framework("f"))
    world.set_quotas(quota("f", cpus(4)))
    world.restart()
    world.subscribe(framework("f"))
    world.connect(agent("a2"))
    due = world.master.next_deadline()

    commands = world.mark_gone("a1") if leave == "gone" else world.turn(after=SETTINGS.agent_return_timeout_s)

    assert due is not None
    assert due <= START + SETTINGS.agent_return_timeout_s
    assert [offer.resources.cpu_millis for offer in offers_in(commands)] == [4000]


def test_a_limited_role_does_not_wait_for_agents_that_are_too_many_to_be_marked_unreachable() -> None:
    world = given(*(agent(f"a{number}") for number in range(12)), framework("f"))
    world.set_quotas(quota("f", cpus(4)))
    world.restart()
    world.subscribe(framework("f"))
    world.connect(agent("a0"))
    for _ in range(8):
        world.turn(after=SETTINGS.agent_return_timeout_s / 8)
    missing = [each for each in world.master.cluster.agents.values() if each.presence is Presence.RECOVERING]

    [(owner, offer)] = world.witness.offers.values()

    assert missing
    assert (owner, offer.resources.cpu_millis) == ("f", 4000)


def test_offers_are_taken_back_when_an_agent_returns_with_tasks_that_fill_the_limit() -> None:
    world = running(task("t", cpus=3), on=agent("a1"))
    world.set_quotas(quota("f", cpus(4)))
    world.lose_agent()
    world.turn(after=SETTINGS.silence_timeout_s + 1)
    [offer] = offers_in(world.connect(agent("a2")))

    commands = world.connect(agent("a1"), found("t", cpus=3))

    assert (offer.offer_id, RescindReason.QUOTA_CHANGED) in rescinded(commands)
    assert [made.resources.cpu_millis for made in offers_in(commands)] == [1000]


@pytest.mark.parametrize("role", ["", "a//b", "/"])
def test_optimistic_offers_of_a_role_that_cannot_be_are_refused(role: str) -> None:
    world = World()

    assert isinstance(answer(world.set_offers(role, is_optimistic=True)), InvalidInput)
    assert world.disk == {}


def test_a_role_is_the_same_after_the_store() -> None:
    whole = RoleRecord(Role("eng"), 2500, Quota(1, 2, 3, 0), Quota(mem_mib=1), is_optimistic=True)

    assert record(*entry(whole)) == whole


def test_a_role_that_an_older_master_stored_is_read() -> None:
    old = state_pb2.StoredRole(role="eng", weight_millis=2000).SerializeToString()

    assert record("roles/eng", old) == RoleRecord(Role("eng"), 2000)


def test_every_answer_is_one() -> None:
    world = World()

    assert len(of(AnswerOperator, world.set_quotas(quota("eng", cpus(1))))) == 1
    assert len(of(AnswerOperator, world.set_offers("eng", is_optimistic=False))) == 1
