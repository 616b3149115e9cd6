from __future__ import annotations

from dataclasses import replace

from runrig.agents import Register, Registered, TaskNotHere
from runrig.tasks import CheckKind as Kind
from runrig.tasks import HealthCheck, Reason, TaskState
from runrig_agent.core import commands as do
from runrig_agent.core import events
from runrig_agent.core.effects import merged
from runrig_agent.core.task import TaskEnded
from tests.agent.core.given import (
    FRAMEWORK,
    POLICY,
    acknowledge,
    key,
    kill,
    launch,
    of,
    process,
    registered,
    reports,
    said,
    updates,
)


def numbers(commands: list[do.Command]) -> list[int]:
    return [update.number for update in updates(commands)]


def test_an_update_is_durable_before_it_is_told() -> None:
    agent = registered()
    agent.order(launch(process()))

    commands = agent.tell(agent.started())

    assert [type(command) for command in commands] == [do.Checkpoint, do.SendReports]
    assert of(do.Checkpoint, commands)[0].is_barrier


def test_an_update_is_told_again_after_10_s_and_then_twice_as_late_up_to_10_minutes() -> None:
    agent = registered()
    agent.run(process())

    seconds = []
    for second in range(1, 2500):
        agent.order()  # a heartbeat: the master is there, the framework is not
        if updates(agent.tick(1.0)):
            seconds.append(second)
    waits = [later - sooner for sooner, later in zip([0, *seconds], seconds, strict=False)]

    assert waits == [10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_a_later_update_does_not_wait_for_the_acknowledgement_of_an_earlier_one() -> None:
    agent = registered()
    agent.run(process())

    assert numbers(agent.tell(agent.ended(0))) == [2]


def test_acknowledgements_are_cumulative() -> None:
    agent = registered()
    agent.run(process())
    agent.tell(agent.ended(0))

    agent.order(acknowledge(2))

    assert updates(agent.tick(1000.0)) == []
    assert agent.disk.saved().tasks == ()
    assert len(agent.disk.saved().tombstones) == 1


def test_only_what_is_not_acknowledged_is_told_again() -> None:
    agent = registered()
    agent.run(process())
    agent.tell(agent.ended(0))
    agent.order(acknowledge(1))

    assert numbers(agent.tick(10.0)) == [2]


def test_rule_20_an_acknowledgement_that_comes_twice_or_late_changes_nothing() -> None:
    agent = registered()
    agent.run(process())
    agent.order(acknowledge(1))

    again = agent.order(acknowledge(1))
    agent.tell(agent.ended(0))
    late = agent.order(acknowledge(1))
    agent.order(acknowledge(2))
    after = agent.order(acknowledge(1), acknowledge(2))

    assert again == late == after == []


def test_an_acknowledgement_of_what_was_never_said_counts_for_what_was() -> None:
    agent = registered()
    agent.run(process())
    agent.order(acknowledge(99))

    assert numbers(agent.tell(agent.ended(0))) == [2]
    assert numbers(agent.tick(10.0)) == [2]


def test_the_acknowledgement_of_an_unknown_task_is_answered() -> None:
    agent = registered()

    assert reports(agent.order(acknowledge(1, "never"))) == [TaskNotHere(FRAMEWORK, key("never")[1])]


def test_what_is_lost_in_a_crash_without_a_barrier_costs_only_repetition() -> None:
    agent = registered()
    agent.run(process())
    agent.tell(agent.ended(0))

    commands = agent.order(acknowledge(2))

    assert [command.is_barrier for command in of(do.Checkpoint, commands)] == [False]


def test_without_a_master_updates_are_kept_and_told_at_registration() -> None:
    agent = registered()
    agent.order(launch(process()))
    agent.tell(events.StreamClosed(agent.session, "cut", jitter=0.5))

    silent = agent.tell(agent.started(), agent.ended(0))
    agent.tick(2.0)
    registering = agent.tell(events.StreamOpened(agent.session))
    confirmed = agent.order(Registered("c", 75_000, 15_000))

    assert reports(silent) == []
    [register] = reports(registering)
    assert isinstance(register, Register)
    assert [task.status.state for task in register.tasks] == [TaskState.TASK_FINISHED]
    assert numbers(confirmed) == [1, 2]


def test_unacknowledged_updates_survive_a_restart() -> None:
    agent = registered()
    agent.run(process())
    agent.tell(agent.ended(0))
    agent.order(acknowledge(1))

    agent.restart()
    commands = agent.register()

    assert numbers(commands) == [2]


def test_a_task_whose_updates_are_all_acknowledged_goes_on_counting_after_a_restart() -> None:
    agent = registered()
    agent.run(process())
    started = agent.started()
    agent.order(acknowledge(1))

    agent.restart(events.FoundTask(started))
    resent = agent.register()

    assert updates(resent) == []
    assert numbers(agent.tell(agent.ended(0))) == [2]


def test_registration_names_each_task_that_is_not_both_ended_and_acknowledged() -> None:
    agent = registered()
    for name in ("runs", "ended", "over"):
        agent.run(process(name))
    agent.tell(agent.ended(0, "ended"), agent.ended(0, "over"))
    agent.order(acknowledge(2, "over"), launch(process("new")))
    agent.tell(events.StreamClosed(agent.session, "cut", jitter=0.0))
    agent.tick(2.0)

    [register] = reports(agent.tell(events.StreamOpened(agent.session)))

    assert isinstance(register, Register)
    assert [(task.task_id, task.status.state, task.status.number) for task in register.tasks] == [
        ("runs", TaskState.TASK_RUNNING, 1),
        ("ended", TaskState.TASK_FINISHED, 2),
        ("new", TaskState.TASK_STAGING, 0),
    ]


def test_of_health_that_changes_all_the_time_only_the_latest_news_are_kept() -> None:
    agent = registered(replace(POLICY, unacknowledged_updates=5))
    agent.run(process(checks=(HealthCheck(Kind.TCP, port=80, grace_ms=0, max_consecutive_failures=0),)))

    for number in range(100):
        agent.tell(events.TaskChecked(key(), 0, is_healthy=number % 2 == 0))
    agent.tell(agent.ended(1))

    [saved] = agent.disk.saved().tasks
    assert len(saved.updates) == 5
    assert [update.state for update in (saved.updates[0], saved.updates[-1])] == [
        TaskState.TASK_RUNNING,
        TaskState.TASK_FAILED,
    ]
    assert saved.updates[0].number == 1


def test_tombstones_are_bounded() -> None:
    agent = registered(replace(POLICY, tombstones=2))
    for name in ("a", "b", "c"):
        agent.run(process(name))
        agent.tell(agent.ended(0, name))
        agent.order(acknowledge(2, name))

    assert [stone.key[1] for stone in agent.disk.saved().tombstones] == ["b", "c"]


def test_kills_of_unknown_tasks_do_not_make_the_agent_forget_what_it_ran() -> None:
    agent = registered(replace(POLICY, tombstones=2))
    agent.run(process("ran"))
    agent.tell(agent.ended(0, "ran"))
    agent.order(acknowledge(2, "ran"))

    agent.order(*(kill(f"never-{number}") for number in range(10)))

    assert said(agent.order(launch(process("ran")))) == [("TASK_FINISHED", Reason.EXITED)]
    assert len(agent.disk.saved().tombstones) == 3


def test_tombstones_are_kept_for_a_day() -> None:
    agent = registered()
    agent.run(process())
    agent.tell(agent.ended(0))
    agent.order(acknowledge(2))

    agent.tick(86_399.0)
    kept = len(agent.disk.saved().tombstones)
    agent.tick(2.0)

    assert (kept, len(agent.disk.saved().tombstones)) == (1, 0)


def test_a_batch_of_events_costs_one_checkpoint_and_one_envelope() -> None:
    agent = registered()
    agent.order(launch(*(process(f"t{number}", cpu_millis=1) for number in range(50))))
    batch: list[events.Event] = [agent.started(f"t{number}") for number in range(50)]
    ends: list[events.Event] = [TaskEnded(key(f"t{number}"), 0, 0) for number in range(50)]

    commands = merged(command for event in (*batch, *ends) for command in agent.core.handle(event, agent.now))

    assert len(of(do.Checkpoint, commands)) == 1
    assert len(of(do.SendReports, commands)) == 1
    assert len(reports(commands)) == 100
    assert isinstance(commands[0], do.Checkpoint)
