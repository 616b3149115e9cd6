"""An agent, a master and a framework's scheduler, all real cores, in a row; between them two links that tests cut.

What each makes durable is kept as it would be: of the agent's changes that may be lost in a crash some are. Updates,
and the receipts of them, may be lost, doubled and overtaken on the way; all else comes in order, or the link breaks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from runrig import session
from runrig._turn import Persist
from runrig.agents import AcknowledgeUpdate, Order, Report
from runrig.ids import FrameworkId, Role
from runrig.offers import Acknowledge, Call, FrameworkInfo, News, TasksUpdated
from runrig.scheduler import Scheduler, SchedulerCommand, SchedulerEvent, SchedulerSettings, Told, TurnEnded
from runrig.tasks import CheckKind, HealthCheck, RuntimeKind, StatusUpdate
from runrig.wants import Logic, Run, Want
from runrig_agent.core import commands as do
from runrig_agent.core import events
from runrig_agent.core.agent import AgentCore
from runrig_agent.core.memory_checkpoint import MemoryCheckpoint
from runrig_agent.core.policy import Policy
from runrig_agent.core.records import Change, SavedState
from runrig_agent.core.task import TaskEnded, TaskKey, TaskStarted
from runrig_master.core.commands import CloseStream, Command, SendToAgent, SendToScheduler
from runrig_master.core.events import (
    AgentReported,
    AgentStreamClosed,
    Event,
    SchedulerCalled,
    SchedulerStreamClosed,
    StreamId,
)
from runrig_master.core.settings import CoreSettings
from tests.agent.core.given import INFO, START, process
from tests.master.core.cluster import World

AGES = 10.0**7
"""Longer than any history: nobody is given up for being silent."""
POLICY = Policy(masters=("m1:5055",), unacknowledged_updates=4)
FRAMEWORK = FrameworkInfo("f", (Role("eng"),), FrameworkId("f"))
CHECK = HealthCheck(CheckKind.TCP, port=80, grace_ms=0, max_consecutive_failures=0)
E = TypeVar("E")
Item = Report | Order | Call | News


@dataclass
class Link:
    """One connection to the master: what is under way on it in each direction."""

    number: int
    """The session or stream, as the client counts."""
    stream: StreamId
    up: list[Item] = field(default_factory=list)
    down: list[Item] = field(default_factory=list)


class Relay:
    """Three programs, their disks, and the links between them."""

    def __init__(self, logic: Callable[[], Logic]) -> None:
        settings = CoreSettings(silence_timeout_s=AGES, agent_return_timeout_s=AGES, ended_tasks_per_framework=2)
        self.world = World(settings)
        self.world.now = START
        self.journal: list[Change] = []
        """All that the agent wrote; up to `durable` no crash can take it away."""
        self.durable = 0
        self.started: dict[TaskKey, TaskStarted] = {}
        self.ended: dict[TaskKey, TaskEnded] = {}
        self.entries: dict[str, bytes] = {}
        self.starts = 0
        self.agent_link: Link | None = None
        self.scheduler_link: Link | None = None
        self._logic = logic
        self.is_sound = True
        """Nothing has been objected to."""
        self._agent_inbox: list[events.Event] = []
        self._scheduler_inbox: list[SchedulerEvent] = []
        self.start_agent()
        self.start_scheduler()

    @property
    def now(self) -> float:
        """Return the time, which all share."""
        return self.world.now

    # The agent

    def start_agent(self, lost: int = 0) -> None:
        """Kill the agent and start it anew; of what was not said to be durable the last `lost` changes are lost."""
        self.cut_agent()
        del self.journal[max(self.durable, len(self.journal) - lost) :]
        self.durable = len(self.journal)
        disk = MemoryCheckpoint()
        disk.apply(self.journal)
        self.agent = AgentCore(POLICY)
        self.agent_starts(disk.saved())
        self.tell_agent(events.AgentStarted(INFO, disk.saved()))

    def agent_starts(self, saved: SavedState) -> None:
        """Look at what a crash has left."""

    def tell_agent(self, event: events.Event) -> None:
        """Tell the agent, and carry out what it says; what follows at once is told after that."""
        self._agent_inbox.append(event)
        if len(self._agent_inbox) == 1:
            self._drain(self._agent_inbox, self._tell_agent)

    def _tell_agent(self, event: events.Event) -> None:
        commands = self.agent.handle(event, self.now)
        self.agent_said(event, commands)
        for command in commands:
            self._carry_out(command)

    def agent_said(self, event: events.Event, commands: list[do.Command]) -> None:
        """Look at what the agent answers to an event, before it is carried out."""

    def _carry_out(self, command: do.Command) -> None:
        match command:
            case do.Checkpoint(changes, is_barrier):
                self.journal.extend(changes)
                if is_barrier:
                    self.durable = len(self.journal)
            case do.SendReports(session, reports):
                if self.agent_link is not None and self.agent_link.number == session:
                    self.agent_link.up.extend(reports)
            case do.OpenStream(session):
                self.agent_link = Link(session, self.world.new_stream())
                self.tell_agent(events.StreamOpened(session))
            case do.CloseStream():
                self.cut_agent()
            case do.LaunchTask(key):
                assert key not in self.started, f"{key} is started twice"
                self.started[key] = TaskStarted(key, int(self.now * 1000), pid=1)
                self.tell_agent(self.started[key])
            case do.RecoverTasks(kind, keys):
                mine = [key for key in self.started if key in keys and kind is RuntimeKind.PROCESS]
                found = tuple(events.FoundTask(self.started[key], self.ended.get(key)) for key in mine)
                self.tell_agent(events.TasksFound(kind, found))
            case do.StopAgent():
                raise AssertionError(command.why)
            case _:
                pass

    def end_task(self, key: TaskKey, code: int) -> None:
        """Let a task end by itself."""
        self.ended[key] = TaskEnded(key, code, int(self.now * 1000))
        self.tell_agent(self.ended[key])

    def cut_agent(self) -> None:
        """Break the link between agent and master."""
        link, self.agent_link = self.agent_link, None
        if link is not None:
            self.tell_master(AgentStreamClosed(link.stream, self.now))
            self.tell_agent(events.StreamClosed(link.number, "cut", jitter=0.5))

    # The master

    def restart_master(self) -> None:
        """Kill the master, and all links with it; another one leads.

        It cannot know what the last one answered to reconciliations, and passes on updates that led to an end told
        so: frameworks go by the numbers.
        """
        self.world.witness.said.clear()
        agent, scheduler = self.agent_link, self.scheduler_link
        self.agent_link = self.scheduler_link = None
        self._pass_on(self.world.restart())
        if agent is not None:
            self.tell_agent(events.StreamClosed(agent.number, "the master died", jitter=0.5))
        if scheduler is not None:
            self.tell_scheduler(session.StreamClosed(scheduler.number, "the master died"))

    def tell_master(self, *told: Event) -> None:
        """Tell the master, and put on the links what it says."""
        self._pass_on(self.world.turn(*told))

    def _pass_on(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case SendToAgent(stream, order):
                    if self.agent_link is not None and self.agent_link.stream == stream:
                        self.agent_link.down.append(order)
                case SendToScheduler(stream, news):
                    if self.scheduler_link is not None and self.scheduler_link.stream == stream:
                        self.scheduler_link.down.append(news)
                case CloseStream():
                    raise AssertionError(command.refusal.message)
                case _:
                    pass

    # The framework

    def start_scheduler(self) -> None:
        """Kill the framework and start it anew."""
        self.cut_scheduler()
        self.starts += 1
        settings = SchedulerSettings(reconcile_s=AGES)
        self.scheduler = Scheduler(FRAMEWORK, self._logic(), self.entries, self.now, settings)
        self.tell_scheduler(session.Started(self.starts))

    def tell_scheduler(self, event: SchedulerEvent) -> None:
        """Tell the scheduler, end its turn, and carry out what it says; what follows at once is told after that."""
        self._scheduler_inbox.append(event)
        if len(self._scheduler_inbox) == 1:
            self._drain(self._scheduler_inbox, self._tell_scheduler)

    def _tell_scheduler(self, event: SchedulerEvent) -> None:
        self.scheduler_hears(event)
        for command in [*self.scheduler.handle(event, self.now), *self.scheduler.handle(TurnEnded(), self.now)]:
            self._do(command)

    def scheduler_hears(self, event: SchedulerEvent) -> None:
        """Look at what the scheduler is told."""

    def scheduler_receipts(self, call: Acknowledge) -> None:
        """Look at the receipts that the scheduler sends."""

    def _do(self, command: SchedulerCommand) -> None:
        match command:
            case Persist(puts, deletes):
                self.entries.update(puts)
                for key in deletes:
                    self.entries.pop(key, None)
            case session.OpenStream(stream):
                self.scheduler_link = Link(stream, self.world.new_stream())
                self.tell_scheduler(session.StreamOpened(stream))
            case session.Transmit(stream, call):
                if isinstance(call, Acknowledge):
                    self.scheduler_receipts(call)
                if self.scheduler_link is not None and self.scheduler_link.number == stream:
                    self.scheduler_link.up.append(call)
            case session.CloseStream():
                self.cut_scheduler()
            case session.Ended():
                raise AssertionError(command.error)
            case _:
                pass

    def want(self, task_id: str) -> None:
        """Let the framework want one more task."""
        self.tell_scheduler(Told([Run((wanted(task_id),))]))

    def cut_scheduler(self) -> None:
        """Break the link between scheduler and master."""
        link, self.scheduler_link = self.scheduler_link, None
        if link is not None:
            self.tell_master(SchedulerStreamClosed(link.stream))
            self.tell_scheduler(session.StreamClosed(link.number, "cut"))

    def _drain(self, inbox: list[E], tell: Callable[[E], None]) -> None:
        self.is_sound = False  # until all went well
        while inbox:
            tell(inbox[0])
            del inbox[0]
        self.is_sound = True

    # The links

    def queues(self) -> list[list[Item]]:
        """Return what is under way, by link and direction."""
        links = [link for link in (self.agent_link, self.scheduler_link) if link is not None]
        return [queue for link in links for queue in (link.up, link.down)]

    def deliver(self, queue: list[Item]) -> None:
        """Let the next item of a queue arrive."""
        item = queue.pop(0)
        for link, is_agents in ((self.agent_link, True), (self.scheduler_link, False)):
            if link is not None and queue is link.up:
                self.tell_master(_said(link.stream, item, is_agents))
            elif link is not None and queue is link.down and is_agents:
                self.tell_agent(events.OrdersReceived(link.number, self.world.epoch, (item,)))  # type: ignore[arg-type]
            elif link is not None and queue is link.down:
                self.tell_scheduler(session.EnvelopeCame(link.number, self.world.epoch, (item,)))  # type: ignore[arg-type]

    def deliver_all(self) -> None:
        """Let everything arrive, and all that follows from it."""
        while waiting := [queue for queue in self.queues() if queue]:
            self.deliver(waiting[0])

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and each do what is due."""
        self.world.now += seconds
        while (due := self.agent.next_deadline()) is not None and due <= self.now:
            self.tell_agent(events.Tick())
        if (due := self.scheduler.next_deadline()) is not None and due <= self.now:
            self.tell_scheduler(TurnEnded())
        self.tell_master()


def _said(stream: StreamId, item: Item, is_agents: bool) -> Event:
    return AgentReported(stream, item) if is_agents else SchedulerCalled(stream, item)  # type: ignore[arg-type]


def is_lossy(item: Item) -> bool:
    """Say whether an item may be lost, doubled or overtaken: updates with a number, and receipts."""
    if isinstance(item, TasksUpdated):
        return all(update.number for update in item.updates)
    return isinstance(item, StatusUpdate | AcknowledgeUpdate | Acknowledge)


def wanted(task_id: str) -> Want:
    """Describe a task that says much of its health."""
    return Want(process(task_id, cpu_millis=1, checks=(CHECK,)))
