"""From the status of a failed call back to the error that the peer raised."""

from __future__ import annotations

import re

import grpc

from runrig.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    ProtocolError,
    Refused,
    RunrigError,
    TimedOut,
    TooSlow,
    Unavailable,
)

_INVALID = re.compile(r"(?P<field>.+?): (?P<value>.+) is not allowed; allowed: (?P<allowed>.+)", re.DOTALL)
_NOT_FOUND = re.compile(r"there is no (?P<kind>.+?) '(?P<name>.*?)'(?:; (?P<hint>.+))?", re.DOTALL)


class Shown:
    """A value that is known only by how the peer showed it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        """Return what the peer said."""
        return self._text


def error_from(error: grpc.aio.AioRpcError, peer: str) -> RunrigError:
    """Return the error that a failed call to `peer` ("the agent at h1:5051") means."""
    details = error.details() or "no details"
    match error.code():
        case grpc.StatusCode.INVALID_ARGUMENT:
            if said := _INVALID.fullmatch(details):
                return InvalidInput(said["field"], Shown(said["value"]), said["allowed"])
            return Refused(details)
        case grpc.StatusCode.NOT_FOUND:
            if said := _NOT_FOUND.fullmatch(details):
                return NotFound(said["kind"], said["name"], said["hint"] or "")
            return Refused(details)
        case grpc.StatusCode.FAILED_PRECONDITION | grpc.StatusCode.ALREADY_EXISTS | grpc.StatusCode.ABORTED:
            return Conflict(details)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return TooSlow(details)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return TimedOut(f"{peer} did not answer in time: {details}")
        case grpc.StatusCode.UNAVAILABLE:
            return Unavailable(f"{peer} does not answer: {details}")
        case grpc.StatusCode.CANCELLED:
            return Unavailable(f"the call to {peer} was cancelled: {details}")
        case code:
            return ProtocolError(f"{peer} failed with {code.name}: {details}")
