"""What cases ask of the world: streams to write envelopes to and read them from, operators' calls, and time.

Two drivers give it: `core_driver` runs the master's core in this process on a virtual clock, `grpc_driver` speaks to a
master that runs somewhere. A case cannot tell which one it has, but by what it declares to need.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from runrig.v1 import agent_pb2, operator_pb2_grpc, scheduler_pb2

Item = tuple[str, Any]
"""An item of an envelope: its kind (`offer`, `update`, `launch`, ...) and its message."""
Answer = TypeVar("Answer")
AGENT, SCHEDULER = "agent", "scheduler"
CLEAN = "OK"
"""How a stream ends that was closed in order."""


class Line:
    """One Connect stream from the client's side, envelope by envelope."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.number = 0
        self.inbox: list[Item] = []
        """What has come and was not taken yet, in order; offers, inverse offers and updates one by one."""
        self.epochs: list[int] = []
        self.numbers: list[int] = []
        self.end: str | None = None
        """The status with which the stream has ended; None: it has not."""

    async def write(self, *items: Any, number: int | None = None) -> None:
        """Write an envelope, with the next number unless one is given."""
        raise NotImplementedError

    async def break_off(self) -> None:
        """Break the stream, as a client that dies does."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Say nothing more, not even that this side is alive, and leave the stream open."""
        raise NotImplementedError

    def envelope(self, items: tuple[Any, ...], number: int | None) -> Any:
        """Build an envelope."""
        self.number = number if number is not None else self.number + 1
        if self.kind == AGENT:
            return agent_pb2.AgentServiceConnectRequest(number=self.number, reports=items)
        return scheduler_pb2.SchedulerServiceConnectRequest(number=self.number, calls=items)

    def heard(self, envelope: Any) -> None:
        """Take in what the master has written."""
        self.epochs.append(envelope.epoch)
        self.numbers.append(envelope.number)
        items = envelope.commands if self.kind == AGENT else envelope.events
        for item in items:
            kind = item.WhichOneof("command" if self.kind == AGENT else "event")
            self.inbox.extend(_split(kind, getattr(item, kind)))

    def waiting(self, kind: str, where: Callable[[Any], bool] = lambda _: True) -> list[Any]:
        """Return the messages of a kind that have come and were not taken."""
        return [message for name, message in self.inbox if name == kind and where(message)]

    def take(self, kind: str, where: Callable[[Any], bool] = lambda _: True) -> Any:
        """Take the first message of a kind out of the inbox; None: there is none."""
        for place, (name, message) in enumerate(self.inbox):
            if name == kind and where(message):
                del self.inbox[place]
                return message
        return None

    def kinds(self) -> list[str]:
        """Return the kinds of what waits in the inbox, in order."""
        return [kind for kind, _ in self.inbox]


def _split(kind: str, message: Any) -> list[Item]:
    if kind == "offers":
        return [("offer", offer) for offer in message.offers]
    if kind == "updates":
        return [("update", update) for update in message.updates]
    if kind == "inverse_offers":
        return [("inverse_offer", inverse) for inverse in message.inverse_offers]
    return [(kind, message)]


class Refused(Exception):
    """An operator's call was refused; `status` is the gRPC status."""

    def __init__(self, status: str, details: str) -> None:
        super().__init__(f"{status}: {details}")
        self.status = status
        self.details = details


class Driver(Protocol):
    """A master, and how to reach it."""

    is_immediate: bool
    """Whether all that follows from a message has come once it is written; else cases must ask to be sure."""

    def line(self, kind: str) -> Line:
        """Open a stream of an agent or a scheduler."""

    @property
    def operator(self) -> operator_pb2_grpc.OperatorServiceAsyncStub:
        """Return the operator's calls."""

    async def asked(self, call: Awaitable[Answer]) -> Answer:
        """Await an operator's call; raise Refused if it is refused."""

    def now_ms(self) -> float:
        """Return a time that never goes back, in milliseconds."""

    async def wait(self, condition: Callable[[], bool], within_ms: float) -> None:
        """Wait until `condition` holds: at most `within_ms`, and as much more as messages may take."""

    async def poll(self, condition: Callable[[], Awaitable[bool]], within_ms: float) -> bool:
        """Wait until `condition`, which asks the master, holds, as `wait` does; say whether it does."""

    async def pass_time(self, milliseconds: float) -> None:
        """Let time pass, while every stream that is open is kept alive."""

    async def restart(self) -> None:
        """Kill the master as kill -9 does, and start it again from its store."""
