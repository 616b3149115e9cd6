"""Record what a scheduler was told and what it answered; replay it against another version of its logic.

    recording = web.recording()
    recording.save("web.jsonl")

    difference = replay(Recording.load("web.jsonl"), make_web)
    assert difference is None, difference

A recording is lines of JSON. What the master said and what it was told stand there as protobuf writes its messages in
JSON, so that a later version of Runrig reads them; an author's own events stand there as the author says.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runrig.errors import InvalidInput
from runrig.raw import RawLogic, RawScheduler
from runrig.scheduler import Scheduler, SchedulerCommand, SchedulerEvent
from runrig.session import EnvelopeCame
from runrig.testing.messages import all_said
from runrig.testing.steps_grpc import TURN_ENDED, Begun, Codec, FromJson, Json, ToJson
from runrig.wants import Logic

AnyLogic = Logic | RawLogic
HEAD = {"runrig": "recording", "version": 1}
LENGTH_MOST = 300
"""So much of what was told and answered a difference shows, in characters."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a scheduler was told at `at` (seconds since 1970), and what it answered."""

    at: float
    event: Begun | SchedulerEvent
    answer: Sequence[SchedulerCommand]


def scheduler_of(begun: Begun, logic: AnyLogic, now: float) -> Scheduler | RawScheduler:
    """Begin a process: a scheduler over `logic`, with the entries that were durable."""
    if isinstance(logic, RawLogic):
        return RawScheduler(begun.framework, logic, begun.entries, now)
    return Scheduler(begun.framework, logic, begun.entries, now, begun.settings)


