"""What the SDK keeps of a launched task: one small JSON entry, a promise to later versions."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from runrig.ids import AgentId, FrameworkId, TaskId
from runrig.matching import Match, place_attributes
from runrig.tasks import Port, Reason, RuntimeKind, Source, StatusUpdate, TaskState
from runrig.wants import TaskView

VERSION = 1


@dataclass(slots=True)
class TaskRecord:
    """A task from the intent to launch it to its end."""

    task_id: TaskId
    group: str
    agent_id: AgentId
    hostname: str
    agent_address: str
    place: tuple[tuple[str, str], ...]
    ports: tuple[Port, ...]
    launched_at: float
    number: int = 0
    status: StatusUpdate | None = None
    is_stopping: bool = False
    grace_ms: int | None = None

    @classmethod
    def launched(cls, match: Match, now: float) -> TaskRecord:
        """Return the record of the intent to launch."""
        offer = match.offer
        return cls(
            match.spec.task_id,
            match.want.group,
            offer.agent_id,
            offer.hostname,
            offer.agent_address,
            place_attributes(offer),
            match.spec.ports,
            now,
        )

    def learn(self, update: StatusUpdate) -> None:
        """Take an update as the latest."""
        self.number = max(self.number, update.number)
        self.status = update if update.agent_id else replace(update, agent_id=self.agent_id)

    def view(self) -> TaskView:
        """Return what a logic is told."""
        return TaskView(
            self.task_id,
            self.group,
            self.status.state if self.status is not None else TaskState.TASK_STAGING,
            self.status,
            self.agent_id,
            self.hostname,
            self.agent_address,
            self.place,
            self.ports,
            self.launched_at,
            self.is_stopping,
        )

    def dump(self) -> bytes:
        """Return the entry's value."""
        fields = {
            "v": VERSION,
            "id": self.task_id,
            "group": self.group,
            "agent": self.agent_id,
            "host": self.hostname,
            "address": self.agent_address,
            "place": self.place,
            "ports": [(port.host_port, port.container_port, port.name, port.protocol) for port in self.ports],
            "launched_at": self.launched_at,
            "number": self.number,
            "status": _dump_status(self.status),
            "stopping": self.is_stopping,
            "grace_ms": self.grace_ms,
        }
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, value: bytes) -> TaskRecord:
        """Read an entry's value."""
        fields = json.loads(value)
        return cls(
            TaskId(fields["id"]),
            fields["group"],
            AgentId(fields["agent"]),
            fields["host"],
            fields["address"],
            tuple((name, text) for name, text in fields["place"]),
            tuple(Port(*port) for port in fields["ports"]),
            fields["launched_at"],
            fields["number"],
            _parse_status(fields),
            fields["stopping"],
            fields["grace_ms"],
        )


def _dump_status(status: StatusUpdate | None) -> dict[str, Any] | None:
    if status is None:
        return None
    return {
        "framework": status.framework_id,
        "number": status.number,
        "state": int(status.state),
        "reason": int(status.reason),
        "source": int(status.source),
        "message": status.message,
        "at_ms": status.at_unix_ms,
        "healthy": status.healthy,
        "exit_code": status.exit_code,
        "runtime": int(status.runtime),
        "container": status.container_id,
        "pid": status.pid,
        "address": status.address,
    }


def _parse_status(fields: dict[str, Any]) -> StatusUpdate | None:
    status = fields["status"]
    if status is None:
        return None
    return StatusUpdate(
        FrameworkId(status["framework"]),
        TaskId(fields["id"]),
        AgentId(fields["agent"]),
        status["number"],
        TaskState(status["state"]),
        Reason(status["reason"]),
        Source(status["source"]),
        status["message"],
        status["at_ms"],
        status["healthy"],
        status["exit_code"],
        RuntimeKind(status["runtime"]),
        status["container"],
        status["pid"],
        status["address"],
    )
