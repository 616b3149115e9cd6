"""Explanations on the wire."""

from __future__ import annotations

from runrig._wire.calls import demand_from_wire, demand_to_wire
from runrig._wire.common import E, fill_resources, resources_from_wire
from runrig.explanations import (
    DeclineCount,
    DemandExplanation,
    Explanation,
    FunnelStep,
    NearMiss,
    SubjectKind,
    Verdict,
)
from runrig.ids import AgentId, FrameworkId, Role
from runrig.v1 import operator_pb2


def explanation_to_wire(explanation: Explanation) -> operator_pb2.ExplainResponse:
    """Build the message of an explanation."""
    message = operator_pb2.ExplainResponse(
        kind=explanation.kind.value,  # type: ignore[arg-type]
        id=explanation.id,
        summary=explanation.summary,
        facts=explanation.facts,
    )
    for demand in explanation.demands:
        _fill_demand(message.demands.add(), demand)
    for decline in explanation.declines:
        message.declines.add(reason=decline.reason, count=decline.count, last_unix_ms=decline.last_unix_ms)
    return message


def _fill_demand(message: operator_pb2.DemandExplanation, item: DemandExplanation) -> None:
    message.framework_id = item.framework_id
    message.framework_name = item.framework_name
    message.role = item.role
    message.demand.CopyFrom(demand_to_wire(item.demand))
    message.verdict = item.verdict.value  # type: ignore[assignment]
    message.summary = item.summary
    message.waiting_since_unix_ms = item.waiting_since_unix_ms
    for step in item.funnel:
        message.funnel.add(predicate=step.predicate, failed=step.failed, left=step.left, detail=step.detail)
    for miss in item.nearest:
        near = message.nearest.add(
            agent_id=miss.agent_id, hostname=miss.hostname, predicate=miss.predicate, text=miss.text
        )
        fill_resources(near.short_by, miss.short_by)
    message.remedies.extend(item.remedies)


def explanation_from_wire(message: operator_pb2.ExplainResponse) -> Explanation:
    """Read an explanation; a verdict or a kind that a newer master has is the most cautious of those known here."""
    return Explanation(
        _known(SubjectKind, message.kind, SubjectKind.ANY),
        message.id,
        message.summary,
        tuple(map(_read_demand, message.demands)),
        tuple(message.facts),
        tuple(DeclineCount(item.reason, item.count, item.last_unix_ms) for item in message.declines),
    )


def _read_demand(message: operator_pb2.DemandExplanation) -> DemandExplanation:
    return DemandExplanation(
        FrameworkId(message.framework_id),
        message.framework_name,
        Role(message.role),
        demand_from_wire(message.demand),
        _known(Verdict, message.verdict, Verdict.WAITS),
        message.summary,
        message.waiting_since_unix_ms,
        tuple(FunnelStep(item.predicate, item.failed, item.left, item.detail) for item in message.funnel),
        tuple(
            NearMiss(
                AgentId(item.agent_id), item.hostname, item.predicate, item.text, resources_from_wire(item.short_by)
            )
            for item in message.nearest
        ),
        tuple(message.remedies),
    )


def _known(kind: type[E], number: int, otherwise: E) -> E:
    return next((item for item in kind if item.value == number), otherwise)
