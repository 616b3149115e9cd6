"""The tests that docs/testing.md shows: each of its blocks of code stands in a file here, or in examples/."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent, indent

import pytest

from examples.one_leader import OneLeader
from runrig import TaskSpec
from runrig.offers import LaunchableTask
from runrig.testing import Behaviour, Cluster, Recording, Weather, finishing, replay
from tests.examples.naive_leader import NaiveLeader, PatientLeader
from tests.examples.test_first import make_web
from tests.house.tree import ROOT

PAGE = (ROOT / "docs/testing.md").read_text()


def test_each_hour_has_its_run() -> None:
    cluster = Cluster()
    cluster.agents(1, script=finishing(3600))
    cluster.run("hourly", make_web)

    cluster.advance("1d")

    assert len(cluster.starts) == 4 * 24


def test_one_that_crashes_on_one_host_is_started_elsewhere() -> None:
    def crashes_on_big_ports(spec: LaunchableTask) -> Behaviour:
        assert isinstance(spec, TaskSpec)
        is_bad = spec.ports[0].host_port >= 31002
        return Behaviour(after_s=5, exit_code=1) if is_bad else Behaviour()

    cluster = Cluster()
    cluster.agents(2, "cpus:4;mem:8G;ports:[31000-31003]", crashes_on_big_ports)
    web = cluster.run("web", make_web)

    cluster.until(lambda: len(cluster.running) == 4 and web.count() == 4)

    assert cluster.nothing_started_twice()


def test_faults_by_name() -> None:
    cluster = Cluster()
    cluster.agents(3)
    web = cluster.run("web", make_web)
    cluster.until(lambda: web.count() == 4)

    cluster.restart("web")
    cluster.kill("master")
    cluster.advance("20s")
    cluster.start("master")
    cluster.freeze("agent-1")
    cluster.cut("agent-2", "out")
    cluster.weather = Weather(loss=0.05, delay_most_s=0.5)
    cluster.advance("50s")
    cluster.thaw("agent-1")
    cluster.heal("agent-2")
    cluster.weather = Weather()

    cluster.until(lambda: web.count() == 4)


def test_what_must_hold_all_the_time() -> None:
    cluster = Cluster(seed=7)
    cluster.agents(3)
    web = cluster.run("web", make_web)
    cluster.never_more_than(4, of=web, key=lambda task: task.agent_id)
    cluster.always(lambda: len(web.logic.failed) == 0, "nothing is given up")  # type: ignore[union-attr]

    cluster.storm(7)

    cluster.until(lambda: web.count() == 4)


def test_a_recorded_run_is_answered_as_it_was(tmp_path: Path) -> None:
    cluster = Cluster()
    cluster.agents(2)
    web = cluster.run("web", make_web)
    cluster.storm(11)
    web.recording().save(tmp_path / "web.jsonl")

    difference = replay(Recording.load(tmp_path / "web.jsonl"), make_web)

    assert difference is None, difference


def lead_through_a_storm(make: type[NaiveLeader | OneLeader], seed: int) -> None:
    cluster = Cluster(seed=seed)
    cluster.agents(3)
    cluster.run("leader", make)
    cluster.never_two_alike()
    cluster.storm(seed)
    cluster.until(lambda: len(cluster.running) == 1)


def test_there_is_one_leader_whatever_happens() -> None:
    for seed in range(100):
        lead_through_a_storm(OneLeader, seed)


def test_the_naive_leader_breaks_in_a_storm() -> None:
    failures = [failure_of(NaiveLeader, seed) for seed in range(100)]

    assert any(failure.startswith("never two alike: leader: 2 run") for failure in failures)


def failure_of(make: type[NaiveLeader | OneLeader], seed: int) -> str:
    try:
        lead_through_a_storm(make, seed)
    except AssertionError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("make", [PatientLeader, OneLeader])
def test_a_leader_out_of_reach_is_not_replaced(make: type[NaiveLeader | OneLeader]) -> None:
    cluster = Cluster()
    cluster.agents(3)
    cluster.run("leader", make)
    cluster.never_two_alike()

    cluster.cut("agent-1")
    cluster.advance("10m")

    assert [task_id for _, task_id in cluster.running] == ["leader-1"]


def test_a_launch_that_was_lost_is_noticed() -> None:
    cluster = Cluster()
    cluster.run("leader", OneLeader)
    cluster.cut("leader", "out")
    cluster.agents(1)
    cluster.advance("5m")
    cluster.heal("leader")

    cluster.until(lambda: len(cluster.running) == 1)


def test_a_launch_that_was_lost_is_not_noticed_by_the_naive_leader() -> None:
    cluster = Cluster()
    cluster.run("leader", PatientLeader)
    cluster.cut("leader", "out")
    cluster.agents(1)
    cluster.advance("5m")
    cluster.heal("leader")

    with pytest.raises(AssertionError, match="not within 10m"):
        cluster.until(lambda: len(cluster.running) == 1)


def test_the_patient_leader_answers_otherwise_where_the_naive_one_went_wrong() -> None:
    cluster = Cluster()
    cluster.agents(3)
    naive = cluster.run("leader", NaiveLeader)
    cluster.cut("agent-1")
    cluster.advance("10m")

    difference = replay(naive.recording(), PatientLeader)

    assert difference is not None
    assert "TASK_UNREACHABLE" in str(difference)
    assert shown("answered otherwise") == without_numbers(f"{difference}\n"), f"show this instead:\n{difference}"


# The page itself


def test_each_block_of_the_page_stands_in_a_file_that_is_tested() -> None:
    files = [
        "examples/one_leader.py",
        *(f"tests/examples/{name}.py" for name in ("naive_leader", "test_first", "test_howto")),
    ]
    texts = [(ROOT / path).read_text() for path in files]

    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

    assert len(blocks) >= 8
    assert [block for block in blocks if not any(stands_in(block, text) for text in texts)] == []


def test_the_page_shows_the_failure_as_it_is() -> None:
    with pytest.raises(AssertionError) as failure:
        test_a_leader_out_of_reach_is_not_replaced(NaiveLeader)

    assert shown("never two alike") == without_numbers(f"{failure.value}\n"), f"show this instead:\n{failure.value}"


def shown(beginning: str) -> str:
    """Return the block of the page that begins so, without its numbers."""
    [block] = re.findall(rf"```text\n({beginning}.*?)```", PAGE, re.DOTALL)
    return without_numbers(block)


def stands_in(block: str, text: str) -> bool:
    """Say whether each part of a block, as they are divided by `...`, stands in a file, indented or not."""
    return all(
        part.strip("\n") in text or indent(part, "    ").strip("\n") in text for part in dedent(block).split("...\n")
    )


def without_numbers(text: str) -> str:
    """Leave out what a change of the engine may change: times, numbers, the width of columns."""
    return re.sub(r"[ ]+", " ", re.sub(r"\d+", "0", text))
