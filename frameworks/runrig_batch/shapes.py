"""Jobs as JSON: what the REST API answers. Times are ISO 8601 in UTC, null for not yet."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from runrig.errors import InvalidInput, RunrigError
from runrig_batch.core.job import Attempt
from runrig_batch.core.job_file import described
from runrig_batch.core.questions import WantedTasks
from runrig_batch.core.views import Counts, IndexRow, JobSummary

Json = dict[str, Any]


def time_text(at: float) -> str | None:
    """Return seconds since 1970 as text."""
    if not at:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def summary_json(summary: JobSummary) -> Json:
    """Return a job in one object, without its items, which may be megabytes."""
    job, spec = summary.job, summary.job.spec
    return {
        "id": job.job_id,
        "name": spec.name,
        "state": summary.state.value,
        "is_stopping": summary.is_stopping,
        "size": spec.size,
        "counts": counts_json(summary.counts),
        "submitted_at": time_text(job.submitted_at),
        "started_at": time_text(summary.started_at),
        "ended_at": time_text(summary.ended_at),
        "number": job.number,
        "key": job.key or None,
        "role": spec.role,
        "priority": spec.priority,
        "is_gang": spec.is_gang,
        "labels": dict(spec.labels),
        "command": spec.shell or list(spec.argv) or None,
        "image": spec.image or None,
    }


def description_json(summary: JobSummary) -> Json:
    """Return a description that can be submitted again."""
    return described(summary.job.spec)


def counts_json(counts: Counts) -> dict[str, int]:
    """Return how many indices stand where."""
    return {name: getattr(counts, name) for name in Counts.__slots__}


def row_json(row: IndexRow) -> Json:
    """Return one index; `exit_code`, `reason` and `message` are those of its latest attempt that is over."""
    last = row.attempts[-1] if row.attempts else None
    is_live = row.task_state is not None
    return {
        "index": row.index,
        "item": row.item or None,
        "state": row.state.value,
        "task_state": row.task_state.name if row.task_state is not None else None,
        "attempt": row.number if not row.state.has_ended or last is None else last.number,
        "failures": row.failures,
        "faults": row.faults,
        "exit_code": last.exit_code if last else None,
        "reason": last.reason.name if last else None,
        "message": (row.message if is_live else last.message if last else "") or None,
        "host": (row.hostname if is_live else last.hostname if last else "") or None,
        "started_at": time_text(row.started_at if is_live else last.started_at if last else 0.0),
        "ended_at": time_text(last.ended_at) if last and row.state.has_ended else None,
        "next_attempt_at": time_text(row.not_before),
        "attempts": [attempt_json(each) for each in row.attempts],
    }


def attempt_json(attempt: Attempt) -> Json:
    """Return one attempt that is over."""
    return {
        "number": attempt.number,
        "state": attempt.state.name,
        "reason": attempt.reason.name,
        "message": attempt.message or None,
        "exit_code": attempt.exit_code,
        "host": attempt.hostname or None,
        "started_at": time_text(attempt.started_at),
        "ended_at": time_text(attempt.ended_at),
    }


def waiting_json(wanted: WantedTasks, framework_id: str, declines: Mapping[str, int]) -> Json:
    """Return what waits for an offer, the most frequent reason of the framework's own declines first."""
    return {
        "framework_id": framework_id or None,
        "group": wanted.group,
        "count": wanted.count,
        "task_ids": list(wanted.task_ids),
        "declines": [
            {"reason": reason, "count": count}
            for reason, count in sorted(declines.items(), key=lambda item: (-item[1], item[0]))
        ],
    }


def error_json(error: RunrigError) -> Json:
    """Return what was wrong; of a field that is not allowed, which it is, its value and what is allowed."""
    if not isinstance(error, InvalidInput):
        return {"message": _clean(str(error))}
    return {
        "message": _clean(str(error)),
        "field": _clean(error.field),
        "value": _shown(error.value),
        "allowed": _clean(error.allowed),
    }


def _shown(value: object) -> object:
    """Return a value as it is if JSON can hold it and a person can read it, else as a text."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and isfinite(value)):
        return value
    return _clean(value if isinstance(value, str) else repr(value), 200)


def _clean(text: str, most: int = 4000) -> str:
    """Cut a text that a stranger wrote, and escape what is no Unicode."""
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= most else f"{text[: most - 1]}…"
