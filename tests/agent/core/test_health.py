from __future__ import annotations

from runrig.tasks import CheckKind, HealthCheck, Reason
from runrig_agent.core import commands as do
from runrig_agent.core import events
from tests.agent.core.given import (
    Agent,
    acknowledge,
    key,
    kill,
    of,
    process,
    registered,
    said,
    signals,
    updates,
)


def checked(agent: Agent, is_healthy: bool, check: int = 0, after: float = 1.0) -> list[do.Command]:
    return agent.tell(events.TaskChecked(key(), check, is_healthy, "" if is_healthy else "refused"), after=after)


def running(*checks: HealthCheck) -> Agent:
    agent = registered()
    agent.run(process(checks=checks))
    agent.order(acknowledge(1))
    return agent


def tcp(grace_ms: int = 0, max_consecutive_failures: int = 3) -> HealthCheck:
    return HealthCheck(CheckKind.TCP, port=80, grace_ms=grace_ms, max_consecutive_failures=max_consecutive_failures)


def test_checks_begin_when_the_task_runs_and_end_with_it() -> None:
    agent = registered()
    started = agent.run(process(checks=(tcp(),)))
    ended = agent.tell(agent.ended(0))

    assert [command.key for command in of(do.StartHealthChecks, started)] == [key()]
    assert [command.key for command in of(do.StopHealthChecks, ended)] == [key()]


def test_only_a_change_of_health_is_told() -> None:
    agent = running(tcp())

    told = [checked(agent, is_healthy) for is_healthy in (True, True, False, True)]

    assert [[update.healthy for update in updates(commands)] for commands in told] == [
        [True],
        [],
        [False],
        [True],
    ]


def test_repeated_failure_is_told_and_then_ends_the_task() -> None:
    agent = running(tcp(max_consecutive_failures=2))

    first, second = checked(agent, False), checked(agent, False)
    ended = agent.tell(agent.ended(143))

    assert said(first) == [("TASK_RUNNING", Reason.HEALTH_CHANGED)]
    assert said(second) == [("TASK_KILLING", Reason.HEALTH_CHECK)]
    assert signals(second) == [("t", 15)]
    assert said(ended) == [("TASK_FAILED", Reason.HEALTH_CHECK)]
    assert updates(ended)[0].healthy is False
    assert "refused" in updates(ended)[0].message


def test_a_success_between_failures_starts_the_count_again() -> None:
    agent = running(tcp(max_consecutive_failures=2))

    commands = [command for ok in (False, True, False, True) for command in checked(agent, ok)]

    assert signals(commands) == []


def test_failures_within_the_grace_do_not_count_until_the_first_success() -> None:
    agent = running(tcp(grace_ms=10_000, max_consecutive_failures=1))

    excused = checked(agent, False, after=9.0)
    counted = checked(agent, False, after=2.0)

    assert said(excused) == []
    assert signals(counted) == [("t", 15)]


def test_after_a_success_the_grace_is_over() -> None:
    agent = running(tcp(grace_ms=10_000, max_consecutive_failures=1))
    checked(agent, True)

    assert signals(checked(agent, False)) == [("t", 15)]


def test_a_task_is_healthy_when_all_its_checks_say_so() -> None:
    agent = running(tcp(), tcp())

    told = [
        checked(agent, True, 0),
        checked(agent, True, 1),
        checked(agent, False, 0),
        checked(agent, True, 0),
    ]

    assert [[update.healthy for update in updates(commands)] for commands in told] == [
        [],
        [True],
        [False],
        [True],
    ]


def test_a_check_that_only_reports_never_kills() -> None:
    agent = running(tcp(max_consecutive_failures=0))

    assert signals([command for _ in range(50) for command in checked(agent, False)]) == []


def test_a_check_that_fails_while_the_task_is_killed_says_nothing() -> None:
    agent = running(tcp(max_consecutive_failures=1))
    stopped = agent.order(kill())

    assert len(of(do.StopHealthChecks, stopped)) == 1
    assert checked(agent, False) == []
