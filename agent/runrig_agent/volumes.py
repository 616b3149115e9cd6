"""The directories of persistent volumes: made at first use, kept until they are destroyed.

    <work>/volumes/<volume>           its data, 0700, the user's of the task that used it last
    <work>/volumes/.trash/<volume>    what of it is being removed

They are no part of sandboxes, and nothing collects them. A deletion that a crash interrupts is finished by the next,
and only then is the volume said to be gone.
"""

from __future__ import annotations

import asyncio
import errno
import os
from itertools import count
from pathlib import Path

from runrig.tasks import Reason
from runrig_agent.runtime import LaunchFailed
from runrig_agent.sandbox_paths import safe_name
from runrig_agent.sandbox_trash import empty_trash


class Volumes:
    """All persistent volumes of an agent."""

    def __init__(self, work_directory: Path) -> None:
        self.directory = work_directory / "volumes"
        self._trash = self.directory / ".trash"

    def path(self, volume_id: str) -> Path:
        """Say where a volume's data is, or would be."""
        return self.directory / safe_name(volume_id)

    def provide(self, volume_id: str) -> Path:
        """Make a volume's directory, or find it made, and return it; raises LaunchFailed: DISK_FULL, START_FAILED."""
        path = self.path(volume_id)
        try:
            self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)  # other users' tasks pass, and see nothing
            path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise LaunchFailed(
                Reason.DISK_FULL if is_full else Reason.START_FAILED,
                f"volume {volume_id} cannot be made: {error.strerror} ({error.filename}); "
                + ("free disk or inodes on the agent" if is_full else "check the agent's work directory"),
            ) from error
        return path

    async def delete(self, volume_id: str) -> str | None:
        """Remove a volume's data, which may not be there; return what could not be removed and why, or None."""
        try:
            return await asyncio.to_thread(self._delete, volume_id)
        except OSError as error:
            return f"{error.filename}: {error.strerror}"

    def _delete(self, volume_id: str) -> str | None:
        path = self.path(volume_id)
        trash = self._trash / path.name
        if path.is_dir():
            trash.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.rename(path, trash / _fresh_name(trash))
        if not trash.is_dir():
            return None
        problems = empty_trash(trash).problems
        if problems:
            return "; ".join(problems)
        trash.rmdir()
        return None


def _fresh_name(trash: Path) -> str:
    """Return a name that an earlier, interrupted deletion has not used."""
    return next(name for name in (f"data-{number}" for number in count()) if not (trash / name).exists())
