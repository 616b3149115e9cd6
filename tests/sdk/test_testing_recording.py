"""Recording what a scheduler was told and answered, and replaying it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from runrig import (
    AgentId,
    Answer,
    Decision,
    InvalidInput,
    OfferId,
    Put,
    Resources,
    Role,
    TaskId,
    TaskView,
    Wants,
    task,
)
from runrig.offers import (
    CallRefused,
    News,
    Offer,
    OffersMade,
    OffersRescinded,
    RefusalCode,
    RescindReason,
    StreamRefused,
    Subscribed,
    TaskReference,
    TasksRecovering,
    TasksUpdated,
)
from runrig.session import EnvelopeCame
from runrig.tasks import Reason, RuntimeKind, Source, StatusUpdate, TaskState
from runrig.testing import Cluster, Recording, SimulatedFramework, replay
from runrig.testing.steps_grpc import Codec


def test_a_recording_of_a_storm_is_answered_again_by_the_same_logic(tmp_path: Path) -> None:
    for seed in range(10):
        recording = stormy(seed).recording()
        recording.save(tmp_path / "web.jsonl")

        loaded = Recording.load(tmp_path / "web.jsonl")

        assert loaded.steps == recording.steps
        difference = replay(loaded, kept)
        assert difference is None, difference


def test_each_process_begins_with_what_was_durable() -> None:
    cluster = Cluster()
    cluster.agents(1)
    web = cluster.run("web", kept)
    cluster.restart("web")

    recording = web.recording()

    first, second = (step["event"] for step in recording.steps if "begun" in step["event"])
    assert first["entries"] == {}
    assert sorted(second["entries"]) == ["runrig/task/web.0.0", "runrig/task/web.1.0"]
    assert replay(recording, kept) is None


def test_another_logic_is_said_to_differ_where_it_first_does() -> None:
    web = calm()

    difference = replay(web.recording(), lambda: kept(cpus=0.25))

    assert difference is not None
    assert any("update_demand" in each.get("call", {}) for each in difference.recorded)
    lines = str(difference).splitlines()
    assert lines[0] == f"answered otherwise at step {difference.index}, 0.000 s after the beginning"
    assert lines[1].endswith("Subscribed")
    assert lines[2].endswith("update_demand.demands.0.demand_id")
    assert lines[3].split()[-1] != lines[4].split()[-1]


def test_what_a_logic_makes_durable_is_compared_and_shown_as_text() -> None:
    cluster = Cluster()
    asked = cluster.run("asked", lambda: Noted("one"))
    asked.tell("write")
    cluster.settle()

    difference = replay(asked.recording(), lambda: Noted("two"))

    assert difference is not None
    assert "where:     0.put.app/note" in str(difference)
    assert 'recorded:  "one"' in str(difference)
    assert 'answered:  "two"' in str(difference)


def test_a_logic_that_fails_is_told_the_step(tmp_path: Path) -> None:
    class Failing(Noted):
        def handle(self, event: object, now: float) -> list[Decision]:
            assert event != "write", "it fails"
            return []

    cluster = Cluster()
    asked = cluster.run("asked", lambda: Noted("one"))
    asked.tell("write")
    cluster.settle()

    with pytest.raises(AssertionError, match="it fails") as failure:
        replay(asked.recording(), lambda: Failing("one"))

    [note] = failure.value.__notes__
    assert note.startswith("at step ")
    assert note.endswith('{"is_own": false, "told": "write"}')


def test_what_a_logic_failed_at_is_the_last_step_of_its_recording() -> None:
    class Failing(Noted):
        def handle(self, event: object, now: float) -> list[Decision]:
            assert event != "write", "it fails"
            return []

    cluster = Cluster()
    asked = cluster.run("asked", lambda: Failing("one"))
    asked.tell("write")
    with pytest.raises(AssertionError, match="it fails"):
        cluster.settle()

    assert asked.recording().steps[-1]["event"]["told"] == "write"


# What is the author's own


@dataclass(frozen=True, slots=True)
class Question:
    """An author's event."""

    text: str
    words: tuple[str, ...] = ()


def test_an_authors_events_and_answers_are_written_as_the_author_says(tmp_path: Path) -> None:
    asked = with_questions()
    asked.recording(as_json).save(tmp_path / "asked.jsonl")
    loaded = Recording.load(tmp_path / "asked.jsonl")

    assert replay(loaded, lambda: Noted("one"), as_json, of_json) is None
    assert replay(loaded, lambda: Noted("two"), as_json, of_json) is not None


def test_without_a_word_of_the_author_its_events_are_refused() -> None:
    with pytest.raises(
        InvalidInput, match="to_json: None is not allowed; allowed: a function that makes plain JSON of Que"
    ):
        with_questions().recording()


def test_json_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"to_json\(...\): .* is not allowed; allowed: plain JSON"):
        with_questions().recording(lambda _: object())


def test_an_authors_events_are_not_read_without_a_word_of_the_author() -> None:
    recording = with_questions().recording(as_json)

    with pytest.raises(
        InvalidInput, match="from_json: None is not allowed; allowed: a function that makes the event of"
    ):
        replay(recording, lambda: Noted("one"), as_json)


@pytest.mark.parametrize("event", ["text", 7, 1.5, None, True, ["a", {"b": [1, None]}]])
def test_plain_json_needs_no_word(event: object) -> None:
    cluster = Cluster()
    asked = cluster.run("asked", lambda: Noted("one"))
    asked.tell(event)
    cluster.settle()

    assert replay(asked.recording(), lambda: Noted("one")) is None


