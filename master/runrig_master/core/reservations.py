"""What of one agent is kept for roles: its reservations, nested as they were taken out of each other, and its volumes.

A reservation stays as large as it was made. What its pool has is that without what was taken out of it for others, and
without the disk of its volumes, those among them that wait for their agent to say that the data is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from runrig.agents import AgentInfo
from runrig.errors import Conflict, InvalidInput, NotFound
from runrig.ids import AgentId
from runrig.reservations import MAX_RESERVATIONS, MAX_VOLUMES, PersistentVolume, Reservation
from runrig.resources import Resources
from runrig_master.core.commands import Forget, Record, ReservationRecord, VolumeRecord
from runrig_master.core.quotas import is_within
from runrig_master.core.resources import remainder

UNRESERVED = ""
"""Stands for a reservation's id where there is none."""


class Reserves:
    """The reservations and volumes of one agent, by id: static ones as its flags say, the others as they were made."""

    __slots__ = ("agent_id", "reservations", "volumes")

    def __init__(self, agent_id: AgentId) -> None:
        self.agent_id = agent_id
        self.reservations: dict[str, ReservationRecord] = {}
        self.volumes: dict[str, VolumeRecord] = {}

    def copy(self) -> Reserves:
        """Return the same, to be changed by itself."""
        twin = Reserves(self.agent_id)
        twin.reservations = dict(self.reservations)
        twin.volumes = dict(self.volumes)
        return twin

    def restore(self, record: ReservationRecord | VolumeRecord) -> None:
        """Take up what the store remembers; a static reservation with the same id stands."""
        if isinstance(record, VolumeRecord):
            self.volumes[record.volume.volume_id] = record
        else:
            self.reservations.setdefault(record.reservation.reservation_id, record)

    def replace_static(self, info: AgentInfo) -> None:
        """Take up the reservations of an agent's flags: they come first, in place of others with their ids."""
        static = [replace(reservation, is_static=True) for reservation in info.reservations]
        made = [record for record in self.reservations.values() if not record.reservation.is_static]
        self.reservations = {each.reservation_id: ReservationRecord(self.agent_id, each) for each in static}
        for record in made:
            self.reservations.setdefault(record.reservation.reservation_id, record)

    # How much there is

    def amounts(self, total: Resources) -> dict[str, Resources]:
        """Return what each pool has of an agent with `total`: an agent that shrank keeps less than was reserved."""
        amounts = {UNRESERVED: total}
        for record in self._sources_first():
            reservation = record.reservation
            has = amounts[self._place(record.source_id)]
            rest = remainder(has, reservation.resources)
            amounts[self._place(record.source_id)] = rest
            amounts[reservation.reservation_id] = has - rest
        for volume in (record.volume for record in self.volumes.values()):
            need = Resources(disk_mib=volume.disk_mib)
            for place in (self._place(volume.reservation_id), *amounts):  # its own first, then whoever has some
                rest = remainder(amounts[place], need)
                need = remainder(need, amounts[place] - rest)
                amounts[place] = rest
        return amounts

    def _sources_first(self) -> Iterator[ReservationRecord]:
        done = {UNRESERVED}
        waiting = list(self.reservations.values())
        while waiting:
            rest = []
            for record in waiting:
                if self._place(record.source_id) in done:
                    done.add(record.reservation.reservation_id)
                    yield record
                else:
                    rest.append(record)
            assert len(rest) < len(waiting), f"reservations that were taken out of each other: {rest}"
            waiting = rest

    def _place(self, reservation_id: str) -> str:
        """Return the pool that is meant: of a reservation that is gone from the flags, what was on it remains."""
        return reservation_id if reservation_id in self.reservations else UNRESERVED

    def volumes_of(self, reservation_id: str) -> list[PersistentVolume]:
        """Return the volumes of a pool that are not to be destroyed."""
        return [
            record.volume
            for record in self.volumes.values()
            if not record.is_doomed and record.volume.reservation_id == reservation_id
        ]

    @property
    def doomed(self) -> list[str]:
        """Return the volumes whose data the agent is to delete."""
        return [volume_id for volume_id, record in self.volumes.items() if record.is_doomed]

    # What may change, and how

    def has_reserved(self, reservation: Reservation, source_id: str) -> bool:
        """Say whether a reservation has been made just so; raise what forbids to make it."""
        name = f"reservation {reservation.reservation_id}"
        known = self.reservations.get(reservation.reservation_id)
        if known is not None:
            if known.source_id == source_id and _alike(known.reservation, reservation):
                return True
            raise Conflict(f"{name} is there already, with {_text(known)}; choose another id or unreserve it first")
        if source_id != UNRESERVED:
            source = self.reservations.get(source_id)
            if source is None:
                raise NotFound("reservation", source_id, f"on agent {self.agent_id} there are: {self._names()}")
            above = source.reservation.role
            if not is_within(reservation.role, above):
                raise InvalidInput(f"{name}.role", reservation.role, f"{above}, as {source_id} is for it, or below it")
        if len(self.reservations) >= MAX_RESERVATIONS:
            raise Conflict(f"agent {self.agent_id} has {MAX_RESERVATIONS} reservations, as many as can be")
        return False

    def reserve(self, reservation: Reservation, source_id: str) -> None:
        """Make a reservation."""
        self.reservations[reservation.reservation_id] = ReservationRecord(self.agent_id, reservation, source_id)

    def to_unreserve(self, reservation_id: str) -> ReservationRecord:
        """Return a reservation that may be given back if nobody uses it; raise what forbids that."""
        record = self.reservations.get(reservation_id)
        if record is None:
            raise NotFound("reservation", reservation_id, f"on agent {self.agent_id} there are: {self._names()}")
        if record.reservation.is_static:
            raise Conflict(
                f"reservation {reservation_id} is static: only --reserve of agent {self.agent_id} changes it"
            )
        on_it = [id_ for id_, each in self.volumes.items() if each.volume.reservation_id == reservation_id]
        if on_it:
            raise Conflict(f"reservation {reservation_id} has volumes: {', '.join(on_it[:10])}; destroy them first")
        return record

    def unreserve(self, reservation_id: str) -> None:
        """Give a reservation back to what it was taken from, and so what was taken out of it in its turn."""
        gone = self.reservations.pop(reservation_id)
        for id_, record in self.reservations.items():
            if record.source_id == reservation_id:
                self.reservations[id_] = replace(record, source_id=gone.source_id)

    def has_created(self, volume: PersistentVolume) -> bool:
        """Say whether a volume has been made just so; raise what forbids to make it."""
        name = f"volume {volume.volume_id}"
        known = self.volumes.get(volume.volume_id)
        if known is not None:
            if known.is_doomed:
                raise Conflict(f"{name} is being destroyed; make it when that is done, or choose another id")
            if known.volume == volume:
                return True
            had = f"{known.volume.disk_mib} MiB on {known.volume.reservation_id}"
            raise Conflict(f"{name} is there already, with {had}; choose another id or destroy it first")
        if volume.reservation_id not in self.reservations:
            names = f"on agent {self.agent_id} there are: {self._names()}"
            raise NotFound("reservation", volume.reservation_id, names)
        if len(self.volumes) >= MAX_VOLUMES:
            raise Conflict(f"agent {self.agent_id} has {MAX_VOLUMES} volumes, as many as can be")
        return False

    def create(self, volume: PersistentVolume) -> None:
        """Make a volume."""
        self.volumes[volume.volume_id] = VolumeRecord(self.agent_id, volume)

    def to_destroy(self, volume_id: str) -> VolumeRecord:
        """Return a volume; raise NotFound."""
        record = self.volumes.get(volume_id)
        if record is None:
            names = ", ".join(self.volumes) or "none"
            raise NotFound("volume", volume_id, f"on agent {self.agent_id} there are: {names}")
        return record

    def doom(self, volume_id: str) -> None:
        """Have a volume destroyed; its disk is taken until its agent has said that the data is gone."""
        self.volumes[volume_id] = replace(self.volumes[volume_id], is_doomed=True)

    def is_gone(self, volume_id: str) -> bool:
        """Learn that the data of a volume is gone; say whether that was waited for."""
        record = self.volumes.get(volume_id)
        if record is None or not record.is_doomed:
            return False
        del self.volumes[volume_id]
        return True

    def _names(self) -> str:
        return ", ".join(self.reservations) or "none"


