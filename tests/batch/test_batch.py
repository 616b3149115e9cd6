from __future__ import annotations

from itertools import pairwise

import pytest

from runrig.errors import Conflict, NotFound, Unavailable
from runrig.tasks import Reason, TaskState
from runrig.wants import Put, Run
from runrig_batch.core.job import IndexState, JobId, JobState
from runrig_batch.core.limits import Limits
from runrig_batch.core.questions import ListIndices, NextOutputs, ShowJob
from tests.batch.cluster import Cluster


def test_a_job_waits_runs_and_succeeds() -> None:
    cluster = Cluster()
    job_id = cluster.submit(array=2)
    assert cluster.show(job_id).state is JobState.WAITING

    cluster.launch()
    assert cluster.show(job_id).state is JobState.RUNNING
    cluster.finish()

    summary = cluster.show(job_id)
    assert summary.state is JobState.SUCCEEDED
    assert summary.ended_at == cluster.now


def test_a_task_finds_its_place_in_its_environment() -> None:
    cluster = Cluster()

    cluster.submit(items=["a", "b"], env={"COLOR": "red"})

    env = dict(cluster.wanted["job-1.1.1"].spec.command.env)  # type: ignore[index]
    assert env == {
        "COLOR": "red",
        "RUNRIG_JOB_ID": "job-1",
        "RUNRIG_ARRAY_INDEX": "1",
        "RUNRIG_ARRAY_SIZE": "2",
        "RUNRIG_ATTEMPT": "1",
        "RUNRIG_ITEM": "b",
    }


def test_an_exit_code_uses_up_a_retry_after_a_pause_that_doubles() -> None:
    cluster = Cluster()
    job_id = cluster.submit(retries=2, retry_delay="10s")
    starts = []
    for attempt in (1, 2, 3):
        starts.append(cluster.now)
        cluster.launch()
        cluster.fail(f"job-1.0.{attempt}", exit_code=attempt)
        while not cluster.wanted and cluster.alarm is not None:
            cluster.advance(max(cluster.alarm - cluster.now, 0))

    row = cluster.row(job_id)
    assert [late - early for early, late in pairwise(starts)] == [10.0, 20.0]
    assert (row.state, row.failures, row.faults) == (IndexState.FAILED, 3, 0)
    assert [each.exit_code for each in row.attempts] == [1, 2, 3]
    assert cluster.show(job_id).state is JobState.FAILED


@pytest.mark.parametrize(
    "state, reason",
    [
        (TaskState.TASK_FAILED, Reason.OUT_OF_MEMORY),
        (TaskState.TASK_FAILED, Reason.SIGNALED),
        (TaskState.TASK_FAILED, Reason.MAX_RUN_TIME),
        (TaskState.TASK_KILLED, Reason.MAX_RUN_TIME),
        (TaskState.TASK_FAILED, Reason.IMAGE_UNAVAILABLE),
        (TaskState.TASK_FAILED, Reason.FETCH_FAILED),
    ],
)
def test_the_tasks_own_fault_uses_up_a_retry(state: TaskState, reason: Reason) -> None:
    cluster = Cluster()
    job_id = cluster.submit(retries=1)
    cluster.launch()

    cluster.says("job-1.0.1", state, reason)

    assert (cluster.row(job_id).failures, cluster.row(job_id).faults) == (1, 0)


@pytest.mark.parametrize(
    "state, reason",
    [
        (TaskState.TASK_LOST, Reason.AGENT_FORGOT_TASK),
        (TaskState.TASK_DROPPED, Reason.INVALID_OFFERS),
        (TaskState.TASK_GONE_BY_OPERATOR, Reason.AGENT_GONE),
        (TaskState.TASK_FAILED, Reason.HOST_REBOOTED),
        (TaskState.TASK_FAILED, Reason.RUNTIME_UNAVAILABLE),
        (TaskState.TASK_KILLED, Reason.KILLED_BY_OPERATOR),
        (TaskState.TASK_ERROR, Reason.TASK_ID_USED),
    ],
)
def test_the_clusters_fault_is_not_charged(state: TaskState, reason: Reason) -> None:
    cluster = Cluster()
    job_id = cluster.submit(retries=0)
    cluster.launch()

    cluster.says("job-1.0.1", state, reason)
    cluster.advance(1.0)

    assert (cluster.row(job_id).failures, cluster.row(job_id).faults) == (0, 1)
    assert list(cluster.wanted) == ["job-1.0.2"]


def test_a_task_that_every_agent_loses_fails_in_the_end() -> None:
    cluster = Cluster(Limits(max_faults=3))
    job_id = cluster.submit()

    for attempt in range(1, 5):
        cluster.launch()
        cluster.says(f"job-1.0.{attempt}", TaskState.TASK_LOST, Reason.AGENT_FORGOT_TASK)
        cluster.advance(3600)

    assert cluster.row(job_id).state is IndexState.FAILED
    assert cluster.row(job_id).faults == 4


