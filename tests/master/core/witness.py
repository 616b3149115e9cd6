"""What somebody outside the master can know, and what may never contradict it.

A witness hears all that the master is told and sees all that it does. From these alone it keeps which offers stand, who
is there, what was refused and what was said of each task; each command that cannot follow from that is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runrig.agents import AgentChanged, AgentInfo, Launch, Order, Register, Registered
from runrig.ids import AgentId, FrameworkId, OfferId, Role
from runrig.offers import (
    Accept,
    Call,
    CallRefused,
    Decline,
    Filter,
    FrameworkInfo,
    LaunchGroup,
    News,
    Offer,
    OffersMade,
    OffersRescinded,
    RefusalCode,
    Revive,
    Subscribe,
    Subscribed,
    Suppress,
    TasksUpdated,
    UpdateFramework,
)
from runrig.resources import NOTHING, Resources
from runrig.tasks import Reason, StatusUpdate, TaskState
from runrig_master.core.commands import (
    AgentRecord,
    AnswerOperator,
    CloseStream,
    Command,
    Forget,
    FrameworkRecord,
    Persist,
    Record,
    SendToAgent,
    SendToScheduler,
)
from runrig_master.core.events import (
    AgentReported,
    AgentStreamClosed,
    DeactivationAsked,
    Event,
    GoneAsked,
    SchedulerCalled,
    SchedulerStreamClosed,
    StreamId,
)
from runrig_master.core.settings import CoreSettings

FORGOTTEN = (TaskState.TASK_UNKNOWN, TaskState.TASK_UNREACHABLE, TaskState.TASK_GONE_BY_OPERATOR)
"""What a reconciliation may say of a task that has ended and that the master does not know (any more)."""

FilterKey = tuple[FrameworkId, Role, AgentId]


@dataclass
class _Scheduler:
    info: FrameworkInfo
    suppressed: set[Role] = field(default_factory=set)


@dataclass
class _Said:
    """What a framework was told of a task."""

    number: int = 0
    ended: TaskState | None = None


class Witness:
    """Remember what was told and seen; object to what contradicts it."""

    def __init__(self, settings: CoreSettings) -> None:
        self.settings = settings
        self.epoch = 1
        self.offers: dict[OfferId, tuple[FrameworkId, Offer]] = {}
        """Those that stand, with their owners."""
        self.launched: dict[tuple[FrameworkId, str], AgentId] = {}
        self.said: dict[tuple[FrameworkId, str], _Said] = {}
        self._known_offers: set[OfferId] = set()
        self._schedulers: dict[StreamId, _Scheduler] = {}
        self._agents: dict[StreamId, AgentInfo] = {}
        self._infos: dict[AgentId, AgentInfo] = {}
        self._deactivated: set[AgentId] = set()
        self._closed: set[StreamId] = set()
        self.sessions: dict[FrameworkId, int] = {}
        self._filters: dict[FilterKey, list[tuple[Resources, float]]] = {}
        self._asked: Event | None = None
        self._was_refused = False
        self._error: object = None
        self._accepted: list[tuple[FrameworkId, LaunchGroup, Role, Resources, Filter]] = []
        self._is_all_or_nothing = False
        """Whether the Accept was atomic: one that comes to nothing refuses nothing."""
        self._launched_now: list[tuple[FrameworkId, AgentId, Resources]] = []
        self._has_somebody_left = False
        """Whether offers may stand of whom is no longer there."""

    def master_died(self, epoch: int) -> None:
        """Forget what only the master's memory held."""
        self.epoch = epoch
        self.offers.clear()
        self._schedulers.clear()
        self._agents.clear()
        self._filters.clear()

    # What the master is told

    def tell(self, event: Event, now: float) -> None:
        """Hear an event before the master does."""
        self._asked, self._was_refused, self._error = event, False, None
        match event:
            case AgentReported(stream, report) if stream in self._agents and isinstance(report, AgentChanged):
                self._changed(stream, report.agent)
            case AgentStreamClosed(stream):
                self._agents.pop(stream, None)
                self._has_somebody_left = True
            case SchedulerCalled(stream, call) if stream in self._schedulers:
                self._called(self._schedulers[stream], call, now)
            case SchedulerStreamClosed(stream):
                self._scheduler_left(stream)
            case _:
                pass

    def _changed(self, stream: StreamId, info: AgentInfo) -> None:
        if info.agent_id == self._agents[stream].agent_id and info != self._agents[stream]:
            self._agents[stream] = self._infos[info.agent_id] = info
            self._forget_filters(agent=info.agent_id)

    def _called(self, scheduler: _Scheduler, call: Call, now: float) -> None:
        mine = scheduler.info.framework_id
        match call:
            case Accept():
                self._heard_accept(mine, call)
            case Decline():
                for offer_id in call.offer_ids:
                    owner, offer = self.offers.get(offer_id, (None, None))
                    if owner == mine and offer is not None:
                        del self.offers[offer_id]
                        self._refuse(mine, offer.role, offer.agent_id, offer.resources, call.filter, now)
            case Suppress() if set(call.roles) <= set(scheduler.info.roles):
                scheduler.suppressed |= set(call.roles or scheduler.info.roles)
            case Revive() if set(call.roles) <= set(scheduler.info.roles):
                roles = call.roles or scheduler.info.roles
                scheduler.suppressed -= set(roles)
                for role in roles:
                    self._forget_filters(framework=mine, role=role)

    def _heard_accept(self, mine: FrameworkId, call: Accept) -> None:
        named: set[OfferId] = set()
        for group in call.groups:
            offers = [self.offers[id_][1] for id_ in group.offer_ids if self.offers.get(id_, ("",))[0] == mine]
            is_good = (
                0 < len(offers) == len(set(group.offer_ids)) == len(group.offer_ids)
                and not named & set(group.offer_ids)
                and {offer.agent_id for offer in offers} == {group.agent_id}
                and len({offer.role for offer in offers}) == 1
            )
            named |= set(group.offer_ids)
            if is_good:
                total = NOTHING
                for offer in offers:
                    total = total + offer.resources
                self._accepted.append((mine, group, offers[0].role, total, call.filter))
        for offer_id in named:
            if self.offers.get(offer_id, ("",))[0] == mine:
                del self.offers[offer_id]
        self._is_all_or_nothing = call.atomic and any(op.tasks for group in call.groups for op in group.operations)

    def _refuse(
        self, mine: FrameworkId, role: Role, agent: AgentId, resources: Resources, filter_: Filter, now: float
    ) -> None:
        if filter_.refuse_ms and not resources.is_empty:
            self._filters.setdefault((mine, role, agent), []).append((resources, now + filter_.refuse_ms / 1000))

    def _forget_filters(
        self, framework: FrameworkId | None = None, role: Role | None = None, agent: AgentId | None = None
    ) -> None:
        for key in list(self._filters):
            if framework in (None, key[0]) and role in (None, key[1]) and agent in (None, key[2]):
                del self._filters[key]

    def _scheduler_left(self, stream: StreamId) -> None:
        scheduler = self._schedulers.pop(stream, None)
        self._has_somebody_left = True
        if scheduler is not None:
            mine = scheduler.info.framework_id
            self.offers = {key: value for key, value in self.offers.items() if value[0] != mine}

    def takers(self, agent: AgentId, free: Resources, now: float) -> list[FilterKey]:
        """Return who could be offered `free` of an agent: has not refused it, nor suppressed the role."""
        if agent in self._deactivated or not self._is_there(agent):
            return []
        keys = [
            (scheduler.info.framework_id, role, agent)
            for scheduler in self._schedulers.values()
            for role in scheduler.info.roles
            if role not in scheduler.suppressed
        ]
        return [key for key in keys if not self._is_hidden(key, free, now)]

    def _is_there(self, agent: AgentId) -> bool:
        return any(info.agent_id == agent for info in self._agents.values())

    def _is_hidden(self, key: FilterKey, free: Resources, now: float) -> bool:
        return any(until > now and refused.contains(free) for refused, until in self._filters.get(key, []))

    # What the master does

    def see(self, command: Command, disk: Mapping[str, Record], now: float) -> None:
        """Judge a command, in its order; `disk` is what is durable by now."""
        match command:
            case SendToAgent(stream, order):
                assert stream not in self._closed, f"{order} is sent on a stream that was refused"
                self._order_seen(stream, order, disk)
            case SendToScheduler(stream, item):
                assert stream not in self._closed, f"{item} is sent on a stream that was refused"
                self._news_seen(stream, item, disk, now)
            case CloseStream():
                self._close_seen(command, disk)
            case AnswerOperator():
                self._error = command.error
            case Persist():
                for record in command.records:
                    if isinstance(record, AgentRecord) and record.is_unreachable:
                        self._forget_filters(agent=record.agent.agent_id)
                    if isinstance(record, Forget) and record.framework_id:
                        self.sessions.pop(record.framework_id, None)  # its id is as good as new
            case _:
                pass

    def _order_seen(self, stream: StreamId, order: Order, disk: Mapping[str, Record]) -> None:
        if isinstance(order, Registered):
            assert isinstance(self._asked, AgentReported)
            assert isinstance(self._asked.report, Register)
            info = self._asked.report.agent
            record = disk.get(f"agents/{info.agent_id}")
            assert isinstance(record, AgentRecord), f"{info.agent_id} is told of an admission that is not durable"
            assert not record.is_unreachable
            assert not record.is_gone
            self._agents[stream] = info
            was = self._infos.get(info.agent_id, info)
            if (was.resources, was.attributes) != (info.resources, info.attributes):
                self._forget_filters(agent=info.agent_id)
            self._infos[info.agent_id] = info
            return
        assert stream in self._agents, f"{order} is sent to nobody"
        if isinstance(order, Launch):
            for spec in order.tasks:
                key = (order.framework_id, spec.task_id)
                assert key not in self.launched, f"{key} is launched twice"
                self.launched[key] = self._agents[stream].agent_id
                self._launched_now.append((order.framework_id, self._agents[stream].agent_id, spec.resources))

    def _news_seen(self, stream: StreamId, item: News, disk: Mapping[str, Record], now: float) -> None:
        if isinstance(item, Subscribed):
            self._subscribed(stream, item, disk)
            return
        assert stream in self._schedulers, f"{item} is sent to nobody"
        mine = self._schedulers[stream].info.framework_id
        match item:
            case OffersMade():
                for offer in item.offers:
                    self._offer_seen(self._schedulers[stream], offer, now)
            case OffersRescinded():
                for offer_id in item.offer_ids:
                    owner, _ = self.offers.pop(offer_id, ("nobody", None))
                    assert owner == mine, f"{offer_id} is rescinded from {mine}, it was {owner}'s"
            case TasksUpdated():
                for update in item.updates:
                    self._update_seen(mine, update, disk)
            case CallRefused():
                self._was_refused = True
            case _:
                pass

    def _subscribed(self, stream: StreamId, item: Subscribed, disk: Mapping[str, Record]) -> None:
        assert isinstance(self._asked, SchedulerCalled)
        call = self._asked.call
        assert isinstance(call, Subscribe)
        record = disk.get(f"frameworks/{item.framework_id}")
        assert isinstance(record, FrameworkRecord), f"{item.framework_id} is told of an admission that is not durable"
        assert record.session == call.session
        assert call.session > self.sessions.get(item.framework_id, -1), "an overtaken session is taken up"
        self.sessions[item.framework_id] = call.session
        assert not record.is_completed
        assert record.failover_deadline is None
        for other, scheduler in list(self._schedulers.items()):
            assert scheduler.info.framework_id != item.framework_id, f"stream {other} was not told that it is overtaken"
        self._forget_filters(framework=item.framework_id)
        self._schedulers[stream] = _Scheduler(record.framework, set(call.suppressed_roles))

    def _offer_seen(self, scheduler: _Scheduler, offer: Offer, now: float) -> None:
        mine = scheduler.info.framework_id
        assert offer.offer_id not in self._known_offers, f"{offer.offer_id} is used twice"
        assert offer.offer_id.startswith(f"o{self.epoch}-")
        self._known_offers.add(offer.offer_id)
        assert offer.role in scheduler.info.roles
        assert offer.role not in scheduler.suppressed, f"{offer.role} is suppressed"
        assert self._is_there(offer.agent_id), f"{offer.agent_id} is not there"
        assert offer.agent_id not in self._deactivated, f"{offer.agent_id} is deactivated"
        for refused, until in self._filters.get((mine, offer.role, offer.agent_id), []):
            is_hidden = until > now and refused.contains(offer.resources)
            assert not is_hidden, f"{offer} was refused until {until}, and it is {now}"
        self.offers[offer.offer_id] = (mine, offer)

    def _update_seen(self, mine: FrameworkId, update: StatusUpdate, disk: Mapping[str, Record]) -> None:
        assert update.framework_id == mine
        self._check_durable(update, disk)
        never_was = (mine, update.task_id) not in self.launched and update.state.is_terminal and not update.number
        if update.reason is Reason.TASK_ID_USED or never_was:
            return
        said = self.said.setdefault((mine, update.task_id), _Said())
        if said.ended is not None:
            is_old = 0 < update.number <= said.number
            is_forgotten = update.reason is Reason.RECONCILIATION and update.state in FORGOTTEN
            assert is_old or is_forgotten or update.state is said.ended, f"{said.ended.name} became {update}"
        elif update.state.is_terminal:
            said.ended = update.state
        said.number = max(said.number, update.number)

    def _check_durable(self, update: StatusUpdate, disk: Mapping[str, Record]) -> None:
        record = disk.get(f"agents/{update.agent_id}")
        if update.reason is Reason.AGENT_UNREACHABLE and update.state is TaskState.TASK_UNREACHABLE:
            assert isinstance(record, AgentRecord)
            assert record.is_unreachable, "unreachable is said before it is durable (rule 10)"
        if update.reason is Reason.AGENT_RETURNED:
            assert isinstance(record, AgentRecord)
            assert not record.is_unreachable
        if update.state is TaskState.TASK_GONE_BY_OPERATOR:
            assert isinstance(record, AgentRecord)
            assert record.is_gone, "gone is said before it is durable"

    def _close_seen(self, command: CloseStream, disk: Mapping[str, Record]) -> None:
        assert command.stream not in self._closed, f"stream {command.stream} is refused twice"
        self._closed.add(command.stream)
        scheduler = self._schedulers.get(command.stream)
        if scheduler is not None and command.refusal.code is RefusalCode.REMOVED:
            record = disk.get(f"frameworks/{scheduler.info.framework_id}")
            assert isinstance(record, FrameworkRecord)
            assert record.is_completed, "a framework is told of its removal before that is durable"
        info = self._agents.pop(command.stream, None)
        if info is not None and command.refusal.code is RefusalCode.GONE:
            gone = disk.get(f"agents/{info.agent_id}")
            assert isinstance(gone, AgentRecord)
            assert gone.is_gone, "an agent is told that it is gone before that is durable"
        self._scheduler_left(command.stream)

    # What stands after an event

    def settle(self, now: float) -> None:
        """Judge what stands once an event has been handled."""
        if self._is_all_or_nothing and not self._launched_now:
            self._accepted.clear()
        for mine, group, role, left, filter_ in self._accepted:
            for framework, agent, resources in self._launched_now:
                if (framework, agent) == (mine, group.agent_id) and left.contains(resources):
                    left = left - resources
            self._refuse(mine, role, group.agent_id, left, filter_, now)
        self._accepted.clear()
        self._launched_now.clear()
        self._is_all_or_nothing = False
        self._settle_question()
        if self._has_somebody_left:
            self._has_somebody_left = False
            self._check_offers()

    def _check_offers(self) -> None:
        present = {info.agent_id for info in self._agents.values()} - self._deactivated
        owners = {scheduler.info.framework_id for scheduler in self._schedulers.values()}
        for owner, offer in self.offers.values():
            assert offer.agent_id in present, f"{offer} stands though its agent is not there"
            assert owner in owners, f"{offer} stands though {owner} is not there"

    def _settle_question(self) -> None:
        match self._asked:
            case DeactivationAsked() if self._error is None:
                self._has_somebody_left = True
                change = self._deactivated.add if self._asked.is_deactivated else self._deactivated.discard
                change(self._asked.agent_id)
            case GoneAsked() if self._error is None:
                self._forget_filters(agent=self._asked.agent_id)
            case SchedulerCalled(stream, UpdateFramework(info)) if not self._was_refused and stream in self._schedulers:
                scheduler = self._schedulers[stream]
                scheduler.info = FrameworkInfo(info.name, info.roles, scheduler.info.framework_id)
                scheduler.suppressed &= set(info.roles)
