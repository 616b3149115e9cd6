"""Several optimistic offers in one Accept: what an earlier group takes is not there for a later one."""

from __future__ import annotations

from runrig.ids import Role
from runrig_master.core.quotas import Quota, RoleQuota
from tests.master.core.cluster import agent, framework, given, launch_on, launched, states, task


def test_two_groups_of_one_accept_do_not_spend_the_same_resources_twice() -> None:
    world = given(framework("f", "eng", "ops"))
    world.set_offers("eng", is_optimistic=True)
    world.set_offers("ops", is_optimistic=True)
    world.connect(agent("a1", cpus=4))
    one, other = world.offers()
    assert one.agent_id == other.agent_id

    commands = world.accept(launch_on(one, task("t1", cpus=3)), launch_on(other, task("t2", cpus=3)))

    assert launched(commands) == ["t1"]
    assert [(name, reason.name) for name, _, reason in states(commands)] == [("t2", "OFFER_CONFLICT")]


def test_a_limit_counts_all_groups_of_one_accept() -> None:
    world = given(agent("a1", cpus=4), agent("a2", cpus=4), framework("f", "eng"))
    world.set_offers("eng", is_optimistic=True)
    world.set_quotas(RoleQuota(Role("eng"), Quota(cpu_millis=4000)))
    one, other = world.offers()

    commands = world.accept(launch_on(one, task("t1", cpus=3)), launch_on(other, task("t2", cpus=3)))

    assert launched(commands) == ["t1"]
    assert [(name, reason.name) for name, _, reason in states(commands)] == [("t2", "OFFER_CONFLICT")]
