"""What is due when: the mind's only sense of time is the alarm that it sets."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field

from runrig.wants import WakeAt
from runrig_batch.core.job import JobId


@dataclass(frozen=True, slots=True)
class RetryDue:
    """An index has paused long enough for its attempt `number`."""

    job_id: JobId
    index: int
    number: int


@dataclass(frozen=True, slots=True)
class PatienceOver:
    """Attempt `number` of an index may have been unreachable for too long."""

    job_id: JobId
    index: int
    number: int


@dataclass(frozen=True, slots=True)
class GangWaitOver:
    """What is left of a gang's earlier attempts is not waited for any more by attempt `number`."""

    job_id: JobId
    number: int


@dataclass(frozen=True, slots=True, eq=False)
class WaitOver:
    """Whoever asked `question` wants an answer now."""

    question: object


Timer = RetryDue | PatienceOver | GangWaitOver | WaitOver


@dataclass(slots=True)
class Timers:
    """A heap of timers. None is taken out early: who set one looks, when it is due, whether it matters."""

    _heap: list[tuple[float, int, Timer]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _alarm: float | None = None

    def set(self, at: float, timer: Timer) -> None:
        """Have `timer` come due at `at`."""
        heapq.heappush(self._heap, (at, next(self._numbers), timer))

    def due(self, now: float) -> list[Timer]:
        """Take out what is due, in order; the alarm has rung."""
        self._alarm = None
        found = []
        while self._heap and self._heap[0][0] <= now:
            found.append(heapq.heappop(self._heap)[2])
        return found

    def alarm(self) -> list[WakeAt]:
        """Ask to be woken for the first timer, unless that was asked before."""
        if not self._heap or (self._alarm is not None and self._alarm <= self._heap[0][0]):
            return []
        self._alarm = self._heap[0][0]
        return [WakeAt(self._alarm)]

    def wake_at(self, at: float) -> None:
        """Have the alarm ring at `at` with nothing particular due."""
        self.set(at, WaitOver(None))
