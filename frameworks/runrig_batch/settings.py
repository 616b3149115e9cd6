"""The batch framework's settings, read once in `cli` and passed down."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from runrig.errors import InvalidInput
from runrig.ids import Role
from runrig_batch.core.limits import Limits

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """How the output of ended tasks is collected from the agents."""

    max_stream_bytes: int = 4 * MIB
    """What is kept of one stream of one task: its first and its last half of this. Errors stand at an end."""

    concurrency: int = 8
    """Tasks whose output is fetched at the same time; each may hold two streams in memory."""

    first_retry_s: float = 1.0
    """Pause after the first vain attempt to reach an agent; doubles up to `last_retry_s`."""

    last_retry_s: float = 60.0
    """The longest pause between two attempts to reach an agent."""

    give_up_s: float = 900.0
    """How long an agent is tried: 15 minutes, longer than a reboot of its host."""

    max_retrying: int = 10_000
    """Tasks whose output waits for another attempt; above it the next is given up at once."""

    pull_wait_s: float = 30.0
    """How long one question for more output waits."""

    sweep_s: float = 60.0
    """How often the output of forgotten jobs is deleted."""


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """The REST API."""

    host: str = "127.0.0.1"
    """Where to listen: this machine only, as the API runs commands for whoever reaches it."""

    port: int = 8090
    """The port; 0 takes a free one."""

    max_body_bytes: int = 8 * MIB
    """A request: twice what all items of a job may have."""

    max_requests: int = 1000
    """Connections at the same time, those that wait or follow among them; more are answered with 503."""

    max_wait_s: float = 300.0
    """The longest that one request may wait for a job to end; clients ask again."""

    max_page: int = 1000
    """Jobs or indices in one answer."""

    default_page: int = 100
    """Jobs or indices in one answer when the client does not say."""

    follow_wait_s: float = 30.0
    """How long one question of a follower waits for news of a task."""

    follow_hint_s: float = 3.0
    """After this a follower whose task has not started is told that it waits."""

    follow_retry_s: float = 1.0
    """Pause before an agent that broke off is asked for the rest of a task's output."""

    @property
    def address(self) -> str:
        """Return `host:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """One batch framework."""

    data_dir: Path
    """Its state (`state.db`) and the output of tasks (`outputs/`)."""

    master: str = "127.0.0.1:5055"
    """Masters, joined by commas; the leader is found among them."""

    name: str = "batch"
    """What the master shows for it."""

    roles: tuple[Role, ...] = (Role("batch"),)
    """The roles it runs jobs in; the first is the default of a job that names none."""

    failover_timeout_ms: int = 7 * 86_400_000
    """How long its tasks run on without it: a week, so that no weekend ends a computation."""

    limits: Limits = field(default_factory=Limits)
    outputs: OutputSettings = field(default_factory=OutputSettings)
    api: ApiSettings = field(default_factory=ApiSettings)


def checked(settings: Settings) -> Settings:
    """Return `settings` if they make sense; raise InvalidInput naming the field."""
    if not settings.roles:
        raise InvalidInput("role", "", "at least one role")
    if len(set(settings.roles)) != len(settings.roles):
        raise InvalidInput("role", ", ".join(settings.roles), "each role once")
    if not 0 <= settings.api.port <= 65535:
        raise InvalidInput("listen", settings.api.port, "a port from 0 to 65535")
    for group in (settings.limits, settings.outputs, settings.api):
        for name in group.__slots__:
            value = getattr(group, name)
            if isinstance(value, int | float) and value <= 0 and name not in ("port", "max_faults"):
                raise InvalidInput(name, value, "more than 0")
    if settings.limits.retained_tasks < settings.limits.max_tasks:
        least = f"at least max_tasks, {settings.limits.max_tasks}"
        raise InvalidInput("retained_tasks", settings.limits.retained_tasks, least)
    return settings
