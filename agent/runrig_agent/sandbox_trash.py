"""Removal of what ended tasks have left: trees of any depth, size and permission, made by strangers.

Recursion, and a descriptor per level, would let a task that nests 100,000 directories stop the collection for
ever. So depth is taken apart instead: a directory found in another is first moved to the top of the trash.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own is


@dataclass(slots=True)
class Emptied:
    """What was freed, and what could not be removed and why."""

    freed_bytes: int = 0
    files: int = 0
    problems: list[str] = field(default_factory=list)


def empty_trash(trash: Path, problems_max: int = 10) -> Emptied:
    """Remove all that lies in the directory `trash`, which stays; blocks, so it is called in a thread.

    What cannot be removed (a mount, another user's file) stays and is tried again the next time.
    """
    emptied = Emptied()
    numbers = count(_first_number(trash))
    hopeless: set[str] = set()
    while names := [name for name in os.listdir(trash) if name not in hopeless]:
        for name in names:
            try:
                _remove(trash, name, lambda: f"deep-{next(numbers)}", emptied)
            except OSError as error:
                hopeless.add(name)
                if len(emptied.problems) < problems_max:
                    emptied.problems.append(f"{error.filename or name}: {error.strerror}")
    return emptied


def _first_number(trash: Path) -> int:
    """Return a number above those of directories that an earlier, interrupted run has moved up."""
    numbers = [int(name[5:]) for name in os.listdir(trash) if name.startswith("deep-") and name[5:].isdigit()]
    return max(numbers, default=-1) + 1


def _remove(trash: Path, name: str, fresh_name: Callable[[], str], emptied: Emptied) -> None:
    path = trash / name
    if not stat.S_ISDIR(path.lstat().st_mode):
        _unlink(path, emptied)
        return
    path.chmod(0o700)  # its owner may have closed it to itself, and the agent may not be root
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.path, 0o700)  # to move a directory changes its own `..`
                os.rename(entry.path, trash / fresh_name())
            else:
                _unlink(Path(entry.path), emptied)
    path.rmdir()


def _unlink(path: Path, emptied: Emptied) -> None:
    status = path.lstat()
    path.unlink()
    emptied.files += 1
    if status.st_nlink == 1:
        emptied.freed_bytes += status.st_blocks * BLOCK_BYTES
