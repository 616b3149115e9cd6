"""What the edges ask and tell the mind; each question is answered with the value that its docstring names.

A question with `wait_s` is answered as soon as there is something to say, at the latest after so many
seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from runrig.ids import TaskId
from runrig_batch.core.job import IndexState, JobId, JobSpec, JobState
from runrig_batch.core.views import IndexRow, JobSummary, TaskSight


@dataclass(frozen=True, slots=True, eq=False)
class SubmitJob:
    """Accept a job: Submitted, or Conflict if `key` was used for another job."""

    spec: JobSpec
    key: str = ""


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job; `is_new` is False for a submission that was repeated."""

    summary: JobSummary
    is_new: bool


@dataclass(frozen=True, slots=True, eq=False)
class ListJobs:
    """Show jobs, newest first: JobPage.

    `states` empty: all. `before` is the number of the last job of the page before, 0 for the first page.
    """

    states: frozenset[JobState] = frozenset()
    prefix: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    before: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs; `next_before` continues, 0 at the end."""

    jobs: tuple[JobSummary, ...]
    next_before: int


@dataclass(frozen=True, slots=True, eq=False)
class ShowJob:
    """Show one job: JobSummary. With `wait_s` only when it has ended, or when the time is over."""

    job_id: JobId
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class ListIndices:
    """Show indices of a job above `after`: IndexPage. `states` empty: all."""

    job_id: JobId
    states: frozenset[IndexState] = frozenset()
    after: int = -1
    limit: int = 100


@dataclass(frozen=True, slots=True)
class IndexPage:
    """Some indices, perhaps none though more follow; `next_after` continues, None at the end."""

    rows: tuple[IndexRow, ...]
    next_after: int | None


@dataclass(frozen=True, slots=True, eq=False)
class ListWanted:
    """Show which tasks of a job wait for an offer now, by index: WantedTasks."""

    job_id: JobId
    limit: int = 100


@dataclass(frozen=True, slots=True)
class WantedTasks:
    """The first few of `count` tasks that wait for an offer, as wants of one `group`."""

    group: str
    count: int
    task_ids: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True, eq=False)
class FindTask:
    """Find one attempt of an index, 0 for the latest: TaskSight.

    With `wait_s` once it differs from `unlike`.
    """

    job_id: JobId
    index: int
    attempt: int = 0
    unlike: TaskSight | None = None
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class KillJob:
    """Stop a job for good: JobSummary. A job that has ended is left as it is."""

    job_id: JobId


@dataclass(frozen=True, slots=True, eq=False)
class NextOutputs:
    """Find output that is to be fetched: OutputPage; `after` is the `upto` of the page before, or 0."""

    after: int
    limit: int
    wait_s: float


@dataclass(frozen=True, slots=True, eq=False)
class KnownJobs:
    """Name every job that is remembered: frozenset of JobId. What is kept of others may go."""


@dataclass(frozen=True, slots=True, eq=False)
class CountAll:
    """Count everything: Totals."""


@dataclass(frozen=True, slots=True)
class OutputCollected:
    """Told, not asked: the output of a task is kept, or given up for lost."""

    task_id: TaskId


Waiting = ShowJob | FindTask
Look = ListJobs | ListIndices | ListWanted | KnownJobs | CountAll
Question = SubmitJob | Look | Waiting | KillJob | NextOutputs
