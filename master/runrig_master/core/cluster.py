"""The books: who holds what, and the commands that a turn has produced.

Every movement of resources passes through here, so that total = used + offered + free holds for each agent, and the
holdings of roles and frameworks are the sums of their offers and tasks.
"""

from __future__ import annotations

from collections import OrderedDict

from runrig.agents import AgentInfo, Order
from runrig.ids import AgentId, FrameworkId, OfferId, Role, TaskId
from runrig.offers import News, OffersRescinded, RescindReason, StreamRefused, TasksUpdated
from runrig.resources import NOTHING, Resources, count_ports
from runrig.tasks import Reason, Source, StatusUpdate, TaskState
from runrig_master.core.alarms import Alarms
from runrig_master.core.commands import (
    DEFAULT_WEIGHT_MILLIS,
    AgentRecord,
    CloseStream,
    Command,
    FrameworkRecord,
    Note,
    Persist,
    RoleRecord,
    SendToAgent,
    SendToScheduler,
)
from runrig_master.core.events import StreamId
from runrig_master.core.filters import Filters
from runrig_master.core.inverse_offers import InverseOffers
from runrig_master.core.resources import Holding
from runrig_master.core.settings import CoreSettings
from runrig_master.core.state import Agent, Framework, OutstandingOffer, Presence, Task, TaskKey

UPDATES_PER_MESSAGE = 1000
"""Keeps a message of updates below 1 MiB, and a framework of any size below the bound of its stream."""


