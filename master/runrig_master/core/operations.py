"""Reservations and volumes that are made and given back, by frameworks and by operators.

A framework's operations run in order against what its offers have left, pool by pool (rule 2); each is done or
refused by itself. An operator's takes what is free, and what stands in offers if that is not enough, which then end.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import assert_never

from runrig.errors import Conflict, InvalidInput, NotFound, RunrigError, Unavailable
from runrig.ids import AgentId, Role
from runrig.offers import CreateVolume, DestroyVolume, LaunchableTask, RescindReason, Reserve, Unreserve
from runrig.reservations import PersistentVolume, Reservation, checked_reservation, checked_volume
from runrig.resources import NOTHING, Resources
from runrig_master.core.cluster import Cluster, alive
from runrig_master.core.commands import ReservationRecord, VolumeRecord
from runrig_master.core.events import (
    CreateVolumeAsked,
    DestroyVolumeAsked,
    ReservationEvent,
    ReserveAsked,
    UnreserveAsked,
)
from runrig_master.core.pools import Pool
from runrig_master.core.quotas import is_within
from runrig_master.core.reservations import Reserves
from runrig_master.core.resources import remainder
from runrig_master.core.state import Agent, Framework, OutstandingOffer, Presence

Change = Reserve | Unreserve | CreateVolume | DestroyVolume


@dataclass(slots=True)
class Remainder:
    """What the offers of a launch group have left: amounts by pool, and volumes by id."""

    amounts: dict[str, Resources] = field(default_factory=dict)
    volumes: dict[str, PersistentVolume] = field(default_factory=dict)

    @classmethod
    def of(cls, offers: list[OutstandingOffer]) -> Remainder:
        """Return all that `offers` hold."""
        left = cls()
        for offer in offers:
            pool_id = offer.pool.reservation_id
            left.amounts[pool_id] = left.amounts.get(pool_id, NOTHING) + offer.resources
            left.volumes.update((volume.volume_id, volume) for volume in offer.volumes)
        return left

    def copy(self) -> Remainder:
        """Return the same, to be used by itself."""
        return Remainder(dict(self.amounts), dict(self.volumes))

    def has(self, field_name: str, pool_id: str) -> Resources:
        """Return what is left of a pool; raise InvalidInput naming the field when the offers are of none such."""
        amount = self.amounts.get(pool_id)
        if amount is None:
            raise InvalidInput(field_name, pool_id, f"those of the offers: {self._names()}")
        return amount

    def check_volumes(self, task: LaunchableTask) -> None:
        """Raise InvalidInput unless all volumes of a task are left, on the reservation that it runs in."""
        for volume_id in task.volume_ids:
            volume = self.volumes.get(volume_id)
            if volume is None or volume.reservation_id != task.terms.reservation_id:
                there = [each for each in self.volumes.values() if each.reservation_id == task.terms.reservation_id]
                names = ", ".join(each.volume_id for each in there) or "none"
                raise InvalidInput("volumes.volume_id", volume_id, f"those of the task's reservation: {names}")

    def take(self, task: LaunchableTask) -> None:
        """Use what a task takes, which is there."""
        pool_id = task.terms.reservation_id
        self.amounts[pool_id] = self.amounts[pool_id] - task.resources
        for volume_id in task.volume_ids:
            self.volumes.pop(volume_id, None)

    def _names(self) -> str:
        return ", ".join(repr(name) if name else "none (what is not reserved)" for name in self.amounts)


# Of frameworks


def apply(change: Change, reserves: Reserves, left: Remainder, agent: Agent, framework: Framework, role: Role) -> None:
    """Carry out one operation of a launch group of `role` on a draft of what is kept; raise what forbids it."""
    match change:
        case Reserve():
            _reserve(change, reserves, left, framework, role)
        case Unreserve():
            _unreserve(change, reserves, left, agent, role)
        case CreateVolume():
            _create(change, reserves, left)
        case DestroyVolume():
            _destroy(change, reserves, left, agent)
        case _:
            assert_never(change)


def is_in_effect(change: Change, reserves: Reserves) -> bool:
    """Say whether what an operation asks for is so already: it may have been sent before (rule 20)."""
    try:
        match change:
            case Reserve():
                return reserves.has_reserved(checked_reservation("reserve", change.reservation), change.source_id)
            case Unreserve():
                return change.reservation_id not in reserves.reservations
            case CreateVolume():
                return reserves.has_created(change.volume)
            case DestroyVolume():
                return change.volume_id not in reserves.volumes or change.volume_id in reserves.doomed
            case _:
                assert_never(change)
    except RunrigError:
        return False


def _reserve(change: Reserve, reserves: Reserves, left: Remainder, framework: Framework, role: Role) -> None:
    asked = replace(change.reservation, principal=framework.info.principal, is_static=False)
    reservation = checked_reservation("reserve", asked)
    name = f"reserve {reservation.reservation_id}"
    if not is_within(reservation.role, role):
        raise InvalidInput(f"{name}.role", reservation.role, f"{role}, the role of the offers, or one below it")
    if reserves.has_reserved(reservation, change.source_id):
        return
    has = left.has(f"{name}.from_reservation_id", change.source_id)
    if not has.contains(reservation.resources):
        raise InvalidInput(f"{name}.resources", str(reservation.resources), f"at most what the offers have left: {has}")
    reserves.reserve(reservation, change.source_id)
    left.amounts[change.source_id] = has - reservation.resources
    left.amounts[reservation.reservation_id] = reservation.resources


def _unreserve(change: Unreserve, reserves: Reserves, left: Remainder, agent: Agent, role: Role) -> None:
    record = reserves.to_unreserve(change.reservation_id)
    name = f"unreserve {change.reservation_id}"
    if not is_within(record.reservation.role, role):
        raise InvalidInput(f"{name}.role", record.reservation.role, f"{role}, the role of the offers, or one below it")
    has = left.has(f"{name}.reservation_id", change.reservation_id)
    whole = reserves.amounts(agent.info.resources)[change.reservation_id]
    if has != whole:
        raise Conflict(f"{name}: the offers have {has} left of {whole}; the rest is used, or stands in other offers")
    reserves.unreserve(change.reservation_id)
    del left.amounts[change.reservation_id]
    left.amounts[record.source_id] = left.amounts.get(record.source_id, NOTHING) + whole


def _create(change: CreateVolume, reserves: Reserves, left: Remainder) -> None:
    volume = checked_volume("create_volume", change.volume)
    if reserves.has_created(volume):
        return
    name = f"create_volume {volume.volume_id}"
    has = left.has(f"{name}.reservation_id", volume.reservation_id)
    if volume.disk_mib > has.disk_mib:
        raise InvalidInput(f"{name}.disk_mib", volume.disk_mib, f"at most what the offers have left: {has.disk_mib}")
    reserves.create(volume)
    left.amounts[volume.reservation_id] = has - Resources(disk_mib=volume.disk_mib)
    left.volumes[volume.volume_id] = volume


def _destroy(change: DestroyVolume, reserves: Reserves, left: Remainder, agent: Agent) -> None:
    if reserves.to_destroy(change.volume_id).is_doomed:
        return
    _check_unused(agent, change.volume_id)
    if left.volumes.pop(change.volume_id, None) is None:
        names = ", ".join(left.volumes) or "none"
        raise InvalidInput("destroy_volume.volume_id", change.volume_id, f"those of the offers: {names}")
    reserves.doom(change.volume_id)


def _check_unused(agent: Agent, volume_id: str) -> None:
    user = next((task for task in alive(agent) if volume_id in task.volume_ids), None)
    if user is not None:
        raise Conflict(f"volume {volume_id} is used by task {user.id}; destroy it when that has ended")


# Of operators


def asked(cluster: Cluster, event: ReservationEvent) -> RunrigError | None:
    """Do what an operator asks of an agent's reservations and volumes, or return what forbids it."""
    try:
        agent = _agent(cluster, event.agent_id)
        after = agent.reserves.copy()
        match event:
            case ReserveAsked():
                _reserve_asked(cluster, agent, after, event.reservation, event.source_id)
            case UnreserveAsked():
                _unreserve_asked(cluster, agent, after, event.reservation_id)
            case CreateVolumeAsked():
                _create_asked(cluster, agent, after, event.volume)
            case DestroyVolumeAsked():
                _destroy_asked(cluster, agent, after, event.volume_id)
            case _:
                assert_never(event)
    except RunrigError as error:
        return error
    cluster.change_reserves(agent, after)
    return None


