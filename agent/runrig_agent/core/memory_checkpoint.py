"""A checkpoint in memory, for tests and the simulator: what changes mean. The SQLite edge does the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from runrig.tasks import StatusUpdate
from runrig_agent.core import records
from runrig_agent.core.task import Ending, TaskKey


class MemoryCheckpoint:
    """Apply changes in order; `saved` is what a new process of the agent would find."""

    def __init__(self) -> None:
        self._link = records.PutLink(0, 0)
        self._tasks: dict[TaskKey, records.TaskRecord] = {}
        self._endings: dict[TaskKey, Ending] = {}
        self._acknowledged: dict[TaskKey, int] = {}
        self._updates: dict[TaskKey, dict[int, StatusUpdate]] = {}
        self._tombstones: dict[TaskKey, records.Tombstone] = {}

    def apply(self, changes: Iterable[records.Change]) -> None:
        """Make changes durable, as it were."""
        for change in changes:
            self._apply(change)

    def saved(self) -> records.SavedState:
        """Return everything, tasks and tombstones in the order of their times."""
        tasks = sorted(self._tasks.values(), key=lambda record: (record.launched_at, record.key))
        return records.SavedState(
            self._link.session,
            self._link.epoch,
            tuple(self._saved_task(record) for record in tasks),
            tuple(sorted(self._tombstones.values(), key=lambda stone: (stone.at, stone.key))),
        )

    def _saved_task(self, record: records.TaskRecord) -> records.SavedTask:
        key = record.key
        updates = tuple(update for _, update in sorted(self._updates.get(key, {}).items()))
        return records.SavedTask(record, self._endings.get(key), self._acknowledged.get(key, 0), updates)

    def _apply(self, change: records.Change) -> None:
        match change:
            case records.PutLink():
                self._link = change
            case records.PutTask(record):
                self._tasks[record.key] = record
                self._endings.pop(record.key, None)
                self._acknowledged.pop(record.key, None)
            case records.PutEnding(key, ending):
                if key in self._tasks:
                    self._endings[key] = ending
            case records.PutUpdate(update):
                self._updates.setdefault((update.framework_id, update.task_id), {})[update.number] = update
            case records.DropUpdate(key, number):
                self._updates.get(key, {}).pop(number, None)
            case records.PutAcknowledged(key, through, below):
                if key in self._tasks:
                    self._acknowledged[key] = through
                kept = self._updates.get(key, {})
                self._updates[key] = {number: kept[number] for number in kept if number >= below}
            case records.PutTombstone(tombstone):
                self._tombstones[tombstone.key] = tombstone
                for table in (self._tasks, self._endings, self._acknowledged, self._updates):
                    table.pop(tombstone.key, None)
            case records.DropTombstones(keys):
                for key in keys:
                    self._tombstones.pop(key, None)
            case _:
                assert_never(change)
