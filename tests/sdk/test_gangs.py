"""Gangs of `Wants` on the simulated cluster: all or none, tried again as a whole."""

from __future__ import annotations

from collections import Counter

import pytest

from runrig import Accept, InvalidInput, InverseOfferReason, Reason, TaskSpec, TaskState, Wants, task
from runrig.offers import Call, LaunchableTask
from runrig.testing import Behaviour, Cluster, SimulatedFramework, failing, finishing
from runrig.testing.runtimes import Script
from tests.sdk.test_wants import asked_back

TASK = task("work", cpus=1, mem="64M")


def test_a_gang_starts_on_several_agents_by_one_atomic_accept() -> None:
    cluster = Cluster()
    wants = gang(4)
    train = cluster.run("train", wants)
    said = listen(train)
    cluster.agents(2, resources="cpus:2;mem:2G", script=finishing(60))

    cluster.until(lambda: train.count() == 4)

    [accept] = [call for call in said if isinstance(call, Accept)]
    assert accept.atomic
    assert sorted(group.agent_id for group in accept.groups) == ["agent-1", "agent-2"]
    assert {item.terms.gang_id for group in accept.groups for item in group.tasks} == {"train.0"}
    cluster.until(lambda: wants.is_done)
    assert wants.failed == []


def test_a_gang_waits_until_there_is_room_for_all_of_it() -> None:
    cluster = Cluster()
    cluster.agents(1, resources="cpus:3;mem:2G")
    train = cluster.run("train", gang(4))
    cluster.advance("60s")
    assert train.count() == 0

    cluster.agents(1, resources="cpus:3;mem:2G")
    cluster.advance("6s")

    assert train.count() == 4


def test_a_gang_that_waits_keeps_no_room_from_others() -> None:
    cluster = Cluster()
    cluster.agents(1, resources="cpus:3;mem:2G")
    wants = gang(4)
    wants.keep("web", 3, TASK)
    framework = cluster.run("both", wants)

    cluster.advance("1s")

    assert Counter(task_id.split(".")[0] for task_id in framework.tasks) == {"web": 3}


def test_one_that_fails_stops_the_others_and_all_are_tried_again() -> None:
    cluster = Cluster()
    cluster.agents(2, resources="cpus:2;mem:2G", script=failing_once(".0.2", exit_code=1))
    wants = gang(4, retries=1)
    train = cluster.run("train", wants)

    cluster.until(lambda: wants.is_done)

    assert wants.failed == []
    assert starts_by_run(cluster) == {"0": 4, "1": 4}
    assert train.tasks == {}


def test_each_failure_of_one_is_a_retry_of_all() -> None:
    cluster = Cluster()
    cluster.agents(2, resources="cpus:2;mem:2G", script=failing(5))
    wants = gang(4, retries=2)
    cluster.run("train", wants)

    cluster.until(lambda: wants.is_done, within="5m")

    assert wants.failed == ["train"]
    assert starts_by_run(cluster) == {"0": 4, "1": 4, "2": 4}


def test_what_is_the_clusters_fault_is_not_charged() -> None:
    cluster = Cluster()
    cluster.agents(2, resources="cpus:2;mem:2G", script=failing_once(".0.2", fails_to_start=Reason.DISK_FULL))
    wants = gang(4, retries=0)
    cluster.run("train", wants)

    cluster.until(lambda: wants.is_done)

    assert wants.failed == []
    assert starts_by_run(cluster)["1"] == 4


def test_a_lost_agent_is_not_waited_for_longer_than_it_takes_to_know_and_not_charged() -> None:
    cluster = Cluster()
    cluster.agents(3, resources="cpus:2;mem:2G")
    train = cluster.run("train", gang(4))
    cluster.until(lambda: train.count() == 4)
    victim = next(view.hostname for view in train.tasks.values())

    cluster.kill(victim)
    cluster.advance("90s")

    running = {view.task_id for view in train.tasks.values() if view.state is TaskState.TASK_RUNNING}
    assert running == {f"train.1.{index}" for index in range(4)}


def test_all_of_a_gang_is_stopped_when_some_of_it_is_asked_back_and_starts_again_without_charge() -> None:
    cluster = Cluster()
    cluster.agents(2, resources="cpus:2;mem:2G")
    wants = gang(4, retries=0)
    train = cluster.run("train", wants)
    cluster.until(lambda: train.count() == 4)

    train.tell(asked_back(InverseOfferReason.DRAIN, list(train.tasks)[:2]))
    cluster.advance("5s")

    assert set(train.tasks) == {f"train.1.{index}" for index in range(4)}
    assert wants.failed == []


