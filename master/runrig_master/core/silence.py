"""Agents that went silent: when they are given up, how many at once, and when that stops (rule 10)."""

from __future__ import annotations

from runrig_master.core.agents import mark_unreachable
from runrig_master.core.cluster import Cluster
from runrig_master.core.state import Presence


class Silence:
    """Mark silent agents unreachable, not too many at once."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._next_mark_at = 0.0
        self._is_stopped = False

    def next_deadline(self) -> float | None:
        """Return when the next agent may have to be marked."""
        dues = [agent.unreachable_at for agent in self._cluster.silent.values()]
        soonest = min((due for due in dues if due is not None), default=None)
        if soonest is None or self._is_stopped:
            return None
        return max(soonest, self._next_mark_at)

    def tick(self, now: float) -> None:
        """Mark what is due, at the rate allowed."""
        due = [
            agent
            for agent in self._cluster.silent.values()
            if agent.unreachable_at is not None and agent.unreachable_at <= now
        ]
        for agent in sorted(due, key=lambda agent: (agent.unreachable_at or 0.0, agent.id)):
            if now < self._next_mark_at or self._must_stop():
                return
            self._next_mark_at = now + 1 / self._cluster.settings.unreachable_per_s
            mark_unreachable(self._cluster, agent, now)
        if not due:
            self._is_stopped = False

    def _must_stop(self) -> bool:
        settings = self._cluster.settings
        known = [agent for agent in self._cluster.agents.values() if agent.presence is not Presence.GONE]
        lost = sum(agent.presence is Presence.UNREACHABLE for agent in known)
        is_too_many = len(
            known
        ) >= settings.unreachable_fraction_least_agents and lost + 1 > settings.unreachable_fraction * len(known)
        if is_too_many and not self._is_stopped:
            text = "so many agents are silent that no more are marked unreachable; look at the network of this master"
            self._cluster.note(text, True, unreachable=lost, agents=len(known))
        self._is_stopped = is_too_many
        return is_too_many
