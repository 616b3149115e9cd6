"""The master's mind: who is offered what, and what becomes of every task.

Rule A: the state changes only in `handle`.
Rule B: nothing here reads a clock, draws a random number or awaits.
Rule C: what must survive a crash is in a `Persist` before anybody is told of it.

The subjects have files of their own: `agents`, `frameworks`, `launching` (accepting offers), `statuses` (updates,
acknowledgements, kills, reconciliation), `filters`, `allocator`; `cluster` keeps the books that they share.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from runrig.agents import AgentChanged, Register, TaskNotHere, VolumeDestroyed
from runrig.errors import Conflict, InvalidInput, NotFound, RunrigError
from runrig.ids import FrameworkId
from runrig.offers import (
    Accept,
    Acknowledge,
    AnswerInverseOffer,
    Call,
    CallRefused,
    Decline,
    Kill,
    OffersMade,
    Reconcile,
    RefusalCode,
    RescindReason,
    Revive,
    StreamRefused,
    Subscribe,
    Suppress,
    Teardown,
    UpdateDemand,
    UpdateFramework,
)
from runrig.tasks import Reason, StatusUpdate
from runrig_master.core import agents, frameworks, launching, maintenance, operations, role_settings, statuses
from runrig_master.core.allocation import allocate, waiting
from runrig_master.core.cluster import Cluster
from runrig_master.core.commands import (
    AgentRecord,
    AnswerOperator,
    Command,
    Forget,
    FrameworkRecord,
    Persist,
    Record,
    ReservationRecord,
    RoleRecord,
    VolumeRecord,
)
from runrig_master.core.events import (
    AgentReported,
    AgentStreamClosed,
    CreateVolumeAsked,
    DeactivationAsked,
    DestroyVolumeAsked,
    DrainAsked,
    Event,
    GoneAsked,
    KillTaskAsked,
    OperatorEvent,
    QuotasAsked,
    ReserveAsked,
    RoleOffersAsked,
    SchedulerCalled,
    SchedulerStreamClosed,
    StreamId,
    TeardownAsked,
    Tick,
    UnavailabilityAsked,
    UnreserveAsked,
    WeightAsked,
)
from runrig_master.core.offering import described
from runrig_master.core.settings import CoreSettings
from runrig_master.core.silence import Silence
from runrig_master.core.state import Agent, Framework, OutstandingOffer, Presence


class Master:
    """Decide who is offered what, and keep account of every task."""

    def __init__(
        self,
        cluster_id: str,
        epoch: int,
        settings: CoreSettings = CoreSettings(),
        records: Iterable[Record] = (),
        now: float = 0.0,
    ) -> None:
        """Take up what the store remembers: agents that should come back, frameworks and their deadlines."""
        self.cluster = Cluster(cluster_id, epoch, settings)
        self._silence = Silence(self.cluster)
        self._holdings_due = now + settings.agent_return_timeout_s
        for record in records:
            self._recall(record, now)
        operations.recalled(self.cluster)

    def handle(self, event: Event, now: float) -> list[Command]:
        """Apply one event at time `now` (seconds since 1970); return what must be done, in order."""
        match event:
            case AgentReported():
                self._agent_reported(event, now)
            case SchedulerCalled():
                self._scheduler_called(event, now)
            case AgentStreamClosed():
                self.cluster.refused_streams.discard(event.stream)
                agents.stream_closed(self.cluster, event.stream, event.last_heard)
            case SchedulerStreamClosed():
                self.cluster.refused_streams.discard(event.stream)
                frameworks.stream_closed(self.cluster, event.stream, now)
            case Tick():
                self._tick(now)
            case _:
                self._operator_asked(event, now)
        return self.cluster.take_commands()

    def next_deadline(self) -> float | None:
        """Return when a `Tick` is due even if nothing happens."""
        cluster = self.cluster
        offer = next(iter(cluster.offers.values()), None)
        dues = [
            offer.expires_at if offer is not None else None,
            cluster.filters.next_expiry(),
            maintenance.next_deadline(cluster),
            waiting.next_deadline(cluster),
        ]
        if cluster.silent:
            dues.append(self._silence.next_deadline())
        if cluster.dirty & cluster.pools.offerable:
            dues.append(cluster.backlog.looked_after_at)
        if cluster.absent:
            dues += [framework.failover_deadline for framework in cluster.absent.values()]
        return min([due for due in dues if due is not None], default=None)

    # Recovery

    def _recall(self, record: Record, now: float) -> None:
        cluster = self.cluster
        match record:
            case AgentRecord():
                agent = Agent(record.agent, _presence_at_start(record), record.since)
                cluster.admit(agent)
                agent.is_deactivated = record.is_deactivated
                maintenance.recall(cluster, agent, record)
                if agent.presence is Presence.RECOVERING:
                    cluster.recovering[agent.id] = agent
                    agent.unreachable_at = now + cluster.settings.agent_return_timeout_s
                    cluster.silent[agent.id] = agent
                if agent.presence is not Presence.GONE:
                    cluster.unseen[agent.id] = agent
            case FrameworkRecord():
                framework = Framework(record.framework, record.session)
                framework.is_completed = record.is_completed
                if record.is_completed:
                    cluster.completed[framework.id] = framework
                    return
                cluster.frameworks[framework.id] = framework
                cluster.join(framework)
                cluster.absent[framework.id] = framework
                framework.failover_deadline = record.failover_deadline
                if record.failover_deadline is None:
                    framework.failover_deadline = now + record.framework.failover_timeout_ms / 1000
                    cluster.persist_framework(framework)
            case RoleRecord():
                cluster.set_role(record)
            case ReservationRecord() | VolumeRecord():
                operations.recall(cluster, record)
            case _:
                assert_never(record)

    # Agents

    def _agent_reported(self, event: AgentReported, now: float) -> None:
        report = event.report
        if event.stream in self.cluster.refused_streams:
            return
        agent = self.cluster.agent_streams.get(event.stream)
        if isinstance(report, Register):
            if agent is not None:
                agents.stream_closed(self.cluster, event.stream, now)
                self._refuse_stream(event.stream, "this stream is registered already")
            else:
                agents.register(self.cluster, event.stream, report, now)
            return
        if agent is None:
            self._refuse_stream(event.stream, "the first report of a stream must be register")
            return
        match report:
            case StatusUpdate():
                statuses.update_came(self.cluster, agent, report)
            case AgentChanged():
                agents.changed(self.cluster, agent, report)
            case TaskNotHere():
                statuses.not_here(self.cluster, agent, report, now)
            case VolumeDestroyed(volume_id):
                operations.volume_destroyed(self.cluster, agent, volume_id)
            case _:
                assert_never(report)

    def _refuse_stream(self, stream: StreamId, text: str) -> None:
        self.cluster.refuse_stream(stream, StreamRefused(RefusalCode.OUT_OF_ORDER, text))

    # Schedulers

    def _scheduler_called(self, event: SchedulerCalled, now: float) -> None:
        call = event.call
        if event.stream in self.cluster.refused_streams:
            return
        framework = self.cluster.scheduler_streams.get(event.stream)
        if isinstance(call, Subscribe):
            if framework is not None:
                frameworks.stream_closed(self.cluster, event.stream, now)
                self._refuse_stream(event.stream, "this stream is subscribed already")
            else:
                frameworks.subscribe(self.cluster, event.stream, call, event.fresh_id)
            return
        if framework is None:
            self._refuse_stream(event.stream, "the first call of a stream must be subscribe")
            return
        try:
            self._carry_out(framework, call, now)
        except InvalidInput as error:
            self.cluster.tell(framework, CallRefused(_name(call), str(error)))

    def _carry_out(self, framework: Framework, call: Call, now: float) -> None:
        cluster = self.cluster
        match call:
            case Accept():
                launching.accept(cluster, framework, call, now)
            case Decline():
                launching.decline(cluster, framework, call, now)
            case Acknowledge():
                for receipt in call.acknowledgements:
                    statuses.acknowledge(cluster, framework, receipt)
            case Kill():
                statuses.kill(cluster, framework, call.task_id, call.grace_ms, Reason.KILLED_BY_FRAMEWORK, now)
            case Revive():
                frameworks.revive(cluster, framework, call)
            case Suppress():
                frameworks.suppress(cluster, framework, call)
            case Reconcile():
                statuses.reconcile(cluster, framework, call.tasks, now)
            case UpdateDemand():
                frameworks.state_demand(cluster, framework, call, now)
            case UpdateFramework():
                frameworks.update(cluster, framework, call)
            case Teardown():
                frameworks.remove(cluster, framework, "the framework asked for its own removal")
            case AnswerInverseOffer():
                cluster.inverse_offers.answer(framework, call)
            case Subscribe():
                raise AssertionError("handled before")
            case _:
                assert_never(call)

    # Operators

    def _operator_asked(self, event: OperatorEvent, now: float) -> None:
        match event:
            case KillTaskAsked():
                error = self._kill_asked(event, now)
            case TeardownAsked():
                error = frameworks.teardown_asked(self.cluster, event.framework_id)
            case DeactivationAsked():
                error = agents.deactivate(self.cluster, event.agent_id, event.is_deactivated)
            case GoneAsked():
                error = agents.mark_gone(self.cluster, event.agent_id, now)
            case DrainAsked():
                error = maintenance.drain(self.cluster, event, now)
            case UnavailabilityAsked():
                error = maintenance.set_unavailability(self.cluster, event, now)
            case ReserveAsked() | UnreserveAsked() | CreateVolumeAsked() | DestroyVolumeAsked():
                error = operations.asked(self.cluster, event)
            case WeightAsked() | QuotasAsked() | RoleOffersAsked():
                error = role_settings.asked(self.cluster, event)
            case _:
                assert_never(event)
        self.cluster.do(AnswerOperator(event.question, error))

    def _kill_asked(self, event: KillTaskAsked, now: float) -> RunrigError | None:
        framework = self.cluster.frameworks.get(event.framework_id)
        task = framework.tasks.get(event.task_id) if framework is not None else None
        if framework is None or task is None:
            return NotFound("task", event.task_id, "see `runrig tasks ls`")
        if task.state.is_terminal:
            return Conflict(f"task {task.id} has ended already: {task.state.name}")
        statuses.kill(self.cluster, framework, task.id, event.grace_ms, Reason.KILLED_BY_OPERATOR, now)
        return None

    # Time

    def _tick(self, now: float) -> None:
        self._silence.tick(now)
        self._remove_absent(now)
        self._forget_oldest_completed()
        self._stop_waiting_for_holdings(now)
        self._expire_offers(now)
        self._expire_filters(now)
        self._maintain(now)
        self._offer_free(now)

    def _stop_waiting_for_holdings(self, now: float) -> None:
        """Offer to limited roles again even if an agent has not come back: it may never be marked unreachable."""
        if self.cluster.recovering and now >= self._holdings_due:
            self.cluster.know_holdings()

    def _remove_absent(self, now: float) -> None:
        for framework in list(self.cluster.absent.values()):
            if framework.failover_deadline is not None and framework.failover_deadline <= now:
                frameworks.remove(self.cluster, framework, "its failover timeout has passed")

    def _forget_oldest_completed(self) -> None:
        completed = self.cluster.completed
        too_many = len(completed) - self.cluster.settings.completed_frameworks
        if too_many <= 0:
            return
        over = [framework.id for framework in completed.values() if not framework.tasks][:too_many]
        for framework_id in over:
            del completed[framework_id]
            self.cluster.do(Persist((Forget(framework_id=framework_id),)))

    def _expire_offers(self, now: float) -> None:
        expired = []
        for offer in self.cluster.offers.values():
            if offer.expires_at > now:
                break
            expired.append(offer)
        for offer in expired:
            self.cluster.pass_on(offer, now)
        if expired:
            self.cluster.rescind(expired, RescindReason.EXPIRED)

    def _expire_filters(self, now: float) -> None:
        self.cluster.dirty |= self.cluster.filters.expire(now)

    def _maintain(self, now: float) -> None:
        for agent in maintenance.tick(self.cluster, now):
            agents.mark_gone(self.cluster, agent.id, now)
        for inverse in self.cluster.inverse_offers.due(now):
            maintenance.end_notice(self.cluster, inverse, now)

    def _tell_inverse_offers(self) -> None:
        for framework, news in self.cluster.inverse_offers.news():
            self.cluster.tell(framework, news)

    def _offer_free(self, now: float) -> None:
        self._tell_inverse_offers()
        self._tell_offers(self._allocate(now))
        for _ in range(PASSES_PER_TURN - 1):
            if not waiting.look_after(self.cluster, now) and not self.cluster.dirty:
                break
            self._tell_offers(self._allocate(now))
        self._tell_inverse_offers()

    def _tell_offers(self, made: list[OutstandingOffer]) -> None:
        by_framework: dict[FrameworkId, list[OutstandingOffer]] = {}
        for offer in made:
            by_framework.setdefault(offer.framework.id, []).append(offer)
        for offers in by_framework.values():
            for start in range(0, len(offers), OFFERS_PER_MESSAGE):
                batch = offers[start : start + OFFERS_PER_MESSAGE]
                self.cluster.tell(offers[0].framework, OffersMade(tuple(described(offer) for offer in batch)))

    def _allocate(self, now: float) -> list[OutstandingOffer]:
        """Run one pass."""
        return allocate(self.cluster, now)


PASSES_PER_TURN = 3
"""What looking after demand that waits has freed is offered in the same turn, but no turn goes on for ever."""
OFFERS_PER_MESSAGE = 100
"""Keeps a message of offers below 4 MiB with any attributes, below 50 KiB with ordinary ones."""


def _name(call: Call) -> str:
    """Return a call's name as the wire has it: `update_framework`."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in type(call).__name__)[1:]


def _presence_at_start(record: AgentRecord) -> Presence:
    if record.is_gone:
        return Presence.GONE
    return Presence.UNREACHABLE if record.is_unreachable else Presence.RECOVERING
