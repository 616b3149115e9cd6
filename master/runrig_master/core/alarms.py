"""Times at which something is due, one for each thing: told in order, set anew or called off at will."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=str)
LEAST_STALE = 64
"""So few entries that no longer count are not worth clearing away."""


class Alarms(Generic[Name]):
    """When what is due; equal times go by name, so that a seed replays.

    What was set before for the same name, or was called off, stays in the heap until it comes up or is most of it.
    """

    def __init__(self) -> None:
        self._at: dict[Name, float] = {}
        self._heap: list[tuple[float, Name]] = []

    def set(self, name: Name, at: float) -> None:
        """Have `name` come up at `at` (seconds), and at no other time."""
        self._at[name] = at
        heapq.heappush(self._heap, (at, name))
        if len(self._heap) > 2 * len(self._at) + LEAST_STALE:
            self._heap = sorted((due, each) for each, due in self._at.items())

    def call_off(self, name: Name) -> None:
        """Have `name` come up at no time."""
        self._at.pop(name, None)

    def next(self) -> float | None:
        """Return when the next is due."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[Name]:
        """Take out and return the names whose time has come, the earliest first."""
        due: list[Name] = []
        while (at := self.next()) is not None and at <= now:
            _, name = heapq.heappop(self._heap)
            del self._at[name]
            due.append(name)
        return due

    def _drop_stale(self) -> None:
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
