"""What a framework says it wants next, so that the master can offer it just that."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from runrig.constraints import Constraint
from runrig.resources import Resources


class Placement(IntEnum):
    """Which agent is better, when several will do."""

    ANY = 0
    PACK = 1
    SPREAD = 2


@dataclass(frozen=True, slots=True)
class Demand:
    """`count` tasks of one shape; demands of one `gang_id` start all or not at all."""

    demand_id: str
    resources: Resources
    count: int = 1
    constraints: tuple[Constraint, ...] = ()
    placement: Placement = Placement.ANY
    priority: int = 0
    gang_id: str = ""
    expected_duration_ms: int = 0
