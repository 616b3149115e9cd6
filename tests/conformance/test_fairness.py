"""Who is offered what: weighted dominant shares over roles, then over the frameworks of a role. No tick."""

from __future__ import annotations

from collections import Counter

from tests.conformance.cases import case
from tests.conformance.cluster import Cluster
from tests.conformance.ends import PlayedScheduler
from tests.conformance.messages import accept, group, launch, resources, spec, suppress


async def share_out(cluster: Cluster, schedulers: list[PlayedScheduler], count: int) -> list[str]:
    """Register agents one by one; return who was offered each, as each offer stands."""
    owners = []
    for number in range(count):
        agent = await cluster.agent(f"n{number:02}", resources=resources(1000, 1024))
        await cluster.settle()
        offered = [scheduler for scheduler in schedulers if agent.id in offered_agents(scheduler)]
        owners += [scheduler.info.name for scheduler in offered]
    return owners


def offered_agents(scheduler: PlayedScheduler) -> list[str]:
    """Return the agents that a scheduler has been offered and has not answered."""
    return [offer.agent_id for offer in scheduler.line.waiting("offer")]


@case(mesos=(48, 50))
async def test_equal_roles_are_offered_equal_parts_in_turn(cluster: Cluster) -> None:
    schedulers = [await cluster.scheduler(word) for word in ("f", "g", "h")]

    owners = await share_out(cluster, schedulers, 9)

    assert [set(owners[place : place + 3]) for place in (0, 3, 6)] == [{"f", "g", "h"}] * 3


@case(mesos=(48,))
async def test_a_role_of_three_times_the_weight_is_offered_three_times_as_much(cluster: Cluster) -> None:
    schedulers = [await cluster.scheduler(word) for word in ("f", "g")]
    await cluster.weigh(schedulers[0].role, 3_000)

    owners = await share_out(cluster, schedulers, 8)

    assert Counter(owners) == {"f": 6, "g": 2}


@case(mesos=(48,))
async def test_two_frameworks_of_one_role_share_what_one_of_another_role_has(cluster: Cluster) -> None:
    schedulers = [await cluster.scheduler(word, role) for word, role in (("f", "eng"), ("g", "eng"), ("h", "ops"))]

    owners = await share_out(cluster, schedulers, 8)

    assert Counter(owners) == {"f": 2, "g": 2, "h": 4}


@case(mesos=(48,))
async def test_roles_below_one_role_share_what_that_role_has(cluster: Cluster) -> None:
    top = cluster.name("eng")
    roles = (("f", f"{top}/ads"), ("g", f"{top}/web"), ("h", "ops"))
    schedulers = [await cluster.scheduler(word, role) for word, role in roles]

    owners = await share_out(cluster, schedulers, 8)

    assert Counter(owners) == {"f": 2, "g": 2, "h": 4}


@case(mesos=(48,))
async def test_the_share_that_counts_is_the_dominant_one(cluster: Cluster) -> None:
    thinker = await cluster.scheduler("thinker")
    big = await cluster.agent("big", resources=resources(10_000, 10_240))
    await thinker.send(accept(group(await thinker.offer(), launch(spec("t", 6_000, 64)))))
    assert await big.launched() == ["t"]
    rest = await thinker.offer()
    keeper = await cluster.scheduler("keeper")
    await thinker.send(accept(group(rest, launch(spec("u", 10, 10))), refuse_ms=3_600_000))
    await keeper.send(accept(group(await keeper.offer(), launch(spec("v", 10, 5_120)))))
    await keeper.offer()

    owners = await share_out(cluster, [thinker, keeper], 1)

    assert owners == ["thinker"]


@case(rules=(6,), mesos=(54,))
async def test_a_framework_that_takes_no_offers_does_not_keep_others_from_them(cluster: Cluster) -> None:
    poorest = await cluster.scheduler("a")
    await poorest.send(suppress())
    other = await cluster.scheduler("b")

    assert await share_out(cluster, [poorest, other], 2) == ["b", "b"]
