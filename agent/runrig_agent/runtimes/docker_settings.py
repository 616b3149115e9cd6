"""The docker runtime's settings."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from runrig_agent.sandbox_logs import LogLimits

SAFE_PARAMETERS = frozenset(
    {"shm-size", "ulimit", "tmpfs", "dns", "dns-search", "dns-option", "add-host", "hostname", "cap-drop"}
)
"""Options, named as those of `docker run`, that give a container nothing of its host."""


def _launches_at_once() -> int:
    return max(4, 2 * (os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class ContainerSettings:
    """What every container gets, and what a task may ask for."""

    allowed_parameters: frozenset[str] = SAFE_PARAMETERS | {"cap-add"}
    """Names of `container.parameters` that are admitted."""
    allowed_capabilities: frozenset[str] = frozenset()
    """What `cap-add` may name, such as NET_BIND_SERVICE; none by default."""
    dropped_capabilities: tuple[str, ...] = ("MKNOD", "NET_RAW")
    """Taken from Docker's own default set: raw packets serve to impersonate neighbours, devices are not needed."""
    volume_roots: tuple[Path, ...] = ()
    """Directories of the host below which volumes may lie; none by default."""
    default_pids: int = 4096
    """Processes and threads of a task that does not say otherwise."""
    default_user: str = ""
    """Whom tasks run as that name no user; empty: the image's own."""
    use_init: bool = True
    """Let a tiny init be the first process: it reaps orphans and passes signals on, which most programs do not."""
    engine_log_max_bytes: int = 50 * 1024 * 1024
    """Size of each of the engine's own log files of a container.

    An engine that rotates under a follower who lags skips what is left of the file, or sends one twice (20.10: of
    200,000 lines in 4 s, with files of 10 MiB, 66,000 came twice or not at all). So it should happen seldom."""
    engine_log_max_files: int = 2
    """Their number. They are the reserve from which logs go on after an outage of the agent."""


@dataclass(frozen=True, slots=True)
class DockerSettings:
    """How the engine is used."""

    address: str = ""
    """Such as unix:///var/run/docker.sock; empty: DOCKER_HOST, else that."""
    container: ContainerSettings = field(default_factory=ContainerSettings)
    """What containers get."""
    log: LogLimits = field(default_factory=LogLimits)
    """How much of stdout and stderr is kept in each sandbox."""
    launches_at_once: int = field(default_factory=_launches_at_once)
    """Containers created and started at the same time: more than twice the cores gains nothing (measured)."""
    removals_at_stop_s: float = 0.0
    """How long the agent, when it stops, goes on removing containers that are due; the next one finds the rest."""
    calls_at_once: int = 16
    """Threads for calls of the engine. One that hangs keeps one of them until its timeout."""
    call_timeout_s: float = 120.0
    """For calls that change something: creating a container may take long on a busy disk."""
    inspect_timeout_s: float = 15.0
    """For calls that only ask. A hung container must not make its agent wait."""
    connect_timeout_s: float = 10.0
    """For the engine to say who it is."""
    relist_interval_s: float = 10.0
    """How often all containers are listed, because events get lost."""
    reconnect_min_s: float = 0.2
    """First pause before a dead engine is tried again; doubles."""
    reconnect_max_s: float = 5.0
    """Longest pause."""
    pulls_at_once: int = 3
    """Images pulled at the same time."""
    pull_quiet_s: float = 120.0
    """A pull that makes no progress for so long is given up."""
    log_drain_s: float = 20.0
    """How long the news of an end may wait for the last of the container's output."""
    oom_patience_s: float = 1.0
    """How long the end of a container by a SIGKILL that nobody sent waits for the engine to say `out of memory`."""
    removals_at_once: int = 2
    """Ended containers removed at the same time, behind launches."""
