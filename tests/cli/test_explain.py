"""`runrig explain`: what an id may mean, what the master is asked, and how the answer reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from runrig._wire import explanation_to_wire
from runrig.constraints import Constraint, Operator
from runrig.demand import Demand
from runrig.explanations import (
    DeclineCount,
    DemandExplanation,
    Explanation,
    FunnelStep,
    NearMiss,
    SubjectKind,
    Verdict,
)
from runrig.ids import AgentId, FrameworkId, Role
from runrig.resources import Resources
from runrig.v1 import operator_pb2 as pb
from runrig.v1 import tasks_pb2
from tests.cli.conftest import Runrig
from tests.cli.fake_master import FakeMaster
from tests.cli.fake_rest import serving

EXPLANATION = Explanation(
    SubjectKind.DEMAND,
    "render-17",
    "12 tasks wait: no agent has 1.2 cpus free",
    (
        DemandExplanation(
            FrameworkId("f-1"),
            "batch",
            Role("eng/ads"),
            Demand("d", Resources(1200, 512), 12, (Constraint("rack", Operator.EQUALS, "a"),), port_count=1),
            Verdict.WAITS,
            "short of cpus",
            1_800_000_000_123,
            (
                FunnelStep("connected", 1, 9),
                FunnelStep("constraint rack EQUALS a", 0, 9),
                FunnelStep("free", 7, 2, "short by 0.2 cpus at best"),
                FunnelStep("quota", 2, 0, "eng: cpus, 4 of 4"),
            ),
            (NearMiss(AgentId("a7"), "agent-7", "free", "short by 0.2 cpus", Resources(200)),),
            ("ask for 1 cpu",),
        ),
    ),
    ("the offers of the role are exclusive",),
    (DeclineCount("too\x1b[31m small", 7, 1_800_000_000_456),),
)
WAITING: dict[str, Any] = {
    "framework_id": "f-1",
    "group": "render-17",
    "count": 12,
    "task_ids": ["render-17.0.1", "render-17.1.1"],
    "declines": [{"reason": "nothing more fits", "count": 3}],
}


@pytest.fixture
def rest(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Serve both frameworks: the job render-17 and the app /shop/web, both of which wait."""
    answers: dict[str, Any] = {
        "/v2/apps": {"apps": [{"id": "/shop/web"}]},
        "/v2/waiting/shop/web": {**WAITING, "group": "/shop/web", "task_ids": ["shop_web.instance-ab-1"]},
        "/v1/jobs": {"jobs": [{"id": "render-17"}]},
        "/v1/jobs/render-17/waiting": dict(WAITING),
    }
    with serving(answers) as url:
        monkeypatch.setenv("RUNRIG_SERVICE", url)
        monkeypatch.setenv("RUNRIG_BATCH", url)
        yield answers


@pytest.fixture
def known(master: FakeMaster, rest: dict[str, Any]) -> FakeMaster:
    """Let the master know one of each kind, and explain anything."""
    master.explanation = explanation_to_wire(EXPLANATION)
    master.agents = [pb.Agent(agent_id="id-1", hostname="agent-1")]
    master.frameworks = [pb.Framework(framework_id="f-1", name="batch", state=pb.FRAMEWORK_STATE_ACTIVE)]
    master.roles = [pb.Role(role="eng/ads")]
    master.tasks = [pb.Task(task_id="render-17.5.1", framework_id="f-1", state=tasks_pb2.TASK_RUNNING)]
    return master


def request(kind: pb.SubjectKind.ValueType, identity: str, framework_id: str = "") -> pb.ExplainRequest:
    return pb.ExplainRequest(kind=kind, id=identity, framework_id=framework_id)


