"""What a scheduler's turn has gathered: to make durable, to send, to answer, and in which order.

All that must be durable goes first and at once; then the calls, the receipts last among them; then the answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runrig.offers import Acknowledge, Acknowledgement, Call
from runrig.session import Session, SessionOutput
from runrig.tasks import StatusUpdate
from runrig.wants import Answer, Delete, Put, WakeAt

APP_PREFIX = "app/"


@dataclass(frozen=True, slots=True)
class Persist:
    """Make entries durable before anything that follows."""

    puts: Mapping[str, bytes]
    deletes: tuple[str, ...]


class Turn:
    """One turn's gatherings; `close` empties them for the next."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.wake_at: float | None = None
        self._puts: dict[str, bytes] = {}
        self._deletes: dict[str, None] = {}
        self._receipts: list[Acknowledgement] = []
        self._answers: list[Answer] = []

    def put(self, key: str, value: bytes) -> None:
        """Make an entry durable; of several words on one key the last counts."""
        self._deletes.pop(key, None)
        self._puts[key] = value

    def delete(self, key: str) -> None:
        """Remove an entry."""
        self._puts.pop(key, None)
        self._deletes[key] = None

    def decide(self, decision: Put | Delete | WakeAt | Answer) -> None:
        """Take what a logic decided about its own entries, time and questions."""
        match decision:
            case Put():
                self.put(APP_PREFIX + decision.key, decision.value)
            case Delete():
                self.delete(APP_PREFIX + decision.key)
            case WakeAt():
                self.wake_at = decision.at if self.wake_at is None else min(decision.at, self.wake_at)
            case Answer():
                self._answers.append(decision)

    def receive(self, update: StatusUpdate) -> None:
        """Acknowledge an update once this turn is durable; the master's own need no receipt (rule 9)."""
        if update.number:
            self._receipts.append(Acknowledgement(update.task_id, update.agent_id, update.number))

    def lose_session(self) -> None:
        """Forget the receipts: what they were for is said again by the next session."""
        self._receipts.clear()

    def has_woken(self, now: float) -> bool:
        """Say, once, whether the time asked for has come."""
        if self.wake_at is None or self.wake_at > now:
            return False
        self.wake_at = None
        return True

    def close(self, session: Session) -> list[Persist | SessionOutput | Answer]:
        """Return what must be done, in order, and begin anew."""
        commands: list[Persist | SessionOutput | Answer] = []
        if self._puts or self._deletes:
            commands.append(Persist(self._puts, tuple(self._deletes)))
        if self._receipts:
            self.calls.append(Acknowledge(tuple(self._receipts)))
        for call in self.calls:
            commands.extend(session.send(call))
        commands.extend(self._answers)
        self._puts, self._deletes = {}, {}
        self.calls, self._receipts, self._answers = [], [], []
        return commands


def own_entries(entries: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the entries that a logic has put, by its own keys."""
    return {key.removeprefix(APP_PREFIX): value for key, value in entries.items() if key.startswith(APP_PREFIX)}
