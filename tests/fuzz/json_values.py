"""Valid JSON made invalid, value by value."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    0.1,
    1e308,
    -1e-308,
    2**31,
    2**63,
    2**64,
    10**400,
    "",
    " ",
    "x" * 300,
    "x" * 10_000,
    "../../etc/passwd",
    "/",
    "//",
    "a/b",
    "a\0b",
    "line\nbreak",
    "\ud800",
    "\u202e\U0010ffff",
    "1",
    "-1",
    "1.5",
    "NaN",
    "\u0661\u0662",
    "\u00b2",
    "(" * 500 + ")" * 500,
    "a{4294967297}",
    "(" * 1_000,
    "0-99999999999999",
    "0-9,5-7",
    [],
    {},
    [None],
    [[]],
    [{}],
    [""],
    [[""]],
    [1, 2],
    {"": ""},
    {"\0": 1},
    {"a": {"b": {"c": []}}},
    [["rack", "LIKE", "a{4294967297}"]],
    [["hostname", "UNIQUE"]] * 400,
)
_RAW = (
    b"1e999",
    b"-1e999",
    b"NaN",
    b"Infinity",
    b"1" * 5_000,
    b'"\xff"',
    b'"\\ud800"',
    b"[" * 3_000,
    b"",
    b"{,}",
    b"\0",
)
_MARK = "\u2400here\u2400"


def body(valid: Any, chance: Random) -> bytes:
    """Return the bytes of a body with one to three places changed; some are no JSON any more."""
    value = copy.deepcopy(valid)
    for _ in range(chance.choice((1, 1, 2, 3))):
        value = _changed(value, chance, copy.deepcopy(chance.choice(_VALUES)))
    if chance.random() < 0.85:
        return json.dumps(value).encode()
    marked = json.dumps(_changed(value, chance, _MARK)).encode()
    return marked.replace(json.dumps(_MARK).encode(), chance.choice(_RAW))


def _changed(value: Any, chance: Random, new: Any) -> Any:
    """Put `new` in some place of a value, or instead of all of it; now and then take something away."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.12:
        return new
    place = chance.choice(list(value) if isinstance(value, dict) else list(range(len(value))))
    if chance.random() < 0.06:
        del value[place]
    else:
        value[place] = _changed(value[place], chance, new)
    return value