def _agent(cluster: Cluster, agent_id: AgentId) -> Agent:
    """Return an agent of which it is known what it uses."""
    agent = cluster.agents.get(agent_id)
    if agent is None:
        raise NotFound("agent", agent_id, "see `runrig agents ls`")
    if agent.presence is Presence.GONE:
        raise Conflict(f"agent {agent_id} was marked gone")
    if agent.presence is not Presence.CONNECTED:
        raise Unavailable(f"agent {agent_id} is {agent.presence.value}; try again when it is back")
    return agent


def _reserve_asked(cluster: Cluster, agent: Agent, after: Reserves, asked: Reservation, source_id: str) -> None:
    reservation = checked_reservation("reservation", replace(asked, is_static=False))
    if after.has_reserved(reservation, source_id):
        return
    field_name = f"reservation {reservation.reservation_id}.resources"
    pool = agent.pools[source_id]
    most = remainder(pool.total, pool.used)
    if not most.contains(reservation.resources):
        what = f"of {source_id} " if source_id else "that is not reserved "
        raise InvalidInput(field_name, str(reservation.resources), f"at most what {what}no task uses: {most}")
    _take_offers_back(cluster, pool, reservation.resources)
    after.reserve(reservation, source_id)


def _unreserve_asked(cluster: Cluster, agent: Agent, after: Reserves, reservation_id: str) -> None:
    after.to_unreserve(reservation_id)
    pool = agent.pools[reservation_id]
    users = [task.id for task in alive(agent) if task.pool is pool]
    if users:
        raise Conflict(f"reservation {reservation_id} has tasks: {', '.join(users[:10])}; end them first")
    cluster.rescind([*pool.offers.values(), *pool.optimistic.values()], RescindReason.RESERVATION_CHANGED)
    after.unreserve(reservation_id)


