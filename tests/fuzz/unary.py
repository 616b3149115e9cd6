"""Calls of gRPC with any bytes as the request, and what they may end with by the fault of the caller."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from tests.fuzz.rounds import PATIENCE_S

HONEST = (
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)
BROKEN_WRITE = (grpc.StatusCode.INTERNAL, "Internal error from Core")
"""What gRPC's client makes of a write that meets the end of the stream: how that ended is not to be known."""


async def status_of(channel: grpc.aio.Channel, method: str, request: bytes) -> tuple[grpc.StatusCode, str]:
    """Call a method that answers once; return how it ended."""
    ask: Any = channel.unary_unary(method)
    call = ask(request)
    try:
        await asyncio.wait_for(call, PATIENCE_S)
    except grpc.aio.AioRpcError as error:
        return error.code(), str(error.details())
    return grpc.StatusCode.OK, ""


async def streamed(
    channel: grpc.aio.Channel, method: str, *requests: bytes, most: int = 10, patience_s: float = PATIENCE_S
) -> tuple[grpc.StatusCode, str, list[bytes]]:
    """Call a method that streams and read at most `most` answers; return how it ended (OK if it goes on), and them."""
    answers: list[bytes] = []
    call: Any = channel.stream_stream(method)(_each(requests))
    try:
        async with asyncio.timeout(patience_s):
            while len(answers) < most and (answer := await call.read()) is not grpc.aio.EOF:
                answers.append(answer)
    except grpc.aio.AioRpcError as error:
        return error.code(), str(error.details()), answers
    finally:
        call.cancel()
    return grpc.StatusCode.OK, "", answers


async def _each(requests: tuple[bytes, ...]) -> Any:
    for request in requests:
        yield request


def check_fault(method: str, code: grpc.StatusCode, details: str) -> None:
    """See that an end is no bug of the server's, and that it says what was wrong."""
    assert code in HONEST or (code, details) == BROKEN_WRITE, (method, code, details)
    is_told = details or "grpc.health" in method  # which knows services or not: its protocol has no words
    assert code is grpc.StatusCode.OK or is_told, f"{method}: {code} without a word"
    assert len(details) < 3_000, f"{len(details)} characters do not travel everywhere"
