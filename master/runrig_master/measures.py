"""How long things take in a master: allocation, what is wanted until it is offered, offers until they are answered."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from runrig.ids import OfferId
from runrig.offers import Accept, Decline, OffersMade
from runrig_master.core.cluster import Cluster
from runrig_master.core.commands import Command, SendToScheduler
from runrig_master.core.events import Event, SchedulerCalled

COMPUTING_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
WAITING_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0)


class Distribution:
    """How many values fell under each of some bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.sum = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def add(self, value: float, count: int = 1) -> None:
        """Count a value, `count` times."""
        self._counts[bisect_left(self.bounds, value)] += count
        self.sum += value * count

    def cumulative(self) -> list[tuple[str, float]]:
        """Return each bound, the last being without end, with how many values are not above it."""
        found: list[tuple[str, float]] = []
        total = 0
        for name, count in zip((*map(str, self.bounds), "+Inf"), self._counts, strict=True):
            total += count
            found.append((name, total))
        return found


class Measures:
    """What a loop measures; it only looks."""

    def __init__(self) -> None:
        self.allocation_s = Distribution(COMPUTING_S)
        """Turns' ends in which free resources were looked at."""
        self.offer_wait_s = Distribution(WAITING_S)
        """From when a task was wanted to its offer; of demand alone, as raw frameworks do not say when they want."""
        self.offer_answer_s = Distribution(WAITING_S)
        """From an offer to its Accept or Decline."""

    def heard(self, cluster: Cluster, event: Event, now: float) -> None:
        """Look at an event before the core does: what answers offers that stand."""
        if not isinstance(event, SchedulerCalled):
            return
        match event.call:
            case Accept(groups):
                offer_ids: Iterable[OfferId] = (offer_id for group in groups for offer_id in group.offer_ids)
            case Decline(offer_ids):
                pass
            case _:
                return
        for offer_id in dict.fromkeys(offer_ids):
            offer = cluster.offers.get(offer_id)
            if offer is not None and offer.framework.stream == event.stream:
                self.offer_answer_s.add(now - offer.made_at)

    def did(self, cluster: Cluster, commands: Iterable[Command]) -> None:
        """Look at what a turn's end commands: offers that somebody has waited for."""
        for command in commands:
            if isinstance(command, SendToScheduler) and isinstance(command.news, OffersMade):
                for told in command.news.offers:
                    offer = cluster.offers[told.offer_id]
                    for wanted, count in offer.parts:
                        self.offer_wait_s.add(max(0.0, offer.made_at - wanted.since), count)
