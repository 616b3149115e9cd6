"""What must hold all the time: looked at when it can break, and told with what led to it.

A test that looks only at the end misses what was wrong for a moment, and a moment is enough for two leaders.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from runrig.errors import InvalidInput
from runrig.ids import FrameworkId
from runrig.testing.runtimes import RealTask, Truth
from runrig.testing.story import clock, told
from runrig.testing.world import World

Key = Callable[[RealTask], Hashable]
"""Tells which tasks are alike: those with the same key. None: the task does not count."""

ALL = ""
"""The key where all tasks count together."""
CAUSES_MOST = 10
FAULTS_MOST = 6
WHO_FAULTS = ("storm", "test")
"""Who does harm, in the trace: silence has no cause there, but it has a reason."""


def by_name(task: RealTask) -> Hashable:
    """Tasks of one framework with the same name are alike; raise InvalidInput for a task without one."""
    if not task.spec.name:
        raise InvalidInput(
            "name", "", f"a name, as {task.key[1]} has none: give TaskSpec a name, or the assertion a key"
        )
    return task.spec.name


class Always:
    """A condition that holds after each single thing that happens."""

    def __init__(self, world: World, condition: Callable[[], bool], why: str) -> None:
        self._world = world
        self._condition = condition
        self._why = why
        self()
        world.checks.append(self)

    def __call__(self) -> None:
        """Fail if it does not hold."""
        if not self._condition():
            raise breach(self._world, f"{self._why}: does not hold any more")


class AtMost:
    """Of the tasks with one key, `most` really run at a time; looked at when one starts."""

    def __init__(
        self, world: World, truth: Truth, most: int, what: str, key: Key, framework: FrameworkId | None
    ) -> None:
        self._world = world
        self._most = most
        self._what = what
        self._key = key
        self._framework = framework
        self._groups: dict[Hashable, list[RealTask]] = {}
        for task in truth.running():
            self(task)
        truth.started.append(self)

    def __call__(self, started: RealTask) -> None:
        """Fail if this one is one too many."""
        if self._framework is not None and started.key[0] != self._framework:
            return
        key = self._key(started)
        if key is None:
            return
        alike = [task for task in self._groups.get(key, ()) if task.ended is None]
        self._groups[key] = alike = [*alike, started]
        if len(alike) > self._most:
            raise breach(self._world, f"{self._what}: {_key(key)}{len(alike)} run", map(_running, alike))


def breach(world: World, what: str, lines: Iterable[str] = ()) -> AssertionError:
    """Return the failure that says what is broken, when, and what led to it."""
    text = [f"{what}, at {clock(world.now)} (seed {world.seed})", *(f"  {line}" for line in lines)]
    faults = [entry for entry in world.trace if entry.who in WHO_FAULTS][-FAULTS_MOST:]
    if faults:
        text += ["the last faults:", *(f"  {told(entry)}" for entry in faults)]
    text += ["what led to it:", *(f"  {told(entry)}" for entry in world.why(CAUSES_MOST))]
    return AssertionError("\n".join(text))


def _key(key: Hashable) -> str:
    return "" if key == ALL else f"{key}: "


def _running(task: RealTask) -> str:
    framework_id, task_id = task.key
    return f"{task_id} of {framework_id} on {task.agent_id}, since {clock(task.started.started_at_unix_ms / 1000)}"
