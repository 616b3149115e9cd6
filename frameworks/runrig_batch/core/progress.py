"""How far one index of a job has come while it is not over."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from runrig.tasks import TaskState
from runrig.wants import TaskView
from runrig_batch.core.job import Attempt, IndexState


class Phase(Enum):
    """What an open index waits for."""

    RESTING = "its pause before the next attempt"
    READY = "room in its job's window"
    WANTED = "an offer"
    LAUNCHED = "its task's end"
    DONE = "the rest of its gang"


@dataclass(slots=True)
class Progress:
    """One index that has been tried, or is wanted, and has not ended.

    `number` is the attempt that is due or under way, `past` holds those that are over.
    """

    index: int
    number: int = 1
    phase: Phase = Phase.READY
    failures: int = 0
    faults: int = 0
    not_before: float = 0.0
    task: TaskView | None = None
    unreachable_since: float | None = None
    past: tuple[Attempt, ...] = field(default=())

    @property
    def state(self) -> IndexState:
        """Return what people are told."""
        if self.phase is Phase.LAUNCHED:
            return IndexState.RUNNING
        if self.phase is Phase.DONE:
            return IndexState.SUCCEEDED
        return IndexState.RETRYING if self.phase is Phase.RESTING else IndexState.WAITING

    @property
    def task_state(self) -> TaskState | None:
        """Return the state of the attempt under way, None if it has not been launched."""
        return self.task.state if self.task is not None else None

    def remember(self, attempt: Attempt, most: int) -> None:
        """Add an attempt that is over, or replace what was known of it; the latest `most` are kept."""
        others = tuple(each for each in self.past if each.number != attempt.number)
        self.past = tuple(sorted((*others, attempt), key=_number))[-most:]

    def rest(self, until: float) -> None:
        """Give the attempt up; the next is due at `until`."""
        self.number += 1
        self.not_before = until
        self.task = None
        self.unreachable_since = None


def _number(attempt: Attempt) -> int:
    return attempt.number
