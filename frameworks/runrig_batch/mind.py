"""What the edges need of the SDK's framework and of agents: little enough for a test to stand in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Literal, Protocol, TypeVar

from runrig.ids import FrameworkId, TaskId

T = TypeVar("T")

Stream = Literal["stdout", "stderr"]
Wanted = Literal["stdout", "stderr", "both"]


class Mind(Protocol):
    """The running logic; `runrig.framework.Framework` is one."""

    async def ask(self, question: object) -> object:
        """Return the answer's value, or raise it if it is an exception."""

    def tell(self, event: object) -> None:
        """Hand an event over."""

    @property
    def is_connected(self) -> bool:
        """Say whether the framework is subscribed."""

    @property
    def framework_id(self) -> FrameworkId:
        """Return the id that the master gave, or an empty one before it did."""

    @property
    def declines(self) -> Mapping[str, int]:
        """Return why the last offers that were declined did not serve, and of how many that is so."""


class Sandboxes(Protocol):
    """The output of tasks, on their agents."""

    def read(
        self, address: str, task_id: TaskId, wanted: Wanted, *, follow: bool
    ) -> AsyncGenerator[tuple[Stream, bytes], None]:
        """Yield pieces of output from its beginning; with `follow` until the task has ended.

        Raises NotFound when the agent has nothing (more) of this task, Unavailable when it is silent.
        """


async def ask(mind: Mind, question: object, kind: type[T]) -> T:
    """Ask a question whose answer is a `kind`."""
    value = await mind.ask(question)
    assert isinstance(value, kind), f"{question} was answered with {value!r}"
    return value
