"""The agent's half of rules 8, 11, 12, 13 and 20, on the real agent's core: the case is its master and its runtime."""

from __future__ import annotations

import signal

import pytest

from runrig.v1 import agent_pb2, scheduler_pb2, tasks_pb2
from tests.conformance.agent_under_test import LONGEST_RETRY_S, RETRY_S, AgentUnderTest
from tests.conformance.cases import case
from tests.conformance.messages import reason_name, spec

TERM, KILL = int(signal.SIGTERM), int(signal.SIGKILL)
RUNNING, KILLED, FINISHED = "TASK_RUNNING", "TASK_KILLED", "TASK_FINISHED"


def run(agent: AgentUnderTest, task_id: str = "t") -> None:
    """Let an agent run a task, and take what it says of it."""
    agent.launch(spec(task_id))
    agent.runs(task_id)
    assert agent.said() == [(task_id, RUNNING, 1)]


def states(register: agent_pb2.Register) -> dict[str, tuple[str, int]]:
    """Return what a registration says: task, state and number."""
    return {task.task_id: (tasks_pb2.TaskState.Name(task.status.state), task.status.number) for task in register.tasks}


@case(rules=(20,), mesos=(55,))
def test_an_update_is_repeated_later_and_later_until_it_is_acknowledged(agent: AgentUnderTest) -> None:
    run(agent)
    delay = RETRY_S
    while delay < 2 * LONGEST_RETRY_S:
        agent.pass_time(min(delay, LONGEST_RETRY_S) - 1)
        assert agent.said() == []
        agent.pass_time(1)
        assert agent.said() == [("t", RUNNING, 1)]
        delay *= 2
    agent.acknowledge("t", 1)

    agent.pass_time(3 * LONGEST_RETRY_S)

    assert agent.said() == []


@case(rules=(20,), mesos=(55,))
def test_acknowledgements_are_cumulative_and_repeated_or_strange_ones_change_nothing(agent: AgentUnderTest) -> None:
    run(agent)
    agent.exits("t")
    assert agent.said() == [("t", FINISHED, 2)]

    agent.acknowledge("t", 1)
    agent.acknowledge("t", 1)
    agent.acknowledge("t", 0)
    agent.pass_time(RETRY_S)
    assert set(agent.said()) == {("t", FINISHED, 2)}

    agent.acknowledge("t", 2)
    agent.pass_time(2 * LONGEST_RETRY_S)
    assert agent.said() == []


@case(rules=(12, 20))
@pytest.mark.parametrize("life", ["running", "ended", "ended and acknowledged", "remembered over a restart"])
def test_a_task_that_is_launched_again_is_answered_with_its_state_and_not_started(
    agent: AgentUnderTest, life: str
) -> None:
    run(agent)
    if life != "running":
        agent.exits("t")
        agent.said()
    if life in ("ended and acknowledged", "remembered over a restart"):
        agent.acknowledge("t", 2)
    if life == "remembered over a restart":
        agent.dies()
        agent.register()

    agent.launch(spec("t"))

    said = agent.said()
    assert [state for _, state, _ in said] == [RUNNING if life == "running" else FINISHED]
    assert agent.started == ["t"]


@case(rules=(11,), mesos=(56,))
def test_an_update_that_was_not_acknowledged_survives_the_agents_death(agent: AgentUnderTest) -> None:
    run(agent)
    agent.exits("t")
    agent.said()

    agent.dies()

    assert states(agent.register()) == {"t": (FINISHED, 2)}
    assert agent.said() == [("t", RUNNING, 1), ("t", FINISHED, 2)]


@case(rules=(11,), mesos=(56,))
def test_a_task_that_outlives_its_agent_is_taken_up_and_not_started_again(agent: AgentUnderTest) -> None:
    run(agent)
    agent.acknowledge("t", 1)

    agent.dies()

    assert states(agent.register()) == {"t": (RUNNING, 1)}
    assert (agent.started, agent.signals) == (["t"], [])
    agent.exits("t", 3)
    assert agent.said() == [("t", "TASK_FAILED", 2)]


@case(rules=(11,), mesos=(25, 56))
def test_a_task_that_ended_while_its_agent_was_dead_is_collected(agent: AgentUnderTest) -> None:
    run(agent)
    agent.acknowledge("t", 1)
    agent.exits("t", is_noticed=False)

    agent.dies()

    assert states(agent.register()) == {"t": (FINISHED, 2)}


@case(rules=(11, 12), mesos=(45, 57))
def test_a_task_that_was_written_down_and_never_started_is_dropped(agent: AgentUnderTest) -> None:
    agent.launch(spec("t"))

    agent.dies()

    assert states(agent.register()) == {"t": ("TASK_DROPPED", 1)}
    assert agent.started == ["t"]


@case(rules=(11,), mesos=(57,))
def test_a_task_that_ran_and_cannot_be_found_is_lost(agent: AgentUnderTest) -> None:
    run(agent)
    agent.forgets("t")

    agent.dies()

    assert states(agent.register()) == {"t": ("TASK_LOST", 2)}


@case(rules=(11, 12), mesos=(46, 47))
def test_a_registration_names_each_task_that_is_not_both_ended_and_acknowledged(agent: AgentUnderTest) -> None:
    for task_id in ("runs", "ended", "settled"):
        run(agent, task_id)
    agent.launch(spec("staging"))
    for task_id in ("ended", "settled"):
        agent.exits(task_id)
    agent.said()
    agent.acknowledge("settled", 2)

    agent.loses_the_master()

    register = agent.connects()
    assert states(register) == {"runs": (RUNNING, 1), "ended": (FINISHED, 2), "staging": ("TASK_STAGING", 0)}
    assert register.session == 2


