"""Between a scheduler and its logic: what a logic is told of a task only goes forward."""

from __future__ import annotations

from collections.abc import Mapping

from runrig.ids import TaskId
from runrig.wants import Decision, Logic, TaskChanged, TaskView


class ToldInOrder:
    """A logic that objects to being told what was overtaken."""

    def __init__(self, logic: Logic) -> None:
        self._logic = logic
        self._numbers: dict[TaskId, int] = {}

    def restore(self, entries: Mapping[str, bytes], tasks: Mapping[TaskId, TaskView], now: float) -> list[Decision]:
        """Take up what was durable."""
        for view in tasks.values():
            self._see(view)
        return list(self._logic.restore(entries, tasks, now))

    def handle(self, event: object, now: float) -> list[Decision]:
        """Learn one event."""
        if isinstance(event, TaskChanged):
            self._see(event.task)
        return list(self._logic.handle(event, now))

    def _see(self, view: TaskView) -> None:
        number = view.status.number if view.status is not None else 0
        known = self._numbers.get(view.task_id, 0)
        assert not 0 < number < known, f"update {number} of {view.task_id} is told after {known}"
        self._numbers[view.task_id] = max(number, known)