def test_what_has_finished_is_not_run_again_after_a_restart_in_the_middle() -> None:
    cluster = Cluster()
    cluster.agents(2, resources="cpus:2;mem:2G", script=lambda item: Behaviour(5 if item.task_id.endswith("0") else 60))
    train = cluster.run("train", gang(4))
    cluster.advance("10s")

    train.kill()
    cluster.advance("10s")
    wants = gang(4)
    train.restart(wants)
    said = listen(train)
    cluster.until(lambda: wants.is_done)

    assert wants.failed == []
    assert starts_by_run(cluster) == {"0": 4}
    assert not [call for call in said if isinstance(call, Accept)]


def test_a_restart_disturbs_no_later_run() -> None:
    cluster = Cluster()
    cluster.agents(2, resources="cpus:2;mem:2G", script=failing_once(".0.2", exit_code=1))
    train = cluster.run("train", gang(4, retries=1))
    cluster.until(lambda: set(train.tasks) == {f"train.1.{index}" for index in range(4)} and train.count() == 4)

    train.kill()
    train.restart(gang(4, retries=1))
    cluster.advance("10s")

    assert train.count() == 4
    assert starts_by_run(cluster) == {"0": 4, "1": 4}


def test_those_that_had_finished_are_tried_again_with_the_one_that_failed() -> None:
    def script(item: LaunchableTask) -> Behaviour:
        return {"train.0.0": Behaviour(1), "train.0.2": Behaviour(5, exit_code=1)}.get(item.task_id, Behaviour(60))

    cluster = Cluster()
    cluster.agents(2, resources="cpus:2;mem:2G", script=script)
    wants = gang(4, retries=1)
    cluster.run("train", wants)

    cluster.until(lambda: wants.is_done)

    assert (wants.failed, starts_by_run(cluster)) == ([], {"0": 4, "1": 4})


def test_a_fault_of_the_cluster_leaves_all_retries() -> None:
    def script(item: LaunchableTask) -> Behaviour:
        if item.task_id == "train.0.2":
            return Behaviour(fails_to_start=Reason.DISK_FULL)
        return Behaviour(1, exit_code=1) if item.task_id == "train.1.2" else Behaviour(60)

    cluster = Cluster()
    cluster.agents(2, resources="cpus:2;mem:2G", script=script)
    wants = gang(4, retries=1)
    cluster.run("train", wants)

    cluster.until(lambda: wants.is_done)

    assert (wants.failed, starts_by_run(cluster)["2"]) == ([], 4)


def test_a_restart_while_a_run_is_being_stopped_begins_the_next_once() -> None:
    cluster = Cluster()
    cluster.agents(2, resources="cpus:2;mem:2G", script=failing_once(".0.2", exit_code=1))
    train = cluster.run("train", gang(4, retries=1))
    cluster.until(lambda: train.count() == 4)
    cluster.until(lambda: train.count() < 4)

    train.kill()
    wants = gang(4, retries=1)
    train.restart(wants)
    cluster.until(lambda: wants.is_done, within="5m")

    assert wants.failed == []
    assert starts_by_run(cluster) == {"0": 4, "1": 4}


def test_each_knows_which_of_how_many_it_is() -> None:
    cluster = Cluster()
    train = cluster.run("train", gang(2))
    said = listen(train)
    cluster.agents(1)

    cluster.advance("5s")

    specs = [item for call in said if isinstance(call, Accept) for group in call.groups for item in group.tasks]
    environments = [dict(item.command.env) for item in specs if isinstance(item, TaskSpec)]
    assert [each["RUNRIG_GANG_INDEX"] for each in environments] == ["0", "1"]
    assert {each["RUNRIG_GANG_SIZE"] for each in environments} == {"2"}


def test_a_gang_has_a_name_of_its_own_and_a_size() -> None:
    wants = gang(2)

    with pytest.raises(InvalidInput, match="each name once"):
        wants.once("train", TASK)
    with pytest.raises(InvalidInput, match="1 to 10000"):
        wants.gang("empty", 0, TASK)


def gang(count: int, retries: int = 0) -> Wants:
    wants = Wants()
    wants.gang("train", count, TASK, retries=retries)
    return wants


def listen(framework: SimulatedFramework) -> list[Call]:
    said: list[Call] = []
    framework.said.append(said.append)
    return said


def failing_once(which: str, exit_code: int = 0, fails_to_start: Reason | None = None) -> Script:
    """Return a script by which the task whose id ends so fails soon, and others run for a minute."""

    def script(item: LaunchableTask) -> Behaviour:
        if item.task_id.endswith(which):
            return Behaviour(1, exit_code=exit_code, fails_to_start=fails_to_start)
        return Behaviour(60)

    return script


def starts_by_run(cluster: Cluster) -> Counter[str]:
    return Counter(task_id.split(".")[1] for _, task_id in cluster.starts)
