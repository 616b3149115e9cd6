"""A master's core with a disk, agents and schedulers to speak for, and a checker that trusts nothing.

`given(agent("a1"), framework("f"))` returns a `World`. What is told to it is one turn of the master's loop: the events,
then a tick. Everything that comes back is checked against what the world itself remembers (`witness.py`), and the books
of the core against their sums (`books.py`), so that every test of every rule is also a test of the invariants.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from runrig.agents import AgentInfo, Launch, Order, Register, Report, TaskReport
from runrig.demand import Demand
from runrig.errors import RunrigError
from runrig.ids import AgentId, FrameworkId, OfferId, Role, TaskId
from runrig.offers import (
    Accept,
    Acknowledge,
    Acknowledgement,
    Call,
    CallRefused,
    Decline,
    Filter,
    FrameworkInfo,
    InverseOffer,
    InverseOffersEnded,
    InverseOffersMade,
    LaunchGroup,
    LaunchTasks,
    News,
    Offer,
    OffersMade,
    OffersRescinded,
    RescindReason,
    StreamRefused,
    Subscribe,
    TasksRecovering,
    TasksUpdated,
    UpdateDemand,
)
from runrig.reservations import Unavailability
from runrig.resources import Resources, parse_ports
from runrig.tasks import Command as Program
from runrig.tasks import Reason, StatusUpdate, TaskSpec, TaskState
from runrig_master.core.commands import (
    AnswerOperator,
    CloseStream,
    Command,
    Forget,
    Note,
    Persist,
    Record,
    SendToAgent,
    SendToScheduler,
)
from runrig_master.core.events import (
    AgentReported,
    AgentStreamClosed,
    DeactivationAsked,
    DrainAsked,
    Event,
    GoneAsked,
    KillTaskAsked,
    OperatorEvent,
    QuestionId,
    QuotasAsked,
    RoleOffersAsked,
    SchedulerCalled,
    SchedulerStreamClosed,
    StreamId,
    TeardownAsked,
    Tick,
    UnavailabilityAsked,
    WeightAsked,
)
from runrig_master.core.master import Master
from runrig_master.core.quotas import RoleQuota
from runrig_master.core.settings import CoreSettings
from runrig_master.records_grpc import key_of
from tests.master.core.books import check_books
from tests.master.core.witness import Witness

T = TypeVar("T")

START = 1_000_000.0
F = FrameworkId("f")
SETTINGS = CoreSettings()
DEFAULT_FILTER = Filter()
NO_FILTER = Filter(0)
RUNNING = TaskState.TASK_RUNNING
FINISHED = TaskState.TASK_FINISHED


def agent(
    name: str = "a1",
    cpus: float = 4,
    mem_mib: int = 4096,
    ports: str = "",
    attributes: tuple[tuple[str, str], ...] = (),
    gpus: int = 0,
    disk_mib: int = 0,
    custom: tuple[tuple[str, int], ...] = (),
) -> AgentInfo:
    """Describe an agent."""
    amounts = Resources(round(cpus * 1000), mem_mib, disk_mib, gpus, parse_ports("ports", ports), custom)
    return AgentInfo(AgentId(name), f"host-{name}", amounts, f"{name}:5051", attributes=attributes)


def framework(name: str = "f", *roles: str, timeout_s: float = 3600.0, principal: str = "") -> FrameworkInfo:
    """Describe a framework; its role has its name unless others are given."""
    named = tuple(Role(role) for role in roles or (name,))
    return FrameworkInfo(name, named, FrameworkId(name), int(timeout_s * 1000), principal)


def task(task_id: str = "t", cpus: float = 1, mem_mib: int = 128, ports: str = "") -> TaskSpec:
    """Describe a task."""
    amounts = Resources(round(cpus * 1000), mem_mib, ports=parse_ports("ports", ports))
    return TaskSpec(TaskId(task_id), amounts, task_id, command=Program(shell="true"))


def said(
    task_id: str = "t",
    state: TaskState = RUNNING,
    number: int = 1,
    agent_id: str = "a1",
    framework_id: str = F,
    reason: Reason = Reason.NONE,
) -> StatusUpdate:
    """Say something of a task, as its agent."""
    return StatusUpdate(FrameworkId(framework_id), TaskId(task_id), AgentId(agent_id), number, state, reason)


def found(
    task_id: str = "t",
    state: TaskState = RUNNING,
    number: int = 1,
    agent_id: str = "a1",
    framework_id: str = F,
    cpus: float = 1,
    ports: str = "",
) -> TaskReport:
    """Say that a returning agent has a task."""
    spec = task(task_id, cpus, ports=ports)
    status = said(task_id, state, number, agent_id, framework_id)
    return TaskReport(status.framework_id, spec.task_id, spec.name, Role(framework_id), spec.resources, (), status)


def receipt(task_id: str = "t", number: int = 1, agent_id: str = "a1") -> Acknowledge:
    """Say that updates of a task up to `number` were received."""
    return Acknowledge((Acknowledgement(TaskId(task_id), AgentId(agent_id), number),))


def launch_on(offers: Offer | Iterable[Offer], *specs: TaskSpec, is_group: bool = False) -> LaunchGroup:
    """Build a launch group on offers of one agent."""
    offers = [offers] if isinstance(offers, Offer) else list(offers)
    operations = (LaunchTasks(specs, is_group),) if specs else ()
    return LaunchGroup(offers[0].agent_id, tuple(offer.offer_id for offer in offers), operations)


def demand(demand_id: str, cpus: float = 1, count: int = 1) -> Demand:
    """Describe a demand."""
    return Demand(demand_id, Resources(round(cpus * 1000), 128), count)


class World:
    """One master, its disk, and the ends of its streams."""

    def __init__(self, settings: CoreSettings = SETTINGS) -> None:
        self.settings = settings
        self.now = START
        self.epoch = 1
        self.disk: dict[str, Record] = {}
        self.witness = Witness(settings)
        self.streams: dict[str, StreamId] = {}
        self.sessions: dict[str, int] = {}
        self.infos: dict[str, FrameworkInfo] = {}
        self.played: list[tuple[Event, float]] = []
        self.answered: list[list[Command]] = []
        self._next_stream = 0
        self._next_question = 0
        self.begin()

    # The master's process

    def begin(self) -> None:
        """Start a master from what the disk holds."""
        self.first_records = tuple(self.disk.values())
        self.first_now = self.now
        self.master = self.fresh_master()
        self.played.clear()
        self.answered.clear()

    def fresh_master(self) -> Master:
        """Build a master as this one was at its beginning."""
        return Master("c1", self.epoch, self.settings, self.first_records, self.first_now)

    def restart(self, after: float = 0.0) -> list[Command]:
        """Kill the master, all streams with it, and let another lead."""
        self.now += after
        self.epoch += 1
        self.streams.clear()
        self.witness.master_died(self.epoch)
        self.begin()
        return self.turn()

    def turn(self, *events: Event, after: float = 0.0) -> list[Command]:
        """Tell events and a tick, `after` seconds later than the last."""
        self.now += after
        commands: list[Command] = []
        for event in (*events, Tick()):
            commands.extend(self.handle(event))
            check_books(self.master.cluster)
        return commands

    def handle(self, event: Event) -> list[Command]:
        """Tell one event, without the tick that ends a turn."""
        self.witness.tell(event, self.now)
        commands = self.master.handle(event, self.now)
        self.played.append((event, self.now))
        self.answered.append(list(commands))
        for command in commands:
            if isinstance(command, Persist):
                for record in command.records:
                    self._write(record)
            self.witness.see(command, self.disk, self.now)
        self.witness.settle(self.now)
        return commands

    def _write(self, record: Record | Forget) -> None:
        if isinstance(record, Forget):
            del self.disk[key_of(record)]
        else:
            self.disk[key_of(record)] = record

    def assert_replays(self) -> None:
        """Tell a fresh master what this one was told: it must answer the same (errors are compared by their text)."""
        fresh = self.fresh_master()
        for (event, now), before in zip(self.played, self.answered, strict=True):
            assert repr(fresh.handle(event, now)) == repr(before), f"{event} had another answer"

    # Agents

    def connect(
        self, info: AgentInfo, *tasks: TaskReport, after: float = 0.0, session: int | None = None
    ) -> list[Command]:
        """Let an agent open a stream and register with the tasks it has."""
        return self.turn(self.registration(info, *tasks, session=session), after=after)

    def registration(self, info: AgentInfo, *tasks: TaskReport, session: int | None = None, epoch: int = 0) -> Event:
        """Return the event of an agent's first report on a new stream."""
        session = session if session is not None else self.sessions.get(info.agent_id, 0) + 1
        self.sessions[info.agent_id] = max(session, self.sessions.get(info.agent_id, 0))
        return AgentReported(self.new_stream(info.agent_id), Register(info, session, epoch, tasks))

    def report(self, *reports: Report, by: str = "a1", after: float = 0.0) -> list[Command]:
        """Let an agent report."""
        return self.turn(*(AgentReported(self.streams[by], report) for report in reports), after=after)

    def lose_agent(self, name: str = "a1", after: float = 0.0) -> list[Command]:
        """Break an agent's stream, on which it was heard until now."""
        self.now += after
        return self.turn(AgentStreamClosed(self.streams.pop(name), self.now))

    # Schedulers

    def subscribe(
        self,
        info: FrameworkInfo,
        after: float = 0.0,
        session: int | None = None,
        suppressed: tuple[str, ...] = (),
        uses_demand: bool = False,
    ) -> list[Command]:
        """Let a scheduler open a stream and subscribe."""
        return self.turn(self.subscription(info, session, suppressed, uses_demand), after=after)

    def subscription(
        self,
        info: FrameworkInfo,
        session: int | None = None,
        suppressed: tuple[str, ...] = (),
        uses_demand: bool = False,
    ) -> SchedulerCalled:
        """Return the event of a scheduler's first call on a new stream."""
        name = info.framework_id or info.name
        session = session if session is not None else self.sessions.get(f"f/{name}", 0) + 1
        self.sessions[f"f/{name}"] = max(session, self.sessions.get(f"f/{name}", 0))
        self.infos[name] = info
        call = Subscribe(info, session, tuple(Role(role) for role in suppressed), uses_demand)
        return SchedulerCalled(self.new_stream(f"f/{name}"), call, FrameworkId(f"fresh-{name}"))

    def call(self, *calls: Call, by: str = F, after: float = 0.0) -> list[Command]:
        """Let a scheduler call."""
        return self.turn(*(SchedulerCalled(self.stream(by), call) for call in calls), after=after)

    def want(self, *demands: Demand, by: str = F, role: str = "", after: float = 0.0) -> list[Command]:
        """Let a framework say what it wants in its first role, or another; it subscribes if it has not yet."""
        if f"f/{by}" not in self.streams:
            self.handle(self.subscription(framework(by, role or by), uses_demand=True))
        return self.call(UpdateDemand(Role(role or self.infos[by].roles[0]), demands), by=by, after=after)

    def lose_framework(self, name: str = F, after: float = 0.0) -> list[Command]:
        """Break a scheduler's stream."""
        return self.turn(SchedulerStreamClosed(self.streams.pop(f"f/{name}")), after=after)

    def accept(
        self,
        *groups: LaunchGroup,
        by: str = F,
        filter_: Filter = DEFAULT_FILTER,
        atomic: bool = False,
        after: float = 0.0,
    ) -> list[Command]:
        """Let a scheduler accept offers."""
        return self.call(Accept(groups, atomic, filter_), by=by, after=after)

    def acceptance(self, *groups: LaunchGroup, by: str = F, atomic: bool = False) -> Event:
        """Return the event of an Accept."""
        return SchedulerCalled(self.stream(by), Accept(groups, atomic))

    def decline(
        self, *offers: Offer, by: str = F, filter_: Filter = DEFAULT_FILTER, after: float = 0.0
    ) -> list[Command]:
        """Let a scheduler decline offers."""
        return self.call(Decline(tuple(offer.offer_id for offer in offers), filter_), by=by, after=after)

    def run(self, *specs: TaskSpec, by: str = F) -> list[Command]:
        """Launch tasks on all that `by` has been offered of one agent, keeping what is left for the next offer."""
        self.turn()
        offers = self.offers(by)
        mine = [offer for offer in offers if offer.agent_id == offers[0].agent_id]
        return self.accept(launch_on(mine, *specs), by=by, filter_=NO_FILTER)

    # Operators

    def deactivate(self, name: str = "a1") -> list[Command]:
        """Let an operator stop an agent's offers."""
        return self.turn(DeactivationAsked(self.question(), AgentId(name), True))

    def reactivate(self, name: str = "a1") -> list[Command]:
        """Let an operator resume an agent's offers."""
        return self.turn(DeactivationAsked(self.question(), AgentId(name), False))

    def mark_gone(self, name: str = "a1") -> list[Command]:
        """Let an operator mark an agent gone."""
        return self.turn(GoneAsked(self.question(), AgentId(name)))

    def drain(
        self, name: str = "a1", notice_ms: int | None = None, grace_ms: int | None = None, then_gone: bool = False
    ) -> list[Command]:
        """Let an operator empty an agent."""
        return self.turn(DrainAsked(self.question(), AgentId(name), notice_ms, grace_ms, then_gone))

    def plan_absence(self, window: Unavailability | None, *names: str) -> list[Command]:
        """Let an operator say when agents (by default a1) will be away."""
        agent_ids = tuple(AgentId(name) for name in names or ("a1",))
        return self.turn(UnavailabilityAsked(self.question(), agent_ids, window))

    def tear_down(self, name: str = F) -> list[Command]:
        """Let an operator remove a framework."""
        return self.turn(TeardownAsked(self.question(), FrameworkId(name)))

    def kill_as_operator(self, task_id: str, name: str = F, grace_ms: int | None = None) -> list[Command]:
        """Let an operator kill a task."""
        return self.turn(KillTaskAsked(self.question(), FrameworkId(name), TaskId(task_id), grace_ms))

    def weigh(self, role: str, weight_millis: int) -> list[Command]:
        """Let an operator set a weight."""
        return self.turn(WeightAsked(self.question(), Role(role), weight_millis))

    def set_quotas(self, *quotas: RoleQuota, is_forced: bool = False) -> list[Command]:
        """Set limits and guarantees as an operator."""
        return self.turn(QuotasAsked(self.question(), quotas, is_forced))

    def set_offers(self, role: str, is_optimistic: bool) -> list[Command]:
        """Make the offers of a role optimistic, or exclusive, as an operator."""
        return self.turn(RoleOffersAsked(self.question(), Role(role), is_optimistic))

    def ask(self, event: OperatorEvent) -> list[Command]:
        """Let an operator ask anything."""
        return self.turn(event)

    def question(self) -> QuestionId:
        """Return a fresh question."""
        self._next_question += 1
        return QuestionId(self._next_question)

    # Words

    def new_stream(self, name: str = "") -> StreamId:
        """Open a stream for an agent (`a1`), a framework (`f/f`) or nobody."""
        self._next_stream += 1
        stream = StreamId(self._next_stream)
        if name:
            self.streams[name] = stream
        return stream

    def stream(self, name: str = F) -> StreamId:
        """Return a framework's stream."""
        return self.streams[f"f/{name}"]

    def offers(self, by: str = F) -> list[Offer]:
        """Return what a framework has been offered and has not ended, as the witness saw it."""
        return [offer for owner, offer in self.witness.offers.values() if owner == by]

    def to(self, name: str, commands: Iterable[Command]) -> list[Command]:
        """Return what is sent to an agent or a framework."""
        mine = {self.streams.get(name), self.streams.get(f"f/{name}")}
        kinds = (SendToAgent, SendToScheduler, CloseStream)
        return [command for command in commands if isinstance(command, kinds) and command.stream in mine]


