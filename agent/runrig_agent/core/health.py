"""What the results of a task's health checks mean: when it counts as healthy, as ill, and when it must end.

Each check of a task has a HealthRecord; TaskHealth joins them: a task is ill when one of its checks says so, and healthy
when all do. Times are seconds of any clock that does not go back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from runrig.tasks import HealthCheck


@dataclass(frozen=True, slots=True)
class Verdict:
    """What there is to report: the health of a check or task has changed, or it must be killed."""

    healthy: bool
    consecutive_failures: int
    must_kill: bool = False


@dataclass(slots=True)
class HealthRecord:
    """What is known from one check of one task that runs since `started_at`; `healthy` None: nothing yet."""

    check: HealthCheck
    started_at: float
    healthy: bool | None = None
    consecutive_failures: int = 0
    _must_die: bool = field(default=False, init=False)

    def learned(self, ok: bool, now: float) -> Verdict | None:
        """Count one result; return a verdict when health changes or the task must be killed, which is said once."""
        before = self.healthy
        if ok:
            self.healthy, self.consecutive_failures = True, 0
        elif self._is_excused(now):
            return None
        else:
            self.healthy = False
            self.consecutive_failures += 1
        must_kill = self._reached_limit()
        if self.healthy is before and not must_kill:
            return None
        return Verdict(self.healthy, self.consecutive_failures, must_kill)

    def next_at(self, now: float) -> float:
        """Say when to try next: after the delay from the start, then an interval after the last result."""
        first = self.started_at + self.check.delay_ms / 1000
        return max(first, now) if self._is_untried else now + self.check.interval_ms / 1000

    _is_untried: bool = field(default=True, init=False)
