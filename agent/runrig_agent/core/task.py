"""A task as the agent knows it: plain state, changed only by the parts of the core that decide about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from runrig.ids import FrameworkId, Role, TaskId
from runrig.tasks import Reason, RuntimeKind, StatusUpdate, TaskSpec, TaskState

TaskKey = tuple[FrameworkId, TaskId]

SIGTERM = 15
SIGKILL = 9


class Phase(IntEnum):
    """How far a task has come on this agent; what is told to the framework is its TaskState."""

    UNCERTAIN = 0
    """Restored from the checkpoint; its runtime has not said yet what became of it."""
    HELD = 1
    """Admitted; begins when its runtime has finished looking for earlier tasks."""
    PREPARING = 2
    """Files are fetched, its image is pulled."""
    READY = 3
    """May start; waits for the rest of its group, or for its runtime."""
    LAUNCHING = 4
    """Its runtime was told to start it."""
    RUNNING = 5
    ENDED = 6


@dataclass(frozen=True, slots=True)
class Ending:
    """Somebody wants the task to end: what its end will be called, and until when it may end by itself.

    `deadline` (unix seconds) is set when SIGTERM is sent, and may only come nearer. `is_forgotten` says that
    its framework was shut down: nobody will acknowledge the end.
    """

    state: TaskState
    reason: Reason
    message: str
    grace_s: float
    asked_at: float
    deadline: float | None = None
    is_forgotten: bool = False


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """A task runs. `pid` as the host sees it; `address` is that of its own network, if any."""

    key: TaskKey
    started_at_unix_ms: int
    pid: int = 0
    container_id: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """A task ended. `exit_code` is 128 + n after signal n; None when nobody can know any more."""

    key: TaskKey
    exit_code: int | None
    ended_at_unix_ms: int
    is_out_of_memory: bool = False
    message: str = ""
    has_host_rebooted: bool = False


@dataclass(slots=True)
class CheckResult:
    """How one health check of a task stands."""

    failures: int = 0
    is_healthy: bool | None = None


@dataclass(slots=True)
class Task:
    """One task that is not both ended and acknowledged."""

    key: TaskKey
    spec: TaskSpec
    framework_name: str
    role: Role
    group: tuple[TaskId, ...]
    """The ids of its task group, itself among them; empty: it stands alone."""
    launched_at: float
    phase: Phase = Phase.HELD
    ending: Ending | None = None
    started: TaskStarted | None = None
    early_end: TaskEnded | None = None
    """Its end, when that was told before its start."""
    latest: StatusUpdate | None = None
    acknowledged: int = 0
    unacknowledged: list[StatusUpdate] = field(default_factory=list)
    retry_s: float = 0.0
    checks: list[CheckResult] = field(default_factory=list)
    progress: tuple[Reason, str] | None = None
    """The progress not told yet, as the last was told a moment ago."""

    @property
    def kind(self) -> RuntimeKind:
        """Say which runtime runs it."""
        return self.spec.runtime_kind

    @property
    def is_live(self) -> bool:
        """Say whether it holds resources: it has not ended."""
        return self.phase is not Phase.ENDED

    @property
    def last_number(self) -> int:
        """Return the number of its latest update, 0 before the first."""
        return self.latest.number if self.latest is not None else 0

    @property
    def state(self) -> TaskState:
        """Return what was last said of it."""
        return self.latest.state if self.latest is not None else TaskState.TASK_STAGING
