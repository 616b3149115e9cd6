"""Raw offers: the expert's level, still safe.

A `RawLogic` sees the master's news as it comes and answers with calls. The SDK subscribes, comes back, refuses what is
stale, and acknowledges updates only after what the logic answered to them is durable.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from runrig._turn import Turn, own_entries
from runrig.offers import (
    Call,
    FrameworkInfo,
    News,
    TasksUpdated,
)
from runrig.scheduler import (
    SchedulerCommand,
    SchedulerEvent,
    Told,
    TurnEnded,
)
from runrig.session import Ended, Heard, Lost, Session, SessionOutput, SessionSettings, SessionTick
from runrig.wants import Answer, Delete, Disconnected, Put, WakeAt, Woken

RawDecision = Call | Put | Delete | WakeAt | Answer
RawEvent = News | Disconnected | Woken
"""`Subscribed` among the news says that the framework is connected."""


@runtime_checkable
class RawLogic(Protocol):
    """The mind of a framework that handles offers itself: told the master's news, answers with calls.

    It is offered all that is free. One with an attribute `uses_demand` that is true is offered what it asks for with
    UpdateDemand, which it says anew after each `Subscribed`.
    """

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
        self.session = Session(framework, session_settings, uses_demand=bool(getattr(logic, "uses_demand", False)))
        self._turn = Turn()
        self._decide(logic.restore_raw(own_entries(entries), now))

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
        dues = (self._turn.wake_at, self.session.next_deadline())
        return min((due for due in dues if due is not None), default=None)

    def _session_did(self, outputs: list[SessionOutput], now: float) -> list[SchedulerCommand]:
        commands: list[SchedulerCommand] = []
        for output in outputs:
            if isinstance(output, Heard):
                self._hear(output.news, now)
                continue
            if isinstance(output, Lost | Ended):
                self._turn.lose_session()
                self._tell(Disconnected(output.why if isinstance(output, Lost) else str(output.error)), now)
            commands.append(output)
        return commands

    def _hear(self, news: News, now: float) -> None:
        if isinstance(news, TasksUpdated):
            for update in news.updates:
                self._turn.receive(update)
        self._tell(news, now)

    def _tell(self, event: object, now: float) -> None:
        self._decide(self.logic.hear(event, now))

    def _decide(self, decisions: list[RawDecision]) -> None:
        for decision in decisions:
            if isinstance(decision, Put | Delete | WakeAt | Answer):
                self._turn.decide(decision)
            else:
                self._turn.calls.append(decision)

    def _end_turn(self, now: float) -> list[SchedulerCommand]:
        commands = self._session_did(self.session.handle(SessionTick(), now), now)
        if self._turn.has_woken(now):
            self._tell(Woken(), now)
        return [*commands, *self._turn.close(self.session)]
