"""Persistent volumes: who may use them, and when their data goes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from runrig.agents import DestroyAgentVolume, Register, VolumeDestroyed
from runrig.tasks import Reason, TaskSpec, Terms, Volume
from runrig_agent.core import commands as do
from runrig_agent.core import events
from runrig_agent.core.admission import UnreadableTask
from tests.agent.core.given import (
    POLICY,
    Agent,
    container,
    key,
    launch,
    of,
    process,
    registered,
    reports,
    said,
    updates,
)

TERMS = Terms(reservation_id="ssd", group="db", priority=7)


def keeper(task_id: str = "t", volume_id: str = "data") -> TaskSpec:
    """Describe a process that uses a persistent volume."""
    return replace(process(task_id), volumes=(Volume("", "store", volume_id=volume_id),), terms=TERMS)


def begun(agent: Agent, spec: TaskSpec) -> list[do.Command]:
    """Launch a task that is to be prepared, and let it start."""
    commands = agent.order(launch(spec))
    return commands + agent.tell(events.TaskPrepared(key(spec.task_id)), agent.started(spec.task_id))


def deletions(commands: Iterable[do.Command]) -> list[str]:
    """Return the volumes whose data is to be deleted."""
    return [command.volume_id for command in of(do.DeleteVolume, commands)]


def destroyed(commands: Iterable[do.Command]) -> list[object]:
    """Return the volumes that the master is told to be gone."""
    return [report.volume_id for report in reports(commands) if isinstance(report, VolumeDestroyed)]


def test_a_persistent_volume_needs_no_list_that_allows_it() -> None:
    agent = registered(replace(POLICY, allowed_volumes=()))

    commands = agent.order(launch(replace(container(), volumes=(Volume("", "/data", volume_id="data"),))))

    assert [command.key for command in of(do.PrepareTask, commands)] == [key()]


@pytest.mark.parametrize(
    "volume, word",
    [
        (Volume("/data", "store", volume_id="data"), "host_path"),
        (Volume("", "store", volume_id="../data"), "volume_id"),
        (Volume("", "../store", volume_id="data"), "container_path"),
        (Volume("", "", volume_id="data"), "container_path"),
    ],
)
def test_a_persistent_volume_that_cannot_be_is_an_error_that_names_the_field(volume: Volume, word: str) -> None:
    agent = registered()

    commands = agent.order(launch(replace(process(), volumes=(volume,))))

    assert said(commands) == [("TASK_ERROR", Reason.VOLUME_REFUSED)]
    assert word in updates(commands)[0].message


def test_a_volume_is_said_to_be_destroyed_when_its_data_is_gone_and_not_before() -> None:
    agent = registered()

    commands = agent.order(DestroyAgentVolume("data"))
    later = agent.tell(events.VolumeDeleted("data"))

    assert (deletions(commands), destroyed(commands)) == (["data"], [])
    assert destroyed(later) == ["data"]


def test_a_volume_is_destroyed_only_after_the_task_that_uses_it() -> None:
    agent = registered()
    begun(agent, keeper())

    commands = agent.order(DestroyAgentVolume("data"))
    ended = agent.tell(agent.ended(0))

    assert deletions(commands) == []
    assert said(ended) == [("TASK_FINISHED", Reason.EXITED)]
    assert deletions(ended) == ["data"]


def test_the_end_of_a_task_leaves_its_volume() -> None:
    agent = registered()
    begun(agent, keeper())

    commands = agent.tell(agent.ended(0))

    assert deletions(commands) == []


def test_rule_20_a_destruction_that_is_asked_twice_is_done_once_and_one_asked_later_is_answered() -> None:
    agent = registered()

    commands = agent.order(DestroyAgentVolume("data"), DestroyAgentVolume("data"))
    agent.tell(events.VolumeDeleted("data"))
    again = agent.order(DestroyAgentVolume("data"))

    assert deletions(commands) == ["data"]
    assert deletions(again) == ["data"]
    assert destroyed(agent.tell(events.VolumeDeleted("data"))) == ["data"]


def test_what_cannot_be_deleted_is_tried_again() -> None:
    agent = registered()
    agent.order(DestroyAgentVolume("data"))

    commands = agent.tell(events.VolumeDeleted("data", "data/mounted: Device or resource busy"))
    early = agent.tick(POLICY.volume_retry_s - 1)
    due = agent.tick(2)

    assert destroyed(commands) == []
    assert (deletions(early), deletions(due)) == ([], ["data"])
    assert destroyed(agent.tell(events.VolumeDeleted("data"))) == ["data"]


def test_a_task_does_not_start_on_a_volume_that_is_being_destroyed() -> None:
    agent = registered()
    agent.order(DestroyAgentVolume("data"))

    commands = agent.order(launch(keeper()))

    assert said(commands) == [("TASK_DROPPED", Reason.AGENT_REFUSED)]
    assert "is being destroyed" in updates(commands)[0].message


def test_a_destroyed_volume_can_be_made_anew() -> None:
    agent = registered()
    agent.order(DestroyAgentVolume("data"))
    agent.tell(events.VolumeDeleted("data"))

    commands = agent.order(launch(keeper()))

    assert [command.key for command in of(do.PrepareTask, commands)] == [key()]


def test_one_task_at_a_time_uses_a_volume() -> None:
    agent = registered()

    commands = agent.order(launch(keeper("a"), keeper("b"), keeper("c", "other")))

    assert [command.key[1] for command in of(do.PrepareTask, commands)] == ["a", "c"]
    assert said(commands) == [("TASK_DROPPED", Reason.AGENT_REFUSED)]


def test_the_next_task_uses_it_when_the_first_has_ended() -> None:
    agent = registered()
    begun(agent, keeper("a"))
    agent.tell(agent.ended(0, "a"))

    commands = agent.order(launch(keeper("b")))

    assert [command.key[1] for command in of(do.PrepareTask, commands)] == ["b"]


def test_tasks_of_one_group_do_not_share_a_volume() -> None:
    agent = registered()

    commands = agent.order(launch(keeper("a"), keeper("b"), is_group=True))

    assert of(do.PrepareTask, commands) == []
    assert [state for state, _ in said(commands)] == ["TASK_DROPPED", "TASK_DROPPED"]


def test_a_task_that_was_restored_keeps_its_volume() -> None:
    agent = registered()
    begun(agent, keeper())
    agent.restart(events.FoundTask(agent.started()))
    agent.register()

    destroy = agent.order(DestroyAgentVolume("data"))
    taken = agent.order(launch(keeper("b")))

    assert deletions(destroy) == []
    assert said(taken) == [("TASK_DROPPED", Reason.AGENT_REFUSED)]
    assert deletions(agent.tell(agent.ended(0))) == ["data"]


def test_registration_says_terms_and_volumes_of_tasks_after_a_restart() -> None:
    agent = registered()
    begun(agent, keeper())
    agent.restart(events.FoundTask(agent.started()))

    [register] = [each for each in reports(agent.register()) if isinstance(each, Register)]

    [task] = register.tasks
    assert (task.terms, task.volume_ids) == (TERMS, ("data",))


def test_a_task_that_cannot_be_read_is_reported_on_its_terms_and_takes_no_volume() -> None:
    agent = registered()
    spec = keeper("bad")
    unreadable = UnreadableTask(spec.task_id, "", spec.resources, (), "of a newer version", TERMS, ("data",))
    agent.order(replace(launch(), tasks=(unreadable,)))

    destroy = agent.order(DestroyAgentVolume("data"))
    agent.restart()
    [register] = [each for each in reports(agent.register()) if isinstance(each, Register)]

    assert deletions(destroy) == ["data"]
    assert [(task.terms, task.volume_ids) for task in register.tasks] == [(TERMS, ("data",))]
