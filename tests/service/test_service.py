from __future__ import annotations

import json
from typing import Any

import pytest

from runrig.constraints import Constraint, Operator
from runrig.ids import TaskId
from runrig.tasks import Reason, TaskState
from runrig_service.core.errors import AppExists, InvalidApp, Missing
from runrig_service.core.limits import Limits, Policy
from runrig_service.core.questions import (
    ChangeApps,
    Changed,
    CreateApp,
    ListVersions,
    RemoveApp,
    RestartApp,
    ShowApp,
    StopTasks,
)
from tests.service.runner import Runner

S = TaskState


def given(**fields: object) -> Runner:
    """Return a cluster on which an app was created and runs."""
    runner = Runner()
    runner.answer(CreateApp({"id": "/web", "cmd": "serve", **fields}))
    runner.settle(healthy=True if fields.get("healthChecks") else None)
    return runner


def change(runner: Runner, body: dict[str, object], app_id: str = "/web") -> Changed:
    answer = runner.answer(ChangeApps((body,), app_id))
    assert isinstance(answer, Changed)
    return answer


def show(runner: Runner, app_id: str = "/web") -> dict[str, Any]:
    answer = runner.answer(ShowApp(app_id))
    assert isinstance(answer, dict)
    return answer


def test_a_new_app_asks_for_its_instances() -> None:
    runner = Runner()

    runner.answer(CreateApp({"id": "shop/web", "cmd": "serve", "instances": 3}))

    assert len(runner.waiting) == 3
    assert all(each.startswith("shop_web.instance-") for each in runner.waiting)
    assert {want.group for want in runner.wants.values()} == {"/shop/web"}


def test_a_change_is_complete_when_all_instances_serve() -> None:
    runner = Runner()
    runner.answer(CreateApp({"id": "/web", "cmd": "serve", "instances": 2}))
    first, second = runner.waiting

    runner.start([first])
    assert show(runner)["deployments"] != []

    runner.start([second])
    assert show(runner)["deployments"] == []
    assert show(runner)["tasksRunning"] == 2


def test_an_instance_that_ends_is_replaced_under_another_id() -> None:
    runner = given()
    [task_id] = runner.running

    runner.change(task_id, S.TASK_FAILED, reason=Reason.EXITED)
    runner.advance(2)

    [replacement] = runner.waiting
    assert replacement != task_id


def test_no_id_is_given_twice_even_when_the_app_is_made_anew() -> None:
    runner = given(instances=2)
    before = set(runner.launched)

    runner.answer(RemoveApp("/web"))
    runner.bury()
    runner.crash()
    runner.answer(CreateApp({"id": "/web", "cmd": "serve", "instances": 2}))

    assert len(runner.waiting) == 2
    assert not before & set(runner.waiting)


def test_scaling_up_restarts_nothing() -> None:
    runner = given(instances=2)
    before = runner.running

    change(runner, {"instances": 3})

    assert len(runner.waiting) == 1
    assert runner.running == before
    info = show(runner)["versionInfo"]
    assert info["lastScalingAt"] > info["lastConfigChangeAt"]


def test_scaling_down_stops_the_youngest() -> None:
    runner = given(instances=1)
    [oldest] = runner.running
    runner.advance(10)
    change(runner, {"instances": 3})
    runner.settle()

    change(runner, {"instances": 1})

    assert runner.running == [oldest]
    assert len(runner.stopping) == 2


def test_a_put_without_a_change_makes_no_version_and_restarts_nothing() -> None:
    runner = given(instances=2, env={"A": "1"})
    before = runner.running
    version = show(runner)["version"]

    changed = change(runner, show(runner))

    assert changed.version == version
    assert runner.running == before
    assert runner.waiting == []


def test_a_change_of_configuration_replaces_all_instances_without_a_gap() -> None:
    runner = given(instances=2, upgradeStrategy={"minimumHealthCapacity": 1, "maximumOverCapacity": 0})
    before = runner.running

    change(runner, {"cmd": "serve --better"})

    least = 2
    while runner.waiting or runner.stopping:
        least = min(least, len(runner.running))
        runner.bury()
        runner.start(runner.waiting[:1])
    assert least == 2
    assert len(runner.running) == 2
    assert not set(before) & set(runner.running)


def test_new_instances_serve_only_once_they_are_healthy() -> None:
    runner = given(instances=1, healthChecks=[{"protocol": "TCP"}])
    [old] = runner.running

    change(runner, {"cmd": "serve --better"})
    [new] = runner.start()
    assert runner.running == [old, new]
    runner.change(new, S.TASK_RUNNING, healthy=False)
    assert runner.running == [old, new]
    runner.change(new, S.TASK_RUNNING, healthy=True)

    assert runner.running == [new]
    assert runner.stopping == [old]


