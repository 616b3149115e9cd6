from __future__ import annotations

import pytest

from runrig.agents import AgentChanged
from runrig.tasks import CheckKind as Kind
from runrig.tasks import Fetch, HealthCheck, Reason, RuntimeKind, TaskState
from runrig_agent.core import commands as do
from runrig_agent.core import events
from runrig_agent.core.agent import AgentCore
from runrig_agent.core.events import FoundTask
from runrig_agent.core.task import SIGKILL, TaskStarted
from tests.agent.core.given import (
    Agent,
    acknowledge,
    container,
    key,
    kill,
    launch,
    launched,
    of,
    process,
    registered,
    reports,
    said,
    signals,
    updates,
)


def test_rule_11_a_task_that_runs_is_adopted() -> None:
    agent = registered()
    agent.run(process(max_run_ms=60_000, checks=(HealthCheck(Kind.TCP, port=80),)))
    started = agent.started()

    commands = agent.restart(FoundTask(started))

    assert of(do.AdoptTask, commands) == [do.AdoptTask(key(), agent.disk.saved().tasks[0].record.spec)]
    assert len(of(do.StartHealthChecks, commands)) == 1
    assert said(commands) == []
    agent.register()
    assert said(agent.tick(60.0))[-1] == ("TASK_KILLING", Reason.MAX_RUN_TIME)


def test_a_task_that_was_launched_but_not_yet_said_to_run_is_adopted_and_said_to_run() -> None:
    agent = registered()
    agent.order(launch(process()))
    started = agent.started()

    commands = agent.restart(FoundTask(started)) + agent.register()

    assert said(commands) == [("TASK_RUNNING", Reason.NONE)]
    assert launched(commands) == []


def test_a_task_that_ended_meanwhile_is_collected() -> None:
    agent = registered()
    agent.run(process())
    found = FoundTask(agent.started(), agent.ended(3))

    commands = agent.restart(found) + agent.register()

    assert said(commands) == [("TASK_RUNNING", Reason.NONE), ("TASK_FAILED", Reason.EXITED)]
    assert of(do.ForgetTask, commands) == [do.ForgetTask(key(), RuntimeKind.PROCESS, int(agent.now * 1000))]


@pytest.mark.parametrize("spec", [process(), process(fetch=(Fetch("file:///data/x"),))])
def test_rule_12_a_task_that_was_written_down_but_not_started_is_dropped_and_never_started(spec) -> None:  # type: ignore[no-untyped-def]
    agent = registered()
    agent.order(launch(spec))

    commands = agent.restart() + agent.register()

    assert launched(commands) == []
    assert said(commands) == [("TASK_DROPPED", Reason.LAUNCH_LOST)]
    assert signals(commands) == [("t", SIGKILL)]


def test_a_task_that_ran_and_cannot_be_found_is_lost() -> None:
    agent = registered()
    agent.run(process())
    agent.order(acknowledge(1))

    commands = agent.restart() + agent.register()

    assert said(commands) == [("TASK_LOST", Reason.STATUS_UNAVAILABLE)]


def test_after_a_reboot_a_task_that_cannot_be_found_is_lost_with_its_host() -> None:
    agent = registered()
    agent.run(process())
    agent.order(acknowledge(1))

    commands = agent.restart(is_host_rebooted=True) + agent.register()

    assert said(commands) == [("TASK_LOST", Reason.HOST_REBOOTED)]


def test_a_task_that_was_being_killed_and_cannot_be_found_was_killed() -> None:
    agent = registered()
    agent.run(process())
    agent.order(kill(), acknowledge(2))

    commands = agent.restart() + agent.register()

    assert ("TASK_KILLED", Reason.KILLED_BY_FRAMEWORK) in said(commands)


def test_the_agent_registers_only_after_its_runtimes_have_spoken() -> None:
    agent = Agent()

    first = agent.tell(events.AgentStarted(agent.info, agent.disk.saved()))
    second = agent.tell(events.TasksFound(RuntimeKind.DOCKER, ()))
    third = agent.tell(events.TasksFound(RuntimeKind.PROCESS, ()))

    assert [command.kind for command in of(do.RecoverTasks, first)] == [
        RuntimeKind.DOCKER,
        RuntimeKind.PROCESS,
    ]
    assert of(do.OpenStream, first + second) == []
    assert len(of(do.OpenStream, third)) == 1


def test_a_runtime_that_does_not_speak_is_not_waited_for_too_long() -> None:
    agent = Agent()
    agent.tell(events.AgentStarted(agent.info, agent.disk.saved()))
    agent.tell(events.TasksFound(RuntimeKind.PROCESS, ()))

    assert len(of(do.OpenStream, agent.tick(10.0))) == 1


def with_a_container() -> tuple[Agent, TaskStarted]:
    """Return an agent whose container runs, and whose engine is dead when the agent starts again."""
    agent = registered()
    agent.order(launch(container()))
    agent.tell(events.TaskPrepared(key()))
    started = agent.started()
    agent.tell(started)
    agent.order(acknowledge(1))
    agent.core = AgentCore(agent.policy)
    agent.tell(events.AgentStarted(agent.info, agent.disk.saved()))
    agent.tell(events.RuntimeChanged(RuntimeKind.DOCKER, "the engine does not answer"))
    return agent, started


