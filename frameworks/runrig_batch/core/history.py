"""Jobs that have ended: the newest are kept, and what remains of the others is deleted page by page."""

from __future__ import annotations

from collections import deque

from runrig.wants import Delete
from runrig_batch.core.entries import INDEX, JOB, STATUS
from runrig_batch.core.limits import Limits
from runrig_batch.core.run import JobRun


class History:
    """Ended jobs, oldest first, and the entries that nobody needs any more."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._ended: deque[JobRun] = deque()
        self._tasks = 0
        self._rubbish: deque[str] = deque()

    def restore(self, runs: list[JobRun], rubbish: list[str]) -> None:
        """Take up the ended jobs and what a death kept from being deleted."""
        for run in sorted(runs, key=lambda each: (each.times.ended_at, each.job.number)):
            self.add(run)
        self._rubbish.extend(rubbish)

    def add(self, run: JobRun) -> None:
        """Keep a job that has ended."""
        self._ended.append(run)
        self._tasks += run.job.spec.size

    def forgotten(self) -> list[JobRun]:
        """Take out the oldest jobs above the bounds; the newest job stays in any case."""
        found = []
        while len(self._ended) > 1 and self._is_over_its_bounds():
            run = self._ended.popleft()
            self._tasks -= run.job.spec.size
            found.append(run)
        return found

    def _is_over_its_bounds(self) -> bool:
        return len(self._ended) > self._limits.retained_jobs or self._tasks > self._limits.retained_tasks

    def discard(self, run: JobRun) -> list[Delete]:
        """Delete a job now, its other entries later: a death in between leaves entries without a job."""
        job_id = run.job.job_id
        self._rubbish.append(f"{STATUS}{job_id}")
        self._rubbish.extend(f"{INDEX}{job_id}/{index}" for index in run.settled)
        return [Delete(f"{JOB}{job_id}")]

    def sweep(self) -> list[Delete]:
        """Delete the next page of what nobody needs."""
        return [Delete(self._rubbish.popleft()) for _ in range(min(len(self._rubbish), self._limits.delete_page))]

    @property
    def has_rubbish(self) -> bool:
        """Say whether more is to be deleted."""
        return bool(self._rubbish)