def test_a_second_change_takes_over_from_the_first() -> None:
    runner = given(instances=2)
    change(runner, {"cmd": "broken"})
    broken = set(runner.waiting)

    change(runner, {"cmd": "repaired"})
    runner.settle()

    assert not broken & set(runner.running)
    assert len(runner.running) == 2


def test_old_instances_that_wait_are_dropped_at_once() -> None:
    runner = Runner()
    runner.answer(CreateApp({"id": "/web", "cmd": "serve", "instances": 2}))
    before = set(runner.waiting)

    change(runner, {"cmd": "serve --better"})

    assert len(runner.waiting) == 2
    assert not before & set(runner.waiting)


def test_restart_replaces_every_instance() -> None:
    runner = given(instances=2)
    before = set(runner.running)

    runner.answer(RestartApp("/web"))
    runner.settle()

    assert len(runner.running) == 2
    assert not before & set(runner.running)


def test_a_crashing_app_waits_longer_each_time() -> None:
    runner = given(backoffSeconds=2, backoffFactor=2, maxLaunchDelaySeconds=5)
    delays = []

    for _ in range(4):
        runner.start()
        [task_id] = runner.running
        runner.change(task_id, S.TASK_FAILED, reason=Reason.EXITED)
        assert runner.waiting == []
        assert runner.wake_at is not None
        delays.append(round(runner.wake_at - runner.now))
        runner.advance(delays[-1])

    assert delays == [2, 4, 5, 5]


def test_even_an_app_without_a_delay_is_not_started_again_in_the_same_instant() -> None:
    runner = given(backoffSeconds=0)

    runner.change(runner.running[0], S.TASK_ERROR, reason=Reason.INVALID_TASK)

    assert runner.waiting == []
    runner.advance(0.1)
    assert len(runner.waiting) == 1


def test_a_delay_is_kept_when_the_app_is_scaled_and_when_the_process_dies() -> None:
    runner = given(backoffSeconds=60)
    runner.change(runner.running[0], S.TASK_FAILED, reason=Reason.EXITED)

    change(runner, {"instances": 2})
    runner.crash()
    runner.advance(50)

    assert runner.waiting == []
    runner.advance(11)
    assert len(runner.waiting) == 2


def test_a_change_of_configuration_forgets_the_delay() -> None:
    runner = given(backoffSeconds=60)
    runner.change(runner.running[0], S.TASK_FAILED, reason=Reason.EXITED)

    change(runner, {"cmd": "repaired"})

    assert len(runner.waiting) == 1


def test_an_app_that_was_quiet_for_its_largest_delay_starts_from_the_first() -> None:
    runner = given(backoffSeconds=10, backoffFactor=3, maxLaunchDelaySeconds=100)
    runner.change(runner.running[0], S.TASK_FAILED, reason=Reason.EXITED)
    runner.advance(10)
    runner.start()
    runner.advance(101)

    runner.change(runner.running[0], S.TASK_FAILED, reason=Reason.EXITED)

    assert runner.wake_at == runner.now + 10


@pytest.mark.parametrize(
    "state, reason",
    [
        (S.TASK_KILLED, Reason.KILLED_BY_OPERATOR),
        (S.TASK_LOST, Reason.AGENT_GONE),
        (S.TASK_DROPPED, Reason.LAUNCH_LOST),
    ],
)
def test_what_is_not_the_apps_fault_is_replaced_at_once(state: TaskState, reason: Reason) -> None:
    runner = given(backoffSeconds=60)

    runner.change(runner.running[0], state, reason=reason)

    assert len(runner.waiting) == 1


def test_the_last_failure_is_shown() -> None:
    runner = given()
    [task_id] = runner.running

    runner.change(task_id, S.TASK_FAILED, reason=Reason.EXITED)
    runner.crash()

    failure = show(runner)["lastTaskFailure"]
    assert (failure["taskId"], failure["state"], failure["message"]) == (task_id, "TASK_FAILED", "exited")


def test_an_unreachable_instance_is_given_up_at_once_and_stopped_when_it_returns() -> None:
    runner = given()
    [task_id] = runner.running

    runner.change(task_id, S.TASK_UNREACHABLE, reason=Reason.AGENT_UNREACHABLE)
    [replacement] = runner.start()
    runner.change(task_id, S.TASK_RUNNING)

    assert runner.running == [replacement]
    assert runner.stopping == [task_id]


def test_an_unreachable_instance_may_be_replaced_late_and_given_up_later() -> None:
    runner = given(unreachableStrategy={"inactiveAfterSeconds": 60, "expungeAfterSeconds": 120})
    [task_id] = runner.running
    runner.change(task_id, S.TASK_UNREACHABLE)

    runner.advance(59)
    assert runner.waiting == []
    runner.crash()
    runner.advance(2)
    [replacement] = runner.start()
    assert task_id in runner.views
    assert not runner.views[task_id].is_stopping
    runner.advance(60)

    assert runner.stopping == [task_id]
    assert runner.running == [replacement]


