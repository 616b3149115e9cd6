"""The columns of the operator's tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from runrig._plain import iso
from runrig.cli.output import Column
from runrig.cli.views import (
    AgentView,
    FrameworkView,
    OfferView,
    ReservationView,
    RoleView,
    TaskView,
    VolumeView,
    age,
    cpus_text,
    mem_text,
    ports_summary,
    quota_text,
)
from runrig.resources import Resources, milli_text, ports_text

AGENTS: tuple[Column[AgentView], ...] = (
    Column("ID", lambda agent: agent.id, "id"),
    Column("HOSTNAME", lambda agent: agent.hostname),
    Column("STATE", lambda agent: agent.state, "state"),
    Column("TASKS", lambda agent: agent.tasks, "number"),
    Column("CPUS", lambda agent: _of(cpus_text, agent.free, agent.total), "number"),
    Column("MEM", lambda agent: _of(lambda one: mem_text(one.mem_mib), agent.free, agent.total), "number"),
    Column("RUNTIMES", lambda agent: ",".join(agent.runtimes)),
    Column(
        "DISK",
        lambda agent: _of(lambda one: mem_text(one.disk_mib), agent.free, agent.total),
        "number",
        wide=True,
    ),
    Column("GPUS", lambda agent: _of(lambda one: str(one.gpus), agent.free, agent.total), "number", wide=True),
    Column("PORTS", lambda agent: _of(ports_summary, agent.free, agent.total), "number", wide=True),
    Column("ATTRIBUTES", lambda agent: _pairs(agent.attributes), wide=True),
    Column("ADDRESS", lambda agent: agent.address, wide=True),
    Column("HTTP", lambda agent: agent.http_address, wide=True),
    Column("VERSION", lambda agent: agent.version, wide=True),
    Column("SINCE", lambda agent: iso(agent.since_unix_ms), wide=True),
    Column("RESERVED", lambda agent: ",".join(each.id for each in agent.reservations), wide=True),
    Column("VOLUMES", lambda agent: ",".join(each.id for each in agent.volumes), wide=True),
    Column("DRAINED BY", lambda agent: iso(agent.drain_deadline_unix_ms), wide=True),
    Column("AWAY", lambda agent: agent.away, wide=True),
)

FRAMEWORKS: tuple[Column[FrameworkView], ...] = (
    Column("ID", lambda framework: framework.id, "id"),
    Column("NAME", lambda framework: framework.name),
    Column("ROLES", lambda framework: ",".join(framework.roles)),
    Column("STATE", lambda framework: framework.state, "state"),
    Column("CONNECTED", lambda framework: framework.connected),
    Column("TASKS", lambda framework: framework.tasks, "number"),
    Column("WANTED", lambda framework: framework.tasks_wanted if framework.uses_demand else None, "number"),
    Column("OFFERS", lambda framework: framework.offers, "number"),
    Column("CPUS", lambda framework: cpus_text(framework.used), "number", wide=True),
    Column("MEM", lambda framework: mem_text(framework.used.mem_mib), "number", wide=True),
    Column("SUPPRESSED", lambda framework: ",".join(framework.suppressed_roles), wide=True),
    Column("DEADLINE", lambda framework: iso(framework.failover_deadline_unix_ms), wide=True),
    Column("URL", lambda framework: framework.web_url, wide=True),
    Column("TASKS BY STATE", lambda framework: _pairs(framework.tasks_by_state), wide=True),
)

ROLES: tuple[Column[RoleView], ...] = (
    Column("ROLE", lambda role: role.role, "id"),
    Column("WEIGHT", lambda role: milli_text(role.weight_millis), "number"),
    Column("SHARE", lambda role: f"{role.dominant_share_millionths / 10_000:.1f}%", "number"),
    Column("FRAMEWORKS", lambda role: role.frameworks, "number"),
    Column("CPUS", lambda role: cpus_text(role.used), "number"),
    Column("MEM", lambda role: mem_text(role.used.mem_mib), "number"),
    Column("WANTED", lambda role: role.tasks_wanted, "number"),
    Column("LIMIT", lambda role: quota_text(role.limit)),
    Column("GUARANTEE", lambda role: quota_text(role.guarantee)),
    Column("OFFERED CPUS", lambda role: cpus_text(role.offered), "number", wide=True),
    Column("OFFERED MEM", lambda role: mem_text(role.offered.mem_mib), "number", wide=True),
    Column("OFFERS", lambda role: "optimistic" if role.is_optimistic else "exclusive", wide=True),
    Column("WITH ALL BELOW", lambda role: str(role.subtree_used), wide=True),
    Column("RESERVED", lambda role: str(role.reserved) if not role.reserved.is_empty else "", wide=True),
)

QUOTAS: tuple[Column[RoleView], ...] = (
    Column("ROLE", lambda role: role.role, "id"),
    Column("LIMIT", lambda role: quota_text(role.limit)),
    Column("GUARANTEE", lambda role: quota_text(role.guarantee)),
    Column("USED CPUS", lambda role: cpus_text(role.subtree_used), "number"),
    Column("USED MEM", lambda role: mem_text(role.subtree_used.mem_mib), "number"),
    Column("OFFERED CPUS", lambda role: cpus_text(role.subtree_offered), "number", wide=True),
    Column("OFFERED MEM", lambda role: mem_text(role.subtree_offered.mem_mib), "number", wide=True),
    Column("WANTED", lambda role: role.tasks_wanted, "number"),
)

RESERVATIONS: tuple[Column[ReservationView], ...] = (
    Column("ID", lambda reservation: reservation.id, "id"),
    Column("HOSTNAME", lambda reservation: reservation.hostname),
    Column("ROLE", lambda reservation: reservation.role),
    Column("CPUS", lambda each: _of(cpus_text, each.free, each.total), "number"),
    Column("MEM", lambda each: _of(lambda one: mem_text(one.mem_mib), each.free, each.total), "number"),
    Column("DISK", lambda each: _of(lambda one: mem_text(one.disk_mib), each.free, each.total), "number"),
    Column("VOLUMES", lambda each: len(each.volumes), "number"),
    Column("AGENT", lambda reservation: reservation.agent_id, "id", wide=True),
    Column("RESOURCES", lambda reservation: str(reservation.total), wide=True),
    Column("LABELS", lambda reservation: _pairs(reservation.labels), wide=True),
    Column("STATIC", lambda reservation: reservation.is_static, wide=True),
    Column("PRINCIPAL", lambda reservation: reservation.principal, wide=True),
)

VOLUMES: tuple[Column[VolumeView], ...] = (
    Column("ID", lambda volume: volume.id, "id"),
    Column("HOSTNAME", lambda volume: volume.hostname),
    Column("RESERVATION", lambda volume: volume.reservation_id),
    Column("SIZE", lambda volume: mem_text(volume.disk_mib), "number"),
    Column("STATE", lambda volume: "GOING" if volume.is_doomed else "IN USE" if volume.task_id else "FREE", "state"),
    Column("TASK", lambda volume: volume.task_id, "id"),
    Column("AGENT", lambda volume: volume.agent_id, "id", wide=True),
)

OFFERS: tuple[Column[OfferView], ...] = (
    Column("ID", lambda offer: offer.id, "id"),
    Column("FRAMEWORK", lambda offer: offer.framework_id, "id"),
    Column("ROLE", lambda offer: offer.role),
    Column("HOSTNAME", lambda offer: offer.hostname),
    Column("CPUS", lambda offer: cpus_text(offer.resources), "number"),
    Column("MEM", lambda offer: mem_text(offer.resources.mem_mib), "number"),
    Column("PORTS", lambda offer: ports_summary(offer.resources), "number"),
    Column("AGENT", lambda offer: offer.agent_id, "id", wide=True),
    Column("EXPIRES", lambda offer: iso(offer.expires_unix_ms), wide=True),
    Column("RESERVATION", lambda offer: offer.reservation_id, wide=True),
    Column("GANG", lambda offer: offer.gang_id, wide=True),
    Column("OPTIMISTIC", lambda offer: offer.is_optimistic, wide=True),
    Column("RESOURCES", lambda offer: str(offer.resources), wide=True),
)


def task_columns(now: datetime) -> tuple[Column[Any], ...]:
    """Return the columns of a list of tasks as seen at `now`."""
    return (
        Column("ID", lambda task: task.id, "id"),
        Column("FRAMEWORK", lambda task: task.framework),
        Column("STATE", lambda task: task.state, "state"),
        Column("HOSTNAME", lambda task: task.hostname),
        Column("AGE", lambda task: age(task.started_unix_ms or task.launched_unix_ms, now), "number"),
        Column("PROCESS", _process),
        Column(
            "MESSAGE",
            lambda task: task.message if task.state not in ("TASK_RUNNING", "TASK_FINISHED") else "",
        ),
        *(Column(each.title, each.text, each.kind, wide=True) for each in TASKS if each.title in _WIDE),
    )


TASKS: tuple[Column[Any], ...] = (
    Column("ID", lambda task: task.id, "id"),
    Column("NAME", lambda task: task.name),
    Column("FRAMEWORK", lambda task: task.framework),
    Column("FRAMEWORK ID", lambda task: task.framework_id),
    Column("ROLE", lambda task: task.role),
    Column("STATE", lambda task: task.state, "state"),
    Column("REASON", lambda task: task.reason),
    Column("MESSAGE", lambda task: task.message),
    Column("HEALTHY", lambda task: task.healthy),
    Column("EXIT CODE", lambda task: task.exit_code),
    Column("HOSTNAME", lambda task: task.hostname),
    Column("AGENT", lambda task: task.agent_id),
    Column("RUNTIME", lambda task: task.runtime),
    Column("CONTAINER", lambda task: task.container_id),
    Column("PID", lambda task: task.pid or None),
    Column("CPUS", lambda task: cpus_text(task.resources), "number"),
    Column("MEM", lambda task: mem_text(task.resources.mem_mib), "number"),
    Column("PORTS", lambda task: ports_text(task.resources.ports) if task.resources.ports else ""),
    Column("LAUNCHED", lambda task: iso(task.launched_unix_ms)),
    Column("STARTED", lambda task: iso(task.started_unix_ms)),
    Column("FINISHED", lambda task: iso(task.finished_unix_ms)),
    Column("LABELS", lambda task: _pairs(task.labels)),
    Column("RESERVATION", lambda task: task.terms.reservation_id),
    Column("GROUP", lambda task: task.terms.group),
    Column("PRIORITY", lambda task: task.terms.priority, "number"),
    Column("GANG", lambda task: task.terms.gang_id),
)
_WIDE = (
    "NAME",
    "ROLE",
    "REASON",
    "HEALTHY",
    "EXIT CODE",
    "RUNTIME",
    "CPUS",
    "MEM",
    "PORTS",
    "STARTED",
    "FINISHED",
)


def _process(task: TaskView) -> str:
    """Return what to look for on the host: the container's id as `docker ps` shows it, or the pid."""
    return task.container_id[:12] or (str(task.pid) if task.pid else "")


def _of(text: Any, free: Resources, total: Resources) -> str:
    """Return `free/total`."""
    return f"{text(free)}/{text(total)}"


def _pairs(pairs: tuple[tuple[str, object], ...]) -> str:
    return ",".join(f"{name}:{value}" for name, value in pairs)


def now() -> datetime:
    """Return the time that ages are counted from."""
    return datetime.now(UTC)
