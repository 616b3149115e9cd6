"""The answer to what an operator asks, subject by subject."""

from __future__ import annotations

from typing import assert_never

from runrig_master.core.clients import Wanted
from runrig_master.core.cluster import Cluster
from runrig_master.core.explain.agents import explain_agent
from runrig_master.core.explain.demand import explain_demand
from runrig_master.core.explain.frameworks import declines_of, explain_framework
from runrig_master.core.explain.roles import explain_role
from runrig_master.core.explain.subjects import found
from runrig_master.core.explain.tasks import explain_task
from runrig_master.core.explain.words import counted
from runrig_master.core.explanation import Explanation, Subject, SubjectKind, Verdict
from runrig_master.core.roles import RoleNode
from runrig_master.core.state import Agent, Framework, Task

MOST_DEMANDS = 16
"""Of one group that are explained in full."""


def explain(cluster: Cluster, subject: Subject, now: float) -> Explanation:
    """Explain a subject as it stands at `now`; raise NotFound, or InvalidInput when it may mean several.

    Changes nothing.
    """
    thing = found(cluster, subject)
    match thing:
        case Task():
            return explain_task(cluster, thing, now)
        case Framework():
            return explain_framework(cluster, thing, now)
        case RoleNode():
            return explain_role(cluster, thing, now)
        case Agent():
            return explain_agent(cluster, thing, now)
        case list():
            return _of_demands(cluster, subject, thing, now)
        case _:
            assert_never(thing)


def _of_demands(cluster: Cluster, subject: Subject, wanted: list[Wanted], now: float) -> Explanation:
    demands = tuple(explain_demand(cluster, each, now) for each in wanted[:MOST_DEMANDS])
    if len(demands) == 1:
        summary = demands[0].summary
    else:
        waiting = sum(demand.verdict is not Verdict.FITS for demand in demands)
        summary = f"{waiting} of {counted(len(wanted), 'demand')} of {subject.id} wait"
    declines = declines_of(wanted[0].client.framework)
    return Explanation(SubjectKind.DEMAND, subject.id, summary, demands, declines=declines)