@case(rules=(11,), mesos=(57,))
def test_a_kill_asked_while_the_agent_was_away_ends_the_task_when_it_is_back(agent: AgentUnderTest) -> None:
    run(agent)
    agent.dies()
    agent.register()

    agent.kill("t")

    assert agent.signals == [("t", TERM)]


@case(rules=(11, 16), mesos=(57,))
def test_the_tasks_of_a_framework_that_was_removed_are_killed_and_forgotten(agent: AgentUnderTest) -> None:
    run(agent)

    agent.shut_down()

    assert agent.signals == [("t", TERM)]
    agent.exits("t", 143)
    agent.loses_the_master()
    assert states(agent.connects()) == {}


@case(rules=(13,), mesos=(58,))
def test_a_kill_that_arrives_before_its_launch_wins(agent: AgentUnderTest) -> None:
    agent.kill("t")
    unknown = agent.take("task_unknown")
    assert unknown.task_id == "t"

    agent.launch(spec("t"))

    assert [(task, state) for task, state, _ in agent.said()] == [("t", KILLED)]
    assert agent.started == []


@case(rules=(13,), mesos=(58,))
def test_a_kill_in_the_middle_of_a_launch_ends_the_task(agent: AgentUnderTest) -> None:
    agent.launch(spec("t"))
    agent.kill("t")

    agent.runs("t")

    assert agent.signals == [("t", TERM)]
    agent.exits("t", 143)
    assert [state for _, state, _ in agent.said()][-1] == KILLED


@case(rules=(13,))
def test_a_kill_is_sigterm_then_sigkill_and_a_second_one_may_shorten_the_grace(agent: AgentUnderTest) -> None:
    run(agent)
    agent.kill("t", grace_ms=60_000)
    agent.pass_time(10)
    assert agent.signals == [("t", TERM)]

    agent.kill("t", grace_ms=15_000)
    agent.kill("t", grace_ms=90_000)

    agent.pass_time(14.9)
    assert agent.signals == [("t", TERM)]
    agent.pass_time(0.1)
    assert agent.signals == [("t", TERM), ("t", KILL)]


@case(rules=(12, 13))
def test_the_kill_of_an_unknown_task_is_answered(agent: AgentUnderTest) -> None:
    agent.kill("nothing")

    assert agent.take("task_unknown").task_id == "nothing"


@case(rules=(8,))
def test_an_end_never_changes(agent: AgentUnderTest) -> None:
    run(agent)
    agent.exits("t")
    agent.said()

    agent.kill("t")
    agent.exits("t", 143)
    agent.pass_time(RETRY_S)

    assert {state for _, state, _ in agent.said()} <= {RUNNING, FINISHED}
    assert agent.signals == []


@case(rules=(20,), mesos=(38,))
@pytest.mark.parametrize("is_restarted", [False, True], ids=["at once", "after its own death"])
def test_orders_of_a_lower_epoch_are_refused(agent: AgentUnderTest, is_restarted: bool) -> None:
    agent.epoch = 7
    run(agent)
    if is_restarted:
        agent.dies()
        assert agent.connects().epoch == 7

    order = agent_pb2.KillTask(framework_id="f", task_id="t")
    agent.orders(agent_pb2.AgentCommand(kill=order), epoch=6)

    assert agent.signals == []
    assert not agent.is_connected


@case(rules=(4,), mesos=(60,))
def test_when_one_task_of_a_group_fails_the_others_are_killed(agent: AgentUnderTest) -> None:
    agent.launch(spec("m1"), spec("m2"), is_task_group=True)
    for task_id in ("m1", "m2"):
        agent.runs(task_id)

    agent.exits("m1", 1)

    assert agent.signals == [("m2", TERM)]
    agent.exits("m2", 143)
    assert agent.said()[-1] == ("m2", KILLED, 3)


@case(mesos=(60,))
def test_a_task_is_killed_after_consecutive_failures_of_its_health_check_and_not_within_its_grace(
    agent: AgentUnderTest,
) -> None:
    check = tasks_pb2.HealthCheck(
        command=tasks_pb2.CommandCheck(shell="true"),
        interval_ms=1_000,
        timeout_ms=500,
        grace_ms=10_000,
        max_consecutive_failures=2,
    )
    agent.launch(spec("t", health_checks=[check]))
    agent.runs("t")
    for _ in range(3):
        agent.checks("t", is_healthy=False)
    assert agent.signals == []

    agent.pass_time(10)
    agent.checks("t", is_healthy=False)
    assert agent.signals == []
    agent.checks("t", is_healthy=False)

    assert agent.signals == [("t", TERM)]
    agent.exits("t", 143)
    reported = agent.reports[-1].update
    assert (reported.state, reason_name(reported)) == (tasks_pb2.TASK_FAILED, "HEALTH_CHECK")


@case(rules=(11,))
def test_an_agent_that_was_marked_gone_ends_its_tasks_before_it_stops(agent: AgentUnderTest) -> None:
    run(agent)
    refusal = scheduler_pb2.Refusal(code=scheduler_pb2.REFUSAL_CODE_GONE, message="gone")

    agent.orders(agent_pb2.AgentCommand(refusal=refusal))

    assert (agent.signals, agent.has_stopped) == ([("t", TERM)], False)
    agent.exits("t", 143)
    assert agent.has_stopped
