"""Benchmarks of explanations: of one demand over a large cluster, and of what waits by reason, for metrics."""

from __future__ import annotations

import time
from collections.abc import Callable

from runrig.agents import AgentInfo, Register, TaskReport
from runrig.constraints import Constraint, Operator
from runrig.demand import Demand
from runrig.explanations import Explanation, SubjectKind
from runrig.ids import AgentId, FrameworkId, Role, TaskId
from runrig.resources import Resources
from runrig.tasks import StatusUpdate, TaskState
from runrig_master.core.events import AgentReported
from runrig_master.core.explain import explain, pending_by_reason
from runrig_master.core.explanation import Subject
from tests.bench.allocation import AGENT
from tests.bench.cells import Cell, collecting_as_a_master
from tests.bench.control_plane import Shape
from tests.bench.report import Row, row

TASKS = 4
"""That run on each agent, and leave it 0.8 cpus."""
TASK = Resources(5_800, 8_192)
AIM_MS = 20.0
AIM = "the aim: an explanation of one demand over 10,000 agents"

F = FrameworkId("f")
DEMANDS = (
    Demand("no-room", Resources(1_000, 2_048), 10),
    Demand("in-a-rack", Resources(1_000, 2_048), 10, (Constraint("rack", Operator.LIKE, "r[012].*"),), port_count=1),
    Demand("one-a-host", Resources(1_000, 2_048), 10, (Constraint("hostname", Operator.UNIQUE),), group="g"),
    Demand("too-large", Resources(100_000, 2_048), 10),
    Demand("nowhere", Resources(1_000, 2_048), 10, (Constraint("rack", Operator.EQUALS, "none such"),)),
)


async def explanations(shape: Shape) -> list[Row]:
    """Explain demand that waits on a full cluster."""
    with collecting_as_a_master():
        cell = _full(shape.pass_agents)
        cell.add_framework("f", "waits", DEMANDS)
        cell.run_pass()
        rows = [_of_one(cell, demand, shape) for demand in DEMANDS]
        return [*rows, *_counted(cell, shape)]


def _full(agents: int) -> Cell:
    """Return a cell whose agents are nearly full of another framework's tasks."""
    cell = Cell()
    for number in range(agents):
        name = f"a{number:05}"
        info = AgentInfo(AgentId(name), name, AGENT, f"{name}:5051", attributes=(("rack", f"r{number % 40:02}"),))
        tasks = tuple(_running(name, each) for each in range(TASKS))
        cell.tell(AgentReported(cell.stream(name), Register(info, 1, 0, tasks)))
    return cell


def _running(name: str, number: int) -> TaskReport:
    task_id, other = TaskId(f"t-{name}-{number}"), FrameworkId("other")
    status = StatusUpdate(other, task_id, AgentId(name), 1, TaskState.TASK_RUNNING)
    return TaskReport(other, task_id, "busy", Role("busy"), TASK, (), status)


def _of_one(cell: Cell, demand: Demand, shape: Shape) -> Row:
    subject = Subject(SubjectKind.DEMAND, demand.demand_id, F)
    said: list[Explanation] = []
    cost = _cheapest(lambda: said.append(explain(cell.master.cluster, subject, cell.now)), shape.passes)
    [item] = said[0].demands
    assert not item.funnel[-1].left
    name = f"explain `{demand.demand_id}`, {shape.pass_agents:,} agents, {shape.pass_agents * TASKS:,} tasks"
    return row(name, cost * 1000, "ms", AIM_MS, AIM)


def _counted(cell: Cell, shape: Shape) -> list[Row]:
    """Count what waits by reason, when all demands are alike, and when each is of its own shape."""
    rows = []
    for what, step in (("one shape", 0), ("each of its own shape", 1)):
        demands = [
            Demand(f"d{number}", Resources(1_000 + step * number, 2_048)) for number in range(shape.pending_demands)
        ]
        name = f"g{step}"
        cell.add_framework(name, name, demands)
        cost = _cheapest(lambda: pending_by_reason(cell.master.cluster, cell.now), shape.passes)
        rows.append(row(f"what waits by reason, {len(demands):,} demands more, {what}", cost * 1000, "ms"))
    return rows


def _cheapest(action: Callable[[], object], times: int) -> float:
    """Return the CPU time of the cheapest of some runs."""
    costs = []
    for _ in range(times):
        began = time.process_time()
        action()
        costs.append(time.process_time() - began)
    return min(costs)
