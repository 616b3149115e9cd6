"""The bounds and periods of the batch framework's mind."""

from __future__ import annotations

from dataclasses import dataclass

from runrig.ids import Role


@dataclass(frozen=True, slots=True)
class Limits:
    """What one job may ask for, how much is kept, and how long the framework is patient."""

    roles: tuple[Role, ...] = ()
    """The roles that jobs may run in, the first being the default; empty: any, and the framework's own."""

    default_cpu_millis: int = 1000
    """CPU of a task that names none: one core, as most batch work is one busy process."""

    default_mem_mib: int = 256
    """Memory of a task that names none, in MiB."""

    max_tasks: int = 100_000
    """Tasks of one array. An index that has ended costs about 300 bytes of memory and 150 of disk."""

    max_gang: int = 1000
    """Tasks of one gang: they wait for offers all at once, beside what the windows below allow."""

    max_item_bytes: int = 4096
    """One item of an array, which goes into the task's environment."""

    max_items_bytes: int = 4 * 1024 * 1024
    """All items of one job: they are one durable entry, written once."""

    max_command_bytes: int = 64 * 1024
    """The command, its arguments together; more belongs into a fetched file."""

    max_env: int = 256
    """Variables of the environment that a job may set."""

    max_env_bytes: int = 128 * 1024
    """Names and values of the environment together: half of what a task may have."""

    max_retries: int = 100
    """Retries that a job may ask for, per index."""

    max_priority: int = 1000
    """The highest priority; 0 is the lowest and the default."""

    max_active_jobs: int = 10_000
    """Jobs that have not ended; the next submission is turned away until one has."""

    max_waits: int = 10_000
    """Questions that wait for something to happen (long polls, followed logs)."""

    job_window: int = 256
    """Tasks of one job that wait for an offer at the same time. The rest of an array costs nothing meanwhile;
    256 is several times what one pass of the allocator places for one framework."""

    total_window: int = 8192
    """Tasks of all jobs that wait for an offer, dealt out evenly. Every job may have one, so that
    none blocks another."""

    max_faults: int = 20
    """Attempts of one index that the cluster may spoil before the index fails: retries are not charged for
    them, but a task that takes its agent down with it must not wander through the whole cluster."""

    fault_delay_s: float = 1.0
    """Pause after the first attempt that the cluster spoilt; doubles with each."""

    max_delay_s: float = 3600.0
    """The longest pause before a retry, however often it doubled."""

    unreachable_grace_s: float = 60.0
    """How long a task may be unreachable before another attempt is started in its place. The agent was
    silent for 75 s by then; a minute more lets most restarts of a host pass without work done twice."""

    kept_attempts: int = 10
    """Attempts of one index that are remembered: the latest."""

    retained_jobs: int = 1000
    """Ended jobs that are kept; the oldest are forgotten, with their output."""

    retained_tasks: int = 500_000
    """Tasks of ended jobs that are kept: 500,000 are about 150 MB of memory."""

    delete_page: int = 1000
    """Entries of forgotten jobs that are deleted in one answer, so that none takes long to commit."""

    scan_page: int = 10_000
    """Indices that one question looks at; the asker goes on from there. Bounds a turn to about 20 ms."""


BOUNDLESS = Limits(
    max_tasks=2**31,
    max_gang=2**31,
    max_item_bytes=2**31,
    max_items_bytes=2**31,
    max_command_bytes=2**31,
    max_env=2**31,
    max_env_bytes=2**31,
    max_retries=2**31,
    max_priority=2**31,
)
"""What durable entries are read back with: a limit lowered later spares jobs that were accepted."""
