"""How long `Wants` waits before it tries again, and whose fault an end was."""

from __future__ import annotations

from runrig.tasks import CLUSTER_REASONS, TaskState
from runrig.wants import TaskView

FIRST_BACKOFF_S = 1.0
MOST_BACKOFF_S = 300.0
HEALTHY_RUN_S = 60.0
"""A run of at least this length forgets the failures before it."""


def backoff_s(times: int) -> float:
    """Return the wait after so many ends in a row, in seconds."""
    return min(FIRST_BACKOFF_S * 2.0 ** min(times - 1, 20), MOST_BACKOFF_S)


def was_healthy(view: TaskView, now: float) -> bool:
    """Say whether the run was long enough for what went wrong before to be forgotten."""
    return bool(view.launched_at) and now - view.launched_at >= HEALTHY_RUN_S


def is_clusters_fault(view: TaskView) -> bool:
    """Say whether a run ended, or is given up, by no fault of its own."""
    assert view.status is not None
    return view.status.reason in CLUSTER_REASONS or view.state is TaskState.TASK_UNREACHABLE
