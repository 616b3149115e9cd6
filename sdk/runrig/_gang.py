"""A gang of `Wants`: tasks that start all or not at all, run to success, and are tried again as a whole.

Each try is a run with task ids and a gang id of its own. It begins once the tasks of the run before have ended, or
have had long enough to: what is out of reach is not waited for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from runrig._patience import backoff_s, is_clusters_fault, was_healthy
from runrig.ids import TaskId
from runrig.tasks import Reason, TaskState
from runrig.wants import Decision, Put, Run, Stop, TaskView, WakeAt, Want

LEAVING_S = 60.0
"""A new run waits at most this long for the tasks of the last; the SDK goes on killing them."""


class Gang:
    """One gang, by name."""

    def __init__(self, name: str, count: int, want: Want, retries: int) -> None:
        self.name = name
        self.is_over = False
        self.has_failed = False
        self._count = count
        self._want = want
        self._retries = retries
        self._run = 0
        self._failures = 0
        self._mishaps = 0
        self._not_before = 0.0
        self._has_started = False
        self._finished: set[int] = set()
        self._leaving: set[TaskId] = set()
        """Tasks of earlier runs that may still live."""
        self._patience_until = 0.0

    def restore(self, entries: Mapping[str, bytes], tasks: Mapping[TaskId, TaskView], now: float) -> list[Decision]:
        """Take up what was durable; ask again for the tasks of the current run that have not finished."""
        stored = entries.get(f"gang/{self.name}")
        if stored is not None:
            self._take_up(*json.loads(stored))
        self._finished = {index for index in range(self._count) if entries.get(self._key(index)) == b"%d" % self._run}
        current = {self._task_id(index) for index in range(self._count)}
        if current.isdisjoint(tasks) and not self._finished:
            mine = [view for task_id, view in tasks.items() if task_id.rsplit(".", 2)[0] == self.name]
            self._leaving = {view.task_id for view in mine if not _is_gone(view)}
            self._patience_until = now + LEAVING_S
        return self.start(now)

    def _take_up(
        self, run: int, failures: int, mishaps: int, not_before: float, is_over: bool, has_failed: bool
    ) -> None:
        self._run, self._failures, self._mishaps, self._not_before = run, failures, mishaps, not_before
        self.is_over, self.has_failed = is_over, has_failed

    def start(self, now: float) -> list[Decision]:
        """Ask for a run, if one is due and none has begun."""
        if self.is_over or self._has_started:
            return []
        due = max(self._not_before, self._patience_until if self._leaving else 0.0)
        if due > now:
            return [WakeAt(due)]
        self._has_started = True
        self._leaving.clear()
        return [Run(tuple(self._member(index) for index in range(self._count) if index not in self._finished))]

    def changed(self, view: TaskView, now: float) -> list[Decision]:
        """Learn the state of a task of this gang, of whatever run."""
        if not _is_gone(view):
            return []
        index = self._index_of(view.task_id)
        if index is None:
            self._leaving.discard(view.task_id)
            return self.start(now)
        if self.is_over or index in self._finished:
            return []
        if view.state is not TaskState.TASK_FINISHED:
            self._judge(view, now)
            return self._break_up(now, view)
        self._finished.add(index)
        self.is_over = len(self._finished) == self._count
        return [Put(self._key(index), b"%d" % self._run), *([self._put()] if self.is_over else [])]

    def give_back(self, task_ids: tuple[TaskId, ...], now: float) -> list[Decision]:
        """Stop all of it because the master asks for what some of it use; the next run waits for nothing else."""
        asked = {index for task_id in task_ids if (index := self._index_of(task_id)) is not None}
        if self.is_over or not asked - self._finished:
            return []
        return self._break_up(now)

    def _judge(self, view: TaskView, now: float) -> None:
        assert view.status is not None
        if is_clusters_fault(view):
            self._mishaps = 1 if was_healthy(view, now) else self._mishaps + 1
            if self._mishaps > 1:
                self._not_before = now + backoff_s(self._mishaps - 1)
            return
        self._mishaps = 0
        self._failures += 1
        self._not_before = now + backoff_s(self._failures)
        if view.status.reason is Reason.INVALID_TASK or self._failures > self._retries:
            self.is_over = self.has_failed = True

    def _break_up(self, now: float, gone: TaskView | None = None) -> list[Decision]:
        """Stop what has not ended of the run, and begin the next once that has; what is `gone` is not waited for."""
        members = [self._task_id(index) for index in range(self._count) if index not in self._finished]
        alive = [task_id for task_id in members if gone is None or task_id != gone.task_id]
        self._leaving.update(alive)
        self._patience_until = now + LEAVING_S
        self._run += 1
        self._has_started = False
        self._finished.clear()
        stops = [Stop(task_id) for task_id in alive]
        if gone is not None and gone.state is TaskState.TASK_UNREACHABLE:
            stops.append(Stop(gone.task_id))
        return [self._put(), *stops, *self.start(now)]

    def _member(self, index: int) -> Want:
        command = self._want.spec.command
        own = ("RUNRIG_GANG_INDEX", str(index)), ("RUNRIG_GANG_SIZE", str(self._count))
        spec = replace(
            self._want.spec,
            task_id=self._task_id(index),
            name=self.name,
            command=replace(command, env=(*command.env, *own)),
        )
        return replace(self._want, spec=spec, group=self._want.group or self.name, gang=f"{self.name}.{self._run}")

    def _task_id(self, index: int) -> TaskId:
        return TaskId(f"{self.name}.{self._run}.{index}")

    def _index_of(self, task_id: TaskId) -> int | None:
        """Return which task of the current run it is, or None."""
        run, _, index = task_id.rpartition(".")
        return int(index) if run == f"{self.name}.{self._run}" else None

    def _key(self, index: int) -> str:
        return f"gang/{self.name}/{index}"

    def _put(self) -> Put:
        words = [self._run, self._failures, self._mishaps, self._not_before, self.is_over, self.has_failed]
        return Put(f"gang/{self.name}", json.dumps(words).encode())


def _is_gone(view: TaskView) -> bool:
    return view.state is not None and (view.state.is_terminal or view.state is TaskState.TASK_UNREACHABLE)
