"""Ids that must not start: of tasks that ended and were acknowledged, or were killed before they came.

Both kinds are bounded by number and age (rules 12 and 13), each by itself, so that kills of unknown tasks
cannot make the agent forget what it ran.
"""

from __future__ import annotations

from collections.abc import Iterable

from runrig.tasks import StatusUpdate
from runrig_agent.core.effects import Effects
from runrig_agent.core.policy import Policy
from runrig_agent.core.records import DropTombstones, PutTombstone, Tombstone
from runrig_agent.core.task import TaskKey
from runrig_agent.core.timers import TimerKind, Timers


class Tombstones:
    """Remember ids, oldest first."""

    def __init__(self, policy: Policy, effects: Effects, timers: Timers) -> None:
        self._policy = policy
        self._effects = effects
        self._timers = timers
        self._ended: dict[TaskKey, Tombstone] = {}
        self._killed: dict[TaskKey, Tombstone] = {}

    def __len__(self) -> int:
        return len(self._ended) + len(self._killed)

    def restore(self, tombstones: Iterable[Tombstone], now: float) -> None:
        """Take over those of an earlier process, oldest first."""
        for tombstone in tombstones:
            self._of(tombstone)[tombstone.key] = tombstone
        self.drop_old(now)

    def bury(self, key: TaskKey, update: StatusUpdate | None, now: float) -> None:
        """Remember an ended task by its last update, or a kill that came before its launch (None)."""
        tombstone = Tombstone(key, update, now)
        self._effects.keep(PutTombstone(tombstone))
        stones = self._of(tombstone)
        stones[key] = tombstone
        if len(stones) > self._policy.tombstones:
            self._drop(stones, [next(iter(stones))])
        if not self._timers.is_set(TimerKind.TOMBSTONES):
            self._timers.set(TimerKind.TOMBSTONES, now + self._policy.tombstone_s)

    def last_update(self, key: TaskKey) -> StatusUpdate | None:
        """Return the last update of a task that ended and was acknowledged, or None."""
        tombstone = self._ended.get(key)
        return tombstone.update if tombstone is not None else None

    def was_killed(self, key: TaskKey) -> bool:
        """Say whether a kill of this id came before its launch."""
        return key in self._killed

    def unearth(self, key: TaskKey) -> None:
        """Take out a killed id that has come: it becomes a task that has ended."""
        self._drop(self._killed, [key])

    def drop_old(self, now: float) -> None:
        """Forget those older than the policy says, and wait for the next."""
        too_old = now - self._policy.tombstone_s
        for stones in (self._ended, self._killed):
            old = []
            for key, stone in stones.items():
                if stone.at > too_old:
                    break
                old.append(key)
            self._drop(stones, old)
        times = [next(iter(stones.values())).at for stones in (self._ended, self._killed) if stones]
        if times:
            self._timers.set(TimerKind.TOMBSTONES, min(times) + self._policy.tombstone_s)

    def _of(self, tombstone: Tombstone) -> dict[TaskKey, Tombstone]:
        return self._killed if tombstone.update is None else self._ended

    def _drop(self, stones: dict[TaskKey, Tombstone], keys: list[TaskKey]) -> None:
        if keys:
            for key in keys:
                del stones[key]
            self._effects.keep(DropTombstones(tuple(keys)))
