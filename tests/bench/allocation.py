"""Benchmarks of allocation: passes over large clusters, in this process, without a wire."""

from __future__ import annotations

import time

from runrig.constraints import Constraint, Operator
from runrig.demand import Demand, Placement
from runrig.ids import Role
from runrig.reservations import Reservation
from runrig.resources import Resources
from runrig_master.core.quotas import Quota, RoleQuota
from tests.bench.cells import Cell, Timed, collecting_as_a_master
from tests.bench.control_plane import Shape
from tests.bench.multi_framework import Run
from tests.bench.report import Row, row
from tests.properties.naive_allocator import NaiveAllocator
from tests.properties.scenes import scene_of

AGENT = Resources(24_000, 65_536, 500_000, ports=((31000, 32000),))
WITH_DEMAND = 20
"""Frameworks among the others that state demand: five shapes each, of which two can be met nowhere."""
RESERVED = Resources(2_000, 4_096, 10_000)


def full(agents: int, frameworks: int) -> Cell:
    """Return a cell with a role tree, quotas, reservations, and some frameworks that wait with demand."""
    cell = Cell()
    every = max(1, frameworks // WITH_DEMAND)
    reservation = Reservation("db", Role("org0/team0"), RESERVED, is_static=True)
    cell.add_agents(agents // 100, AGENT, (reservation,))
    cell.add_agents(agents - agents // 100, AGENT)
    for number in range(frameworks):
        role = f"org{number % 4}/team{number % 20}"
        cell.add_framework(f"f{number:04}", role, waiting_demands(number) if number % every == every - 1 else None)
    whole = Quota(AGENT.cpu_millis * agents, AGENT.mem_mib * agents)
    half = Quota(AGENT.cpu_millis * agents // 2, AGENT.mem_mib * agents // 2)
    tenth = Quota(AGENT.cpu_millis * agents // 10, AGENT.mem_mib * agents // 10)
    cell.set_quotas(
        RoleQuota(Role("org0"), half),
        RoleQuota(Role("org1"), whole),
        RoleQuota(Role("org2"), None, tenth),
        *(RoleQuota(Role(f"org{number % 4}/team{number}"), half) for number in range(10)),
    )
    return cell


def waiting_demands(number: int) -> list[Demand]:
    """Return what a framework with demand waits for: some that fits, some that nothing can hold or meet."""
    hint = list(Placement)[number % 3]
    rack = Constraint("rack", Operator.EQUALS, f"r{number % 40:02}")
    nowhere = Constraint("rack", Operator.EQUALS, "none such")
    return [
        Demand("fits", Resources(1_000, 2_048), 10, placement=hint),
        Demand("in-a-rack", Resources(1_000, 2_048), 10, (rack,), placement=hint, port_count=1),
        Demand("one-a-rack", Resources(1_000, 2_048), 5, (Constraint("rack", Operator.UNIQUE),), group="g"),
        Demand("too-large", Resources(1_000_000, 2_048), 10),
        Demand("nowhere", Resources(1_000, 2_048), 10, (nowhere,)),
    ]


def quota_shape(small: int, large: int) -> Cell:
    """Return Mesos' LargeAndSmallQuota: a role needs half an agent or two, and there is enough for all."""
    cell = Cell()
    agent = Resources(2_000, 2_048, 2_048)
    cell.add_agents(small // 5 + large * 5, agent)
    quotas = []
    for number in range(small + large):
        role = Role(f"r{number:04}")
        cell.add_framework(f"f{number:04}", role)
        quota = Quota(1_000, 1_024, 1_024) if number < small else Quota(4_000, 4_096, 4_096)
        quotas.append(RoleQuota(role, quota, quota))
    cell.set_quotas(*quotas)
    return cell


MESOS_CHART = "Mesos 1.8 at 10,000 agents x 1,000 frameworks, read off its published chart"
MESOS_LARGE = "Mesos 1.8 at the same numbers, read off its published chart"
MESOS_QUOTA = "Mesos 1.9 at the same shape, from its commit messages"


async def passes(shape: Shape) -> list[Row]:
    """Run full passes over large clusters."""
    with collecting_as_a_master():
        return [*_filtered(shape), *_large(shape), *_quotas(shape), *_gangs(shape), *_naively(shape)]


async def multi_framework(shape: Shape) -> list[Row]:
    """Have three kinds of framework launch all their tasks, with raw offers and with demand."""
    rows = []
    with collecting_as_a_master():
        for uses_demand in (False, True):
            done = Run(uses_demand, max(8, 80 // shape.multi_share), shape.multi_share).complete()
            name = f"{done.tasks:,} tasks of three kinds of framework, {'demand' if uses_demand else 'raw offers'}"
            rows += [
                row(f"{name}: the master's time", done.master_s, "s"),
                row(f"{name}: the same, each task", done.master_s / done.tasks * 1e6, "us"),
                row(f"{name}: turns of the loop", done.turns, "turns"),
                row(f"{name}: offers", done.offers, "offers"),
            ]
    return rows


def _filtered(shape: Shape) -> list[Row]:
    agents, frameworks = shape.pass_agents, shape.pass_frameworks
    cell = full(agents, frameworks)
    name = f"full pass, {agents:,} agents x {frameworks:,} frameworks"
    rows = _rows(f"{name}, 0 % filtered", cell.best_of(shape.passes), 1_100.0, MESOS_CHART)
    cell.first_run()
    rows.append(row(f"one agent's change, {agents:,} agents", cell.change_of_one(shape.samples) * 1e6, "us"))
    cell.take_back()
    cell.refuse_all(one_in=50)
    rows += _rows(f"{name}, 98 % filtered", cell.best_of(shape.passes))
    cell.refuse_all()
    return rows + _rows(f"{name}, 100 % filtered", cell.best_of(shape.passes))


def _gangs(shape: Shape) -> list[Row]:
    timed = gangs(shape.gangs, 64, shape.pass_agents).best_of(shape.passes)
    return _rows(f"{shape.gangs} gangs of 64 on {shape.pass_agents:,} agents", timed)


def gangs(count: int, size: int, agents: int) -> Cell:
    """Return a cell in which gangs of so many wait, each of a framework of its own."""
    cell = Cell()
    cell.add_agents(agents, AGENT)
    for number in range(count):
        gang = Demand("d", Resources(4_000, 8_192), size, placement=list(Placement)[number % 3], gang_id="gang")
        cell.add_framework(f"f{number:04}", f"org{number % 4}", [gang])
    return cell


def _naively(shape: Shape) -> list[Row]:
    """Compare with the naive allocator where that can finish: each shape at a hundredth of its size or so."""
    size = shape.naive_size
    cells = {
        f"{size} agents x 20 frameworks": full(size, 20),
        f"small and large quotas, {size // 4 * 6} roles": quota_shape(size // 4 * 5, size // 4),
        f"{size // 10} gangs of 8 on {size} agents": gangs(size // 10, 8, size),
    }
    rows = []
    for name, cell in cells.items():
        cell.look_at_all()
        scene = scene_of(cell.master.cluster, cell.now)
        began = time.process_time()
        made = NaiveAllocator(scene).run()
        naive_ms = (time.process_time() - began) * 1000
        timed = cell.first_run()
        assert len(timed.offers) == len(made)
        rows.append(row(f"{name}: deciding", timed.deciding_s * 1000, "ms", naive_ms, "the naive allocator"))
    return rows


def _large(shape: Shape) -> list[Row]:
    agents, frameworks = 2 * shape.pass_agents, 10 * shape.pass_frameworks
    name = f"full pass, {agents:,} agents x {frameworks:,} frameworks"
    return _rows(name, full(agents, frameworks).best_of(shape.passes), 3_800.0, MESOS_LARGE)


def _quotas(shape: Shape) -> list[Row]:
    roles = shape.quota_roles
    cell = quota_shape(roles * 5 // 6, roles // 6)
    first, second = cell.first_run(), cell.first_run()
    name = f"small and large quotas, {roles:,} agents and roles"
    return [
        *_rows(f"{name}, {len(first.offers):,} offers to make", first, 15_400.0, MESOS_QUOTA),
        *_rows(f"{name}, none to make", second, 13_700.0, MESOS_QUOTA),
    ]


def _rows(name: str, timed: Timed, mesos_ms: float | None = None, source: str = "") -> list[Row]:
    rows = [row(f"{name}: deciding", timed.deciding_s * 1000, "ms", mesos_ms, source)]
    if timed.offers:
        cost = timed.building_s / len(timed.offers) * 1e6
        rows.append(row(f"{name}: building {len(timed.offers):,} offers, each", cost, "us"))
    return rows
