"""What a framework says it wants next, so that the master can offer it just that."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from runrig.constraints import Constraint, checked_constraint
from runrig.errors import InvalidInput
from runrig.ids import checked_id
from runrig.resources import MAX_PORT, Resources, checked_resources
from runrig.tasks import MAX_LIST, RuntimeKind, Terms, checked_terms

MAX_COUNT = 1_000_000
"""Tasks of one demand: as many as a cluster may run."""


class Placement(IntEnum):
    """Which agent is better, when several will do."""

    ANY = 0
    PACK = 1
    SPREAD = 2


@dataclass(frozen=True, slots=True)
class Demand:
    """`count` tasks of one shape; demands of one `gang_id` start all or not at all.

    `port_count` is any so many ports; particular ones stand in `resources`. `group` says with whose tasks
    (`runrig.tasks.Terms.group`) UNIQUE, GROUP_BY and MAX_PER count. `runtime` ANY: whatever the agent has. With a
    `reservation_id` only offers of that reservation will do.
    """

    demand_id: str
    resources: Resources
    count: int = 1
    constraints: tuple[Constraint, ...] = ()
    placement: Placement = Placement.ANY
    priority: int = 0
    gang_id: str = ""
    expected_duration_ms: int = 0
    port_count: int = 0
    group: str = ""
    runtime: RuntimeKind = RuntimeKind.ANY
    reservation_id: str = ""


def checked_demand(field: str, demand: Demand) -> Demand:
    """Return `demand` if it can be satisfied somewhere; raise InvalidInput naming `field`."""
    checked_id(f"{field}.demand_id", demand.demand_id)
    field = f"{field} {demand.demand_id}"
    checked_resources(f"{field}.resources", demand.resources)
    if demand.resources.is_empty:
        raise InvalidInput(f"{field}.resources", str(demand.resources), "some cpu, memory or another resource")
    if not 1 <= demand.count <= MAX_COUNT:
        raise InvalidInput(f"{field}.count", demand.count, f"1 to {MAX_COUNT}")
    if len(demand.constraints) > MAX_LIST:
        raise InvalidInput(f"{field}.constraints", len(demand.constraints), f"at most {MAX_LIST}")
    for number, constraint in enumerate(demand.constraints):
        checked_constraint(f"{field}.constraints[{number}]", constraint)
    if not 0 <= demand.port_count <= MAX_PORT:
        raise InvalidInput(f"{field}.port_count", demand.port_count, f"0 to {MAX_PORT}")
    terms = Terms(demand.reservation_id, demand.group, demand.priority, demand.gang_id, demand.expected_duration_ms)
    checked_terms(field, terms)
    return demand
