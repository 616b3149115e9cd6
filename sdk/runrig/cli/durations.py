"""Spans of time as people write them: 500ms, 10s, 5m, 2h, 1d, 1h30m."""

from __future__ import annotations

import re

import click

from runrig.errors import InvalidInput
from runrig.tasks import MAX_MILLISECONDS

MOST_S = MAX_MILLISECONDS // 1000
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def parse_duration(field: str, text: str | float) -> float:
    """Read a span as seconds, a bare number being seconds; raise InvalidInput naming `field`."""
    text = str(text).strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    if not _WHOLE.fullmatch(text):
        raise InvalidInput(field, text, "a time such as 500ms, 10s, 5m or 1h30m")
    return sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(text))


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read an option's value as seconds."""
        if isinstance(value, float):
            return value
        try:
            seconds = parse_duration(param.name or "duration" if param else "duration", str(value))
        except InvalidInput as error:
            self.fail(f"{value!r} is not {error.allowed}", param, ctx)
        if seconds > MOST_S:
            self.fail(f"{value!r} is not at most {MOST_S // 86_400}d", param, ctx)
        return seconds


DURATION = _Duration()
"""The type of a click option that is a span of time, in seconds."""
