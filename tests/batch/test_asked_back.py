"""What the batch framework does when the master asks for resources back."""

from __future__ import annotations

import pytest

from runrig.ids import AgentId, TaskId
from runrig.offers import InverseOffer, InverseOfferReason, InverseOffersMade
from runrig.resources import Resources
from runrig.tasks import Reason, TaskState
from runrig_batch.core.job import JobState
from runrig_batch.core.limits import Limits
from tests.batch.cluster import Cluster

DRAIN, MAINTENANCE, PREEMPTION = InverseOfferReason.DRAIN, InverseOfferReason.MAINTENANCE, InverseOfferReason.PREEMPTION


def ask_back(cluster: Cluster, reason: InverseOfferReason, *task_ids: str, within_s: float = 600) -> None:
    wanted = tuple(map(TaskId, task_ids))
    deadline_ms = int((cluster.now + within_s) * 1000)
    offer = InverseOffer("i1", reason, AgentId("a1"), "host-1", wanted, Resources(cpu_millis=1), deadline_ms)
    cluster.tell(InverseOffersMade((offer,)))


def test_what_a_drain_asks_for_is_stopped_and_tried_again_at_once_without_charge_however_often() -> None:
    cluster = Cluster(Limits(max_faults=2))
    job_id = cluster.submit(retries=0)

    for attempt in range(1, 6):
        cluster.launch()
        ask_back(cluster, DRAIN, f"job-1.0.{attempt}")
        assert cluster.stopping == {f"job-1.0.{attempt}"}
        cluster.says(f"job-1.0.{attempt}", TaskState.TASK_KILLED, Reason.KILLED_BY_FRAMEWORK)
        cluster.advance(0)

    row = cluster.row(job_id)
    assert (row.failures, row.faults, list(cluster.wanted)) == (0, 0, ["job-1.0.6"])


def test_one_that_ends_badly_as_it_is_stopped_is_not_charged_and_one_that_ends_well_has_succeeded() -> None:
    cluster = Cluster()
    job_id = cluster.submit(array=2)
    cluster.launch()
    ask_back(cluster, DRAIN, "job-1.0.1", "job-1.1.1")

    cluster.fail("job-1.0.1", exit_code=143)
    cluster.finish("job-1.1.1")

    assert cluster.row(job_id, 0).failures == 0
    assert cluster.show(job_id).counts.succeeded == 1


@pytest.mark.parametrize("promise", ["timeout", "expected_runtime"])
def test_a_task_that_will_have_ended_before_the_deadline_runs_on(promise: str) -> None:
    cluster = Cluster()
    cluster.submit(**{promise: "10m"})
    cluster.launch()
    cluster.advance(60)

    ask_back(cluster, DRAIN, "job-1.0.1", within_s=540)
    assert cluster.stopping == set()
    ask_back(cluster, DRAIN, "job-1.0.1", within_s=539)

    assert cluster.stopping == {"job-1.0.1"}


@pytest.mark.parametrize("reason", [PREEMPTION, MAINTENANCE])
def test_what_must_make_room_runs_until_the_master_ends_it(reason: InverseOfferReason) -> None:
    cluster = Cluster()
    cluster.submit()
    cluster.launch()

    ask_back(cluster, reason, "job-1.0.1")

    assert cluster.stopping == set()
    assert [(each.inverse_offer_id, each.is_accepted) for each in cluster.inverse_answers] == [("i1", False)]


@pytest.mark.parametrize("reason", [Reason.PREEMPTED, Reason.AGENT_DRAINED])
@pytest.mark.parametrize("state", [TaskState.TASK_KILLED, TaskState.TASK_FAILED])
def test_what_the_master_ended_is_tried_again_at_once_without_charge(state: TaskState, reason: Reason) -> None:
    cluster = Cluster(Limits(max_faults=0))
    job_id = cluster.submit(retries=0)
    cluster.launch()

    cluster.says("job-1.0.1", state, reason)
    cluster.advance(0)

    assert list(cluster.wanted) == ["job-1.0.2"]
    assert (cluster.row(job_id).failures, cluster.row(job_id).faults) == (0, 0)


def test_a_gang_of_which_some_is_asked_back_is_stopped_whole() -> None:
    cluster = Cluster(Limits(max_faults=0))
    job_id = cluster.submit(gang=3, retries=0)
    cluster.launch()

    ask_back(cluster, DRAIN, "job-1.0.1", "job-1.1.1")
    stopped = sorted(cluster.stopping)
    for task_id in stopped:
        cluster.says(task_id, TaskState.TASK_KILLED, Reason.KILLED_BY_FRAMEWORK)
    cluster.advance(0)

    assert stopped == ["job-1.0.1", "job-1.1.1", "job-1.2.1"]
    assert list(cluster.wanted) == ["job-1.0.2", "job-1.1.2", "job-1.2.2"]
    cluster.launch()
    cluster.finish()
    assert cluster.show(job_id).state is JobState.SUCCEEDED


def test_what_is_asked_back_and_unknown_or_over_changes_nothing_and_is_answered() -> None:
    cluster = Cluster()
    job_id = cluster.submit(array=2)
    cluster.launch()
    cluster.finish("job-1.0.1")

    ask_back(cluster, DRAIN, "job-1.0.1", "job-9.0.1", "no task of a job")
    cluster.kill(job_id)
    ask_back(cluster, DRAIN, "job-1.1.1")

    assert [each.is_accepted for each in cluster.inverse_answers] == [True, True]
    assert cluster.show(job_id).counts.succeeded == 1
