"""What an operator may choose about the agent's decisions: read once at the start, never changed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """Times in seconds; every bound is here."""

    masters: tuple[str, ...] = ()
    """Where to look for the leader, `host:port` each, tried in turn."""

    allowed_volumes: tuple[str, ...] = ()
    """Absolute directories of the host that tasks may mount, with all below them; none by default: secure."""

    kill_grace_s: float = 3.0
    """From SIGTERM to SIGKILL for a task that says nothing else."""

    kill_retry_s: float = 5.0
    """How often SIGKILL is repeated until the task is gone: an engine that hangs may lose one."""

    update_retry_s: float = 10.0
    """When an unacknowledged update is sent again; doubles each time, up to `update_retry_max_s`."""

    update_retry_max_s: float = 600.0
    """The longest wait between two sendings of an update: a framework may be away for a week."""

    volume_retry_s: float = 60.0
    """When the deletion of a persistent volume is tried again: somebody must have come to its help."""

    unacknowledged_updates: int = 64
    """Of one task; above it the oldest news of progress or health, superseded by later ones, is dropped."""

    progress_interval_s: float = 5.0
    """At most one update per task in this time says how far its fetching and pulling has come."""

    tombstones: int = 10_000
    """How many ended and acknowledged tasks are remembered, so that none is started twice (rule 12)."""

    tombstone_s: float = 86_400.0
    """How long they are remembered."""

    reconnect_s: float = 1.0
    """The longest first wait before the agent connects again; doubles each time, up to `reconnect_max_s`.

    Each wait is drawn at random up to it: the agents of a master that died must not come back all at once."""

    reconnect_max_s: float = 15.0
    """The longest wait before the agent connects again."""

    connect_timeout_s: float = 15.0
    """A master that has not confirmed the registration in this time is given up."""

    recovery_wait_s: float = 10.0
    """How long registration waits for the runtimes to say what became of the tasks: an engine may be dead."""
