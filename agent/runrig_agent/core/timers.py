"""Deadlines by name: setting one again moves it, and a name has at most one."""

from __future__ import annotations

import heapq
from enum import IntEnum

from runrig.ids import FrameworkId, TaskId
from runrig_agent.core.task import TaskKey


class TimerKind(IntEnum):
    """What is due."""

    RECONNECT = 1
    SILENCE = 2
    RECOVERY_WAIT = 3
    TOMBSTONES = 4
    RETRY_UPDATES = 5
    PROGRESS = 6
    MAX_RUN = 7
    KILL = 8
    VOLUMES = 9


TimerName = tuple[TimerKind, TaskKey]
OF_AGENT: TaskKey = (FrameworkId(""), TaskId(""))
"""Stands in the name of a timer that is not one of a task."""

_SPARE = 1000  # cancelled entries that may wait in the heap before it is rebuilt


class Timers:
    """A heap whose cancelled entries are skipped when they come up."""

    def __init__(self) -> None:
        self._deadlines: dict[TimerName, float] = {}
        self._heap: list[tuple[float, int, TimerName]] = []
        self._count = 0

    def set(self, kind: TimerKind, at: float, key: TaskKey = OF_AGENT) -> None:
        """Let `kind` of `key` be due at `at`, and not when it was due before."""
        name = (kind, key)
        self._deadlines[name] = at
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, name))
        if len(self._heap) > 2 * len(self._deadlines) + _SPARE:
            self._rebuild()

    def cancel(self, kind: TimerKind, key: TaskKey = OF_AGENT) -> None:
        """Let it not be due; no error when it is not set."""
        self._deadlines.pop((kind, key), None)

    def is_set(self, kind: TimerKind, key: TaskKey = OF_AGENT) -> bool:
        """Say whether it will be due."""
        return (kind, key) in self._deadlines

    def due(self, now: float) -> list[TimerName]:
        """Take out and return what is due, earliest first."""
        names = []
        while self._heap and self._heap[0][0] <= now:
            at, _, name = heapq.heappop(self._heap)
            if self._deadlines.get(name) == at:
                del self._deadlines[name]
                names.append(name)
        return names

    def next_deadline(self) -> float | None:
        """Return the earliest deadline, or None."""
        while self._heap:
            at, _, name = self._heap[0]
            if self._deadlines.get(name) == at:
                return at
            heapq.heappop(self._heap)
        return None

    def _rebuild(self) -> None:
        self._heap = [entry for entry in self._heap if self._deadlines.get(entry[2]) == entry[0]]
        heapq.heapify(self._heap)
