"""The books: who holds what, and the commands that a turn has produced.

Every movement of resources passes through here, so that total = used + offered + free holds for each pool, and the
holdings of roles and frameworks are the sums of their offers and tasks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from runrig.agents import AgentInfo, DestroyAgentVolume, Order
from runrig.ids import AgentId, FrameworkId, OfferId, Role, TaskId
from runrig.offers import News, OffersRescinded, RescindReason, StreamRefused, TasksUpdated
from runrig.reservations import PersistentVolume
from runrig.resources import NOTHING, Ports, Resources, merged_ports
from runrig.tasks import Reason, Source, StatusUpdate, TaskState, Terms
from runrig_master.core.backlog import Backlog
from runrig_master.core.claims import Claim
from runrig_master.core.clients import Client, Wanted
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
from runrig_master.core.departures import Departures
from runrig_master.core.events import StreamId
from runrig_master.core.filters import Filters
from runrig_master.core.inverse_offers import InverseOffers
from runrig_master.core.pools import Bits, Pool, Pools
from runrig_master.core.reservations import UNRESERVED, Reserves, changes
from runrig_master.core.resources import remainder, tolerant_sum
from runrig_master.core.roles import RoleTree
from runrig_master.core.settings import CoreSettings
from runrig_master.core.state import Agent, Framework, OutstandingOffer, Presence, Task, TaskKey, attributes_of

IDLE_S = 5.0
"""Who had no use for an offer is asked after demand that waits for as long as a decline without a word lasts."""
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
        self.tree = RoleTree()
        self.pools = Pools()
        self.filters = Filters(settings.filters_per_agent_and_framework)
        self.dirty: Bits = 0
        """Pools of which something may have somebody to go to; a pass empties it."""
        self.hungry: dict[Client, None] = {}
        """Clients that must be shown all pools in the next pass."""
        self.called_in: Bits = 0
        """Pools that held offers of which were called in: demand is asked first; a pass empties it."""
        self.passed_on: dict[Client, Bits] = {}
        """Who has declined which pools in this turn: others are asked first; a pass empties it."""
        self.backlog = Backlog()
        self.reshaped: Bits = 0
        """Pools that came or have grown since the last pass."""
        self.conflicts: OrderedDict[OfferId, str] = OrderedDict()
        """Optimistic offers whose resources others took first, the latest, and what of them was missing."""
        self.crowded: dict[Pool, None] = {}
        """Pools whose optimistic offers may stand on what others have taken in this turn."""
        self.passes = 0
        """How many passes there were."""
        self._round = 0
        self.silent: dict[AgentId, Agent] = {}
        """Agents that are expected back: disconnected, or not heard of since this leadership began."""
        self.unseen: dict[AgentId, Agent] = {}
        """Agents that this leadership knows from the store alone: nobody can say which tasks they have."""
        self.recovering: dict[AgentId, Agent] = {}
        """Agents that may still come back after a failover with tasks: what roles hold is not known before."""
        self.absent: dict[FrameworkId, Framework] = {}
        """Frameworks without a scheduler, whose failover deadline runs."""
        self.inverse_offers = InverseOffers(epoch, settings.inverse_offers_per_framework)
        self.departures = Departures()
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
            client = self.client(framework, role)
            if client not in client.node.own.order:
                client.node.own.order.add(client)

    def leave(self, framework: Framework, roles: Iterable[Role]) -> None:
        """Count a framework out of some of its roles; what it still holds in them stays counted."""
        for role in roles:
            client = framework.clients.get(role)
            if client is None or client not in client.node.own.order:
                continue
            client.node.own.order.remove(client)
            self.filters.clear_client(client)
            self.hungry.pop(client, None)
            self.passed_on.pop(client, None)
            self._prune(client)

    def set_role(self, record: RoleRecord) -> None:
        """Take up what an operator has set of a role; all defaults: forget it."""
        if record == RoleRecord(record.role):
            self.role_settings.pop(record.role, None)
        else:
            self.role_settings[record.role] = record
        self.tree.set_role(record)

    def client(self, framework: Framework, role: Role) -> Client:
        """Return a framework in one of its roles."""
        client = framework.clients.get(role)
        if client is None:
            client = framework.clients[role] = Client(framework, self.tree.node(role))
        return client

    def _prune(self, client: Client) -> None:
        if client.holding.is_empty and client not in client.node.own.order:
            client.framework.clients.pop(client.role, None)
            self.tree.prune(client.node)

    def weight(self, role: Role) -> int:
        """Return the weight of a role in thousandths."""
        record = self.role_settings.get(role)
        return record.weight_millis if record is not None else DEFAULT_WEIGHT_MILLIS

    # Resources of agents

    def admit(self, agent: Agent) -> None:
        """Give an agent its pools."""
        self.agents[agent.id] = agent
        agent.pools[UNRESERVED] = self.pools.add(agent, agent.info.resources)
        agent.reserves.replace_static(agent.info)
        self._match_pools(agent)
        self.settle(agent)
        self._reshaped(agent)

    def _reshaped(self, agent: Agent) -> None:
        for pool in agent.pools.values():
            self.reshaped |= pool.bit

    def count_in(self, agent: Agent) -> None:
        """Count an agent's resources into the cluster's total, and its tasks into their frameworks' holdings."""
        if not agent.is_counted:
            agent.is_counted = True
            self.pools.see(agent)
            self.tree.total.add(agent.info.resources)
            self.tree.total_changed()
            for task in alive(agent):
                self._hold(self.client(task.framework, task.role), task.resources)
        self.mark_dirty(agent)

    def count_out(self, agent: Agent) -> None:
        """Count them out (rule 10)."""
        assert not agent.offers
        for pool in agent.pools.values():
            for claim in list(pool.claims):
                self.release_claims(claim.wanted)
        if agent.is_counted:
            agent.is_counted = False
            self._unsee(agent)
            self.tree.total.remove(agent.info.resources)
            self.tree.total_changed()
            for task in alive(agent):
                self._release(self.client(task.framework, task.role), task.resources)

    def replace_info(self, agent: Agent, info: AgentInfo) -> None:
        """Take up what an agent says of itself now; what it uses stays used, even if it has become less."""
        if agent.is_counted:
            self.tree.total.remove(agent.info.resources)
            self.tree.total.add(info.resources)
            self.tree.total_changed()
        is_reshaped = (agent.info.attributes, agent.info.hostname, agent.info.runtimes) != (
            info.attributes,
            info.hostname,
            info.runtimes,
        )
        if is_reshaped and agent.is_counted:
            self._unsee(agent)
        agent.info = info
        if is_reshaped:
            self._move_tasks(agent, attributes_of(info))
            if agent.is_counted:
                self.pools.see(agent)
            for pool in agent.pools.values():
                self.pools.reshape(pool)
        reserves = agent.reserves.copy()
        reserves.replace_static(info)
        self.change_reserves(agent, reserves)

    def change_reserves(self, agent: Agent, reserves: Reserves) -> None:
        """Take up what is kept of an agent for roles, durable before it is told; pools that end have no offers."""
        records = changes(agent.reserves, reserves)
        doomed = [volume_id for volume_id in reserves.doomed if volume_id not in agent.reserves.doomed]
        agent.reserves = reserves
        self._match_pools(agent)
        self.settle(agent)
        self._reshaped(agent)
        if records:
            self.do(Persist(records))
        for volume_id in doomed:
            self.order(agent, DestroyAgentVolume(volume_id))
        self.mark_dirty(agent)
        self.touch("agent", agent.id)

    def restored(self, agent: Agent) -> None:
        """Give an agent the pools of what the store remembers to be kept of it."""
        self._match_pools(agent)
        self.settle(agent)
        self._reshaped(agent)

    def _match_pools(self, agent: Agent) -> None:
        """Give each reservation its pool, and end the pools of those that are gone."""
        kept = agent.reserves.reservations
        for pool in list(agent.pools.values()):
            if pool.reservation is not None and pool.reservation_id not in kept:
                self.drop_pool(pool)
        for reservation in (record.reservation for record in kept.values()):
            known = agent.pools.get(reservation.reservation_id)
            if known is None:
                agent.pools[reservation.reservation_id] = self.pools.add(agent, reservation.resources, reservation)
            elif known.reservation != reservation:
                known.reservation = reservation
                self.pools.reshape(known)
        for task in agent.tasks.values():
            task.pool = self.pool_of(agent, task.terms)

    def drop_pool(self, pool: Pool) -> None:
        """End a pool without offers; tasks that still run in it count as unreserved ones from now on."""
        for claim in list(pool.claims):
            self.release_claims(claim.wanted)
        self.filters.clear_pool(pool)
        del pool.agent.pools[pool.reservation_id]
        self.pools.remove(pool)

    def pool_of(self, agent: Agent, terms: Terms) -> Pool:
        """Return the pool that a task runs in; one whose reservation is not known counts as unreserved."""
        return agent.pools.get(terms.reservation_id) or agent.pools[UNRESERVED]

    def settle(self, agent: Agent) -> None:
        """Recompute what an agent uses and has free from its tasks and offers, tolerating too much of anything.

        What is used of one pool beyond what it has is not there for the others.
        """
        totals = agent.reserves.amounts(agent.info.resources)
        excess = NOTHING
        for pool in agent.pools.values():
            self.pools.set_total(pool, totals[pool.reservation_id])
            used = NOTHING
            for task in alive(agent):
                if task.pool is pool:
                    used = tolerant_sum(used, task.resources)
            taken = tolerant_sum(used, pool.offered)
            pool.used = used
            pool.free = remainder(pool.total, taken)
            excess = tolerant_sum(excess, remainder(taken, pool.total))
        is_overcommitted = not excess.is_empty or _names_a_port_twice(agent)
        for pool in agent.pools.values():
            left = remainder(pool.free, excess)
            excess = remainder(excess, pool.free - left)
            pool.free = left
            pool.is_overcommitted = is_overcommitted
            self._free_changed(pool)

    def _free_changed(self, pool: Pool) -> None:
        self.pools.worth_changed(pool)
        if pool.optimistic:
            self.crowded[pool] = None

    def settle_conflicts(self) -> None:
        """Rescind optimistic offers of which something has been taken by others."""
        crowded, self.crowded = self.crowded, {}
        stale = [
            offer for pool in crowded for offer in pool.optimistic.values() if not pool.free.contains(offer.resources)
        ]
        for offer in stale:
            self.remember_conflict(offer)
        self.rescind(stale, RescindReason.CONFLICT)

    def conflict_text(self, offer: OutstandingOffer, left: Resources) -> str:
        """Say what others have taken of an optimistic offer, of whose pool so much is left."""
        short = left.shortfall(offer.resources)
        text = ", ".join(f"{name} by {amount}" for name, amount in short.items())
        return f"offer {offer.id} was optimistic and another framework was first: short of {text}"

    def remember_conflict(self, offer: OutstandingOffer) -> None:
        """Keep what to answer an Accept of an optimistic offer that comes too late."""
        self.conflicts[offer.id] = self.conflict_text(offer, offer.pool.free)
        if len(self.conflicts) > self.settings.conflicts_remembered:
            self.conflicts.popitem(last=False)

    def mark_dirty(self, agent: Agent) -> None:
        """Have the allocator look at an agent at the end of this turn (rule 7), if it may be offered."""
        is_offerable = agent.is_offerable
        for pool in agent.pools.values():
            self.pools.set_offerable(pool, is_offerable)
            if is_offerable:
                self.dirty |= pool.bit

    def withdraw(self, agent: Agent, reason: RescindReason) -> None:
        """Take an agent's offers back, and offer it no more until it is marked dirty as one that may be offered."""
        self.rescind([*agent.offers.values()], reason)
        for pool in agent.pools.values():
            self.pools.set_offerable(pool, False)
            self.dirty &= ~pool.bit

    def next_round(self) -> int:
        """Return a number by which demand knows that it has been asked in this round of a pass."""
        self._round += 1
        return self._round

    def pass_on(self, offer: OutstandingOffer, now: float) -> None:
        """Have others asked first for what this offer's client did not want in this turn."""
        self.passed_on[offer.client] = self.passed_on.get(offer.client, 0) | offer.pool.bit
        offer.client.idle_until = now + IDLE_S

    def mark_hungry(self, client: Client) -> None:
        """Have the allocator show all pools to a client at the end of this turn."""
        self.hungry[client] = None

    def mark_all_hungry(self) -> None:
        """Have the allocator show all pools to everybody: what is allowed has changed."""
        for framework in self.frameworks.values():
            for client in framework.clients.values():
                for wanted in client.wanted.values():
                    wanted.is_new = True
                self.hungry[client] = None

    def recovered(self, agent: Agent) -> None:
        """Learn what an agent has that was expected back, or that it is expected no more."""
        if self.recovering.pop(agent.id, None) is not None and not self.recovering:
            self.know_holdings()

    def know_holdings(self) -> None:
        """Offer to roles with a limit, too, as what they hold is known as far as it will be."""
        self.recovering.clear()
        if self.tree.has_limits:
            self.mark_all_hungry()

    # Offers

    def take(self, pool: Pool, client: Client, resources: Resources) -> None:
        """Take `resources` out of what is free, for an offer that will be issued."""
        pool.free = NOTHING if resources is pool.free else pool.free - resources
        self._free_changed(pool)
        self._hold(client, resources)

    def give_back(self, pool: Pool, client: Client, resources: Resources) -> None:
        """Undo a `take`."""
        pool.free = pool.free + resources
        self.pools.grown.extend(pool.agent.pools.values())
        self._free_changed(pool)
        self._release(client, resources)

    def issue_offer(
        self,
        pool: Pool,
        client: Client,
        resources: Resources,
        now: float,
        parts: tuple[tuple[Wanted, int], ...] = (),
        gang_id: str = "",
        is_optimistic: bool = False,
    ) -> OutstandingOffer:
        """Make the offer of what was taken, or of what an optimistic one will take when it is accepted."""
        self._next_offer += 1
        offer = OutstandingOffer(
            OfferId(f"o{self.epoch}-{self._next_offer}"),
            pool,
            client,
            resources,
            now,
            now + self.settings.offer_timeout_s,
            parts,
            gang_id,
            is_optimistic,
        )
        offer.volumes = self._unused_volumes(pool)
        (pool.optimistic if is_optimistic else pool.offers)[offer.id] = offer
        pool.agent.offers[offer.id] = offer
        client.framework.offers[offer.id] = offer
        self.offers[offer.id] = offer
        self.touch("offer", offer.id)
        return offer

    def _unused_volumes(self, pool: Pool) -> tuple[PersistentVolume, ...]:
        """Return the volumes of a pool that no task uses and no offer holds."""
        volumes = pool.agent.reserves.volumes_of(pool.reservation_id) if pool.reservation is not None else []
        if not volumes:
            return ()
        taken = {volume.volume_id for offer in pool.offers.values() for volume in offer.volumes}
        taken.update(volume_id for task in alive(pool.agent) for volume_id in task.volume_ids)
        return tuple(volume for volume in volumes if volume.volume_id not in taken)

    def close_offer(self, offer: OutstandingOffer) -> None:
        """End an offer: its resources are free again (rule 1), and its demand waits again."""
        pool = offer.pool
        del self.offers[offer.id]
        self.touch("offer", offer.id)
        del pool.agent.offers[offer.id]
        del offer.framework.offers[offer.id]
        if offer.is_optimistic:
            del pool.optimistic[offer.id]
            self.mark_dirty(pool.agent)
            return
        del pool.offers[offer.id]
        self._release(offer.client, offer.resources)
        if pool.is_overcommitted:
            self.settle(pool.agent)
        else:
            pool.free = pool.free + offer.resources
            self._free_changed(pool)
        self.mark_dirty(pool.agent)
        for wanted, count in offer.parts:
            self._wait_again(wanted, count, pool.agent)

    def note_waiting(self, wanted: Wanted) -> None:
        """Keep account of demand that waits."""
        is_stated = wanted.client.wanted.get(wanted.demand.demand_id) is wanted
        if is_stated and wanted.unmet > 0 and not wanted.is_infeasible:
            self.backlog.waiting[wanted] = None
            if wanted.demand.gang_id or self._is_large(wanted):
                self.backlog.long[wanted] = None
        else:
            self.backlog.waiting.pop(wanted, None)
            self.backlog.long.pop(wanted, None)

    def _is_large(self, wanted: Wanted) -> bool:
        """Say whether a task needs more than half of what an agent has on average."""
        total, agents = self.tree.total, max(1, len(self.agents))
        need = wanted.demand.resources
        return need.cpu_millis * 2 * agents > total.cpu_millis or need.mem_mib * 2 * agents > total.mem_mib

    def claim(self, claim: Claim) -> None:
        """Keep something for a demand."""
        self.backlog.claims[claim] = None
        claim.pool.claims.append(claim)
        claim.wanted.claims.append(claim)

    def use_claim(self, wanted: Wanted, pool: Pool, count: int) -> None:
        """Take off what is kept for a demand in a pool what it has taken there; elsewhere it needs that much less."""
        here = [claim for claim in wanted.claims if claim.pool is pool]
        for claim in (*here, *(claim for claim in wanted.claims if claim.pool is not pool)):
            used = min(count, claim.count)
            count -= used
            claim.give_up(used)
            if not claim.count:
                self._end_claim(claim)

    def _end_claim(self, claim: Claim) -> None:
        del self.backlog.claims[claim]
        self.backlog.claims_ended += 1
        claim.pool.claims.remove(claim)
        claim.wanted.claims.remove(claim)
        self.mark_dirty(claim.pool.agent)

    def _wait_again(self, wanted: Wanted, count: int, agent: Agent) -> None:
        wanted.offered -= count
        self.note_waiting(wanted)
        wanted.is_new = True
        self._leave_group(wanted.client.framework, wanted.demand.group, agent, count)
        self.mark_hungry(wanted.client)

    def rescind(self, offers: list[OutstandingOffer], reason: RescindReason) -> None:
        """End offers and tell their frameworks, in one message each; of a gang all offers end."""
        by_framework: dict[FrameworkId, list[OutstandingOffer]] = {}
        gangs: dict[tuple[Client, str], None] = {}
        for offer in offers:
            by_framework.setdefault(offer.framework.id, []).append(offer)
            self.close_offer(offer)
            if offer.gang_id:
                gangs[offer.client, offer.gang_id] = None
        for theirs in by_framework.values():
            self.tell(theirs[0].framework, OffersRescinded(tuple(offer.id for offer in theirs), reason))
        for client, gang_id in gangs:
            self.break_gang(client, gang_id)

    def break_gang(self, client: Client, gang_id: str) -> None:
        """Take back what is out of a gang's offers, as one of them has ended."""
        rest = [offer for offer in client.framework.offers.values() if offer.gang_id == gang_id]
        rest = [offer for offer in rest if offer.client is client]
        if rest:
            self.rescind(rest, RescindReason.GANG_BROKEN)

    def release_claims(self, wanted: Wanted) -> None:
        """End what is kept for a demand."""
        for claim in list(wanted.claims):
            self._end_claim(claim)

    def forget_wanted(self, wanted: Wanted) -> None:
        """Forget demand that is not stated any more."""
        self.release_claims(wanted)
        self.backlog.forget(wanted)

    def served(self, offers: list[OutstandingOffer], launched: int) -> None:
        """Take off the demand that offers were cut for what was launched on them."""
        for offer in offers:
            for wanted, count in offer.parts:
                met = min(count, launched)
                launched -= met
                wanted.count -= met
                self.note_waiting(wanted)

    # Groups

    def _leave_group(self, framework: Framework, group: str, agent: Agent, count: int) -> None:
        """Count tasks of a group out: demand of the group may fit again where it did not."""
        framework.groups.add(group, agent, -count)
        self._recount(framework, group)

    def _recount(self, framework: Framework, group: str) -> None:
        for client in framework.clients.values():
            for wanted in client.counting.get(group, ()):
                wanted.is_new = True
                self.hungry[client] = None

    def _unsee(self, agent: Agent) -> None:
        """Count an agent's attributes out; where a value is gone, demand that balances may fit again elsewhere."""
        if self.pools.unsee(agent):
            for framework in self.frameworks.values():
                for client in framework.clients.values():
                    for group in client.counting:
                        self._recount(framework, group)

    def _move_tasks(self, agent: Agent, attributes: tuple[tuple[str, str], ...]) -> None:
        """Take up an agent's new attributes, and count its tasks where they stand now."""
        tasks = alive(agent)
        for task in tasks:
            self._leave_group(task.framework, task.terms.group, agent, 1)
        agent.attributes = attributes
        for task in tasks:
            task.framework.groups.add(task.terms.group, agent, 1)

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
        pool = task.pool
        if not pool.is_overcommitted and pool.free.contains(task.resources):
            pool.used = pool.used + task.resources
            pool.free = pool.free - task.resources
            self._free_changed(pool)
        else:
            self.settle(task.agent)
        if task.agent.is_counted:
            self._hold(self.client(task.framework, task.role), task.resources)
        task.framework.groups.add(task.terms.group, task.agent, 1)
        self.backlog.priorities[task.terms.priority] += 1
        self.tasks_alive += 1

    def end_task(self, task: Task) -> None:
        """Give back what a task used, once, after it has taken a terminal state (rule 7)."""
        assert task.state.is_terminal
        pool = task.pool
        self.tasks_alive -= 1
        self.inverse_offers.task_ended(task)
        self._leave_group(task.framework, task.terms.group, task.agent, 1)
        self.backlog.priorities[task.terms.priority] -= 1
        if not self.backlog.priorities[task.terms.priority]:
            del self.backlog.priorities[task.terms.priority]
        if task.agent.is_counted:
            self._release(self.client(task.framework, task.role), task.resources)
        if pool.is_overcommitted:
            self.settle(task.agent)
        else:
            pool.used = pool.used - task.resources
            pool.free = pool.free + task.resources
            self._free_changed(pool)
        self.mark_dirty(task.agent)

    def forget_task(self, task: Task) -> None:
        """Move an ended task to the short list of those that are only shown."""
        assert task.state.is_terminal
        framework = task.framework
        del framework.tasks[task.id]
        task.agent.tasks.pop(task.key, None)
        if task.agent.drain is not None and not task.agent.tasks:
            self.departures.emptied[task.agent.id] = task.agent
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

    def _hold(self, client: Client, resources: Resources) -> None:
        self.tree.hold(client, resources)
        self.touch("role", client.role)

    def _release(self, client: Client, resources: Resources) -> None:
        self.tree.release(client, resources)
        self.touch("role", client.role)
        if client.holding.is_empty:
            self._prune(client)


def alive(agent: Agent) -> list[Task]:
    """Return the tasks of an agent that have not ended."""
    return [task for task in agent.tasks.values() if not task.state.is_terminal]


def _names_a_port_twice(agent: Agent) -> bool:
    ports: Ports = ()
    for task in alive(agent):
        if task.resources.ports:
            fresh = Resources(ports=task.resources.ports).less_ports(ports).ports
            if fresh != task.resources.ports:
                return True
            ports = merged_ports(tuple(sorted(ports + fresh)))
    return False
