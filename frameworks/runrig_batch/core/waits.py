"""Questions that are not answered yet, by the job that they are about."""

from __future__ import annotations

from collections.abc import Callable

from runrig.wants import Answer
from runrig_batch.core.job import JobId
from runrig_batch.core.questions import NextOutputs, Waiting
from runrig_batch.core.timers import Timers, WaitOver

Patient = Waiting | NextOutputs
OUTPUTS = JobId("")
"""Where questions about output of any job wait."""


class Waits:
    """Who waits for what; each question is answered once, by an event or by its time."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._by_job: dict[JobId, list[Patient]] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return self._count

    def add(self, job_id: JobId, question: Patient, now: float) -> None:
        """Keep a question for at most its `wait_s`."""
        self._by_job.setdefault(job_id, []).append(question)
        self._count += 1
        self._timers.set(now + question.wait_s, WaitOver(question))

    def touched(self, job_id: JobId, answer: Callable[[Patient], tuple[bool, object]]) -> list[Answer]:
        """Answer questions about a job that something happened to.

        `answer` says whether there is something worth telling, and what.
        """
        waiting = self._by_job.pop(job_id, None)
        if waiting is None:
            return []
        answers, left = [], []
        for question in waiting:
            is_worth_telling, value = answer(question)
            if is_worth_telling:
                answers.append(Answer(question, value))
            else:
                left.append(question)
        if left:
            self._by_job[job_id] = left
        self._count -= len(answers)
        return answers

    def take(self, job_id: JobId, question: object) -> bool:
        """Take a question out; False if it was answered before."""
        waiting = self._by_job.get(job_id, [])
        for number, each in enumerate(waiting):
            if each is question:
                del waiting[number]
                self._count -= 1
                if not waiting:
                    del self._by_job[job_id]
                return True
        return False
