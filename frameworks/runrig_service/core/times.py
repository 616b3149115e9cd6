"""Instants as the REST API writes them: `2015-02-11T09:31:50.021Z`; inside, whole milliseconds since 1970."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z\Z", re.ASCII)


def milliseconds(now: float) -> int:
    """Return seconds as whole milliseconds."""
    return round(now * 1000)


def text_of(at_ms: int) -> str:
    """Write an instant; texts sort as their instants do."""
    at = _EPOCH + timedelta(milliseconds=at_ms)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


def instant_of(text: str) -> int | None:
    """Read what `text_of` wrote, with or without the fraction; None: that is no instant."""
    if _TEXT.match(text) is None:
        return None
    whole, _, fraction = text[:-1].partition(".")
    try:
        seconds = (datetime.fromisoformat(whole + "+00:00") - _EPOCH) // timedelta(seconds=1)
    except ValueError:
        return None
    return seconds * 1000 + int(fraction[:3].ljust(3, "0"))
