"""A whole cluster in one process on a virtual clock: real cores of master and agents, and the SDK's real schedulers.

    cluster = Cluster()
    cluster.agents(3, "cpus:4;mem:8G", rack=["a", "b", "c"])
    web = cluster.run("web", make_logic)
    cluster.never_more_than(12, of=web)
    cluster.until(lambda: web.count() == 12)
    cluster.kill("agent-2")
    cluster.advance("80s")

Nothing sleeps: `advance` jumps from deadline to deadline, so a day of cluster life takes milliseconds, and the same
calls give the same trace.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

from runrig.agents import AgentInfo
from runrig.errors import Conflict, InvalidInput, NotFound
from runrig.ids import AgentId, FrameworkId, Role, checked_role
from runrig.offers import FrameworkInfo
from runrig.raw import RawLogic
from runrig.resources import Resources
from runrig.scheduler import SchedulerSettings
from runrig.testing.agents import SimulatedAgent
from runrig.testing.assertions import ALL, Always, AtMost, Key, by_name
from runrig.testing.faults import REPAIRABLE, Climate, Fault, Process, Storm, storm
from runrig.testing.frameworks import SimulatedFramework
from runrig.testing.masters import SimulatedMaster, SimulatedStore
from runrig.testing.network import Network, Weather
from runrig.testing.recording import AnyLogic
from runrig.testing.runtimes import Script, TaskKey, Truth, running
from runrig.testing.story import told
from runrig.testing.world import World
from runrig_agent.core.policy import Policy
from runrig_master.core.commands import Note
from runrig_master.core.master import Master
from runrig_master.core.settings import CoreSettings

MASTER = "master"
Who = str | SimulatedAgent | SimulatedFramework | SimulatedMaster
"""A framework, an agent or a master: the object, or its name."""
Way = Literal["both", "out", "in"]
"""Which way a cut is: of all that it says and is told, of what it says, of what it is told."""


class Cluster:
    """A simulated cluster; without faults everything is done at once."""

    def __init__(
        self, settings: CoreSettings = CoreSettings(), seed: int = 0, masters: Sequence[str] = (MASTER,)
    ) -> None:
        """Start the first of `masters`; `seed` is where all chance comes from."""
        self.world = World(seed)
        self.truth = Truth()
        self.network = Network(self.world, 0.8 * settings.silence_timeout_s, settings.silence_timeout_s)
        self.store = SimulatedStore(self.world)
        self.masters = {name: SimulatedMaster(self.world, self.network, name, self.store, settings) for name in masters}
        self.all_agents: dict[str, SimulatedAgent] = {}
        self.frameworks: dict[str, SimulatedFramework] = {}
        self._policy = Policy(tuple(masters))
        self.masters[masters[0]].start()

    # Building

    def agents(
        self,
        count: int,
        resources: str = "cpus:4;mem:8G;ports:[31000-31999]",
        script: Script = running,
        **attributes: Sequence[str],
    ) -> list[SimulatedAgent]:
        """Add agents `agent-1` …; each attribute names the values that they take in turn."""
        made = []
        for index in range(count):
            name = f"agent-{len(self.all_agents) + 1}"
            pairs = tuple((key, values[index % len(values)]) for key, values in attributes.items())
            info = AgentInfo(AgentId(name), name, Resources.parse(resources), attributes=pairs)
            agent = SimulatedAgent(self.world, self.network, self.masters, self.truth, info, script, self._policy)
            self.all_agents[name] = agent
            agent.start()
            made.append(agent)
        self.settle()
        return made

    def run(
        self,
        name: str,
        logic: AnyLogic | Callable[[], AnyLogic],
        roles: Sequence[str] = ("default",),
        failover_timeout: str = "7d",
        settings: SchedulerSettings = SchedulerSettings(),
    ) -> SimulatedFramework:
        """Start a framework with what `logic()` makes anew for each of its processes.

        A `logic` that is made already serves one process: a restart is to forget all that was not durable. Raises
        Conflict when the name is taken.
        """
        if name in self._names():
            raise Conflict(f"{name!r} is there already; taken are: {', '.join(self._names())}")
        checked: tuple[Role, ...] = tuple(checked_role("roles", role) for role in roles)
        info = FrameworkInfo(name, checked, FrameworkId(name), int(seconds(failover_timeout) * 1000))
        make = _maker(name, logic)
        framework = SimulatedFramework(self.world, self.network, self.masters, info, make, settings)
        self.frameworks[name] = framework
        framework.start()
        self.settle()
        return framework

    def agent(self, name: str) -> SimulatedAgent:
        """Return an agent; raise NotFound."""
        if name not in self.all_agents:
            raise NotFound("agent", name, f"there are: {', '.join(self.all_agents) or 'none'}")
        return self.all_agents[name]

    def find(self, who: Who) -> Process:
        """Return whom a name means: a framework, an agent or a master; raise NotFound with the names that there are."""
        if not isinstance(who, str):
            return who
        found = self.frameworks.get(who) or self.all_agents.get(who) or self.masters.get(who)
        if found is None:
            raise NotFound("framework, agent or master", who, f"there are: {', '.join(self._names())}")
        return found

    def _names(self) -> list[str]:
        return [*self.frameworks, *self.all_agents, *self.masters]

    # Time

    @property
    def now(self) -> float:
        """Return the time, in seconds since 1970."""
        return self.world.now

    def advance(self, span: str | float) -> None:
        """Let `span` pass: `90`, `"90s"`, `"5m"`, `"2h"` or `"1d"`."""
        self.world.run_until(self.world.now + seconds(span))

    def until(self, condition: Callable[[], bool], within: str | float = "10m") -> float:
        """Let time pass until `condition` holds; return how long it took, in seconds.

        Fail with the last that happened if it is not within `within`.
        """
        began = self.world.now
        end = began + seconds(within)
        self.settle()
        while not condition():
            due = self.world.next_due
            if due is None or due > end:
                raise AssertionError(
                    f"not within {within} (seed {self.world.seed}); the last that happened:\n{self.story(last=8)}"
                )
            self.world.run_until(due)
        return self.world.now - began

    def settle(self) -> None:
        """Do all that is under way, without letting time pass."""
        self.world.run_until(self.world.now)

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something later."""
        self.world.after(delay_s, action)

    # Faults

    def kill(self, who: Who) -> None:
        """Kill a process as SIGKILL does: what was not durable is lost, an agent's tasks run on."""
        self._told_to("kill", who).kill()
        self.settle()

    def start(self, who: Who) -> None:
        """Start a process that was killed, with what was durable; a master begins a new leadership."""
        self._told_to("start", who).start()
        self.settle()

    def restart(self, who: Who, logic: AnyLogic | None = None) -> None:
        """Kill a process and start it again at once; a framework with `logic`, if that is given."""
        process = self._told_to("restart", who)
        if isinstance(process, SimulatedFramework):
            process.restart(logic)
        elif logic is not None:
            raise InvalidInput("who", process.name, "a framework, as only those have a logic")
        else:
            process.kill()
            process.start()
        self.settle()

    def freeze(self, who: Who) -> None:
        """Stop a process as SIGSTOP does: it says nothing and hears nothing, its streams stay open."""
        self._told_to("freeze", who).freeze()

    def thaw(self, who: Who) -> None:
        """Let a frozen process go on: it hears now what was said to it meanwhile."""
        self._told_to("thaw", who).thaw()
        self.settle()

    def cut(self, who: Who, way: Way = "both") -> None:
        """Hold back what a framework or agent and all masters say to each other, or one `way` of it, until `heal`.

        A master is cut off from all agents and frameworks that there are. As on a real network nobody is told: who
        hears nothing for long enough gives the other up.
        """
        process = self._told_to("cut" if way == "both" else f"cut {way}", who)
        for peer in self._peers(process):
            if way in ("both", "out"):
                self.network.cut(process.name, peer)
            if way in ("both", "in"):
                self.network.cut(peer, process.name)

    def heal(self, who: Who) -> None:
        """End all cuts of a process: what was held back arrives."""
        name = self._told_to("heal", who).name
        for sender, receiver in sorted(self.network.cuts):
            if name in (sender, receiver):
                self.network.heal(sender, receiver)
        self.settle()

    def _told_to(self, what: str, who: Who) -> Process:
        process = self.find(who)
        self.world.note("test", what, process.name)
        return process

    def _peers(self, process: Process) -> list[str]:
        return [*self.all_agents, *self.frameworks] if isinstance(process, SimulatedMaster) else list(self.masters)

    @property
    def weather(self) -> Weather:
        """What befalls all that is said: loss, doubling, delay, disorder. Set it; `Weather()` is clear."""
        return self.network.weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        for name in ("loss", "doubling", "echo", "stale"):
            if not 0 <= getattr(weather, name) <= 1:
                raise InvalidInput(f"weather.{name}", getattr(weather, name), "a share, from 0 to 1")
        self.network.weather = weather

    def storm(self, seed: int, lasts: str | float = "5m", climate: Climate = REPAIRABLE) -> tuple[Fault, ...]:
        """Let a storm of faults pass that is drawn from `seed`, repair everything, and return what there was.

        Processes die and are started again, streams are cut and broken, messages lost and doubled, disks fail, clocks
        are wrong. In the end all is up and connected again, or about to be: give it time with `until`. Without a
        `climate`, nothing is lost for good: no agent is marked gone, no framework torn down.
        """
        faults = storm(seed, self, seconds(lasts), climate)
        passing = Storm(self, faults)
        passing.begin()
        self.advance(lasts)
        passing.end()
        self.world.note("storm", "is over")
        self.settle()
        return tuple(faults)

    # What must hold all the time

    def always(self, condition: Callable[[], bool], why: str) -> None:
        """Fail as soon as `condition` does not hold: looked at now and after every single thing that happens.

        The failure says `why`, when, and what led to it.
        """
        Always(self.world, condition, why)

    def never_two_alike(self, key: Key = by_name, of: Who | None = None) -> None:
        """Fail as soon as two tasks with the same key really run at the same time, whatever anybody believes.

        The default key is the task's name. A key may leave tasks out: those for which it returns None.
        """
        AtMost(self.world, self.truth, 1, "never two alike", key, self._framework_of(of))

    def never_more_than(self, most: int, of: Who | None = None, key: Key = lambda _: ALL) -> None:
        """Fail as soon as more than `most` tasks really run at the same time: of a framework, or of each key."""
        AtMost(self.world, self.truth, most, f"never more than {most}", key, self._framework_of(of))

    def _framework_of(self, who: Who | None) -> FrameworkId | None:
        process = self.find(who) if who is not None else None
        if process is not None and not isinstance(process, SimulatedFramework):
            raise InvalidInput("of", process.name, f"a framework: {', '.join(self.frameworks) or 'none runs yet'}")
        return None if process is None else process.info.framework_id

    def story(self, of: Who | None = None, last: int = 20) -> str:
        """Tell the last that happened: to all, or what mentions one name: a process's, a task's or an agent's."""
        name = of if of is None or isinstance(of, str) else of.name
        word = None if name is None else re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w-])")
        lines: list[str] = []
        for entry in reversed(self.world.trace):
            line = told(entry)
            if word is None or word.search(line):
                lines.append(line)
            if len(lines) == last:
                break
        return "\n".join(reversed(lines))

    # Ground truth

    @property
    def leader(self) -> SimulatedMaster:
        """Return the master that leads."""
        up = [each for each in self.masters.values() if each.is_up]
        assert up, "no master is up: start one"
        return max(up, key=lambda each: each.epoch)

    @property
    def master(self) -> Master:
        """Return the core of the master that leads, to look at."""
        return self.leader.core

    @property
    def notes(self) -> list[Note]:
        """Return what the masters told their logs."""
        return [note for master in self.masters.values() for note in master.notes]

    @property
    def starts(self) -> list[TaskKey]:
        """Return every start of a task on any agent."""
        return self.truth.starts

    @property
    def running(self) -> list[TaskKey]:
        """Return all that really runs."""
        return [task.key for task in self.truth.running()]

    def nothing_started_twice(self) -> bool:
        """Say whether no task was started twice."""
        return len(set(self.starts)) == len(self.starts)


def _maker(name: str, logic: AnyLogic | Callable[[], AnyLogic]) -> Callable[[], AnyLogic]:
    is_made = not isinstance(logic, type) and (isinstance(logic, RawLogic) or hasattr(logic, "restore"))
    if not is_made:
        return logic  # type: ignore[return-value]
    unused: list[AnyLogic] = [logic]  # type: ignore[list-item]

    def make() -> AnyLogic:
        if not unused:
            raise InvalidInput(
                "logic",
                logic,
                f"a function that makes it, as {name} starts a second time, knowing only "
                "what was durable: run(name, MyLogic), or restart(name, MyLogic())",
            )
        return unused.pop()

    return make


_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?\Z")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def seconds(span: str | float) -> float:
    """Read `90`, `"90s"`, `"5m"`, `"2h"`, `"1d"` as seconds."""
    match = _SPAN.match(str(span))
    if match is None:
        raise InvalidInput("span", span, "a number of seconds, or one with s, m, h or d behind it")
    return float(match[1]) * _SECONDS[match[2] or "s"]
