"""The agent's link with the master: whom to connect to, when, and whose word counts.

Sessions grow with each connection; the highest epoch seen is kept and lower ones are refused; a silent
master is left.
"""

from __future__ import annotations

from enum import IntEnum

from runrig.agents import Registered
from runrig.offers import FINAL_REFUSALS, RefusalCode, StreamRefused
from runrig_agent.core.commands import CloseStream, OpenStream, SetHeartbeat, StopAgent
from runrig_agent.core.effects import Effects
from runrig_agent.core.events import StreamClosed
from runrig_agent.core.policy import Policy
from runrig_agent.core.records import PutLink
from runrig_agent.core.timers import TimerKind, Timers


class LinkPhase(IntEnum):
    """How far the link is."""

    IDLE = 0
    WAITING = 1
    OPENING = 2
    REGISTERING = 3
    REGISTERED = 4
    CLOSING = 5
    STOPPED = 6


class MasterLink:
    """Keep one registered stream to the leader. `stop` is set when no master will have this agent again."""

    def __init__(self, policy: Policy, effects: Effects, timers: Timers) -> None:
        self.session = 0
        self.epoch = 0
        self.phase = LinkPhase.IDLE
        self.master = ""
        self.stop: StopAgent | None = None
        self._policy = policy
        self._effects = effects
        self._timers = timers
        self._turn = 0
        self._leader = ""
        self._failures = 0
        self._heard_at = 0.0
        self._silence_s = policy.connect_timeout_s

    @property
    def registered_session(self) -> int | None:
        """Return the session that reports can be sent on, or None."""
        return self.session if self.phase is LinkPhase.REGISTERED else None

    def restore(self, session: int, epoch: int) -> None:
        """Go on from what an earlier process kept."""
        self.session, self.epoch = session, epoch

    def open(self, now: float) -> None:
        """Connect to the leader that was named, else to the next master of the list, with a new session."""
        self.session += 1
        self.master, self._leader = self._leader or self._next_master(), ""
        self.phase = LinkPhase.OPENING
        self._expect_word(self._policy.connect_timeout_s, now)
        self._effects.keep(PutLink(self.session, self.epoch))
        self._effects.do(OpenStream(self.session, self.master))

    def opened(self, session: int) -> bool:
        """Note that the stream can be written to; say whether to register on it."""
        if session != self.session or self.phase is not LinkPhase.OPENING:
            return False
        self.phase = LinkPhase.REGISTERING
        return True

    def admits(self, session: int, epoch: int, now: float) -> bool:
        """Say whether an envelope counts: it is of the current stream, and of no epoch that is over."""
        if session != self.session or self.phase not in (LinkPhase.REGISTERING, LinkPhase.REGISTERED):
            return False
        if epoch < self.epoch:
            self.close(f"the master's epoch {epoch} is over: epoch {self.epoch} has been seen")
            return False
        if epoch > self.epoch:
            self.epoch = epoch
            self._effects.keep(PutLink(self.session, epoch))
        self._heard_at = now
        return True

    def registered(self, terms: Registered, now: float) -> bool:
        """Note that the registration stands; say whether that is news."""
        if self.phase is not LinkPhase.REGISTERING:
            return False
        self.phase = LinkPhase.REGISTERED
        self._failures = 0
        self._expect_word(terms.silence_timeout_ms / 1000, now)
        self._effects.do(SetHeartbeat(self.session, terms.heartbeat_ms / 1000))
        return True

    def refused(self, refusal: StreamRefused) -> None:
        """Leave a master that ends the stream: for good, for the leader it names, or for a while."""
        if refusal.code in FINAL_REFUSALS:
            self._stop(refusal)
        else:
            self._leader = refusal.leader
            self.close(refusal.message)

    def closed(self, event: StreamClosed, now: float) -> None:
        """Wait before the next try: longer each time, at random so that agents do not come all at once.

        A leader that was named is tried at once, but only once: standbys may name each other.
        """
        if event.session != self.session or self.phase in (LinkPhase.STOPPED, LinkPhase.WAITING):
            return
        if event.refusal is not None:
            if event.refusal.code in FINAL_REFUSALS:
                self._stop(event.refusal)
                return
            self._leader = event.refusal.leader
        self.phase = LinkPhase.WAITING
        self._timers.cancel(TimerKind.SILENCE)
        delay = min(self._policy.reconnect_s * 2**self._failures, self._policy.reconnect_max_s)
        is_told_at_once = bool(self._leader) and self._failures == 0
        self._failures = min(self._failures + 1, 16)
        wait = 0.0 if is_told_at_once else delay * (0.1 + 0.9 * event.jitter)
        self._timers.set(TimerKind.RECONNECT, now + wait)

    def close(self, why: str) -> None:
        """End the stream; the edge answers with StreamClosed."""
        if self.phase in (LinkPhase.OPENING, LinkPhase.REGISTERING, LinkPhase.REGISTERED):
            self.phase = LinkPhase.CLOSING
            self._timers.cancel(TimerKind.SILENCE)
            self._effects.do(CloseStream(self.session, why))

    def check_silence(self, now: float) -> None:
        """Leave a master that has been silent for too long."""
        deadline = self._heard_at + self._silence_s
        if deadline > now:
            self._timers.set(TimerKind.SILENCE, deadline)
        else:
            self.close(f"{self.master} has been silent for {self._silence_s:.0f} s")

    def _stop(self, refusal: StreamRefused) -> None:
        self.close(refusal.message)
        self.phase = LinkPhase.STOPPED
        self._timers.cancel(TimerKind.RECONNECT)
        self.stop = StopAgent(refusal.code, f"{refusal.message}: {_REMEDIES[refusal.code]}")

    def _next_master(self) -> str:
        masters = self._policy.masters
        master = masters[self._turn % len(masters)] if masters else ""
        self._turn += 1
        return master

    def _expect_word(self, within_s: float, now: float) -> None:
        self._silence_s = within_s
        self._heard_at = now
        self._timers.set(TimerKind.SILENCE, now + within_s)


_ANEW = "to let this machine join anew, start the agent with an empty --work-dir"
_REMEDIES = {
    RefusalCode.SUPERSEDED: f"another agent runs with a copy of this work directory; {_ANEW}",
    RefusalCode.REMOVED: _ANEW,
    RefusalCode.GONE: _ANEW,
    RefusalCode.INVALID: "correct the setting that is named and start the agent again",
    RefusalCode.PRINCIPAL_CHANGED: "start the agent with its former credentials",
}
