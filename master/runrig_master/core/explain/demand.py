"""One demand explained: the funnel, who came closest, what would help, and the verdict in a sentence."""

from __future__ import annotations

from runrig.resources import Resources
from runrig_master.core.allocation.predicates import Kind, Predicate
from runrig_master.core.clients import Wanted
from runrig_master.core.cluster import Cluster
from runrig_master.core.explain.details import of_pool, of_step
from runrig_master.core.explain.funnel import Funnel, funnel_of
from runrig_master.core.explain.gangs import members_of, run_dry
from runrig_master.core.explain.remedies import Remedy, remedies_of, smaller_gang
from runrig_master.core.explain.shortage import MEASURED, short_of
from runrig_master.core.explain.verdicts import impossibility
from runrig_master.core.explain.words import counted, span_text, task_words, until_text
from runrig_master.core.explanation import DemandExplanation, FunnelStep, NearMiss, Verdict
from runrig_master.core.pools import Pool

MOST_NEAREST = 3


def explain_demand(cluster: Cluster, wanted: Wanted, now: float) -> DemandExplanation:
    """Explain one demand: as the next task of it, if one waits, fares at every agent now."""
    funnel = funnel_of(cluster, wanted, now)
    verdict, summary, remedies = judged(cluster, wanted, funnel, now)
    framework = wanted.client.framework
    return DemandExplanation(
        framework.id,
        framework.info.name,
        wanted.client.role,
        wanted.demand,
        verdict,
        summary,
        int(wanted.since * 1000) if wanted.unmet > 0 else 0,
        _steps(cluster, wanted, funnel, now),
        _nearest(cluster, wanted, funnel, now) if verdict is not Verdict.FITS else (),
        tuple(remedy.text for remedy in remedies),
    )


def judged(cluster: Cluster, wanted: Wanted, funnel: Funnel, now: float) -> tuple[Verdict, str, list[Remedy]]:
    if wanted.unmet <= 0:
        return Verdict.FITS, _answer_due(wanted, now), []
    many = counted(wanted.unmet, "task")
    wait = f"{many} wait{'s' if wanted.unmet == 1 else ''}"
    never = impossibility(cluster, wanted, now)
    closed = _closed(wanted, now)
    if never is not None:
        remedies = _what_helps(cluster, wanted, funnel, now) if closed is None else []
        return Verdict.INFEASIBLE, f"{many} can never run: {never}", remedies
    if closed is not None:
        return Verdict.WAITS, f"{wait}: {closed}", []
    if wanted.demand.gang_id:
        return _judged_gang(cluster, wanted, funnel, now)
    if funnel.left:
        where = counted(len(funnel.left), "agent")
        return Verdict.FITS, f"{many} can run now, on {where} of {funnel.agents}: an offer is due", []
    obstacle = _obstacle(cluster, wanted, funnel, now)
    return Verdict.WAITS, f"{wait}: {obstacle}", _what_helps(cluster, wanted, funnel, now)


def _what_helps(cluster: Cluster, wanted: Wanted, funnel: Funnel, now: float) -> list[Remedy]:
    """Return what would make a task fit, or of a gang of several tasks how many of them fit."""
    gang = members_of(wanted) if wanted.demand.gang_id else [wanted]
    if len(gang) > 1 or any(member.offered for member in gang if member.demand.gang_id):
        return []
    if not wanted.demand.gang_id or wanted.unmet == 1:
        return remedies_of(cluster, wanted, funnel, now)
    return list(smaller_gang(wanted, run_dry(cluster, wanted, now).fitting))


def _answer_due(wanted: Wanted, now: float) -> str:
    if wanted.count <= 0:
        return "all its tasks were launched: nothing waits"
    out = wanted.client.framework.offers.values()
    offers = [offer for offer in out if any(part is wanted for part, _ in offer.parts)]
    last = max((offer.expires_at for offer in offers), default=now)
    many = f"{counted(len(offers), 'offer')} for {counted(wanted.count, 'task')}"
    verb = "is" if len(offers) == 1 else "are"
    return f"{many} {verb} out: the framework has {span_text(last - now)} at most to answer"


def _closed(wanted: Wanted, now: float) -> str | None:
    """Say why the framework takes no offers at all, or None: it does."""
    framework, role = wanted.client.framework, wanted.client.role
    if framework.stream is None:
        return "its framework is disconnected" + (
            f", and kept {until_text(framework.failover_deadline, now)}" if framework.failover_deadline else ""
        )
    return f"its framework has suppressed offers for role {role}" if role in framework.suppressed else None


