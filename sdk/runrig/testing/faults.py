"""Faults: each a plain value that can be listed, left out and replayed; and storms of them, drawn from a seed.

    faults = storm(seed, cluster, lasts_s=300)
    with_faults = Storm(cluster, faults)
    with_faults.begin()
    cluster.advance(300)
    with_faults.end()

Which kinds of fault a storm has is drawn first, so that storms differ in kind: one only has a slow disk and deaths of
agents, another cuts the network and turns clocks back.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runrig.ids import AgentId, FrameworkId, Role
from runrig.reservations import Unavailability
from runrig.tasks import RuntimeKind
from runrig.testing.agents import SimulatedAgent
from runrig.testing.frameworks import SimulatedFramework
from runrig.testing.masters import SimulatedMaster
from runrig.testing.network import Weather
from runrig.testing.turns import Disk, DiskState
from runrig_master.core.events import (
    DeactivationAsked,
    DrainAsked,
    GoneAsked,
    KillTaskAsked,
    TeardownAsked,
    UnavailabilityAsked,
    WeightAsked,
)

if TYPE_CHECKING:
    from runrig.testing.cluster import Cluster

Process = SimulatedAgent | SimulatedFramework | SimulatedMaster

SUPERVISED_S = 2.0
"""How soon a process that ended by itself is started again."""
NOTICE_MOST_MS = 30_000
"""Of a drain: so short that in a storm some end while they last."""
AWAY_FROM_MOST_S = 60.0


@dataclass(frozen=True, slots=True)
class Fault:
    """At `at` (seconds from the beginning of the storm) `kind` befalls `who` for `lasts_s`, as strong as `amount`."""

    at: float
    kind: str
    who: str = ""
    other: str = ""
    lasts_s: float = 0.0
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Climate:
    """What storms may have; the seed draws from it."""

    kinds: tuple[str, ...] = (
        "loss", "doubling", "delay", "disorder", "echo", "cut", "break", "kill agent", "kill framework", "kill master",
        "freeze", "reboot", "engine", "slow disk", "failing disk", "clock", "usurp", "deactivate", "kill task", "gone",
        "tear down", "weight", "stale", "replay", "power off", "drain", "drain out", "away",
    )  # fmt: skip
    kinds_most: int = 8
    """How many kinds one storm has."""
    faults_most: int = 40
    """How many faults one storm has."""
    expendable: tuple[str, ...] = ()
    """Frameworks that an operator may tear down."""


LASTING = ("gone", "tear down", "power off", "drain out")
REPAIRABLE = Climate(kinds=tuple(kind for kind in Climate().kinds if kind not in LASTING))
"""All after which nothing is lost for good."""


def storm(seed: int, cluster: Cluster, lasts_s: float, climate: Climate = Climate()) -> list[Fault]:
    """Draw a storm for a cluster, in the order of time."""
    chance = random.Random(f"{seed}/storm")
    kinds = chance.sample(climate.kinds, chance.randint(1, min(climate.kinds_most, len(climate.kinds))))
    count = chance.randint(1, climate.faults_most)
    faults = [_draw(chance, chance.choice(kinds), cluster, lasts_s, climate) for _ in range(count)]
    return sorted((fault for fault in faults if fault is not None), key=lambda fault: fault.at)


def _draw(chance: random.Random, kind: str, cluster: Cluster, lasts_s: float, climate: Climate) -> Fault | None:
    at = chance.uniform(0, lasts_s * 0.9)
    agents, frameworks, masters = list(cluster.all_agents), list(cluster.frameworks), list(cluster.masters)
    lasts = chance.choice((0.5, 5.0, 20.0, 90.0)) * chance.uniform(0.5, 1.5)
    if kind in ("loss", "doubling", "disorder", "delay", "echo", "stale"):
        most = {"loss": 0.3, "doubling": 0.2, "disorder": 3.0, "delay": 3.0, "echo": 0.2, "stale": 0.2}[kind]
        return Fault(at, kind, lasts_s=min(lasts, 30.0), amount=most * chance.random())
    if kind == "cut":
        who = chance.choice(agents + frameworks)
        return Fault(at, chance.choice(("cut", "cut up", "cut down")), who, chance.choice(masters), lasts)
    if kind in ("kill agent", "reboot", "engine", "deactivate"):
        return Fault(at, kind, chance.choice(agents), lasts_s=lasts, amount=chance.choice((1, 2)))
    if kind in ("drain", "drain out", "away"):
        return Fault(at, kind, chance.choice(agents), lasts_s=lasts, amount=chance.random())
    if kind == "kill framework":
        return Fault(at, kind, chance.choice(frameworks), lasts_s=lasts)
    if kind == "kill master":
        return Fault(at, kind, lasts_s=min(lasts, 40.0))
    if kind == "break":
        return Fault(at, kind, chance.choice(agents + frameworks))
    if kind in ("freeze", "slow disk", "failing disk", "clock"):
        amount = {"freeze": 0.0, "slow disk": 2.0, "failing disk": 0.2, "clock": chance.uniform(-600.0, 600.0)}[kind]
        return Fault(at, kind, chance.choice(agents + frameworks + masters), lasts_s=lasts, amount=amount)
    if kind == "usurp":
        return Fault(at, kind, chance.choice(masters)) if len(masters) > 1 else None
    if kind in ("gone", "replay"):
        return Fault(at, kind, chance.choice(agents))
    if kind == "power off":
        return Fault(at, kind, chance.choice(agents[: max(1, len(agents) // 5)]))
    if kind == "tear down":
        return Fault(at, kind, chance.choice(climate.expendable)) if climate.expendable else None
    return Fault(at, kind, chance.choice(frameworks), amount=chance.random())


class Storm:
    """Let faults happen to a cluster, and make it whole again."""

    def __init__(self, cluster: Cluster, faults: Sequence[Fault]) -> None:
        self.faults = faults
        self.gone: set[str] = set()
        """Agents that an operator has marked gone."""
        self.torn_down: set[str] = set()
        """Frameworks that an operator has removed."""
        self.lost: set[str] = set()
        """Agents whose host went out and never comes back, though nobody marks them gone."""
        self._cluster = cluster
        self._is_over = False
        self._supervise()

    def begin(self) -> None:
        """Put the faults on the agenda."""
        for fault in self.faults:
            self._cluster.after(fault.at, lambda fault=fault: self._strike(fault))  # type: ignore[misc]

    def end(self) -> None:
        """Let no more happen, and repair all: everything is up, connected, fast and active."""
        self._is_over = True
        cluster = self._cluster
        cluster.network.weather = Weather()
        for sender, receiver in list(cluster.network.cuts):
            cluster.network.heal(sender, receiver)
        cluster.store.disk.state = DiskState()
        for process in self._processes():
            process.thaw()
            if isinstance(process, SimulatedMaster):
                continue
            process.disk.state = DiskState()
            self._start(process)
        for agent in cluster.all_agents.values():
            for kind in list(agent.host.dead):
                agent.engine_returns(kind)
        if not any(master.is_up for master in cluster.masters.values()):
            next(iter(cluster.masters.values())).start()
        for name in cluster.all_agents:
            self._set_active(name, is_active=True)
            self._plan_absence(name, None)

    # Who dies by itself is started again

    def _supervise(self) -> None:
        for process in self._processes():
            process.died = lambda process=process: self._restart_later(process, SUPERVISED_S)  # type: ignore[misc]

    def _processes(self) -> list[Process]:
        cluster = self._cluster
        return [*cluster.masters.values(), *cluster.all_agents.values(), *cluster.frameworks.values()]

    def _restart_later(self, process: Process, after_s: float) -> None:
        self._cluster.after(after_s, lambda: self._start(process))

    def _start(self, process: Process, *, is_host_rebooted: bool = False) -> None:
        if isinstance(process, SimulatedMaster):
            if not any(master.is_up for master in self._cluster.masters.values()):
                process.start()
        elif isinstance(process, SimulatedAgent):
            if process.stopped is None and process.name not in self.lost:
                process.start(is_host_rebooted=is_host_rebooted)
        elif process.error is None:
            process.start()

    # Faults

    def _strike(self, fault: Fault) -> None:
        if self._is_over:
            return
        self._cluster.world.note("storm", fault.kind, fault)
        undo = self._undo_of(fault)
        if undo is not None:
            self._cluster.after(fault.lasts_s, lambda: None if self._is_over else undo())

    def _undo_of(self, fault: Fault) -> Callable[[], None] | None:
        """Let a fault begin; return what ends it."""
        match fault.kind:
            case "loss" | "doubling" | "delay" | "disorder" | "echo" | "stale":
                return self._weather(fault)
            case "cut" | "cut up" | "cut down":
                return self._cut(fault)
            case "slow disk" | "failing disk":
                return self._disk(fault)
            case "freeze":
                process = self._process(fault.who)
                process.freeze()
                return process.thaw
            case "kill agent" | "kill framework" | "kill master" | "reboot" | "clock" | "usurp":
                return self._death(fault)
            case "engine":
                agent, kind = self._cluster.agent(fault.who), RuntimeKind(int(fault.amount))
                agent.engine_dies(kind)
                return lambda: agent.engine_returns(kind)
            case "power off":
                self.lost.add(fault.who)
                self._cluster.agent(fault.who).reboot()
                return None
            case "replay":
                self._cluster.agent(fault.who).repeat_launch()
                return None
            case "break":
                process = self._process(fault.who)
                assert not isinstance(process, SimulatedMaster)
                process.disconnect()
                return None
            case _:
                return self._operator(fault)

    def _process(self, name: str) -> Process:
        cluster = self._cluster
        found = cluster.masters.get(name) or cluster.all_agents.get(name) or cluster.frameworks.get(name)
        assert found is not None, f"nobody is called {name}"
        return found

    def _weather(self, fault: Fault) -> Callable[[], None]:
        weather = self._cluster.network.weather
        match fault.kind:
            case "loss":
                weather.loss = fault.amount
            case "doubling":
                weather.doubling = fault.amount
            case "echo":
                weather.echo = fault.amount
            case "stale":
                weather.stale = fault.amount
            case "delay":
                weather.delay_most_s = fault.amount
            case _:
                weather.delay_most_s, weather.is_ordered = fault.amount, False

        def clear() -> None:
            if not self._is_over:
                self._cluster.network.weather = Weather()

        return clear

    def _cut(self, fault: Fault) -> Callable[[], None]:
        network, who, other = self._cluster.network, fault.who, fault.other
        ways = {"cut up": [(who, other)], "cut down": [(other, who)]}.get(fault.kind, [(who, other), (other, who)])
        for way in ways:
            network.cut(*way)

        def heal() -> None:
            for way in ways:
                network.heal(*way)

        return heal

    def _disk(self, fault: Fault) -> Callable[[], None]:
        process = self._process(fault.who)
        disk: Disk = self._cluster.store.disk if isinstance(process, SimulatedMaster) else process.disk
        disk.state = DiskState(0.0, fault.amount) if fault.kind == "slow disk" else DiskState(failing=fault.amount)

        def mend() -> None:
            disk.state = DiskState()

        return mend

    def _death(self, fault: Fault) -> Callable[[], None] | None:
        cluster = self._cluster
        if fault.kind == "kill master":
            for master in cluster.masters.values():
                master.kill()
            return lambda: self._start(next(iter(cluster.masters.values())))
        process = self._process(fault.who)
        if fault.kind == "usurp":
            assert isinstance(process, SimulatedMaster)
            process.start()
            return None
        if fault.kind == "reboot":
            assert isinstance(process, SimulatedAgent)
            process.reboot()
            return lambda: self._start(process, is_host_rebooted=True)
        process.kill()
        if fault.kind == "clock":
            process.skew_s += fault.amount
        return lambda: self._start(process)

    # The operator

    def _operator(self, fault: Fault) -> Callable[[], None] | None:
        leader = next((master for master in self._cluster.masters.values() if master.is_up), None)
        if leader is None:
            return None
        who = FrameworkId(fault.who)
        match fault.kind:
            case "deactivate":
                self._set_active(fault.who, is_active=False)
                return lambda: self._set_active(fault.who, is_active=True)
            case "gone":
                self.gone.add(fault.who)
                leader.ask(lambda question: GoneAsked(question, AgentId(fault.who)))
            case "drain" | "drain out":
                is_out = fault.kind == "drain out"
                notice_ms, grace_ms = int(fault.amount * NOTICE_MOST_MS), 1_000 if fault.amount > 0.5 else None
                leader.ask(
                    lambda question: DrainAsked(question, AgentId(fault.who), notice_ms, grace_ms, then_gone=is_out)
                )
                if is_out:
                    self.gone.add(fault.who)
                    return None
                return lambda: self._set_active(fault.who, is_active=True)
            case "away":
                start_ms = int((leader.now + fault.amount * AWAY_FROM_MOST_S) * 1000)
                self._plan_absence(fault.who, Unavailability(start_ms, max(1, int(fault.lasts_s * 1000))))
            case "tear down":
                self.torn_down.add(fault.who)
                leader.ask(lambda question: TeardownAsked(question, who))
            case "weight":
                weight = 1 + int(fault.amount * 5_000)
                leader.ask(lambda question: WeightAsked(question, Role("default"), weight))
            case "kill task":
                mine = [task.key for task in self._cluster.truth.running() if task.key[0] == who]
                if mine:
                    _, task_id = mine[int(fault.amount * len(mine))]
                    leader.ask(lambda question: KillTaskAsked(question, who, task_id))
            case _:
                raise AssertionError(f"no such fault: {fault.kind}")
        return None

    def _plan_absence(self, name: str, away: Unavailability | None) -> None:
        for master in self._cluster.masters.values():
            master.ask(lambda question: UnavailabilityAsked(question, (AgentId(name),), away))

    def _set_active(self, name: str, *, is_active: bool) -> None:
        for master in self._cluster.masters.values():
            master.ask(lambda question: DeactivationAsked(question, AgentId(name), not is_active))
