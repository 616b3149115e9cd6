"""What an operator may set of an agent: read once by the command line, passed down, never changed.

What it may set of its decisions is in `core.policy`; each part that acts has its own group beside its code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from runrig._streams import StreamSettings
from runrig.reservations import Reservation
from runrig.resources import NOTHING, Resources
from runrig_agent.core.policy import Policy
from runrig_agent.disk import DiskSettings
from runrig_agent.fetch import FetchSettings
from runrig_agent.loop import LoopSettings
from runrig_agent.runtimes.docker_settings import DockerSettings
from runrig_agent.runtimes.process import ProcessSettings
from runrig_agent.sandbox_service import SandboxServiceSettings
from runrig_agent.sandboxes import SandboxSettings
from runrig_agent.task_runs import TaskRunSettings


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """One agent: who it is, where it listens, what it has, and what runs its tasks."""

    work_dir: Path = Path("runrig-agent")
    """Checkpoint, sandboxes and the runtimes' records: the agent's identity. One agent at a time uses it."""

    listen: str = "127.0.0.1:5051"
    """The SandboxService (logs, files, exec), for people and frameworks. Loopback unless told otherwise."""

    http: str = "127.0.0.1:5052"
    """Health and metrics."""

    advertise: str = ""
    """The SandboxService's address that others are told; empty: `listen`."""

    hostname: str = "localhost"
    """What the host is called in offers and in the constraint `hostname`."""

    resources: Resources = NOTHING
    """What is offered: detected, or said by the operator."""

    reservations: tuple[Reservation, ...] = ()
    """What of it is kept for roles, and stays so: nobody else can take it, whoever needs it."""

    attributes: tuple[tuple[str, str], ...] = ()
    """What else is offered with it: racks, zones, kinds of disk."""

    runtime: str = "auto"
    """`docker`, `process` or `auto`, which is both: docker is used whenever an engine answers."""

    removes_ended: bool = False
    """Remove the containers of ended tasks when the agent stops: nobody does if it never comes back."""

    policy: Policy = field(default_factory=Policy)
    stream: StreamSettings = field(default_factory=lambda: StreamSettings(connect_timeout_s=4.0))
    """The stream to the master; a dead one is left after 4 s, for the next in the list may lead."""

    loop: LoopSettings = field(default_factory=LoopSettings)
    runs: TaskRunSettings = field(default_factory=TaskRunSettings)
    fetch: FetchSettings = field(default_factory=FetchSettings)
    disk: DiskSettings = field(default_factory=DiskSettings)
    sandboxes: SandboxSettings = field(default_factory=SandboxSettings)
    sandbox_service: SandboxServiceSettings = field(default_factory=SandboxServiceSettings)
    process: ProcessSettings = field(default_factory=ProcessSettings)
    docker: DockerSettings = field(default_factory=DockerSettings)
