"""What the master tells of its cluster, as plain data; `as_json` says it to programs.

Ids are named `id`; amounts keep their units in their names; times are ISO 8601 in UTC; the unknown is null.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from runrig._plain import Json, iso, resources_json
from runrig.resources import NOTHING, Resources, count_ports, milli_text
from runrig.tasks import NO_TERMS, Terms

Pairs = tuple[tuple[str, str], ...]
Amounts = tuple[tuple[str, int], ...]
"""Of a quota, by the name of the dimension; those that are not there do not count."""


LIVE = ("TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_UNREACHABLE")
"""The states of tasks that have not ended."""


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The cluster and its leader."""

    id: str
    leader: str
    version: str
    epoch: int
    started_unix_ms: int
    agents: int
    agents_recovering: int
    frameworks: int
    tasks: int

    def as_json(self) -> Json:
        """Return all of it."""
        return {
            "id": self.id,
            "leader": self.leader,
            "version": self.version,
            "epoch": self.epoch,
            "started_at": iso(self.started_unix_ms),
            "agents": self.agents,
            "agents_recovering": self.agents_recovering,
            "frameworks": self.frameworks,
            "tasks": self.tasks,
        }


@dataclass(frozen=True, slots=True)
class VolumeView:
    """A persistent volume, and the task that uses it."""

    id: str
    reservation_id: str
    agent_id: str
    hostname: str
    disk_mib: int
    task_id: str = ""
    is_doomed: bool = False

    def as_json(self) -> Json:
        """Return all of it."""
        return {
            "id": self.id,
            "reservation_id": self.reservation_id,
            "agent_id": self.agent_id,
            "hostname": self.hostname,
            "disk_mib": self.disk_mib,
            "task_id": self.task_id or None,
            "is_doomed": self.is_doomed,
        }


@dataclass(frozen=True, slots=True)
class ReservationView:
    """What an agent keeps for a role, and how much of that is taken."""

    id: str
    agent_id: str
    hostname: str
    role: str
    total: Resources
    used: Resources = NOTHING
    offered: Resources = NOTHING
    free: Resources = NOTHING
    labels: Pairs = ()
    principal: str = ""
    is_static: bool = False
    volumes: tuple[VolumeView, ...] = ()

    def as_json(self) -> Json:
        """Return all of it."""
        return {
            "id": self.id,
            "agent_id": self.agent_id,
            "hostname": self.hostname,
            "role": self.role,
            "resources": {
                "total": resources_json(self.total),
                "used": resources_json(self.used),
                "offered": resources_json(self.offered),
                "free": resources_json(self.free),
            },
            "labels": dict(self.labels),
            "principal": self.principal,
            "is_static": self.is_static,
            "volumes": [volume.as_json() for volume in self.volumes],
        }


@dataclass(frozen=True, slots=True)
class AwayView:
    """When an agent will be away; `duration_ms` 0: without an end."""

    start_unix_ms: int
    duration_ms: int = 0

    def as_json(self) -> Json:
        """Return all of it."""
        return {"start": iso(self.start_unix_ms), "duration_ms": self.duration_ms or None}

    def __str__(self) -> str:
        """Return when, for people."""
        if not self.duration_ms:
            return f"from {iso(self.start_unix_ms)}"
        return f"{iso(self.start_unix_ms)} to {iso(self.start_unix_ms + self.duration_ms)}"


@dataclass(frozen=True, slots=True)
class AgentView:
    """An agent and what it has."""

    id: str
    hostname: str
    state: str
    address: str = ""
    http_address: str = ""
    attributes: Pairs = ()
    total: Resources = NOTHING
    used: Resources = NOTHING
    offered: Resources = NOTHING
    free: Resources = NOTHING
    runtimes: tuple[str, ...] = ()
    version: str = ""
    tasks: int = 0
    since_unix_ms: int = 0
    reservations: tuple[ReservationView, ...] = ()
    drain_deadline_unix_ms: int = 0
    away: AwayView | None = None

    @property
    def volumes(self) -> tuple[VolumeView, ...]:
        """Its persistent volumes."""
        return tuple(volume for reservation in self.reservations for volume in reservation.volumes)

    def as_json(self) -> Json:
        """Return all of it."""
        return {
            "id": self.id,
            "hostname": self.hostname,
            "state": self.state,
            "address": self.address,
            "http_address": self.http_address,
            "attributes": dict(self.attributes),
            "resources": {
                "total": resources_json(self.total),
                "used": resources_json(self.used),
                "offered": resources_json(self.offered),
                "free": resources_json(self.free),
            },
            "runtimes": list(self.runtimes),
            "version": self.version,
            "tasks": self.tasks,
            "since": iso(self.since_unix_ms),
            "reservations": [reservation.as_json() for reservation in self.reservations],
            "drain_deadline": iso(self.drain_deadline_unix_ms),
            "unavailability": self.away.as_json() if self.away is not None else None,
        }


