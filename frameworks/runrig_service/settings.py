"""The service framework's settings, read once in `cli` and passed down."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

from runrig.errors import InvalidInput
from runrig.ids import Role
from runrig_service.core.limits import Limits, Policy

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """The REST API."""

    host: str = "127.0.0.1"
    """Where to listen: this machine only, as the API runs commands for whoever reaches it."""

    port: int = 8080
    """The port, Marathon's; 0 takes a free one."""

    max_body_bytes: int = 8 * MIB
    """A request: some hundred large apps in one."""

    max_requests: int = 1000
    """Requests at the same time; more are answered with 503."""

    answer_timeout_s: float = 30.0
    """How long a request waits for its change to be durable before it is answered with 504."""

    hostname: str = "localhost"
    """The name under which clients reach this process, for `/v2/leader` and `/v2/info`."""

    @property
    def address(self) -> str:
        """Return `host:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Return where it is reached on this host."""
        return f"http://{self.address}"


@dataclass(frozen=True, slots=True)
class Settings:
    """One service framework."""

    data_dir: Path
    """Its state, `state.db`: apps, versions, instances."""

    master: str = "127.0.0.1:5055"
    """Masters, joined by commas; the leader is found among them."""

    name: str = "service"
    """What the master shows for it."""

    roles: tuple[Role, ...] = (Role("service"),)
    """The roles it runs apps in; the first is that of an app that names none."""

    failover_timeout_ms: int = 7 * 86_400_000
    """How long its tasks run on without it: a week, so that no weekend ends a service."""

    versions_kept: int = Policy().versions_kept
    """Versions of each app that can be rolled back to."""

    service_ports: tuple[int, int] = Policy().service_ports
    """The range, ends included, of the service ports given to apps that do not choose their own."""

    limits: Limits = field(default_factory=Limits)
    api: ApiSettings = field(default_factory=ApiSettings)

    @property
    def policy(self) -> Policy:
        """Return what the core decides by."""
        return Policy(self.roles, self.versions_kept, self.service_ports)


def checked(settings: Settings) -> Settings:
    """Return `settings` if they make sense; raise InvalidInput naming the field."""
    if not settings.roles or len(set(settings.roles)) != len(settings.roles):
        raise InvalidInput("role", ", ".join(settings.roles), "at least one role, each once")
    if not 0 <= settings.api.port <= 65_535:
        raise InvalidInput("listen", settings.api.port, "a port from 0 to 65535")
    if settings.versions_kept < 1:
        raise InvalidInput("versions_kept", settings.versions_kept, "at least 1")
    first, last = settings.service_ports
    if not 1 <= first <= last <= 65_535:
        raise InvalidInput("service_ports", f"{first}-{last}", "a range within 1 to 65535")
    for group in (settings.limits, settings.api):
        for each in fields(group):
            value = getattr(group, each.name)
            if isinstance(value, int | float) and value <= 0 and each.name != "port":
                raise InvalidInput(each.name, value, "more than 0")
    return settings
