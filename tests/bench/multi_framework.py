"""Three kinds of framework launch 19,500 tasks on 80 agents: Mesos' MultiFrameworkAllocations, to completion.

Every turn each framework answers all offers that it has, as real ones do, and the master runs its pass. Only the
master's time is counted: its core with every accept, launch and offer, without a wire.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from runrig.demand import Demand
from runrig.ids import Role, TaskId
from runrig.offers import Accept, Filter, LaunchGroup, LaunchTasks, Offer, OffersMade, Suppress
from runrig.resources import Resources
from runrig.tasks import Command as Program
from runrig.tasks import TaskSpec
from runrig_master.core.commands import Command, SendToScheduler
from runrig_master.core.events import Event, SchedulerCalled, StreamId, Tick
from tests.bench.cells import Cell

AGENT = Resources(64_000, 488_000)
MOST_TURNS = 10_000


@dataclass(frozen=True, slots=True)
class Kind:
    """Frameworks that are alike."""

    name: str
    frameworks: int
    tasks: int
    task: Resources
    most_per_offer: int


KINDS = (
    Kind("services", 4, 4_000, Resources(70, 400), 100),
    Kind("builds", 500, 5, Resources(100, 4_000), 1),
    Kind("analyses", 50, 20, Resources(1_000, 1_000), 5),
)


@dataclass
class Framework:
    """One of them, and how much of its work is still to be launched."""

    kind: Kind
    name: str
    left: int
    offers: list[Offer] = field(default_factory=list)
    launched: int = 0


@dataclass(frozen=True, slots=True)
class Completed:
    """What it took until all was launched."""

    master_s: float
    turns: int
    tasks: int
    offers: int


class Run:
    """One run, with raw frameworks or with such that state demand."""

    def __init__(self, uses_demand: bool, agents: int = 80, share: int = 1) -> None:
        self.cell = Cell()
        self.cell.add_agents(agents, AGENT)
        self.uses_demand = uses_demand
        self.master_s = 0.0
        self.offers = 0
        self.frameworks: dict[StreamId, Framework] = {}
        for kind in KINDS:
            for number in range(max(1, kind.frameworks // share)):
                framework = Framework(kind, f"{kind.name}{number}", kind.tasks)
                demand = [Demand("all", kind.task, kind.tasks)] if uses_demand else None
                stream = self.cell.add_framework(framework.name, framework.name, demand)
                self.frameworks[stream] = framework

    def complete(self) -> Completed:
        """Go on until all tasks are launched."""
        turns = 0
        while any(framework.left for framework in self.frameworks.values()):
            assert turns < MOST_TURNS, "it does not end"
            turns += 1
            self._tell(Tick())
            for stream, framework in self.frameworks.items():
                if framework.offers:
                    offers, framework.offers = framework.offers, []
                    self._tell(SchedulerCalled(stream, self._answer(framework, offers)))
                    if not framework.left and not self.uses_demand:
                        self._tell(SchedulerCalled(stream, Suppress((Role(framework.name),))))
            self.cell.now += 1.0
        launched = sum(framework.launched for framework in self.frameworks.values())
        return Completed(self.master_s, turns, launched, self.offers)

    def _tell(self, event: Event) -> None:
        began = time.process_time()
        commands = self.cell.master.handle(event, self.cell.now)
        self.master_s += time.process_time() - began
        for stream, offers in _offers_in(commands):
            self.frameworks[stream].offers.extend(offers)
            self.offers += len(offers)

    def _answer(self, framework: Framework, offers: list[Offer]) -> Accept:
        groups = tuple(self._launch(framework, offer) for offer in offers)
        return Accept(groups, filter=Filter(5_000 if framework.left else 60_000))

    def _launch(self, framework: Framework, offer: Offer) -> LaunchGroup:
        task, has = framework.kind.task, offer.resources
        fitting = min(has.cpu_millis // task.cpu_millis, has.mem_mib // task.mem_mib)
        most = framework.left if self.uses_demand else framework.kind.most_per_offer
        specs = []
        for _ in range(min(fitting, most, framework.left)):
            framework.launched += 1
            framework.left -= 1
            task_id = TaskId(f"t{framework.launched}")
            specs.append(TaskSpec(task_id, task, task_id, command=Program(shell="true")))
        return LaunchGroup(offer.agent_id, (offer.offer_id,), (LaunchTasks(tuple(specs)),) if specs else ())


def _offers_in(commands: list[Command]) -> Iterator[tuple[StreamId, tuple[Offer, ...]]]:
    for command in commands:
        if isinstance(command, SendToScheduler) and isinstance(command.news, OffersMade):
            yield command.stream, command.news.offers
