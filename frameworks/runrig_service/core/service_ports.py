"""Service ports: the numbers that load balancers listen on, one of its own for every port of every app."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from runrig_service.core.app import App, NetworkKind
from runrig_service.core.errors import InvalidApp
from runrig_service.core.limits import Policy


def with_service_ports(app: App, current: App | None, taken: set[int], policy: Policy) -> App:
    """Return `app` with a service port for each port that has none, and add those to `taken`.

    A port keeps the service port that it has in `current`, by its place in the list. On the host's network
    with `requirePorts` the number is that of the host's port: nothing is chosen there. Raise InvalidApp
    when none is left.
    """
    if app.require_ports and app.network is NetworkKind.HOST:
        return app
    chosen = {port.service_port for port in app.ports if port.service_port}
    before = [port.service_port for port in current.ports] if current is not None else []
    ports = []
    for number, port in enumerate(app.ports):
        service_port = port.service_port
        if not service_port and number < len(before) and before[number] not in chosen:
            service_port = before[number]
        if not service_port:
            service_port = _free(taken | chosen | set(before), policy)
        chosen.add(service_port)
        ports.append(replace(port, service_port=service_port))
    taken |= chosen
    return replace(app, ports=tuple(ports))


def _free(taken: Iterable[int], policy: Policy) -> int:
    first, last = policy.service_ports
    for number in range(first, last + 1):
        if number not in taken:
            return number
    raise InvalidApp({"/portDefinitions": (f"no service port is free from {first} to {last}: choose others",)})
