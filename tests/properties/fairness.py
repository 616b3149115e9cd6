"""Whose turn it is, from the definition: dominant shares as exact fractions, computed anew for every offer.

Weighted dominant resource fairness (Ghodsi et al., NSDI 2011): the share of a role is the largest fraction it holds of
cpu, memory or disk, divided by its weight; the poorest role is served first, in it the poorest framework, of equals
the first by name. Who has declined an agent in this turn comes after all who have not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from runrig.ids import AgentId, FrameworkId, OfferId, Role
from runrig.resources import Resources
from tests.properties.amounts import SCALARS, Amounts, counted

FAIR = tuple(kind for kind in SCALARS if kind != "gpus")
Taker = tuple[FrameworkId, Role]
Rank = tuple[bool, Fraction, Role, Fraction, FrameworkId]


@dataclass(frozen=True)
class Claim:
    """Resources of an agent that a framework holds for a role: a task that has not ended, or an offer."""

    framework: FrameworkId
    role: Role
    agent: AgentId
    resources: Resources


@dataclass
class Oracle:
    """All that fairness depends on, as plain lists."""

    pool: dict[AgentId, Resources] = field(default_factory=dict)
    """What each agent of the cluster has; those that are unreachable have left it."""
    offered_from: set[AgentId] = field(default_factory=set)
    """The agents whose free resources may be offered."""
    members: dict[FrameworkId, set[Role]] = field(default_factory=dict)
    """The roles for which each connected framework takes offers."""
    weights: dict[Role, int] = field(default_factory=dict)
    tasks: dict[tuple[FrameworkId, str], Claim] = field(default_factory=dict)
    offers: dict[OfferId, Claim] = field(default_factory=dict)
    refusals: list[tuple[Claim, float]] = field(default_factory=list)
    """What was refused, and until when."""
    passed_on: set[tuple[AgentId, Taker]] = field(default_factory=set)
    """Who has declined which agent since the turn began."""

    def role_share(self, role: Role) -> Fraction:
        """Return the dominant share of a role, divided by its weight."""
        share = self._dominant(claim for claim in self._claims() if claim.role == role)
        return share / Fraction(self.weights.get(role, 1000), 1000)

    def framework_share(self, framework: FrameworkId, role: Role) -> Fraction:
        """Return the dominant share of a framework in a role."""
        return self._dominant(claim for claim in self._claims() if (claim.framework, claim.role) == (framework, role))

    def free(self, agent: AgentId) -> Resources:
        """Return what nobody holds of an agent; it may have shrunk below what its tasks use."""
        left = counted(self.pool[agent])
        for claim in (*self.tasks.values(), *self.offers.values()):
            if claim.agent == agent:
                left.take(counted(claim.resources))
        return Amounts(+left.scalars, left.ports).resources()

    def next_taker(self, agent: AgentId, now: float) -> Taker | None:
        """Return who must be offered the free resources of an agent; None: nobody wants them, or there are none."""
        free = self.free(agent)
        is_of_use = bool(free.cpu_millis or free.mem_mib or free.gpus or free.custom)
        if agent not in self.offered_from or not is_of_use:
            return None
        ranks = (self._rank(agent, taker) for taker in self._takers() if not self._is_hidden(agent, taker, free, now))
        best = min(ranks, default=None)
        return (best[4], best[2]) if best is not None else None

    def forget_refusals(
        self, framework: FrameworkId | None = None, role: Role | None = None, agent: AgentId | None = None
    ) -> None:
        """Clear the refusals of a framework, of one of its roles, or of an agent."""
        self.refusals = [
            (claim, until)
            for claim, until in self.refusals
            if framework not in (None, claim.framework)
            or role not in (None, claim.role)
            or agent not in (None, claim.agent)
        ]

    def _rank(self, agent: AgentId, taker: Taker) -> Rank:
        framework, role = taker
        has_passed_on = (agent, taker) in self.passed_on
        return has_passed_on, self.role_share(role), role, self.framework_share(framework, role), framework

    def _takers(self) -> Iterator[Taker]:
        return ((framework, role) for framework, roles in self.members.items() for role in roles)

    def _is_hidden(self, agent: AgentId, taker: Taker, free: Resources, now: float) -> bool:
        return any(
            (claim.framework, claim.role) == taker
            and claim.agent == agent
            and until > now
            and counted(claim.resources).holds(counted(free))
            for claim, until in self.refusals
        )

    def _claims(self) -> Iterator[Claim]:
        tasks = (claim for claim in self.tasks.values() if claim.agent in self.pool)
        return (claim for claims in (tasks, self.offers.values()) for claim in claims)

    def _dominant(self, claims: Iterable[Claim]) -> Fraction:
        held = list(claims)
        shares = [Fraction(0)]
        for kind in FAIR:
            total = sum(getattr(resources, kind) for resources in self.pool.values())
            if total:
                shares.append(Fraction(sum(getattr(claim.resources, kind) for claim in held), total))
        return max(shares)
