"""The mind on the real scheduler of the SDK and the real master, on a virtual clock, while everything dies in turn."""

from __future__ import annotations

import random
from collections import Counter
from typing import TypeVar

import pytest

from runrig.offers import LaunchableTask
from runrig.tasks import TaskSpec
from runrig.testing import Behaviour, Cluster, SimulatedFramework, finishing
from runrig_batch.core.batch import Batch
from runrig_batch.core.job import IndexState, JobId, JobState, parts_of
from runrig_batch.core.job_file import parse_submission
from runrig_batch.core.limits import Limits
from runrig_batch.core.questions import IndexPage, KillJob, ListIndices, ShowJob, SubmitJob, Submitted
from runrig_batch.core.views import IndexRow, JobSummary

T = TypeVar("T")
LIMITS = Limits(job_window=16, max_faults=100, unreachable_grace_s=30.0)


def ask(framework: SimulatedFramework, question: object, kind: type[T]) -> T:
    value = framework.ask(question)
    assert isinstance(value, kind)
    return value


def submit(framework: SimulatedFramework, **description: object) -> JobId:
    spec, _ = parse_submission({"name": "job", "command": "true", "cpus": 0.5, **description}, LIMITS)
    return ask(framework, SubmitJob(spec), Submitted).summary.job.job_id


def show(framework: SimulatedFramework, job_id: JobId) -> JobSummary:
    return ask(framework, ShowJob(job_id), JobSummary)


def rows(framework: SimulatedFramework, job_id: JobId) -> tuple[IndexRow, ...]:
    return ask(framework, ListIndices(job_id, limit=1000), IndexPage).rows


def test_an_array_runs_through_a_cluster_that_is_too_small_for_it() -> None:
    cluster = Cluster()
    cluster.agents(2, "cpus:4;mem:8G", finishing(10))
    batch = cluster.run("batch", Batch(LIMITS))

    job_id = submit(batch, array=200)
    took_s = cluster.until(lambda: show(batch, job_id).state.has_ended, within="1h")

    assert show(batch, job_id).state is JobState.SUCCEEDED
    assert len(cluster.starts) == 200
    assert took_s < 200 / 16 * 10 * 1.5


def test_killing_a_job_frees_the_cluster() -> None:
    cluster = Cluster()
    cluster.agents(1, "cpus:4;mem:8G")
    batch = cluster.run("batch", Batch(LIMITS))
    job_id = submit(batch, array=20)
    cluster.until(lambda: len(cluster.running) == 8)

    ask(batch, KillJob(job_id), JobSummary)
    cluster.until(lambda: show(batch, job_id).state.has_ended)

    assert cluster.running == []
    assert show(batch, job_id).counts.killed == 20
    assert len(cluster.starts) == 8


def test_a_gang_starts_only_when_all_of_it_has_room_and_ends_complete() -> None:
    cluster = Cluster()
    cluster.agents(2, "cpus:2;mem:8G", finishing(60))
    batch = cluster.run("batch", Batch(LIMITS))
    filler = submit(batch, array=1, cpus=2)
    cluster.until(lambda: len(cluster.running) == 1)

    gang = submit(batch, gang=6)
    cluster.advance("30s")
    assert len(cluster.running) == 1
    cluster.until(lambda: show(batch, filler).state.has_ended)
    cluster.until(lambda: len(cluster.running) == 6, within="10s")

    cluster.until(lambda: show(batch, gang).state.has_ended)
    assert show(batch, gang).state is JobState.SUCCEEDED


@pytest.mark.parametrize("seed", range(15))
def test_a_gang_ends_complete_whatever_dies(seed: int) -> None:
    chance = random.Random(seed)
    cluster = Cluster()
    agents = cluster.agents(4, "cpus:4;mem:8G", finishing(20))
    batch = cluster.run("batch", Batch(LIMITS))
    job_id = submit(batch, gang=12)

    for _ in range(8):
        match chance.randrange(4):
            case 0:
                batch.restart(Batch(LIMITS))
            case 1:
                agent = chance.choice(agents)
                agent.kill()
                cluster.after(chance.choice([1, 30, 200]), agent.restart)
            case 2:
                cluster.kill("master")
                cluster.advance(chance.choice([1, 20]))
                cluster.start("master")
            case _:
                batch.disconnect()
        cluster.advance(chance.uniform(0, 15))
    cluster.until(lambda: show(batch, job_id).state.has_ended, within="2h")

    assert show(batch, job_id).state is JobState.SUCCEEDED
    assert cluster.nothing_started_twice()
    attempts = Counter(task_id.rpartition(".")[2] for _, task_id in cluster.starts)
    assert attempts[str(max(map(int, attempts)))] == 12
    assert all(row.failures == 0 for row in rows(batch, job_id))


def test_a_lost_agent_costs_no_retry() -> None:
    cluster = Cluster()
    cluster.agents(2, "cpus:4;mem:8G", finishing(600))
    batch = cluster.run("batch", Batch(LIMITS))
    job_id = submit(batch, array=8, retries=0)
    cluster.until(lambda: show(batch, job_id).counts.running == 8)

    cluster.kill("agent-1")
    cluster.until(lambda: show(batch, job_id).state.has_ended, within="2h")

    assert show(batch, job_id).state is JobState.SUCCEEDED
    assert all(row.failures == 0 for row in rows(batch, job_id))
    assert cluster.nothing_started_twice()


@pytest.mark.parametrize("seed", range(25))
def test_an_array_ends_complete_whatever_dies(seed: int) -> None:
    chance = random.Random(seed)
    cursed = set(chance.sample(range(60), 5))

    def script(task: LaunchableTask) -> Behaviour:
        assert isinstance(task, TaskSpec)
        parts = parts_of(task.task_id)
        assert parts is not None
        return Behaviour(chance.uniform(0, 40), exit_code=3 if parts[1] in cursed else 0)

    cluster = Cluster()
    agents = cluster.agents(4, "cpus:4;mem:8G", script)
    batch = cluster.run("batch", Batch(LIMITS))
    job_id = submit(batch, array=60, retries=2, retry_delay="1s", parallelism=chance.choice([0, 10]))
    cluster.until(lambda: bool(cluster.starts))

    for _ in range(12):
        match chance.randrange(4):
            case 0:
                batch.restart(Batch(LIMITS))
            case 1:
                agent = chance.choice(agents)
                agent.kill()
                cluster.after(chance.choice([1, 30, 200]), agent.restart)
            case 2:
                cluster.kill("master")
                batch.restart(Batch(LIMITS))
                cluster.advance(chance.choice([1, 20]))
                cluster.start("master")
            case _:
                batch.disconnect()
        cluster.advance(chance.uniform(0, 30))
    cluster.until(lambda: show(batch, job_id).state.has_ended, within="2h")

    assert cluster.nothing_started_twice()
    for row in rows(batch, job_id):
        assert row.state is (IndexState.FAILED if row.index in cursed else IndexState.SUCCEEDED)
        assert row.failures == (3 if row.index in cursed else 0)
