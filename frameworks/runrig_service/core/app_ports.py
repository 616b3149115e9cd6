"""Reads networks and ports: Marathon has had three generations of both, and clients still send them all.

- 1.5 and later: `networks`, with `container.portMappings` for containers and `portDefinitions` on the host.
- 1.0 to 1.4: `container.docker.network` BRIDGE, HOST or USER, with `container.docker.portMappings`.
- before: `ports`, a list of service ports; and `ipAddress`, for networks of containers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from runrig_service.core.app import AppPort, Network, NetworkKind
from runrig_service.core.fields import Fields

_PORT_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
_LEGACY_NETWORKS = {"HOST": NetworkKind.HOST, "BRIDGE": NetworkKind.BRIDGE, "USER": NetworkKind.CONTAINER}
MAX_PORT = 65_535


def read_networks(app: Fields, container: Fields | None) -> tuple[Network, ...]:
    """Return the networks, one at least; the newest way to write them that is used counts."""
    docker = container.nested("docker") if container else None
    address = app.nested("ipAddress")
    if app.items("networks"):
        networks = tuple(_network(each) for each in app.objects("networks"))
    elif docker is not None and docker.has("network"):
        kind = _LEGACY_NETWORKS[docker.choice("network", "HOST", tuple(_LEGACY_NETWORKS))]
        name = address.text("networkName") if address and kind is NetworkKind.CONTAINER else ""
        networks = (Network(kind, name),)
    elif address is not None:
        networks = (Network(NetworkKind.CONTAINER, address.text("networkName"), address.text_map("labels")),)
    else:
        networks = ()
    _check_networks(app, networks)
    return networks or (Network(),)


def _network(fields: Fields) -> Network:
    kind = NetworkKind(fields.choice("mode", NetworkKind.CONTAINER, tuple(NetworkKind)))
    if kind is not NetworkKind.CONTAINER:
        return Network(kind)
    return Network(kind, fields.text("name"), fields.text_map("labels"))


def _check_networks(app: Fields, networks: tuple[Network, ...]) -> None:
    if len(networks) > 1:
        app.refuse("networks", "must be one network: Runrig attaches a container to one")
    for number, network in enumerate(networks):
        if network.kind is NetworkKind.CONTAINER and not network.name:
            app.problems.add(f"/networks({number})/name", "must be the name of the container network")


def read_ports(app: Fields, container: Fields | None, network: NetworkKind) -> tuple[AppPort, ...]:
    """Return the ports; an app that mentions none has one, unless its network is of containers only."""
    mappings = _mappings(container)
    if network is NetworkKind.HOST:
        if mappings is not None and mappings[0].items(mappings[1]):
            app.problems.add("/container/portMappings", "must be empty on the host's network: use portDefinitions")
        ports = _host_ports(app)
    else:
        if app.items("portDefinitions"):
            app.refuse("portDefinitions", "is for the host's network: use container.portMappings")
        ports = _container_ports(app, mappings, network)
    _check_ports(app, ports)
    return ports


def _host_ports(app: Fields) -> tuple[AppPort, ...]:
    most = app.problems.limits.ports
    if app.items("portDefinitions", most) or (app.has("portDefinitions") and not app.items("ports", most)):
        return tuple(_definition(each) for each in app.objects("portDefinitions", most))
    if app.has("ports"):
        return tuple(AppPort(service_port=number) for number in _numbers(app, most))
    return (AppPort(),)


def _definition(fields: Fields) -> AppPort:
    return AppPort(
        service_port=fields.whole("port", 0, 0, MAX_PORT),
        name=_name(fields),
        protocol=_protocol(fields),
        labels=fields.text_map("labels"),
    )


def _numbers(app: Fields, most: int) -> Iterable[int]:
    for number, value in enumerate(app.items("ports", most)):
        yield Fields({"": value}, f"/ports({number})", app.problems).whole("", 0, 0, MAX_PORT)


def _mappings(container: Fields | None) -> tuple[Fields, str] | None:
    """Return where the port mappings stand, if they do."""
    if container is None:
        return None
    docker = container.nested("docker")
    if container.items("portMappings") or docker is None or not docker.has("portMappings"):
        return (container, "portMappings") if container.has("portMappings") else None
    return (docker, "portMappings")


def _container_ports(app: Fields, mappings: tuple[Fields, str] | None, network: NetworkKind) -> tuple[AppPort, ...]:
    most = app.problems.limits.ports
    if mappings is not None:
        return tuple(_mapping(each, network) for each in mappings[0].objects(mappings[1], most))
    address = app.nested("ipAddress")
    discovery = address.nested("discovery") if address else None
    if discovery is not None and discovery.has("ports"):
        return tuple(_discovered(each) for each in discovery.objects("ports", most))
    return (AppPort(host_port=0),) if network is NetworkKind.BRIDGE else ()


def _mapping(fields: Fields, network: NetworkKind) -> AppPort:
    has_host_port = network is NetworkKind.BRIDGE or fields.has("hostPort")
    return AppPort(
        service_port=fields.whole("servicePort", 0, 0, MAX_PORT),
        host_port=fields.whole("hostPort", 0, 0, MAX_PORT) if has_host_port else None,
        container_port=fields.whole("containerPort", 0, 0, MAX_PORT),
        name=_name(fields),
        protocol=_protocol(fields),
        labels=fields.text_map("labels"),
    )


def _discovered(fields: Fields) -> AppPort:
    return AppPort(
        host_port=None,
        container_port=fields.whole("number", 0, 0, MAX_PORT),
        name=_name(fields),
        protocol=_protocol(fields),
        labels=fields.text_map("labels"),
    )


def _name(fields: Fields) -> str:
    name = fields.text("name")
    if name and not _PORT_NAME.match(name):
        fields.refuse("name", "must be 1 to 63 letters, digits, `-`, `_` and `.`")
    return name


def _protocol(fields: Fields) -> str:
    if fields.has("protocol") and fields.text("protocol") in ("udp,tcp", "tcp,udp"):
        fields.refuse("protocol", "is not supported: define one port for tcp and one for udp")
        return "tcp"
    return fields.choice("protocol", "tcp", ("tcp", "udp"))


def _check_ports(app: Fields, ports: tuple[AppPort, ...]) -> None:
    where = "/portDefinitions" if app.has("portDefinitions") else "/ports"
    if app.has("container") and ports and ports[0].host_port is not None:
        where = "/container/portMappings"
    named = [port.name for port in ports if port.name]
    service_ports = [port.service_port for port in ports if port.service_port]
    host_ports = [(port.host_port, port.protocol) for port in ports if port.host_port]
    for values, what in ((named, "Port names"), (service_ports, "Service ports"), (host_ports, "Host ports")):
        if len(set(values)) < len(values):
            app.problems.add(where, f"{what} must be unique")