def test_an_unreachable_instance_that_returns_in_time_makes_one_too_many() -> None:
    runner = given(unreachableStrategy={"inactiveAfterSeconds": 0, "expungeAfterSeconds": 120})
    [task_id] = runner.running
    runner.change(task_id, S.TASK_UNREACHABLE)
    runner.advance(5)
    [replacement] = runner.start()

    runner.change(task_id, S.TASK_RUNNING)

    assert runner.stopping == [replacement]
    assert runner.running == [task_id]


def test_with_a_disabled_strategy_an_unreachable_instance_is_waited_for() -> None:
    runner = given(unreachableStrategy="disabled")

    runner.change(runner.running[0], S.TASK_UNREACHABLE)
    runner.advance(10_000)

    assert runner.waiting == []
    assert runner.stopping == []


def test_removing_an_app_stops_everything_and_leaves_no_entry() -> None:
    runner = given(instances=2)
    change(runner, {"instances": 3})
    runner.change(runner.running[0], S.TASK_FAILED, reason=Reason.EXITED)

    runner.answer(RemoveApp("/web"))
    runner.bury()

    assert (runner.views, runner.waiting) == ({}, [])
    assert list(runner.entries) == ["counter"]
    with pytest.raises(Missing, match=r"App '/web' does not exist"):
        runner.answer(ShowApp("/web"))


def test_a_stopped_task_is_replaced_when_it_has_ended_so_that_there_are_never_too_many() -> None:
    runner = given()
    [task_id] = runner.running

    runner.answer(StopTasks((task_id,)))
    assert (runner.stopping, runner.waiting) == ([task_id], [])
    runner.bury()

    assert len(runner.waiting) == 1


def test_stopping_a_task_with_scale_leaves_one_less() -> None:
    runner = given(instances=3)
    victim = runner.running[1]

    runner.answer(StopTasks((victim, TaskId("unknown")), scale=True))
    runner.bury()

    assert show(runner)["instances"] == 2
    assert (len(runner.running), runner.waiting) == (2, [])


def test_the_tasks_of_one_host_are_stopped() -> None:
    runner = given(instances=1)
    change(runner, {"instances": 2})
    runner.launch(runner.waiting[0], host="h2")

    stopped = runner.answer(StopTasks(app_id="/web", host="h2"))

    assert isinstance(stopped, list)
    assert [each["host"] for each in stopped] == ["h2"]
    assert len(runner.stopping) == 1


def test_an_app_is_rolled_back_to_a_version() -> None:
    runner = given(instances=2)
    runner.advance(1)
    version = show(runner)["version"]
    change(runner, {"cmd": "broken", "instances": 1})

    change(runner, {"version": version})

    assert (show(runner)["cmd"], show(runner)["instances"]) == ("serve", 2)
    with pytest.raises(Missing, match="does not exist in version"):
        change(runner, {"version": "2001-01-01T00:00:00.000Z"})


def test_only_so_many_versions_are_kept_and_those_that_run() -> None:
    runner = Runner(policy=Policy(versions_kept=3))
    runner.answer(CreateApp({"id": "/web", "cmd": "serve"}))
    runner.settle()
    first = show(runner)["version"]

    for number in range(6):
        runner.advance(1)
        change(runner, {"labels": {"number": str(number)}})

    versions = runner.answer(ListVersions("/web"))
    assert isinstance(versions, list)
    assert len(versions) == 4
    assert versions[-1] == first
    assert sum(key.startswith("version/") for key in runner.entries) == 4


def test_versions_differ_though_made_in_the_same_instant() -> None:
    runner = given()

    first = change(runner, {"cmd": "a"})
    second = change(runner, {"cmd": "b"})

    assert first.version < second.version


def test_what_is_refused_changes_nothing() -> None:
    runner = given(instances=2)
    before = dict(runner.entries)

    with pytest.raises(AppExists):
        runner.answer(CreateApp({"id": "/web", "cmd": "other"}))
    with pytest.raises(InvalidApp):
        runner.answer(ChangeApps(({"id": "/web", "instances": 5}, {"id": "/api", "cmd": 7})))
    with pytest.raises(InvalidApp):
        runner.answer(CreateApp({"id": "/web/inner", "cmd": "serve"}))
    with pytest.raises(Missing):
        runner.answer(RestartApp("/api"))
    with pytest.raises(Missing):
        runner.answer(StopTasks((TaskId("unknown"),), "/web", must_exist=True))

    assert runner.entries == before