def _create_asked(cluster: Cluster, agent: Agent, after: Reserves, asked: PersistentVolume) -> None:
    volume = checked_volume("volume", asked)
    if after.has_created(volume):
        return
    pool = agent.pools[volume.reservation_id]
    most = remainder(pool.total, pool.used).disk_mib
    if volume.disk_mib > most:
        text = f"at most what of {volume.reservation_id} no task or volume uses: {most}"
        raise InvalidInput(f"volume {volume.volume_id}.disk_mib", volume.disk_mib, text)
    _take_offers_back(cluster, pool, Resources(disk_mib=volume.disk_mib))
    after.create(volume)


def _destroy_asked(cluster: Cluster, agent: Agent, after: Reserves, volume_id: str) -> None:
    if after.to_destroy(volume_id).is_doomed:
        return
    _check_unused(agent, volume_id)
    holders = [offer for offer in agent.offers.values() if volume_id in {each.volume_id for each in offer.volumes}]
    cluster.rescind(holders, RescindReason.RESERVATION_CHANGED)
    after.doom(volume_id)


def _take_offers_back(cluster: Cluster, pool: Pool, need: Resources) -> None:
    """Rescind offers of a pool, the oldest first, until `need` is free there."""
    while not pool.free.contains(need):
        oldest = next(iter(pool.offers.values()), None)
        if oldest is None:
            raise Conflict(f"agent {pool.agent.id} uses more than it has; try again when some of its tasks have ended")
        cluster.rescind([oldest], RescindReason.RESERVATION_CHANGED)


def volume_destroyed(cluster: Cluster, agent: Agent, volume_id: str) -> None:
    """Learn that the data of a volume is gone: its disk returns to its reservation."""
    after = agent.reserves.copy()
    if after.is_gone(volume_id):
        cluster.change_reserves(agent, after)


# Of the store


def recall(cluster: Cluster, record: ReservationRecord | VolumeRecord) -> None:
    """Take up what the store remembers to be kept of an agent."""
    agent = cluster.agents.get(record.agent_id)
    if agent is not None:
        agent.reserves.restore(record)


def recalled(cluster: Cluster) -> None:
    """Give agents their pools when all has been recalled."""
    for agent in cluster.agents.values():
        if agent.reserves.reservations or agent.reserves.volumes:
            cluster.restored(agent)
