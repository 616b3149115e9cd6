"""Reads fields of JSON that strangers wrote: each problem is noted with its path, and reading goes on.

A field that is null counts as absent, since clients send nulls; unknown fields are not looked at. What is
returned for a field with a problem is its default: nobody gets to see it, as the whole object is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from runrig_service.core.errors import InvalidApp
from runrig_service.core.limits import Limits

MAX_KEY_LENGTH = 255


class Problems:
    """What is wrong, by path."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._found: dict[str, list[str]] = {}

    def add(self, path: str, message: str) -> None:
        """Note that the field at `path` is wrong."""
        errors = self._found.setdefault(path or "/", [])
        if message not in errors:
            errors.append(message)

    def has(self, *paths: str) -> bool:
        """Say whether something is wrong at any of `paths`."""
        return any(path in self._found for path in paths)

    def raise_any(self) -> None:
        """Raise InvalidApp if there is a problem."""
        if self._found:
            raise InvalidApp({path: tuple(errors) for path, errors in self._found.items()})


def shown(value: object) -> str:
    """Return a value for a message: short, and safe to print."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


class Fields:
    """The fields of one JSON object at `path`."""

    def __init__(self, values: Mapping[str, object], path: str, problems: Problems) -> None:
        self._values = values
        self.path = path
        self.problems = problems

    def __len__(self) -> int:
        """Return how many fields there are."""
        return len(self._values)

    def names(self) -> list[str]:
        """Return the names of the fields that are not null."""
        return [name for name, value in self._values.items() if value is not None]

    def has(self, name: str) -> bool:
        """Say whether the field is there and not null."""
        return self._values.get(name) is not None

    def raw(self, name: str) -> object:
        """Return the field as it is, for one of several types."""
        return self._values.get(name)

    def refuse(self, name: str, message: str) -> None:
        """Note a problem with a field."""
        self.problems.add(f"{self.path}/{name}", f"{message}; got {shown(self._values.get(name))}")

    def text(self, name: str, default: str = "", *, is_required: bool = False) -> str:
        """Return a text."""
        value = self._values.get(name)
        if value is None:
            if is_required:
                self.problems.add(f"{self.path}/{name}", "must be defined")
            return default
        if is_required and value == "":
            self.problems.add(f"{self.path}/{name}", "must not be empty")
        return self._checked_text(name, value)

    def optional_text(self, name: str) -> str | None:
        """Return a text, or None where there is none."""
        return self.text(name) if self.has(name) else None

    def flag(self, name: str, default: bool = False) -> bool:
        """Return true or false."""
        value = self._values.get(name, default)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(name, "must be true or false")
            return default
        return value

    def whole(self, name: str, default: int, least: int = 0, most: int = 1 << 31) -> int:
        """Return a whole number within bounds."""
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.refuse(name, f"must be a whole number from {least} to {most}")
            return default
        return value

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """Return a number within bounds."""
        value = self._values.get(name)
        if value is None:
            return default
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not least <= value <= most or not math.isfinite(value):  # type: ignore[arg-type,operator]
            self.refuse(name, f"must be a number from {least} to {most}")
            return default
        return float(value)  # type: ignore[arg-type]

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        """Return one of `allowed`."""
        value = self._values.get(name)
        if value is None:
            return default
        if value not in allowed:
            self.refuse(name, f"must be one of {', '.join(allowed)}")
            return default
        return str(value)

    def nested(self, name: str) -> Fields | None:
        """Return the fields of an object, or None where there is none."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.refuse(name, "must be an object")
            return None
        return Fields(value, f"{self.path}/{name}", self.problems)

    def items(self, name: str, most: int | None = None) -> list[object]:
        """Return the entries of a list."""
        value = self._values.get(name)
        most = self.problems.limits.list_length if most is None else most
        if value is None:
            return []
        if not isinstance(value, list):
            self.refuse(name, "must be a list")
            return []
        if len(value) > most:
            self.problems.add(f"{self.path}/{name}", f"must have at most {most} entries; got {len(value)}")
            return []
        return value

    def objects(self, name: str, most: int | None = None) -> Iterator[Fields]:
        """Return the fields of each object in a list."""
        for number, item in enumerate(self.items(name, most)):
            path = f"{self.path}/{name}({number})"
            if isinstance(item, dict):
                yield Fields(item, path, self.problems)
            else:
                self.problems.add(path, f"must be an object; got {shown(item)}")

    def texts(self, name: str, most: int | None = None) -> tuple[str, ...]:
        """Return a list of texts."""
        items = enumerate(self.items(name, most))
        return tuple(self._checked_text(f"{name}({number})", item) for number, item in items)

    def text_map(self, name: str, most: int | None = None) -> tuple[tuple[str, str], ...]:
        """Return a map of text to text, ascending by key; nulls are left out."""
        fields = self.nested(name)
        if fields is None:
            return ()
        most = self.problems.limits.list_length if most is None else most
        if len(fields) > most:
            self.problems.add(f"{self.path}/{name}", f"must have at most {most} entries")
            return ()
        pairs = []
        for key in fields.names():
            if key and len(key) <= MAX_KEY_LENGTH and key.isprintable():
                pairs.append((key, fields.text(key)))
            else:
                message = f"keys must have 1 to {MAX_KEY_LENGTH} printable characters; got {shown(key)}"
                self.problems.add(f"{self.path}/{name}", message)
        return tuple(sorted(pairs))

    def refuse_unless_empty(self, name: str, why: str) -> None:
        """Refuse what is not supported, but let pass what clients send when they mean nothing."""
        if self._values.get(name) not in (None, "", [], {}, False):
            self.refuse(name, f"is not supported: {why}")

    def _checked_text(self, name: str, value: object) -> str:
        path = f"{self.path}/{name}"
        most = self.problems.limits.text_length
        if not isinstance(value, str):
            self.problems.add(path, f"must be a string; got {shown(value)}")
        elif len(value) > most:
            self.problems.add(path, f"must have at most {most} characters; got {len(value)}")
        elif "\0" in value or not _is_unicode(value):
            self.problems.add(path, f"must be valid Unicode without zero bytes; got {shown(value)}")
        else:
            return value
        return ""


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
