"""Checkers that stand outside the code under test and look after every event."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from runrig.ids import TaskId
from runrig.offers import News, TasksUpdated
from runrig.resources import Resources, merged_ports
from runrig.tasks import Reason, StatusUpdate, TaskState
from runrig.testing import SimulatedAgent, SimulatedFramework
from runrig.testing.masters import SimulatedMaster
from runrig.testing.runtimes import RealTask, Truth
from runrig_agent.core import commands as do
from runrig_agent.core import events as agent_events
from runrig_agent.core.link import LinkPhase
from runrig_agent.core.records import PutTask
from runrig_master.core.commands import Command, Forget, Persist, Record
from runrig_master.core.events import Event
from runrig_master.core.pools import Pool
from runrig_master.core.quotas import is_within
from runrig_master.core.settings import CoreSettings
from runrig_master.core.state import Agent
from runrig_master.records_grpc import key_of
from tests.master.core.books import check_books
from tests.master.core.witness import Witness

ALL_BOOKS_EVERY = 400
"""Turns between two looks at all of the books; those of a few agents are looked at after each."""


class MasterChecker:
    """The witness and the books, over all leaderships."""

    def __init__(self, settings: CoreSettings) -> None:
        self._settings = settings
        self._witnesses: dict[str, Witness] = {}
        self._disks: dict[str, dict[str, Record]] = {}
        """What each leadership may take for durable: what it found, and what it has written since."""
        self._epoch = 0
        self._turns = count(1)

    def begins(self, master: SimulatedMaster) -> None:
        """Expect a greater epoch than ever before."""
        assert master.epoch > self._epoch, "epochs never go back"
        self._epoch = master.epoch
        witness = Witness(self._settings)
        witness.epoch = master.epoch
        self._witnesses[master.name] = witness
        self._disks[master.name] = dict(master.records)

    def witness(self, master: SimulatedMaster) -> Witness:
        """Return the witness of a master's leadership."""
        return self._witnesses[master.name]

    def disk(self, master: SimulatedMaster) -> dict[str, Record]:
        """Return what a master's leadership may take for durable."""
        return self._disks[master.name]

    def told(self, master: SimulatedMaster, event: Event) -> None:
        """Let the witness hear."""
        self._witnesses[master.name].tell(event, master.now)

    def did(self, master: SimulatedMaster, commands: Sequence[Command]) -> None:
        """Let the witness judge what came of it."""
        witness, disk = self._witnesses[master.name], self._disks[master.name]
        for command in commands:
            if isinstance(command, Persist):
                for record in command.records:
                    _write(disk, record)
            witness.see(command, disk, master.now)
        witness.settle(master.now)

    def turned(self, master: SimulatedMaster) -> None:
        """Look at the books: those of some agents in turn, and all of them now and then."""
        turn = next(self._turns)
        agents = list(master.core.cluster.agents.values())
        for place in range(min(3, len(agents))):
            check_agent(agents[(turn * 3 + place) % len(agents)])
        if turn % ALL_BOOKS_EVERY == 0:
            check_books(master.core.cluster)
        due = master.core.next_deadline()
        is_dirty = bool(master.core.cluster.dirty)  # what an optimistic offer left behind is offered in the next turn
        assert due is None or due > master.now or is_dirty, "a master that has turned has nothing left to do at once"


def _write(disk: dict[str, Record], record: Record | Forget) -> None:
    if isinstance(record, Forget):
        disk.pop(key_of(record), None)
    else:
        disk[key_of(record)] = record


def check_agent(agent: Agent) -> None:
    """Assert that what is used, offered, free and the disk of volumes is what there is: in all, and in each pool."""
    if not agent.is_overcommitted:
        parts = [task.resources for task in agent.tasks.values() if not task.state.is_terminal]
        parts += [offer.resources for offer in agent.offers.values() if not offer.is_optimistic]
        parts.append(agent.free)
        parts.append(Resources(disk_mib=sum(record.volume.disk_mib for record in agent.reserves.volumes.values())))
        assert is_whole(agent.info.resources, parts), f"{agent.id}: {agent.info.resources} is not the sum of {parts}"
    for task in agent.tasks.values():
        named = agent.pools.get(task.terms.reservation_id, agent.pools[""])
        assert task.pool is named, f"{task.id} is counted in {task.pool.reservation_id!r}, not as its terms say"
    for pool in agent.pools.values():
        check_pool(pool)


def check_pool(pool: Pool) -> None:
    """Assert the same of one pool, and that its offers are for those whom it is kept for."""
    mine = [task for task in pool.agent.tasks.values() if not task.state.is_terminal and task.pool is pool]
    if not pool.is_overcommitted:
        parts = [task.resources for task in mine]
        parts += [offer.resources for offer in pool.offers.values()]
        parts.append(pool.free)
        assert is_whole(pool.total, parts), f"{pool.agent.id} {pool.reservation_id!r}: {parts} are not {pool.total}"
    for offer in (*pool.offers.values(), *pool.optimistic.values()):
        assert pool.reservation is None or is_within(offer.role, pool.reservation.role)
        users = {volume_id for task in mine for volume_id in task.volume_ids}
        assert not users & {volume.volume_id for volume in offer.volumes}, f"{offer.id} has volumes that tasks use"


