"""A cluster for the batch framework's mind, on plain data: what the SDK keeps, and what agents run.

`Cluster` stands where the SDK stands: it commits what the logic answers, launches what it wants, and hands it
the news. A process that dies between the answer and the commit (`lose_answer`) gets the same news again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from runrig.ids import AgentId, FrameworkId, TaskId
from runrig.tasks import Reason, StatusUpdate, TaskState
from runrig.wants import (
    Answer,
    AnswerInverse,
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
from runrig_batch.core.batch import Batch
from runrig_batch.core.job import JobId
from runrig_batch.core.job_file import parse_submission
from runrig_batch.core.limits import Limits
from runrig_batch.core.questions import IndexPage, KillJob, ListIndices, ShowJob, SubmitJob, Submitted
from runrig_batch.core.views import IndexRow, JobSummary

T = TypeVar("T")
START = 1_700_000_000.0


@dataclass
class Cluster:
    """The SDK's part, and the agents' truth in `started` and `live`."""

    limits: Limits = field(default_factory=Limits)
    now: float = START
    entries: dict[str, bytes] = field(default_factory=dict)
    launched: dict[TaskId, TaskView] = field(default_factory=dict)
    wanted: dict[TaskId, Want] = field(default_factory=dict)
    started: Counter[TaskId] = field(default_factory=Counter)
    live: set[TaskId] = field(default_factory=set)
    stopping: set[TaskId] = field(default_factory=set)
    answers: list[Answer] = field(default_factory=list)
    inverse_answers: list[AnswerInverse] = field(default_factory=list)
    last: list[Decision] = field(default_factory=list)
    alarm: float | None = None
    is_restarting_always: bool = False
    on_answer: Callable[[Answer], None] = lambda _answer: None

    def __post_init__(self) -> None:
        self.restart()

    # The process and its store.

    def restart(self) -> None:
        """Kill the process and start it again: only what was durable is left."""
        self.wanted.clear()
        self.alarm = None
        self.answers.clear()
        self.batch = Batch(self.limits)
        decisions = self.batch.restore(dict(self.entries), dict(self.launched), self.now)
        named = {want.task_id for each in decisions if isinstance(each, Run) for want in each.wants}
        self.stopping |= set(self.launched) - named
        self._commit(decisions)

    def tell(self, event: object, *, lose_answer: bool = False) -> list[Decision]:
        """Hand one event over; with `lose_answer` the process dies before its answer is durable."""
        self.last = self.batch.handle(event, self.now)
        if lose_answer:
            self.restart()
            return []
        decisions = self.last
        if isinstance(event, TaskChanged):
            self._keep(event.task)
        self._commit(decisions)
        if self.is_restarting_always:
            self.restart()
        return decisions

    def _keep(self, task: TaskView) -> None:
        if task.state is not None and task.state.is_terminal:
            self.launched.pop(task.task_id, None)
        elif task.task_id in self.launched:
            self.launched[task.task_id] = task

    def _commit(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Put(key, value):
                    self.entries[key] = value
                case Delete(key):
                    self.entries.pop(key, None)
                case Run(wants):
                    self.wanted.update((each.task_id, each) for each in wants if each.task_id not in self.launched)
                case Stop(task_id):
                    self.wanted.pop(task_id, None)
                    self.stopping |= {task_id} & set(self.launched)
                case WakeAt(at):
                    self.alarm = at if self.alarm is None else min(at, self.alarm)
                case Answer():
                    self.answers.append(decision)
                    self.on_answer(decision)
                case AnswerInverse():
                    self.inverse_answers.append(decision)

    # The agents.

    def launch(self, *task_ids: str) -> None:
        """Start tasks that are wanted, all if none is named, and tell that they run."""
        for task_id in [TaskId(each) for each in task_ids] or list(self.wanted):
            self.start(task_id)
            self.says(task_id, TaskState.TASK_RUNNING)

    def start(self, task_id: TaskId) -> None:
        """Start a task that is wanted, silently."""
        del self.wanted[task_id]
        self.launched[task_id] = view(task_id, TaskState.TASK_STAGING, at=self.now)
        self.started[task_id] += 1
        self.live.add(task_id)

    def says(
        self,
        task_id: str,
        state: TaskState,
        reason: Reason = Reason.NONE,
        exit_code: int | None = None,
        *,
        lose_answer: bool = False,
    ) -> list[Decision]:
        """Tell news of a task."""
        before = self.launched.get(TaskId(task_id)) or view(task_id, state, at=self.now)
        news = view(task_id, state, reason, exit_code, at=before.launched_at)
        news = replace(news, is_stopping=TaskId(task_id) in self.stopping)
        if state.is_terminal and not lose_answer:
            self.live.discard(TaskId(task_id))
            self.stopping.discard(TaskId(task_id))
        return self.tell(TaskChanged(news), lose_answer=lose_answer)

    def finish(self, *task_ids: str) -> None:
        """End tasks with success, all that live if none is named."""
        for task_id in task_ids or sorted(self.live):
            self.says(task_id, TaskState.TASK_FINISHED, Reason.EXITED, 0)

    def fail(self, task_id: str, exit_code: int = 1) -> None:
        """End a task with an exit code."""
        self.says(task_id, TaskState.TASK_FAILED, Reason.EXITED, exit_code)

    # Time.

    def advance(self, seconds: float) -> None:
        """Let time pass; alarms ring at their times."""
        end = self.now + seconds
        while self.alarm is not None and self.alarm <= end:
            self.now, self.alarm = max(self.now, self.alarm), None
            self.tell(Woken())
        self.now = end

    # Users.

    def ask(self, question: object, kind: type[T]) -> T:
        """Ask a question that is answered at once; raise the answer if it is an error."""
        decisions = self.batch.handle(question, self.now)
        [answer] = [each for each in decisions if isinstance(each, Answer) and each.question is question]
        self._commit(decisions)
        self.answers.remove(answer)
        if isinstance(answer.value, Exception):
            raise answer.value
        assert isinstance(answer.value, kind)
        return answer.value

    def submit(self, key: str = "", **description: object) -> JobId:
        """Submit a job."""
        spec, _ = parse_submission({"name": "job", "command": "true", **description}, self.limits)
        job_id = self.ask(SubmitJob(spec, key), Submitted).summary.job.job_id
        if self.is_restarting_always:
            self.restart()
        return job_id

    def kill(self, job_id: JobId) -> JobSummary:
        """Kill a job."""
        return self.ask(KillJob(job_id), JobSummary)

    def show(self, job_id: JobId) -> JobSummary:
        """Show a job."""
        return self.ask(ShowJob(job_id), JobSummary)

    def row(self, job_id: JobId, index: int = 0) -> IndexRow:
        """Show one index."""
        [row] = self.ask(ListIndices(job_id, after=index - 1, limit=1), IndexPage).rows
        return row


def view(
    task_id: str,
    state: TaskState,
    reason: Reason = Reason.NONE,
    exit_code: int | None = None,
    at: float = START,
) -> TaskView:
    """Return what the SDK tells of a task on agent a1."""
    status = StatusUpdate(FrameworkId("fw"), TaskId(task_id), AgentId("a1"), 1, state, reason, exit_code=exit_code)
    blank = TaskView(TaskId(task_id), group=task_id.partition(".")[0])
    return replace(
        blank,
        state=state,
        status=status,
        agent_id=AgentId("a1"),
        hostname="host-1",
        agent_address="host-1:5051",
        launched_at=at,
    )
