"""Words for clusters in which something waits, and for asking why."""

from __future__ import annotations

from runrig.constraints import Constraint, Operator
from runrig.demand import Demand
from runrig.explanations import DemandExplanation, Explanation, SubjectKind
from runrig.ids import FrameworkId, Role
from runrig.offers import FrameworkInfo, Subscribe, Suppress, UpdateDemand
from runrig.resources import Resources
from runrig_master.core.clients import Wanted
from runrig_master.core.commands import Command
from runrig_master.core.events import SchedulerCalled
from runrig_master.core.explain import explain
from runrig_master.core.explanation import Subject
from runrig_master.core.settings import CoreSettings
from tests.master.core.cluster import NO_FILTER, World, framework, launch_on, task

PATIENT = CoreSettings(offer_hold_s=1e9, layaway_after_s=1e9, preempt_after_s=1e9, offer_timeout_s=30.0)
"""Nothing is done for what waits: what keeps it waiting stays as it was arranged."""


def want(demand_id: str = "d", cpus: float = 1, mem_mib: int = 128, count: int = 1, **terms: object) -> Demand:
    """Describe a demand with any terms."""
    return Demand(demand_id, Resources(round(cpus * 1000), mem_mib), count, **terms)  # type: ignore[arg-type]


def on(attribute: str, operator: Operator, value: str = "") -> Constraint:
    """Describe a constraint."""
    return Constraint(attribute, operator, value)


def joins(world: World, info: FrameworkInfo) -> list[Command]:
    """Let a framework subscribe that will say what it wants."""
    name = info.framework_id
    world.sessions[f"f/{name}"] = session = world.sessions.get(f"f/{name}", 0) + 1
    world.infos[name] = info
    call = Subscribe(info, session, (), uses_demand=True)
    return world.turn(SchedulerCalled(world.new_stream(f"f/{name}"), call, FrameworkId(f"fresh-{name}")))


def states(world: World, *demands: Demand, by: str = "f", role: str = "") -> list[Command]:
    """Let a framework say what it wants; it subscribes if it has not."""
    if f"f/{by}" not in world.streams:
        joins(world, framework(by, role) if role else framework(by))
    return world.call(UpdateDemand(Role(role or by), demands), by=by)


def occupied(world: World, cpus: float, mem_mib: int = 128, by: str = "other", role: str = "") -> None:
    """Let a raw framework run one such task on each agent that it is offered, and want no more."""
    if f"f/{by}" not in world.streams:
        world.subscribe(framework(by, role) if role else framework(by))
    for offer in world.offers(by):
        spec = task(f"{by}-{offer.agent_id}", cpus, mem_mib)
        world.accept(launch_on(offer, spec), by=by, filter_=NO_FILTER)
        world.call(Suppress(), by=by)
    world.decline(*world.offers(by), by=by, filter_=NO_FILTER)


def asked(world: World, kind: SubjectKind, id_: str, by: str = "") -> Explanation:
    """Ask the master why."""
    return explain(world.master.cluster, Subject(kind, id_, FrameworkId(by)), world.now)


def why(world: World, demand_id: str = "d", by: str = "f") -> DemandExplanation:
    """Ask why a demand waits."""
    [demand] = asked(world, SubjectKind.DEMAND, demand_id, by).demands
    return demand


def wanted(world: World, demand_id: str = "d", by: str = "f") -> Wanted:
    """Return what the master keeps of a demand."""
    framework_ = world.master.cluster.frameworks[FrameworkId(by)]
    return next(client.wanted[demand_id] for client in framework_.clients.values() if demand_id in client.wanted)


def steps(item: DemandExplanation) -> list[tuple[str, int, int]]:
    """Return the funnel without its details."""
    return [(step.predicate, step.failed, step.left) for step in item.funnel]


def detail(item: DemandExplanation, predicate: str) -> str:
    """Return what a step of the funnel says."""
    return next(step.detail for step in item.funnel if step.predicate == predicate)


def misses(item: DemandExplanation) -> list[tuple[str, str]]:
    """Return the nearest misses: agent and text."""
    return [(miss.agent_id, miss.text) for miss in item.nearest]