def given(*members: AgentInfo | FrameworkInfo, settings: CoreSettings = SETTINGS) -> World:
    """Return a world with agents and frameworks that are connected; nothing is offered before its first turn."""
    world = World(settings)
    for member in members:
        world.handle(world.registration(member) if isinstance(member, AgentInfo) else world.subscription(member))
    return world


def running(*specs: TaskSpec, on: AgentInfo | None = None) -> World:
    """Return a world in which framework f runs tasks on one agent; each has said that it runs, as number 1."""
    world = given(on or agent(), framework())
    world.run(*specs)
    world.report(*(said(spec.task_id) for spec in specs), by=(on or agent()).agent_id)
    return world


def of(kind: type[T], commands: Iterable[object]) -> list[T]:
    """Return the commands of one kind."""
    return [command for command in commands if isinstance(command, kind)]


def news(commands: Iterable[Command]) -> list[News]:
    """Return all that schedulers are told, in order."""
    return [command.news for command in of(SendToScheduler, commands)]


def orders(commands: Iterable[Command]) -> list[Order]:
    """Return all that agents are told, in order."""
    return [command.order for command in of(SendToAgent, commands)]


def offers_in(commands: Iterable[Command]) -> list[Offer]:
    """Return the offers made."""
    return [offer for made in of(OffersMade, news(commands)) for offer in made.offers]