def is_whole(whole: Resources, parts: Sequence[Resources]) -> bool:
    """Say whether parts make up a whole, and have no port in common."""
    cpu_millis = mem_mib = disk_mib = gpus = 0
    ports: list[tuple[int, int]] = []
    custom: dict[str, int] = {}
    for part in parts:
        cpu_millis += part.cpu_millis
        mem_mib += part.mem_mib
        disk_mib += part.disk_mib
        gpus += part.gpus
        ports += part.ports
        for name, amount in part.custom:
            custom[name] = custom.get(name, 0) + amount
    amounts = (cpu_millis, mem_mib, disk_mib, gpus)
    return (
        amounts == (whole.cpu_millis, whole.mem_mib, whole.disk_mib, whole.gpus)
        and merged_ports(tuple(sorted(ports))) == merged_ports(whole.ports)
        and custom == dict(whole.custom)
    )


class AgentChecker:
    """Epochs as an agent sees them: they never go back, over all its processes, and only the newest is obeyed."""

    def __init__(self, agent: SimulatedAgent) -> None:
        self._agent = agent
        self._durable = 0
        self._highest = 0
        agent.watchers.append(self)

    def did(self, event: agent_events.Event, commands: Sequence[do.Command]) -> None:
        """See an event and what the core answered."""
        core = self._agent.core
        if isinstance(event, agent_events.AgentStarted):
            assert event.saved.epoch >= self._durable, f"{self._agent.name} forgot epoch {self._durable}"
            self._highest = event.saved.epoch
        self._durable = self._agent.checkpoint.saved().epoch if core.epoch > self._highest else self._durable
        assert core.epoch >= self._highest, f"the epoch of {self._agent.name} went back from {self._highest}"
        if isinstance(event, agent_events.OrdersReceived) and event.epoch < self._highest:
            acted = [
                each
                for each in commands
                if isinstance(each, do.LaunchTask | do.PrepareTask | do.SignalTask | do.SendReports)
            ]
            assert not acted, f"{self._agent.name} obeys epoch {event.epoch} after {self._highest}: {acted}"
            changes = [change for each in commands if isinstance(each, do.Checkpoint) for change in each.changes]
            assert not any(isinstance(change, PutTask) for change in changes), "a stale launch was taken"
            is_current = event.session == core._link.session
            stays = is_current and core._link.phase in (LinkPhase.REGISTERING, LinkPhase.REGISTERED)
            assert not stays, f"{self._agent.name} stays with a master of epoch {event.epoch} after {self._highest}"
        self._highest = core.epoch


REFUSED = {TaskState.TASK_ERROR, TaskState.TASK_DROPPED}
"""What a launch that came to nothing is told; said again, it may come to nothing for another reason."""


NO_MORE = {state for state in TaskState if state.is_terminal} - {TaskState.TASK_GONE_BY_OPERATOR} | {
    TaskState.TASK_UNKNOWN
}
"""What may be said of a task only once it really does not run, and never will: its framework may start another."""


class FrameworkChecker:
    """What a framework hears of its tasks: an end is an end, and it is the truth."""

    FORGOTTEN = (TaskState.TASK_UNKNOWN, TaskState.TASK_UNREACHABLE, TaskState.TASK_GONE_BY_OPERATOR)

    def __init__(self, framework: SimulatedFramework, truth: Truth) -> None:
        self.ended: dict[TaskId, StatusUpdate] = {}
        self._numbers: set[tuple[TaskId, int]] = set()
        self._id = framework.info.framework_id
        self._truth = truth
        self._before = set(truth.tasks)
        """Tasks that were started before anybody listened."""
        framework.heard.append(self._heard)
        truth.started.append(self._started)

    def unheard(self, gone: set[str]) -> str | None:
        """Return a task that has ended without its framework having heard so, but for those of agents that are gone."""
        for task in self._truth.tasks.values():
            is_mine = task.key[0] == self._id and task.agent_id not in gone and task.key not in self._before
            if is_mine and task.ended is not None and task.key[1] not in self.ended:
                return f"{self._id} has not heard of the end of {task.key[1]}"
        return None

    def _heard(self, news: News) -> None:
        if not isinstance(news, TasksUpdated):
            return
        for update in news.updates:
            if update.reason is Reason.TASK_ID_USED or self._is_repeated(update):
                continue
            if update.state in NO_MORE:
                self._check_truth(update)
            known = self.ended.setdefault(update.task_id, update) if update.state.is_terminal else None
            known = known or self.ended.get(update.task_id)
            if known is not None and update.state is not known.state:
                self._judge(known, update)

    def _is_repeated(self, update: StatusUpdate) -> bool:
        """Say whether this very update was heard before: said again it says nothing (rule 20)."""
        name = (update.task_id, update.number)
        is_repeated = update.number > 0 and name in self._numbers
        self._numbers.add(name)
        return is_repeated

    def _check_truth(self, update: StatusUpdate) -> None:
        task = self._truth.tasks.get((update.framework_id, update.task_id))
        assert task is None or task.ended is not None, f"{update.task_id} runs, and its framework is told {update}"
        if task is not None and task.ended is not None and update.reason is Reason.EXITED:
            assert update.exit_code == task.ended.exit_code, f"{update} is not {task.ended}"

    def _started(self, task: RealTask) -> None:
        known = self.ended.get(task.key[1]) if task.key[0] == self._id else None
        assert known is None or known.state is TaskState.TASK_GONE_BY_OPERATOR, f"{task.key} starts after {known}"

    def _judge(self, known: StatusUpdate, update: StatusUpdate) -> None:
        """Allow what is no other end: news that was overtaken, what the master has forgotten, and repeated refusals."""
        is_forgotten = update.reason is Reason.RECONCILIATION and update.state in self.FORGOTTEN
        came_to_nothing = {known.state, update.state} <= REFUSED and not known.number and not update.number
        is_overtaken = 0 < update.number < known.number
        is_fine = is_forgotten or came_to_nothing or is_overtaken
        assert is_fine, f"{known.state.name} {known.number} became {update} (rule 8)"
