"""What an app is, after all the ways to write it have become one.

Times are milliseconds, memory and disk MiB, cpus thousandths, as everywhere in Runrig; `app_json` reads and
writes what people and Marathon's clients say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from runrig.ids import Role

Pairs = tuple[tuple[str, str], ...]
"""A map of text to text, ascending by key."""


class NetworkKind(StrEnum):
    """How an instance is attached to the network."""

    HOST = "host"
    BRIDGE = "container/bridge"
    CONTAINER = "container"


@dataclass(frozen=True, slots=True)
class Network:
    """A network; only CONTAINER has a name, that of the container network."""

    kind: NetworkKind = NetworkKind.HOST
    name: str = ""
    labels: Pairs = ()


@dataclass(frozen=True, slots=True)
class AppPort:
    """One port of an app, as clients see it, for each kind of network.

    `service_port` is the number that load balancers listen on, unique in the cluster; 0: not chosen yet.
    `host_port` 0: any of the agent's; None: the port is reached on the container's own address.
    `container_port` is 0 on the host's network, and where it shall be the same as the host's.
    """

    service_port: int = 0
    host_port: int | None = 0
    container_port: int = 0
    name: str = ""
    protocol: str = "tcp"
    labels: Pairs = ()


@dataclass(frozen=True, slots=True)
class HostVolume:
    """A directory of the host."""

    host_path: str
    container_path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """A container's image."""

    name: str
    force_pull: bool = False
    parameters: Pairs = ()


@dataclass(frozen=True, slots=True)
class AppContainer:
    """A container, of Marathon's `kind` DOCKER or MESOS; without an image it only says what is mounted."""

    kind: str = "DOCKER"
    image: Image | None = None
    volumes: tuple[HostVolume, ...] = ()


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file brought into the sandbox."""

    uri: str
    extract: bool = True
    executable: bool = False
    destination: str = ""


@dataclass(frozen=True, slots=True)
class AppConstraint:
    """A condition on the agent, in Marathon's words: `rack GROUP_BY 3`."""

    field: str
    operator: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class AppCheck:
    """A health check; `protocol` is Marathon's word. Every check runs on the agent, whatever its protocol."""

    protocol: str = "HTTP"
    command: str = ""
    path: str = "/"
    port: int | None = None
    port_index: int | None = 0
    grace_ms: int = 300_000
    interval_ms: int = 60_000
    timeout_ms: int = 20_000
    delay_ms: int = 0
    max_consecutive_failures: int = 3


@dataclass(frozen=True, slots=True)
class UpgradeStrategy:
    """How far a change may go below the wanted number of healthy instances, and above that of instances."""

    minimum_health_capacity: float = 1.0
    maximum_over_capacity: float = 1.0


@dataclass(frozen=True, slots=True)
class UnreachableStrategy:
    """When an unreachable instance is replaced, and when it is given up, in milliseconds of silence."""

    inactive_after_ms: int = 0
    expunge_after_ms: int = 0


@dataclass(frozen=True, slots=True)
class App:
    """A program of which a number of instances is kept running."""

    app_id: str
    instances: int = 1
    cmd: str | None = None
    args: tuple[str, ...] | None = None
    cpu_millis: int = 1000
    mem_mib: int = 128
    disk_mib: int = 0
    gpus: int = 0
    user: str = ""
    env: Pairs = ()
    labels: Pairs = ()
    constraints: tuple[AppConstraint, ...] = ()
    container: AppContainer | None = None
    networks: tuple[Network, ...] = (Network(),)
    ports: tuple[AppPort, ...] = ()
    require_ports: bool = False
    fetch: tuple[FetchedFile, ...] = ()
    health_checks: tuple[AppCheck, ...] = ()
    backoff_ms: int = 1000
    backoff_factor: float = 1.15
    max_launch_delay_ms: int = 300_000
    upgrade: UpgradeStrategy = UpgradeStrategy()
    unreachable: UnreachableStrategy | None = UnreachableStrategy()
    """None: an unreachable instance is waited for, however long."""
    kill_oldest_first: bool = False
    kill_grace_ms: int | None = None
    role: Role | None = None
    accepted_roles: tuple[str, ...] = ()
    priority: int = 0
    dependencies: tuple[str, ...] = ()

    @property
    def network(self) -> NetworkKind:
        """Return the kind of its networks."""
        return self.networks[0].kind

    @property
    def is_containerized(self) -> bool:
        """Say whether its instances run an image."""
        return self.container is not None and self.container.image is not None

    def scaled(self, instances: int) -> App:
        """Return the same app with another number of instances."""
        return replace(self, instances=instances)

    def differs_only_in_scale(self, other: App) -> bool:
        """Say whether the two are the same but for the number of instances."""
        return self == other.scaled(self.instances)


@dataclass(frozen=True, slots=True)
class Definition:
    """An app together with when it became so: milliseconds since 1970, which name its versions.

    Instances of versions before `configured_ms` have an older configuration and are replaced. `change` is
    the id of the change that is not complete yet, or empty.
    """

    app: App
    version_ms: int
    scaled_ms: int
    configured_ms: int
    change: str = ""
