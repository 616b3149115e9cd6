"""Label selectors, as in `GET /v2/apps?label=tier==web,!beta,zone in (a, b)`: all conditions must hold.

- `key`, `!key`: the label is there, or is not.
- `key==value`, `key!=value`: it has the value; it has another one, or is not there.
- `key in (a, b)`, `key notin (a, b)`: likewise, for several values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from runrig_service.core.errors import InvalidApp

Labels = Mapping[str, str]
Selector = Callable[[Labels], bool]

MAX_LENGTH = 4096

_WORD = r"[A-Za-z0-9_./:@-]+"
_CONDITION = re.compile(
    rf"\s*(?:(?P<key>{_WORD})\s*(?:(?P<op>==|!=|=)\s*(?P<value>{_WORD})"
    rf"|\s(?P<set>in|notin)\s*\(\s*(?P<values>{_WORD}(?:\s*,\s*{_WORD})*)\s*\))?|!\s*(?P<absent>{_WORD}))\s*(?:,|\Z)"
)


def parse_selector(text: str) -> Selector:
    """Return the condition; raise InvalidApp if `text` is none. Nothing selects everything."""
    conditions: list[Selector] = []
    position = 0
    while position < len(text) <= MAX_LENGTH:
        match = _CONDITION.match(text, position)
        if match is None:
            break
        conditions.append(_condition(match))
        position = match.end()
    if position < len(text):
        allowed = "conditions such as `a==b`, `a!=b`, `a in (b, c)`, `a notin (b, c)`, `a`, `!a`, joined by commas"
        raise InvalidApp({"/label": (f"must be {allowed}; got {ascii(text)[:80]}",)})
    return lambda labels: all(each(labels) for each in conditions)


def _condition(match: re.Match[str]) -> Selector:
    if match["absent"]:
        absent = match["absent"]
        return lambda labels: absent not in labels
    key = match["key"]
    if match["op"] is None and match["set"] is None:
        return lambda labels: key in labels
    values = {match["value"]} if match["op"] else {each.strip() for each in match["values"].split(",")}
    if match["op"] == "!=" or match["set"] == "notin":
        return lambda labels: labels.get(key) not in values
    return lambda labels: labels.get(key) in values
