"""Resources, labels and enumerations on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import TypeVar

from runrig.errors import InvalidInput
from runrig.ids import Role
from runrig.reservations import PersistentVolume, Reservation, Unavailability
from runrig.resources import MAX_CUSTOM, MAX_PORT_RANGES, Resources
from runrig.tasks import MAX_LIST
from runrig.v1 import resources_pb2

E = TypeVar("E", bound=IntEnum)
Pairs = tuple[tuple[str, str], ...]


def resources_to_wire(resources: Resources) -> resources_pb2.Resources:
    """Build the message of `resources`."""
    message = resources_pb2.Resources()
    fill_resources(message, resources)
    return message


def fill_resources(message: resources_pb2.Resources, resources: Resources) -> None:
    """Write `resources` into their message."""
    message.cpu_millis = resources.cpu_millis
    message.mem_mib = resources.mem_mib
    message.disk_mib = resources.disk_mib
    message.gpus = resources.gpus
    for begin, end in resources.ports:
        message.ports.add(begin=begin, end=end)
    for name, amount in resources.custom:
        message.custom.add(name=name, amount_millis=amount)


def resources_from_wire(message: resources_pb2.Resources) -> Resources:
    """Read resources, unchecked: `checked_resources` says whether they can be.

    Of lists as long as that no more is read than shows that they are too long.
    """
    return Resources(
        message.cpu_millis,
        message.mem_mib,
        message.disk_mib,
        message.gpus,
        tuple((item.begin, item.end) for item in message.ports[: MAX_PORT_RANGES + 1]) if message.ports else (),
        tuple((item.name, item.amount_millis) for item in message.custom[: MAX_CUSTOM + 1]) if message.custom else (),
    )


def fill_reservation(message: resources_pb2.Reservation, reservation: Reservation) -> None:
    """Write a reservation into its message."""
    message.reservation_id = reservation.reservation_id
    message.role = reservation.role
    fill_resources(message.resources, reservation.resources)
    message.labels.extend(labels_to_wire(reservation.labels))
    message.principal = reservation.principal
    message.is_static = reservation.is_static


def reservation_from_wire(message: resources_pb2.Reservation) -> Reservation:
    """Read a reservation, unchecked."""
    return Reservation(
        message.reservation_id,
        Role(message.role),
        resources_from_wire(message.resources),
        labels_from_wire(message.labels[: MAX_LIST + 1]),  # enough to see that they are too many
        message.principal,
        message.is_static,
    )


def fill_volume(message: resources_pb2.PersistentVolume, volume: PersistentVolume) -> None:
    """Write a persistent volume into its message."""
    message.volume_id = volume.volume_id
    message.reservation_id = volume.reservation_id
    message.disk_mib = volume.disk_mib


def volume_from_wire(message: resources_pb2.PersistentVolume) -> PersistentVolume:
    """Read a persistent volume, unchecked."""
    return PersistentVolume(message.volume_id, message.reservation_id, message.disk_mib)


def fill_unavailability(message: resources_pb2.Unavailability, unavailability: Unavailability) -> None:
    """Write an unavailability into its message, present even when it says nothing."""
    message.SetInParent()
    message.start_unix_ms = unavailability.start_unix_ms
    message.duration_ms = unavailability.duration_ms


def unavailability_from_wire(message: resources_pb2.Unavailability) -> Unavailability:
    """Read an unavailability, unchecked."""
    return Unavailability(message.start_unix_ms, message.duration_ms)


def labels_to_wire(labels: Pairs) -> list[resources_pb2.Label]:
    """Build the messages of `labels`."""
    return [resources_pb2.Label(name=name, value=value) for name, value in labels]


def labels_from_wire(messages: Iterable[resources_pb2.Label]) -> Pairs:
    """Read labels."""
    return tuple((item.name, item.value) for item in messages)


def attributes_from_wire(messages: Iterable[resources_pb2.Attribute]) -> Pairs:
    """Read attributes."""
    return tuple((item.name, item.value) for item in messages)


def attributes_to_wire(attributes: Pairs) -> list[resources_pb2.Attribute]:
    """Build the messages of `attributes`."""
    return [resources_pb2.Attribute(name=name, value=value) for name, value in attributes]


def enum_from_wire(kind: type[E], field: str, number: int) -> E:
    """Read an enumeration's number; raise InvalidInput naming `field`."""
    try:
        return kind(number)
    except ValueError:
        raise InvalidInput(field, number, ", ".join(f"{item.value} ({item.name})" for item in kind)) from None