@pytest.mark.parametrize(
    "words, expected",
    [
        (("agent-1",), request(pb.SUBJECT_KIND_AGENT, "id-1")),
        (("id-",), request(pb.SUBJECT_KIND_AGENT, "id-1")),
        (("agent", "agent-1"), request(pb.SUBJECT_KIND_AGENT, "id-1")),
        (("batch",), request(pb.SUBJECT_KIND_FRAMEWORK, "f-1")),
        (("framework", "f-"), request(pb.SUBJECT_KIND_FRAMEWORK, "f-1")),
        (("eng/ads",), request(pb.SUBJECT_KIND_ROLE, "eng/ads")),
        (("role", "eng/ads"), request(pb.SUBJECT_KIND_ROLE, "eng/ads")),
        (("render-17.5.1",), request(pb.SUBJECT_KIND_TASK, "render-17.5.1", "f-1")),
        (("task", "render-17.5"), request(pb.SUBJECT_KIND_TASK, "render-17.5.1", "f-1")),
        (("render-17",), request(pb.SUBJECT_KIND_DEMAND, "render-17", "f-1")),
        (("job", "render"), request(pb.SUBJECT_KIND_DEMAND, "render-17", "f-1")),
        (("/shop/web",), request(pb.SUBJECT_KIND_DEMAND, "/shop/web", "f-1")),
        (("shop/web",), request(pb.SUBJECT_KIND_DEMAND, "/shop/web", "f-1")),
        (("app", "shop/web"), request(pb.SUBJECT_KIND_DEMAND, "/shop/web", "f-1")),
        (("task", "render-17.1.1"), request(pb.SUBJECT_KIND_DEMAND, "render-17", "f-1")),
        (("render-17.0.1",), request(pb.SUBJECT_KIND_DEMAND, "render-17", "f-1")),
        (("shop_web.instance-ab-1",), request(pb.SUBJECT_KIND_DEMAND, "/shop/web", "f-1")),
    ],
)
def test_an_id_means_what_has_it_and_of_a_job_or_an_app_what_waits(
    known: FakeMaster, runrig: Runrig, words: tuple[str, ...], expected: pb.ExplainRequest
) -> None:
    result = runrig("explain", *words)

    assert result.exit_code == 0, result.stderr
    assert known.told == [expected]


def test_what_may_be_several_things_is_asked_again_with_its_kind(known: FakeMaster, runrig: Runrig) -> None:
    known.roles.append(pb.Role(role="agent-1"))

    result = runrig("explain", "agent-1")

    assert result.exit_code == 2
    assert "`runrig explain agent id-1`, `runrig explain role agent-1`" in result.stderr
    assert runrig("explain", "role", "agent-1").exit_code == 0


def test_a_framework_wins_over_the_role_that_is_named_like_it(known: FakeMaster, runrig: Runrig) -> None:
    known.roles.append(pb.Role(role="batch"))

    result = runrig("explain", "batch")

    assert known.told == [request(pb.SUBJECT_KIND_FRAMEWORK, "f-1")]
    assert "runrig explain role batch" in result.stderr


def test_what_nobody_knows_ends_with_3(known: FakeMaster, runrig: Runrig) -> None:
    for words in (("nope",), ("task", "nope"), ("job", "nope"), ("app", "nope"), ("role", "nope"), ("agent", "nope")):
        result = runrig("explain", *words)
        assert (result.exit_code, "'nope'" in result.stderr or "'/nope'" in result.stderr) == (3, True), words
    assert known.told == []


@pytest.mark.parametrize("words", [("thing", "x"), ("job", "a", "b")])
def test_a_kind_that_is_none_ends_with_2(known: FakeMaster, runrig: Runrig, words: tuple[str, ...]) -> None:
    result = runrig("explain", *words)

    assert result.exit_code == 2
    assert "task, agent, framework, role, job, app" in result.stderr


