"""Clusters to measure allocation on: a master's core in this process, told of agents and frameworks by events.

Nothing is allocated while a cell is built: a pass runs when it is asked for, so that it alone is timed.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from runrig.agents import AgentInfo, Register
from runrig.demand import Demand
from runrig.ids import AgentId, FrameworkId, Role
from runrig.offers import Call, FrameworkInfo, Offer, RescindReason, Subscribe, UpdateDemand
from runrig.reservations import Reservation
from runrig.resources import Resources
from runrig_master.core.allocation.passes import Pass
from runrig_master.core.clients import Client
from runrig_master.core.events import AgentReported, Event, QuestionId, QuotasAsked, SchedulerCalled, StreamId
from runrig_master.core.filters import Refusal
from runrig_master.core.master import Master
from runrig_master.core.offering import described
from runrig_master.core.quotas import RoleQuota
from runrig_master.core.settings import CoreSettings

NOW = 1_000_000.0
LONG_S = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Timed:
    """What one pass cost, in seconds of CPU time, and what came of it."""

    deciding_s: float
    building_s: float
    """The offers: entered in the books, and described as their frameworks see them."""
    offers: tuple[Offer, ...]


class Cell:
    """A master's core with agents and frameworks that are connected."""

    def __init__(self) -> None:
        self.master = Master("bench", 1, CoreSettings())
        self.now = NOW
        self._streams: dict[str, StreamId] = {}

    @property
    def clients(self) -> list[Client]:
        """Return every framework in each of its roles."""
        frameworks = self.master.cluster.frameworks.values()
        return [client for framework in frameworks for client in framework.clients.values()]

    def tell(self, event: Event) -> None:
        """Tell the core an event."""
        self.master.handle(event, self.now)

    def call(self, name: str, call: Call) -> None:
        """Have a framework call."""
        self.tell(SchedulerCalled(self._streams[name], call))

    def add_agents(
        self,
        count: int,
        resources: Resources,
        reservations: Sequence[Reservation] = (),
        racks: int = 40,
    ) -> None:
        """Register agents that are alike but for their racks."""
        first = len(self.master.cluster.agents)
        for number in range(first, first + count):
            name = f"a{number:05}"
            attributes = (("rack", f"r{number % racks:02}"),)
            info = AgentInfo(
                AgentId(name), name, resources, f"{name}:5051", attributes=attributes, reservations=tuple(reservations)
            )
            self.tell(AgentReported(self.stream(name), Register(info, 1, 0)))

    def add_framework(self, name: str, role: str, demands: Sequence[Demand] | None = None) -> StreamId:
        """Subscribe a framework; one with demands states them. Return its stream."""
        info = FrameworkInfo(name, (Role(role),), FrameworkId(name))
        call = Subscribe(info, 1, uses_demand=demands is not None)
        self.tell(SchedulerCalled(self.stream(name), call, FrameworkId(name)))
        if demands:
            self.call(name, UpdateDemand(Role(role), tuple(demands)))
        return self._streams[name]

    def set_quotas(self, *quotas: RoleQuota) -> None:
        """Set limits and guarantees of roles."""
        self.tell(QuotasAsked(QuestionId(1), quotas))

    def stream(self, name: str) -> StreamId:
        """Open a stream for an agent or a framework."""
        stream = self._streams[name] = StreamId(len(self._streams) + 1)
        return stream

    # Filters

    def refuse_all(self, one_in: int | None = None) -> None:
        """Have each raw framework refuse all of every agent, but for one in so many."""
        filters = self.master.cluster.filters
        pools = list(self.master.cluster.pools.within(self.master.cluster.pools.unreserved))
        refusals: dict[Resources, Refusal] = {}
        for place, client in enumerate(self.clients):
            if client.framework.uses_demand:
                continue
            for number, pool in enumerate(pools):
                if one_in is None or (number + place) % one_in:
                    refusal = refusals.setdefault(pool.total, Refusal(pool.total, self.now + LONG_S, ""))
                    filters.refuse(pool, client, refusal)

    # Passes

    def look_at_all(self) -> None:
        """Have the next pass look at every pool, for everybody."""
        cluster = self.master.cluster
        cluster.dirty = cluster.pools.all
        cluster.mark_all_hungry()

    def take_back(self) -> None:
        """End all offers, as if no pass had been."""
        cluster = self.master.cluster
        cluster.rescind(list(cluster.offers.values()), RescindReason.EXPIRED)
        cluster.take_commands()

    def run_pass(self) -> Timed:
        """Run a pass."""
        began = time.process_time()
        pass_ = Pass(self.master.cluster, self.now)
        pass_.decide()
        decided = time.process_time()
        offers = tuple(described(offer) for offer in pass_.issue())
        return Timed(decided - began, time.process_time() - decided, offers)

    def first_run(self) -> Timed:
        """Run a full pass once; what it offers stays offered."""
        self.look_at_all()
        return self.run_pass()

    def change_of_one(self, times: int) -> float:
        """Have one offer end again and again; return the time of the pass that follows, in seconds."""
        cluster = self.master.cluster
        total = 0.0
        for _ in range(times):
            offer = next(iter(cluster.offers.values()))
            cluster.rescind([offer], RescindReason.EXPIRED)
            cluster.take_commands()
            total += self.run_pass().deciding_s
        return total / times

    def best_of(self, times: int) -> Timed:
        """Run the same full pass so many times from the same beginning; return the one that cost least."""
        runs = []
        for _ in range(times):
            runs.append(self.first_run())
            self.take_back()
        return min(runs, key=lambda run: run.deciding_s)


@contextmanager
def collecting_as_a_master() -> Iterator[None]:
    """Have garbage collected as seldom as in a master that serves (`server_grpc`)."""
    gc.collect()
    gc.freeze()
    before = gc.get_threshold()
    gc.set_threshold(20_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
