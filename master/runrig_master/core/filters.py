"""Refusals: what a client has declined of a pool is not offered to it again for a while (rule 5).

Two truths about the same thing: `hide` judges one offer exactly; the bit of a pool in `Client.hidden` says that all
that is free there now would be hidden, so that a pass need not look. `refresh` brings the bits up to date when more has
become free: until then a pool that has grown may be hidden by mistake, so a pass refreshes what is dirty.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runrig.resources import Resources
from runrig_master.core.pools import Bits, Pool

if TYPE_CHECKING:
    from runrig_master.core.clients import Client

LEAST_EXPIRIES = 1024


@dataclass(frozen=True, slots=True)
class Refusal:
    """An offer contained in `resources` is hidden until `until`."""

    resources: Resources
    until: float
    reason: str


class Refused:
    """Those who have refused one amount of one pool."""

    __slots__ = ("by", "hides", "resources")

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.by: dict[Client, Refusal] = {}
        self.hides = False
        """All that was free of the pool at the last refresh lies within it."""


class Filters:
    """All refusals that have not run out."""

    def __init__(self, most_per_client: int) -> None:
        self._most_per_client = most_per_client
        self._expiries: list[tuple[float, int, Pool]] = []
        self._most_expiries = LEAST_EXPIRIES
        self._number = 0

    def refuse(self, pool: Pool, client: Client, refusal: Refusal) -> None:
        """Remember a refusal; it replaces those of this client and pool that it covers."""
        theirs = client.refusals.get(pool, ())
        known = pool.refused.get(refusal.resources)
        if known is not None and client in known.by and known.by[client].until > refusal.until:
            refusal = known.by[client]
        for refused in theirs:
            old = refused.by[client]
            if old.until <= refusal.until and refusal.resources.contains(old.resources):
                self._forget(pool, refused, client)
        left = [refused for refused in theirs if client in refused.by]
        for refused in left[: max(0, len(left) - self._most_per_client + 1)]:
            self._forget(pool, refused, client)
        refused = pool.refused.get(refusal.resources) or Refused(refusal.resources)
        if not refused.by:
            refused.hides = refusal.resources.contains(pool.free)
            pool.refused[refusal.resources] = refused
        refused.by[client] = refusal
        others = tuple(other for other in client.refusals.get(pool, ()) if other is not refused)
        client.refusals[pool] = (*others, refused)
        if refused.hides:
            client.hidden |= pool.bit
        self._number += 1
        heapq.heappush(self._expiries, (refusal.until, self._number, pool))
        if len(self._expiries) > self._most_expiries:
            self._compact()

    def hide(self, pool: Pool, client: Client, resources: Resources, now: float) -> bool:
        """Say whether an offer of `resources` would be hidden now."""
        for refused in client.refusals.get(pool, ()):
            if refused.by[client].until > now and refused.resources.contains(resources):
                return True
        return False

    def refresh(self, pool: Pool) -> None:
        """Bring the clients' bits of a pool up to date with what is free of it."""
        for refused in pool.refused.values():
            hides = refused.resources.contains(pool.free)
            if hides is not refused.hides:
                refused.hides = hides
                for client in refused.by:
                    _show_or_hide(pool, client)

    def of(self, pool: Pool, client: Client) -> list[Refusal]:
        """Return what a client has refused of a pool, in the order of the refusals."""
        return [refused.by[client] for refused in client.refusals.get(pool, ())]

    def clear_pool(self, pool: Pool) -> None:
        """Forget what was refused of a pool: its agent has changed, or left."""
        clients = {client: None for refused in pool.refused.values() for client in refused.by}
        pool.refused.clear()
        for client in clients:
            client.hidden &= ~pool.bit
            client.refusals.pop(pool, None)

    def clear_client(self, client: Client) -> None:
        """Forget what a client has refused."""
        for pool, theirs in client.refusals.items():
            for refused in theirs:
                del refused.by[client]
                if not refused.by:
                    del pool.refused[refused.resources]
        client.refusals.clear()
        client.hidden = 0

    def next_expiry(self) -> float | None:
        """Return when the next refusal runs out."""
        return self._expiries[0][0] if self._expiries else None

    def expire(self, now: float) -> Bits:
        """Forget refusals that have run out; return their pools."""
        freed: dict[Pool, None] = {}
        while self._expiries and self._expiries[0][0] <= now:
            freed[heapq.heappop(self._expiries)[2]] = None
        bits = 0
        for pool in freed:
            for refused in list(pool.refused.values()):
                for client, refusal in list(refused.by.items()):
                    if refusal.until <= now:
                        self._forget(pool, refused, client)
                        bits |= pool.bit
        return bits

    def _forget(self, pool: Pool, refused: Refused, client: Client) -> None:
        del refused.by[client]
        if not refused.by:
            pool.refused.pop(refused.resources, None)
        left = tuple(other for other in client.refusals[pool] if other is not refused)
        if left:
            client.refusals[pool] = left
        else:
            del client.refusals[pool]
        _show_or_hide(pool, client)

    def _compact(self) -> None:
        """Drop the expiries of refusals that were cleared or replaced: they may lie a year ahead."""
        live: dict[Pool, None] = {}
        for _, _, pool in self._expiries:
            live[pool] = None
        self._expiries = [
            (refusal.until, number, pool)
            for number, (pool, refusal) in enumerate(
                (pool, refusal) for pool in live for refused in pool.refused.values() for refusal in refused.by.values()
            )
        ]
        self._number = len(self._expiries)
        heapq.heapify(self._expiries)
        self._most_expiries = max(LEAST_EXPIRIES, 2 * len(self._expiries))


def _show_or_hide(pool: Pool, client: Client) -> None:
    if any(refused.hides for refused in client.refusals.get(pool, ())):
        client.hidden |= pool.bit
    else:
        client.hidden &= ~pool.bit
