"""When a simulated process turns, and the disk that it waits for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runrig.testing.world import World


class Turns:
    """One run of a process: it turns soon after it was told something, and at its deadline.

    It does not turn while it waits for its disk, nor while it is frozen, nor ever again once it was stopped.
    """

    def __init__(self, world: World, turn: Callable[[], None], deadline: Callable[[], float | None]) -> None:
        """`deadline` is in the world's time."""
        self.is_over = False
        self._world = world
        self._turn = turn
        self._deadline = deadline
        self._is_due = False
        self._holds = 0
        self._alarm: float | None = None

    def wake(self) -> None:
        """Turn as soon as what is under way has been done."""
        if not self._is_due:
            self._is_due = True
            if not self._holds:
                self._world.after(0.0, self._run)

    def hold(self) -> None:
        """Do not turn until `release`, which is called as often as this."""
        self._holds += 1

    def release(self) -> None:
        """Turn again."""
        self._holds -= 1
        if not self._holds and not self.is_over:
            if self._is_due:
                self._world.after(0.0, self._run)
            else:
                self._set_alarm()

    def stop(self) -> None:
        """Never turn again."""
        self.is_over = True

    def _run(self) -> None:
        if self.is_over or self._holds or not self._is_due:
            return
        self._is_due = False
        self._turn()
        self._after_turn()

    def _after_turn(self) -> None:
        if not self._holds and not self.is_over:
            self._set_alarm()

    def _set_alarm(self) -> None:
        due = self._deadline()
        if due is None or (self._alarm is not None and self._alarm <= due):
            return
        self._alarm = due
        self._world.at(due, self._ring)

    def _ring(self) -> None:
        if self._alarm is None or self._world.now < self._alarm:
            return
        self._alarm = None
        if self.is_over:
            return
        due = self._deadline()
        if due is None:
            return
        if due <= self._world.now:
            self.wake()
        else:
            self._set_alarm()


@dataclass(slots=True)
class DiskState:
    """How a disk does; well by default."""

    least_s: float = 0.0
    most_s: float = 0.0
    """How long a commit takes."""
    failing: float = 0.0
    """The share of commits that fail: the process that asked dies, as the edges do."""


class Disk:
    """Where a process makes things durable: whole commits, in order, some of them under way when it dies."""

    def __init__(self, world: World, name: str) -> None:
        self.state = DiskState()
        self._world = world
        self._name = name
        self._chance = world.chance(f"disk/{name}")
        self._under_way: list[Callable[[], None]] = []
        self._last_due = 0.0

    def commit(self, write: Callable[[], None], done: Callable[[], None], failed: Callable[[], None]) -> None:
        """Make `write` durable and then call `done`, or call `failed`."""
        state = self.state
        if not state.most_s and not state.failing and not self._under_way:
            write()
            done()
            return
        is_failing = state.failing > 0 and self._chance.random() < state.failing
        if not is_failing:
            self._under_way.append(write)
        delay = state.least_s + (state.most_s - state.least_s) * self._chance.random() ** 3
        self._last_due = max(self._world.now + delay, self._last_due)
        self._world.at(self._last_due, lambda: self._end(write, done, failed, is_failing=is_failing))

    def crash(self) -> None:
        """Lose the process: of the commits under way a first part may have been made durable."""
        writes, self._under_way = self._under_way, []
        for write in writes[: self._chance.randrange(len(writes) + 1)]:
            write()

    def _end(
        self, write: Callable[[], None], done: Callable[[], None], failed: Callable[[], None], *, is_failing: bool
    ) -> None:
        if is_failing:
            self._world.note(self._name, "fails to commit")
            failed()
        elif write in self._under_way:
            self._under_way.remove(write)
            write()
            done()