def test_the_masters_own_are_explained_when_no_framework_answers(
    known: FakeMaster, runrig: Runrig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RUNRIG_SERVICE", "RUNRIG_BATCH"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert runrig("explain", "agent-1").exit_code == 0
    missing, job = runrig("explain", "render-18"), runrig("explain", "job", "render-17")
    assert (missing.exit_code, job.exit_code) == (3, 4)
    assert "no batch framework answers" in missing.stderr
    assert "no batch framework answers" in job.stderr


def test_the_sentence_comes_first_then_the_funnel_and_what_would_help(known: FakeMaster, runrig: Runrig) -> None:
    result = runrig("explain", "job", "render-17")

    lines = result.stdout.splitlines()
    assert lines[0] == "12 tasks wait: no agent has 1.2 cpus free"
    assert lines[2].startswith("batch wants 12 x cpus:1.2;mem:512M, 1 port, rack EQUALS a in role eng/ads")
    assert [line.split() for line in lines[4:8]] == [
        ["PREDICATE", "TURNED", "AWAY", "LEFT", "WHY"],
        ["connected", "1", "9", "-"],
        ["constraint", "rack", "EQUALS", "a", "0", "9", "-"],
        ["free", "7", "2", "short", "by", "0.2", "cpus", "at", "best"],
    ]
    assert "agent-7  free       short by 0.2 cpus" in result.stdout
    assert "What would help:\n  ask for 1 cpu\n" in result.stdout
    assert "too?[31m small" in result.stdout
    assert result.stderr.splitlines() == [
        "see: runrig agents ls",
        "see: runrig tasks ls",
        "see: runrig quota ls",
        "see: runrig batch show render-17",
    ]


def test_json_has_all_of_it_and_what_waits(known: FakeMaster, runrig: Runrig) -> None:
    job = json.loads(runrig("explain", "job", "render-17", "-o", "json").stdout)
    agent = json.loads(runrig("explain", "agent-1", "-o", "json").stdout)

    assert (job["kind"], job["id"], job["summary"]) == ("job", "render-17", EXPLANATION.summary)
    assert job["waiting"] == {name: WAITING[name] for name in ("framework_id", "group", "count", "task_ids")}
    assert {**agent, "kind": "demand", "waiting": None} == {**EXPLANATION.as_json(), "waiting": None}


def test_the_frameworks_own_declines_are_told_when_the_master_knows_of_none(known: FakeMaster, runrig: Runrig) -> None:
    assert known.explanation is not None
    del known.explanation.declines[:]

    assert "nothing more fits" in runrig("explain", "render-17").stdout


def test_a_job_of_which_nothing_waits_is_said_to_be_so(known: FakeMaster, rest: dict[str, Any], runrig: Runrig) -> None:
    rest["/v1/jobs/render-17/waiting"] = {**WAITING, "count": 0, "task_ids": []}
    rest["/v2/waiting/shop/web"] = {**WAITING, "framework_id": None}

    job, app = runrig("explain", "render-17"), runrig("explain", "/shop/web", "-o", "json")

    assert job.stdout.startswith("nothing of job render-17 waits for an offer\n")
    assert json.loads(app.stdout)["summary"] == "the framework of app /shop/web has not reached a master yet"
    assert known.told == []


def test_what_the_master_has_not_been_told_yet_is_said_to_be_so(known: FakeMaster, runrig: Runrig) -> None:
    known.refusal = (grpc.StatusCode.NOT_FOUND, "there is no demand 'render-17'")

    result = runrig("explain", "render-17")

    assert result.exit_code == 0
    assert result.stdout.startswith("12 of job render-17 wait in their framework, and no demand of it at the master")


def test_a_framework_that_answers_something_else_is_named(
    known: FakeMaster, rest: dict[str, Any], runrig: Runrig
) -> None:
    rest["/v1/jobs/render-17/waiting"] = {"hello": 1}

    result = runrig("explain", "job", "render-17")

    assert result.exit_code == 4
    assert "is it a batch framework of this version?" in result.stderr


def test_a_master_that_cannot_explain_says_so(known: FakeMaster, runrig: Runrig) -> None:
    known.explanation = None
    unknown = runrig("explain", "agent-1")
    known.explanation, known.refusal = pb.ExplainResponse(), (grpc.StatusCode.NOT_FOUND, "there is no agent 'id-1'")
    missing = runrig("explain", "agent-1")

    assert (unknown.exit_code, missing.exit_code) == (5, 3)
    assert "does not know this call" in unknown.stderr
