"""What a scheduler is told and answers, as JSON: messages of the wire as protobuf writes them, the rest by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, assert_never

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from runrig._turn import Persist
from runrig._wire import add_call, add_news, framework_from_wire, framework_to_wire, news_from_wire
from runrig.errors import InvalidInput
from runrig.offers import Call, FrameworkInfo, News
from runrig.scheduler import SchedulerCommand, SchedulerEvent, SchedulerSettings, Told, TurnEnded
from runrig.session import (
    CloseStream,
    Ended,
    EnvelopeCame,
    Heard,
    Lost,
    OpenStream,
    Started,
    StreamClosed,
    StreamOpened,
    Transmit,
)
from runrig.v1 import scheduler_pb2
from runrig.wants import Answer

Json = dict[str, Any]
TURN_ENDED: Json = {"turn": "ended"}
ToJson = Callable[[Any], Any]
"""Makes plain JSON of an author's own event or answer."""
FromJson = Callable[[Any], Any]
"""Makes the author's own event of that JSON."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A process of the framework begins, with the entries that were durable."""

    framework: FrameworkInfo
    entries: Mapping[str, bytes]
    settings: SchedulerSettings = field(default_factory=SchedulerSettings)


class Codec:
    """Both directions, with the author's part in it."""

    def __init__(self, to_json: ToJson | None = None, from_json: FromJson | None = None) -> None:
        self._to_json = to_json
        self._from_json = from_json

    def write_event(self, event: Begun | SchedulerEvent) -> Json:
        """Return what a scheduler was told; raise InvalidInput for what is the author's and cannot be written."""
        match event:
            case Begun():
                framework = _as_json(framework_to_wire(event.framework))
                return {"begun": framework, "entries": _packed(event.entries), "settings": asdict(event.settings)}
            case Started():
                return {"started": event.number}
            case StreamOpened():
                return {"opened": event.stream}
            case EnvelopeCame():
                return {"news": [_news(each) for each in event.news], "stream": event.stream, "epoch": event.epoch}
            case StreamClosed():
                return {"closed": event.stream, "why": event.why, "jitter": event.jitter}
            case Told():
                return {"told": self._own(event.event), "is_own": not _is_plain(event.event)}
            case TurnEnded():
                return TURN_ENDED
            case _:
                assert_never(event)

    def read_event(self, data: Json) -> Begun | SchedulerEvent:
        """Make of what was written what a scheduler is told; raise InvalidInput if that cannot be done."""
        match data:
            case {"begun": framework, "entries": entries, "settings": settings}:
                known = {each.name: settings[each.name] for each in fields(SchedulerSettings) if each.name in settings}
                return Begun(_framework(framework), _unpacked(entries), SchedulerSettings(**known))
            case {"started": number}:
                return Started(number)
            case {"opened": stream}:
                return StreamOpened(stream)
            case {"news": news, "stream": stream, "epoch": epoch}:
                return EnvelopeCame(stream, epoch, tuple(_news_of(each) for each in news))
            case {"closed": stream, "why": why, "jitter": jitter}:
                return StreamClosed(stream, why, jitter)
            case {"told": own, "is_own": False}:
                return Told(own)
            case {"told": own} if self._from_json is not None:
                return Told(self._from_json(own))
            case {"told": own}:
                raise InvalidInput("from_json", None, f"a function that makes the event of {json.dumps(own)}")
            case _ if data == TURN_ENDED:
                return TurnEnded()
            case _:
                raise InvalidInput("event", data, "what a recording of this version holds")

    def write_command(self, command: SchedulerCommand) -> Json:
        """Return what a scheduler answered."""
        match command:
            case Transmit():
                return {"call": _call(command.call), "stream": command.stream}
            case Persist():
                return {"put": _packed(command.puts), "delete": list(command.deletes)}
            case OpenStream():
                return {"open": command.stream, "leader": command.leader}
            case CloseStream():
                return {"close": command.stream, "why": command.why}
            case Answer():
                return {"answer": self._own(command.value)}
            case Lost():
                return {"lost": command.why}
            case Ended():
                return {"ended": _error(command.error)}
            case Heard():
                return {"heard": _news(command.news)}
            case _:
                assert_never(command)

    def _own(self, value: Any) -> Any:
        """Return the JSON of what is the author's."""
        if _is_plain(value):
            return value
        if isinstance(value, Exception):
            return _error(value)
        if self._to_json is None:
            raise InvalidInput("to_json", None, f"a function that makes plain JSON of {value!r}")
        made = self._to_json(value)
        try:
            return json.loads(json.dumps(made))  # as it comes back from a file: tuples are lists there
        except TypeError:
            raise InvalidInput("to_json(...)", made, "plain JSON: numbers, texts, lists, dicts, None") from None


def _is_plain(value: Any) -> bool:
    """Say whether `value` comes back from JSON as it is."""
    match value:
        case list():
            return all(_is_plain(each) for each in value)
        case dict():
            return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
        case _:
            return value is None or type(value) in (str, int, float, bool)


def _error(error: Exception) -> Json:
    return {"error": type(error).__name__, "text": str(error)}


def _as_json(message: Any) -> Json:
    return MessageToDict(message, preserving_proto_field_name=True)


def _news(news: News) -> Json:
    envelope = scheduler_pb2.SchedulerServiceConnectResponse()
    add_news(envelope, news)
    return _as_json(envelope.events[0])


def _news_of(data: Json) -> News:
    return news_from_wire(_parsed(data, scheduler_pb2.SchedulerEvent()))


def _call(call: Call) -> Json:
    envelope = scheduler_pb2.SchedulerServiceConnectRequest()
    add_call(envelope, call)
    return _as_json(envelope.calls[0])


def _framework(data: Json) -> FrameworkInfo:
    return framework_from_wire(_parsed(data, scheduler_pb2.FrameworkInfo()))


def _parsed(data: Json, message: Any) -> Any:
    try:
        return ParseDict(data, message, ignore_unknown_fields=True)
    except ParseError as error:
        raise InvalidInput("event", data, f"a message of the wire: {error}") from None


def _packed(entries: Mapping[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(value).decode() for key, value in entries.items()}


def _unpacked(entries: Mapping[str, str]) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in entries.items()}