def changes(before: Reserves, after: Reserves) -> tuple[Record | Forget, ...]:
    """Return what the store must be told: static reservations are the agent's own to remember."""
    found: list[Record | Forget] = []
    for id_ in _named(before.reservations, after.reservations):
        old, new = _made(before.reservations.get(id_)), _made(after.reservations.get(id_))
        if new is None and old is not None:
            found.append(Forget(before.agent_id, reservation_id=id_))
        elif new is not None and new != old:
            found.append(new)
    for id_ in _named(before.volumes, after.volumes):
        was, now = before.volumes.get(id_), after.volumes.get(id_)
        if now is None:
            found.append(Forget(before.agent_id, volume_id=id_))
        elif now != was:
            found.append(now)
    return tuple(found)


def _named(before: Iterable[str], after: Iterable[str]) -> list[str]:
    return list(dict.fromkeys((*before, *after)))


def _made(record: ReservationRecord | None) -> ReservationRecord | None:
    return None if record is None or record.reservation.is_static else record


def _alike(one: Reservation, other: Reservation) -> bool:
    """Say whether both keep the same for the same role; who asked for it, and how often, does not matter."""
    return (one.role, one.resources, one.labels) == (other.role, other.resources, other.labels)


def _text(record: ReservationRecord) -> str:
    source = f" out of {record.source_id}" if record.source_id else ""
    return f"{record.reservation.resources}{source} for {record.reservation.role}"
