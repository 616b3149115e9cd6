"""What the agent keeps on disk, as plain data, and the changes to it."""

from __future__ import annotations

from dataclasses import dataclass

from runrig.ids import Role, TaskId
from runrig.tasks import StatusUpdate, TaskSpec
from runrig_agent.core.task import Ending, TaskKey


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task, written before anything of it is started."""

    key: TaskKey
    framework_name: str
    role: Role
    spec: TaskSpec
    group: tuple[TaskId, ...]
    launched_at: float


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An id that must not start: its task ended with `update`, or (None) was killed before it came."""

    key: TaskKey
    update: StatusUpdate | None
    at: float


@dataclass(frozen=True, slots=True)
class SavedTask:
    """A task as the checkpoint holds it; `updates` ascend and end with its latest, acknowledged or not."""

    record: TaskRecord
    ending: Ending | None
    acknowledged: int
    updates: tuple[StatusUpdate, ...]


@dataclass(frozen=True, slots=True)
class SavedState:
    """All that an earlier process of this agent left; tasks and tombstones in the order of their times."""

    session: int = 0
    epoch: int = 0
    tasks: tuple[SavedTask, ...] = ()
    tombstones: tuple[Tombstone, ...] = ()


@dataclass(frozen=True, slots=True)
class PutLink:
    """Keep the number of the newest session and the highest epoch seen."""

    session: int
    epoch: int


@dataclass(frozen=True, slots=True)
class PutTask:
    """Keep a task."""

    record: TaskRecord


@dataclass(frozen=True, slots=True)
class PutEnding:
    """Keep that a task is to end."""

    key: TaskKey
    ending: Ending


@dataclass(frozen=True, slots=True)
class PutUpdate:
    """Keep an update until it is acknowledged and superseded."""

    update: StatusUpdate


@dataclass(frozen=True, slots=True)
class DropUpdate:
    """Forget one update that a later one supersedes."""

    key: TaskKey
    number: int


@dataclass(frozen=True, slots=True)
class PutAcknowledged:
    """Keep that updates up to `through` are acknowledged; forget those with a number below `below`."""

    key: TaskKey
    through: int
    below: int


@dataclass(frozen=True, slots=True)
class PutTombstone:
    """Keep a tombstone, and forget the task of that id with all its updates."""

    tombstone: Tombstone


@dataclass(frozen=True, slots=True)
class DropTombstones:
    """Forget tombstones that are too old or too many."""

    keys: tuple[TaskKey, ...]


Change = PutLink | PutTask | PutEnding | PutUpdate | DropUpdate | PutAcknowledged | PutTombstone | DropTombstones
