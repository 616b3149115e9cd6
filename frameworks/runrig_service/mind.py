"""What the API needs of the framework: `runrig.framework.Framework` is one, tests bring their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

T = TypeVar("T")


class Mind(Protocol):
    """A logic that can be asked."""

    @property
    def is_connected(self) -> bool:
        """Say whether the master is within reach."""

    @property
    def framework_id(self) -> str:
        """Return the id that the master gave, or nothing yet."""

    @property
    def declines(self) -> Mapping[str, int]:
        """Return why the last offers that were declined did not serve, and of how many that is so."""

    async def ask(self, question: object) -> object:
        """Return the answer once it is durable; raise it if it is an error."""


async def ask(mind: Mind, question: object, kind: type[T]) -> T:
    """Ask, and be sure of the answer's type."""
    answer = await mind.ask(question)
    assert isinstance(answer, kind), f"{question!r} was answered with {answer!r}"
    return answer
