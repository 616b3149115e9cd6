"""Jobs through deaths of the process at any moment, lost answers, lost agents and late news, from a seed."""

from __future__ import annotations

import random

import pytest

from runrig.tasks import Reason, TaskState
from runrig_batch.core.job import IndexState, JobId, JobState, parts_of
from runrig_batch.core.limits import Limits
from tests.batch.cluster import Cluster

RETRIES = 2
LIMITS = Limits(max_faults=1000, max_delay_s=8.0, job_window=7, kept_attempts=100)
CLUSTER_FAULTS = [
    (TaskState.TASK_LOST, Reason.AGENT_FORGOT_TASK),
    (TaskState.TASK_DROPPED, Reason.LAUNCH_LOST),
    (TaskState.TASK_GONE_BY_OPERATOR, Reason.AGENT_GONE),
    (TaskState.TASK_FAILED, Reason.HOST_REBOOTED),
    (TaskState.TASK_KILLED, Reason.KILLED_BY_OPERATOR),
]


class Fate:
    """Ground truth, beside the logic: what each attempt really did."""

    def __init__(self, seed: int, *, is_restarting_always: bool) -> None:
        self.random = random.Random(seed)
        self.cluster = Cluster(LIMITS, is_restarting_always=is_restarting_always)
        self.cursed = set(self.random.sample(range(12), 3))
        self.successes: dict[int, int] = {}
        self.failures: dict[int, int] = {}
        self.job_id = JobId("")

    def step(self) -> None:
        """Let something happen to something."""
        cluster, chance = self.cluster, self.random.random()
        if chance < 0.1:
            cluster.restart()
        elif chance < 0.2:
            cluster.advance(self.random.choice([0.1, 1.0, 10.0, 70.0]))
        elif chance < 0.45 and cluster.wanted:
            self.launch(self.random.choice(sorted(cluster.wanted)))
        elif cluster.live:
            self.move(self.random.choice(sorted(cluster.live)))
        else:
            cluster.advance(1.0)

    def launch(self, task_id: str) -> None:
        if self.random.random() < 0.2:
            self.cluster.start(self.cluster.wanted[task_id].task_id)  # type: ignore[index]
            self.cluster.restart()
        else:
            self.cluster.launch(task_id)

    def move(self, task_id: str) -> None:
        lose = self.random.random() < 0.2
        chance = self.random.random()
        if chance < 0.15:
            self.cluster.says(task_id, TaskState.TASK_UNREACHABLE, Reason.AGENT_UNREACHABLE, lose_answer=lose)
        elif chance < 0.25:
            self.cluster.says(task_id, TaskState.TASK_RUNNING, Reason.AGENT_RETURNED, lose_answer=lose)
        elif chance < 0.5:
            self.cluster.says(task_id, *self.random.choice(CLUSTER_FAULTS), lose_answer=lose)
        else:
            self.end(task_id, lose=lose)

    def end(self, task_id: str, *, lose: bool) -> None:
        parts = parts_of(task_id)  # type: ignore[arg-type]
        assert parts is not None
        _, index, _ = parts
        is_success = index not in self.cursed
        state = TaskState.TASK_FINISHED if is_success else TaskState.TASK_FAILED
        self.cluster.says(task_id, state, Reason.EXITED, 0 if is_success else 1, lose_answer=lose)
        if not lose:
            count = self.successes if is_success else self.failures
            count[index] = count.get(index, 0) + 1


@pytest.mark.parametrize("is_restarting_always", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_an_array_ends_complete_whatever_dies_and_nothing_starts_twice(seed: int, is_restarting_always: bool) -> None:
    fate = Fate(seed, is_restarting_always=is_restarting_always)
    cluster = fate.cluster
    job_id = cluster.submit(array=12, retries=RETRIES, retry_delay="1s", parallelism=5)

    for _ in range(4000):
        if cluster.show(job_id).state.has_ended:
            break
        fate.step()
        assert max(cluster.started.values(), default=0) <= 1, "a task id was started twice"
        assert len(cluster.wanted) + len(cluster.launched.keys() - cluster.stopping) <= 5

    summary = cluster.show(job_id)
    assert summary.state is JobState.FAILED
    assert summary.counts.succeeded == 9
    assert summary.counts.failed == 3
    for index in range(12):
        row = cluster.row(job_id, index)
        assert row.state is (IndexState.FAILED if index in fate.cursed else IndexState.SUCCEEDED)
        won = [each for each in row.attempts if each.state is TaskState.TASK_FINISHED]
        assert len(won) == (0 if index in fate.cursed else 1)
        if index in fate.cursed:
            assert row.failures == RETRIES + 1, (
                "an index is tried again as often as was asked, whatever the cluster did"
            )
            assert fate.failures[index] >= RETRIES + 1, "an attempt that was given up may fail, too: it is not charged"
        else:
            assert row.failures == 0
