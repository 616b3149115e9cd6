"""Demand that waits, and what is kept or asked back for it."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, TypeAlias

from runrig.ids import Role
from runrig_master.core.claims import Claim
from runrig_master.core.clients import Wanted

if TYPE_CHECKING:
    from runrig_master.core.state import Framework


VictimGang: TypeAlias = "tuple[Framework, Role, str]"


class Backlog:
    """What has no offer yet. Plain books: `Cluster` keeps them, `allocation` reads them."""

    __slots__ = (
        "claims",
        "claims_ended",
        "infeasible",
        "long",
        "looked_after_at",
        "preempted_at",
        "priorities",
        "victim_gangs",
        "waiting",
    )

    def __init__(self) -> None:
        self.waiting: dict[Wanted, None] = {}
        """Demand that could be placed somewhere, and has not been."""
        self.long: dict[Wanted, None] = {}
        """Of that, gangs and tasks that need most of an agent: what does not come together by itself."""
        self.infeasible: dict[Wanted, None] = {}
        """Demand that no pool could hold even if it were empty."""
        self.claims: dict[Claim, None] = {}
        """All that is kept for demand, in the order in which it was claimed."""
        self.claims_ended = 0
        """How many claims have ended: a gang that they crowded out may try again."""
        self.priorities: Counter[int] = Counter()
        """How many tasks that have not ended have which priority."""
        self.preempted_at: deque[float] = deque()
        """When tasks were preempted within the last minute."""
        self.victim_gangs: Counter[VictimGang] = Counter()
        """Gangs that are asked to end for a higher priority, with the number of tasks that were asked for."""
        self.looked_after_at = 0.0
        """When demand that waits was last looked after."""

    def lowest_priority(self) -> int | None:
        """Return the lowest priority of a task that has not ended."""
        return min(self.priorities, default=None)

    def forget(self, wanted: Wanted) -> None:
        """Forget demand that is not stated any more; its claims were ended before."""
        assert not wanted.claims
        for book in (self.waiting, self.long, self.infeasible):
            book.pop(wanted, None)
