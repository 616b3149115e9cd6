"""A want bound to an offer: its ports, its environment, the terms that it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from runrig._waiting import terms_of
from runrig.offers import Offer
from runrig.resources import Ports, Resources, single_ports
from runrig.tasks import Port, TaskSpec
from runrig.wants import PortWant, Want


def pick_ports(wanted: tuple[PortWant, ...], offered: Ports) -> tuple[int, ...] | None:
    """Return a host port for each of `wanted`, or None if `offered` has not got them."""
    if not wanted:
        return ()
    fixed = [port.host_port for port in wanted if port.host_port]
    if len(set(fixed)) < len(fixed) or not Resources(ports=offered).contains(Resources(ports=single_ports(fixed))):
        return None
    rest = Resources(ports=offered).less_ports(single_ports(fixed))
    free = iter(rest.take_ports(len(wanted) - len(fixed)))
    try:
        return tuple(port.host_port or next(free) for port in wanted)
    except (StopIteration, RuntimeError):
        return None


def bound(want: Want, offer: Offer, numbers: tuple[int, ...]) -> TaskSpec:
    """Return the want's task with its terms, its ports, and $HOST, $PORT, $PORTS, $PORT0 … in its environment."""
    ports = tuple(
        Port(number, port.container_port, port.name, port.protocol)
        for port, number in zip(want.ports, numbers, strict=True)
    )
    spec = want.spec
    own = dict(spec.command.env)
    env = {**_port_env(want.ports, numbers), "HOST": offer.hostname, **own}
    terms = terms_of(want)
    if offer.reservation is not None:
        terms = replace(terms, reservation_id=offer.reservation.reservation_id)
    return replace(
        spec,
        ports=ports,
        resources=spec.resources + Resources(ports=single_ports(numbers)) if numbers else spec.resources,
        command=replace(spec.command, env=tuple(env.items())),
        terms=terms,
    )


def _port_env(wanted: tuple[PortWant, ...], numbers: tuple[int, ...]) -> Mapping[str, str]:
    env: dict[str, str] = {}
    for index, (port, number) in enumerate(zip(wanted, numbers, strict=True)):
        env[f"PORT{index}"] = str(number)
        if port.name:
            env[f"PORT_{port.name.upper().replace('-', '_')}"] = str(number)
        env.update({name: str(number) for name in port.env})
    if numbers:
        env["PORT"] = str(numbers[0])
        env["PORTS"] = ",".join(str(number) for number in numbers)
    return env
