"""Lengths of time as people write them: `90s`, `10m`, `1h30m`, `250ms`, or a number of seconds."""

from __future__ import annotations

import re
from decimal import Decimal

from runrig.errors import InvalidInput

_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|[dhms])")
_ALLOWED = "a time such as 30s, 10m, 1h30m or 2d, or a number of seconds"


def parse_ms(field: str, value: object, most_ms: int) -> int:
    """Return `value` in milliseconds, rounded up; raise InvalidInput naming `field`."""
    milliseconds = _milliseconds(field, value)
    if milliseconds > most_ms:
        raise InvalidInput(field, value, f"at most {text_of(most_ms)}")
    return milliseconds


def _milliseconds(field: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidInput(field, value, _ALLOWED)
    text = str(value).strip().lower()
    if re.fullmatch(r"\d{1,12}(\.\d{1,6})?", text):
        text += "s"
    parts = _PART.findall(text)
    if not parts or "".join(amount + unit for amount, unit in parts) != text:
        raise InvalidInput(field, value, _ALLOWED)
    return -int(-sum(Decimal(amount) * _UNITS_MS[unit] for amount, unit in parts) // 1)


def text_of(milliseconds: int) -> str:
    """Return 5400000 as `1h30m`: what `parse_ms` reads."""
    parts = []
    for unit, size in _UNITS_MS.items():
        amount, milliseconds = divmod(milliseconds, size)
        if amount:
            parts.append(f"{amount}{unit}")
    return "".join(parts) or "0s"
