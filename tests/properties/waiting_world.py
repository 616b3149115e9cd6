"""Random small clusters in which things wait, and what can be done about it in a copy."""

from __future__ import annotations

import copy
from dataclasses import replace

from hypothesis import strategies as st

from runrig.agents import AgentInfo, TaskReport
from runrig.constraints import Constraint, Operator
from runrig.demand import Demand, Placement
from runrig.ids import AgentId, FrameworkId, Role, TaskId
from runrig.offers import Decline, Filter, LaunchTasks, Revive, Suppress, UpdateDemand
from runrig.reservations import Reservation, Unavailability
from runrig.resources import Resources, single_ports
from runrig.tasks import Command, RuntimeKind, TaskSpec, Terms
from runrig_master.core import demands
from runrig_master.core.allocation.predicates import Kind
from runrig_master.core.clients import Wanted
from runrig_master.core.events import SchedulerCalled
from runrig_master.core.explain.remedies import (
    BringBack,
    ChangeRequest,
    EndOffer,
    EndTask,
    GiveBack,
    RaiseLimits,
    Remedy,
)
from runrig_master.core.quotas import Quota, RoleQuota
from runrig_master.core.state import Presence, Task
from tests.master.core.cluster import (
    FINISHED,
    NO_FILTER,
    START,
    World,
    agent,
    framework,
    given,
    launch_on,
    said,
)
from tests.master.core.explaining import PATIENT, joins, states

NOW_MS = int(START * 1000)
ROLES = {"f": "eng/f", "g": "eng/g"}
"""Frameworks that state demand, each with its role; `raw` takes anything."""

amounts = st.builds(
    lambda cpus, mem, gpus: Resources(cpus * 500, mem * 512, gpus=gpus),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([0, 0, 0, 0, 0, 0, 0, 1]),
)
static = st.sampled_from(
    [
        Constraint("rack", Operator.EQUALS, "r1"),
        Constraint("rack", Operator.NOT_EQUALS, "r1"),
        Constraint("rack", Operator.LIKE, "r[23]"),
        Constraint("hostname", Operator.UNLIKE, "host-a1"),
    ]
)
counting = st.sampled_from(
    [
        Constraint("hostname", Operator.UNIQUE),
        Constraint("rack", Operator.UNIQUE),
        Constraint("rack", Operator.MAX_PER, "2"),
        Constraint("rack", Operator.GROUP_BY, ""),
    ]
)


@st.composite
def agents_of(draw: st.DrawFn, number: int) -> AgentInfo:
    """Draw an agent."""
    rack = draw(st.sampled_from(["r1", "r2", "r3", ""]))
    info = agent(
        f"a{number}",
        cpus=draw(st.integers(1, 6)),
        mem_mib=512 * draw(st.integers(2, 8)),
        gpus=draw(st.sampled_from([0, 0, 1])),
        ports=draw(st.sampled_from(["", "[31000-31001]", "[31000-31003]"])),
        attributes=(("rack", rack),) if rack else (),
    )
    process, docker = RuntimeKind.PROCESS, RuntimeKind.DOCKER
    runtimes = draw(st.sampled_from([(process,), (process, docker), (process, docker), (process, docker), ()]))
    kept: tuple[Reservation, ...] = ()
    if draw(st.integers(0, 2)) == 0:
        role = Role(draw(st.sampled_from(["eng", "eng/f", "ops"])))
        kept = (Reservation("kept", role, Resources(1000, 1024), is_static=True),)
    return replace(info, runtimes=runtimes, reservations=kept)


