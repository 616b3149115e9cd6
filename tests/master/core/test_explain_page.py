"""docs/explain.md shows what the code says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runrig.cli.explanation_text import print_explanation
from runrig.constraints import Operator
from runrig.explanations import SubjectKind
from runrig.ids import TaskId
from runrig.offers import Filter
from tests.master.core.cluster import World, agent, framework, given, launch_on, task
from tests.master.core.explaining import PATIENT, asked, on, states, want

PAGE = Path(__file__).parents[3] / "docs" / "explain.md"


def busy_cluster() -> World:
    """Return ten agents in two racks, nearly full of others' tasks; one of them is drained, one is held by an offer."""
    infos = (
        replace(
            agent(f"agent-{number}", cpus=4, mem_mib=8192, attributes=(("rack", "b" if number in (2, 3, 5) else "a"),)),
            hostname=f"agent-{number}",
        )
        for number in range(10)
    )
    world = given(*infos, framework("analytics"), settings=replace(PATIENT, offer_timeout_s=600.0))
    world.turn()
    for offer in world.offers("analytics"):
        if offer.agent_id != "agent-9":
            cpus = 3 if offer.agent_id == "agent-7" else 3.5
            spec = replace(task("t", cpus=cpus, mem_mib=2048), task_id=TaskId(f"report-{offer.agent_id[-1]}"))
            world.accept(launch_on(offer, spec), by="analytics", filter_=Filter(3_600_000, "enough for today"))
    world.drain("agent-0", notice_ms=900_000)
    states(
        world,
        want("render-17", cpus=1.2, mem_mib=512, count=12, constraints=(on("rack", Operator.EQUALS, "a"),)),
        by="batch",
    )
    world.turn(after=200.0)
    return world


def test_the_page_shows_what_explain_says(capsys: pytest.CaptureFixture[str]) -> None:
    world = busy_cluster()

    print_explanation(asked(world, SubjectKind.DEMAND, "render-17", "batch"), datetime.fromtimestamp(world.now, UTC))

    shown = PAGE.read_text().split("```\n", 2)[1]
    assert shown == f"$ runrig explain render-17\n{capsys.readouterr().out}"
