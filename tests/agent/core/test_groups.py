from __future__ import annotations

from dataclasses import replace

from runrig.resources import Resources
from runrig.tasks import Fetch, Reason
from runrig_agent.core import commands as do
from runrig_agent.core import events
from runrig_agent.core.events import FoundTask
from tests.agent.core.given import (
    Agent,
    container,
    key,
    kill,
    launch,
    launched,
    of,
    process,
    registered,
    said,
    signals,
    updates,
)


def running_group(*names: str) -> Agent:
    agent = registered()
    agent.order(launch(*(process(name) for name in names), is_group=True))
    for name in names:
        agent.tell(agent.started(name))
    return agent


def test_members_start_together_when_the_last_is_prepared() -> None:
    agent = registered()

    first = agent.order(launch(process("a"), process("b", fetch=(Fetch("file:///data/x"),)), is_group=True))
    second = agent.tell(events.TaskPrepared(key("b")))

    assert launched(first) == []
    assert launched(second) == ["a", "b"]


def test_when_one_fails_the_others_are_killed() -> None:
    agent = running_group("a", "b", "c")

    failed = agent.tell(agent.ended(1, "b"))
    ended = agent.tell(agent.ended(143, "a"), agent.ended(143, "c"))

    assert signals(failed) == [("a", 15), ("c", 15)]
    assert said(failed)[0] == ("TASK_FAILED", Reason.EXITED)
    assert said(ended) == [("TASK_KILLED", Reason.TASK_GROUP_ENDED)] * 2
    assert "b" in updates(ended)[0].message


def test_when_one_finishes_the_others_go_on() -> None:
    agent = running_group("a", "b")

    assert signals(agent.tell(agent.ended(0, "a"))) == []


def test_when_one_is_killed_the_others_end_with_it() -> None:
    agent = running_group("a", "b")
    agent.order(kill("a"))

    assert signals(agent.tell(agent.ended(143, "a"))) == [("b", 15)]


def test_rule_4_one_invalid_member_fails_all() -> None:
    agent = registered()

    commands = agent.order(
        launch(process("a"), replace(process("b"), resources=Resources()), process("c"), is_group=True)
    )

    assert launched(commands) == []
    assert said(commands) == [
        ("TASK_ERROR", Reason.TASK_GROUP_REFUSED),
        ("TASK_ERROR", Reason.INVALID_TASK),
        ("TASK_ERROR", Reason.TASK_GROUP_REFUSED),
    ]


def test_a_group_that_does_not_fit_as_a_whole_is_refused_as_a_whole() -> None:
    agent = registered()

    commands = agent.order(launch(process("a", 3000), process("b", 3000), is_group=True))
    after = agent.order(launch(process("c", 4000)))

    assert said(commands) == [
        ("TASK_DROPPED", Reason.TASK_GROUP_REFUSED),
        ("TASK_DROPPED", Reason.AGENT_REFUSED),
    ]
    assert launched(after) == ["c"]


def test_rule_12_a_group_that_is_launched_twice_starts_once() -> None:
    agent = running_group("a", "b")

    commands = agent.order(launch(process("a"), process("b"), is_group=True))

    assert launched(commands) == []
    assert said(commands) == [("TASK_RUNNING", Reason.NONE)] * 2


def test_a_group_with_a_member_that_was_launched_before_is_refused() -> None:
    agent = registered()
    agent.run(process("a"))

    commands = agent.order(launch(process("a"), process("b"), is_group=True))

    assert launched(commands) == []
    assert said(commands) == [("TASK_RUNNING", Reason.NONE), ("TASK_ERROR", Reason.TASK_GROUP_REFUSED)]


def test_rule_13_a_member_killed_before_the_launch_ends_the_group() -> None:
    agent = registered()
    agent.order(kill("b"))

    commands = agent.order(launch(process("a"), process("b"), is_group=True))

    assert launched(commands) == []
    assert said(commands) == [("TASK_KILLED", Reason.KILLED_BEFORE_LAUNCH)] * 2


def test_when_one_cannot_be_prepared_none_is_started() -> None:
    agent = registered()
    agent.order(launch(container("a"), process("b"), container("c"), is_group=True))

    commands = agent.tell(events.TaskNotStarted(key("a"), Reason.IMAGE_UNAVAILABLE, "no such image"))

    assert launched(commands) == []
    assert said(commands) == [
        ("TASK_FAILED", Reason.IMAGE_UNAVAILABLE),
        ("TASK_KILLED", Reason.TASK_GROUP_ENDED),
        ("TASK_KILLED", Reason.TASK_GROUP_ENDED),
    ]
    assert of(do.CancelPreparation, commands)[-1] == do.CancelPreparation(key("c"))


def test_a_group_of_which_a_part_was_started_before_a_crash_ends() -> None:
    agent = registered()
    agent.order(launch(process("a"), process("b"), is_group=True))
    started = agent.started("a")

    commands = agent.restart(FoundTask(started)) + agent.register()

    assert ("TASK_DROPPED", Reason.LAUNCH_LOST) in said(commands)
    assert ("a", 15) in signals(commands)
