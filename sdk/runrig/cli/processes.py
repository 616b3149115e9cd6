"""Processes that `runrig dev` keeps: its own children, and those that it found running.

A process is known by its command line, since a pid may have been given to another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

POLL_S = 0.2  # how often a process that is not a child is looked at
PROC = Path("/proc")


class Running(Protocol):
    """A process that runs, or has run."""

    pid: int

    async def ended(self) -> str:
        """Wait for its end and say how it ended."""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""


class Child:
    """A process that this one started, in a session of its own: no Ctrl-C of the terminal reaches it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self._process = process

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        return self._process.returncode is not None

    @classmethod
    async def start(cls, command: Sequence[str], env: Mapping[str, str], log: Path) -> Child:
        """Start `command` with `env` over this process's own; all it writes is appended to `log`."""
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **env},
                start_new_session=True,
            )
        return cls(process)

    async def ended(self) -> str:
        """Wait for its end and say how it ended."""
        code = await self._process.wait()
        return f"exit {code}" if code >= 0 else f"killed by {_signal_name(-code)}"

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


class Found:
    """A process that somebody else started."""

    def __init__(self, pid: int, command: Sequence[str]) -> None:
        self.pid = pid
        self._command = command
        self._is_beyond_reach = False

    async def ended(self) -> str:
        """Wait for its end; how it ended is its parent's to know."""
        while runs(self.pid, self._command):  # nobody tells of the end of what is no child
            if self._is_beyond_reach:
                return "left running: it belongs to another user"
            await asyncio.sleep(POLL_S)
        return "ended"

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if runs(self.pid, self._command):
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass
            except PermissionError:  # root's, in a container: it ends with that
                self._is_beyond_reach = True


def runs(pid: int, command: Sequence[str]) -> bool:
    """Say whether the process `pid` lives and is `command`."""
    if PROC.is_dir():
        return _is_command(_command_line(pid), command)
    try:  # elsewhere than on Linux the pid alone must do
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def find(command: Sequence[str]) -> int | None:
    """Return the pid of a process that is `command`, whoever started it."""
    if not PROC.is_dir():
        return None
    pids = sorted(int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
    return next((pid for pid in pids if _is_command(_command_line(pid), command)), None)


def _is_command(line: list[str], command: Sequence[str]) -> bool:
    """Compare command lines; the kernel puts an interpreter before the name of a script."""
    return len(line) - len(command) in (0, 1) and line[-len(command) :] == list(command)


def _command_line(pid: int) -> list[str]:
    """Return the arguments of a process; [] when it is gone or a zombie."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
