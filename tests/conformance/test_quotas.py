"""Rule 18: limits cap what a role with all below it is offered; guarantees are served before fairness."""

from __future__ import annotations

import pytest

from runrig.v1 import operator_pb2, resources_pb2, scheduler_pb2
from tests.conformance.cases import Need, case
from tests.conformance.cluster import Cluster
from tests.conformance.ends import PlayedScheduler
from tests.conformance.lines import Refused
from tests.conformance.messages import accept, group, launch, resources, spec

QUOTA_CHANGED = scheduler_pb2.RESCIND_REASON_QUOTA_CHANGED


def limited(role: str, cpu_millis: int) -> operator_pb2.RoleQuota:
    """Build a limit on the cpus of a role."""
    return operator_pb2.RoleQuota(role=role, limit=resources_pb2.Quota(cpu_millis=cpu_millis))


def guaranteed(role: str, cpu_millis: int) -> operator_pb2.RoleQuota:
    """Build a guarantee of cpus for a role."""
    return operator_pb2.RoleQuota(role=role, guarantee=resources_pb2.Quota(cpu_millis=cpu_millis))


def offered_cpus(scheduler: PlayedScheduler) -> int:
    """Return how much cpu stands in the offers that a scheduler has not answered."""
    return sum(int(offer.resources.cpu_millis) for offer in scheduler.line.waiting("offer"))


@case(rules=(18,), mesos=(51,))
async def test_a_limit_cuts_what_a_role_is_offered_to_fit(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler("f")
    await cluster.set_quotas(limited(scheduler.role, 1500))
    await cluster.agent("big", resources=resources(4000, 4096))

    offer = await scheduler.offer()

    assert (offer.resources.cpu_millis, offer.resources.mem_mib) == (1500, 4096)


@case(rules=(18,), mesos=(51,))
async def test_a_limit_holds_for_all_below_a_role_together(cluster: Cluster) -> None:
    top = cluster.name("eng")
    schedulers = [await cluster.scheduler(word, f"{top}/{word}") for word in ("f", "g")]
    await cluster.set_quotas(limited(top, 3000))
    for number in range(3):
        await cluster.agent(f"n{number}", resources=resources(2000, 2048))
    await cluster.settle()

    assert sum(offered_cpus(scheduler) for scheduler in schedulers) == 3000


@case(rules=(18,), mesos=(51,))
async def test_what_runs_counts_against_the_limit(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler("f")
    await cluster.set_quotas(limited(scheduler.role, 3000))
    await cluster.agent("big", resources=resources(8000, 8192))
    offer = await scheduler.offer()

    await scheduler.send(accept(group(offer, launch(spec("t", 2000, 64))), refuse_ms=0))

    assert (await scheduler.offer()).resources.cpu_millis == 1000


@case(rules=(18,), mesos=(60,))
async def test_a_limit_that_is_lowered_takes_back_offers_that_exceed_it(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler("f")
    await cluster.agent("big", resources=resources(4000, 4096))
    offer = await scheduler.offer()

    await cluster.set_quotas(limited(scheduler.role, 1000))

    rescind = await scheduler.expect("rescind")
    assert (list(rescind.offer_ids), rescind.reason) == ([offer.offer_id], QUOTA_CHANGED)
    assert (await scheduler.offer()).resources.cpu_millis == 1000


@case(rules=(18,), mesos=(51,))
async def test_a_role_below_its_guarantee_is_served_before_poorer_ones(cluster: Cluster) -> None:
    rich = await cluster.scheduler("rich")
    await cluster.agent("first", resources=resources(2000, 2048))
    await rich.send(accept(group(await rich.offer(), launch(spec("t", 2000, 2048)))))
    poor = await cluster.scheduler("a-poor")
    await cluster.set_quotas(guaranteed(rich.role, 4000), is_forced=True)

    await cluster.agent("second", resources=resources(2000, 2048))
    await cluster.settle()

    assert (offered_cpus(rich), offered_cpus(poor)) == (2000, 0)


@case(rules=(18,), mesos=(52,))
async def test_a_guarantee_that_nobody_uses_is_lent(cluster: Cluster) -> None:
    other = await cluster.scheduler("f")
    await cluster.set_quotas(guaranteed(cluster.name("absent"), 4000), is_forced=True)

    await cluster.agent("big", resources=resources(4000, 4096))

    assert (await other.offer()).resources.cpu_millis == 4000


@case(rules=(18,), mesos=(60,))
async def test_guarantees_beyond_what_there_is_are_refused_unless_forced(cluster: Cluster) -> None:
    await cluster.agent("big", resources=resources(4000, 4096))
    role = cluster.name("vip")

    with pytest.raises(Refused) as refused:
        await cluster.set_quotas(guaranteed(role, 5000))

    assert "guarantee.cpu_millis" in str(refused.value)
    await cluster.set_quotas(guaranteed(role, 5000), is_forced=True)


@case(rules=(18,))
async def test_of_quotas_that_are_set_together_all_are_taken_or_none(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler("f")
    bad = operator_pb2.RoleQuota(role="no//role", limit=resources_pb2.Quota(cpu_millis=1))

    with pytest.raises(Refused):
        await cluster.set_quotas(limited(scheduler.role, 1000), bad)

    await cluster.agent("big", resources=resources(4000, 4096))
    assert (await scheduler.offer()).resources.cpu_millis == 4000


@case(rules=(18,), needs=(Need.RESTART,))
async def test_a_failover_forgets_no_limit(cluster: Cluster) -> None:
    scheduler = await cluster.scheduler("f")
    await cluster.set_quotas(limited(scheduler.role, 1500))
    agent = await cluster.agent("big", resources=resources(4000, 4096))
    await scheduler.offer()

    await cluster.restart()
    await scheduler.returns()
    await agent.returns()

    assert (await scheduler.offer()).resources.cpu_millis == 1500
