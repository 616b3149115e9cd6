"""What runs tasks: the one interface of the docker and the process runtime.

A runtime starts what it is told, notices every end, and finds its tasks again after a restart of the agent: containers
by label, processes by the warden's records. It holds no policy: when to kill, what to report and what to keep is the
core's to decide. Every method is idempotent on the task's key, for the core may ask again after a crash.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NewType, Protocol

from runrig.errors import RunrigError
from runrig.ids import FrameworkId, TaskId
from runrig.tasks import Reason, RuntimeKind, TaskSpec

TaskKey = tuple[FrameworkId, TaskId]
Signal = NewType("Signal", int)


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """A task made ready: its sandbox and its volumes exist, what it fetches is there, `env` is complete."""

    key: TaskKey
    spec: TaskSpec
    sandbox: Path
    env: tuple[tuple[str, str], ...]
    volumes: Mapping[str, Path] = field(default_factory=dict)
    """Where its persistent volumes are, by their ids. They are Runrig's own: nothing else need allow them."""


@dataclass(frozen=True, slots=True)
class Started:
    """It runs. `pid` is that of its first process as the host sees it; `address` that of its own network, if any."""

    started_at_unix_ms: int
    pid: int = 0
    container_id: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """It ended. `exit_code` is 128 + n after signal n; None when nobody can know any more (STATUS_UNAVAILABLE)."""

    exit_code: int | None
    ended_at_unix_ms: int
    is_out_of_memory: bool = False
    message: str = ""
    has_host_rebooted: bool = False
    """The host was restarted meanwhile (HOST_REBOOTED rather than STATUS_UNAVAILABLE); then `exit_code` is None."""


@dataclass(frozen=True, slots=True)
class Found:
    """What `recover` found of a task: what started it, and how it ended if it did."""

    key: TaskKey
    started: Started
    ended: Ended | None = None


class LaunchFailed(RunrigError):
    """The task could not start: `reason` for machines, the message says what to do.

    `is_task_fault` tells TASK_ERROR-like faults of the description (TASK_FAILED either way) from faults of the host.
    """

    def __init__(self, reason: Reason, message: str, is_task_fault: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.is_task_fault = is_task_fault


class ExecSession(Protocol):
    """A command inside a task."""

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield (1 for stdout or 2 for stderr, data) until it ends."""

    async def write(self, data: bytes) -> None:
        """Write to its standard input."""

    async def end_input(self) -> None:
        """Close its standard input."""

    async def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal a new size."""

    async def exit_code(self) -> int:
        """Wait for its end."""

    async def close(self) -> None:
        """End it if it still runs, and free what it holds."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a task uses now; None: not known."""

    cpu_seconds: float | None = None
    memory_bytes: int | None = None


class RuntimeListener(Protocol):
    """Told by a runtime, on the agent's event loop."""

    def task_ended(self, key: TaskKey, ended: Ended) -> None:
        """Learn that a task which ran has ended: told once per end, never before `launch` returned."""

    def availability_changed(self, kind: RuntimeKind, problem: str | None) -> None:
        """Learn whether the runtime can be used (`problem` None), or why not and what to do."""


class Runtime(Protocol):
    """Runs tasks of one kind."""

    @property
    def kind(self) -> RuntimeKind: ...

    async def start(self, listener: RuntimeListener) -> None:
        """Begin to watch; a dead engine is no error here but told to `listener`."""

    async def recover(self, keys: frozenset[TaskKey]) -> list[Found]:
        """Find those of `keys` that this runtime started, running or ended.

        Anything else of this agent is stopped and removed. Raises LaunchFailed(RUNTIME_UNAVAILABLE) while it cannot
        know: the core asks again when it is available.
        """

    async def prepare(self, order: LaunchOrder, progress: Callable[[str], None]) -> None:
        """Bring what the task needs, its image for one, telling `progress` short texts; raises LaunchFailed."""

    async def launch(self, order: LaunchOrder) -> Started:
        """Start the task, or adopt it when it was started before; raises LaunchFailed."""

    async def signal(self, key: TaskKey, signal: Signal) -> None:
        """Send a signal to all of the task (SIGKILL leaves nothing of it); a task that is not there is no error."""

    async def forget(self, key: TaskKey) -> None:
        """Remove what is kept of an ended task beside its sandbox; a task that is not there is no error."""

    async def exec(self, key: TaskKey, argv: tuple[str, ...], env: Mapping[str, str], tty: bool) -> ExecSession:
        """Run a command inside the task: in its container, or as its user in its sandbox.

        Raises NotFound, LaunchFailed.
        """

    async def usage(self, key: TaskKey) -> Usage:
        """Say what the task uses now."""

    async def close(self) -> None:
        """Stop watching. Tasks run on."""