class Recording:
    """All that the schedulers of one framework were told and answered, process after process."""

    def __init__(self, steps: Sequence[Json]) -> None:
        """Take `steps` as they stand in the file."""
        self.steps = steps

    def __len__(self) -> int:
        return len(self.steps)

    @classmethod
    def of(cls, steps: Sequence[Step], to_json: ToJson | None = None) -> Recording:
        """Write steps down; raise InvalidInput for an author's event when there is no `to_json` for it."""
        codec = Codec(to_json)
        return cls([{"at": step.at, **_written(codec, step.event, step.answer)} for step in steps])

    def save(self, path: str | Path) -> None:
        """Write the recording to a file, one step a line."""
        lines = [json.dumps(each, sort_keys=True) for each in (HEAD, *self.steps)]
        Path(path).write_text("\n".join(lines) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        """Read a recording; raise InvalidInput that names the line which is none."""
        lines = [_line(path, number, line) for number, line in enumerate(Path(path).read_text().splitlines(), start=1)]
        head, *steps = lines or [None]
        _check_head(path, head)
        for number, step in enumerate(steps, start=2):
            if not isinstance(step, dict) or not {"at", "event", "answer"} <= step.keys():
                raise InvalidInput(f"{path}, line {number}", step, "a step: at, event, answer")
        if not steps or "begun" not in steps[0]["event"]:
            raise InvalidInput(f"{path}, line 2", steps[:1], "the beginning of a process")
        return cls(steps)


def _line(path: str | Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        raise InvalidInput(f"{path}, line {number}", line, "a line of JSON") from None


def _check_head(path: str | Path, head: object) -> None:
    if not isinstance(head, dict) or head.get("runrig") != "recording":
        raise InvalidInput(f"{path}, line 1", head, f"the head of a recording: {json.dumps(HEAD)}")
    if head.get("version") != HEAD["version"]:
        raise InvalidInput(
            f"{path}, version", head.get("version"), f"{HEAD['version']}: replay with the Runrig it is of"
        )


def _written(codec: Codec, event: Begun | SchedulerEvent, answer: Sequence[SchedulerCommand]) -> Json:
    return {"event": codec.write_event(event), "answer": [codec.write_command(command) for command in answer]}


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a replay first answered otherwise: at step `index`, counted from 0; what stood there, and what came."""

    index: int
    at: float
    after_s: float
    """How long after the first step."""
    event: Json
    """What the scheduler was told last."""
    recorded: Sequence[Json]
    answered: Sequence[Json]

    def __str__(self) -> str:
        place, recorded, answered = _first_difference(
            [_readable(each) for each in self.recorded], [_readable(each) for each in self.answered]
        )
        return "\n".join(
            (
                f"answered otherwise at step {self.index}, {self.after_s:.3f} s after the beginning",
                f"  told:      {_told(self.event)}",
                f"  where:     {'.'.join(place)}",
                f"  recorded:  {recorded}",
                f"  answered:  {answered}",
            )
        )


def replay(
    recording: Recording,
    make_logic: Callable[[], AnyLogic],
    to_json: ToJson | None = None,
    from_json: FromJson | None = None,
) -> Difference | None:
    """Tell a fresh scheduler and logic what was recorded; return where the answers first differ, None if nowhere.

    `make_logic` makes the logic of each process that was recorded. `from_json` makes the author's own events of what
    `to_json` made of them. Raises InvalidInput when it is needed and missing, and whatever the logic raises, with the
    step at which it did.

    Example:
        >>> from runrig import Wants, task
        >>> from runrig.testing import Cluster, replay
        >>> def make_web() -> Wants:
        ...     wants = Wants()
        ...     wants.keep("web", 2, task("serve"))
        ...     return wants
        >>> cluster = Cluster()
        >>> _ = cluster.agents(1)
        >>> web = cluster.run("web", make_web)
        >>> print(replay(web.recording(), make_web))
        None
    """
    codec = Codec(to_json, from_json)
    scheduler: Scheduler | RawScheduler | None = None
    told: Json = {}
    for index, step in enumerate(recording.steps):
        told = told if step["event"] == TURN_ENDED else step["event"]
        event, at = codec.read_event(step["event"]), step["at"]
        try:
            if isinstance(event, Begun):
                scheduler = scheduler_of(event, make_logic(), at)
                continue
            assert scheduler is not None, "a recording begins with the beginning of a process"
            commands = scheduler.handle(event, at)
        except Exception as error:
            error.add_note(f"at step {index} of the recording: {_shown(step['event'])}")
            raise
        answer = [codec.write_command(command) for command in commands]
        if answer != step["answer"]:
            after_s = at - recording.steps[0]["at"]
            return Difference(index, at, after_s, told, step["answer"], answer)
    return None


def _told(event: Json) -> str:
    """Say what a scheduler was told: the master's news in words."""
    read = Codec().read_event(event) if "news" in event else None
    return all_said(read.news) if isinstance(read, EnvelopeCame) else _shown(event)


def _first_difference(recorded: Any, answered: Any) -> tuple[list[str], str, str]:
    """Return where two answers first differ, and what stands there in each."""
    for key in _keys(recorded, answered):
        left, right = _part(recorded, key), _part(answered, key)
        if left != right:
            place, *both = _first_difference(left, right)
            return [str(key), *place], both[0], both[1]
    return [], _shown(recorded), _shown(answered)


def _keys(left: Any, right: Any) -> Sequence[Any]:
    if isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
        return sorted(left)
    if isinstance(left, list) and isinstance(right, list):
        return range(max(len(left), len(right)))
    return ()


def _part(whole: Any, key: Any) -> Any:
    if isinstance(whole, list):
        return whole[key] if key < len(whole) else None
    return whole.get(key)


def _readable(command: Json) -> Json:
    """Return a command with entries as people read them: as JSON or text, if they are that."""
    return (
        {**command, "put": {key: _entry(value) for key, value in command["put"].items()}}
        if "put" in command
        else command
    )


def _entry(packed: str) -> Any:
    data = base64.b64decode(packed)
    try:
        return json.loads(data)
    except ValueError:
        return data.decode(errors="replace")


def _shown(data: object) -> str:
    if data is None:
        return "nothing"
    text = json.dumps(data, sort_keys=True)
    return text if len(text) <= LENGTH_MOST else f"{text[: LENGTH_MOST - 1]}…"
