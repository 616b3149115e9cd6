"""The session of a framework with the master: subscribe, follow the leader, refuse what is stale, come back.

Rule 1: the state changes only in `handle`.
Rule 2: nothing here reads a clock, draws a random number or awaits; jitter comes in with the event.

It owns one stream at a time. News of any other stream, or of an epoch below the highest seen, is dropped (rule 20).
"""

from __future__ import annotations

from dataclasses import dataclass

from runrig.errors import Refused, Removed, Superseded
from runrig.offers import (
    FINAL_REFUSALS,
    Call,
    FrameworkInfo,
    News,
    RefusalCode,
    StreamRefused,
    Subscribe,
    Subscribed,
)


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How a session comes back; seconds."""

    backoff_least_s: float = 0.05
    """The first wait after a stream broke; doubled at each failure in a row."""
    backoff_most_s: float = 15.0
    """The longest wait; a jitter of half of it either way is applied, as 10,000 clients must not come at once."""
    silence_timeout_s: float = 75.0
    """A master that says nothing for this long is given up; the master's own setting replaces it once subscribed."""
    attempts_per_start: int = 2**20
    """Room for connection attempts in the session number below the next start of the process."""


# What a session is told.


@dataclass(frozen=True, slots=True)
class Started:
    """The framework begins; `number` is greater than at any earlier start."""

    number: int


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """Stream `stream` to the master is open."""

    stream: int


@dataclass(frozen=True, slots=True)
class EnvelopeCame:
    """An envelope came over `stream`."""

    stream: int
    epoch: int
    news: tuple[News, ...]


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """`stream` is closed, or could not be opened; `jitter` is a random number from 0 to 1."""

    stream: int
    why: str
    jitter: float = 0.5


@dataclass(frozen=True, slots=True)
class SessionTick:
    """Time has passed."""


SessionEvent = Started | StreamOpened | EnvelopeCame | StreamClosed | SessionTick


# What a session wants done.


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Open a stream: at `leader` if that is known, else at the next address."""

    stream: int
    leader: str = ""


@dataclass(frozen=True, slots=True)
class CloseStream:
    """Close a stream."""

    stream: int
    why: str


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send a call over a stream."""

    stream: int
    call: Call


@dataclass(frozen=True, slots=True)
class Heard:
    """The master said this, in this order."""

    news: News


@dataclass(frozen=True, slots=True)
class Lost:
    """The session is interrupted; it goes on trying."""

    why: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over: another scheduler took over, or the framework was removed or refused."""

    error: Refused


SessionOutput = OpenStream | CloseStream | Transmit | Heard | Lost | Ended


class Session:
    """One framework's subscription, over as many streams as it takes."""

    def __init__(
        self, framework: FrameworkInfo, settings: SessionSettings = SessionSettings(), *, uses_demand: bool = False
    ) -> None:
        """Begin with no stream; with `uses_demand` the master offers only what UpdateDemand asks for."""
        self.framework = framework
        self.uses_demand = uses_demand
        self.is_subscribed = False
        self.epoch = 0
        self.suppressed: set[str] = set()
        """Roles that subscribe suppressed after a reconnection; kept by whoever sends Suppress and Revive."""
        self._settings = settings
        self._silence_timeout_s = settings.silence_timeout_s
        self._start_number = 0
        self._attempt = 0
        self._stream = 0
        self._is_open = False
        self._failures = 0
        self._retry_at: float | None = None
        self._leader = ""
        self._last_heard = 0.0
        self._has_ended = False

    def handle(self, event: SessionEvent, now: float) -> list[SessionOutput]:
        """Apply one event; return what must be done, in order."""
        if self._has_ended:
            return []
        match event:
            case Started():
                self._start_number = event.number
                return [self._open(now)]
            case StreamOpened():
                return self._opened(event, now)
            case EnvelopeCame():
                return self._envelope_came(event, now)
            case StreamClosed():
                return self._closed(event, now)
            case SessionTick():
                return self._tick(now)

    def send(self, call: Call) -> list[SessionOutput]:
        """Return the transmission of `call`; nothing while not subscribed: what matters is said again then."""
        return [Transmit(self._stream, call)] if self.is_subscribed else []

    def next_deadline(self) -> float | None:
        """Return when a SessionTick is due."""
        if self._has_ended:
            return None
        if self._retry_at is not None:
            return self._retry_at
        return self._last_heard + self._silence_timeout_s if self._is_open else None

    def _open(self, now: float) -> OpenStream:
        self._stream += 1
        self._retry_at = None
        self._last_heard = now
        leader, self._leader = self._leader, ""
        return OpenStream(self._stream, leader)

    def _opened(self, event: StreamOpened, now: float) -> list[SessionOutput]:
        if event.stream != self._stream:
            return [CloseStream(event.stream, "overtaken by a newer stream")]
        self._is_open = True
        self._last_heard = now
        self._attempt += 1
        number = self._start_number * self._settings.attempts_per_start + self._attempt
        suppressed = tuple(role for role in self.framework.roles if role in self.suppressed)
        return [Transmit(self._stream, Subscribe(self.framework, number, suppressed, self.uses_demand))]

    def _envelope_came(self, event: EnvelopeCame, now: float) -> list[SessionOutput]:
        if event.stream != self._stream or not self._is_open:
            return []
        if event.epoch < self.epoch:
            return [CloseStream(self._stream, f"epoch {event.epoch} is over, {self.epoch} was seen: a stale master")]
        self.epoch = event.epoch
        self._last_heard = now
        outputs: list[SessionOutput] = []
        for news in event.news:
            if isinstance(news, StreamRefused):
                return outputs + self._refused(news)
            if isinstance(news, Subscribed):
                self.is_subscribed = True
                self._failures = 0
                self._silence_timeout_s = news.silence_timeout_ms / 1000
            outputs.append(Heard(news))
        return outputs

    def _refused(self, refusal: StreamRefused) -> list[SessionOutput]:
        if refusal.code in FINAL_REFUSALS:
            self._has_ended = True
            self.is_subscribed = False
            return [CloseStream(self._stream, refusal.message), Ended(_error(refusal))]
        self._leader = refusal.leader
        return [CloseStream(self._stream, refusal.message)]

    def _closed(self, event: StreamClosed, now: float) -> list[SessionOutput]:
        if event.stream != self._stream:
            return []
        was_subscribed = self.is_subscribed
        self._is_open = self.is_subscribed = False
        self._retry_at = now + self._backoff(event.jitter)
        self._failures += 1
        return [Lost(event.why)] if was_subscribed or self._failures == 1 else []

    def _backoff(self, jitter: float) -> float:
        if self._leader:
            return 0.0
        wait = min(self._settings.backoff_least_s * 2 ** min(self._failures, 20), self._settings.backoff_most_s)
        return float(wait * (0.5 + jitter))

    def _tick(self, now: float) -> list[SessionOutput]:
        if self._retry_at is not None:
            return [self._open(now)] if self._retry_at <= now else []
        if self._is_open and now >= self._last_heard + self._silence_timeout_s:
            return [CloseStream(self._stream, f"the master was silent for {self._silence_timeout_s:g} s")]
        return []


def _error(refusal: StreamRefused) -> Refused:
    if refusal.code is RefusalCode.SUPERSEDED:
        return Superseded(refusal.message)
    if refusal.code in (RefusalCode.REMOVED, RefusalCode.GONE):
        return Removed(refusal.message)
    return Refused(refusal.message)
