"""Rules 2 and 20: what is kept for roles, and disk that outlives tasks."""

from __future__ import annotations

import pytest

from runrig.v1 import agent_pb2, operator_pb2, resources_pb2, scheduler_pb2, tasks_pb2
from tests.conformance.cases import Need, case
from tests.conformance.cluster import Cluster
from tests.conformance.ends import PlayedScheduler
from tests.conformance.lines import Refused
from tests.conformance.messages import DROPPED, ERROR, FINISHED, accept, decline, group, launch, resources, spec

ROW, SHARES = 60, 48
GONE_MIB = 300
CHANGED = scheduler_pb2.RESCIND_REASON_RESERVATION_CHANGED


def kept(role: str, cpu_millis: int = 1000, name: str = "r", disk_mib: int = 0) -> resources_pb2.Reservation:
    """Build a reservation."""
    amounts = resources(cpu_millis, 1024, disk_mib=disk_mib)
    return resources_pb2.Reservation(reservation_id=name, role=role, resources=amounts)


def reserve(reservation: resources_pb2.Reservation, name: str = "reserve") -> scheduler_pb2.Operation:
    """Build the operation that makes a reservation."""
    return scheduler_pb2.Operation(reserve=scheduler_pb2.Reserve(operation_id=name, reservation=reservation))


def unreserve(name: str = "r") -> scheduler_pb2.Operation:
    """Build the operation that gives one back."""
    return scheduler_pb2.Operation(unreserve=scheduler_pb2.Unreserve(operation_id="unreserve", reservation_id=name))


def create(name: str = "v", disk_mib: int = 100) -> scheduler_pb2.Operation:
    """Build the operation that makes a volume."""
    volume = resources_pb2.PersistentVolume(volume_id=name, reservation_id="r", disk_mib=disk_mib)
    return scheduler_pb2.Operation(create_volume=scheduler_pb2.CreateVolume(operation_id="create", volume=volume))


def destroy(name: str = "v") -> scheduler_pb2.Operation:
    """Build the operation that ends one."""
    return scheduler_pb2.Operation(destroy_volume=scheduler_pb2.DestroyVolume(operation_id="destroy", volume_id=name))


def inside(task_id: str, *volumes: str, mem_mib: int = 64) -> tasks_pb2.TaskSpec:
    """Build a task that runs in the reservation."""
    terms = tasks_pb2.TaskTerms(reservation_id="r")
    mounted = [tasks_pb2.Volume(container_path="data", volume_id=name) for name in volumes]
    return spec(task_id, mem_mib=mem_mib, terms=terms, volumes=mounted)


async def results(scheduler: PlayedScheduler) -> dict[str, bool]:
    """Return which operations are said to be done; of the others it is said why not."""
    told = await scheduler.expect("operations_done")
    assert all(bool(result.message) != result.is_done for result in told.results)
    return {result.operation_id: result.is_done for result in told.results}


async def of_pool(scheduler: PlayedScheduler, name: str) -> scheduler_pb2.Offer:
    """Return the next offer of a reservation, or (empty) of what is not reserved."""
    offer = await scheduler.expect("offer", lambda offer: offer.reservation.reservation_id == name)
    assert isinstance(offer, scheduler_pb2.Offer)
    return offer


