"""What holds for every test."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Have what the tests start hear Ctrl-C, even where the tests themselves were started in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
