"""What must hold all the time: each assertion fails when it is broken, at that moment, and says what led to it."""

from __future__ import annotations

import re

import pytest

from examples.one_leader import OneLeader
from runrig import TaskState, Wants, task
from runrig.errors import InvalidInput
from runrig.testing import Cluster, RealTask, SimulatedFramework, finishing


def test_what_does_not_hold_for_a_moment_is_found() -> None:
    cluster, web = given(3)
    cluster.always(lambda: web.count() == 3, "three are said to run")

    cluster.kill("agent-1")
    with pytest.raises(AssertionError) as failure:
        cluster.advance("1h")

    lines = str(failure.value).splitlines()
    assert lines[0] == "three are said to run: does not hold any more, at 0:01:15.000 (seed 5)"
    assert "  0:00:00.000  test       kill agent-1" in lines
    assert re.search(r"web +hears master: .*web\.\d\.0 TASK_UNREACHABLE", lines[-1])
    assert web.count() != 3


def test_what_holds_is_left_alone() -> None:
    cluster, web = given(3)
    cluster.always(lambda: len(cluster.running) <= 3, "three at most")
    cluster.always(lambda: web.is_up, "it is never down")

    cluster.restart("agent-1")
    cluster.advance("1d")

    assert web.count() == 3


def test_what_does_not_hold_from_the_beginning_is_said_at_once() -> None:
    cluster, web = given(3)

    with pytest.raises(AssertionError, match="four run: does not hold"):
        cluster.always(lambda: web.count() == 4, "four run")


def test_what_the_test_itself_breaks_is_found_at_that_time() -> None:
    cluster, web = given(1)
    cluster.always(lambda: web.is_up, "it is up")

    with pytest.raises(AssertionError, match=re.escape("it is up: does not hold any more, at 0:00:00.000")):
        cluster.kill("web")


def test_two_that_are_alike_are_found_when_the_second_starts() -> None:
    cluster, _ = given(1)
    cluster.never_two_alike()

    cluster.cut(cluster.truth.running()[0].agent_id)
    with pytest.raises(AssertionError) as failure:
        cluster.advance("1h")

    text = str(failure.value)
    assert text.startswith("never two alike: web: 2 run, at 0:01:15.000 (seed 5)\n")
    assert "web.0.0 of web on agent-1, since 0:00:00.000" in text
    assert "web.0.1 of web on agent-2, since 0:01:15.000" in text
    assert "test       cut agent-1" in text
    assert text.endswith("agent-2    really starts web.0.1")
    assert len(text.splitlines()) < 20
    assert all(len(line) <= 120 for line in text.splitlines())


def test_one_after_the_other_is_not_two_alike() -> None:
    cluster = Cluster()
    cluster.agents(2, script=finishing(60))
    cluster.run("web", kept)
    cluster.never_two_alike()

    cluster.advance("2h")

    assert len(cluster.starts) == 119, "each waits a second after the one before"


def test_those_that_run_already_count() -> None:
    cluster, _ = given(2)

    with pytest.raises(AssertionError, match="never two alike: web: 2 run"):
        cluster.never_two_alike()


def test_a_key_says_who_is_alike_and_who_does_not_count() -> None:
    def slot(real: RealTask) -> str | None:
        name, index, _ = real.key[1].split(".")
        return None if index == "0" else f"{name}.{index}"

    cluster, _ = given(3)
    cluster.never_two_alike(key=slot)
    [counted] = [each.agent_id for each in cluster.truth.running() if each.key[1] == "web.1.0"]

    cluster.cut(counted)
    with pytest.raises(AssertionError, match=r"never two alike: web\.[12]: 2 run"):
        cluster.advance("2m")


def test_a_task_without_a_name_needs_a_key() -> None:
    cluster, _ = given(1)
    unnamed = cluster.truth.running()[0]
    object.__setattr__(unnamed.spec, "name", "")

    with pytest.raises(InvalidInput, match=r"as web\.0\.0 has none: give TaskSpec a name, or the assertion a key"):
        cluster.never_two_alike()


def test_one_framework_is_looked_at_alone() -> None:
    cluster, web = given(1)
    cluster.never_more_than(1, of=web)
    cluster.never_two_alike(of="web")

    cluster.run("other", lambda: kept(3))

    assert len(cluster.running) == 4


def test_one_too_many_is_found() -> None:
    cluster, _ = given(2)
    cluster.never_more_than(3)

    with pytest.raises(AssertionError, match="never more than 3: 4 run"):
        cluster.run("other", lambda: kept(2))


def test_one_too_many_of_a_key_is_found() -> None:
    cluster, _ = given(2)
    cluster.never_more_than(3, key=lambda real: real.agent_id)

    with pytest.raises(AssertionError, match="never more than 3: agent-1: 4 run"):
        cluster.run("other", lambda: kept(2))


def test_an_agent_is_not_what_tasks_are_of() -> None:
    cluster, _ = given(1)

    with pytest.raises(InvalidInput, match="of: 'agent-1' is not allowed; allowed: a framework: web"):
        cluster.never_two_alike(of="agent-1")


def test_a_condition_that_does_not_come_true_fails_with_the_last_that_happened() -> None:
    cluster, web = given(1)

    with pytest.raises(AssertionError) as failure:
        cluster.until(lambda: web.count() == 2, within="5m")

    lines = str(failure.value).splitlines()
    assert lines[0] == "not within 5m (seed 5); the last that happened:"
    assert lines[-1].startswith("0:00:00.000  ")
    assert len(lines) == 9


def test_the_story_tells_of_one_process_or_task() -> None:
    cluster, _ = given(3)
    cluster.restart("agent-2")
    cluster.advance("1m")

    assert cluster.story(last=3).count("\n") == 2
    assert all("agent-2" in line for line in cluster.story(of="agent-2").splitlines())
    assert "dies" in cluster.story(of=cluster.agent("agent-2"))
    assert "really starts web.2.0" in cluster.story(of="web.2.0")
    assert cluster.story(of="nobody") == ""


def test_the_story_has_days() -> None:
    cluster, _ = given(1)
    cluster.advance("2d")

    cluster.kill("web")

    assert cluster.story(last=1) == "2d 0:00:00.000  web        dies"


def test_who_is_dead_knows_of_no_tasks() -> None:
    cluster, web = given(1)
    cluster.kill("web")

    with pytest.raises(AssertionError, match="web is dead and knows nothing"):
        web.count(TaskState.TASK_RUNNING)


def test_a_raw_framework_says_where_its_tasks_are_to_be_seen() -> None:
    raw = Cluster().run("leader", OneLeader)

    with pytest.raises(AssertionError, match="leader handles offers itself: see `running` of the cluster"):
        _ = raw.tasks


def given(count: int) -> tuple[Cluster, SimulatedFramework]:
    """Return a cluster of two agents on which so many tasks run, all on the first."""
    cluster = Cluster(seed=5)
    cluster.agents(2)
    web = cluster.run("web", lambda: kept(count))
    cluster.until(lambda: web.count() == count)
    return cluster, web


def kept(count: int = 1) -> Wants:
    wants = Wants()
    wants.keep("web", count, task("serve", cpus=0.5, mem="64M"))
    return wants
