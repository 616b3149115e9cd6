from __future__ import annotations

from runrig.agents import TaskNotHere
from runrig.tasks import Fetch, Reason, TaskState
from runrig_agent.core import commands as do
from runrig_agent.core import events
from runrig_agent.core.task import SIGKILL, SIGTERM
from tests.agent.core.given import (
    FRAMEWORK,
    SHUTDOWN,
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


def test_rule_13_sigterm_then_sigkill_after_the_grace_and_again_until_it_is_gone() -> None:
    agent = registered()
    agent.run(process(kill_grace_ms=2000))

    asked = agent.order(kill())
    steps = [agent.tick(1.9), agent.tick(0.2), agent.tick(5.0), agent.tick(5.0)]
    gone = agent.tell(agent.ended(137))

    assert said(asked) == [("TASK_KILLING", Reason.KILLED_BY_FRAMEWORK)]
    assert signals(asked) == [("t", SIGTERM)]
    assert [signals(step) for step in steps] == [[], [("t", SIGKILL)], [("t", SIGKILL)], [("t", SIGKILL)]]
    assert said(gone) == [("TASK_KILLED", Reason.KILLED_BY_FRAMEWORK)]
    assert updates(gone)[0].exit_code == 137
    assert signals(agent.tick(100.0)) == []


def test_the_wish_to_kill_is_durable_before_the_signal() -> None:
    agent = registered()
    agent.run(process())

    commands = agent.order(kill())

    assert [type(command) for command in commands] == [do.Checkpoint, do.SendReports, do.SignalTask]
    [saved] = agent.disk.saved().tasks
    assert saved.ending is not None
    assert saved.ending.deadline == agent.now + 3.0


def test_rule_13_a_second_kill_shortens_the_grace() -> None:
    agent = registered()
    agent.run(process())
    agent.order(kill(grace_ms=60_000))

    second = agent.order(kill(grace_ms=1000), after=5.0)
    then = agent.tick(1.0)

    assert signals(second) == []
    assert signals(then) == [("t", SIGKILL)]


def test_rule_13_a_second_kill_without_grace_kills_at_once() -> None:
    agent = registered()
    agent.run(process())
    agent.order(kill(grace_ms=60_000))

    assert signals(agent.order(kill(grace_ms=0))) == [("t", SIGKILL)]


def test_rule_13_a_second_kill_never_lengthens_the_grace() -> None:
    agent = registered()
    agent.run(process())
    agent.order(kill(grace_ms=1000))

    agent.order(kill(grace_ms=60_000), kill())

    assert signals(agent.tick(1.0)) == [("t", SIGKILL)]


def test_a_kill_without_grace_sends_sigkill_first() -> None:
    agent = registered()
    agent.run(process())

    assert signals(agent.order(kill(grace_ms=0))) == [("t", SIGKILL)]


def test_rule_13_the_kill_of_an_unknown_task_is_answered() -> None:
    agent = registered()

    commands = agent.order(kill("never"))

    assert reports(commands) == [TaskNotHere(FRAMEWORK, key("never")[1])]


def test_the_kill_of_a_task_that_ended_is_answered_with_its_end() -> None:
    agent = registered()
    agent.run(process())
    agent.tell(agent.ended(0))

    before = agent.order(kill())
    agent.order(acknowledge(2))
    after = agent.order(kill())

    assert said(before) == said(after) == [("TASK_FINISHED", Reason.EXITED)]


def test_a_kill_while_files_are_fetched_cancels_that() -> None:
    agent = registered()
    agent.order(launch(process(fetch=(Fetch("file:///data/x"),))))

    commands = agent.order(kill())
    late = agent.tell(events.TaskPrepared(key()))

    assert of(do.CancelPreparation, commands) == [do.CancelPreparation(key())]
    assert said(commands) == [("TASK_KILLED", Reason.KILLED_BEFORE_LAUNCH)]
    assert launched(late) == []


def test_a_kill_while_the_task_is_launched_waits_for_its_start() -> None:
    agent = registered()
    agent.order(launch(process()))

    asked = agent.order(kill())
    began = agent.tell(agent.started())
    ended = agent.tell(agent.ended(143))

    assert signals(asked) == []
    assert signals(began) == [("t", SIGTERM)]
    assert said(asked + began + ended) == [
        ("TASK_KILLING", Reason.KILLED_BY_FRAMEWORK),
        ("TASK_KILLED", Reason.KILLED_BY_FRAMEWORK),
    ]


def test_a_kill_while_the_task_is_launched_and_fails_to_start_is_a_kill() -> None:
    agent = registered()
    agent.order(launch(process()))
    agent.order(kill())

    commands = agent.tell(events.TaskNotStarted(key(), Reason.START_FAILED, "no such file"))

    assert said(commands) == [("TASK_KILLED", Reason.KILLED_BEFORE_LAUNCH)]


def test_a_task_that_finished_before_it_was_asked_to_end_has_finished() -> None:
    agent = registered()
    agent.run(process())
    ended = agent.ended(0)
    agent.now += 1.0
    agent.order(kill())

    assert said(agent.tell(ended)) == [("TASK_FINISHED", Reason.EXITED)]


def test_a_task_that_ends_well_after_sigterm_was_killed() -> None:
    agent = registered()
    agent.run(process())
    agent.order(kill())

    assert said(agent.tell(agent.ended(0))) == [("TASK_KILLED", Reason.KILLED_BY_FRAMEWORK)]


def test_rule_8_an_end_never_changes() -> None:
    agent = registered()
    agent.run(process())
    agent.tell(agent.ended(0))

    agent.order(kill())
    agent.tell(agent.ended(137))

    assert agent.disk.saved().tasks[0].updates[-1].state is TaskState.TASK_FINISHED


def test_a_task_that_runs_too_long_fails() -> None:
    agent = registered()
    agent.run(process(max_run_ms=10_000))
    agent.order(acknowledge(1))

    early, due = agent.tick(9.9), agent.tick(0.2)
    ended = agent.tell(agent.ended(143))

    assert early == []
    assert said(due) == [("TASK_KILLING", Reason.MAX_RUN_TIME)]
    assert signals(due) == [("t", SIGTERM)]
    assert said(ended) == [("TASK_FAILED", Reason.MAX_RUN_TIME)]


def test_how_a_task_ended_is_told() -> None:
    agent = registered()
    ends = {"a": (3, {}), "b": (139, {}), "c": (None, {}), "d": (137, {"is_out_of_memory": True})}
    for name, (code, more) in ends.items():
        agent.run(process(name))
        ends[name] = (code, more)

    commands = [
        command for name, (code, more) in ends.items() for command in agent.tell(agent.ended(code, name, **more))
    ]

    assert said(commands) == [
        ("TASK_FAILED", Reason.EXITED),
        ("TASK_FAILED", Reason.SIGNALED),
        ("TASK_LOST", Reason.STATUS_UNAVAILABLE),
        ("TASK_FAILED", Reason.OUT_OF_MEMORY),
    ]
    assert [update.message for update in updates(commands)] == [
        "exit code 3",
        "ended by SIGSEGV (exit code 139)",
        "it is gone, and nobody knows how it ended",
        "it used more than its 32 MiB of memory",
    ]


def test_rule_16_the_tasks_of_a_framework_that_was_shut_down_are_killed_and_forgotten() -> None:
    agent = registered()
    agent.run(process("runs"))
    agent.order(launch(container("pulls")))
    agent.run(process("over"))
    agent.tell(agent.ended(0, "over"))

    asked = agent.order(SHUTDOWN)
    ended = agent.tell(agent.ended(143, "runs"))

    assert signals(asked) == [("runs", SIGTERM)]
    assert ("TASK_KILLED", Reason.FRAMEWORK_REMOVED) in said(asked)
    assert said(ended) == [("TASK_KILLED", Reason.FRAMEWORK_REMOVED)]
    assert agent.disk.saved().tasks == ()
    assert updates(agent.tick(1000.0)) == []


def test_a_framework_that_is_shut_down_twice_is_no_matter() -> None:
    agent = registered()
    agent.run(process())
    agent.order(SHUTDOWN)

    assert signals(agent.order(SHUTDOWN)) == []


def test_a_kill_goes_on_after_a_restart() -> None:
    agent = registered()
    agent.run(process())
    started = agent.started()
    agent.order(kill(grace_ms=10_000))

    soon = agent.restart(events.FoundTask(started))
    agent.now += 10.0
    late = agent.restart(events.FoundTask(started))

    assert signals(soon) == [("t", SIGTERM)]
    assert signals(late) == [("t", SIGKILL)]