def _obstacle(cluster: Cluster, wanted: Wanted, funnel: Funnel, now: float) -> str:
    """Say what turned away those that got furthest."""
    predicate = min(funnel.turned, key=_distance, default=None)
    if predicate is None:
        return "the cluster has no agents"
    pools = funnel.turned[predicate]
    why = _why(cluster, wanted, predicate, funnel, now)
    which = "the only agent" if funnel.agents == 1 else f"{len(pools)} of {funnel.agents} agents"
    suit = "" if len(pools) == funnel.agents else " would suit, but"
    match predicate.kind:
        case Kind.FREE | Kind.SIZE:
            return f"no agent that would suit has {task_words(wanted)} free: {why}"
        case Kind.QUOTA:
            return why
        case Kind.OFFERED | Kind.CLAIMED:
            return f"what is free {_on(pools, funnel)} is taken for the moment: {why}"
        case _:
            return f"{which}{suit} {_STANDS[predicate.kind]}: {why}" if pools else predicate.name


def _on(pools: list[Pool], funnel: Funnel) -> str:
    return f"on {pools[0].agent.info.hostname}" if len(pools) == 1 else f"on {len(pools)} of {funnel.agents} agents"


_STANDS = {
    Kind.CONNECTED: "cannot be reached",
    Kind.DRAINING: "gets no tasks",
    Kind.RUNTIME: "lacks the runtime",
    Kind.MAINTENANCE: "will be away too soon",
    Kind.CONSTRAINT: "does not meet a constraint",
    Kind.RESERVED: "is reserved",
    Kind.SCARCE: "has gpus alone",
    Kind.FILTER: "is refused by the framework itself",
    Kind.GROUP: "has its share of the group",
}


def _judged_gang(cluster: Cluster, wanted: Wanted, funnel: Funnel, now: float) -> tuple[Verdict, str, list[Remedy]]:
    gang = members_of(wanted)
    name = f"gang {wanted.demand.gang_id}"
    if any(member.offered for member in gang):
        return Verdict.WAITS, f"{name} waits: offers of another part of it are out", []
    state = run_dry(cluster, wanted, now)
    if state.fits:
        return Verdict.FITS, f"all {state.waiting} tasks of {name} can run now: a set of offers is due", []
    laid = _laid_away(gang, now)
    text = f"{name} waits: {state.fitting} of {state.waiting} tasks can run now"
    first = state.first_short
    if first is not wanted:
        assert first is not None
        return Verdict.WAITS, f"{text}; {first.demand.demand_id} is the first that finds no place{laid}", []
    text += f", {counted(state.waiting - state.fitting, 'task')} too few{laid}"
    return Verdict.WAITS, text, _what_helps(cluster, wanted, funnel, now)


def _laid_away(gang: list[Wanted], now: float) -> str:
    claims = [claim for member in gang for claim in member.claims]
    if not claims:
        return ""
    count = sum(claim.count for claim in claims)
    agents = counted(len({claim.pool.agent.id for claim in claims}), "agent")
    return f"; {count} laid away on {agents}, {until_text(min(claim.until for claim in claims), now)}"


def _steps(cluster: Cluster, wanted: Wanted, funnel: Funnel, now: float) -> tuple[FunnelStep, ...]:
    steps = []
    left = funnel.agents
    for predicate, pools in funnel.turned.items():
        left -= len(pools)
        steps.append(FunnelStep(predicate.name, len(pools), left, _why(cluster, wanted, predicate, funnel, now)))
    return tuple(steps)


def _why(cluster: Cluster, wanted: Wanted, predicate: Predicate, funnel: Funnel, now: float) -> str:
    shortage = funnel.shortages.get(predicate.kind)
    closest = shortage.closest[0] if shortage is not None else None
    return of_step(cluster, wanted, predicate, funnel.turned[predicate], now, closest)


def _nearest(cluster: Cluster, wanted: Wanted, funnel: Funnel, now: float) -> tuple[NearMiss, ...]:
    """Return those that got furthest, the least short of them first."""
    nearest: list[NearMiss] = []
    for predicate in sorted(funnel.turned, key=_distance):
        pools = funnel.turned[predicate]
        count = MOST_NEAREST - len(nearest)
        if predicate.kind in MEASURED:
            closest = funnel.shortages[predicate.kind].closest[:count]
        else:
            closest = pools[:count]
        nearest += [_miss(cluster, wanted, predicate, pool, now) for pool in closest]
    return tuple(nearest)


def _distance(predicate: Predicate) -> tuple[bool, int]:
    """Return a key by which those come first that just wait for others' answers, then those that got furthest."""
    return (predicate.kind not in (Kind.OFFERED, Kind.CLAIMED), -predicate.kind)


def _miss(cluster: Cluster, wanted: Wanted, predicate: Predicate, pool: Pool, now: float) -> NearMiss:
    short = short_of(wanted, predicate, pool, now)
    cpu, mem, disk, gpus = (short.pop(name, 0) for name in ("cpu_millis", "mem_mib", "disk_mib", "gpus"))
    short.pop("ports", None)
    by = Resources(cpu, mem, disk, gpus, custom=tuple(sorted(short.items())))
    info = pool.agent.info
    return NearMiss(info.agent_id, info.hostname, predicate.name, of_pool(cluster, wanted, predicate, pool, now), by)
