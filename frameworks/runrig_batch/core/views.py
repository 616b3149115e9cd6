"""What people are shown of jobs: plain values, ready to become JSON."""

from __future__ import annotations

from dataclasses import dataclass

from runrig.ids import TaskId
from runrig.tasks import TaskState
from runrig_batch.core.job import Attempt, IndexState, Job, JobId, JobState


@dataclass(frozen=True, slots=True)
class Counts:
    """How many indices stand where."""

    waiting: int = 0
    running: int = 0
    retrying: int = 0
    succeeded: int = 0
    failed: int = 0
    killed: int = 0


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job in one line; times in seconds since 1970, 0 for not yet."""

    job: Job
    state: JobState
    is_stopping: bool
    counts: Counts
    started_at: float
    ended_at: float


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One index of a job; `attempts` are those that are over, the latest last."""

    index: int
    item: str
    state: IndexState
    number: int
    failures: int
    faults: int
    attempts: tuple[Attempt, ...]
    task_state: TaskState | None = None
    hostname: str = ""
    started_at: float = 0.0
    not_before: float = 0.0
    message: str = ""


@dataclass(frozen=True, slots=True)
class TaskSight:
    """One attempt, for those who follow its output.

    `is_over`: it has ended, or was given up. `is_last`: no other attempt of its index will follow.
    `is_collected`: its output is kept here, as far as there was any; else it is to be had at `agent_address`.
    """

    task_id: TaskId
    job_id: JobId
    index: int
    attempt: int
    state: IndexState
    task_state: TaskState | None
    agent_address: str
    is_over: bool
    is_last: bool
    is_collected: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """The whole framework in numbers; `ends` counts attempts by verdict since this process began."""

    jobs: dict[JobState, int]
    tasks: Counts
    ends: dict[str, int]
    outputs: int
    waits: int
