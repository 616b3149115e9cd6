from __future__ import annotations

import pytest

from runrig.agents import Register, Registered
from runrig.offers import RefusalCode, StreamRefused
from runrig.tasks import RuntimeKind
from runrig_agent.core import commands as do
from runrig_agent.core import events
from tests.agent.core.given import Agent, launch, launched, of, process, registered, reports, signals


def opened(commands: list[do.Command]) -> list[str]:
    return [command.master for command in of(do.OpenStream, commands)]


def closed(agent: Agent, jitter: float = 1.0, refusal: StreamRefused | None = None) -> list[do.Command]:
    return agent.tell(events.StreamClosed(agent.session, "cut", jitter, refusal))


def wait(agent: Agent) -> float:
    """Return how long the agent waits before it does anything, and let that pass."""
    deadline = agent.core.next_deadline()
    assert deadline is not None
    return round(deadline - agent.now, 3)


def test_the_first_report_is_the_registration() -> None:
    agent = Agent()
    started = agent.start()

    [register] = reports(agent.tell(events.StreamOpened(agent.session)))

    assert opened(started) == ["m1:5055"]
    assert isinstance(register, Register)
    assert (register.session, register.epoch) == (1, 0)
    assert register.agent.runtimes == (RuntimeKind.DOCKER, RuntimeKind.PROCESS)


def test_the_session_is_durable_before_the_stream_is_opened() -> None:
    commands = Agent().start()

    kinds = [type(command) for command in commands]
    assert kinds.index(do.Checkpoint) < kinds.index(do.OpenStream)


def test_sessions_grow_with_each_connection_and_over_restarts() -> None:
    agent = registered()
    closed(agent)
    agent.tick(1.0)
    agent.restart()

    assert agent.session == 3


def test_an_agent_waits_before_it_connects_again_at_random_and_longer_each_time_up_to_15_s() -> None:
    agent = Agent()
    agent.start()

    waits = []
    for _ in range(7):
        closed(agent, jitter=1.0)
        waits.append(wait(agent))
        agent.tick(waits[-1])
    closed(agent, jitter=0.0)

    assert waits == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    assert wait(agent) == 1.5


def test_a_registration_makes_the_next_wait_short_again() -> None:
    agent = Agent()
    agent.start()
    for _ in range(5):
        closed(agent)
        agent.tick(20.0)
    agent.register()

    closed(agent)

    assert wait(agent) == 1.0


def test_masters_are_tried_in_turn() -> None:
    agent = Agent()
    tried = opened(agent.start())
    for _ in range(3):
        closed(agent)
        tried += opened(agent.tick(20.0))

    assert tried == ["m1:5055", "m2:5055", "m1:5055", "m2:5055"]


def test_a_leader_that_is_named_is_followed_at_once() -> None:
    agent = Agent()
    agent.start()
    agent.tell(events.StreamOpened(agent.session))

    refused = agent.order(StreamRefused(RefusalCode.NOT_LEADER, "not me", "m9:5055"), epoch=0)
    closed(agent)

    assert of(do.CloseStream, refused) == [do.CloseStream(agent.session, "not me")]
    assert opened(agent.tick(0.0)) == ["m9:5055"]


def test_standbys_that_name_each_other_are_not_asked_without_pause() -> None:
    agent = Agent()
    agent.start()
    for _ in range(2):
        closed(agent, refusal=StreamRefused(RefusalCode.NOT_LEADER, "", "m9:5055"))
        agent.tick(0.0)

    assert opened(agent.tick(1.9)) == []
    assert opened(agent.tick(0.2)) == ["m9:5055"]


def test_the_epoch_is_durable_before_orders_of_it_are_obeyed() -> None:
    agent = registered()

    commands = agent.order(launch(process()), epoch=8)

    assert isinstance(commands[0], do.Checkpoint)
    assert agent.disk.saved().epoch == 8


def test_orders_of_a_lower_epoch_are_refused_even_after_a_restart() -> None:
    agent = registered()
    agent.order(epoch=9)
    agent.restart()
    agent.tell(events.StreamOpened(agent.session))

    commands = agent.order(Registered("c", 1, 1), launch(process()), epoch=8)

    assert launched(commands) == []
    assert [command.session for command in of(do.CloseStream, commands)] == [agent.session]
    assert not agent.core.is_registered


def test_a_silent_master_is_left() -> None:
    agent = registered()

    agent.tick(74.0)
    agent.order()  # a heartbeat
    early = agent.tick(74.0)
    late = agent.tick(2.0)

    assert of(do.CloseStream, early) == []
    assert [command.session for command in of(do.CloseStream, late)] == [1]
    closed(agent)
    assert opened(agent.tick(1.0)) == ["m2:5055"]


def test_a_master_that_does_not_confirm_is_left_sooner() -> None:
    agent = Agent()
    agent.start()
    agent.tell(events.StreamOpened(agent.session))

    assert [command.session for command in of(do.CloseStream, agent.tick(15.0))] == [1]


def test_rule_20_a_stream_that_closes_twice_or_late_changes_nothing() -> None:
    agent = registered()
    closed(agent)
    first = agent.core.next_deadline()

    agent.tell(events.StreamClosed(1, "again", 0.0), events.StreamClosed(0, "old", 0.0))

    assert agent.core.next_deadline() == first


def test_rule_20_a_registration_that_is_confirmed_twice_sends_nothing_twice() -> None:
    agent = registered()
    agent.run(process())

    assert agent.order(Registered("c", 75_000, 15_000)) == []


@pytest.mark.parametrize("code", [RefusalCode.SUPERSEDED, RefusalCode.INVALID])
def test_after_a_final_refusal_the_agent_stops_and_its_tasks_run_on(code: RefusalCode) -> None:
    agent = registered()
    agent.run(process())

    commands = agent.order(StreamRefused(code, "agent.hostname: '' is not allowed"))
    closed(agent)

    [stop] = of(do.StopAgent, commands)
    assert stop.code is code
    assert signals(commands) == []
    assert opened(agent.tick(1000.0)) == []


def test_an_agent_that_is_gone_ends_its_tasks_before_it_stops() -> None:
    agent = registered()
    agent.run(process())

    refused = agent.order(StreamRefused(RefusalCode.GONE, "agent a1 was marked gone"))
    ended = agent.tell(agent.ended(143))

    assert of(do.StopAgent, refused) == []
    assert signals(refused) == [("t", 15)]
    [stop] = of(do.StopAgent, ended)
    assert "--work-dir" in stop.why


def test_after_any_other_refusal_the_agent_connects_again() -> None:
    agent = registered()
    agent.order(StreamRefused(RefusalCode.TOO_SLOW, "too slow"))
    closed(agent)

    assert opened(agent.tick(1.0)) == ["m2:5055"]


def test_the_master_says_how_often_it_wants_to_hear_from_the_agent() -> None:
    agent = Agent()
    agent.start()

    assert of(do.SetHeartbeat, agent.register()) == [do.SetHeartbeat(1, 15.0)]
