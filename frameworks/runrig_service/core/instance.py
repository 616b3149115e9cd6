"""One instance of an app: what must be remembered of it, and how it is judged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum

from runrig.ids import TaskId
from runrig.tasks import TaskState
from runrig.wants import TaskView
from runrig_service.core.app import Pairs
from runrig_service.core.times import milliseconds


class Standing(Enum):
    """How an instance counts when it is decided what to start and to stop."""

    WAITING = "waiting"
    UNREACHABLE = "unreachable"
    READY = "ready"
    NOT_READY = "not ready"
    STOPPING = "stopping"


_UNREACHABLE = (TaskState.TASK_UNREACHABLE, TaskState.TASK_UNKNOWN)


@dataclass(slots=True, eq=False)
class Instance:
    """An instance; `view` is what the SDK knows of its task, None before it is launched."""

    task_id: TaskId
    app_id: str
    version_ms: int
    made_ms: int
    has_checks: bool = False
    gathered: Pairs = ()
    """Values of attributes that it was bound to when it was made (`CLUSTER` without a value)."""
    is_stopping: bool = False
    started_ms: int | None = None
    unreachable_ms: int | None = None
    view: TaskView | None = None
    first_success_ms: int | None = None
    last_failure_ms: int | None = None

    @property
    def number(self) -> int:
        """Return the number that its id ends with: the later it was made, the larger."""
        return int(self.task_id.rpartition("-")[2])

    @property
    def state(self) -> TaskState | None:
        """Return the task's state, None before it is launched."""
        return self.view.state if self.view is not None else None

    @property
    def is_waiting(self) -> bool:
        """Say whether no offer has fitted yet, as far as is known."""
        return self.state is None

    @property
    def is_unreachable(self) -> bool:
        """Say whether its agent is silent."""
        return self.state in _UNREACHABLE

    @property
    def health(self) -> bool | None:
        """Return what the checks say; None: nothing yet, or there are none."""
        if self.view is None or self.view.status is None or not self.has_checks:
            return None
        return self.view.status.healthy

    @property
    def is_ready(self) -> bool:
        """Say whether it serves: running, and healthy where there are checks."""
        return self.state is TaskState.TASK_RUNNING and (not self.has_checks or self.health is True)

    @property
    def standing(self) -> Standing:
        """Return how it counts."""
        if self.is_stopping:
            return Standing.STOPPING
        if self.is_waiting:
            return Standing.WAITING
        if self.is_unreachable:
            return Standing.UNREACHABLE
        return Standing.READY if self.is_ready else Standing.NOT_READY

    @property
    def active_since_ms(self) -> int:
        """Return since when it is there."""
        return self.started_ms or self.made_ms

    def learn(self, view: TaskView, now_ms: int) -> bool:
        """Take up news of the task; say whether what must be remembered has changed."""
        before = (self.started_ms, self.unreachable_ms)
        self.view = view
        if view.state is TaskState.TASK_RUNNING and self.started_ms is None:
            self.started_ms = now_ms
        if not self.is_unreachable:
            self.unreachable_ms = None
        elif self.unreachable_ms is None:
            self.unreachable_ms = now_ms
        if self.health is True and self.first_success_ms is None:
            self.first_success_ms = now_ms
        if self.health is False:
            self.last_failure_ms = now_ms
        return before != (self.started_ms, self.unreachable_ms)

    @property
    def staged_ms(self) -> int:
        """Return when it was launched."""
        launched = milliseconds(self.view.launched_at) if self.view is not None else 0
        return launched or self.made_ms

    def to_bytes(self) -> bytes:
        """Return what must be remembered."""
        record = {
            "app": self.app_id,
            "version": self.version_ms,
            "made": self.made_ms,
            "checks": self.has_checks,
            "gathered": [list(pair) for pair in self.gathered],
            "stopping": self.is_stopping,
            "started": self.started_ms,
            "unreachable": self.unreachable_ms,
        }
        return json.dumps({key: value for key, value in record.items() if value}).encode()

    @classmethod
    def from_bytes(cls, task_id: TaskId, value: bytes) -> Instance:
        """Read what `to_bytes` wrote."""
        record = json.loads(value)
        return cls(
            task_id=task_id,
            app_id=record["app"],
            version_ms=record["version"],
            made_ms=record["made"],
            has_checks=record.get("checks", False),
            gathered=tuple((name, each) for name, each in record.get("gathered", [])),
            is_stopping=record.get("stopping", False),
            started_ms=record.get("started"),
            unreachable_ms=record.get("unreachable"),
        )
