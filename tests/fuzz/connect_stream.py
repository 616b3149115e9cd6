"""A Connect stream of the master over which anything can be sent, and what came back over it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from runrig.v1 import scheduler_pb2
from tests.fuzz.rounds import PATIENCE_S
from tests.fuzz.unary import BROKEN_WRITE

HONEST_ENDS = (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""What a stream may end with by the fault of its client."""


@dataclass
class Hostile:
    """One stream; `items` reads the items of an envelope's bytes."""

    call: Any
    items: Callable[[bytes], list[Any]]
    heard: list[Any] = field(default_factory=list)
    end: tuple[grpc.StatusCode, str] | None = None

    async def send(self, envelope: bytes) -> None:
        """Send an envelope, unless the master has ended the stream."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with asyncio.timeout(PATIENCE_S):
                await self.call.write(envelope)

    async def until(self, answers: Callable[[Any], bool]) -> bool:
        """Read until an item answers, or the stream ends; say whether one did. Silence is a failure."""
        async with asyncio.timeout(PATIENCE_S):
            while self.end is None:
                items = await self._read()
                self.heard.extend(items)
                if any(answers(item) for item in items):
                    return True
        return False

    async def _read(self) -> list[Any]:
        try:
            envelope = await self.call.read()
        except grpc.aio.AioRpcError as error:
            self.end = error.code(), str(error.details())
            return []
        if envelope is grpc.aio.EOF:
            self.end = await self.call.code(), await self.call.details()
            return []
        return self.items(envelope)

    def check(self) -> None:
        """See that every refusal names a fault, and that no end is a bug of the master's."""
        for item in self.heard:
            kind = item.WhichOneof(item.DESCRIPTOR.oneofs[0].name)
            if kind == "refusal":
                assert item.refusal.code != scheduler_pb2.REFUSAL_CODE_UNSPECIFIED
                assert item.refusal.message, "a refusal that does not say why"
                assert len(item.refusal.message) < 2_000
            elif kind == "call_refused":
                assert ": " in item.call_refused.message
                assert "; allowed: " in item.call_refused.message
                assert len(item.call_refused.message) < 2_000
        if self.end is not None and self.end != BROKEN_WRITE:
            code, details = self.end
            assert code in HONEST_ENDS, self.end
            is_told = details or any(
                item.WhichOneof(item.DESCRIPTOR.oneofs[0].name) == "refusal" for item in self.heard
            )
            assert is_told, f"the stream ended with {code} and no word why"
