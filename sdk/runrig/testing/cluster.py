"""A whole cluster in one process on a virtual clock: the master's real core, scripted agents, real schedulers.

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

import heapq
import re
from collections import deque
from collections.abc import Callable, Sequence

from runrig.agents import AgentInfo, Order, Report
from runrig.errors import InvalidInput
from runrig.ids import AgentId, FrameworkId, Role, checked_role
from runrig.offers import Call, FrameworkInfo, News
from runrig.raw import RawLogic
from runrig.resources import Resources
from runrig.session import EnvelopeCame
from runrig.tasks import RuntimeKind
from runrig.testing.agents import Script, ScriptedAgent, TaskKey, running
from runrig.testing.frameworks import SimulatedFramework
from runrig.wants import Logic
from runrig_master.core.commands import (
    AgentRecord,
    CloseStream,
    Command,
    Forget,
    FrameworkRecord,
    Note,
    Persist,
    Record,
    SendToAgent,
    SendToScheduler,
)
from runrig_master.core.events import (
    AgentReported,
    AgentStreamClosed,
    Event,
    SchedulerCalled,
    SchedulerStreamClosed,
    StreamId,
    Tick,
)
from runrig_master.core.master import Master
from runrig_master.core.settings import CoreSettings

START = 1_000_000_000.0
MOST_STEPS = 1_000_000
"""Steps without the clock moving after which something goes round in circles."""


class Cluster:
    """A simulated cluster."""

    def __init__(self, settings: CoreSettings = CoreSettings()) -> None:
        self.now = START
        self.notes: list[Note] = []
        """What the master told its log."""
        self.master_is_up = True
        self._settings = settings
        self.epoch = 1
        self._records: dict[str, Record] = {}
        self._master = Master("simulated", 1, settings)
        self._agents: dict[str, ScriptedAgent] = {}
        self._frameworks: list[SimulatedFramework] = []
        self._agent_streams: dict[int, ScriptedAgent] = {}
        self._scheduler_streams: dict[int, SimulatedFramework] = {}
        self._next_stream = 0
        self._queue: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._next_timer = 0
        self._events: list[Event] = []

    # Building

    def agents(
        self,
        count: int,
        resources: str = "cpus:4;mem:8G;ports:[31000-31999]",
        script: Script = running,
        **attributes: Sequence[str],
    ) -> list[ScriptedAgent]:
        """Add agents `agent-1` …; each attribute names the values that they take in turn."""
        made = []
        for index in range(count):
            name = f"agent-{len(self._agents) + 1}"
            pairs = tuple((key, values[index % len(values)]) for key, values in attributes.items())
            runtimes = (RuntimeKind.PROCESS, RuntimeKind.DOCKER)
            info = AgentInfo(AgentId(name), name, Resources.parse(resources), attributes=pairs, runtimes=runtimes)
            agent = self._agents[name] = ScriptedAgent(self, info, script)
            agent.connect()
            made.append(agent)
        self.settle()
        return made

    def agent(self, name: str) -> ScriptedAgent:
        """Return an agent."""
        return self._agents[name]

    def run(
        self, name: str, logic: Logic | RawLogic, roles: Sequence[str] = ("default",), failover_timeout: str = "7d"
    ) -> SimulatedFramework:
        """Start a framework with `logic`."""
        checked: tuple[Role, ...] = tuple(checked_role("roles", role) for role in roles)
        info = FrameworkInfo(name, checked, FrameworkId(name), int(seconds(failover_timeout) * 1000))
        framework = SimulatedFramework(self, info, logic)
        self._frameworks.append(framework)
        framework.start()
        self.settle()
        return framework

    # Time

    def advance(self, span: str | float) -> None:
        """Let `span` pass: `90`, `"90s"`, `"5m"`, `"2h"` or `"1d"`."""
        end = self.now + seconds(span)
        self.settle()
        while (due := self._next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self._fire_timers()
            self._turn_all()
            self.settle()
        self.now = end
        self._turn_all()
        self.settle()

    def until(self, condition: Callable[[], bool], within: str | float = "10m") -> float:
        """Let time pass until `condition` holds; return how long it took, in seconds.

        Fail if it is not within `within`.
        """
        began = self.now
        end = began + seconds(within)
        self.settle()
        while not condition():
            due = self._next_deadline()
            assert due is not None, "nothing will ever happen again"
            assert due <= end, f"not within {within}"
            self.now = max(self.now, due)
            self._fire_timers()
            self._turn_all()
            self.settle()
        return self.now - began

    def settle(self) -> None:
        """Deliver all messages that are under way, without letting time pass."""
        for _ in range(MOST_STEPS):
            if self._queue:
                self._queue.popleft()()
            elif self._events:
                self._master_turn()
            else:
                return
        raise AssertionError(f"{MOST_STEPS} messages and no end: somebody answers an answer")

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something later."""
        self._next_timer += 1
        heapq.heappush(self._timers, (self.now + delay_s, self._next_timer, action))

    def soon(self, action: Callable[[], None]) -> None:
        """Do something as soon as what is under way has been delivered."""
        self._queue.append(action)

    # Faults

    def kill_agent(self, name: str) -> None:
        """Kill an agent's process."""
        self._agents[name].kill()
        self.settle()

    def kill_master(self) -> None:
        """Kill the master: all streams break; what it had persisted stays."""
        self.master_is_up = False
        self._events.clear()
        for stream, agent in list(self._agent_streams.items()):
            agent.stream_closed(stream)
        for stream, framework in list(self._scheduler_streams.items()):
            framework.stream_closed(stream)
        self._agent_streams.clear()
        self._scheduler_streams.clear()
        self.settle()

    def start_master(self) -> None:
        """Start a master again on what was persisted; agents and schedulers come back by themselves."""
        self.epoch += 1
        self._master = Master("simulated", self.epoch, self._settings, list(self._records.values()), self.now)
        self.master_is_up = True
        for agent in self._agents.values():
            self.after(0.5, agent.connect)
        self.settle()

    # Ground truth

    @property
    def master(self) -> Master:
        """Return the master's core, to look at."""
        return self._master

    @property
    def starts(self) -> list[TaskKey]:
        """Return every start of a task on any agent."""
        return [key for agent in self._agents.values() for key in agent.starts]

    @property
    def running(self) -> list[TaskKey]:
        """Return all that really runs."""
        return [key for agent in self._agents.values() for key in agent.running]

    def nothing_started_twice(self) -> bool:
        """Say whether no task was started twice."""
        return len(set(self.starts)) == len(self.starts)

    # Streams

    def open_agent_stream(self, agent: ScriptedAgent) -> int:
        """Open a stream from an agent to the master."""
        self._next_stream += 1
        self._agent_streams[self._next_stream] = agent
        return self._next_stream

    def open_scheduler_stream(self, framework: SimulatedFramework) -> int:
        """Open a stream from a scheduler to the master."""
        self._next_stream += 1
        self._scheduler_streams[self._next_stream] = framework
        return self._next_stream

    def break_agent_stream(self, stream: int) -> None:
        """Break an agent's stream."""
        if self._agent_streams.pop(stream, None) is not None:
            self._events.append(AgentStreamClosed(StreamId(stream), self.now))

    def break_scheduler_stream(self, stream: int) -> None:
        """Break a scheduler's stream."""
        if self._scheduler_streams.pop(stream, None) is not None:
            self._events.append(SchedulerStreamClosed(StreamId(stream)))

    def agent_says(self, stream: int, report: Report) -> None:
        """Deliver a report."""
        self._events.append(AgentReported(StreamId(stream), report))

    def scheduler_says(self, stream: int, call: Call) -> None:
        """Deliver a call."""
        self._events.append(SchedulerCalled(StreamId(stream), call))

    # The master

    def _master_turn(self) -> None:
        events, self._events = self._events, []
        if not self.master_is_up:
            return
        commands: list[Command] = []
        for event in events:
            commands.extend(self._master.handle(event, self.now))
        commands.extend(self._master.handle(Tick(), self.now))
        for command in commands:
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        match command:
            case Persist():
                for record in command.records:
                    self._keep(record)
            case SendToAgent():
                self._queue.append(lambda: self._to_agent(command.stream, self.epoch, command.order))
            case SendToScheduler():
                self._queue.append(lambda: self._to_scheduler(command.stream, self.epoch, (command.news,)))
            case CloseStream():
                self._queue.append(lambda: self._close(command))
            case Note():
                self.notes.append(command)
            case _:
                pass

    def _keep(self, record: Record | Forget) -> None:
        match record:
            case AgentRecord():
                self._records[f"agents/{record.agent.agent_id}"] = record
            case FrameworkRecord():
                self._records[f"frameworks/{record.framework.framework_id}"] = record
            case Forget():
                self._records.pop(f"frameworks/{record.framework_id}", None)
            case _:
                self._records[f"roles/{record.role}"] = record

    def _to_agent(self, stream: int, epoch: int, order: Order) -> None:
        agent = self._agent_streams.get(stream)
        if agent is not None:
            agent.heard(stream, epoch, order)

    def _to_scheduler(self, stream: int, epoch: int, news: tuple[News, ...]) -> None:
        framework = self._scheduler_streams.get(stream)
        if framework is not None:
            framework.heard(stream, EnvelopeCame(0, epoch, news))

    def _close(self, command: CloseStream) -> None:
        self._to_scheduler(command.stream, self.epoch, (command.refusal,))
        framework = self._scheduler_streams.pop(command.stream, None)
        if framework is not None:
            framework.stream_closed(command.stream)
        agent = self._agent_streams.pop(command.stream, None)
        if agent is not None:
            agent.stream_closed(command.stream)

    # Deadlines

    def _next_deadline(self) -> float | None:
        dues = [self._timers[0][0] if self._timers else None]
        dues.extend(framework.next_deadline() for framework in self._frameworks)
        if self.master_is_up:
            dues.append(self._master.next_deadline())
        return min((due for due in dues if due is not None), default=None)

    def _fire_timers(self) -> None:
        while self._timers and self._timers[0][0] <= self.now:
            heapq.heappop(self._timers)[2]()

    def _turn_all(self) -> None:
        for framework in self._frameworks:
            due = framework.next_deadline()
            if due is not None and due <= self.now:
                framework.turn()
        self._events.append(Tick())


_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?\Z")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def seconds(span: str | float) -> float:
    """Read `90`, `"90s"`, `"5m"`, `"2h"`, `"1d"` as seconds."""
    match = _SPAN.match(str(span))
    if match is None:
        raise InvalidInput("span", span, "a number of seconds, or one with s, m, h or d behind it")
    return float(match[1]) * _SECONDS[match[2] or "s"]
