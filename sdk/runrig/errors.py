"""Everything that Runrig raises, by whose fault it is.

    RunrigError
    ├── Refused                   the caller's fault: the same call fails again
    │   ├── InvalidInput          a field has a value that is not allowed
    │   ├── NotFound              there is no such thing
    │   ├── Conflict              it is there already, or in a state that forbids the call
    │   ├── Superseded            a newer process with the same id has taken over
    │   └── Removed               the framework was torn down, or the agent marked gone
    ├── Unavailable               nobody's fault: try again
    │   ├── NotLeader             this master does not lead; `leader` says who does
    │   ├── TooSlow               a bound was reached; reconnect
    │   └── TimedOut              no answer within the time given
    └── ProtocolError             the peer's fault: it broke the contract

Each carries data and a message that says what to do next. `exit_code` and `http_status` map them for people and REST.
"""

from __future__ import annotations


def shortened(text: str, most: int) -> str:
    """Return at most `most` characters: an error travels in the trailers of a call, which hold few thousand bytes."""
    return text if len(text) <= most else text[: most - 3] + "..."


class RunrigError(Exception):
    """Anything that Runrig raises on purpose."""


class Refused(RunrigError):
    """The caller's fault: the same call fails again."""


class InvalidInput(Refused):
    """`field` has `value`, which is not allowed; `allowed` says what is."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        shown = shortened(repr(value), 120)
        super().__init__(f"{shortened(field, 400)}: {shown} is not allowed; allowed: {shortened(allowed, 1000)}")
        self.field = field
        self.value = value
        self.allowed = allowed


class NotFound(Refused):
    """There is no `kind` with the name `name`."""

    def __init__(self, kind: str, name: str, hint: str = "") -> None:
        super().__init__(f"there is no {kind} {shortened(name, 120)!r}" + (f"; {hint}" if hint else ""))
        self.kind = kind
        self.name = name


class Conflict(Refused):
    """It is there already, or in a state that forbids the call."""


class Superseded(Refused):
    """A newer process with the same id has taken over; this one must end."""


class Removed(Refused):
    """The framework was torn down, or the agent marked gone: its id is never admitted again."""


class Unavailable(RunrigError):
    """Nobody's fault: try again."""


class NotLeader(Unavailable):
    """This master does not lead; `leader` is the address of the one that does, if known."""

    def __init__(self, leader: str = "") -> None:
        super().__init__(f"this master does not lead; ask {leader}" if leader else "no master leads yet; try again")
        self.leader = leader


class TooSlow(Unavailable):
    """A bound was reached because the receiver was too slow."""


class TimedOut(Unavailable):
    """No answer within the time given."""


class ProtocolError(RunrigError):
    """The peer broke the contract."""


# What a command-line tool ends with: documented in `runrig --help`.
EXIT_OK = 0
EXIT_TASK_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_UNREACHABLE = 4
EXIT_CONFLICT = 5
EXIT_TIMEOUT = 124

_EXIT_CODES: tuple[tuple[type[RunrigError], int], ...] = (
    (InvalidInput, EXIT_USAGE),
    (NotFound, EXIT_NOT_FOUND),
    (TimedOut, EXIT_TIMEOUT),
    (Unavailable, EXIT_UNREACHABLE),
    (Refused, EXIT_CONFLICT),
    (ProtocolError, EXIT_UNREACHABLE),
)

_HTTP_STATUSES: tuple[tuple[type[RunrigError], int], ...] = (
    (InvalidInput, 422),
    (NotFound, 404),
    (Refused, 409),
    (TimedOut, 504),
    (Unavailable, 503),
    (ProtocolError, 502),
)


def exit_code(error: RunrigError) -> int:
    """Return what a command-line tool that met `error` ends with."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), EXIT_TASK_FAILED)


def http_status(error: RunrigError) -> int:
    """Return the HTTP status that says `error`."""
    return next((status for kind, status in _HTTP_STATUSES if isinstance(error, kind)), 500)
