"""Names of things: one type for each kind of id, and the rules that ids keep."""

from __future__ import annotations

import re
from typing import NewType

from runrig.errors import InvalidInput

FrameworkId = NewType("FrameworkId", str)
AgentId = NewType("AgentId", str)
TaskId = NewType("TaskId", str)
OfferId = NewType("OfferId", str)
Role = NewType("Role", str)

MAX_ID_LENGTH = 255
MAX_ROLE_DEPTH = 8

_FORBIDDEN_IN_ID = re.compile(r"[/\x00-\x1f\x7f]")
_ROLE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}\Z")


def id_problem(value: str) -> str | None:
    """Say what an id must be when `value` is none, else None (rule 4)."""
    if not value or len(value) > MAX_ID_LENGTH or value in (".", ".."):
        return f"1 to {MAX_ID_LENGTH} characters, not `.` or `..`"
    if _FORBIDDEN_IN_ID.search(value):
        return "no slash and no control character"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "valid Unicode"
    return None


def checked_id(field: str, value: str) -> str:
    """Return `value`, or raise InvalidInput naming `field`."""
    problem = id_problem(value)
    if problem is not None:
        raise InvalidInput(field, value, problem)
    return value


def checked_role(field: str, value: str) -> Role:
    """Return `value` as a role: a path such as `eng/ads`; raise InvalidInput naming `field`."""
    parts = value.split("/")
    if len(parts) > MAX_ROLE_DEPTH or not all(_ROLE_PART.match(part) for part in parts):
        raise InvalidInput(
            field,
            value,
            f"a path of 1 to {MAX_ROLE_DEPTH} parts, such as `eng/ads`, each of letters, digits, `_`, `.` and `-`",
        )
    return Role(value)
