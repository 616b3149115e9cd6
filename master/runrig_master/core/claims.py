"""Claims: what of a pool is kept for demand that waits, be it free already or about to become free.

A gang claims what it is being assembled from (lay-away), preemption what its victims leave. Where two claims meet the
senior one counts, by priority and then by age: a total order, so that two never hold half of what both need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runrig.resources import Resources

if TYPE_CHECKING:
    from runrig_master.core.clients import Wanted
    from runrig_master.core.pools import Pool

Rank = tuple[int, float, str]


class Claim:
    """`count` tasks of one demand, kept for it in one pool until `until`."""

    __slots__ = ("count", "pool", "resources", "start_at", "until", "wanted")

    def __init__(self, wanted: Wanted, pool: Pool, until: float) -> None:
        self.wanted = wanted
        self.pool = pool
        self.count = 0
        self.resources = Resources()
        self.until = until
        self.start_at = until
        """When the claimant may be able to start, as far as promises of running tasks tell."""

    def add(self, task: Resources) -> None:
        """Claim the place of one task more."""
        self.count += 1
        self.resources = self.resources + task.without_ports()

    def give_up(self, count: int) -> None:
        """Claim the places of so many tasks less."""
        for _ in range(count):
            self.resources = self.resources - self.wanted.demand.resources.without_ports()
        self.count -= count

    def is_behind(self, other: Wanted) -> bool:
        """Say whether demand may have what is claimed for good: its own, or as the senior of two that claim."""
        return other.is_with(self.wanted) or (bool(other.claims) and rank(other) < rank(self.wanted))

    def yields_to(self, other: Wanted, now: float) -> bool:
        """Say whether demand may take what is claimed: its own, the senior's, or one that will have ended in time."""
        if self.is_behind(other):
            return True
        promised_s = other.demand.expected_duration_ms / 1000
        return promised_s > 0 and now + promised_s <= self.start_at


def rank(wanted: Wanted) -> Rank:
    """Return a key of which the smallest is the most senior."""
    return (-wanted.demand.priority, wanted.seniority, wanted.client.name + wanted.demand.demand_id)
