"""What a case says of itself: the rules it shows, the Mesos rows it answers, and what it needs of a master.

`docs/conformance.md` lists every case by these; `test_page.py` holds the page and the cases together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import pytest

Function = TypeVar("Function", bound=Callable[..., object])

MARKER = "conformance"


class Need(Enum):
    """What not every driver can give; the text is what is said when a case is skipped for it."""

    RESTART = "the master must be killed and started again, which only its owner can do"
    WIRE = "it is about streams themselves: the core alone has none"
    OFFER_TIMEOUT = "it waits for offers to expire"
    SILENCE = "it waits for a silent peer to be given up"
    DEFAULTS = "it counts on bounds that a master does not announce, as Runrig ships them"


@dataclass(frozen=True, slots=True)
class Case:
    """What one case is for."""

    rules: tuple[int, ...] = ()
    mesos: tuple[int, ...] = ()
    needs: tuple[Need, ...] = ()


def case(
    rules: tuple[int, ...] = (), mesos: tuple[int, ...] = (), needs: tuple[Need, ...] = ()
) -> Callable[[Function], Function]:
    """Make a test a case of the conformance suite."""
    marked: Callable[[Function], Function] = getattr(pytest.mark, MARKER)(Case(rules, mesos, needs))
    return marked
