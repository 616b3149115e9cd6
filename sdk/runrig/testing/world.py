"""Virtual time, chance from a seed, and what led to what.

All that happens in a simulation is an action on one agenda, done at its time. Whatever an action puts on the agenda has
that action as its cause, so that a failure can be told as a chain of causes. Chance comes in named streams, each drawn
from the seed and its name alone: to leave out one fault does not reshuffle all others.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass

START = 1_000_000_000.0
MOST_STEPS = 200_000
"""Actions without the clock moving after which something goes round in circles."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the trace: what happened, to whom, and which earlier line caused it."""

    number: int
    cause: int
    at: float
    who: str
    what: str
    detail: object = None

    def __str__(self) -> str:
        detail = "" if self.detail is None else f" {self.detail}"
        return f"{self.number:>6} <- {self.cause:<6} {self.at - START:10.3f}s {self.who:<12} {self.what}{detail}"


class World:
    """One clock, one agenda, one seed, one trace."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.now = START
        self.trace: list[Entry] = []
        self.checks: list[Callable[[], None]] = []
        """Called after each action: what must hold all the time."""
        self._agenda: list[tuple[float, int, int, Callable[[], None]]] = []
        self._count = 0
        self._cause = 0
        self._chances: dict[str, random.Random] = {}
        self._still = 0

    def chance(self, name: str) -> random.Random:
        """Return the stream of chance of that name."""
        found = self._chances.get(name)
        if found is None:
            found = self._chances[name] = random.Random(f"{self.seed}/{name}")
        return found

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something later; at once, but not before what waits already, with 0."""
        self.at(self.now + delay_s, action)

    def at(self, due: float, action: Callable[[], None]) -> None:
        """Do something at a time; at once when that has passed."""
        self._count += 1
        heapq.heappush(self._agenda, (max(due, self.now), self._count, self._cause, action))

    def note(self, who: str, what: str, detail: object = None) -> None:
        """Write a line of the trace; what this action does from here on has it as its cause."""
        number = len(self.trace) + 1
        self.trace.append(Entry(number, self._cause, self.now, who, what, detail))
        self._cause = number

    @property
    def next_due(self) -> float | None:
        """Return when something will happen next."""
        return self._agenda[0][0] if self._agenda else None

    def step(self) -> None:
        """Do the next thing."""
        due, _, self._cause, action = heapq.heappop(self._agenda)
        if due > self.now:
            self.now = due
            self._still = 0
        self._still += 1
        assert self._still < MOST_STEPS, (
            f"{MOST_STEPS} things happen at once and there is no end: an answer is answered"
        )
        action()
        for check in self.checks:
            check()

    def run_until(self, end: float) -> None:
        """Do all that is due up to `end`."""
        agenda = self._agenda
        for check in self.checks:
            check()
        while agenda and agenda[0][0] <= end:
            self.step()
        self.now = max(self.now, end)
        self._cause = 0

    def why(self, most: int = 20) -> list[Entry]:
        """Return the chain of lines that led to what is being done, the first cause first."""
        return self.causes(self._cause or len(self.trace), most)

    def causes(self, number: int, most: int = 20) -> list[Entry]:
        """Return the chain of lines that led to one, the first cause first."""
        chain: list[Entry] = []
        while number and len(chain) < most:
            entry = self.trace[number - 1]
            chain.append(entry)
            number = entry.cause
        return chain[::-1]
