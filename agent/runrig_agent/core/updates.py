"""Status updates: numbered per task from 1, durable before they are told, told again until acknowledged.

A later update never waits for the acknowledgement of an earlier one; acknowledgements are cumulative.
Terminal states never change (rule 8).
"""

from __future__ import annotations

from runrig.agents import TaskReport
from runrig.ids import AgentId
from runrig.tasks import Reason, StatusUpdate, TaskState
from runrig_agent.core.effects import Effects
from runrig_agent.core.policy import Policy
from runrig_agent.core.records import DropUpdate, PutAcknowledged, PutUpdate
from runrig_agent.core.task import Task
from runrig_agent.core.timers import TimerKind, Timers

_SUPERSEDED = (Reason.FETCHING, Reason.PULLING_IMAGE, Reason.HEALTH_CHANGED)
"""News that a later update makes worthless."""


class Updates:
    """Say what becomes of tasks, and keep saying it until somebody has heard."""

    def __init__(self, policy: Policy, effects: Effects, timers: Timers) -> None:
        self.agent_id = AgentId("")
        self._policy = policy
        self._effects = effects
        self._timers = timers

    def add(
        self,
        task: Task,
        state: TaskState,
        reason: Reason,
        now: float,
        message: str = "",
        at_unix_ms: int | None = None,
        exit_code: int | None = None,
        healthy: bool | None = None,
    ) -> None:
        """Say something new of a task."""
        assert not task.state.is_terminal, f"{task.key} has ended as {task.state.name}: that never changes"
        started = task.started
        update = StatusUpdate(
            *task.key,
            self.agent_id,
            number=task.last_number + 1,
            state=state,
            reason=reason,
            message=message,
            at_unix_ms=int(now * 1000) if at_unix_ms is None else at_unix_ms,
            healthy=_last_health(task) if healthy is None else healthy,
            exit_code=exit_code,
            runtime=task.kind,
            container_id=started.container_id if started else "",
            pid=started.pid if started else 0,
            address=started.address if started else "",
        )
        task.latest = update
        task.unacknowledged.append(update)
        self._effects.keep(PutUpdate(update))
        self._effects.tell(update)
        self._drop_superseded(task)
        if not self._timers.is_set(TimerKind.RETRY_UPDATES, task.key):
            self._wait_for_acknowledgement(task, now)

    def acknowledge(self, task: Task, number: int) -> bool:
        """Note that updates up to `number` were received; say whether nothing of the task is left to say."""
        through = min(number, task.last_number)
        if through > task.acknowledged:
            task.acknowledged = through
            task.unacknowledged = [update for update in task.unacknowledged if update.number > through]
            self._effects.keep(PutAcknowledged(task.key, through, min(through + 1, task.last_number)))
        if task.unacknowledged:
            return False
        self._timers.cancel(TimerKind.RETRY_UPDATES, task.key)
        return not task.is_live

    def retry(self, task: Task, now: float) -> None:
        """Send again what is unacknowledged for too long, and wait twice as long for the next time."""
        if task.unacknowledged:
            self._send_again(task)
            task.retry_s = min(task.retry_s * 2, self._policy.update_retry_max_s)
            self._timers.set(TimerKind.RETRY_UPDATES, now + task.retry_s, task.key)

    def resume(self, task: Task, now: float) -> None:
        """Send what is unacknowledged on a new connection."""
        if task.unacknowledged:
            self._send_again(task)
            self._wait_for_acknowledgement(task, now)

    def answer(self, task: Task) -> None:
        """Say the state of a task to somebody who should know it (rules 12, 13)."""
        self._effects.tell(self._status(task))

    def report(self, task: Task) -> TaskReport:
        """Return what registration says of a task."""
        spec = task.spec
        return TaskReport(
            *task.key,
            spec.name,
            task.role,
            spec.resources,
            spec.labels,
            self._status(task),
            spec.terms,
            spec.volume_ids,
        )

    def _status(self, task: Task) -> StatusUpdate:
        """Return the latest update; before the first, one without a number: the task is being staged."""
        if task.latest is not None:
            return task.latest
        staged_at = int(task.launched_at * 1000)
        return StatusUpdate(*task.key, self.agent_id, 0, TaskState.TASK_STAGING, at_unix_ms=staged_at)

    def _send_again(self, task: Task) -> None:
        for update in task.unacknowledged:
            self._effects.tell(update)

    def _wait_for_acknowledgement(self, task: Task, now: float) -> None:
        task.retry_s = self._policy.update_retry_s
        self._timers.set(TimerKind.RETRY_UPDATES, now + task.retry_s, task.key)

    def _drop_superseded(self, task: Task) -> None:
        if len(task.unacknowledged) <= self._policy.unacknowledged_updates:
            return
        for place, update in enumerate(task.unacknowledged[:-1]):
            if update.reason in _SUPERSEDED:
                del task.unacknowledged[place]
                self._effects.keep(DropUpdate(task.key, update.number))
                return


def _last_health(task: Task) -> bool | None:
    return task.latest.healthy if task.latest is not None else None
