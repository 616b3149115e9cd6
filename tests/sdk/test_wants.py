"""`Wants` on the simulated cluster: the master's real core, the SDK's real scheduler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from runrig import Constraint, Operator, TaskView, Wants, task
from runrig.ids import AgentId, TaskId
from runrig.offers import (
    AnswerInverseOffer,
    Call,
    InverseOffer,
    InverseOfferReason,
    InverseOffersMade,
    LaunchableTask,
)
from runrig.resources import Resources
from runrig.tasks import Reason, TaskState
from runrig.testing import Behaviour, Cluster, failing, finishing


def test_commands_run_once_each_to_success() -> None:
    cluster = Cluster()
    cluster.agents(2, script=finishing(5))
    wants = Wants()
    for number in range(20):
        wants.once(f"job-{number}", task("true", cpus=1, mem="64M"))
    cluster.run("batch", wants)

    cluster.until(lambda: wants.is_done)

    assert len(cluster.starts) == 20
    assert wants.failed == []
    assert cluster.nothing_started_twice()


def test_replicas_are_kept_and_a_lost_agents_tasks_are_replaced() -> None:
    cluster = Cluster()
    cluster.agents(3)
    wants = Wants()
    wants.keep("web", 4, task("serve", cpus=1, mem="64M", ports=1))
    web = cluster.run("web", wants)
    cluster.until(lambda: web.count() == 4)
    victim = next(view.hostname for view in web.tasks.values())

    cluster.kill(victim)
    cluster.advance("80s")

    assert web.count() == 4
    assert all(view.hostname != victim for view in web.tasks.values() if view.state is TaskState.TASK_RUNNING)


def test_a_killed_framework_finds_its_tasks_and_starts_none_twice() -> None:
    cluster = Cluster()
    cluster.agents(3)
    web = cluster.run("web", kept(4))
    cluster.until(lambda: web.count() == 4)

    web.kill()
    cluster.advance("10s")
    web.restart(kept(4))
    cluster.advance("30s")

    assert web.count() == 4
    assert len(cluster.starts) == 4


def test_a_killed_master_disturbs_no_task() -> None:
    cluster = Cluster()
    cluster.agents(3)
    web = cluster.run("web", kept(4))
    cluster.until(lambda: web.count() == 4)

    cluster.kill("master")
    cluster.advance("20s")
    cluster.start("master")
    cluster.advance("5m")

    assert web.count() == 4
    assert len(cluster.starts) == 4
    assert len(cluster.running) == 4


def test_a_run_that_fails_is_tried_again_with_growing_waits_until_its_retries_are_used() -> None:
    cluster = Cluster()
    cluster.agents(1, script=failing(1))
    wants = Wants()
    wants.once("doomed", task("false"), retries=3)
    cluster.run("batch", wants)

    took = cluster.until(lambda: wants.is_done)

    assert wants.failed == ["doomed"]
    assert len(cluster.starts) == 4
    assert took >= 4 + 1 + 2 + 4


def test_each_of_two_that_wait_after_a_failure_is_tried_again() -> None:
    failed = set[str]()

    def fails_first(spec: LaunchableTask) -> Behaviour:
        after_s = {"early": 1.0, "late": 1.5}[spec.name]
        if spec.name in failed:
            return Behaviour(after_s)
        failed.add(spec.name)
        return Behaviour(after_s, exit_code=1)

    cluster = Cluster()
    cluster.agents(1, script=fails_first)
    wants = Wants()
    wants.once("early", task("true"), retries=1)
    wants.once("late", task("true"), retries=1)
    cluster.run("batch", wants)

    cluster.until(lambda: wants.is_done, within="1m")

    assert wants.failed == []


def test_what_an_agent_refuses_at_once_is_not_launched_on_it_in_a_tight_loop() -> None:
    cluster = Cluster()
    cluster.agents(1, script=lambda _: Behaviour(fails_to_start=Reason.DISK_FULL))
    told: list[TaskView] = []
    wants = Wants(told.append)
    wants.keep("web", 1, task("serve"))
    wants.once("job", task("true"), retries=0)
    cluster.run("batch", wants)

    cluster.advance("60s")

    refused = Counter(view.task_id.split(".")[0] for view in told if view.state is TaskState.TASK_FAILED)
    assert refused.keys() == {"web", "job"}
    assert max(refused.values()) <= 8
    assert wants.failed == [], "no retry is charged for it"


def test_unique_hosts_hold_one_task_each_and_the_rest_wait() -> None:
    cluster = Cluster()
    cluster.agents(2)
    wants = Wants()
    wants.keep("db", 3, task("serve", constraints=[Constraint("hostname", Operator.UNIQUE)]))
    database = cluster.run("db", wants)
    cluster.advance("30s")
    assert database.count() == 2

    cluster.agents(1)
    cluster.advance("1s")

    assert database.count() == 3
    assert len({view.hostname for view in database.tasks.values()}) == 3


def test_a_week_passes_quickly() -> None:
    cluster = Cluster()
    cluster.agents(3, script=finishing(3600))
    wants = Wants()
    wants.keep("hourly", 3, task("work", cpus=1))
    hourly = cluster.run("hourly", wants)

    cluster.advance("7d")

    assert hourly.count() == 3
    assert 3 * 24 * 7 - 30 <= len(cluster.starts) <= 3 * 24 * 7 + 3


def test_a_run_that_was_long_uses_up_a_retry_like_any_other() -> None:
    cluster = Cluster()
    cluster.agents(1, script=failing(300))
    wants = Wants()
    wants.once("doomed", task("false"), retries=1)
    cluster.run("batch", wants)

    cluster.advance("1h")

    assert (wants.failed, len(cluster.starts)) == (["doomed"], 2)


@pytest.mark.parametrize("reason", [InverseOfferReason.DRAIN, InverseOfferReason.PREEMPTION])
def test_what_is_asked_back_is_stopped_and_started_again_at_once_without_charge(reason: InverseOfferReason) -> None:
    cluster = Cluster()
    cluster.agents(2)
    wants = kept(1)
    wants.once("job", task("true", cpus=1), retries=0)
    framework = cluster.run("web", wants)
    cluster.until(lambda: framework.count() == 2)
    said: list[Call] = []
    framework.said.append(said.append)

    for _ in range(3):
        framework.tell(asked_back(reason, framework.tasks))
        cluster.advance("0.5s")

    assert framework.count() == 2
    assert len(cluster.starts) == 2 + 3 * 2
    assert wants.failed == []
    answers = [call for call in said if isinstance(call, AnswerInverseOffer)]
    assert [(answer.inverse_offer_id, answer.is_accepted) for answer in answers] == [("i1", True)] * 3


def test_planned_maintenance_stops_nothing() -> None:
    cluster = Cluster()
    cluster.agents(2)
    web = cluster.run("web", kept(2))
    cluster.until(lambda: web.count() == 2)

    web.tell(asked_back(InverseOfferReason.MAINTENANCE, web.tasks))
    cluster.advance("60s")

    assert len(cluster.starts) == 2


def kept(count: int) -> Wants:
    wants = Wants()
    wants.keep("web", count, task("serve", cpus=1, mem="64M"))
    return wants


def asked_back(reason: InverseOfferReason, task_ids: Iterable[TaskId]) -> InverseOffersMade:
    offer = InverseOffer("i1", reason, AgentId("agent-1"), "agent-1", tuple(task_ids), Resources(cpu_millis=1000))
    return InverseOffersMade((offer,))
