"""Bugs that a program under fire owns up to: in its log, or to its event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from structlog.testing import capture_logs

GRPC_OF_AN_EARLIER_LOOP = "PollerCompletionQueue"
"""gRPC wakes the event loops of earlier tests, too, which are closed by now."""
TELLTALE = ("Traceback", "a bug of the", "request failed", "stream failed", "never retrieved")


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what is an error, or has a traceback."""
        if record.levelno >= logging.ERROR or record.exc_info:
            self.faults.append(f"{record.name}: {logging.Formatter().format(record)}")


@contextlib.contextmanager
def no_faults() -> Iterator[None]:
    """Fail if, while the block runs, this process logs a bug of its own or an exception is left to the loop."""
    records, loose = _Records(), list[dict[str, Any]]()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: loose.append(context))
    logging.getLogger().addHandler(records)
    try:
        with capture_logs() as said:
            yield
    finally:
        logging.getLogger().removeHandler(records)
        loop.set_exception_handler(None)
    faults = [*records.faults, *(str(each) for each in said if "exc_info" in each or is_telltale(each["event"]))]
    assert not faults, "\n".join(faults)
    assert not [each for each in loose if GRPC_OF_AN_EARLIER_LOOP not in each["message"]], loose


def is_telltale(text: str) -> bool:
    """Say whether a line of a log tells of a bug."""
    return any(word in text for word in TELLTALE)
