"""Output that is still on the agents: what must be fetched before it is cleaned away there."""

from __future__ import annotations

from dataclasses import dataclass

from runrig.ids import TaskId
from runrig.tasks import TaskState
from runrig.wants import Decision, Delete, Put, TaskView
from runrig_batch.core.entries import OUTPUT, Output, output_value
from runrig_batch.core.job import JobId
from runrig_batch.core.questions import NextOutputs

_NEVER_STARTED = (TaskState.TASK_DROPPED, TaskState.TASK_ERROR)


@dataclass(frozen=True, slots=True)
class OutputPage:
    """Some output to fetch, oldest first; `upto` continues."""

    outputs: tuple[Output, ...]
    upto: int


class OutputQueue:
    """Ended tasks whose output has not been collected, in the order in which they ended."""

    def __init__(self) -> None:
        self._numbered: dict[TaskId, tuple[int, Output]] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return how many are waiting."""
        return len(self._numbered)

    def restore(self, outputs: dict[TaskId, Output]) -> None:
        """Take up what was durable."""
        for output in sorted(outputs.values(), key=lambda each: (each.ended_at, each.task_id)):
            self._add(output)

    def find(self, task_id: TaskId) -> Output | None:
        """Return the output of a task if it is still to be fetched."""
        found = self._numbered.get(task_id)
        return found[1] if found else None

    def ended(self, task: TaskView, now: float) -> list[Decision]:
        """Note a task that ended on an agent that can be asked."""
        if not task.agent_address or task.state in _NEVER_STARTED or task.task_id in self._numbered:
            return []
        output = Output(task.task_id, task.agent_id, task.agent_address, now)
        self._add(output)
        return [Put(f"{OUTPUT}{task.task_id}", output_value(output))]

    def collected(self, task_id: TaskId) -> list[Decision]:
        """Forget output that is kept now, or lost."""
        return [Delete(f"{OUTPUT}{task_id}")] if self._numbered.pop(task_id, None) else []

    def of_job(self, job_id: JobId) -> list[TaskId]:
        """Name the tasks of a job whose output is still to be fetched."""
        return [task_id for task_id in self._numbered if task_id.startswith(f"{job_id}.")]

    def page(self, question: NextOutputs) -> OutputPage:
        """Return the next ones."""
        found: list[Output] = []
        upto = question.after
        for number, output in self._numbered.values():
            if number > question.after:
                found.append(output)
                upto = number
            if len(found) >= question.limit:
                break
        return OutputPage(tuple(found), upto)

    def _add(self, output: Output) -> None:
        self._count += 1
        self._numbered[output.task_id] = (self._count, output)