@case(rules=(2,), mesos=(ROW,))
async def test_a_framework_reserves_out_of_its_offer_and_launches_there_at_once(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    reservation = kept(scheduler.role, 2000)

    await scheduler.send(accept(group(await scheduler.offer(), reserve(reservation), launch(inside("t")))))

    assert await results(scheduler) == {"reserve": True}
    assert await agent.launched() == ["t"]
    offer = await of_pool(scheduler, "r")
    assert (offer.reservation.role, offer.resources.cpu_millis) == (scheduler.role, 1000)
    assert (await of_pool(scheduler, "")).resources.cpu_millis == 2000


@case(rules=(2,), mesos=(ROW,))
async def test_a_reservation_of_more_than_is_offered_is_refused_and_the_rest_goes_on(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    asked = [reserve(kept(scheduler.role, 99_000)), launch(inside("t"), spec("u"))]

    await scheduler.send(accept(group(await scheduler.offer(), *asked)))

    assert await results(scheduler) == {"reserve": False}
    assert await agent.launched() == ["u"]
    update = await scheduler.update("t")
    assert update.state == ERROR
    assert "terms.reservation_id: 'r' is not allowed" in update.message


@case(rules=(2,), mesos=(ROW,))
async def test_an_alien_reservation_is_not_given_back(cluster: Cluster) -> None:
    owner = cluster.name("eng")
    scheduler = await cluster.scheduler("f", roles=[f"{owner}/ads"])
    agent = await cluster.agent(reservations=[kept(owner)])
    request = operator_pb2.ReserveRequest(agent_id=agent.id, reservation=kept(owner, name="made"))
    await cluster.ask(cluster.operator.Reserve(request))
    mine, theirs = await of_pool(scheduler, "made"), await of_pool(scheduler, "r")

    await scheduler.send(accept(group(mine, unreserve("made"))))
    alien = await results(scheduler)
    await scheduler.send(accept(group(theirs, unreserve("r"))))

    assert [alien, await results(scheduler)] == [{"unreserve": False}, {"unreserve": False}]
    assert (await of_pool(scheduler, "made")).reservation.role == owner


@case(rules=(2,), mesos=(SHARES, ROW))
async def test_what_is_reserved_is_offered_to_its_role_and_those_below_it_alone(cluster: Cluster) -> None:
    owner = cluster.name("eng")
    other = await cluster.scheduler("g")
    below = await cluster.scheduler("f", roles=[f"{owner}/ads"])
    await cluster.agent(reservations=[kept(owner)])

    offer = await of_pool(below, "r")

    assert (offer.reservation.is_static, offer.resources.cpu_millis) == (True, 1000)
    await cluster.settle()
    assert not other.line.waiting("offer", lambda offer: offer.HasField("reservation"))


@case(rules=(2,), mesos=(ROW,))
async def test_a_volume_goes_from_task_to_task_and_is_deleted_when_it_is_destroyed(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair(resources=resources(disk_mib=1000))
    whole = kept(scheduler.role, 1000, disk_mib=GONE_MIB)
    made = [reserve(whole), create(disk_mib=GONE_MIB), launch(inside("t", "v", mem_mib=1024))]
    await scheduler.send(accept(group(await scheduler.offer(), *made)))
    assert await results(scheduler) == {"reserve": True, "create": True}
    await agent.expect("launch")
    await agent.says(scheduler, "t", FINISHED)
    again = await of_pool(scheduler, "r")
    assert [volume.volume_id for volume in again.volumes] == ["v"]
    await scheduler.send(accept(group(again, launch(inside("u", "v", mem_mib=1024)))))
    assert await agent.launched() == ["u"]
    await agent.says(scheduler, "u", FINISHED)

    await scheduler.send(accept(group(await of_pool(scheduler, "r"), destroy())))

    assert await results(scheduler) == {"destroy": True}
    assert (await agent.expect("destroy_volume")).volume_id == "v"
    doomed = await of_pool(scheduler, "r")
    assert (list(doomed.volumes), doomed.resources.disk_mib) == ([], 0)
    gone = agent_pb2.AgentReport(volume_destroyed=agent_pb2.VolumeDestroyed(volume_id="v"))
    await agent.send(gone)
    await cluster.settle()
    await scheduler.send(decline(doomed, refuse_ms=0))
    assert (await of_pool(scheduler, "r")).resources.disk_mib == GONE_MIB


@case(rules=(2,), mesos=(ROW,))
async def test_a_volume_is_used_by_one_task_at_a_time(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair(resources=resources(disk_mib=1000))
    made = [reserve(kept(scheduler.role, 2000, disk_mib=500)), create(), launch(inside("t", "v"), inside("u", "v"))]

    await scheduler.send(accept(group(await scheduler.offer(), *made)))

    assert await agent.launched() == ["t"]
    assert (await scheduler.update("u")).state == ERROR
    assert list((await of_pool(scheduler, "r")).volumes) == []


@case(rules=(3,), mesos=(ROW,))
async def test_an_atomic_accept_reserves_nothing_when_a_part_of_it_is_refused(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair()
    asked = [
        reserve(kept(scheduler.role), "good"),
        reserve(kept(scheduler.role, 99_000, "big"), "big"),
        launch(spec("t")),
    ]

    await scheduler.send(accept(group(await scheduler.offer(), *asked), atomic=True))

    assert await results(scheduler) == {"good": False, "big": False}
    assert (await scheduler.update("t")).state == DROPPED
    assert (await of_pool(scheduler, "")).resources.cpu_millis == 4000
    await agent.hears_no("launch")


@case(rules=(2, 20), mesos=(ROW,))
async def test_a_reservation_that_is_asked_twice_is_made_once_and_one_with_other_content_refused(
    cluster: Cluster,
) -> None:
    scheduler, _ = await cluster.pair()
    first, again = reserve(kept(scheduler.role), "first"), reserve(kept(scheduler.role), "again")

    asked = group(await scheduler.offer(), first, again, reserve(kept(scheduler.role, 2000), "other"))
    await scheduler.send(accept(asked))

    assert await results(scheduler) == {"first": True, "again": True, "other": False}
    assert (await of_pool(scheduler, "")).resources.cpu_millis == 3000


@case(rules=(2,), mesos=(ROW,))
async def test_an_operator_takes_offers_back_to_reserve_and_cannot_take_from_tasks(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    offer = await scheduler.offer()
    asked = operator_pb2.ReserveRequest(agent_id=agent.id, reservation=kept(scheduler.role, 4000))
    with pytest.raises(Refused, match=r"INVALID_ARGUMENT.*r\.resources.*no task uses"):
        await cluster.ask(cluster.operator.Reserve(asked))
    await scheduler.hears_no("rescind")

    asked.reservation.resources.cpu_millis = 3000
    await cluster.ask(cluster.operator.Reserve(asked))

    rescind = await scheduler.expect("rescind")
    assert (list(rescind.offer_ids), rescind.reason) == ([offer.offer_id], CHANGED)
    assert (await of_pool(scheduler, "r")).resources.cpu_millis == 3000


@case(rules=(2,), mesos=(ROW,), needs=(Need.RESTART,))
async def test_after_a_failover_reservations_and_volumes_are_as_they_were(cluster: Cluster) -> None:
    scheduler, agent = await cluster.pair(resources=resources(disk_mib=1000))
    made = [reserve(kept(scheduler.role, 2000, disk_mib=500)), create("v"), create("w")]
    await scheduler.send(accept(group(await scheduler.offer(), *made)))
    await results(scheduler)
    await scheduler.send(accept(group(await of_pool(scheduler, "r"), destroy("w"))))
    await agent.expect("destroy_volume")

    await cluster.restart()
    await agent.returns()
    await scheduler.returns()

    assert (await agent.expect("destroy_volume")).volume_id == "w"
    offer = await of_pool(scheduler, "r")
    assert ([volume.volume_id for volume in offer.volumes], offer.resources.disk_mib) == (["v"], 300)
