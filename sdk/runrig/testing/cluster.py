"""A whole cluster in one process on a virtual clock: real cores of master and agents, and the SDK's real schedulers.

    cluster = Cluster()
    cluster.agents(3, "cpus:4;mem:8G", rack=["a", "b", "c"])
    web = cluster.run("web", my_logic)
    cluster.until(lambda: web.count() == 12)
    cluster.kill_agent("agent-2")
    cluster.advance("76s")

Nothing sleeps: `advance` jumps from deadline to deadline, so a day of cluster life takes milliseconds, and the same
calls give the same trace.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from runrig.agents import AgentInfo
from runrig.errors import InvalidInput
from runrig.ids import AgentId, FrameworkId, Role, checked_role
from runrig.offers import FrameworkInfo
from runrig.raw import RawLogic
from runrig.resources import Resources
from runrig.scheduler import SchedulerSettings
from runrig.testing.agents import SimulatedAgent
from runrig.testing.frameworks import AnyLogic, SimulatedFramework
from runrig.testing.masters import SimulatedMaster, SimulatedStore
from runrig.testing.network import Network
from runrig.testing.runtimes import Script, TaskKey, Truth, running
from runrig.testing.world import World
from runrig_agent.core.policy import Policy
from runrig_master.core.commands import Note
from runrig_master.core.master import Master
from runrig_master.core.settings import CoreSettings

MASTER = "master"


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

    def agent(self, name: str) -> SimulatedAgent:
        """Return an agent."""
        return self.all_agents[name]

    def run(
        self,
        name: str,
        logic: AnyLogic | Callable[[], AnyLogic],
        roles: Sequence[str] = ("default",),
        failover_timeout: str = "7d",
        settings: SchedulerSettings = SchedulerSettings(),
    ) -> SimulatedFramework:
        """Start a framework with `logic`, or with what `logic()` makes anew for each of its processes."""
        checked: tuple[Role, ...] = tuple(checked_role("roles", role) for role in roles)
        info = FrameworkInfo(name, checked, FrameworkId(name), int(seconds(failover_timeout) * 1000))
        make = _maker(logic)
        framework = SimulatedFramework(self.world, self.network, self.masters, info, make, settings)
        self.frameworks[name] = framework
        framework.start()
        self.settle()
        return framework

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

        Fail if it is not within `within`.
        """
        began = self.world.now
        end = began + seconds(within)
        self.settle()
        while not condition():
            due = self.world.next_due
            assert due is not None, "nothing will ever happen again"
            assert due <= end, f"not within {within}"
            self.world.run_until(due)
        return self.world.now - began

    def settle(self) -> None:
        """Do all that is under way, without letting time pass."""
        self.world.run_until(self.world.now)

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something later."""
        self.world.after(delay_s, action)

    # Faults

    def kill_agent(self, name: str) -> None:
        """Kill an agent's process."""
        self.all_agents[name].kill()
        self.settle()

    def kill_master(self) -> None:
        """Kill the master that leads: all streams break; what it had persisted stays."""
        for master in self.masters.values():
            master.kill()
        self.settle()

    def start_master(self, name: str = "") -> None:
        """Start a master on what was persisted; agents and schedulers come back by themselves."""
        self.masters[name or next(iter(self.masters))].start()
        self.settle()

    # Ground truth

    @property
    def leader(self) -> SimulatedMaster:
        """Return the master that leads."""
        return max((each for each in self.masters.values() if each.is_up), key=lambda each: each.epoch)

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


def _maker(logic: AnyLogic | Callable[[], AnyLogic]) -> Callable[[], AnyLogic]:
    is_made = not isinstance(logic, type) and (isinstance(logic, RawLogic) or hasattr(logic, "restore"))
    return (lambda: logic) if is_made else logic  # type: ignore[return-value]


_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?\Z")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def seconds(span: str | float) -> float:
    """Read `90`, `"90s"`, `"5m"`, `"2h"`, `"1d"` as seconds."""
    match = _SPAN.match(str(span))
    if match is None:
        raise InvalidInput("span", span, "a number of seconds, or one with s, m, h or d behind it")
    return float(match[1]) * _SECONDS[match[2] or "s"]