def test_a_task_that_can_never_run_is_not_tried_again() -> None:
    cluster = Cluster()
    job_id = cluster.submit(retries=5)
    cluster.launch()

    cluster.says("job-1.0.1", TaskState.TASK_ERROR, Reason.INVALID_TASK)

    assert cluster.show(job_id).state is JobState.FAILED


def test_a_task_out_of_reach_is_replaced_after_a_grace_and_stopped() -> None:
    cluster = Cluster()
    job_id = cluster.submit()
    cluster.launch()
    cluster.says("job-1.0.1", TaskState.TASK_UNREACHABLE, Reason.AGENT_UNREACHABLE)
    cluster.advance(59)
    assert not cluster.wanted

    cluster.advance(2)

    assert list(cluster.wanted) == ["job-1.0.2"]
    assert cluster.stopping == {"job-1.0.1"}
    assert (cluster.row(job_id).failures, cluster.row(job_id).faults) == (0, 1)


def test_a_task_that_comes_back_in_time_goes_on() -> None:
    cluster = Cluster()
    cluster.submit()
    cluster.launch()
    cluster.says("job-1.0.1", TaskState.TASK_UNREACHABLE, Reason.AGENT_UNREACHABLE)
    cluster.advance(59)
    cluster.says("job-1.0.1", TaskState.TASK_RUNNING, Reason.AGENT_RETURNED)

    cluster.advance(3600)

    assert not cluster.wanted
    assert not cluster.stopping


def test_a_replaced_task_that_succeeded_after_all_ends_its_replacement() -> None:
    cluster = Cluster()
    job_id = cluster.submit()
    cluster.launch()
    cluster.says("job-1.0.1", TaskState.TASK_UNREACHABLE, Reason.AGENT_UNREACHABLE)
    cluster.advance(61)
    cluster.launch()

    cluster.finish("job-1.0.1")
    assert cluster.show(job_id).state is JobState.SUCCEEDED
    assert cluster.stopping == {"job-1.0.2"}
    cluster.finish("job-1.0.2")

    assert cluster.show(job_id).counts.succeeded == 1


def test_parallelism_bounds_what_is_active() -> None:
    cluster = Cluster()
    job_id = cluster.submit(array=10, parallelism=3)
    assert len(cluster.wanted) == 3

    cluster.launch()
    assert not cluster.wanted
    cluster.finish("job-1.0.1")

    assert list(cluster.wanted) == ["job-1.3.1"]
    assert cluster.show(job_id).counts.running == 2


def test_a_large_array_asks_for_no_more_than_its_window_and_all_of_it_runs() -> None:
    cluster = Cluster(Limits(job_window=50))
    job_id = cluster.submit(array=1000)
    assert len(cluster.wanted) == 50
    assert len(cluster.entries) == 2

    while cluster.wanted:
        cluster.launch(next(iter(cluster.wanted)))
        assert len(cluster.wanted) <= 50
    assert cluster.show(job_id).counts.running == 1000
    cluster.finish()

    assert cluster.show(job_id).state is JobState.SUCCEEDED


def test_many_jobs_share_the_total_window_and_none_is_left_out() -> None:
    cluster = Cluster(Limits(job_window=50, total_window=100))

    for _ in range(150):
        cluster.submit(array=1000)

    assert {want.group for want in cluster.wanted.values()} == {f"job-{number}" for number in range(1, 151)}
    assert len(cluster.wanted) < 800


def test_an_end_writes_as_little_for_a_large_array_as_for_a_small_one() -> None:
    def written(size: int) -> int:
        cluster = Cluster()
        cluster.submit(array=size)
        cluster.launch("job-1.0.1", "job-1.1.1")
        cluster.finish("job-1.0.1")
        cluster.finish("job-1.1.1")
        return sum(len(each.key) + len(each.value) for each in cluster.last if isinstance(each, Put))

    assert written(100_000) == written(3) < 400


def test_killing_drops_what_waits_and_waits_for_what_runs() -> None:
    cluster = Cluster()
    job_id = cluster.submit(array=5, retries=3)
    cluster.launch("job-1.0.1", "job-1.1.1")
    cluster.fail("job-1.1.1")

    summary = cluster.kill(job_id)
    assert not cluster.wanted
    assert cluster.stopping == {"job-1.0.1"}
    assert (summary.is_stopping, summary.counts.running) == (True, 1)
    cluster.says("job-1.0.1", TaskState.TASK_KILLED, Reason.KILLED_BY_FRAMEWORK)
    cluster.advance(3600)

    summary = cluster.show(job_id)
    assert (summary.state, summary.counts.killed) == (JobState.KILLED, 5)
    assert not cluster.wanted


def test_a_success_that_overtakes_the_kill_counts() -> None:
    cluster = Cluster()
    job_id = cluster.submit()
    cluster.launch()
    cluster.kill(job_id)

    cluster.finish()

    assert cluster.show(job_id).state is JobState.SUCCEEDED


def test_a_killed_job_does_not_wait_for_a_lost_agent_for_ever() -> None:
    cluster = Cluster()
    job_id = cluster.submit()
    cluster.launch()
    cluster.says("job-1.0.1", TaskState.TASK_UNREACHABLE, Reason.AGENT_UNREACHABLE)
    cluster.kill(job_id)

    cluster.advance(61)

    assert cluster.show(job_id).state is JobState.KILLED


