"""The durable entries of the batch framework, each small and written by itself.

    counter                 the number of the newest job: ids are never used again
    job/<id>                what was asked for: written once
    status/<id>             when it started, was killed, ended: written at most three times
    index/<id>/<index>      attempts of one index: written when one of them ends; none: it never did
    output/<task id>        output that must still be fetched, and from where; deleted when it has been

An index that ends thus writes one entry of about 100 bytes, however large its array is; one that waits writes
none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runrig.ids import AgentId, TaskId
from runrig.tasks import Reason, TaskState
from runrig_batch.core.job import Attempt, IndexState, Job, JobId
from runrig_batch.core.job_file import described, parse_submission
from runrig_batch.core.limits import BOUNDLESS
from runrig_batch.core.progress import Phase, Progress

COUNTER = "counter"
JOB = "job/"
STATUS = "status/"
INDEX = "index/"
OUTPUT = "output/"

_LETTER_OF = {
    IndexState.SUCCEEDED: "S",
    IndexState.FAILED: "F",
    IndexState.KILLED: "K",
    IndexState.RETRYING: "R",
}
_STATE_OF = {letter.encode(): state for state, letter in _LETTER_OF.items()}


@dataclass(frozen=True, slots=True)
class JobTimes:
    """When a job started, was told to stop, and ended; seconds since 1970, 0 for not yet."""

    started_at: float = 0.0
    killed_at: float = 0.0
    ended_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one index between its attempts, or after its end."""

    state: IndexState
    number: int
    failures: int
    faults: int
    not_before: float
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """Output of an ended task that is still on its agent."""

    task_id: TaskId
    agent_id: AgentId
    agent_address: str
    ended_at: float


def job_value(job: Job) -> bytes:
    """Encode a job as its user described it."""
    return _json({"number": job.number, "at": job.submitted_at, "key": job.key, "spec": described(job.spec)})


def job_from(job_id: JobId, value: bytes) -> Job:
    """Decode a job; limits that were lowered since do not apply."""
    data = json.loads(value)
    spec, _ = parse_submission(data["spec"], BOUNDLESS)
    return Job(job_id, data["number"], spec, data["at"], data["key"])


def times_value(times: JobTimes) -> bytes:
    """Encode when a job started, was killed and ended."""
    return _json([times.started_at, times.killed_at, times.ended_at])


def times_from(value: bytes) -> JobTimes:
    """Decode when a job started, was killed and ended."""
    return JobTimes(*json.loads(value))


def record_value(state: IndexState, progress: Progress) -> bytes:
    """Encode one index; the first byte is the letter of its state, so that counting needs no decoding."""
    attempts = [
        [
            *(each.number, each.state.value, each.reason.value, each.message, each.exit_code, each.hostname),
            *(round(each.started_at, 3), round(each.ended_at, 3)),
        ]
        for each in progress.past
    ]
    numbers = [progress.number, progress.failures, progress.faults, round(progress.not_before, 3)]
    return _LETTER_OF[state].encode() + _json([*numbers, attempts])


def record_state(value: bytes) -> IndexState:
    """Return the state of an encoded index."""
    return _STATE_OF[value[:1]]


def record_from(value: bytes) -> Record:
    """Decode one index."""
    number, failures, faults, not_before, attempts = json.loads(value[1:])
    return Record(record_state(value), number, failures, faults, not_before, tuple(map(_attempt, attempts)))


def progress_from(index: int, value: bytes) -> Progress:
    """Decode an index that pauses before its next attempt."""
    record = record_from(value)
    return Progress(
        index,
        number=record.number,
        phase=Phase.RESTING,
        failures=record.failures,
        faults=record.faults,
        not_before=record.not_before,
        past=record.attempts,
    )


def output_value(output: Output) -> bytes:
    """Encode where output is still to be fetched."""
    return _json([output.agent_id, output.agent_address, output.ended_at])


def output_from(task_id: TaskId, value: bytes) -> Output:
    """Decode where output is still to be fetched."""
    return Output(task_id, *json.loads(value))


@dataclass(slots=True)
class Kept:
    """All entries, sorted by kind."""

    counter: int
    jobs: dict[JobId, Job]
    times: dict[JobId, JobTimes]
    indices: dict[JobId, dict[int, bytes]]
    outputs: dict[TaskId, Output]
    rubbish: list[str]
    """Entries of jobs that were forgotten, which a death kept from being deleted."""


def read(entries: Mapping[str, bytes]) -> Kept:
    """Sort all entries by kind."""
    kept = Kept(int(entries.get(COUNTER, b"0")), {}, {}, {}, {}, [])
    for key, value in entries.items():
        if key.startswith(JOB):
            job_id = JobId(key.removeprefix(JOB))
            kept.jobs[job_id] = job_from(job_id, value)
    for key, value in entries.items():
        if key.startswith(INDEX):
            name, _, index = key.removeprefix(INDEX).rpartition("/")
            _file(kept, JobId(name), key, kept.indices.setdefault(JobId(name), {}), int(index), value)
        elif key.startswith(STATUS):
            _file(
                kept,
                JobId(key.removeprefix(STATUS)),
                key,
                kept.times,
                JobId(key.removeprefix(STATUS)),
                times_from(value),
            )
        elif key.startswith(OUTPUT):
            task_id = TaskId(key.removeprefix(OUTPUT))
            _file(
                kept,
                JobId(task_id.partition(".")[0]),
                key,
                kept.outputs,
                task_id,
                output_from(task_id, value),
            )
    return kept


def _file(kept: Kept, job_id: JobId, key: str, shelf: dict[Any, Any], name: object, value: object) -> None:
    if job_id in kept.jobs:
        shelf[name] = value
    else:
        kept.rubbish.append(key)


def _attempt(data: list[Any]) -> Attempt:
    number, state, reason, message, exit_code, hostname, started_at, ended_at = data
    return Attempt(number, TaskState(state), Reason(reason), message, exit_code, hostname, started_at, ended_at)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