def rescinded(commands: Iterable[Command]) -> list[tuple[OfferId, RescindReason]]:
    """Return the offers taken back, and why."""
    return [(offer_id, item.reason) for item in of(OffersRescinded, news(commands)) for offer_id in item.offer_ids]


def asked_back(commands: Iterable[Command]) -> list[InverseOffer]:
    """Return the inverse offers made."""
    return [inverse for made in of(InverseOffersMade, news(commands)) for inverse in made.inverse_offers]


def done_with(commands: Iterable[Command]) -> list[str]:
    """Return the inverse offers that frameworks are told have ended."""
    return [id_ for ended in of(InverseOffersEnded, news(commands)) for id_ in ended.inverse_offer_ids]


def notes(commands: Iterable[Command]) -> list[str]:
    """Return what the log is told."""
    return [note.text for note in of(Note, commands)]


def updates(commands: Iterable[Command]) -> list[StatusUpdate]:
    """Return the updates that schedulers are sent."""
    return [update for told in of(TasksUpdated, news(commands)) for update in told.updates]


def states(commands: Iterable[Command]) -> list[tuple[str, str, Reason]]:
    """Return task, state and reason of the updates that schedulers are sent."""
    return [(update.task_id, update.state.name, update.reason) for update in updates(commands)]


def launched(commands: Iterable[Command]) -> list[str]:
    """Return the ids of the tasks that agents are told to launch."""
    return [spec.task_id for order in of(Launch, orders(commands)) for spec in order.tasks]