class Cluster:
    """All that the core knows, and the movements of resources within it."""

    def __init__(self, cluster_id: str, epoch: int, settings: CoreSettings) -> None:
        self.id = cluster_id
        self.epoch = epoch
        self.settings = settings
        self.agents: dict[AgentId, Agent] = {}
        self.frameworks: dict[FrameworkId, Framework] = {}
        self.completed: OrderedDict[FrameworkId, Framework] = OrderedDict()
        self.offers: dict[OfferId, OutstandingOffer] = {}
        self.agent_streams: dict[StreamId, Agent] = {}
        self.scheduler_streams: dict[StreamId, Framework] = {}
        self.refused_streams: set[StreamId] = set()
        """Streams that were refused and have not ended yet: what still comes over them is not heeded."""
        self.role_settings: dict[Role, RoleRecord] = {}
        """What an operator has set of roles; those that are not here have the defaults of a `RoleRecord`."""
        self.members: dict[Role, dict[FrameworkId, Framework]] = {}
        self.role_holdings: dict[Role, Holding] = {}
        self.total = Holding()
        self.filters = Filters(settings.filters_per_agent_and_framework)
        self.dirty: dict[AgentId, Agent] = {}
        """Agents whose free resources may have somebody to go to; the allocator empties it."""
        self.passed_on: set[tuple[AgentId, FrameworkId, Role]] = set()
        """Who has declined which agent in this turn: others are asked first; the allocator empties it."""
        self.silent: dict[AgentId, Agent] = {}
        """Agents that are expected back: disconnected, or not heard of since this leadership began."""
        self.unseen: dict[AgentId, Agent] = {}
        """Agents that this leadership knows from the store alone: nobody can say which tasks they have."""
        self.absent: dict[FrameworkId, Framework] = {}
        """Frameworks without a scheduler, whose failover deadline runs."""
        self.inverse_offers = InverseOffers(epoch, settings.inverse_offers_per_framework)
        self.drain_deadlines: Alarms[AgentId] = Alarms()
        self.window_ends: Alarms[AgentId] = Alarms()
        """When agents that are planned to be away will be back."""
        self.emptied: dict[AgentId, Agent] = {}
        """Agents that are drained and may have become empty in this turn; `maintenance` empties it."""
        self.tasks_alive = 0
        self.touched: dict[tuple[str, str, str], None] | None = None
        """What changed since a watcher last looked: (kind, id, framework id); None while nobody watches."""
        self._commands: list[Command] = []
        self._next_offer = 0

    # Commands

    def take_commands(self) -> list[Command]:
        """Return the commands since the last call."""
        commands, self._commands = self._commands, []
        return commands

    def do(self, command: Command) -> None:
        """Add a command."""
        self._commands.append(command)

    def note(self, text: str, is_alarm: bool = False, **fields: object) -> None:
        """Tell the log."""
        self._commands.append(Note(text, fields, is_alarm))

    def order(self, agent: Agent, order: Order) -> None:
        """Send an order if the agent is there; else its return brings up what is due."""
        if agent.stream is not None:
            self._commands.append(SendToAgent(agent.stream, order))

    def tell(self, framework: Framework, news: News) -> None:
        """Send news if the scheduler is there; else it will reconcile when it is."""
        if framework.stream is not None:
            self._commands.append(SendToScheduler(framework.stream, news))

    def tell_update(self, framework: Framework, update: StatusUpdate) -> None:
        """Send one status update."""
        self.tell(framework, TasksUpdated((update,)))

    def tell_updates(self, framework: Framework, updates: list[StatusUpdate]) -> None:
        """Send status updates, many to a message."""
        for start in range(0, len(updates), UPDATES_PER_MESSAGE):
            self.tell(framework, TasksUpdated(tuple(updates[start : start + UPDATES_PER_MESSAGE])))

    def refuse_stream(self, stream: StreamId, refusal: StreamRefused) -> None:
        """End a stream, telling why, and heed it no more."""
        self.refused_streams.add(stream)
        self.do(CloseStream(stream, refusal))

    def persist_agent(self, agent: Agent) -> None:
        """Write what the store keeps of an agent."""
        self.do(
            Persist(
                (
                    AgentRecord(
                        agent.info,
                        is_unreachable=agent.presence is Presence.UNREACHABLE,
                        is_gone=agent.presence is Presence.GONE,
                        is_deactivated=agent.is_deactivated,
                        since=agent.since,
                        drain=agent.drain,
                        unavailability=agent.unavailability,
                    ),
                )
            )
        )

    def persist_framework(self, framework: Framework) -> None:
        """Write what the store keeps of a framework."""
        self.do(
            Persist(
                (
                    FrameworkRecord(
                        framework.info, framework.session, framework.failover_deadline, framework.is_completed
                    ),
                )
            )
        )

    def touch(self, kind: str, name: str, framework_id: str = "") -> None:
        """Remember for watchers that something changed."""
        if self.touched is not None:
            self.touched[kind, name, framework_id] = None

    # Membership

    def join(self, framework: Framework) -> None:
        """Count a framework in its roles."""
        for role in framework.info.roles:
            self.members.setdefault(role, {})[framework.id] = framework

    def leave(self, framework: Framework) -> None:
        """Count a framework out of its roles."""
        for role in framework.info.roles:
            members = self.members.get(role, {})
            members.pop(framework.id, None)
            if not members:
                self.members.pop(role, None)

    def weight(self, role: Role) -> int:
        """Return the weight of a role in thousandths."""
        record = self.role_settings.get(role)
        return record.weight_millis if record is not None else DEFAULT_WEIGHT_MILLIS

    # Resources of agents

    def enter_pool(self, agent: Agent) -> None:
        """Count an agent's resources into the cluster's total, and its tasks into their frameworks' holdings."""
        if not agent.is_pooled:
            agent.is_pooled = True
            self.total.add(agent.info.resources)
            for task in _alive(agent):
                self._hold(task.framework, task.role, task.resources)
        self.mark_dirty(agent)

    def leave_pool(self, agent: Agent) -> None:
        """Count them out (rule 10)."""
        assert not agent.offers
        if agent.is_pooled:
            agent.is_pooled = False
            self.total.remove(agent.info.resources)
            for task in _alive(agent):
                self._release(task.framework, task.role, task.resources)
        self.dirty.pop(agent.id, None)

    def replace_info(self, agent: Agent, info: AgentInfo) -> None:
        """Take up what an agent says of itself now; what it uses stays used, even if it has become less."""
        if agent.is_pooled:
            self.total.remove(agent.info.resources)
            self.total.add(info.resources)
        agent.info = info
        self.settle(agent)

    def settle(self, agent: Agent) -> None:
        """Recompute what an agent uses and has free from its tasks and offers, tolerating too much of anything."""
        used = NOTHING
        for task in _alive(agent):
            used = _tolerant_sum(used, task.resources)
        taken = _tolerant_sum(used, agent.offered)
        agent.used = used
        agent.free = _remainder(agent.info.resources, taken)
        agent.is_overcommitted = not agent.info.resources.contains(taken) or _names_a_port_twice(agent)

    def mark_dirty(self, agent: Agent) -> None:
        """Have the allocator look at an agent at the end of this turn (rule 7)."""
        if agent.is_offerable:
            self.dirty[agent.id] = agent

    def mark_all_dirty(self) -> None:
        """Have the allocator look at every agent."""
        for agent in self.agents.values():
            self.mark_dirty(agent)

    # Offers

    def open_offer(
        self, agent: Agent, framework: Framework, role: Role, resources: Resources, now: float
    ) -> OutstandingOffer:
        """Take `resources` out of what is free into a new offer."""
        self._next_offer += 1
        offer = OutstandingOffer(
            OfferId(f"o{self.epoch}-{self._next_offer}"),
            agent,
            framework,
            role,
            resources,
            now,
            now + self.settings.offer_timeout_s,
        )
        agent.free = agent.free - resources
        agent.offers[offer.id] = offer
        framework.offers[offer.id] = offer
        self.offers[offer.id] = offer
        self._hold(framework, role, resources)
        self.touch("offer", offer.id)
        return offer

    def close_offer(self, offer: OutstandingOffer) -> None:
        """End an offer: its resources are free again (rule 1)."""
        del self.offers[offer.id]
        self.touch("offer", offer.id)
        del offer.agent.offers[offer.id]
        del offer.framework.offers[offer.id]
        self._release(offer.framework, offer.role, offer.resources)
        if offer.agent.is_overcommitted:
            self.settle(offer.agent)
        else:
            offer.agent.free = offer.agent.free + offer.resources
        self.mark_dirty(offer.agent)

    def rescind(self, offers: list[OutstandingOffer], reason: RescindReason) -> None:
        """End offers and tell their frameworks, in one message each."""
        by_framework: dict[FrameworkId, list[OutstandingOffer]] = {}
        for offer in offers:
            by_framework.setdefault(offer.framework.id, []).append(offer)
            self.close_offer(offer)
        for theirs in by_framework.values():
            self.tell(theirs[0].framework, OffersRescinded(tuple(offer.id for offer in theirs), reason))

    # Tasks

    def add_task(self, task: Task) -> None:
        """Count a task in; its resources must be free, or already running at a returned agent."""
        assert task.id not in task.framework.tasks
        task.framework.tasks[task.id] = task
        task.agent.tasks[task.key] = task
        if not task.state.is_terminal:
            self._use(task)
        self.touch("task", task.id, task.framework.id)

    def _use(self, task: Task) -> None:
        agent = task.agent
        if not agent.is_overcommitted and agent.free.contains(task.resources):
            agent.used = agent.used + task.resources
            agent.free = agent.free - task.resources
        else:
            self.settle(agent)
        if agent.is_pooled:
            self._hold(task.framework, task.role, task.resources)
        self.tasks_alive += 1

    def end_task(self, task: Task) -> None:
        """Give back what a task used, once, after it has taken a terminal state (rule 7)."""
        assert task.state.is_terminal
        agent = task.agent
        self.tasks_alive -= 1
        self.inverse_offers.task_ended(task)
        if agent.is_pooled:
            self._release(task.framework, task.role, task.resources)
        if agent.is_overcommitted:
            self.settle(agent)
        else:
            agent.used = agent.used - task.resources
            agent.free = agent.free + task.resources
        self.mark_dirty(agent)

    def forget_task(self, task: Task) -> None:
        """Move an ended task to the short list of those that are only shown."""
        assert task.state.is_terminal
        framework = task.framework
        del framework.tasks[task.id]
        task.agent.tasks.pop(task.key, None)
        if task.agent.drain is not None and not task.agent.tasks:
            self.emptied[task.agent.id] = task.agent
        framework.ended[task.id] = task
        if len(framework.ended) > self.settings.ended_tasks_per_framework:
            framework.ended.popitem(last=False)

    def find_task(self, key: TaskKey) -> Task | None:
        """Return a task that has not ended, or has not been acknowledged yet."""
        framework = self.frameworks.get(key[0]) or self.completed.get(key[0])
        return framework.tasks.get(key[1]) if framework is not None else None

    def say(
        self,
        task: Task,
        state: TaskState,
        reason: Reason,
        message: str,
        now: float,
        source: Source = Source.MASTER,
    ) -> None:
        """Make an update of the master's own and send it (rule 9: no number, not retried)."""
        update = self.own_update(task.framework.id, task.id, task.agent.id, state, reason, message, now, source)
        was_terminal = task.state.is_terminal
        task.learn(update)
        if update.state.is_terminal and not was_terminal:
            self.end_task(task)
        self.touch("task", task.id, task.framework.id)
        self.tell_update(task.framework, update)

    def own_update(
        self,
        framework_id: FrameworkId,
        task_id: TaskId,
        agent_id: AgentId,
        state: TaskState,
        reason: Reason,
        message: str,
        now: float,
        source: Source = Source.MASTER,
    ) -> StatusUpdate:
        """Build an update that the master makes itself."""
        return StatusUpdate(
            framework_id, task_id, agent_id, 0, state, reason, source, message, at_unix_ms=int(now * 1000)
        )

    # Holdings

    def _hold(self, framework: Framework, role: Role, resources: Resources) -> None:
        framework.holdings.setdefault(role, Holding()).add(resources)
        self.role_holdings.setdefault(role, Holding()).add(resources)
        self.touch("role", role)

    def _release(self, framework: Framework, role: Role, resources: Resources) -> None:
        framework.holdings[role].remove(resources)
        self.role_holdings[role].remove(resources)
        self.touch("role", role)


def _alive(agent: Agent) -> list[Task]:
    return [task for task in agent.tasks.values() if not task.state.is_terminal]


def _names_a_port_twice(agent: Agent) -> bool:
    alive = _alive(agent)
    named = sum(count_ports(task.resources.ports) for task in alive)
    return named > count_ports(agent.used.ports)


def _tolerant_sum(used: Resources, more: Resources) -> Resources:
    """Add, where a port may be held twice: a returned agent is believed."""
    fresh = Resources(ports=more.ports).less_ports(used.ports).ports
    return used + Resources(more.cpu_millis, more.mem_mib, more.disk_mib, more.gpus, fresh, more.custom)


def _remainder(have: Resources, taken: Resources) -> Resources:
    """Return what is left where `taken` may exceed `have` in some dimension: never less than nothing."""
    custom = dict(taken.custom)
    left = Resources(
        max(0, have.cpu_millis - taken.cpu_millis),
        max(0, have.mem_mib - taken.mem_mib),
        max(0, have.disk_mib - taken.disk_mib),
        max(0, have.gpus - taken.gpus),
        have.ports,
        tuple((name, amount - custom.get(name, 0)) for name, amount in have.custom if amount > custom.get(name, 0)),
    )
    return left.less_ports(taken.ports)
