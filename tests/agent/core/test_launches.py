from __future__ import annotations

from dataclasses import replace

import pytest

from runrig.agents import AgentChanged
from runrig.resources import Resources
from runrig.tasks import Fetch, Port, Reason, RuntimeKind, TaskSpec, TaskState, Volume
from runrig_agent.core import commands as do
from runrig_agent.core import events
from runrig_agent.core.admission import UnreadableTask
from tests.agent.core.given import (
    INFO,
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
    updates,
)


def test_a_launch_is_durable_before_the_task_starts() -> None:
    agent = registered()

    commands = agent.order(launch(process()))

    assert [type(command) for command in commands] == [do.Checkpoint, do.LaunchTask]
    assert commands[0] == do.Checkpoint(commands[0].changes, is_barrier=True)  # type: ignore[union-attr]
    [saved] = agent.disk.saved().tasks
    assert saved.record.spec == process()


def test_a_plain_process_says_running_and_finished_and_no_more() -> None:
    agent = registered()

    commands = agent.run(process()) + agent.tell(agent.ended(0))

    assert said(commands) == [("TASK_RUNNING", Reason.NONE), ("TASK_FINISHED", Reason.EXITED)]
    assert [update.number for update in updates(commands)] == [1, 2]


def test_an_end_that_overtakes_its_start_is_told_after_it() -> None:
    agent = registered()
    agent.order(launch(process()))

    commands = agent.tell(agent.ended(3), agent.started())

    assert said(commands) == [("TASK_RUNNING", Reason.NONE), ("TASK_FAILED", Reason.EXITED)]


def test_rule_12_a_second_launch_of_a_running_task_is_answered_with_its_state() -> None:
    agent = registered()
    agent.run(process())

    commands = agent.order(launch(process()))

    assert launched(commands) == []
    assert said(commands) == [("TASK_RUNNING", Reason.NONE)]


def test_rule_12_a_second_launch_before_the_first_has_started_says_staging() -> None:
    agent = registered()

    commands = agent.order(launch(process()), launch(process()))

    assert launched(commands) == ["t"]
    assert [(update.state, update.number) for update in updates(commands)] == [(TaskState.TASK_STAGING, 0)]


def test_rule_12_a_task_that_ended_and_was_acknowledged_does_not_start_again() -> None:
    agent = registered()
    agent.run(process())
    agent.tell(agent.ended(0))
    agent.order(acknowledge(2))

    commands = agent.order(launch(process()))

    assert launched(commands) == []
    assert said(commands) == [("TASK_FINISHED", Reason.EXITED)]


def test_rule_12_that_is_remembered_over_a_restart() -> None:
    agent = registered()
    agent.run(process())
    agent.tell(agent.ended(0))
    agent.order(acknowledge(2))
    agent.restart()
    agent.register()

    commands = agent.order(launch(process()))

    assert launched(commands) == []
    assert said(commands) == [("TASK_FINISHED", Reason.EXITED)]


def test_rule_4_an_invalid_task_is_an_error_and_the_rest_go_on() -> None:
    agent = registered()

    commands = agent.order(launch(replace(process("bad"), resources=Resources()), process("good")))

    assert launched(commands) == ["good"]
    assert said(commands) == [("TASK_ERROR", Reason.INVALID_TASK)]
    assert "resources" in updates(commands)[0].message


@pytest.mark.parametrize(
    "spec, state, reason, word",
    [
        (replace(process(), ports=(Port(31005),)), "TASK_ERROR", Reason.INVALID_TASK, "ports[0].host_port"),
        (
            replace(container(), volumes=(Volume("/etc", "/etc"),)),
            "TASK_ERROR",
            Reason.VOLUME_REFUSED,
            "/etc",
        ),
        (
            replace(container(), volumes=(Volume("/data/../etc", "/x"),)),
            "TASK_ERROR",
            Reason.VOLUME_REFUSED,
            "..",
        ),
        (
            replace(container(), volumes=(Volume("/database", "/x"),)),
            "TASK_ERROR",
            Reason.VOLUME_REFUSED,
            "(/data)",
        ),
        (process(cpu_millis=4001), "TASK_DROPPED", Reason.AGENT_REFUSED, "4001 needed, 4000 of 4000 left"),
        (process(ports=(30999,)), "TASK_DROPPED", Reason.AGENT_REFUSED, "[31000-31009]"),
    ],
)
def test_a_task_that_cannot_run_here_is_told_why(spec: TaskSpec, state: str, reason: Reason, word: str) -> None:
    agent = registered()

    commands = agent.order(launch(spec))

    assert launched(commands) == []
    assert said(commands) == [(state, reason)]
    assert word in updates(commands)[0].message


def test_a_volume_within_the_allow_list_is_admitted() -> None:
    agent = registered()

    commands = agent.order(launch(replace(container(), volumes=(Volume("/data/shop", "/x"),))))

    assert [command.key for command in of(do.PrepareTask, commands)] == [key()]


def test_two_tasks_cannot_hold_the_same_port() -> None:
    agent = registered()

    commands = agent.order(launch(process("a", ports=(31000,)), process("b", ports=(31000,))))

    assert launched(commands) == ["a"]
    assert said(commands) == [("TASK_DROPPED", Reason.AGENT_REFUSED)]


def test_what_an_ended_task_held_is_free_for_the_next() -> None:
    agent = registered()
    agent.run(process("a", cpu_millis=4000, ports=(31000,)))
    agent.tell(agent.ended(0, "a"))

    commands = agent.order(launch(process("b", cpu_millis=4000, ports=(31000,))))

    assert launched(commands) == ["b"]


