"""What the API needs of the framework: `runrig.framework.Framework` is one, tests bring their own."""

from __future__ import annotations

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

    async def ask(self, question: object) -> object:
        """Return the answer once it is durable; raise it if it is an error."""


async def ask(mind: Mind, question: object, kind: type[T]) -> T:
    """Ask, and be sure of the answer's type."""
    answer = await mind.ask(question)
    assert isinstance(answer, kind), f"{question!r} was answered with {answer!r}"
    return answer
