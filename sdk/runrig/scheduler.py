"""The mind of the SDK: wants and offers in, launches out; nothing lost, nothing twice.

Rule 1: the state changes only in `handle`.
Rule 2: nothing here reads a clock, draws a random number or awaits.
Rule 3: a turn ends with `TurnEnded`; all that the turn must make durable is in one `Persist`, and stands before
        everything that it tells to anybody: intent before launch, state before acknowledgement.

Walk one task: `Run` puts a want into `waiting`. Offers come; at the turn's end `match` finds it a place: its record
(launching, where, with which ports) is persisted, then Accept is sent. Updates change the record; the logic learns
`TaskChanged`; both are persisted, then the receipt is sent. After a terminal state the record is deleted. A record
whose task the master does not know at a reconciliation was never launched: the logic learns TASK_LOST, LAUNCH_LOST.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from runrig._records import TaskRecord
from runrig._turn import Persist, Turn, own_entries
from runrig._waiting import Waiting, demand_of, terms_of
from runrig.demand import checked_demand
from runrig.errors import InvalidInput
from runrig.ids import AgentId, OfferId, Role, TaskId
from runrig.matching import Match, Placed, match_waiting
from runrig.offers import (
    MAX_REASON_LENGTH,
    Accept,
    AnswerInverseOffer,
    CallRefused,
    Decline,
    Filter,
    FrameworkInfo,
    InverseOffersEnded,
    InverseOffersMade,
    Kill,
    LaunchGroup,
    LaunchTasks,
    News,
    Offer,
    OffersMade,
    OffersRescinded,
    OperationsDone,
    Reconcile,
    Revive,
    StreamRefused,
    Subscribed,
    Suppress,
    TaskReference,
    TasksRecovering,
    TasksUpdated,
    UpdateDemand,
)
from runrig.session import (
    Ended,
    EnvelopeCame,
    Heard,
    Lost,
    Session,
    SessionOutput,
    SessionSettings,
    SessionTick,
    Started,
    StreamClosed,
    StreamOpened,
)
from runrig.tasks import NO_TERMS, Reason, Source, StatusUpdate, TaskState, checked_task
from runrig.wants import (
    Answer,
    AnswerInverse,
    Connected,
    Decision,
    Delete,
    Disconnected,
    Logic,
    Put,
    Run,
    Stop,
    TaskChanged,
    TaskView,
    WakeAt,
    Want,
    Woken,
)

TASK_PREFIX = "runrig/task/"


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """How wants are served; seconds."""

    reconcile_s: float = 600.0
    """All launched tasks are reconciled this often, beside at each reconnection."""
    kill_retry_s: float = 30.0
    """A kill is said again after this long until the task has ended."""
    refuse_ms: int = 60_000
    """How long an offer that fits nothing is refused; new wants revive at once."""
    wants_per_turn: int = 2_000
    """Wants for which a place is looked for in one turn; the rest wait for the next offers. Those that are like one
    that found none do not count, as they cost next to nothing."""
    gather_s: float = 5.0
    """How often all is asked for anew while a gang waits that was offered too little: a master that heeds no demand
    offers what has become free, and a gang needs several at once."""
    many_demands: int = 500
    """A role with more shapes than this is not stated in each turn in which one has changed, but now and then: what is
    launched the master counts by itself."""
    demand_pause_s: float = 0.0001
    """Such a role is stated again after so long for each shape: 8,000 take the two sides 0.2 s to say and to read."""
    demands_per_role: int = 9_000
    """Shapes of wants that are stated as demand in each role, the most urgent: the master takes 10,000 by default."""


@dataclass(frozen=True, slots=True)
class Told:
    """The framework's own edges tell its logic something."""

    event: object


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """All events of this turn have been told."""


SchedulerEvent = Started | StreamOpened | EnvelopeCame | StreamClosed | Told | TurnEnded
SchedulerCommand = SessionOutput | Persist | Answer