def test_while_its_engine_is_dead_a_task_stays_in_its_last_state() -> None:
    agent, _ = with_a_container()

    commands = agent.tell(events.TasksFound(RuntimeKind.PROCESS, ()))
    [register] = reports(agent.tell(events.StreamOpened(agent.session)))

    assert said(commands) == []
    assert register.agent.runtimes == (RuntimeKind.PROCESS,)  # type: ignore[attr-defined]
    assert [task.status.state for task in register.tasks] == [TaskState.TASK_RUNNING]  # type: ignore[attr-defined]


def test_an_engine_that_comes_back_is_asked_and_its_tasks_are_adopted() -> None:
    agent, started = with_a_container()
    agent.tell(events.TasksFound(RuntimeKind.PROCESS, ()))
    agent.register()

    asked = agent.tell(events.RuntimeChanged(RuntimeKind.DOCKER, None))
    answered = agent.tell(events.TasksFound(RuntimeKind.DOCKER, (FoundTask(started),)))

    assert of(do.RecoverTasks, asked) == [do.RecoverTasks(RuntimeKind.DOCKER, frozenset({key()}))]
    [changed] = reports(answered)
    assert isinstance(changed, AgentChanged)
    assert changed.agent.runtimes == (RuntimeKind.DOCKER, RuntimeKind.PROCESS)
    assert said(agent.tell(agent.ended(0))) == [("TASK_FINISHED", Reason.EXITED)]


def test_a_kill_while_the_engine_is_dead_is_done_when_it_is_back() -> None:
    agent, started = with_a_container()
    agent.tell(events.TasksFound(RuntimeKind.PROCESS, ()))
    agent.register()

    asked = agent.order(kill())
    agent.tell(events.RuntimeChanged(RuntimeKind.DOCKER, None))
    found = agent.tell(events.TasksFound(RuntimeKind.DOCKER, (FoundTask(started),)))

    assert said(asked) == [("TASK_KILLING", Reason.KILLED_BY_FRAMEWORK)]
    assert signals(asked) == []
    assert signals(found) == [("t", 15)]


def test_an_engine_that_dies_and_comes_back_tells_what_ended_meanwhile() -> None:
    agent = registered()
    agent.order(launch(container("a"), container("b")))
    agent.tell(events.TaskPrepared(key("a")), events.TaskPrepared(key("b")))
    agent.tell(agent.started("a"), agent.started("b"))
    agent.order(acknowledge(1, "a"), acknowledge(1, "b"))

    dead = agent.tell(events.RuntimeChanged(RuntimeKind.DOCKER, "gone"))
    refused = agent.order(launch(container("c")))
    agent.tell(events.RuntimeChanged(RuntimeKind.DOCKER, None))
    back = agent.tell(events.TasksFound(RuntimeKind.DOCKER, (FoundTask(agent.started("a"), agent.ended(5, "a")),)))

    assert said(dead) == []
    assert said(refused) == [("TASK_FAILED", Reason.RUNTIME_UNAVAILABLE)]
    assert said(back) == [("TASK_FAILED", Reason.EXITED), ("TASK_LOST", Reason.STATUS_UNAVAILABLE)]


def test_what_is_launched_while_a_runtime_is_asked_waits_for_its_answer() -> None:
    agent = registered()
    agent.tell(events.RuntimeChanged(RuntimeKind.PROCESS, "gone"), events.RuntimeChanged(RuntimeKind.PROCESS, None))

    waits = agent.order(launch(process()))
    answered = agent.tell(events.TasksFound(RuntimeKind.PROCESS, ()))

    assert launched(waits) == []
    assert launched(answered) == ["t"]


def test_what_waits_for_a_runtime_that_dies_again_fails() -> None:
    agent = registered()
    agent.tell(events.RuntimeChanged(RuntimeKind.PROCESS, "gone"), events.RuntimeChanged(RuntimeKind.PROCESS, None))
    agent.order(launch(process()))

    commands = agent.tell(events.RuntimeChanged(RuntimeKind.PROCESS, "gone again"))

    assert ("TASK_FAILED", Reason.RUNTIME_UNAVAILABLE) in said(commands)


def test_a_launch_on_its_way_while_its_runtime_is_asked_is_not_given_up() -> None:
    agent = registered()
    agent.order(launch(process()))
    agent.tell(events.RuntimeChanged(RuntimeKind.PROCESS, "gone"), events.RuntimeChanged(RuntimeKind.PROCESS, None))

    started = agent.tell(agent.started())
    answered = agent.tell(events.TasksFound(RuntimeKind.PROCESS, ()))

    assert said(started) == [("TASK_RUNNING", Reason.NONE)]
    assert updates(answered) == []


def test_a_restart_in_the_middle_of_a_restart_changes_nothing() -> None:
    agent = registered()
    agent.run(process())
    before = agent.disk.saved()

    agent.core = AgentCore(agent.policy)
    agent.tell(events.AgentStarted(agent.info, agent.disk.saved()))
    agent.core = AgentCore(agent.policy)
    agent.tell(events.AgentStarted(agent.info, agent.disk.saved()))

    assert agent.disk.saved() == before
