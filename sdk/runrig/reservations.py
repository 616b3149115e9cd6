"""Resources kept for a role, disk that outlives tasks, and time that an agent will be away.

A reservation is an amount of one agent that only its role, and the roles below it, are offered. It is offered and taken
for itself: a task runs within one reservation or within none (`runrig.tasks.Terms.reservation_id`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from runrig.errors import InvalidInput
from runrig.ids import Role, checked_id, checked_role
from runrig.resources import MAX_AMOUNT, Resources, checked_resources
from runrig.tasks import MAX_MILLISECONDS, MAX_TEXT, checked_labels

MAX_RESERVATIONS = 256
"""Of one agent; each is an offer of its own."""
MAX_VOLUMES = 1024
"""Of one agent."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """An amount of one agent kept for `role` and the roles below it; a static one stands in the agent's own flags.

    Example:
        >>> Reservation("ssd", Role("db"), Resources(disk_mib=10_240), labels=(("tier", "fast"),)).role
        'db'
    """

    reservation_id: str
    role: Role
    resources: Resources
    labels: tuple[tuple[str, str], ...] = ()
    principal: str = ""
    is_static: bool = False


@dataclass(frozen=True, slots=True)
class PersistentVolume:
    """A directory on the disk of a reservation that outlives tasks and restarts; one task at a time uses it."""

    volume_id: str
    reservation_id: str
    disk_mib: int


@dataclass(frozen=True, slots=True)
class Unavailability:
    """An agent is planned to be away; `duration_ms` 0: without an end."""

    start_unix_ms: int
    duration_ms: int = 0

    def overlaps(self, begin_ms: int, end_ms: int) -> bool:
        """Say whether a time from `begin_ms` to before `end_ms` touches it."""
        is_over = self.duration_ms > 0 and begin_ms >= self.start_unix_ms + self.duration_ms
        return end_ms > self.start_unix_ms and not is_over


def checked_reservation(field: str, reservation: Reservation) -> Reservation:
    """Return `reservation`, its port ranges joined, if an agent can hold it; raise InvalidInput naming `field`."""
    checked_id(f"{field}.reservation_id", reservation.reservation_id)
    field = f"{field} {reservation.reservation_id}"
    checked_role(f"{field}.role", reservation.role)
    resources = checked_resources(f"{field}.resources", reservation.resources)
    if resources.is_empty:
        raise InvalidInput(f"{field}.resources", str(resources), "some cpu, memory, disk or another resource")
    checked_labels(f"{field}.labels", reservation.labels)
    if len(reservation.principal) > MAX_TEXT:
        raise InvalidInput(f"{field}.principal", reservation.principal, f"at most {MAX_TEXT} characters")
    return replace(reservation, resources=resources)


def checked_volume(field: str, volume: PersistentVolume) -> PersistentVolume:
    """Return `volume` if it can be made somewhere; raise InvalidInput naming `field`."""
    checked_id(f"{field}.volume_id", volume.volume_id)
    checked_id(f"{field}.reservation_id", volume.reservation_id)
    if not 1 <= volume.disk_mib <= MAX_AMOUNT:
        raise InvalidInput(f"{field}.disk_mib", volume.disk_mib, f"1 to {MAX_AMOUNT}")
    return volume


def checked_unavailability(field: str, unavailability: Unavailability) -> Unavailability:
    """Return `unavailability` if it is a time; raise InvalidInput naming `field`."""
    for name, value in (
        ("start_unix_ms", unavailability.start_unix_ms),
        ("duration_ms", unavailability.duration_ms),
    ):
        most = MAX_MILLISECONDS if name == "duration_ms" else 2**53
        if not 0 <= value <= most:
            raise InvalidInput(f"{field}.{name}", value, f"0 to {most}")
    return unavailability
