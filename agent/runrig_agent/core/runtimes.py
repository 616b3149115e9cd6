"""Which runtimes can be used, and which are being asked what became of earlier tasks.

While one is asked nothing is launched on it: what it finds and was not asked for is removed.
"""

from __future__ import annotations

from runrig.tasks import RuntimeKind
from runrig_agent.core.commands import RecoverTasks
from runrig_agent.core.effects import Effects
from runrig_agent.core.task import Phase, Task, TaskKey

_ALL = (RuntimeKind.DOCKER, RuntimeKind.PROCESS)


class Runtimes:
    """`problems` says of each runtime that cannot be used why, and what to do."""

    def __init__(self, effects: Effects, tasks: dict[TaskKey, Task]) -> None:
        self.problems: dict[RuntimeKind, str] = {
            kind: f"this agent runs no such tasks; start it with --runtime {kind.name.lower()} or auto" for kind in _ALL
        }
        self.disk_problem: str | None = None
        """Why no runtime can be used, though it answers: what tasks write has no room."""
        self._effects = effects
        self._tasks = tasks
        self._configured: tuple[RuntimeKind, ...] = ()
        self._asked: dict[RuntimeKind, frozenset[TaskKey]] = {}

    @property
    def available(self) -> tuple[RuntimeKind, ...]:
        """Return those that can be used now; none while the disk is full."""
        if self.disk_problem is not None:
            return ()
        return tuple(kind for kind in self._configured if kind not in self.problems and kind not in self._asked)

    @property
    def problems_of_launch(self) -> dict[RuntimeKind, str]:
        """Return the problems of runtimes but for those being asked: a task can wait for their answer."""
        return {kind: problem for kind, problem in self.problems.items() if kind not in self._asked}

    @property
    def have_answered(self) -> bool:
        """Say whether none is being asked."""
        return not self._asked

    def is_recovering(self, kind: RuntimeKind) -> bool:
        """Say whether it is being asked."""
        return kind in self._asked

    def configure(self, kinds: tuple[RuntimeKind, ...]) -> None:
        """Begin with these: each is asked first."""
        self._configured = kinds
        for kind in kinds:
            self.problems[kind] = "it has not answered yet; try again"
            self.changed(kind, None)

    def changed(self, kind: RuntimeKind, problem: str | None) -> None:
        """Note that a runtime can be used again, and ask it for its tasks; or that it cannot."""
        if kind not in self._configured:
            return
        if problem is not None:
            self._asked.pop(kind, None)
            self.problems[kind] = problem
        elif kind in self.problems and kind not in self._asked:
            self._ask(kind)

    def answered(self, kind: RuntimeKind) -> frozenset[TaskKey]:
        """Note that a runtime has answered; return the tasks that are gone if it did not name them.

        An answer that nobody waits for any more counts for nothing.
        """
        if kind not in self._asked:
            return frozenset()
        self.problems.pop(kind, None)
        return self._asked.pop(kind)

    def _ask(self, kind: RuntimeKind) -> None:
        live = [task for task in self._tasks.values() if task.kind is kind and task.is_live]
        self._asked[kind] = frozenset(t.key for t in live if t.phase in (Phase.UNCERTAIN, Phase.RUNNING))
        self._effects.do(RecoverTasks(kind, frozenset(task.key for task in live)))