class Scheduler:
    """Serve a logic's wants through one session."""

    def __init__(
        self,
        framework: FrameworkInfo,
        logic: Logic,
        entries: Mapping[str, bytes],
        now: float,
        settings: SchedulerSettings = SchedulerSettings(),
        session_settings: SessionSettings = SessionSettings(),
    ) -> None:
        """Take up what was durable; the logic restores itself and says all that should run."""
        self.logic = logic
        self.session = Session(framework, session_settings, uses_demand=True)
        self.waiting = Waiting()
        self.records: dict[TaskId, TaskRecord] = {}
        self.reasons: dict[str, int] = {}
        """Why the offers of the last match did not serve, counted, for people who ask what a want waits for."""
        self._settings = settings
        self._placed = Placed()
        self._offers: dict[OfferId, Offer] = {}
        self._turn = Turn()
        self._impossible: list[TaskView] = []
        """Wants that can never be launched: told at the end of the turn, as a logic is not called within itself."""
        self._unstated: set[Role] = set()
        """Roles in which other is wanted than was said last."""
        self._state_at: dict[Role, float] = {}
        """When a role with many demands may be stated again."""
        self._suppressed: set[Role] = set()
        self._must_revive = False
        self._has_declined = False
        self._gather_at: float | None = None
        self._reconcile_at: float | None = None
        self._retry_kills_at: float | None = None
        self._restore(entries, now)

    @property
    def is_connected(self) -> bool:
        """Say whether the framework is subscribed now."""
        return self.session.is_subscribed

    def handle(self, event: SchedulerEvent, now: float) -> list[SchedulerCommand]:
        """Apply one event at `now` (seconds since 1970); return what must be done, in order."""
        match event:
            case Told():
                self._tell(event.event, now)
                return []
            case TurnEnded():
                return self._end_turn(now)
            case _:
                return self._session_did(self.session.handle(event, now), now)

    def next_deadline(self) -> float | None:
        """Return when a turn is due even if nothing happens."""
        if self._impossible:
            return 0.0
        dues = (self._turn.wake_at, self.session.next_deadline(), *self._connected_dues())
        return min((due for due in dues if due is not None), default=None)

    def _connected_dues(self) -> tuple[float | None, ...]:
        if not self.is_connected:
            return ()
        stating = (self._state_at.get(role) for role in self._unstated)
        return (self._reconcile_at, self._retry_kills_at, self._gather_at, *stating)

    def view(self, task_id: TaskId) -> TaskView | None:
        """Return what is known of a task that is wanted or launched."""
        record = self.records.get(task_id)
        if record is not None:
            return record.view()
        want = self.waiting.get(task_id)
        return TaskView(task_id, want.group) if want is not None else None

    # Restoring

    def _restore(self, entries: Mapping[str, bytes], now: float) -> None:
        for key, value in entries.items():
            if key.startswith(TASK_PREFIX):
                record = TaskRecord.parse(value)
                self.records[record.task_id] = record
                self._placed.add(record.group, record.place)
                self._placed.see(record.place)
        views = {task_id: record.view() for task_id, record in self.records.items()}
        wanted: set[TaskId] = set()
        decisions = self.logic.restore(own_entries(entries), views, now)
        for decision in decisions:
            if isinstance(decision, Run):
                wanted.update(want.task_id for want in decision.wants)
        self._decide(decisions, now)
        for task_id in [task_id for task_id in self.records if task_id not in wanted]:
            self._stop(Stop(task_id), now)

    # The session

    def _session_did(self, outputs: list[SessionOutput], now: float) -> list[SchedulerCommand]:
        commands: list[SchedulerCommand] = []
        for output in outputs:
            match output:
                case Heard():
                    self._hear(output.news, now)
                case Lost():
                    self._offers.clear()
                    self._turn.lose_session()
                    self._tell(Disconnected(output.why), now)
                    commands.append(output)
                case Ended():
                    self._tell(Disconnected(str(output.error)), now)
                    commands.append(output)
                case _:
                    commands.append(output)
        return commands

    def _hear(self, news: News, now: float) -> None:
        match news:
            case TasksUpdated():
                for update in news.updates:
                    self._learn(update, now)
            case OffersMade():
                self._offers.update({offer.offer_id: offer for offer in news.offers})
            case OffersRescinded():
                for offer_id in news.offer_ids:
                    self._offers.pop(offer_id, None)
            case Subscribed():
                self._subscribed(news, now)
            case CallRefused():
                self._tell(news, now)
            case TasksRecovering() | StreamRefused():
                pass
            case OperationsDone() | InverseOffersMade() | InverseOffersEnded():
                self._tell(news, now)

    def _subscribed(self, news: Subscribed, now: float) -> None:
        self.session.framework = replace(self.session.framework, framework_id=news.framework_id)
        self._offers.clear()
        self._must_revive = False
        self._has_declined = False
        self._gather_at = None
        self._unstated.update(self.session.framework.roles)
        self._state_at.clear()
        self._suppressed = {role for role in self.session.framework.roles if role in self.session.suppressed}
        self._reconcile(now)
        self._turn.calls.append(Reconcile())
        self._repeat_kills(now)
        self._tell(Connected(), now)

    def _reconcile(self, now: float) -> None:
        self._reconcile_at = now + self._settings.reconcile_s
        references = [TaskReference(record.task_id, record.agent_id) for record in self.records.values()]
        for start in range(0, len(references), 1000):
            self._turn.calls.append(Reconcile(tuple(references[start : start + 1000])))

    # News of tasks

    def _learn(self, update: StatusUpdate, now: float) -> None:
        self._turn.receive(update)
        record = self.records.get(update.task_id)
        if record is None:
            self._learn_of_stranger(update)
            return
        if update.number and update.number <= record.number:
            return
        if update.state is TaskState.TASK_UNKNOWN:
            update = _never_launched(update, now)
        before = record.status
        record.learn(update)
        if update.state.is_terminal:
            self._end(record)
        else:
            self._put(record)
        if _is_news(before, update):
            self._tell(TaskChanged(record.view()), now)

    def _learn_of_stranger(self, update: StatusUpdate) -> None:
        """Kill what runs and is in nobody's books: only a lost store makes such tasks."""
        is_alive = not update.state.is_terminal and update.state is not TaskState.TASK_UNKNOWN
        if is_alive and update.state is not TaskState.TASK_KILLING:
            self._turn.calls.append(Kill(update.task_id))

    def _end(self, record: TaskRecord) -> None:
        del self.records[record.task_id]
        self._placed.add(record.group, record.place, -1)
        key = TASK_PREFIX + record.task_id
        self._turn.delete(key)
        if self._has_declined and self.waiting.constrained[record.group]:
            self._must_revive = True

    def _put(self, record: TaskRecord) -> None:
        key = TASK_PREFIX + record.task_id
        self._turn.put(key, record.dump())

    # The logic

    def _tell(self, event: object, now: float) -> None:
        self._decide(self.logic.handle(event, now), now)

    def _decide(self, decisions: Iterable[Decision], now: float) -> None:
        for decision in decisions:
            match decision:
                case Run():
                    self._run(decision.wants, now)
                case Stop():
                    self._stop(decision, now)
                case AnswerInverse():
                    reason = decision.reason[:MAX_REASON_LENGTH]
                    answer = AnswerInverseOffer(decision.inverse_offer_id, decision.is_accepted, reason)
                    self._turn.calls.append(answer)
                case Put() | Delete() | WakeAt() | Answer():
                    self._turn.decide(decision)

    def _run(self, wants: tuple[Want, ...], now: float) -> None:
        for want in wants:
            if want.task_id in self.waiting or want.task_id in self.records:
                continue
            problem = None if self.waiting.has_like(want) else _bad_shape(want, self.session.framework.roles)
            problem = problem or _bad_task(want)
            if problem is None:
                self.waiting.add(want)
                self._must_revive = True
            else:
                update = _refused(want, self.session.framework, problem, now)
                self._impossible.append(TaskView(want.task_id, want.group, update.state, update))

    def _stop(self, decision: Stop, now: float) -> None:
        if self.waiting.take(decision.task_id) is not None:
            return
        record = self.records.get(decision.task_id)
        if record is None:
            return
        record.is_stopping = True
        record.grace_ms = decision.grace_ms
        self._put(record)
        self._turn.calls.append(Kill(record.task_id, record.grace_ms))
        self._retry_kills_at = self._retry_kills_at or now + self._settings.kill_retry_s

    def _repeat_kills(self, now: float) -> None:
        stopping = [record for record in self.records.values() if record.is_stopping]
        self._turn.calls.extend(Kill(record.task_id, record.grace_ms) for record in stopping)
        self._retry_kills_at = now + self._settings.kill_retry_s if stopping else None

    # The turn

    def _end_turn(self, now: float) -> list[SchedulerCommand]:
        commands: list[SchedulerCommand] = self._session_did(self.session.handle(SessionTick(), now), now)
        self._do_what_is_due(now)
        impossible, self._impossible = self._impossible, []
        for view in impossible:
            self._tell(TaskChanged(view), now)
        if self.is_connected:
            self._match(now)
            self._steer_offers()
            self._state_demand(now)
        return [*commands, *self._turn.close(self.session)]

    def _do_what_is_due(self, now: float) -> None:
        if self._turn.has_woken(now):
            self._tell(Woken(), now)
        if not self.is_connected:
            return
        if self._reconcile_at is not None and self._reconcile_at <= now:
            self._reconcile(now)
        if self._retry_kills_at is not None and self._retry_kills_at <= now:
            self._repeat_kills(now)
        if self._gather_at is not None and self._gather_at <= now:
            self._gather_at = None
            self._must_revive = self._must_revive or self.waiting.has_gangs

    def _match(self, now: float) -> None:
        offers, self._offers = list(self._offers.values()), {}
        if not offers:
            return
        found = match_waiting(self.waiting, offers, self._placed, self._settings.wants_per_turn, now)
        by_gang: dict[str, dict[OfferId, list[Match]]] = {}
        for item in found.matches:
            by_gang.setdefault(item.want.gang, {}).setdefault(item.offer.offer_id, []).append(item)
            self._launch(item, now)
        for gang, by_offer in by_gang.items():
            self._accept(gang, by_offer)
        used = {item.offer.offer_id for item in found.matches}
        self._decline([offer for offer in offers if offer.offer_id not in used], found.reasons)
        if found.has_short_gang and self._gather_at is None:
            self._gather_at = now + self._settings.gather_s

    def _launch(self, item: Match, now: float) -> None:
        self.waiting.take(item.want.task_id)
        record = TaskRecord.launched(item, now)
        self.records[record.task_id] = record
        self._put(record)

    def _accept(self, gang: str, by_offer: dict[OfferId, list[Match]]) -> None:
        """Launch; of what a gang leaves others have not had their turn, so that is not refused."""
        groups = tuple(
            LaunchGroup(items[0].offer.agent_id, (offer_id,), (LaunchTasks(tuple(item.spec for item in items)),))
            for offer_id, items in by_offer.items()
        )
        if gang:
            self._turn.calls.append(Accept(groups, atomic=True, filter=Filter(0)))
            return
        self._has_declined = True
        self._turn.calls.append(Accept(groups, filter=Filter(self._settings.refuse_ms, "nothing more fits")))

    def _decline(self, offers: list[Offer], reasons: Mapping[OfferId, str]) -> None:
        by_reason: dict[str, list[OfferId]] = {}
        for offer in offers:
            reason = reasons.get(offer.offer_id, "nothing is wanted")[:255]
            by_reason.setdefault(reason, []).append(offer.offer_id)
        self.reasons = {reason: len(ids) for reason, ids in by_reason.items()}
        for reason, ids in by_reason.items():
            self._has_declined = True
            self._turn.calls.append(Decline(tuple(ids), Filter(self._settings.refuse_ms, reason)))

    def _steer_offers(self) -> None:
        """Suppress roles in which nothing is wanted; revive those in which something is, once per turn."""
        roles = self.session.framework.roles
        wanted = self.waiting.roles
        idle = set() if wanted[None] else {role for role in roles if not wanted[role]}
        to_suppress = tuple(role for role in roles if role in idle and role not in self._suppressed)
        awake = tuple(role for role in roles if role not in idle)
        if to_suppress:
            self._turn.calls.append(Suppress(to_suppress))
        if awake and (self._suppressed.intersection(awake) or (self._must_revive and self._has_declined)):
            self._turn.calls.append(Revive(awake))
            self._has_declined = False
        self._must_revive = False
        self._suppressed = idle
        self.session.suppressed = set(idle)

    def _state_demand(self, now: float) -> None:
        """Say what is wanted next in each role in which that has changed, after all that this turn accepted.

        What is wanted in no particular role is wanted in all: the first offer has it, and it is stated anew.
        """
        settings, roles = self._settings, self.session.framework.roles
        touched = self.waiting.take_touched()
        self._unstated.update(roles if None in touched else [role for role in roles if role in touched])
        for role in [role for role in roles if role in self._unstated and self._state_at.get(role, now) <= now]:
            demands = self.waiting.demands(role, settings.demands_per_role)
            self._turn.calls.append(UpdateDemand(role, demands))
            self._unstated.discard(role)
            self._state_at.pop(role, None)
            if len(demands) > settings.many_demands:
                self._state_at[role] = now + len(demands) * settings.demand_pause_s


