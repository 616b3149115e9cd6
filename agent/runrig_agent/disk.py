"""The disk below the work directory: is there room for tasks, and a reserve for what the agent itself must write.

Tasks may fill the disk at any moment, and only the agent can say so: in updates, which must be durable first. So it
keeps a file that takes up room; the checkpoint lets go of it when it meets a full disk. From then on, and already
when little is free, no task is started here, until there is room for the reserve again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from runrig_agent.core.events import DiskChanged

log = structlog.get_logger()

SHARE_MAX = 10
"""Reserve and room asked for are at most a tenth of the disk each: small disks are used too."""


@dataclass(frozen=True, slots=True)
class DiskSettings:
    """When a disk counts as full."""

    reserve_bytes: int = 8 << 20
    """Kept for the agent itself: twice what the checkpoint's log grows to before it is used anew (1,000 pages)."""

    room_bytes: int = 64 << 20
    """Free bytes below which no task is started: what is running may need them, and logs are still written."""

    interval_s: float = 1.0
    """Seconds between two looks, each some microseconds: a task can write a gigabyte in one."""


class DiskWatch:
    """Looks at the disk now and then, and tells the core when it has become full or has room again."""

    def __init__(
        self, work_dir: Path, tell: Callable[[DiskChanged], None], settings: DiskSettings = DiskSettings()
    ) -> None:
        total = _bytes(work_dir)[1]
        self._reserve = min(settings.reserve_bytes, total // SHARE_MAX)
        self._room = min(settings.room_bytes, total // SHARE_MAX)
        self._work_dir = work_dir
        self._tell = tell
        self._settings = settings
        self._is_full = False

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self.look()
            await asyncio.sleep(self._settings.interval_s)

    def look(self) -> None:
        """Look once."""
        has_reserve = take_reserve(self._work_dir, self._reserve)
        free = _bytes(self._work_dir)[0]
        is_full = not has_reserve or free < self._room
        if is_full is self._is_full:
            return
        self._is_full = is_full
        log.warning("disk is full" if is_full else "disk has room again", directory=str(self._work_dir), free=free)
        self._tell(DiskChanged(self._problem(free) if is_full else None))

    def _problem(self, free: int) -> str:
        return (
            f"the agent's disk is full: {free >> 20} MiB are free at {self._work_dir}, tasks are started again from "
            f"{self._room >> 20} MiB on; free some there, or launch it on another agent"
        )


def take_reserve(work_dir: Path, size_bytes: int) -> bool:
    """Take up the room of the reserve, unless that is so already; say whether it is."""
    path = _reserve(work_dir)
    try:
        if path.exists() and path.stat().st_size >= size_bytes:
            return True
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size_bytes)
        finally:
            os.close(fd)
    except OSError:
        release_reserve(work_dir)  # half of it is of no use, and room for others
        return False
    return True


def release_reserve(work_dir: Path) -> None:
    """Give the room of the reserve to whatever is written next; may be called in any thread."""
    with contextlib.suppress(OSError):
        _reserve(work_dir).unlink()


def _reserve(work_dir: Path) -> Path:
    return work_dir / "reserve"


def _bytes(path: Path) -> tuple[int, int]:
    """Return how many bytes are free for this process's user, and how many there are."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
