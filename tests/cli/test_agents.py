"""`runrig agents` and `runrig drain`: taking hosts out and in again."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from runrig.v1 import operator_pb2 as pb
from runrig.v1 import resources_pb2
from tests.cli.conftest import Runrig
from tests.cli.fake_master import FakeMaster


def agents(*names: str) -> list[pb.Agent]:
    return [pb.Agent(agent_id=f"id-{name}", hostname=name, state=pb.AGENT_STATE_ACTIVE, tasks=2) for name in names]


def test_several_agents_are_deactivated_and_activated_at_once(master: FakeMaster, runrig: Runrig) -> None:
    master.agents = agents("one", "two")

    result = runrig("agents", "deactivate", "one", "two", "id-one")

    assert result.stdout == "id-one\nid-two\n"
    assert "runrig agents activate one two" in result.stderr
    assert master.told == [pb.DeactivateAgentRequest(agent_id=f"id-{name}") for name in ("one", "two")]


def test_nothing_is_done_when_one_of_the_agents_is_not_known(master: FakeMaster, runrig: Runrig) -> None:
    master.agents = agents("one")

    for words in (("agents", "deactivate"), ("agents", "gone"), ("drain",), ("agents", "maintenance", "--clear")):
        result = runrig(*words, "one", "nope")
        assert result.exit_code == 3, words
        assert "no agent 'nope'" in result.stderr
    assert master.told == []


def test_a_drain_tells_how_long_there_is_to_leave(master: FakeMaster, runrig: Runrig) -> None:
    master.agents = agents("one", "two")

    result = runrig("drain", "one", "two", "--notice", "5m", "--grace", "1500ms", "--then-gone")
    runrig("drain", "one")

    assert result.stdout == "id-one\nid-two\n"
    assert master.told == [
        pb.DrainAgentRequest(agent_id="id-one", notice_ms=300_000, grace_ms=1500, then_gone=True),
        pb.DrainAgentRequest(agent_id="id-two", notice_ms=300_000, grace_ms=1500, then_gone=True),
        pb.DrainAgentRequest(agent_id="id-one"),
    ]


def test_a_drain_that_is_waited_for_ends_when_all_are_empty(master: FakeMaster, runrig: Runrig) -> None:
    master.agents = agents("one")

    result = runrig("drain", "one", "--wait")

    assert (result.exit_code, result.stderr) == (0, "")


def test_a_drain_that_takes_too_long_ends_with_124_and_goes_on(master: FakeMaster, runrig: Runrig) -> None:
    master.agents, master.drains_to = agents("one"), pb.AGENT_STATE_DRAINING
    master.agents[0].drain_deadline_unix_ms = 1_800_000_000_000

    result = runrig("drain", "one", "--wait", "--timeout", "0s")

    assert result.exit_code == 124
    assert "one: draining, 2 tasks left, killed at 2027-01-15T08:00:00.000Z" in result.stderr
    assert "the drain goes on" in result.stderr


def test_a_drain_that_somebody_else_ends_is_a_conflict(master: FakeMaster, runrig: Runrig) -> None:
    master.agents, master.drains_to = agents("one"), pb.AGENT_STATE_ACTIVE

    result = runrig("drain", "one", "--wait")

    assert result.exit_code == 5
    assert "one was activated meanwhile" in result.stderr


def test_maintenance_begins_in_a_while_or_at_a_time(master: FakeMaster, runrig: Runrig) -> None:
    master.agents = agents("one", "two")

    result = runrig("agents", "maintenance", "one", "two", "--start", "2h", "--for", "30m")
    runrig("agents", "maintenance", "one", "--start", "2030-01-01T00:00:00Z")
    runrig("agents", "maintenance", "one", "--clear")

    assert result.stdout == "id-one\nid-two\n"
    soon, later, never = master.told
    assert isinstance(soon, pb.SetUnavailabilityRequest)
    begin = datetime.fromtimestamp(soon.unavailability.start_unix_ms / 1000, UTC)
    assert abs(begin - datetime.now(UTC) - timedelta(hours=2)) < timedelta(minutes=1)
    assert soon.unavailability.duration_ms == 1_800_000
    assert list(soon.agent_ids) == ["id-one", "id-two"]
    away = resources_pb2.Unavailability(start_unix_ms=1_893_456_000_000)
    assert later == pb.SetUnavailabilityRequest(agent_ids=["id-one"], unavailability=away)
    assert never == pb.SetUnavailabilityRequest(agent_ids=["id-one"])


@pytest.mark.parametrize(
    "words, said",
    [
        (("agents", "maintenance", "one"), "--clear alone"),
        (("agents", "maintenance", "one", "--clear", "--start", "1h"), "--clear alone"),
        (("agents", "maintenance", "one", "--clear", "--for", "1h"), "--clear alone"),
        (("agents", "maintenance", "one", "--start", "soon"), "--start: 'soon'"),
        (("agents", "maintenance", "one", "--start", "1900-01-01"), "a time between 1970 and 9999"),
        (("agents", "maintenance", "one", "--start", f"{10**15}d"), "a time between 1970 and 9999"),
        (("agents", "maintenance", "one", "--start", f"{10**400}d"), "a time between 1970 and 9999"),
        (("agents", "maintenance", "one", "--start", "1h", "--for", "0"), "at least 1ms"),
        (("agents", "maintenance", "one", "--start", "1h", "--for", "99999d"), "at most 3650d"),
        (("drain", "one", "--notice", "-1s"), "'-1s' is not a time"),
        (("drain", "one", "--notice", f"{10**300}d"), "at most 3650d"),
        (("drain", "one", "--timeout", "1s"), "only together with --wait"),
        (("drain",), "Missing argument"),
    ],
)
def test_a_time_that_cannot_be_ends_with_2_and_says_why(
    master: FakeMaster, runrig: Runrig, words: tuple[str, ...], said: str
) -> None:
    master.agents = agents("one")

    result = runrig(*words)

    assert result.exit_code == 2
    assert said in result.stderr
    assert master.told == []


def test_an_agent_is_shown_with_its_drain_its_time_away_and_what_it_keeps(master: FakeMaster, runrig: Runrig) -> None:
    [one] = master.agents = agents("one")
    one.drain_deadline_unix_ms = 1_800_000_000_000
    one.unavailability.start_unix_ms, one.unavailability.duration_ms = 1_800_000_000_000, 60_000
    kept = one.reservations.add()
    kept.reservation.reservation_id = "db"
    kept.volumes.add(task_id="t").volume.volume_id = "data"

    found = json.loads(runrig("agents", "show", "one", "-o", "json").stdout)
    shown = runrig("agents", "show", "one").stdout

    assert found["drain_deadline"] == "2027-01-15T08:00:00.000Z"
    assert found["unavailability"] == {"start": "2027-01-15T08:00:00.000Z", "duration_ms": 60_000}
    assert found["reservations"][0]["volumes"][0]["task_id"] == "t"
    assert "2027-01-15T08:00:00.000Z to 2027-01-15T08:01:00.000Z" in shown
    assert "data" in shown


def test_an_agent_of_an_older_master_is_neither_drained_nor_away(master: FakeMaster, runrig: Runrig) -> None:
    master.agents = agents("one")

    found = json.loads(runrig("agents", "show", "one", "-o", "json").stdout)

    assert (found["drain_deadline"], found["unavailability"], found["reservations"]) == (None, None, [])