@dataclass(frozen=True, slots=True)
class FrameworkView:
    """A framework and what it holds."""

    id: str
    name: str
    roles: tuple[str, ...]
    state: str
    connected: bool
    tasks_by_state: tuple[tuple[str, int], ...] = ()
    suppressed_roles: tuple[str, ...] = ()
    offers: int = 0
    failover_deadline_unix_ms: int = 0
    failover_timeout_ms: int = 0
    web_url: str = ""
    principal: str = ""
    used: Resources = NOTHING
    offered: Resources = NOTHING
    uses_demand: bool = False
    tasks_wanted: int = 0

    @property
    def tasks(self) -> int:
        """How many of its tasks have not ended."""
        return self.count(*LIVE)

    def count(self, *states: str) -> int:
        """How many tasks are in one of `states`."""
        return sum(count for state, count in self.tasks_by_state if state in states)

    def as_json(self) -> Json:
        """Return all of it."""
        return {
            "id": self.id,
            "name": self.name,
            "roles": list(self.roles),
            "state": self.state,
            "connected": self.connected,
            "tasks": self.tasks,
            "tasks_by_state": dict(self.tasks_by_state),
            "suppressed_roles": list(self.suppressed_roles),
            "offers": self.offers,
            "failover_deadline": iso(self.failover_deadline_unix_ms),
            "failover_timeout_ms": self.failover_timeout_ms,
            "web_url": self.web_url,
            "principal": self.principal,
            "resources": {"used": resources_json(self.used), "offered": resources_json(self.offered)},
            "uses_demand": self.uses_demand,
            "tasks_wanted": self.tasks_wanted,
        }


@dataclass(frozen=True, slots=True)
class RoleView:
    """A role and its share."""

    role: str
    weight_millis: int
    frameworks: int
    used: Resources
    offered: Resources
    dominant_share_millionths: int
    limit: Amounts | None = None
    guarantee: Amounts | None = None
    is_optimistic: bool = False
    subtree_used: Resources = NOTHING
    subtree_offered: Resources = NOTHING
    reserved: Resources = NOTHING
    tasks_wanted: int = 0

    def as_json(self) -> Json:
        """Return all of it."""
        return {
            "id": self.role,
            "weight_millis": self.weight_millis,
            "frameworks": self.frameworks,
            "dominant_share_millionths": self.dominant_share_millionths,
            "resources": {
                "used": resources_json(self.used),
                "offered": resources_json(self.offered),
                "reserved": resources_json(self.reserved),
            },
            "subtree": {
                "used": resources_json(self.subtree_used),
                "offered": resources_json(self.subtree_offered),
            },
            "limit": quota_json(self.limit),
            "guarantee": quota_json(self.guarantee),
            "offers": "optimistic" if self.is_optimistic else "exclusive",
            "tasks_wanted": self.tasks_wanted,
        }