def test_a_killed_job_stays_killed_over_a_restart() -> None:
    cluster = Cluster()
    job_id = cluster.submit(array=3)
    cluster.launch("job-1.0.1")
    cluster.kill(job_id)

    cluster.restart()
    assert not cluster.wanted
    assert cluster.stopping == {"job-1.0.1"}
    cluster.says("job-1.0.1", TaskState.TASK_KILLED, Reason.KILLED_BY_FRAMEWORK)

    assert cluster.show(job_id).state is JobState.KILLED


def test_ids_are_never_given_twice() -> None:
    cluster = Cluster(Limits(retained_jobs=1))
    for _ in range(3):
        cluster.submit()
        cluster.launch()
        cluster.finish()
        cluster.restart()

    assert cluster.submit() == "job-4"


def test_a_key_is_remembered_over_a_restart() -> None:
    cluster = Cluster()
    first = cluster.submit(key="k")
    cluster.restart()

    assert cluster.submit(key="k") == first
    with pytest.raises(Conflict, match="'k' was used for job-1"):
        cluster.submit(key="k", retries=1)


def test_old_jobs_are_forgotten_and_their_entries_go_page_by_page() -> None:
    cluster = Cluster(Limits(retained_jobs=2, delete_page=10))
    for _ in range(3):
        cluster.submit(array=100)
        for _ in range(100):
            cluster.launch(next(iter(cluster.wanted)))
        cluster.finish()
    with pytest.raises(NotFound):
        cluster.show(JobId("job-1"))
    assert any("/job-1" in key for key in cluster.entries)

    cluster.restart()
    cluster.advance(1)

    assert not [key for key in cluster.entries if "job-1/" in key or key.endswith("job-1")]
    assert cluster.show(JobId("job-2")).counts.succeeded == 100


def test_more_active_jobs_than_allowed_are_turned_away() -> None:
    cluster = Cluster(Limits(max_active_jobs=2))
    cluster.submit()
    job_id = cluster.submit()

    with pytest.raises(Unavailable, match="2 jobs have not ended"):
        cluster.submit()
    cluster.kill(job_id)

    assert cluster.submit() == "job-3"


def test_a_question_that_waits_is_answered_once() -> None:
    cluster = Cluster()
    job_id = cluster.submit()
    question = ShowJob(job_id, wait_s=10)
    cluster.tell(question)
    assert not cluster.answers

    cluster.launch()
    cluster.finish()
    cluster.advance(20)

    assert [answer.question is question for answer in cluster.answers] == [True]


def test_more_waiting_questions_than_allowed_are_turned_away() -> None:
    cluster = Cluster(Limits(max_waits=1))
    cluster.tell(NextOutputs(0, 1, wait_s=10))
    cluster.tell(NextOutputs(0, 1, wait_s=10))

    [answer] = cluster.answers
    assert isinstance(answer.value, Unavailable)
    cluster.advance(11)
    assert len(cluster.answers) == 2


def test_a_page_of_indices_looks_at_a_bounded_number() -> None:
    cluster = Cluster(Limits(scan_page=100))
    job_id = cluster.submit(array=1000)

    cluster.tell(ListIndices(job_id, frozenset({IndexState.FAILED})))

    page = cluster.answers[0].value
    assert (page.rows, page.next_after) == ((), 99)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "task_id", ["other", "job-1.9.1", "job-1.0.7", "job-1.0.0", "job-9.0.1", "job-1.x.1", "job-1.00.1"]
)
def test_news_of_a_task_that_is_none_of_ours_changes_nothing(task_id: str) -> None:
    cluster = Cluster()
    job_id = cluster.submit()
    cluster.launch()

    cluster.says(task_id, TaskState.TASK_FINISHED, Reason.EXITED, 0)

    assert cluster.show(job_id).counts.running == 1


def test_news_told_twice_changes_nothing() -> None:
    cluster = Cluster()
    job_id = cluster.submit(retries=1)
    cluster.launch()
    cluster.fail("job-1.0.1")
    before = dict(cluster.entries)

    cluster.fail("job-1.0.1")

    assert cluster.row(job_id).failures == 1
    assert cluster.entries == before


def test_a_restart_wants_the_same_tasks_again() -> None:
    cluster = Cluster(Limits(job_window=4))
    cluster.submit(array=20)
    cluster.launch("job-1.0.1", "job-1.2.1")
    cluster.finish("job-1.2.1")
    wanted, launched = set(cluster.wanted), set(cluster.launched)

    cluster.restart()

    assert set(cluster.wanted) == wanted
    assert set(cluster.launched) == launched
    assert not cluster.stopping


def test_runs_of_one_answer_name_a_task_once() -> None:
    cluster = Cluster()
    cluster.submit(array=300)
    cluster.launch("job-1.0.1")

    runs = [want.task_id for each in cluster.last if isinstance(each, Run) for want in each.wants]

    assert len(runs) == len(set(runs))
