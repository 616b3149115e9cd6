"""Something for one task to wait for, for a while.

`asyncio.Event` under `asyncio.wait_for` does the same at several times the price, as Python 3.11 makes a task for each
wait; and that `wait_for` forgets a cancellation that comes together with the event, so that a loop around it runs on.
"""

from __future__ import annotations

import asyncio


class Wake:
    """A flag that one task waits for."""

    __slots__ = ("_is_set", "_waiter")

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Let the task go on, now or when it next waits."""
        self._is_set = True
        if self._waiter is not None:
            _release(self._waiter)

    def clear(self) -> None:
        """Have the next wait wait."""
        self._is_set = False

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the flag is set, or for `timeout_s` (None: for ever); say whether it is set."""
        if self._is_set:
            return True
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(timeout_s, _release, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        return self._is_set


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
