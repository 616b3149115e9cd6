"""A cluster in memory for the service's logic: applies what it decides, and does to its tasks what a test says.

It holds the truth that the logic must not contradict: no task id is launched twice, nothing is launched that was not
wanted, and a logic that starts anew gets the durable entries and the launched tasks, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from runrig.ids import AgentId, FrameworkId, TaskId
from runrig.tasks import Port, Reason, StatusUpdate, TaskState
from runrig.wants import (
    Answer,
    AnswerInverse,
    Connected,
    Decision,
    Delete,
    Put,
    Run,
    Stop,
    TaskChanged,
    TaskView,
    WakeAt,
    Want,
    Woken,
)
from runrig_service.core.limits import Limits, Policy
from runrig_service.core.service import Service

START = 1_700_000_000.0
S = TaskState


class Runner:
    """A service framework on a cluster in memory; it is a `runrig_service.mind.Mind`."""

    def __init__(self, limits: Limits | None = None, policy: Policy | None = None) -> None:
        self.limits = limits or Limits()
        self.policy = policy or Policy()
        self.now = START
        self.entries: dict[str, bytes] = {}
        self.wants: dict[TaskId, Want] = {}
        self.views: dict[TaskId, TaskView] = {}
        self.launched: set[TaskId] = set()
        self.wake_at: float | None = None
        self.is_connected = True
        self.framework_id = FrameworkId("f-1")
        self.declines: dict[str, int] = {}
        self.crashes_always = False
        self._answers: dict[int, object] = {}
        self.inverse_answers: list[AnswerInverse] = []
        self.logic = Service(self.limits, self.policy)
        self._apply(self.logic.restore({}, {}, self.now))
        self.tell(Connected())

    # What the logic is told.

    def tell(self, event: object) -> None:
        """Hand an event to the logic and apply what it decides; crash afterwards if the test wants that."""
        self._apply(self.logic.handle(event, self.now))
        if self.crashes_always:
            self.crash()

    async def ask(self, question: object) -> object:
        """Answer as the framework does."""
        return self.answer(question)

    def answer(self, question: object) -> object:
        """Ask; raise the answer if it is an error."""
        self.tell(question)
        value = self._answers.pop(id(question))
        if isinstance(value, Exception):
            raise value
        return value

    def crash(self) -> None:
        """Lose the process, and start another from what was durable."""
        self.logic = Service(self.limits, self.policy)
        self.wants, before = {}, self.wants
        self.wake_at = None
        self._apply(self.logic.restore(dict(sorted(self.entries.items())), dict(self.views), self.now))
        for task_id in list(self.views):
            if task_id not in self.wants and not self.views[task_id].is_stopping:
                self._stop(task_id)
        assert set(self.wants) <= set(before) | self.fresh, "a task was asked for that nobody knew"

    def advance(self, seconds: float) -> None:
        """Let time pass, waking the logic when it asked for that."""
        end = self.now + seconds
        while self.wake_at is not None and self.wake_at <= end:
            self.now, self.wake_at = max(self.now, self.wake_at), None
            self.tell(Woken())
        self.now = end

    # What happens to tasks.

    @property
    def fresh(self) -> set[TaskId]:
        """Return the ids that wait and were never launched."""
        return set(self.wants) - self.launched

    @property
    def waiting(self) -> list[TaskId]:
        """Return the ids that wait for an offer, in the order in which they were wanted."""
        return [each for each in self.wants if each not in self.views]

    def in_state(self, *states: TaskState) -> list[TaskId]:
        """Return the ids of the tasks in a state."""
        return [each for each, view in self.views.items() if view.state in states]

    @property
    def running(self) -> list[TaskId]:
        """Return the ids of the tasks that run and should."""
        return [each for each in self.in_state(S.TASK_RUNNING) if not self.views[each].is_stopping]

    @property
    def unsettled(self) -> list[TaskId]:
        """Return the ids of the launched tasks that do not run, or are out of reach."""
        return self.in_state(S.TASK_STAGING, S.TASK_STARTING, S.TASK_UNREACHABLE)

    @property
    def stopping(self) -> list[TaskId]:
        """Return the ids of the tasks that are being killed."""
        return [each for each, view in self.views.items() if view.is_stopping]

    def launch(self, task_id: TaskId, host: str = "h1", attributes: tuple[tuple[str, str], ...] = ()) -> None:
        """Let an offer fit; the task is staging."""
        assert task_id not in self.launched, f"{task_id} is launched twice"
        want = self.wants[task_id]
        self.launched.add(task_id)
        self.views[task_id] = TaskView(
            task_id,
            want.group,
            agent_id=AgentId(f"agent-{host}"),
            hostname=host,
            attributes=attributes,
            ports=tuple(Port(31_000 + number) for number in range(len(want.ports))),
            launched_at=self.now,
        )
        self.change(task_id, S.TASK_STAGING)

    def change(
        self, task_id: TaskId, state: TaskState, healthy: bool | None = None, reason: Reason = Reason.NONE
    ) -> None:
        """Report a state of a task."""
        view = self.views[task_id]
        status = StatusUpdate(
            self.framework_id,
            task_id,
            view.agent_id,
            1,
            state,
            reason,
            at_unix_ms=round(self.now * 1000),
            healthy=healthy,
        )
        view = replace(view, state=state, status=status)
        self.views[task_id] = view
        if state.is_terminal:
            del self.views[task_id]
            self.wants.pop(task_id, None)
        self.tell(TaskChanged(view))

    def start(self, task_ids: Iterable[TaskId] | None = None, healthy: bool | None = None) -> list[TaskId]:
        """Launch waiting tasks and let them run; return them."""
        started = list(self.waiting if task_ids is None else task_ids)
        for task_id in started:
            if task_id in self.wants and task_id not in self.views:
                self.launch(task_id)
            if task_id in self.views:
                self.change(task_id, S.TASK_RUNNING, healthy)
        return started

    def bury(self) -> list[TaskId]:
        """Let the tasks end that are being killed; return them."""
        dying = self.stopping
        for task_id in dying:
            self.change(task_id, S.TASK_KILLED, reason=Reason.KILLED_BY_FRAMEWORK)
        return dying

    def settle(self, healthy: bool | None = None, rounds: int = 200) -> None:
        """Let all go well until nothing happens any more."""
        for _ in range(rounds):
            busy = [*self.waiting, *self.stopping, *self.unsettled]
            sick = [each for each in self.running if healthy and self._healthy(each) is not True]
            if not busy and not sick and self.wake_at is None:
                return
            self.start([*self.waiting, *self.unsettled, *sick], healthy)
            self.bury()
            if self.wake_at is not None:
                self.advance(self.wake_at - self.now + 0.001)
        raise AssertionError(f"nothing settles: {self.views}, {self.waiting}")

    def _healthy(self, task_id: TaskId) -> bool | None:
        status = self.views[task_id].status
        return status.healthy if status is not None else None

    # What the logic decides.

    def _apply(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Put():
                    self.entries[decision.key] = decision.value
                case Delete():
                    del self.entries[decision.key]
                case Run():
                    for want in decision.wants:
                        assert want.task_id not in self.launched or want.task_id in self.views, "an id is used twice"
                        self.wants.setdefault(want.task_id, want)
                case Stop():
                    self._stop(decision.task_id)
                case WakeAt():
                    self.wake_at = decision.at if self.wake_at is None else min(self.wake_at, decision.at)
                case Answer():
                    self._answers[id(decision.question)] = decision.value
                case AnswerInverse():
                    self.inverse_answers.append(decision)

    def _stop(self, task_id: TaskId) -> None:
        self.wants.pop(task_id, None)
        if task_id in self.views:
            self.views[task_id] = replace(self.views[task_id], is_stopping=True)
