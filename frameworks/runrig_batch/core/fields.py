"""Reading one field of a job description.

Each reader returns the value, or raises InvalidInput with the field, the value and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from runrig.errors import InvalidInput

T = TypeVar("T")


def text_in(field: str, value: object, most_bytes: int, *, may_be_empty: bool = False) -> str:
    """Return a text of at most `most_bytes` without zero bytes."""
    if not isinstance(value, str):
        raise InvalidInput(field, value, "a text")
    if not value and not may_be_empty:
        raise InvalidInput(field, value, "a text that is not empty")
    if "\0" in value:
        raise InvalidInput(field, value, "a text without zero bytes")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidInput(field, value, "valid Unicode") from None
    if size > most_bytes:
        raise InvalidInput(field, value, f"at most {most_bytes} bytes, and this has {size}")
    return value


def whole_in(field: str, value: object, least: int, most: int) -> int:
    """Return a whole number within bounds; a text of digits is one, too."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 15:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(field, value, f"a whole number from {least} to {most}")
    return value


def flag_in(field: str, value: object) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise InvalidInput(field, value, "true or false")
    return value


def amount_in(field: str, value: object) -> str | float:
    """Return a number or a text, for the readers of amounts."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidInput(field, value, "a number, or a text such as 512M")
    return value if not isinstance(value, str) else text_in(field, value, 64)


def list_in(field: str, value: object, most: int, what: str) -> Sequence[object]:
    """Return a list of 1 to `most` elements."""
    if not isinstance(value, list | tuple) or not value:
        raise InvalidInput(field, value, f"a list of {what}")
    if len(value) > most:
        raise InvalidInput(field, len(value), f"at most {most} {what}")
    return value


def texts_in(field: str, value: object, most: int, what: str, most_bytes: int, most_total: int) -> tuple[str, ...]:
    """Return a list of texts, each of at most `most_bytes` and all of at most `most_total` bytes."""
    texts = list_in(field, value, most, what)
    found = tuple(
        text_in(f"{field}[{number}]", each, most_bytes, may_be_empty=True) for number, each in enumerate(texts)
    )
    total = sum(len(each.encode()) for each in found)
    if total > most_total:
        raise InvalidInput(field, f"{total} bytes", f"at most {most_total} bytes together")
    return found


def pairs_in(field: str, value: object, most: int, most_bytes: int) -> tuple[tuple[str, str], ...]:
    """Return the names and values of a mapping; numbers are taken as texts, true and false are refused."""
    if not isinstance(value, Mapping):
        raise InvalidInput(field, value, "names with values")
    if len(value) > most:
        raise InvalidInput(field, len(value), f"at most {most} names")
    found: list[tuple[str, str]] = []
    for name, each in value.items():
        where = f"{field}.{name}"
        text_in(where, name, 1024)
        plain = str(each) if isinstance(each, int | float) and not isinstance(each, bool) else each
        found.append((name, text_in(where, plain, most_bytes, may_be_empty=True)))
    total = sum(len(name.encode()) + len(each.encode()) for name, each in found)
    if total > most_bytes:
        raise InvalidInput(field, f"{total} bytes", f"at most {most_bytes} bytes together")
    return tuple(found)


def only_known(field: str, value: object, known: Sequence[str]) -> Mapping[str, object]:
    """Return a mapping with no other names than `known`."""
    if not isinstance(value, Mapping):
        raise InvalidInput(field, value, f"an object with the fields {', '.join(known)}")
    for name in value:
        if name not in known:
            raise InvalidInput(
                f"{field}.{name}".removeprefix("job."),
                value[name],
                f"no such field; there are {', '.join(known)}",
            )
    return value
