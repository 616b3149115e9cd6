"""A client that wishes the cluster ill: it replays, forges, floods, and accepts what it does not own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runrig.agents import Register
from runrig.ids import AgentId, FrameworkId, OfferId, Role, TaskId
from runrig.offers import (
    Accept,
    Acknowledge,
    Acknowledgement,
    Call,
    Decline,
    Filter,
    FrameworkInfo,
    Kill,
    LaunchGroup,
    LaunchTasks,
    Reconcile,
    Revive,
    Subscribe,
    Suppress,
    UpdateFramework,
)
from runrig.resources import Resources
from runrig.tasks import Command, TaskSpec
from runrig.testing import Cluster
from runrig.testing.masters import SimulatedMaster
from runrig.testing.network import Kind, Stream
from runrig_master.core.commands import Command as MasterCommand
from runrig_master.core.events import Event, SchedulerCalled
from runrig_master.core.state import Presence

HOSTILE = FrameworkInfo("hostile", (Role("default"),), FrameworkId("hostile"), 10_000)
"""Removed, with its tasks, ten seconds after it has gone."""


class Hostile:
    """Connects as a framework of its own, and says what others said, or what nobody should."""

    name = "hostile"
    is_frozen = False

    def __init__(self, seed: int, cluster: Cluster) -> None:
        self._chance = random.Random(f"{seed}/hostile")
        self._cluster = cluster
        self._stream: Stream | None = None
        self._sessions = 0
        self._is_over = False
        self._overheard: list[Call] = []
        self._count = 0
        if self._chance.random() < 0.3:
            for master in cluster.masters.values():
                master.watchers.append(self)

    def begin(self, lasts_s: float) -> None:
        """Attack now and then."""
        for _ in range(self._chance.randint(0, 25)):
            self._cluster.after(self._chance.uniform(0, lasts_s), self._attack)

    def end(self) -> None:
        """Go away."""
        self._is_over = True
        self._cluster.network.client_died(self)

    # It overhears what others say, as if it had been on the wire.

    def begins(self, master: SimulatedMaster) -> None: ...
    def did(self, master: SimulatedMaster, commands: Sequence[MasterCommand]) -> None: ...
    def turned(self, master: SimulatedMaster) -> None: ...
    def told(self, master: SimulatedMaster, event: Event) -> None:
        """Keep what was said."""
        if isinstance(event, SchedulerCalled) and not isinstance(event.call, Subscribe):
            self._overheard.append(event.call)
            del self._overheard[:-30]

    # Its connection

    def opened(self, stream: Stream) -> None:
        """Subscribe, most of the time; or say that it is an agent."""
        if stream.kind is Kind.AGENT:
            self._impersonate(stream)
            return
        if self._chance.random() < 0.9:
            self._sessions += 1
            self._say(Subscribe(HOSTILE, self._sessions - self._chance.choice((0, 0, 0, 1))))

    def received(self, stream: Stream, epoch: int, items: Sequence[Any]) -> None:
        """Take no notice: offers that are not answered expire."""

    def closed(self, stream: Stream, why: str) -> None:
        """Come back another time."""
        if stream is self._stream:
            self._stream = None

    def _impersonate(self, stream: Stream) -> None:
        """Register as an agent that is known, in words that must not count (any more)."""
        cluster = self._cluster.masters[stream.server.name].core.cluster
        known = [agent for agent in cluster.agents.values() if agent.session or agent.presence is Presence.GONE]
        if not known:
            return
        agent = self._chance.choice(known)
        older, newer = agent.session - self._chance.randint(0, 1), agent.session + 1
        register = Register(agent.info, newer if agent.presence is Presence.GONE else older, 0, ())
        if self._chance.random() < 0.3:
            register = Register(agent.info, newer, cluster.epoch + 1, ())
        self._cluster.network.send(stream, stream.up, register)

    def _say(self, call: Call) -> None:
        if self._stream is not None:
            self._cluster.network.send(self._stream, self._stream.up, call)

    def _attack(self) -> None:
        if self._is_over:
            return
        leader = next((each for each in self._cluster.masters.values() if each.is_up), None)
        if self._chance.random() < 0.15:
            self._cluster.network.connect(Kind.AGENT, self, leader)
        if self._stream is None:
            self._stream = self._cluster.network.connect(Kind.SCHEDULER, self, leader)
            return
        self._cluster.world.note(self.name, "attacks")
        for _ in range(self._chance.choice((1, 3, 30))):
            self._say(self._bad_call())

    def _bad_call(self) -> Call:
        chance = self._chance
        offers = (
            list(self._cluster.master.cluster.offers) if any(m.is_up for m in self._cluster.masters.values()) else []
        )
        stolen = tuple(chance.sample(offers, min(len(offers), 2))) or (OfferId("o1-1"),)
        agent = AgentId(chance.choice(list(self._cluster.all_agents)))
        victim = next(iter(self._cluster.truth.tasks), (FrameworkId("service"), TaskId("nobody")))
        self._count += 1
        spec = TaskSpec(TaskId(f"hostile-{self._count}"), Resources(100, 32), command=Command(shell="true"))
        match chance.randrange(10):
            case 0 if self._overheard:
                return chance.choice(self._overheard)
            case 1:
                return Accept((LaunchGroup(agent, stolen, (LaunchTasks((spec,)),)),), atomic=chance.random() < 0.5)
            case 2:
                big = replace(spec, resources=Resources(10**9, 10**9, ports=((31000, 31099),)))
                return Accept((LaunchGroup(agent, stolen, (LaunchTasks((big, spec), is_group=True),)),))
            case 3:
                return Decline(stolen, Filter(chance.choice((0, 1, 365 * 86_400_000, 10**15))))
            case 4:
                return Kill(victim[1], chance.choice((None, 0)))
            case 5:
                return Acknowledge((Acknowledgement(victim[1], agent, chance.choice((0, 1, 99))),))
            case 6:
                return Subscribe(FrameworkInfo("service", (Role("default"),), FrameworkId("hostile")), 1)
            case 7:
                calls: tuple[Call, ...] = (Revive(), Suppress(), Revive((Role("no/such"),)), Reconcile())
                return chance.choice(calls)
            case 8:
                return UpdateFramework(replace(HOSTILE, roles=(Role("default"), Role("eng"))))
            case _:
                return Accept((LaunchGroup(agent, (*stolen, *stolen), (LaunchTasks((spec, spec)),)),))
