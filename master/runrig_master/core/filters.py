"""Refusals: what a framework has declined is not offered to it again for a while (rule 5)."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from runrig.ids import AgentId, FrameworkId, Role
from runrig.resources import Resources

FilterKey = tuple[FrameworkId, Role]
LEAST_EXPIRIES = 1024


@dataclass(frozen=True, slots=True)
class Refusal:
    """An offer of an agent contained in `resources` is hidden until `until`."""

    resources: Resources
    until: float
    reason: str


class Filters:
    """All refusals that have not run out, by agent."""

    def __init__(self, most_per_key: int) -> None:
        self._most_per_key = most_per_key
        self._by_agent: dict[AgentId, dict[FilterKey, list[Refusal]]] = {}
        self._expiries: list[tuple[float, AgentId]] = []
        self._most_expiries = LEAST_EXPIRIES

    def refuse(self, agent: AgentId, key: FilterKey, refusal: Refusal) -> None:
        """Remember a refusal; it replaces those that it covers."""
        refusals = self._by_agent.setdefault(agent, {}).setdefault(key, [])
        refusals[:] = [
            old for old in refusals if old.until > refusal.until or not refusal.resources.contains(old.resources)
        ]
        refusals.append(refusal)
        del refusals[: -self._most_per_key]
        heapq.heappush(self._expiries, (refusal.until, agent))
        if len(self._expiries) > self._most_expiries:
            self._compact()

    def _compact(self) -> None:
        """Drop the expiries of refusals that were cleared or replaced: they may lie a year ahead."""
        self._expiries = [
            (refusal.until, agent)
            for agent, by_key in self._by_agent.items()
            for refusals in by_key.values()
            for refusal in refusals
        ]
        heapq.heapify(self._expiries)
        self._most_expiries = max(LEAST_EXPIRIES, 2 * len(self._expiries))

    def hide(self, agent: AgentId, key: FilterKey, resources: Resources, now: float) -> bool:
        """Say whether an offer of `resources` would be hidden now."""
        refusals = self._by_agent.get(agent, {}).get(key)
        if not refusals:
            return False
        return any(refusal.until > now and refusal.resources.contains(resources) for refusal in refusals)

    def of_agent(self, agent: AgentId) -> dict[FilterKey, list[Refusal]]:
        """Return the refusals of an agent."""
        return self._by_agent.get(agent, {})

    def clear_agent(self, agent: AgentId) -> None:
        """Forget what was refused of an agent: it has changed, or left."""
        self._by_agent.pop(agent, None)

    def clear_framework(self, framework: FrameworkId, role: Role | None = None) -> None:
        """Forget what a framework has refused, for one role or all."""
        for agent, by_key in list(self._by_agent.items()):
            for key in [key for key in by_key if key[0] == framework and role in (None, key[1])]:
                del by_key[key]
            if not by_key:
                del self._by_agent[agent]

    def next_expiry(self) -> float | None:
        """Return when the next refusal runs out."""
        return self._expiries[0][0] if self._expiries else None

    def expire(self, now: float) -> list[AgentId]:
        """Forget refusals that have run out; return their agents, each once, in order."""
        freed: dict[AgentId, None] = {}
        while self._expiries and self._expiries[0][0] <= now:
            _, agent = heapq.heappop(self._expiries)
            freed[agent] = None
        for agent in freed:
            self._drop_expired(agent, now)
        return list(freed)

    def _drop_expired(self, agent: AgentId, now: float) -> None:
        by_key = self._by_agent.get(agent, {})
        for key, refusals in list(by_key.items()):
            refusals[:] = [refusal for refusal in refusals if refusal.until > now]
            if not refusals:
                del by_key[key]
        if not by_key:
            self._by_agent.pop(agent, None)