def test_there_are_at_most_so_many_apps() -> None:
    runner = Runner(Limits(apps=1))
    runner.answer(CreateApp({"id": "/web", "cmd": "serve"}))

    with pytest.raises(InvalidApp, match="there may be 1"):
        runner.answer(CreateApp({"id": "/api", "cmd": "serve"}))


def test_each_port_gets_a_service_port_of_its_own_and_keeps_it() -> None:
    runner = given(portDefinitions=[{"port": 0}, {"port": 10_000}])
    runner.answer(CreateApp({"id": "/api", "cmd": "serve"}))
    ports = [each["port"] for each in show(runner)["portDefinitions"]]

    change(runner, {"portDefinitions": [{"port": 0}, {"port": 10_000}], "cmd": "other"})

    assert ports == [10_001, 10_000]
    assert show(runner, "/api")["portDefinitions"][0]["port"] == 10_002
    assert [each["port"] for each in show(runner)["portDefinitions"]] == ports


def test_with_cluster_and_no_value_the_others_follow_the_first() -> None:
    runner = Runner()
    body = {"id": "/web", "cmd": "serve", "instances": 3, "constraints": [["rack", "CLUSTER"]]}
    runner.answer(CreateApp(body))
    [first] = runner.waiting

    runner.launch(first, attributes=(("rack", "b"),))

    assert len(runner.waiting) == 2
    bound = {runner.wants[each].constraints for each in runner.waiting}
    assert bound == {(Constraint("rack", Operator.EQUALS, "b"),)}


def test_those_that_wait_for_a_place_that_is_gone_are_made_anew() -> None:
    runner = Runner()
    body = {"id": "/web", "cmd": "serve", "instances": 2, "constraints": [["rack", "CLUSTER"]]}
    runner.answer(CreateApp(body))
    [first] = runner.waiting
    runner.launch(first, attributes=(("rack", "b"),))

    runner.change(first, S.TASK_LOST, reason=Reason.AGENT_GONE)

    [alone] = runner.waiting
    assert runner.wants[alone].constraints == ()


def test_group_by_decides_first_who_is_stopped() -> None:
    runner = Runner()
    body = {"id": "/web", "cmd": "serve", "instances": 3, "constraints": [["rack", "GROUP_BY"]]}
    runner.answer(CreateApp(body))
    for task_id, rack in zip(runner.waiting, ("a", "a", "b"), strict=True):
        runner.launch(task_id, attributes=(("rack", rack),))
        runner.advance(1)
        runner.start([task_id])

    change(runner, {"instances": 2})

    [victim] = runner.stopping
    assert dict(runner.views[victim].attributes)["rack"] == "a"


def test_the_oldest_go_first_if_the_app_says_so() -> None:
    runner = given(killSelection="OLDEST_FIRST")
    [oldest] = runner.running
    runner.advance(1)
    change(runner, {"instances": 2})
    runner.settle()

    change(runner, {"instances": 1})

    assert runner.stopping == [oldest]


def test_an_unhealthy_instance_goes_before_a_healthy_one() -> None:
    runner = given(instances=2, healthChecks=[{"protocol": "TCP"}])
    sick = runner.running[1]
    runner.change(sick, S.TASK_RUNNING, healthy=False)

    change(runner, {"instances": 1})

    assert runner.stopping == [sick]


def test_a_task_that_nobody_knows_is_stopped() -> None:
    runner = given()
    [task_id] = runner.running
    view = runner.views[task_id]
    runner.answer(RemoveApp("/web"))
    runner.bury()

    runner.views[task_id] = view
    runner.change(task_id, S.TASK_RUNNING)

    assert runner.stopping == [task_id]


def test_entries_are_small_and_plain() -> None:
    runner = given(instances=1)
    [task_id] = runner.running

    pointer = json.loads(runner.entries["app/web"])
    instance = json.loads(runner.entries[f"instance/{task_id}"])

    assert sorted(pointer) == ["change", "configured", "scaled", "version"]
    assert instance["app"] == "/web"
    assert {key.partition("/")[0] for key in runner.entries} == {"app", "version", "instance", "counter"}


def test_a_clock_that_was_set_back_makes_no_wait_longer_than_it_ever_was() -> None:
    runner = given(backoffSeconds=60)
    [task_id] = runner.running
    runner.change(task_id, S.TASK_FAILED)

    runner.now -= 1000
    runner.crash()
    runner.advance(61)

    assert len(runner.waiting) == 1


def test_a_clock_that_was_set_back_does_not_keep_an_unreachable_instance_from_being_replaced() -> None:
    runner = given(unreachableStrategy={"inactiveAfterSeconds": 60, "expungeAfterSeconds": 120})
    [task_id] = runner.running
    runner.change(task_id, S.TASK_UNREACHABLE)

    runner.now -= 1000
    runner.crash()
    runner.advance(61)

    assert len(runner.waiting) == 1