def recovering(commands: Iterable[Command]) -> list[str]:
    """Return the tasks of which no verdict is given yet."""
    return [reference.task_id for item in of(TasksRecovering, news(commands)) for reference in item.tasks]


def refusals(commands: Iterable[Command]) -> list[StreamRefused]:
    """Return why streams are closed."""
    return [command.refusal for command in of(CloseStream, commands)]


def refused_calls(commands: Iterable[Command]) -> list[tuple[str, str]]:
    """Return the calls that were refused, and why."""
    return [(item.call, item.message) for item in of(CallRefused, news(commands))]


def answer(commands: Iterable[Command]) -> RunrigError | None:
    """Return the error that the one operator's call in `commands` is answered with."""
    [command] = of(AnswerOperator, commands)
    return command.error


def alarms(commands: Iterable[Command]) -> list[str]:
    """Return what an operator is alarmed of."""
    return [note.text for note in of(Note, commands) if note.is_alarm]


def shape(offers: Iterable[Offer]) -> list[tuple[str, int]]:
    """Return agent and cpus (in thousandths) of offers."""
    return [(offer.agent_id, offer.resources.cpu_millis) for offer in offers]


def renamed(info: FrameworkInfo, **changes: object) -> FrameworkInfo:
    """Return a framework with changes."""
    return replace(info, **changes)  # type: ignore[arg-type]
