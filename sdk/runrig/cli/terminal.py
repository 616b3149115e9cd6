"""This process's terminal, for commands that another one is to seem to run in."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import click

CHUNK_BYTES = 64 * 1024
PIECES_MAX = 4  # read ahead of a command that does not read


class Terminal:
    """The terminal of standard input; raises UsageError when there is none."""

    def __init__(self, descriptor: int) -> None:
        if not os.isatty(descriptor):
            raise click.UsageError("-t needs a terminal as standard input; leave it out in scripts")
        self._descriptor = descriptor

    @classmethod
    def of_this_process(cls) -> Terminal:
        """Return the terminal of this process."""
        return cls(sys.stdin.fileno())

    def size(self) -> tuple[int, int]:
        """Return its rows and columns; some terminals do not know theirs."""
        size = os.get_terminal_size(self._descriptor)
        return size.lines or 24, size.columns or 80

    @contextmanager
    def raw(self, resized: Callable[[int, int], Awaitable[None]]) -> Iterator[None]:
        """Pass every key on, Ctrl-C too, and tell `resized` of new sizes; leave it as it was."""
        loop = asyncio.get_running_loop()
        before = termios.tcgetattr(self._descriptor)
        telling: set[asyncio.Future[None]] = set()

        def tell() -> None:
            task = asyncio.ensure_future(resized(*self.size()))
            telling.add(task)
            task.add_done_callback(telling.discard)

        loop.add_signal_handler(signal.SIGWINCH, tell)
        tty.setraw(self._descriptor)
        try:
            yield
        finally:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, before)
            loop.remove_signal_handler(signal.SIGWINCH)


async def typed(descriptor: int) -> AsyncIterator[bytes]:
    """Yield what comes in at a descriptor, be it a terminal, a pipe or a file, until its end.

    It is read by a thread that does not keep the process from ending: a read cannot be interrupted, and to make the
    descriptor non-blocking would make the shell's one so too, whose it is as well.
    """
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    room = threading.Semaphore(PIECES_MAX)

    def read() -> None:
        data = b"-"
        with suppress(OSError, RuntimeError):  # RuntimeError: the loop has been closed meanwhile
            while data:
                data = os.read(descriptor, CHUNK_BYTES)
                room.acquire()
                loop.call_soon_threadsafe(pieces.put_nowait, data)

    threading.Thread(target=read, name="typed", daemon=True).start()
    while data := await pieces.get():
        room.release()
        yield data
