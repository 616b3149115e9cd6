"""What health checks mean: a change is reported, and repeated failure ends the task.

Failures within a check's grace from the start do not count until its first success.
"""

from __future__ import annotations

from runrig.tasks import HealthCheck, Reason, TaskState
from runrig_agent.core.ends import Ends
from runrig_agent.core.events import TaskChecked
from runrig_agent.core.task import CheckResult, Phase, Task
from runrig_agent.core.updates import Updates


class Health:
    """Judge the results of health checks."""

    def __init__(self, updates: Updates, ends: Ends) -> None:
        self._updates = updates
        self._ends = ends

    def checked(self, task: Task, event: TaskChecked, now: float) -> None:
        """One check of a task was tried."""
        if task.phase is not Phase.RUNNING or event.check >= len(task.checks):
            return
        check, result = task.spec.health_checks[event.check], task.checks[event.check]
        if event.is_healthy:
            result.failures, result.is_healthy = 0, True
        elif not _is_excused(task, check, result, now):
            result.failures += 1
            result.is_healthy = False
        self._tell(task, event.message, now)
        if check.max_consecutive_failures and result.failures >= check.max_consecutive_failures:
            message = f"{check.kind.name.lower()} health check failed {result.failures} times: {event.message}"
            self._ends.end(task, TaskState.TASK_FAILED, Reason.HEALTH_CHECK, message, now)

    def _tell(self, task: Task, message: str, now: float) -> None:
        """Report the health of the task, all checks taken together, if it changed."""
        results = [result.is_healthy for result in task.checks]
        if False in results:
            is_healthy = False
        elif None in results:
            return
        else:
            is_healthy = True
        if task.latest is None or task.latest.healthy is not is_healthy:
            reason = Reason.HEALTH_CHANGED
            self._updates.add(task, TaskState.TASK_RUNNING, reason, now, message, healthy=is_healthy)


def _is_excused(task: Task, check: HealthCheck, result: CheckResult, now: float) -> bool:
    started_at_ms = task.started.started_at_unix_ms if task.started is not None else 0
    return result.is_healthy is None and now * 1000 < started_at_ms + check.grace_ms
