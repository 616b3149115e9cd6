"""Whatever happens, and whenever the process dies: no id is doubled, and in the end what is wanted runs.

`Runner` holds the truth: it fails when a task id is launched twice or asked for out of nowhere.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runrig.errors import Refused
from runrig.tasks import Reason, TaskState
from runrig_service.core.questions import ChangeApps, Count, RemoveApp, RestartApp, ShowApp, StopTasks, Totals
from tests.service.runner import Runner

S = TaskState
APPS = ("/web", "/shop/api")
VICTIM = st.integers(0, 20)

BODIES: dict[str, st.SearchStrategy[Any]] = {
    "cmd": st.sampled_from(["serve", "serve --better"]),
    "instances": st.integers(0, 4),
    "upgradeStrategy": st.fixed_dictionaries(
        {
            "minimumHealthCapacity": st.sampled_from([0, 0.5, 1]),
            "maximumOverCapacity": st.sampled_from([0, 0.5, 1]),
        }
    ),
    "unreachableStrategy": st.sampled_from(["disabled", {}, {"inactiveAfterSeconds": 5, "expungeAfterSeconds": 20}]),
    "healthChecks": st.sampled_from([[], [{"protocol": "TCP"}]]),
    "constraints": st.sampled_from([[], [["rack", "CLUSTER"]], [["hostname", "GROUP_BY"]]]),
    "killSelection": st.sampled_from(["YOUNGEST_FIRST", "OLDEST_FIRST"]),
}
STEPS = st.one_of(
    st.tuples(st.just("change"), st.sampled_from(APPS), st.fixed_dictionaries({}, optional=BODIES)),
    st.tuples(st.just("restart"), st.sampled_from(APPS)),
    st.tuples(st.just("remove"), st.sampled_from(APPS)),
    st.tuples(st.just("stop"), VICTIM, st.booleans()),
    st.tuples(st.just("launch"), VICTIM, st.sampled_from(["h1", "h2"])),
    st.tuples(
        st.just("report"),
        VICTIM,
        st.sampled_from([S.TASK_STARTING, S.TASK_RUNNING, S.TASK_RUNNING, S.TASK_UNREACHABLE]),
        st.sampled_from([None, True, False]),
    ),
    st.tuples(
        st.just("end"),
        VICTIM,
        st.sampled_from([S.TASK_FAILED, S.TASK_FINISHED, S.TASK_KILLED, S.TASK_LOST, S.TASK_DROPPED]),
    ),
    st.tuples(st.just("advance"), st.sampled_from([0.5, 3.0, 30.0, 400.0])),
    st.tuples(st.just("crash")),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=8, max_size=40), st.booleans())
def test_no_id_is_doubled_and_what_is_wanted_runs_in_the_end(
    steps: list[tuple[Any, ...]], crashes_always: bool
) -> None:
    runner = with_apps()
    runner.crashes_always = crashes_always

    for step in steps:
        take(runner, step)
    runner.settle(healthy=True)

    assert what_runs(runner) == what_is_wanted(runner)
    assert no_rest(runner)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=8, max_size=30))
def test_a_process_that_dies_after_every_event_decides_as_one_that_lives(steps: list[tuple[Any, ...]]) -> None:
    lives, dies = with_apps(), with_apps()
    dies.crashes_always = True

    for step in steps:
        take(lives, step)
        take(dies, step)
        assert sorted(dies.wants) == sorted(lives.wants)
        assert {each: view.is_stopping for each, view in dies.views.items()} == {
            each: view.is_stopping for each, view in lives.views.items()
        }
        assert dies.entries == lives.entries


@pytest.mark.parametrize("crash_at", range(12))
def test_a_rollout_goes_on_after_a_crash_at_any_step(crash_at: int) -> None:
    runner = Runner()
    body = {"cmd": "serve", "instances": 3, "upgradeStrategy": {"maximumOverCapacity": 0.4}}
    runner.answer(ChangeApps((body,), "/web"))
    runner.settle()
    runner.answer(ChangeApps(({"cmd": "serve --better"},), "/web"))

    least = len(runner.running)
    for number in range(12):
        if number == crash_at:
            runner.crash()
        if number % 2:
            runner.bury()
        else:
            runner.start(runner.waiting[:1])
        least = min(least, len(runner.running))
    runner.settle()

    assert least == 3
    assert what_runs(runner) == {"/web": 3, "/shop/api": 0}
    assert len(runner.launched) == 6


def with_apps() -> Runner:
    """Return a cluster on which two apps run."""
    runner = Runner()
    for app_id in APPS:
        runner.answer(ChangeApps(({"cmd": "serve", "instances": 3},), app_id))
    runner.settle()
    return runner


def take(runner: Runner, step: tuple[Any, ...]) -> None:
    """Let one thing happen, if it can."""
    match step:
        case ("change", app_id, body):
            ask(runner, ChangeApps(({"cmd": "serve", **body} if app_id not in known(runner) else body,), app_id))
        case ("restart", app_id):
            ask(runner, RestartApp(app_id))
        case ("remove", app_id):
            ask(runner, RemoveApp(app_id))
        case ("stop", number, scale) if runner.views:
            ask(runner, StopTasks((list(runner.views)[number % len(runner.views)],), scale=scale))
        case ("launch", number, host) if runner.waiting:
            task_id = sorted(runner.waiting)[number % len(runner.waiting)]
            runner.launch(task_id, host, (("rack", host),))
        case ("report", number, state, healthy) if runner.views:
            runner.change(list(runner.views)[number % len(runner.views)], state, healthy)
        case ("end", number, state) if runner.views:
            runner.change(list(runner.views)[number % len(runner.views)], state, reason=Reason.EXITED)
        case ("advance", seconds):
            runner.advance(seconds)
        case ("crash",):
            runner.crash()
        case _:
            pass


def ask(runner: Runner, question: object) -> None:
    try:
        runner.answer(question)
    except Refused:
        assert not isinstance(question, ChangeApps), "a good app is refused"


def known(runner: Runner) -> set[str]:
    return {key.removeprefix("app") for key in runner.entries if key.startswith("app/")}


def what_is_wanted(runner: Runner) -> dict[str, int]:
    found = dict.fromkeys(APPS, 0)
    for app_id in known(runner):
        app = runner.answer(ShowApp(app_id))
        assert isinstance(app, dict)
        assert app["deployments"] == []
        found[app_id] = app["instances"]
    return found


def what_runs(runner: Runner) -> dict[str, int]:
    groups = [runner.views[each].group for each in runner.running]
    return {app_id: groups.count(app_id) for app_id in APPS}


def no_rest(runner: Runner) -> bool:
    """Say whether the entries are those of what runs, and no others."""
    totals = runner.answer(Count())
    assert isinstance(totals, Totals)
    instances = {key.removeprefix("instance/") for key in runner.entries if key.startswith("instance/")}
    apps = {key.rpartition("/")[0].removeprefix("version") for key in runner.entries if key.startswith("version/")}
    return instances == set(runner.running) and apps == known(runner) and totals.stopping == 0
