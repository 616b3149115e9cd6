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
        self._numbers: dict[TaskId, int] = {}
        self._by_number: dict[int, Output] = {}
        self._newest = 0

    def __len__(self) -> int:
        """Return how many are waiting."""
        return len(self._numbers)

    def restore(self, outputs: dict[TaskId, Output]) -> None:
        """Take up what was durable."""
        for output in sorted(outputs.values(), key=lambda each: (each.ended_at, each.task_id)):
            self._add(output)

    def find(self, task_id: TaskId) -> Output | None:
        """Return the output of a task if it is still to be fetched."""
        number = self._numbers.get(task_id)
        return None if number is None else self._by_number[number]

    def ended(self, task: TaskView, now: float) -> list[Decision]:
        """Note a task that ended on an agent that can be asked."""
        if not task.agent_address or task.state in _NEVER_STARTED or task.task_id in self._numbers:
            return []
        output = Output(task.task_id, task.agent_id, task.agent_address, now)
        self._add(output)
        return [Put(f"{OUTPUT}{task.task_id}", output_value(output))]

    def collected(self, task_id: TaskId) -> list[Decision]:
        """Forget output that is kept now, or lost."""
        number = self._numbers.pop(task_id, None)
        if number is None:
            return []
        del self._by_number[number]
        return [Delete(f"{OUTPUT}{task_id}")]

    def of_job(self, job_id: JobId) -> list[TaskId]:
        """Name the tasks of a job whose output is still to be fetched."""
        return [task_id for task_id in self._numbers if task_id.startswith(f"{job_id}.")]

    def page(self, question: NextOutputs) -> OutputPage:
        """Return the next ones."""
        found: list[Output] = []
        number = question.after
        while number < self._newest and len(found) < question.limit:
            number += 1
            if number in self._by_number:
                found.append(self._by_number[number])
        return OutputPage(tuple(found), number)

    def _add(self, output: Output) -> None:
        self._newest += 1
        self._numbers[output.task_id] = self._newest
        self._by_number[self._newest] = output