def test_an_error_that_was_answered_is_written_by_its_kind_and_text() -> None:
    class Refusing(Noted):
        def handle(self, event: object, now: float) -> list[Decision]:
            return [Answer(event, InvalidInput("x", 1, "2"))] if event == "ask" else []

    cluster = Cluster()
    asked = cluster.run("asked", lambda: Refusing(""))
    with pytest.raises(InvalidInput):
        asked.ask("ask")

    answers = [each["answer"] for step in asked.recording().steps for each in step["answer"] if "answer" in each]

    assert answers == [{"error": "InvalidInput", "text": "x: 1 is not allowed; allowed: 2"}]


# The file

UPDATE = StatusUpdate(
    "f",  # type: ignore[arg-type]
    TaskId("t"),
    AgentId("a"),
    3,
    TaskState.TASK_FAILED,
    Reason.EXITED,
    Source.EXECUTOR,
    "it is said",
    5,
    False,
    2,
    RuntimeKind.DOCKER,
    "c",
    7,
    "1.2.3.4",
)
OFFER = Offer(
    OfferId("o"), AgentId("a"), "host", Role("r"), Resources(1, 2, ports=((1, 2),)), (("rack", "a"),), "", "h:1"
)


@pytest.mark.parametrize(
    "news",
    [
        Subscribed("f", "c", 1, 2, 3),  # type: ignore[arg-type]
        OffersMade((OFFER, replace(OFFER, offer_id=OfferId("p"), runtimes=(RuntimeKind.DOCKER,)))),
        OffersRescinded((OfferId("o"),), RescindReason.EXPIRED),
        TasksUpdated((UPDATE, replace(UPDATE, healthy=None, exit_code=None))),
        TasksRecovering((TaskReference(TaskId("t"), AgentId("a")),)),
        StreamRefused(RefusalCode.NOT_LEADER, "another", "h:2"),
        CallRefused("accept", "no"),
    ],
    ids=lambda news: type(news).__name__,
)
def test_all_news_comes_back_from_a_file(news: News) -> None:
    event = EnvelopeCame(2, 9, (news, news))

    written = json.dumps(Codec().write_event(event))

    assert Codec().read_event(json.loads(written)) == event


def test_what_a_later_version_adds_is_left_out() -> None:
    written: dict[str, Any] = {
        "news": [{"offers": {"offers": [{"offer_id": "o", "charm": 7}]}, "mood": "good"}], "stream": 1, "epoch": 1,
    }  # fmt: skip

    read = Codec().read_event(written)

    assert isinstance(read, EnvelopeCame)
    [made] = read.news
    assert isinstance(made, OffersMade)
    assert made.offers[0].offer_id == "o"


def test_settings_that_a_later_version_adds_or_leaves_out_do_no_harm() -> None:
    recording = calm().recording()
    settings = recording.steps[0]["event"]["settings"]
    settings["patience_s"] = 3
    del settings["reconcile_s"]

    assert replay(recording, kept) is None


@pytest.mark.parametrize(
    "spoil, complaint",
    [
        (lambda lines: ["nonsense", *lines[1:]], "line 1: 'nonsense' is not allowed; allowed: a line of JSON"),
        (lambda lines: ['{"other": 1}', *lines[1:]], "line 1: .* allowed: the head of a recording"),
        (lambda lines: ['{"runrig": "recording", "version": 2}', *lines[1:]], "version: 2 is not allowed; allowed: 1"),
        (lambda lines: [*lines, "{}"], "line .*: {} is not allowed; allowed: a step: at, event, answer"),
        (lambda lines: [lines[0], *lines[2:]], "line 2: .* allowed: the beginning of a process"),
        (lambda lines: lines[:1], "allowed: the beginning of a process"),
        (lambda _: [], "allowed: the head of a recording"),
    ],
)
def test_a_file_that_is_none_says_where(
    tmp_path: Path, spoil: Callable[[list[str]], list[str]], complaint: str
) -> None:
    path = tmp_path / "web.jsonl"
    calm().recording().save(path)
    path.write_text("\n".join(spoil(path.read_text().splitlines())))

    with pytest.raises(InvalidInput, match=complaint):
        Recording.load(path)


class Noted:
    """A logic that writes a text down and answers with it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def restore(self, entries: Mapping[str, bytes], tasks: Mapping[TaskId, TaskView], now: float) -> list[Decision]:
        return []

    def handle(self, event: object, now: float) -> list[Decision]:
        match event:
            case "write":
                return [Put("note", self.text.encode())]
            case Question():
                return [Answer(event, Question(self.text, event.words))]
            case _:
                return []


def with_questions() -> SimulatedFramework:
    cluster = Cluster()
    asked = cluster.run("asked", lambda: Noted("one"))
    assert asked.ask(Question("who?", ("a", "b"))) == Question("one", ("a", "b"))
    return asked


def as_json(own: Question) -> object:
    return [own.text, own.words]


def of_json(data: Any) -> Question:
    text, words = data
    return Question(text, tuple(words))


def calm() -> SimulatedFramework:
    """Return a framework that has started two tasks."""
    cluster = Cluster()
    cluster.agents(1)
    web = cluster.run("web", kept)
    cluster.advance("1h")
    assert web.count() == 2
    return web


def stormy(seed: int) -> SimulatedFramework:
    """Return a framework that went through a storm."""
    cluster = Cluster(seed=seed)
    cluster.agents(3)
    web = cluster.run("web", kept)
    cluster.storm(seed)
    cluster.until(lambda: web.count() == 2)
    return web


def kept(cpus: float = 1) -> Wants:
    wants = Wants()
    wants.keep("web", 2, task("serve", cpus=cpus, mem="64M", ports=1))
    return wants
