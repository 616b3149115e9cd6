"""Ids by unique prefix: how people name things, and how tables shorten them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from runrig.errors import InvalidInput, NotFound

ELLIPSIS = "…"
"""What a table puts in place of the middle of an id; `find` takes such an id as it was copied."""

T = TypeVar("T")

NAMED = 3  # how many candidates an ambiguous prefix is told


def find(
    kind: str,
    given: str,
    items: Iterable[T],
    identity: Callable[[T], str],
    *,
    also: Callable[[T], str] | None = None,
) -> T:
    """Return the one item whose id is `given` or begins with it, or whose other name (`also`) is `given`.

    Raises NotFound, or InvalidInput that names what `given` may mean.

    Example:
        >>> find("task", "web", ["web-1", "batch-1"], str)
        'web-1'
    """
    items = list(items)
    exact = [item for item in items if identity(item) == given]
    named = [item for item in items if also is not None and also(item) == given]
    begun = [item for item in items if given and _fits(identity(item), given)]
    for found in (exact, named, begun):
        if len(found) == 1:
            return found[0]
        if found:
            names = _some([identity(item) for item in found])
            raise InvalidInput(kind, given, f"more of it: it may mean {names}")
    raise NotFound(kind, given, f"`runrig {kind}s ls` lists those there are")


def shortest(ids: Sequence[str], least: int) -> dict[str, str]:
    """Map each id to its shortest prefix of at least `least` characters that no other begins with."""
    short = {}
    ordered = sorted(set(ids))
    for place, one in enumerate(ordered):
        beside = ordered[max(place - 1, 0) : place] + ordered[place + 1 : place + 2]
        length = max([least, *(_shared(one, other) + 1 for other in beside)])
        short[one] = one[:length]
    return short


def cut(identity: str, width: int) -> str:
    """Shorten an id in its middle: where it begins tells whose it is, where it ends which one."""
    if len(identity) <= width:
        return identity
    end = (width - 1) // 2
    return identity[: width - 1 - end] + ELLIPSIS + identity[len(identity) - end :]


def beginning(given: str) -> str:
    """Return what an id that was given as `given` begins with for certain."""
    return given.partition(ELLIPSIS)[0]


def _fits(identity: str, given: str) -> bool:
    begin, is_cut, end = given.partition(ELLIPSIS)
    if not is_cut:
        return identity.startswith(given)
    return identity.startswith(begin) and identity[len(begin) :].endswith(end)


def _shared(one: str, other: str) -> int:
    """Count the characters that both begin with."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
