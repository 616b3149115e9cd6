"""Conditions on where a task may run, over attributes of agents, `hostname` among them.

`UNIQUE`, `GROUP_BY` and `MAX_PER` look at the other tasks of the same group (see `runrig.wants.Want.group`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Protocol

from runrig.errors import InvalidInput


class Place(Protocol):
    """Where a task may run: an offer is one."""

    def attribute(self, name: str) -> str | None:
        """Return the value of an attribute, `hostname` among them, or None."""


class Operator(IntEnum):
    """How an attribute is judged."""

    EQUALS = 1
    NOT_EQUALS = 2
    LIKE = 3
    UNLIKE = 4
    UNIQUE = 5
    GROUP_BY = 6
    MAX_PER = 7


@dataclass(frozen=True, slots=True)
class Constraint:
    """One condition: `Constraint("rack", Operator.GROUP_BY, "3")`.

    LIKE and UNLIKE match a regular expression on the whole value; GROUP_BY spreads evenly over the values seen, at
    least as many as its value says; MAX_PER allows its value per attribute value. An agent without the attribute
    satisfies only NOT_EQUALS and UNLIKE.
    """

    attribute: str
    operator: Operator
    value: str = ""


def checked_constraint(field: str, constraint: Constraint) -> Constraint:
    """Return `constraint` if it can be judged; raise InvalidInput naming `field`."""
    if not constraint.attribute or len(constraint.attribute) > 255:
        raise InvalidInput(f"{field}.attribute", constraint.attribute, "the name of an attribute, or hostname")
    if len(constraint.value) > 1024:
        raise InvalidInput(f"{field}.value", constraint.value, "at most 1024 characters")
    if constraint.operator in (Operator.LIKE, Operator.UNLIKE):
        try:
            re.compile(constraint.value)
        except (re.error, OverflowError, RecursionError) as error:
            raise InvalidInput(f"{field}.value", constraint.value, f"a regular expression ({error})") from None
    if constraint.operator is Operator.MAX_PER and not re.fullmatch(r"[1-9]\d{0,8}", constraint.value):
        raise InvalidInput(f"{field}.value", constraint.value, "a whole number of at least 1")
    if constraint.operator is Operator.GROUP_BY and not re.fullmatch(r"([1-9]\d{0,8})?", constraint.value):
        raise InvalidInput(f"{field}.value", constraint.value, "nothing, or a whole number of at least 1")
    if constraint.operator in (Operator.EQUALS, Operator.NOT_EQUALS) and not constraint.value:
        raise InvalidInput(f"{field}.value", constraint.value, "the value to compare with")
    return constraint


def unmet(
    constraints: Iterable[Constraint],
    place: Place,
    placed: Mapping[str, Counter[str]],
    known: dict[str, set[str]],
) -> str | None:
    """Return the first constraint that `place` does not meet, as text, or None.

    `placed[attribute]` counts the group's tasks by the attribute's value where they run; `known[attribute]` holds
    every value seen on any agent.
    """
    for constraint in constraints:
        if not _is_met(constraint, place, placed, known):
            return text_of(constraint)
    return None


def text_of(constraint: Constraint) -> str:
    """Return `rack GROUP_BY 3`."""
    return f"{constraint.attribute} {constraint.operator.name} {constraint.value}".rstrip()


def _is_met(
    constraint: Constraint, place: Place, placed: Mapping[str, Counter[str]], known: dict[str, set[str]]
) -> bool:
    value = place.attribute(constraint.attribute)
    if value is None:
        return constraint.operator in (Operator.NOT_EQUALS, Operator.UNLIKE)
    match constraint.operator:
        case Operator.EQUALS:
            return value == constraint.value
        case Operator.NOT_EQUALS:
            return value != constraint.value
        case Operator.LIKE:
            return _pattern(constraint.value).fullmatch(value) is not None
        case Operator.UNLIKE:
            return _pattern(constraint.value).fullmatch(value) is None
        case _:
            return _is_met_among(constraint, value, placed, known)


def _is_met_among(
    constraint: Constraint, value: str, placed: Mapping[str, Counter[str]], known: dict[str, set[str]]
) -> bool:
    counts = placed.get(constraint.attribute, _NO_TASKS)
    match constraint.operator:
        case Operator.UNIQUE:
            return counts[value] == 0
        case Operator.MAX_PER:
            return counts[value] < int(constraint.value)
        case _:
            return _balances(value, counts, known.get(constraint.attribute, set()), int(constraint.value or 1))


_NO_TASKS: Counter[str] = Counter()


def _balances(value: str, counts: Counter[str], known: set[str], least_groups: int) -> bool:
    groups = known | set(counts) | {value}
    fewest = min(counts[group] for group in groups) if len(groups) >= least_groups else 0
    return counts[value] <= fewest


@lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)
