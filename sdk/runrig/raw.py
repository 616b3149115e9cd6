"""Raw offers: the expert's level, still safe.

A `RawLogic` sees the master's news as it comes and answers with calls. The SDK subscribes, comes back, refuses what is
stale, and acknowledges updates only after what the logic answered to them is durable.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from runrig.offers import (
    Acknowledge,
    Acknowledgement,
    Call,
    FrameworkInfo,
    News,
    TasksUpdated,
)
from runrig.scheduler import (
    APP_PREFIX,
    Persist,
    SchedulerCommand,
    SchedulerEvent,
    Told,
    TurnEnded,
)
from runrig.session import Ended, Heard, Lost, Session, SessionOutput, SessionSettings, SessionTick
from runrig.wants import Answer, Connected, Delete, Disconnected, Put, WakeAt, Woken

RawDecision = Call | Put | Delete | WakeAt | Answer
RawEvent = News | Connected | Disconnected | Woken


@runtime_checkable
class RawLogic(Protocol):
    """The mind of a framework that handles offers itself: told the master's news, answers with calls."""

    @abstractmethod
    def restore_raw(self, entries: Mapping[str, bytes], now: float) -> list[RawDecision]:
        """Take up the entries that were durable."""

    @abstractmethod
    def hear(self, event: object, now: float) -> list[RawDecision]:
        """Learn one event: the master's news, or what the framework's own edges tell; say what follows."""


class RawScheduler:
    """Serve a raw logic through one session."""

    def __init__(
        self,
        framework: FrameworkInfo,
        logic: RawLogic,
        entries: Mapping[str, bytes],
        now: float,
        session_settings: SessionSettings = SessionSettings(),
    ) -> None:
        self.logic = logic
        self.session = Session(framework, session_settings)
        self._puts: dict[str, bytes] = {}
        self._deletes: dict[str, None] = {}
        self._calls: list[Call] = []
        self._receipts: list[Acknowledgement] = []
        self._answers: list[Answer] = []
        self._wake_at: float | None = None
        own = {key.removeprefix(APP_PREFIX): value for key, value in entries.items() if key.startswith(APP_PREFIX)}
        self._decide(logic.restore_raw(own, now))

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
        dues = (self._wake_at, self.session.next_deadline())
        return min((due for due in dues if due is not None), default=None)

    def _session_did(self, outputs: list[SessionOutput], now: float) -> list[SchedulerCommand]:
        commands: list[SchedulerCommand] = []
        for output in outputs:
            if isinstance(output, Heard):
                self._hear(output.news, now)
                continue
            if isinstance(output, Lost | Ended):
                self._receipts.clear()
                self._tell(Disconnected(output.why if isinstance(output, Lost) else str(output.error)), now)
            commands.append(output)
        return commands

    def _hear(self, news: News, now: float) -> None:
        if isinstance(news, TasksUpdated):
            self._receipts.extend(
                Acknowledgement(update.task_id, update.agent_id, update.number)
                for update in news.updates
                if update.number
            )
        self._tell(news, now)

    def _tell(self, event: object, now: float) -> None:
        self._decide(self.logic.hear(event, now))

    def _decide(self, decisions: list[RawDecision]) -> None:
        for decision in decisions:
            match decision:
                case Put():
                    self._deletes.pop(APP_PREFIX + decision.key, None)
                    self._puts[APP_PREFIX + decision.key] = decision.value
                case Delete():
                    self._puts.pop(APP_PREFIX + decision.key, None)
                    self._deletes[APP_PREFIX + decision.key] = None
                case WakeAt():
                    self._wake_at = min(decision.at, self._wake_at if self._wake_at is not None else decision.at)
                case Answer():
                    self._answers.append(decision)
                case _:
                    self._calls.append(decision)

    def _end_turn(self, now: float) -> list[SchedulerCommand]:
        commands = self._session_did(self.session.handle(SessionTick(), now), now)
        if self._wake_at is not None and self._wake_at <= now:
            self._wake_at = None
            self._tell(Woken(), now)
        if self._puts or self._deletes:
            commands.append(Persist(self._puts, tuple(self._deletes)))
            self._puts, self._deletes = {}, {}
        if self._receipts:
            self._calls.append(Acknowledge(tuple(self._receipts)))
            self._receipts = []
        for call in self._calls:
            commands.extend(self.session.send(call))
        self._calls = []
        commands.extend(self._answers)
        self._answers = []
        return commands