@dataclass(frozen=True, slots=True)
class OfferView:
    """An offer that waits for its answer."""

    id: str
    framework_id: str
    agent_id: str
    hostname: str
    role: str
    resources: Resources
    made_unix_ms: int
    expires_unix_ms: int
    reservation_id: str = ""
    gang_id: str = ""
    is_optimistic: bool = False

    def as_json(self) -> Json:
        """Return all of it."""
        return {
            "id": self.id,
            "framework_id": self.framework_id,
            "agent_id": self.agent_id,
            "hostname": self.hostname,
            "role": self.role,
            "resources": resources_json(self.resources),
            "made_at": iso(self.made_unix_ms),
            "expires_at": iso(self.expires_unix_ms),
            "reservation_id": self.reservation_id or None,
            "gang_id": self.gang_id or None,
            "is_optimistic": self.is_optimistic,
        }


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task and where it stands."""

    id: str
    name: str
    framework: str
    framework_id: str
    agent_id: str
    hostname: str
    role: str
    state: str
    reason: str | None = None
    source: str | None = None
    message: str = ""
    runtime: str | None = None
    container_id: str = ""
    pid: int = 0
    resources: Resources = NOTHING
    launched_unix_ms: int = 0
    started_unix_ms: int = 0
    finished_unix_ms: int = 0
    healthy: bool | None = None
    exit_code: int | None = None
    labels: Pairs = ()
    agent_address: str = ""
    terms: Terms = NO_TERMS

    def as_json(self) -> Json:
        """Return all of it."""
        return {
            "id": self.id,
            "name": self.name,
            "framework": self.framework,
            "framework_id": self.framework_id,
            "agent_id": self.agent_id,
            "hostname": self.hostname,
            "role": self.role,
            "state": self.state,
            "reason": self.reason,
            "source": self.source,
            "message": self.message,
            "runtime": self.runtime,
            "container_id": self.container_id or None,
            "pid": self.pid or None,
            "resources": resources_json(self.resources),
            "launched_at": iso(self.launched_unix_ms),
            "started_at": iso(self.started_unix_ms),
            "finished_at": iso(self.finished_unix_ms),
            "healthy": self.healthy,
            "exit_code": self.exit_code,
            "labels": dict(self.labels),
            "agent_address": self.agent_address,
            "reservation_id": self.terms.reservation_id or None,
            "group": self.terms.group or None,
            "priority": self.terms.priority,
            "gang_id": self.terms.gang_id or None,
            "expected_duration_ms": self.terms.expected_duration_ms or None,
        }


def quota_json(amounts: Amounts | None) -> Json | None:
    """Return what a quota says of each dimension, null where it says nothing; None: there is no quota."""
    if amounts is None:
        return None
    said = dict(amounts)
    return {name: said.get(name) for name in ("cpu_millis", "mem_mib", "disk_mib", "gpus")}


def quota_text(amounts: Amounts | None) -> str:
    """Return a quota as it is given to `runrig quota set`: cpus:10;mem:64G."""
    return ";".join(f"{_SAYS[name][0]}:{_SAYS[name][1](amount)}" for name, amount in amounts or ())


def cpus_text(resources: Resources) -> str:
    """Return cpus for people: 1.5."""
    return milli_text(resources.cpu_millis) or "0"


def mem_text(mib: int) -> str:
    """Return a size for people: 512M, 1.5G, 2T."""
    for size, unit in ((1024 * 1024, "T"), (1024, "G")):
        if mib >= size:
            return f"{mib / size:.1f}".removesuffix(".0") + unit
    return f"{mib}M"


def exact_mem_text(mib: int) -> str:
    """Return a size that can be read again without loss: 1536M, 64G."""
    for size, unit in ((1024 * 1024, "T"), (1024, "G")):
        if mib and mib % size == 0:
            return f"{mib // size}{unit}"
    return f"{mib}M"


def ports_summary(resources: Resources) -> str:
    """Return how many ports there are."""
    return str(count_ports(resources.ports))


def age(unix_ms: int, now: datetime) -> str:
    """Return how long ago it was, in the largest two units or one: 45s, 3m20s, 5h, 12d."""
    if not unix_ms:
        return ""
    seconds = max(int(now.timestamp() - unix_ms / 1000), 0)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60}s" if seconds < 600 else f"{seconds // 60}m"
    if seconds < 86_400:
        return f"{seconds // 3600}h{seconds % 3600 // 60}m"
    return f"{seconds // 86_400}d"


_SAYS: dict[str, tuple[str, Callable[[int], str]]] = {
    "cpu_millis": ("cpus", milli_text),
    "mem_mib": ("mem", exact_mem_text),
    "disk_mib": ("disk", exact_mem_text),
    "gpus": ("gpus", str),
}