def test_after_the_agent_shrank_what_does_not_fit_is_dropped() -> None:
    agent = registered()
    agent.run(process("a", cpu_millis=3000))
    small = replace(INFO, resources=Resources.parse("cpus:2;mem:4G"))
    agent.tell(events.AgentInfoChanged(small))

    commands = agent.order(launch(process("b")))

    assert said(commands) == [("TASK_DROPPED", Reason.AGENT_REFUSED)]


def test_without_docker_a_container_fails_with_what_to_do() -> None:
    agent = registered(info=replace(INFO, runtimes=(RuntimeKind.PROCESS,)))

    commands = agent.order(launch(container()))

    assert said(commands) == [("TASK_FAILED", Reason.RUNTIME_UNAVAILABLE)]
    assert "--runtime docker" in updates(commands)[0].message


def test_on_a_full_disk_nothing_is_started_and_no_runtime_is_on_offer() -> None:
    agent = registered()

    full = agent.tell(events.DiskChanged("the disk is full; free some"))
    refused = agent.order(launch(process()))
    back = agent.tell(events.DiskChanged(None))
    commands = agent.order(launch(process("t2")))

    assert [report.agent.runtimes for report in reports(full) if isinstance(report, AgentChanged)] == [()]
    [update] = updates(refused)
    assert (update.state, update.reason) == (TaskState.TASK_FAILED, Reason.DISK_FULL)
    assert update.message == "the disk is full; free some"
    assert launched(refused) == []
    assert [report.agent.runtimes for report in reports(back) if isinstance(report, AgentChanged)] == [INFO.runtimes]
    assert launched(commands) == ["t2"]


def test_files_and_images_are_brought_before_the_launch() -> None:
    agent = registered()
    spec = process(fetch=(Fetch("file:///data/x"),))

    first = agent.order(launch(spec))
    second = agent.tell(events.TaskPrepared(key()))

    assert of(do.PrepareTask, first) == [do.PrepareTask(key(), spec)]
    assert launched(first) == []
    assert launched(second) == ["t"]


def test_progress_is_told_at_once_and_then_not_too_often() -> None:
    agent = registered()
    agent.order(launch(container()))

    def pulling(percent: int, after: float) -> list[do.Command]:
        event = events.TaskProgressed(key(), Reason.PULLING_IMAGE, f"{percent} %")
        return agent.tell(event, after=after)

    told = [pulling(10, 0.0), pulling(20, 1.0), pulling(30, 1.0), agent.tick(3.0), agent.tick(100.0)]

    assert [[update.message for update in updates(commands)] for commands in told] == [
        ["10 %"],
        [],
        [],
        ["30 %"],
        [],
    ]


def test_a_task_that_could_not_start_says_why_and_leaves_nothing() -> None:
    agent = registered()
    agent.order(launch(process()))

    commands = agent.tell(events.TaskNotStarted(key(), Reason.START_FAILED, "no such file: /x"))

    assert said(commands) == [("TASK_FAILED", Reason.START_FAILED)]
    assert of(do.ForgetTask, commands) == [do.ForgetTask(key(), RuntimeKind.PROCESS, int(agent.now * 1000))]


def test_rule_20_events_of_a_task_that_has_ended_change_nothing() -> None:
    agent = registered()
    agent.run(process())
    agent.tell(agent.ended(0))

    commands = agent.tell(
        agent.ended(1),
        events.TaskPrepared(key()),
        events.TaskProgressed(key(), Reason.FETCHING, "x"),
        events.TaskNotStarted(key(), Reason.START_FAILED, "x"),
        events.TaskChecked(key(), 0, is_healthy=False),
    )

    assert commands == []


def test_rule_20_events_of_unknown_tasks_change_nothing() -> None:
    agent = registered()

    assert agent.tell(agent.started("never"), agent.ended(0, "never")) == []


def test_rule_13_a_kill_that_comes_first_wins() -> None:
    agent = registered()
    agent.order(kill())

    commands = agent.order(launch(process()))

    assert launched(commands) == []
    assert said(commands) == [("TASK_KILLED", Reason.KILLED_BEFORE_LAUNCH)]


def test_rule_13_a_kill_that_comes_first_wins_even_after_a_restart() -> None:
    agent = registered()
    agent.order(kill())
    agent.restart()
    agent.register()

    commands = agent.order(launch(process()))

    assert launched(commands) == []
    assert said(commands) == [("TASK_KILLED", Reason.KILLED_BEFORE_LAUNCH)]


def test_orders_of_a_session_that_is_over_start_nothing() -> None:
    agent = registered()

    commands = agent.tell(events.OrdersReceived(agent.session - 1, 7, (launch(process()),)))

    assert commands == []


def test_a_task_that_cannot_be_read_is_an_error_and_the_rest_go_on() -> None:
    agent = registered()
    bad = UnreadableTask(key("bad")[1], "", process().resources, (), "task bad.runtime: 99 is not allowed")

    commands = agent.order(replace(launch(), tasks=(bad, process("good"))))

    assert launched(commands) == ["good"]
    assert said(commands) == [("TASK_ERROR", Reason.INVALID_TASK)]
    assert updates(commands)[0].message == bad.problem


def test_an_agent_that_was_never_started_has_nothing_to_wait_for() -> None:
    assert Agent().core.next_deadline() is None
