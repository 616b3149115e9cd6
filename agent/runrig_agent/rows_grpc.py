"""Tasks and updates as the checkpoint keeps them: the bytes of their messages, which newer versions can read."""

from __future__ import annotations

from runrig._wire import task_from_wire, task_to_wire, update_from_wire, update_to_wire
from runrig.tasks import StatusUpdate, TaskSpec
from runrig.v1 import tasks_pb2


def spec_to_row(spec: TaskSpec) -> bytes:
    """Return the bytes of a task."""
    return task_to_wire(spec).SerializeToString()


def spec_from_row(row: bytes) -> TaskSpec:
    """Read the bytes of a task."""
    return task_from_wire(tasks_pb2.TaskSpec.FromString(row))


def update_to_row(update: StatusUpdate) -> bytes:
    """Return the bytes of an update."""
    return update_to_wire(update).SerializeToString()


def update_from_row(row: bytes) -> StatusUpdate:
    """Read the bytes of an update."""
    return update_from_wire(tasks_pb2.StatusUpdate.FromString(row))
