"""Jobs whose tasks start all or not at all, on plain data."""

from __future__ import annotations

import pytest

from runrig.ids import TaskId
from runrig.tasks import Reason, TaskState
from runrig_batch.core.job import IndexState, JobState
from runrig_batch.core.limits import Limits
from tests.batch.cluster import Cluster


@pytest.fixture(params=[False, True], ids=["", "restarting always"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    return Cluster(Limits(job_window=2), is_restarting_always=request.param)


def test_all_of_a_gang_are_wanted_at_once_whatever_the_window(cluster: Cluster) -> None:
    cluster.submit(gang=4, priority=7, expected_runtime="2h")

    assert list(cluster.wanted) == ids(1)
    assert {want.gang for want in cluster.wanted.values()} == {"job-1.1"}
    assert {(want.priority, want.expected_duration_ms) for want in cluster.wanted.values()} == {(7, 7_200_000)}


def test_a_gang_succeeds_when_all_of_it_have(cluster: Cluster) -> None:
    job_id = cluster.submit(gang=4)
    launch(cluster)

    cluster.finish(*ids(1)[:3])
    counts = cluster.show(job_id).counts
    assert (counts.succeeded, counts.running) == (3, 1)
    assert cluster.show(job_id).state is JobState.RUNNING
    cluster.finish(ids(1)[3])

    assert cluster.show(job_id).state is JobState.SUCCEEDED
    assert cluster.wanted == {}
    assert max(cluster.started.values()) == 1


def test_one_that_fails_stops_the_others_and_all_are_tried_again_those_that_had_finished_too(cluster: Cluster) -> None:
    job_id = cluster.submit(gang=4, retries=1, retry_delay="1s")
    launch(cluster)
    cluster.finish("job-1.0.1")

    cluster.fail("job-1.1.1")
    assert cluster.stopping == {"job-1.2.1", "job-1.3.1"}
    bury(cluster)
    cluster.advance(1)

    assert list(cluster.wanted) == ids(2)
    assert {want.gang for want in cluster.wanted.values()} == {"job-1.2"}
    assert [cluster.row(job_id, index).failures for index in range(4)] == [1, 1, 1, 1]
    launch(cluster)
    cluster.finish()
    assert cluster.show(job_id).state is JobState.SUCCEEDED


def test_each_failure_of_one_is_a_retry_of_all_and_the_last_ends_the_job(cluster: Cluster) -> None:
    job_id = cluster.submit(gang=4, retries=1, retry_delay="1s")
    for attempt, index in [(1, 0), (2, 3)]:
        launch(cluster)
        cluster.fail(f"job-1.{index}.{attempt}")
        bury(cluster)
        cluster.advance(1)

    assert cluster.show(job_id).state is JobState.FAILED
    assert [cluster.row(job_id, index).state for index in range(4)] == [IndexState.KILLED] * 3 + [IndexState.FAILED]
    assert (cluster.wanted, cluster.live) == ({}, set())


def test_the_next_attempt_waits_for_the_ends_of_the_last_but_not_for_ever(cluster: Cluster) -> None:
    cluster.submit(gang=4, retries=1, retry_delay="1s")
    launch(cluster)
    cluster.fail("job-1.1.1")
    bury(cluster, but="job-1.2.1")

    cluster.advance(10)
    assert cluster.wanted == {}
    cluster.advance(51)

    assert list(cluster.wanted) == ids(2)


def test_what_is_the_clusters_fault_is_not_charged(cluster: Cluster) -> None:
    job_id = cluster.submit(gang=4, retries=0)
    launch(cluster)

    cluster.says("job-1.1.1", TaskState.TASK_LOST, Reason.AGENT_FORGOT_TASK)
    bury(cluster)
    cluster.advance(1)

    assert list(cluster.wanted) == ids(2)
    row = cluster.row(job_id)
    assert (row.failures, row.faults) == (0, 1)


def test_a_launch_that_is_refused_as_a_whole_is_one_fault(cluster: Cluster) -> None:
    job_id = cluster.submit(gang=4)
    for task_id in list(cluster.wanted):
        cluster.start(task_id)

    for dropped in ids(1):
        cluster.says(dropped, TaskState.TASK_DROPPED, Reason.ATOMIC_ACCEPT_REFUSED)
    cluster.advance(1)

    assert list(cluster.wanted) == ids(2)
    assert cluster.row(job_id).faults == 1


def test_one_that_succeeds_after_its_attempt_was_given_up_is_tried_again_with_the_others(cluster: Cluster) -> None:
    job_id = cluster.submit(gang=2, retries=1, retry_delay="1s")
    launch(cluster)
    cluster.fail("job-1.0.1")

    cluster.finish("job-1.1.1")
    cluster.advance(1)
    launch(cluster)
    cluster.finish("job-1.0.2")
    assert cluster.show(job_id).state is JobState.RUNNING
    cluster.finish("job-1.1.2")

    assert cluster.show(job_id).state is JobState.SUCCEEDED


def test_a_member_out_of_reach_breaks_the_gang_after_a_grace_and_is_not_waited_for(cluster: Cluster) -> None:
    cluster.submit(gang=2)
    launch(cluster)

    cluster.says("job-1.0.1", TaskState.TASK_UNREACHABLE)
    cluster.advance(61)
    assert cluster.stopping == {"job-1.0.1", "job-1.1.1"}
    bury(cluster, but="job-1.0.1")
    cluster.advance(1)

    assert list(cluster.wanted) == ["job-1.0.2", "job-1.1.2"]


def test_a_task_that_can_never_run_ends_its_gang(cluster: Cluster) -> None:
    job_id = cluster.submit(gang=2, retries=5)
    launch(cluster)

    cluster.says("job-1.0.1", TaskState.TASK_ERROR, Reason.INVALID_TASK)
    bury(cluster)

    assert cluster.show(job_id).state is JobState.FAILED
    assert cluster.live == set()


def test_a_gang_is_killed_with_its_job(cluster: Cluster) -> None:
    job_id = cluster.submit(gang=3)
    launch(cluster)
    cluster.finish("job-1.0.1")

    cluster.kill(job_id)
    bury(cluster)

    summary = cluster.show(job_id)
    assert summary.state is JobState.KILLED
    assert (summary.counts.succeeded, summary.counts.killed) == (1, 2)


def test_what_was_decided_of_a_gang_is_decided_again_when_the_process_dies_before_it_is_durable() -> None:
    cluster = Cluster()
    job_id = cluster.submit(gang=2, retries=1, retry_delay="1s")
    launch(cluster)

    cluster.says("job-1.0.1", TaskState.TASK_FAILED, Reason.EXITED, 1, lose_answer=True)
    cluster.fail("job-1.0.1")
    bury(cluster)
    cluster.advance(1)

    assert list(cluster.wanted) == ["job-1.0.2", "job-1.1.2"]
    assert cluster.row(job_id).failures == 1


def ids(attempt: int, size: int = 4) -> list[str]:
    return [f"job-1.{index}.{attempt}" for index in range(size)]


def launch(cluster: Cluster) -> None:
    """Start all that is wanted in one turn, as an atomic Accept does, and tell that it runs."""
    wanted = list(cluster.wanted)
    for task_id in wanted:
        cluster.start(task_id)
    for task_id in wanted:
        cluster.says(task_id, TaskState.TASK_RUNNING)


def test_a_gang_that_is_found_in_part_after_a_restart_is_stopped_and_tried_again() -> None:
    cluster = Cluster()
    job_id = cluster.submit(gang=3)
    cluster.start(TaskId("job-1.1.1"))

    cluster.restart()
    bury(cluster)
    cluster.advance(1)

    assert sorted(cluster.wanted) == ids(2, 3)
    assert cluster.row(job_id).faults == 1


def bury(cluster: Cluster, but: str = "") -> None:
    for task_id in sorted(cluster.stopping - {TaskId(but)}):
        cluster.says(task_id, TaskState.TASK_KILLED, Reason.KILLED_BY_FRAMEWORK)
