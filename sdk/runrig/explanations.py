"""Why something waits, what it holds and what would help, as the master's own decisions explain it.

An `Explanation` is of one task, framework, role, agent or demand. Of each demand that is still open it has a funnel:
how many agents each predicate turned away, in the order in which the master asks them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from runrig._plain import Json, iso, resources_json
from runrig.demand import Demand
from runrig.ids import AgentId, FrameworkId, Role
from runrig.resources import NOTHING, Resources


class SubjectKind(IntEnum):
    """What an explanation is of; ANY: whatever has the id."""

    ANY = 0
    TASK = 1
    FRAMEWORK = 2
    ROLE = 3
    AGENT = 4
    DEMAND = 5
    """Its id is the demand's, or the group's."""


class Verdict(IntEnum):
    """Whether a demand will be met."""

    FITS = 1
    """Offers of it are out, or are due."""
    WAITS = 2
    """It fits when others end, return or let go."""
    INFEASIBLE = 3
    """It cannot fit, whoever ends."""


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """Of the agents that were left, `failed` were turned away by a predicate; `left` are left after it."""

    predicate: str
    failed: int
    left: int
    detail: str = ""
    """`short by 0.2 cpus at best`, `until 12:00:05`, `held by batch (f-1)`."""

    def as_json(self) -> Json:
        """Return all of it."""
        return {"predicate": self.predicate, "failed": self.failed, "left": self.left, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class NearMiss:
    """An agent that came close, and what it fell short of."""

    agent_id: AgentId
    hostname: str
    predicate: str
    text: str
    short_by: Resources = NOTHING

    def as_json(self) -> Json:
        """Return all of it."""
        return {
            "agent_id": self.agent_id,
            "hostname": self.hostname,
            "predicate": self.predicate,
            "text": self.text,
            "short_by": resources_json(self.short_by),
        }


@dataclass(frozen=True, slots=True)
class DeclineCount:
    """How often a framework has declined for a reason of its own."""

    reason: str
    count: int
    last_unix_ms: int = 0

    def as_json(self) -> Json:
        """Return all of it."""
        return {"reason": self.reason, "count": self.count, "last_at": iso(self.last_unix_ms)}


@dataclass(frozen=True, slots=True)
class DemandExplanation:
    """One demand: how it stands, who turned it away, and what would help."""

    framework_id: FrameworkId
    framework_name: str
    role: Role
    demand: Demand
    verdict: Verdict
    summary: str
    waiting_since_unix_ms: int = 0
    funnel: tuple[FunnelStep, ...] = ()
    nearest: tuple[NearMiss, ...] = ()
    """The closest first."""
    remedies: tuple[str, ...] = ()
    """The smallest change of the request that would make it fit, or the task whose end would free it."""

    def as_json(self) -> Json:
        """Return all of it."""
        return {
            "framework_id": self.framework_id,
            "framework": self.framework_name,
            "role": self.role,
            "demand": _demand_json(self.demand),
            "verdict": self.verdict.name.lower(),
            "summary": self.summary,
            "waiting_since": iso(self.waiting_since_unix_ms),
            "funnel": [step.as_json() for step in self.funnel],
            "nearest": [miss.as_json() for miss in self.nearest],
            "remedies": list(self.remedies),
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer: one sentence, then all that stands behind it."""

    kind: SubjectKind
    id: str
    summary: str
    demands: tuple[DemandExplanation, ...] = ()
    facts: tuple[str, ...] = ()
    """Further sentences."""
    declines: tuple[DeclineCount, ...] = ()
    """What the framework itself has said when it declined, the most frequent first."""

    def as_json(self) -> Json:
        """Return all of it."""
        return {
            "kind": self.kind.name.lower(),
            "id": self.id,
            "summary": self.summary,
            "facts": list(self.facts),
            "demands": [demand.as_json() for demand in self.demands],
            "declines": [decline.as_json() for decline in self.declines],
        }


def _demand_json(demand: Demand) -> Json:
    return {
        "id": demand.demand_id,
        "count": demand.count,
        "resources": resources_json(demand.resources),
        "port_count": demand.port_count,
        "constraints": [
            " ".join(filter(None, (each.attribute, each.operator.name, each.value))) for each in demand.constraints
        ],
        "placement": demand.placement.name.lower(),
        "priority": demand.priority,
        "gang_id": demand.gang_id or None,
        "expected_duration_ms": demand.expected_duration_ms or None,
        "group": demand.group or None,
        "runtime": demand.runtime.name.lower(),
    }
