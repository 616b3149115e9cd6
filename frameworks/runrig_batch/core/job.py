"""What a job is: its description, its ids, and what becomes of each of its tasks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from runrig.constraints import Constraint
from runrig.ids import Role, TaskId
from runrig.resources import Resources
from runrig.tasks import Command, Container, Fetch, Reason, TaskSpec, TaskState
from runrig.wants import TaskView, Want
from runrig_batch.core.indices import Ranges, count_of

JobId = NewType("JobId", str)
"""`<name>-<number>`: the number is never given twice, so an id is never used again."""


class JobState(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    KILLED = "killed"

    @property
    def has_ended(self) -> bool:
        """Say whether nothing more will happen."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.KILLED)


class IndexState(StrEnum):
    """Where one index of a job stands: RETRYING pauses before its next attempt."""

    WAITING = "waiting"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    KILLED = "killed"

    @property
    def has_ended(self) -> bool:
        """Say whether the index will never run again."""
        return self in (IndexState.SUCCEEDED, IndexState.FAILED, IndexState.KILLED)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What the user asked for, checked by `runrig_batch.core.job_file`.

    `parallelism` 0: as many at once as the cluster has room for. Every index may be tried `1 + retries`
    times, with a pause of `retry_delay_ms` that doubles each time; `timeout_ms` 0: a task may run for ever. Tasks of a
    gang start all or not at all, and are tried again all. `expected_runtime_ms` is a promise of each; 0: none.
    """

    name: str
    resources: Resources
    argv: tuple[str, ...] = ()
    shell: str = ""
    image: str = ""
    env: tuple[tuple[str, str], ...] = ()
    indices: Ranges = ((0, 0),)
    items: tuple[str, ...] = ()
    parallelism: int = 0
    retries: int = 0
    retry_delay_ms: int = 1000
    timeout_ms: int = 0
    kill_grace_ms: int | None = None
    constraints: tuple[Constraint, ...] = ()
    priority: int = 0
    role: Role | None = None
    user: str = ""
    fetch: tuple[Fetch, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    is_gang: bool = False
    expected_runtime_ms: int = 0

    @property
    def promised_ms(self) -> int:
        """Return how long a task runs at most, by its promise or its end by force; 0: nobody knows."""
        return min(filter(None, (self.expected_runtime_ms, self.timeout_ms)), default=0)

    @property
    def size(self) -> int:
        """Return the number of tasks that must succeed."""
        return count_of(self.indices)


@dataclass(frozen=True, slots=True)
class Job:
    """A job that was accepted; `key` is the client's own name for this submission, or empty."""

    job_id: JobId
    number: int
    spec: JobSpec
    submitted_at: float
    key: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of one index, as far as it is over; times in seconds since 1970, 0 if it never started."""

    number: int
    state: TaskState
    reason: Reason = Reason.NONE
    message: str = ""
    exit_code: int | None = None
    hostname: str = ""
    started_at: float = 0.0
    ended_at: float = 0.0


MAX_MESSAGE = 300


def attempt_of(number: int, task: TaskView, now: float) -> Attempt:
    """Return what is remembered of an attempt that ended, or was given up, at `now`."""
    status = task.status
    return Attempt(
        number=number,
        state=task.state or TaskState.TASK_UNKNOWN,
        reason=status.reason if status else Reason.NONE,
        message=(status.message if status else "")[:MAX_MESSAGE],
        exit_code=status.exit_code if status else None,
        hostname=task.hostname,
        started_at=task.launched_at,
        ended_at=now,
    )


_TASK_ID = re.compile(r"(?P<job>[A-Za-z0-9_-]+)\.(?P<index>0|[1-9]\d{0,9})\.(?P<attempt>[1-9]\d{0,9})\Z", re.ASCII)


def task_id_of(job_id: JobId, index: int, attempt: int) -> TaskId:
    """Return the id of one attempt: `<job>.<index>.<attempt>`."""
    return TaskId(f"{job_id}.{index}.{attempt}")


def parts_of(task_id: TaskId) -> tuple[JobId, int, int] | None:
    """Return job, index and attempt of a task; None: it is no task of a job."""
    match = _TASK_ID.match(task_id)
    return (JobId(match["job"]), int(match["index"]), int(match["attempt"])) if match else None


def want_of(job: Job, index: int, attempt: int) -> Want:
    """Return the task that one attempt is."""
    spec = job.spec
    env = {
        **dict(spec.env),
        "RUNRIG_JOB_ID": job.job_id,
        "RUNRIG_ARRAY_INDEX": str(index),
        "RUNRIG_ARRAY_SIZE": str(spec.size),
        "RUNRIG_ATTEMPT": str(attempt),
    }
    if spec.items:
        env["RUNRIG_ITEM"] = spec.items[index]
    task = TaskSpec(
        task_id=task_id_of(job.job_id, index, attempt),
        resources=spec.resources,
        name=spec.name,
        labels=(*spec.labels, ("runrig.batch.job", job.job_id)),
        command=Command(argv=spec.argv, shell=spec.shell, env=tuple(env.items()), user=spec.user),
        container=Container(spec.image) if spec.image else None,
        fetch=spec.fetch,
        kill_grace_ms=spec.kill_grace_ms,
        max_run_ms=spec.timeout_ms,
    )
    return Want(
        task,
        constraints=spec.constraints,
        group=job.job_id,
        role=spec.role,
        priority=spec.priority,
        gang=f"{job.job_id}.{attempt}" if spec.is_gang else "",
        expected_duration_ms=spec.expected_runtime_ms,
    )
