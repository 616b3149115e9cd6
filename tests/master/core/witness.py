"""What somebody outside the master can know, and what may never contradict it.

A witness hears all that the master is told and sees all that it does. From these alone it keeps which offers stand, who
is there, what was refused and what was said of each task; each command that cannot follow from that is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runrig.agents import AgentChanged, AgentInfo, DestroyAgentVolume, KillTask, Launch, Order, Register, Registered
from runrig.demand import Demand
from runrig.ids import AgentId, FrameworkId, OfferId, Role
from runrig.offers import (
    Accept,
    Call,
    CallRefused,
    CreateVolume,
    Decline,
    DestroyVolume,
    Filter,
    FrameworkInfo,
    InverseOffer,
    InverseOfferReason,
    InverseOffersEnded,
    InverseOffersMade,
    LaunchGroup,
    LaunchTasks,
    News,
    Offer,
    OffersMade,
    OffersRescinded,
    OperationsDone,
    RefusalCode,
    RescindReason,
    Reserve,
    Revive,
    Subscribe,
    Subscribed,
    Suppress,
    TasksUpdated,
    Unreserve,
    UpdateDemand,
    UpdateFramework,
)
from runrig.reservations import Reservation
from runrig.resources import NOTHING, Resources, count_ports
from runrig.tasks import Reason, RuntimeKind, StatusUpdate, TaskState
from runrig_master.core.commands import (
    AgentRecord,
    AnswerOperator,
    CloseStream,
    Command,
    Forget,
    FrameworkRecord,
    Persist,
    Record,
    ReservationRecord,
    SendToAgent,
    SendToScheduler,
    VolumeRecord,
)
from runrig_master.core.events import (
    AgentReported,
    AgentStreamClosed,
    DeactivationAsked,
    DrainAsked,
    Event,
    GoneAsked,
    SchedulerCalled,
    SchedulerStreamClosed,
    StreamId,
)
from runrig_master.core.quotas import is_within
from runrig_master.core.settings import CoreSettings

FORGOTTEN = (TaskState.TASK_UNKNOWN, TaskState.TASK_UNREACHABLE, TaskState.TASK_GONE_BY_OPERATOR)
"""What a reconciliation may say of a task that has ended and that the master does not know (any more)."""

FilterKey = tuple[FrameworkId, Role, AgentId, str]
"""Who has refused what: of which pool of the agent comes last."""


@dataclass(frozen=True)
class _Refused:
    """What was refused; of None only that something was, as reservations changed meanwhile."""

    resources: Resources | None
    until: float


@dataclass
class _Scheduler:
    info: FrameworkInfo
    suppressed: set[Role] = field(default_factory=set)
    uses_demand: bool = False
    demands: dict[Role, tuple[Demand, ...]] = field(default_factory=dict)
    """What it wants, by role, as far as that is sure: an Accept makes it unsure until it is stated again."""


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
        self.inverse_offers: dict[str, tuple[FrameworkId, InverseOffer]] = {}
        """Those that were told to a scheduler that is there, and have not ended, with their owners."""
        self._inverse_owners: dict[str, FrameworkId] = {}
        self._deactivated: set[AgentId] = set()
        self._drained: set[AgentId] = set()
        self._closed: set[StreamId] = set()
        self.sessions: dict[FrameworkId, int] = {}
        self._filters: dict[FilterKey, list[_Refused]] = {}
        self._asked: Event | None = None
        self._was_refused = False
        self._error: object = None
        self._accepted: list[tuple[FrameworkId, LaunchGroup, Role, dict[str, Resources], Filter]] = []
        self._is_all_or_nothing = False
        """Whether the Accept was atomic: one that comes to nothing refuses nothing."""
        self._launched_now: list[tuple[FrameworkId, AgentId, str, Resources]] = []
        self._has_somebody_left = False
        """Whether offers may stand of whom is no longer there."""

    def master_died(self, epoch: int) -> None:
        """Forget what only the master's memory held."""
        self.epoch = epoch
        self.offers.clear()
        self.inverse_offers.clear()
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
                scheduler.demands.clear()
            case UpdateDemand(role, demands) if role in scheduler.info.roles:
                scheduler.demands[role] = demands
            case Decline():
                for offer_id in call.offer_ids:
                    owner, offer = self.offers.get(offer_id, (None, None))
                    if owner == mine and offer is not None:
                        del self.offers[offer_id]
                        place = (mine, offer.role, offer.agent_id, pool_of(offer))
                        self._refuse(place, offer.resources, call.filter, now)
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
            if is_good and not any(offer.is_optimistic for offer in offers):
                left: dict[str, Resources] = {}
                for offer in offers:
                    left[pool_of(offer)] = left.get(pool_of(offer), NOTHING) + offer.resources
                self._accepted.append((mine, group, offers[0].role, left, call.filter))
        for offer_id in named:
            if self.offers.get(offer_id, ("",))[0] == mine:
                del self.offers[offer_id]
        self._is_all_or_nothing = call.atomic and any(group.tasks for group in call.groups)

    def _refuse(self, key: FilterKey, resources: Resources | None, filter_: Filter, now: float) -> None:
        if filter_.refuse_ms and (resources is None or not resources.is_empty):
            refused = _Refused(resources, now + filter_.refuse_ms / 1000)
            self._filters.setdefault(key, []).append(refused)

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
            self.inverse_offers = {key: value for key, value in self.inverse_offers.items() if value[0] != mine}

    def _doubt_filters(self, agent: AgentId, pool: str | None = None) -> None:
        """Keep no more in mind than that something was refused: pools have come and gone."""
        for key, refused in self._filters.items():
            if agent == key[2] and pool in (None, key[3]):
                refused[:] = [_Refused(None, each.until) for each in refused]

    def takers(self, agent: AgentId, reservation: Reservation | None, free: Resources, now: float) -> list[FilterKey]:
        """Return who could be offered `free` of a pool: may see it, has not refused it, nor suppressed the role."""
        if agent in self._deactivated | self._drained or not self._is_there(agent):
            return []
        keys = [
            (scheduler.info.framework_id, role, agent, reservation.reservation_id if reservation is not None else "")
            for scheduler in self._schedulers.values()
            for role in scheduler.info.roles
            if role not in scheduler.suppressed
            and (reservation is None or is_within(role, reservation.role))
            and self._would_take(scheduler, role, agent, free)
        ]
        return [key for key in keys if not self._is_hidden(key, free, now)]

    def _is_there(self, agent: AgentId) -> bool:
        return any(info.agent_id == agent for info in self._agents.values())

    def _would_take(self, scheduler: _Scheduler, role: Role, agent: AgentId, free: Resources) -> bool:
        """Say whether a role is surely in want of what is free; of demand only what is simple is sure."""
        if not scheduler.uses_demand:
            return True
        mine = scheduler.info.framework_id
        if any(owner == mine for owner, _ in self.offers.values()):
            return False
        runtimes = self._infos[agent].runtimes
        return any(
            not demand.constraints
            and not demand.gang_id
            and (demand.runtime is RuntimeKind.ANY or demand.runtime in runtimes)
            and free.contains(demand.resources)
            and count_ports(free.less_ports(demand.resources.ports).ports) >= demand.port_count
            for demand in scheduler.demands.get(role, ())
        )

    def _is_hidden(self, key: FilterKey, free: Resources, now: float) -> bool:
        return any(
            each.until > now and (each.resources is None or each.resources.contains(free))
            for each in self._filters.get(key, [])
        )

    # What the master does

    def see(self, command: Command, disk: Mapping[str, Record], now: float) -> None:
        """Judge a command, in its order; `disk` is what is durable by now."""
        match command:
            case SendToAgent(stream, order):
                assert stream not in self._closed, f"{order} is sent on a stream that was refused"
                self._order_seen(stream, order, disk, now)
            case SendToScheduler(stream, item):
                assert stream not in self._closed, f"{item} is sent on a stream that was refused"
                self._news_seen(stream, item, disk, now)
            case CloseStream():
                self._close_seen(command, disk)
            case AnswerOperator():
                self._error = command.error
            case Persist():
                for record in command.records:
                    if isinstance(record, AgentRecord) and (record.is_unreachable or record.is_gone):
                        self._forget_filters(agent=record.agent.agent_id)
                    if isinstance(record, Forget) and record.framework_id:
                        self.sessions.pop(record.framework_id, None)  # its id is as good as new
                    if isinstance(record, Forget) and record.agent_id and record.reservation_id:
                        self._doubt_filters(record.agent_id, record.reservation_id)
            case _:
                pass

    def _order_seen(self, stream: StreamId, order: Order, disk: Mapping[str, Record], now: float) -> None:
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
            if was.reservations != info.reservations:
                self._doubt_filters(info.agent_id)
            self._infos[info.agent_id] = info
            return
        assert stream in self._agents, f"{order} is sent to nobody"
        if isinstance(order, KillTask) and order.reason is Reason.AGENT_DRAINED:
            drain = _record(self._agents[stream].agent_id, disk).drain
            assert drain is not None, f"{order} is no order of an agent that is not drained"
            assert drain.deadline <= now, f"{order} comes before the deadline of the drain"
        if isinstance(order, Launch):
            for spec in order.tasks:
                key = (order.framework_id, spec.task_id)
                assert key not in self.launched, f"{key} is launched twice"
                self.launched[key] = self._agents[stream].agent_id
                agent = self._agents[stream].agent_id
                self._launched_now.append((order.framework_id, agent, spec.terms.reservation_id, spec.resources))
        if isinstance(order, DestroyAgentVolume):
            volume = disk.get(f"volumes/{self._agents[stream].agent_id}/{order.volume_id}")
            assert isinstance(volume, VolumeRecord), f"{order} is of no volume"
            assert volume.is_doomed, "a volume is deleted before its end is durable"

    def _news_seen(self, stream: StreamId, item: News, disk: Mapping[str, Record], now: float) -> None:
        if isinstance(item, Subscribed):
            self._subscribed(stream, item, disk)
            return
        assert stream in self._schedulers, f"{item} is sent to nobody"
        mine = self._schedulers[stream].info.framework_id
        match item:
            case OffersMade():
                for offer in item.offers:
                    self._offer_seen(self._schedulers[stream], offer, disk, now)
            case InverseOffersMade():
                for inverse in item.inverse_offers:
                    self._inverse_offer_seen(mine, inverse, disk)
            case InverseOffersEnded():
                for inverse_id in item.inverse_offer_ids:
                    owner, _ = self.inverse_offers.pop(inverse_id, ("nobody", None))
                    assert owner == mine, f"{inverse_id} is ended for {mine}, it was {owner}'s"
            case OffersRescinded():
                for offer_id in item.offer_ids:
                    assert offer_id in self.offers, f"{offer_id} is rescinded from {mine}, and does not stand"
                    owner, offer = self.offers.pop(offer_id)
                    assert owner == mine, f"{offer_id} is rescinded from {mine}, it was {owner}'s"
                    if item.reason is RescindReason.DEMANDED:
                        place = (mine, offer.role, offer.agent_id, pool_of(offer))
                        self._refuse(place, offer.resources, Filter(), now)
            case TasksUpdated():
                for update in item.updates:
                    self._update_seen(mine, update, disk)
            case CallRefused():
                self._was_refused = True
            case OperationsDone():
                self._results_seen(item, disk)
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
        self._schedulers[stream] = _Scheduler(record.framework, set(call.suppressed_roles), call.uses_demand)

    def _inverse_offer_seen(self, mine: FrameworkId, inverse: InverseOffer, disk: Mapping[str, Record]) -> None:
        id_ = inverse.inverse_offer_id
        assert id_.startswith(f"i{self.epoch}-")
        assert id_ not in self.inverse_offers, f"{id_} is made though it stands"
        assert self._inverse_owners.setdefault(id_, mine) == mine, f"{id_} is used twice"
        assert inverse.task_ids, f"{id_} asks for nothing"
        record = _record(inverse.agent_id, disk)
        if inverse.reason is InverseOfferReason.DRAIN:
            assert record.drain is not None, "a drain is told before it is durable"
            assert record.drain.deadline_unix_ms == inverse.deadline_unix_ms
        if inverse.reason is InverseOfferReason.MAINTENANCE:
            assert inverse.unavailability is not None
            assert record.unavailability == inverse.unavailability, "unavailability is told before it is durable"
            assert not inverse.deadline_unix_ms
        self.inverse_offers[id_] = (mine, inverse)

    def _offer_seen(self, scheduler: _Scheduler, offer: Offer, disk: Mapping[str, Record], now: float) -> None:
        mine = scheduler.info.framework_id
        assert offer.offer_id not in self._known_offers, f"{offer.offer_id} is used twice"
        assert offer.offer_id.startswith(f"o{self.epoch}-")
        self._known_offers.add(offer.offer_id)
        assert offer.role in scheduler.info.roles
        assert offer.role not in scheduler.suppressed, f"{offer.role} is suppressed"
        assert self._is_there(offer.agent_id), f"{offer.agent_id} is not there"
        record = _record(offer.agent_id, disk)
        assert not record.is_deactivated, f"{offer.agent_id} is deactivated"
        assert record.drain is None, f"{offer.agent_id} is drained"
        assert record.unavailability == offer.unavailability
        self._check_reserved(offer, disk)
        for each in self._filters.get((mine, offer.role, offer.agent_id, pool_of(offer)), []):
            is_hidden = each.until > now and each.resources is not None and each.resources.contains(offer.resources)
            assert not is_hidden, f"{offer} was refused until {each.until}, and it is {now}"
        self.offers[offer.offer_id] = (mine, offer)

    def _check_reserved(self, offer: Offer, disk: Mapping[str, Record]) -> None:
        """Assert that a reserved offer is for those whom it is kept for, and that all of it is durable."""
        reservation = offer.reservation
        if reservation is not None:
            assert is_within(offer.role, reservation.role), f"{offer} is reserved for {reservation.role}"
            record = disk.get(f"reservations/{offer.agent_id}/{reservation.reservation_id}")
            if reservation.is_static:
                names = {each.reservation_id for each in self._infos[offer.agent_id].reservations}
                assert reservation.reservation_id in names
            else:
                assert isinstance(record, ReservationRecord), f"{offer} is of a reservation that is not durable"
                assert record.reservation == reservation
        for volume in offer.volumes:
            kept = disk.get(f"volumes/{offer.agent_id}/{volume.volume_id}")
            assert isinstance(kept, VolumeRecord), f"{offer} has a volume that is not durable"
            assert (kept.volume, kept.is_doomed) == (volume, False)
            assert volume.reservation_id == pool_of(offer)
            holders = [each for _, each in self.offers.values() if volume in each.volumes and not each.is_optimistic]
            is_held = any(each.agent_id == offer.agent_id for each in holders)
            assert not is_held or offer.is_optimistic, f"{volume} stands in two offers"

    def _results_seen(self, item: OperationsDone, disk: Mapping[str, Record]) -> None:
        """Assert that what is done is durable; operations of one Accept that undo each other are not looked at."""
        assert isinstance(self._asked, SchedulerCalled)
        assert isinstance(self._asked.call, Accept)
        done = {(each.agent_id, each.operation_id) for each in item.results if each.is_done}
        for group in self._asked.call.groups:
            changes = [each for each in group.operations if not isinstance(each, LaunchTasks)]
            if len(changes) == 1 and (group.agent_id, changes[0].operation_id) in done:
                self._check_done(group.agent_id, changes[0], disk)

    def _check_done(
        self, agent: AgentId, change: Reserve | Unreserve | CreateVolume | DestroyVolume, disk: Mapping[str, Record]
    ) -> None:
        match change:
            case Reserve():
                assert f"reservations/{agent}/{change.reservation.reservation_id}" in disk
            case Unreserve():
                assert f"reservations/{agent}/{change.reservation_id}" not in disk
            case CreateVolume():
                assert f"volumes/{agent}/{change.volume.volume_id}" in disk
            case DestroyVolume():
                kept = disk.get(f"volumes/{agent}/{change.volume_id}")
                assert kept is None or (isinstance(kept, VolumeRecord) and kept.is_doomed)

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
            is_sure = len(group.launches) == len(group.operations)
            for framework, agent, pool, resources in self._launched_now:
                if (framework, agent) == (mine, group.agent_id) and left.get(pool, NOTHING).contains(resources):
                    left[pool] = left[pool] - resources
            for pool, rest in left.items():
                self._refuse((mine, role, group.agent_id, pool), rest if is_sure else None, filter_, now)
        self._accepted.clear()
        self._launched_now.clear()
        self._is_all_or_nothing = False
        self._settle_question()
        if self._has_somebody_left:
            self._has_somebody_left = False
            self._check_offers()

    def _check_offers(self) -> None:
        present = {info.agent_id for info in self._agents.values()} - self._deactivated - self._drained
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
                if not self._asked.is_deactivated:
                    self._drained.discard(self._asked.agent_id)
            case DrainAsked() if self._error is None:
                self._drained.add(self._asked.agent_id)
            case GoneAsked() if self._error is None:
                self._forget_filters(agent=self._asked.agent_id)
            case SchedulerCalled(stream, UpdateFramework(info)) if not self._was_refused and stream in self._schedulers:
                scheduler = self._schedulers[stream]
                for role in set(scheduler.info.roles) - set(info.roles):
                    self._forget_filters(scheduler.info.framework_id, role)
                scheduler.info = FrameworkInfo(info.name, info.roles, scheduler.info.framework_id)
                scheduler.suppressed &= set(info.roles)


def pool_of(offer: Offer) -> str:
    """Return the reservation that an offer is of; empty: none."""
    return offer.reservation.reservation_id if offer.reservation is not None else ""


def _record(agent_id: AgentId, disk: Mapping[str, Record]) -> AgentRecord:
    record = disk.get(f"agents/{agent_id}")
    assert isinstance(record, AgentRecord), f"{agent_id} is not in the store"
    return record