@st.composite
def demands_of(draw: st.DrawFn) -> tuple[Demand, ...]:
    """Draw what a framework wants."""
    return tuple(
        Demand(
            f"d{number}",
            draw(amounts),
            draw(st.integers(1, 4)),
            (*draw(st.lists(static, max_size=1)), *draw(st.sampled_from([(), (), ()]) | st.tuples(counting))),
            draw(st.sampled_from(Placement)),
            draw(st.integers(0, 1)),
            draw(st.sampled_from(["", "", "", f"gang{number}"])),
            draw(st.sampled_from([0, 0, 60_000, 600_000])),
            draw(st.sampled_from([0, 0, 0, 0, 1, 3])),
            draw(st.sampled_from(["", "web"])),
            draw(st.sampled_from([RuntimeKind.ANY, RuntimeKind.ANY, RuntimeKind.ANY, RuntimeKind.DOCKER])),
        )
        for number in range(draw(st.integers(1, 3)))
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw a cluster on which frameworks have worked for a while, after a pass or just before one."""
    infos = [draw(agents_of(number)) for number in range(1, 1 + draw(st.integers(1, 4)))]
    layaway_after_s = draw(st.sampled_from([1.0, 1e9]))
    world = given(*infos, settings=replace(PATIENT, layaway_after_s=layaway_after_s, layaway_fraction=1.0))
    world.subscribe(framework("raw"))
    _work(draw, world, "raw")
    if draw(st.integers(0, 2)):
        world.call(Suppress(), by="raw")
        world.decline(*world.offers("raw"), by="raw", filter_=NO_FILTER)
    for name, role in ROLES.items():
        joins(world, framework(name, role))
    if draw(st.booleans()):
        limits = [RoleQuota(Role(role), limit=draw(_quotas)) for role in ("eng", "eng/f")]
        world.set_quotas(*limits[: draw(st.integers(1, 2))], is_forced=True)
    for name, role in ROLES.items():
        states(world, *draw(demands_of()), by=name, role=role)
        _work(draw, world, name)
    for info in infos:
        _befall(draw, world, info.agent_id)
    world.turn(after=draw(st.sampled_from([0.0, 2.0])))
    world.turn()
    if draw(st.booleans()):
        news = UpdateDemand(Role("eng/f"), draw(demands_of()))
        world.handle(SchedulerCalled(world.stream("f"), news))
    return world


_quotas = st.builds(Quota, st.sampled_from([500, 1000, 2500]), st.sampled_from([None, 1024]))


def _work(draw: st.DrawFn, world: World, name: str) -> None:
    """Let a framework answer some of its offers."""
    for offer in world.offers(name):
        if offer not in world.offers(name):
            continue
        answer = draw(st.sampled_from(["keep", "decline", "some", "all"]))
        if answer == "decline":
            world.decline(offer, by=name, filter_=Filter(draw(st.sampled_from([1_000, 60_000])), "not now"))
        elif answer != "keep":
            _launch(draw, world, name, offer.offer_id, is_all=answer == "all")


def _launch(draw: st.DrawFn, world: World, name: str, offer_id: str, *, is_all: bool) -> None:
    offer = next(offer for offer in world.offers(name) if offer.offer_id == offer_id)
    has = offer.resources
    if not has.cpu_millis or offer.gang_id:
        return
    part = has if is_all else replace(has, cpu_millis=(has.cpu_millis + 1) // 2, mem_mib=has.mem_mib // 2, ports=())
    if part.ports:
        part = replace(part, ports=single_ports(part.take_ports(1)))
    reservation_id = offer.reservation.reservation_id if offer.reservation is not None else ""
    terms = Terms(
        reservation_id, draw(st.sampled_from(["", "web"])), expected_duration_ms=draw(st.sampled_from([0, 1_500]))
    )
    spec = TaskSpec(TaskId(f"t-{offer_id}"), part, command=Command(shell="true"), terms=terms)
    group = launch_on(offer, spec)
    assert isinstance(group.operations[0], LaunchTasks)
    world.accept(group, by=name, filter_=draw(st.sampled_from([NO_FILTER, Filter(60_000, "enough")])))


def _befall(draw: st.DrawFn, world: World, name: AgentId) -> None:
    fate = draw(st.sampled_from(["", "", "", "", "drain", "deactivate", "away", "lose", "gone"]))
    match fate:
        case "drain":
            world.drain(name)
        case "deactivate":
            world.deactivate(name)
        case "away":
            start_ms = NOW_MS + draw(st.sampled_from([-60_000, 300_000]))
            world.plan_absence(Unavailability(start_ms, draw(st.sampled_from([0, 3_600_000]))), name)
        case "lose":
            world.lose_agent(name)
        case "gone":
            world.mark_gone(name)
        case _:
            pass


# In a copy


def alone(world: World, wanted: Wanted) -> World:
    """Return a copy in which nobody else takes anything, and a framework wants one demand and what claims are for."""
    theirs = wanted.client.wanted.values()
    kept = [each for each in theirs if each.is_with(wanted) or each.claims]
    other = copy.deepcopy(world)
    me = wanted.client.name
    for name in ("raw", *ROLES):
        if name != me:
            other.handle(SchedulerCalled(other.stream(name), Suppress()))
    left = tuple(replace(each.demand, count=each.count) for each in kept if each.count > 0)
    other.handle(SchedulerCalled(other.stream(me), UpdateDemand(wanted.client.role, left)))
    other.turn()
    return other


def shown_all(world: World, name: str) -> None:
    """Show all pools to a framework, and let a pass run."""
    for client in world.master.cluster.frameworks[FrameworkId(name)].clients.values():
        demands.look_anew(world.master.cluster, client)
    world.turn()


def offered(world: World, name: str, demand_id: str) -> int:
    """Return for how many tasks of a demand offers are out."""
    clients = world.master.cluster.frameworks[FrameworkId(name)].clients.values()
    return sum(client.wanted[demand_id].offered for client in clients if demand_id in client.wanted)


def apply(world: World, wanted: Wanted, remedy: Remedy) -> None:
    """Do what a remedy says."""
    name = wanted.client.name
    match remedy:
        case ChangeRequest():
            world.call(UpdateDemand(wanted.client.role, (remedy.demand,)), by=name)
        case EndTask():
            task = remedy.task
            ended = said(task.id, FINISHED, 1, task.agent.id, task.framework.id)
            world.report(ended, by=task.agent.id)
        case EndOffer():
            owner = remedy.offer.framework.id
            world.call(Decline((remedy.offer.id,), NO_FILTER), by=owner)
        case RaiseLimits():
            world.set_quotas(*(RoleQuota(role, limit=quota) for role, quota in remedy.limits), is_forced=True)
        case BringBack():
            _bring_back(world, remedy)
        case GiveBack():
            info = world.master.cluster.agents[remedy.agent.id].info
            world.connect(replace(info, reservations=()), *_reports(world, info.agent_id))
        case _:
            world.call(Revive(), by=name)
    shown_all(world, name)


def _bring_back(world: World, remedy: BringBack) -> None:
    name = remedy.agent.id
    match remedy.kind:
        case Kind.DRAINING:
            world.reactivate(name)
        case Kind.MAINTENANCE:
            world.plan_absence(None, name)
        case _:
            assert world.master.cluster.agents[name].presence is not Presence.GONE
            world.connect(world.master.cluster.agents[name].info, *_reports(world, name))


def _reports(world: World, name: AgentId) -> list[TaskReport]:
    return [_report(task) for task in world.master.cluster.agents[name].tasks.values()]


def _report(task: Task) -> TaskReport:
    return TaskReport(
        task.framework.id,
        task.id,
        task.name,
        task.role,
        task.resources,
        task.labels,
        said(task.id, agent_id=task.agent.id, framework_id=task.framework.id),
        task.terms,
    )
