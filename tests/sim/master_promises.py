"""What a master must keep to whatever happens, beside its books: receipts, kills, sessions, the store, and no idling.

Each promise is judged from what the master is told and what it commands. Its own memory is looked at only for what
stands there on its own authority: that a task has ended, when a framework will be removed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from runrig.agents import AcknowledgeUpdate, KillTask, Launch, Register, Registered, ShutdownFramework
from runrig.ids import AgentId, FrameworkId, Role, TaskId
from runrig.offers import Accept, Acknowledge, InverseOfferReason, Kill, TasksUpdated
from runrig.tasks import Reason, StatusUpdate
from runrig.testing.masters import SimulatedMaster
from runrig_master.core.commands import (
    AgentRecord,
    Command,
    Forget,
    FrameworkRecord,
    Persist,
    Record,
    SendToAgent,
    SendToScheduler,
)
from runrig_master.core.events import AgentReported, Event, KillTaskAsked, SchedulerCalled, StreamId
from runrig_master.core.quotas import ancestors
from runrig_master.core.state import Agent, Presence
from runrig_master.records_grpc import key_of, record
from tests.sim.checkers import MasterChecker

TaskKey = tuple[FrameworkId, TaskId]


@dataclass(slots=True)
class _Leadership:
    """What one leadership has been told."""

    sessions: dict[AgentId, int] = field(default_factory=dict)
    killed: set[TaskKey] = field(default_factory=set)
    """Tasks that it knew and was asked to kill."""
    written: dict[str, Record | None] = field(default_factory=dict)
    """What its last turn has written."""
    is_committed: bool = False
    atomic: tuple[TaskKey, ...] = ()
    """The tasks of the atomic Accept that it is being told."""
    is_call: bool = False
    """Whether a framework speaks."""
    receipts: dict[TaskKey, int] = field(default_factory=dict)
    """Those that it has just been told, and must pass on."""
    register: Register | None = None
    is_return: bool = False
    """Whether the agent that registers was unreachable."""


class MasterPromises:
    """Watch all masters; `checker` knows what was offered and refused."""

    def __init__(self, checker: MasterChecker) -> None:
        self._checker = checker
        self._leaderships: dict[str, _Leadership] = {}
        self._receipts: dict[TaskKey, int] = {}
        self._asked: set[TaskKey] = set()
        """Tasks of which somebody, at some time, wanted an end."""
        self._final: set[str] = set()
        """Keys of the store of what is gone or removed for good."""
        self._turns = 0
        self.said: list[Callable[[StatusUpdate], None]] = []
        """Called with all updates of agents that a master hears."""

    def begins(self, master: SimulatedMaster) -> None:
        """Begin anew with a leadership."""
        self._leaderships[master.name] = _Leadership()

    def told(self, master: SimulatedMaster, event: Event) -> None:
        """Note what matters later."""
        mine = self._leaderships[master.name]
        if mine.is_committed:
            self._check_store(master, mine)
        mine.atomic, mine.register, mine.is_call = (), None, isinstance(event, SchedulerCalled)
        match event:
            case SchedulerCalled(stream, call):
                framework = master.core.cluster.scheduler_streams.get(stream)
                if framework is not None:
                    self._called(master, framework.id, call)
            case KillTaskAsked():
                self._kill_asked(master, (event.framework_id, event.task_id))
            case AgentReported(_, Register() as register):
                mine.register = register
                agent = master.core.cluster.agents.get(register.agent.agent_id)
                mine.is_return = agent is not None and agent.presence is Presence.UNREACHABLE
            case AgentReported(_, StatusUpdate() as update):
                for check in self.said:
                    check(update)
            case _:
                pass

    def _called(self, master: SimulatedMaster, framework: FrameworkId, call: object) -> None:
        match call:
            case Kill(task_id):
                self._kill_asked(master, (framework, task_id))
            case Accept(groups, is_atomic) if is_atomic:
                atomic = tuple((framework, task.task_id) for group in groups for task in group.tasks)
                self._leaderships[master.name].atomic = atomic
            case Acknowledge(receipts):
                for receipt in receipts:
                    key = (framework, receipt.task_id)
                    self._expect_receipt(master, key, receipt.number)
                    self._receipts[key] = max(receipt.number, self._receipts.get(key, 0))
            case _:
                pass

    def _expect_receipt(self, master: SimulatedMaster, key: TaskKey, number: int) -> None:
        task = master.core.cluster.find_task(key)
        if task is not None and task.acknowledged < number <= task.latest and task.agent.stream is not None:
            self._leaderships[master.name].receipts[key] = number

    def _kill_asked(self, master: SimulatedMaster, key: TaskKey) -> None:
        self._asked.add(key)
        task = master.core.cluster.find_task(key)
        if task is not None and not task.state.is_terminal:
            self._leaderships[master.name].killed.add(key)

    def did(self, master: SimulatedMaster, commands: Sequence[Command]) -> None:
        """Judge what the core answered to the last event."""
        mine = self._leaderships[master.name]
        launched: list[TaskKey] = []
        for command in commands:
            match command:
                case SendToAgent(stream, KillTask() as order):
                    self._check_kill(master, stream, order)
                case SendToAgent(_, AcknowledgeUpdate() as order):
                    self._check_receipt(master, order)
                case SendToAgent(_, Registered()):
                    self._check_registration(master, commands)
                case SendToAgent(stream, Launch() as order):
                    self._check_launch(master, stream, order)
                    launched += [(order.framework_id, task.task_id) for task in order.tasks]
                case Persist():
                    mine.written.update(_written(command))
                case _:
                    pass
        for key, number in mine.receipts.items():
            receipt = AcknowledgeUpdate(*key, number)
            passed_on = [each.order for each in commands if isinstance(each, SendToAgent)]
            assert receipt in passed_on, f"{receipt} is not passed on"
        mine.receipts.clear()
        if launched and mine.atomic:
            assert set(launched) == set(mine.atomic), f"of an atomic accept only {launched} are launched (rule 3)"

    def _check_kill(self, master: SimulatedMaster, stream: StreamId, order: KillTask) -> None:
        if order.reason is Reason.AGENT_DRAINED:
            agent = master.core.cluster.agent_streams[stream]
            drain = self._stored(master, agent.id).drain
            assert drain is not None, f"{order}, and the store knows of no drain of {agent.id}"
            assert drain.deadline <= master.now, f"{order} comes before the deadline of the drain (rule 17)"
        elif order.reason is not Reason.AGENT_FORGOT_TASK:
            key = (order.framework_id, order.task_id)
            assert key in self._asked, f"{key} is killed, and nobody asked for that: {order}"

    def _check_launch(self, master: SimulatedMaster, stream: StreamId, order: Launch) -> None:
        agent = master.core.cluster.agent_streams[stream]
        drain = self._stored(master, agent.id).drain
        assert drain is None, f"{order.tasks[0].task_id} is launched on {agent.id}, which is drained (rule 17)"

    def _stored(self, master: SimulatedMaster, agent_id: AgentId) -> AgentRecord:
        """Return what a master may take for durable of an agent."""
        stored = self._checker.disk(master)[f"agents/{agent_id}"]
        assert isinstance(stored, AgentRecord)
        return stored

    def _check_receipt(self, master: SimulatedMaster, order: AcknowledgeUpdate) -> None:
        """Assert that an agent forgets only what a framework has received, or what is no news to any."""
        key = (order.framework_id, order.task_id)
        framework = master.core.cluster.frameworks.get(order.framework_id)
        is_over = framework is None or order.task_id in framework.ended
        if is_over and not self._leaderships[master.name].is_call:
            return
        receipt = self._receipts.get(key, 0)
        assert order.number <= receipt, f"update {order.number} of {key} is acknowledged, its framework has {receipt}"

    def _check_registration(self, master: SimulatedMaster, commands: Sequence[Command]) -> None:
        mine = self._leaderships[master.name]
        register = mine.register
        assert register is not None, "Registered answers Register"
        agent_id = register.agent.agent_id
        assert register.session > mine.sessions.get(agent_id, -1), f"an overtaken session of {agent_id} is taken up"
        mine.sessions[agent_id] = register.session
        assert register.epoch <= master.epoch, f"{agent_id} has seen epoch {register.epoch}, this is {master.epoch}"
        orders = [command.order for command in commands if isinstance(command, SendToAgent)]
        killed = {(order.framework_id, order.task_id) for order in orders if isinstance(order, KillTask)}
        if mine.is_return:
            self._check_return(master, register, commands)
        for task in register.tasks:
            key = (task.framework_id, task.task_id)
            if task.status.state.is_terminal:
                continue
            if task.framework_id in master.core.cluster.completed:
                shutdown = ShutdownFramework(task.framework_id)
                assert shutdown in orders, f"{key} may run on, and its framework was removed (rule 11)"
            elif key in mine.killed:
                assert key in killed, f"the kill of {key} is forgotten (rule 11)"

    def _check_return(self, master: SimulatedMaster, register: Register, commands: Sequence[Command]) -> None:
        """Assert that frameworks hear of each task that is back in its real state (rule 8)."""
        news = [command.news for command in commands if isinstance(command, SendToScheduler)]
        told = {update.task_id for each in news if isinstance(each, TasksUpdated) for update in each.updates}
        for report in register.tasks:
            framework = master.core.cluster.frameworks.get(report.framework_id)
            if framework is None or framework.stream is None or report.task_id in framework.ended:
                continue
            is_known = framework.tasks[report.task_id].agent.id == register.agent.agent_id
            if is_known and not report.status.state.is_terminal:
                assert report.task_id in told, f"{framework.id} does not hear that {report.task_id} is reachable again"

    def turned(self, master: SimulatedMaster) -> None:
        """Look at what stands after a turn: a part of the agents in turn, and all absent frameworks."""
        mine = self._leaderships[master.name]
        mine.is_committed = bool(mine.written)
        agents = list(master.core.cluster.agents.values())
        self._turns += 1
        if agents:
            self._check_idle(master, agents[self._turns % len(agents)])
            self._check_maintenance(master, agents[self._turns % len(agents)])
        for framework in master.core.cluster.absent.values():
            stored = self._checker.disk(master)[f"frameworks/{framework.id}"]
            assert isinstance(stored, FrameworkRecord)
            assert stored.failover_deadline is not None
            assert framework.failover_deadline is not None
            difference_s = abs(stored.failover_deadline - framework.failover_deadline)
            assert difference_s < 0.01, f"{framework.id} is removed {difference_s} s off its deadline (rule 16)"

    def _check_maintenance(self, master: SimulatedMaster, agent: Agent) -> None:
        """Assert that what is planned with an agent is stored, done in time and known to frameworks."""
        stored = self._stored(master, agent.id)
        assert (agent.drain, agent.unavailability) == (stored.drain, stored.unavailability)
        assert not (agent.is_drained and agent.tasks), f"{agent.id} is said to be drained, and has tasks (rule 17)"
        drain, is_there = agent.drain, agent.presence is Presence.CONNECTED
        alive = [task for task in agent.tasks.values() if not task.state.is_terminal]
        theirs = [task for task in alive if not task.framework.is_completed]
        if drain is not None and is_there and drain.deadline <= master.now:
            left = [task.id for task in theirs if task.kill_reason is None]
            assert not left, f"{left} run on on {agent.id}, past the deadline of its drain (rule 17)"
            assert agent.tasks or agent.is_drained, f"{agent.id} is empty, and not said to be drained"
        elif drain is not None and is_there:
            book = master.core.cluster.inverse_offers
            unasked = [task.id for task in theirs if not book.asks_for(task, InverseOfferReason.DRAIN)]
            assert not unasked, f"nobody is asked for {unasked} on {agent.id}, which is drained (rule 17)"

    def _check_idle(self, master: SimulatedMaster, agent: Agent) -> None:
        """Assert that what is free is on offer, unless all have refused it or want nothing (rules 5 and 7)."""
        for pool in agent.pools.values():
            free = pool.free
            if not (free.cpu_millis or free.mem_mib) or not agent.is_offerable:
                continue
            if pool.claims or master.core.cluster.dirty & pool.bit:
                continue  # it is kept for a gang, or for who is more urgent, for a while; or looked at in the next turn
            takers = [
                taker
                for taker in self._checker.witness(master).takers(agent.id, pool.reservation, free, master.now)
                if not _is_limited(master, taker[1])
            ]
            name = f"{agent.id} {pool.reservation_id}"
            assert not takers, f"{free} is free on {name}, and not offered to {takers[0]} (rule 7)"

    # The store

    def _check_store(self, master: SimulatedMaster, mine: _Leadership) -> None:
        """Assert that a turn's records were stored before the next began, and that what was removed stays so."""
        written, mine.written, mine.is_committed = mine.written, {}, False
        if master.epoch != master._store.epoch:
            return
        for key, expected in written.items():
            value = master._store.entries.get(key)
            found = record(key, value) if value is not None else None
            assert _rounded(found) == _rounded(expected), f"{key} is {found} in the store, and should be {expected}"
            if expected is None:
                self._final.discard(key)
            elif _is_final(expected):
                self._final.add(key)
            else:
                assert key not in self._final, f"{key} was ended for good, and is back: {expected}"


def _is_limited(master: SimulatedMaster, role: Role) -> bool:
    """Say whether a limit may keep a role from what is free; that none does for long, `drills.limit_a_role` sees."""
    settings = master.core.cluster.role_settings
    return any(each in settings and settings[each].limit is not None for each in (role, *ancestors(role)))


def _written(command: Persist) -> dict[str, Record | None]:
    return {key_of(each): None if isinstance(each, Forget) else each for each in command.records}


def _rounded(item: Record | None) -> Record | None:
    """Return a record as the store can have it: in whole milliseconds."""
    match item:
        case AgentRecord():
            return replace(item, since=int(item.since * 1000) / 1000)
        case FrameworkRecord() if item.failover_deadline is not None:
            return replace(item, failover_deadline=int(item.failover_deadline * 1000) / 1000)
        case _:
            return item


def _is_final(item: Record) -> bool:
    return (isinstance(item, AgentRecord) and item.is_gone) or (isinstance(item, FrameworkRecord) and item.is_completed)