def _bad_task(want: Want) -> str | None:
    try:
        checked_task(replace(want.spec, health_checks=()) if want.spec.health_checks else want.spec)
    except InvalidInput as error:
        return str(error)
    return None


def _bad_shape(want: Want, roles: tuple[Role, ...]) -> str | None:
    if want.role is not None and want.role not in roles:
        return f"role: {want.role!r} is not allowed; allowed: those of the framework: {', '.join(roles)}"
    said = want.spec.terms
    if said not in (replace(NO_TERMS, reservation_id=said.reservation_id), terms_of(want)):
        return "spec.terms: only reservation_id is taken from there; say the others in the want itself"
    try:
        checked_demand("want", demand_of(want))
    except InvalidInput as error:
        return str(error)
    return None


def _refused(want: Want, framework: FrameworkInfo, problem: str, now: float) -> StatusUpdate:
    return StatusUpdate(
        framework.framework_id,
        want.task_id,
        AgentId(""),
        0,
        TaskState.TASK_ERROR,
        Reason.INVALID_TASK,
        Source.EXECUTOR,
        problem,
        int(now * 1000),
    )


def _never_launched(update: StatusUpdate, now: float) -> StatusUpdate:
    return replace(
        update,
        state=TaskState.TASK_LOST,
        reason=Reason.LAUNCH_LOST,
        message="the launch was lost on its way: neither the master nor the agent knows it",
        at_unix_ms=int(now * 1000),
    )


def _is_news(before: StatusUpdate | None, update: StatusUpdate) -> bool:
    if before is None or update.number or before.state is not update.state:
        return True
    return before.healthy is not update.healthy
