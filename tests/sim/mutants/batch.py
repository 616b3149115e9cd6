"""Bugs in the batch framework: attempts, retries, ends, submissions."""

from __future__ import annotations

from functools import partial

from tests.sim.mutants.mutant import Mutant, Part

_mutant = partial(Mutant, part=Part.BATCH)
_CORE = "frameworks/runrig_batch/core"
_run = partial(_mutant, file=f"{_CORE}/run.py")
_verdict = partial(_mutant, file=f"{_CORE}/verdict.py")
_entries = partial(_mutant, file=f"{_CORE}/entries.py")
_batch = partial(_mutant, file=f"{_CORE}/batch.py")
_progress = partial(_mutant, file=f"{_CORE}/progress.py")

MUTANTS = (
    _run(
        name="an index that succeeded is tried again after a restart",
        old="            if state.has_ended:\n                self._file(index, state, value)\n",
        new="            if state.has_ended and state is not IndexState.SUCCEEDED:\n"
        "                self._file(index, state, value)\n",
    ),
    _run(
        name="a success is taken for a failure that is tried again",
        old="        if verdict is Verdict.SUCCESS:\n            return [*started,",
        new="        if verdict is Verdict.SUCCESS and progress.number > 1:\n            return [*started,",
    ),
    _run(
        name="the success of an overtaken attempt is ignored",
        old="        if self._judge(task) is not Verdict.SUCCESS:\n            return [self._put(progress,",
        new="        if self._judge(task) or True:\n            return [self._put(progress,",
    ),
    _progress(
        name="the next attempt has the number of the last",
        old="        self.number += 1\n",
        new="",
    ),
    _run(
        name="the number of the next attempt is not durable",
        within=150,
        old="        self._set_retry(progress)\n        return [self._put(progress, IndexState.RETRYING)]\n",
        new="        self._set_retry(progress)\n        return []\n",
    ),
    _verdict(
        name="retries are charged for the cluster's faults",
        old="    return Verdict.FAILURE if reason in _OWN_REASONS else Verdict.FAULT\n",
        new="    return Verdict.FAILURE\n",
    ),
    _verdict(
        name="retries are not charged for failures",
        old="        return Verdict.FAULT if reason in CLUSTER_REASONS else Verdict.FAILURE\n",
        new="        return Verdict.FAULT\n",
    ),
    _verdict(
        name="a task that was killed counts as a success",
        within=150,
        old="    if state is TaskState.TASK_FINISHED:\n",
        new="    if state in (TaskState.TASK_FINISHED, TaskState.TASK_KILLED):\n",
    ),
    _run(
        name="an index gives up one retry early",
        old="        if progress.failures > self.job.spec.retries:\n",
        new="        if progress.failures >= self.job.spec.retries:\n",
    ),
    _run(
        name="a job ends while indices wait",
        old="        is_over = not self.open and (self.is_killed or len(self.settled) == self.job.spec.size)\n",
        new="        is_over = not self.open\n",
    ),
    _run(
        name="the end of an index is not durable",
        old="        return [put, *self._end_if_over(now)]\n",
        new="        return [*self._end_if_over(now)]\n",
    ),
    _run(
        name="unreachable attempts are never replaced",
        within=150,
        old="        if now < progress.unreachable_since + self._limits.unreachable_grace_s:\n            return []\n",
        new="        if now > 0:\n            return []\n",
    ),
    _run(
        name="an attempt that was given up is not stopped",
        old="        return [stop, *self._fault(progress, now, pause_s=0.0)]\n",
        new="        return self._fault(progress, now, pause_s=0.0)\n",
    ),
    _run(
        name="tasks that run are not asked for again after a restart",
        old="        return None if self.is_killed else want_of(self.job, index, attempt)\n",
        new="        return None\n",
    ),
    _run(
        name="a gang of which one has failed runs on beside its next attempt",
        within=150,
        old="        decisions: list[Decision] = [*stops]\n",
        new="        decisions: list[Decision] = []\n",
    ),
    _entries(
        name="the key of a submission is not durable",
        old='"at": job.submitted_at, "key": job.key, ',
        new='"at": job.submitted_at, "key": "", ',
    ),
    _batch(
        name="a submission that is repeated is another job",
        old="        if question.key and question.key in self._keys:\n",
        new="        if question.key and question.key in self._keys and self._active > 99:\n",
    ),
    _batch(
        name="a job is not durable",
        old='            Put(f"{entries.JOB}{job_id}", entries.job_value(job)),\n',
        new="",
    ),
)
