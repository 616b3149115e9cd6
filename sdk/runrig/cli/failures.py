"""What a failed command says, one line that tells what to do next, and what it ends with."""

from __future__ import annotations

import sys
from typing import IO, Any

import click

from runrig.errors import (
    EXIT_CONFLICT,
    EXIT_NOT_FOUND,
    EXIT_OK,
    EXIT_TASK_FAILED,
    EXIT_TIMEOUT,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    RunrigError,
    exit_code,
)

EXIT_INTERRUPTED = 130

EXIT_CODES = (
    (EXIT_OK, "done"),
    (EXIT_TASK_FAILED, "a task failed, or Runrig itself did"),
    (EXIT_USAGE, "wrong usage or input"),
    (EXIT_NOT_FOUND, "there is no such thing"),
    (EXIT_UNREACHABLE, "master, framework or agent does not answer"),
    (EXIT_CONFLICT, "refused: it is in use, there already, or in a state that forbids it"),
    (EXIT_TIMEOUT, "not done in time"),
    (EXIT_INTERRUPTED, "interrupted with Ctrl-C"),
)

NO_MASTER = "start a cluster with `runrig dev`, or name the master with --master or RUNRIG_MASTER"


class Failure(click.ClickException):
    """Ends a command: `message` goes to stderr as one line, `exit_code` to the shell."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        click.echo(f"runrig: {self.format_message()}", file=file, err=file is None)


def failure_of(error: Exception) -> Failure | None:
    """Return what to say of `error`, or None when it is a bug and deserves its traceback."""
    if isinstance(error, RunrigError):
        return Failure(str(error), exit_code(error))
    if is_of("grpc", "RpcError", error):
        return _of_rpc(error)
    if is_of("httpx", "TimeoutException", error):
        return Failure(f"no answer in time from {_url(error)}; is it frozen?", EXIT_TIMEOUT)
    if is_of("httpx", "TransportError", error):
        return Failure(f"no answer from {_url(error)}: {error}; is it running?", EXIT_UNREACHABLE)
    if isinstance(error, OSError):
        return Failure(str(error), EXIT_TASK_FAILED)
    return None


def is_of(module: str, name: str, error: Exception) -> bool:
    """Say whether `error` is of a class of `module`, which is not imported: unloaded, it raised nothing."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(error, kind)


def _of_rpc(error: Exception) -> Failure:
    """Map a gRPC status that no client translated: by its name, since this module does not import grpc."""
    code = getattr(getattr(error, "code", lambda: None)(), "name", "UNKNOWN")
    details = getattr(error, "details", lambda: "")() or "no details"
    exits = {
        "INVALID_ARGUMENT": EXIT_USAGE,
        "NOT_FOUND": EXIT_NOT_FOUND,
        "ALREADY_EXISTS": EXIT_CONFLICT,
        "FAILED_PRECONDITION": EXIT_CONFLICT,
        "ABORTED": EXIT_CONFLICT,
        "PERMISSION_DENIED": EXIT_CONFLICT,
        "UNAUTHENTICATED": EXIT_CONFLICT,
        "UNAVAILABLE": EXIT_UNREACHABLE,
        "RESOURCE_EXHAUSTED": EXIT_UNREACHABLE,
        "DEADLINE_EXCEEDED": EXIT_TIMEOUT,
        "CANCELLED": EXIT_INTERRUPTED,
    }
    if code == "UNAVAILABLE":
        return Failure(f"no answer: {details}; {NO_MASTER}", EXIT_UNREACHABLE)
    if code == "UNIMPLEMENTED":
        return Failure(f"the server does not know this call: {details}; is it older than this client?", EXIT_CONFLICT)
    return Failure(details, exits.get(code, EXIT_TASK_FAILED))


def _url(error: Exception) -> str:
    try:
        return str(getattr(error, "request").url)  # noqa: B009  (mypy knows no attribute of a class it has not seen)
    except (AttributeError, RuntimeError):  # httpx raises when no request was set
        return "the server"
