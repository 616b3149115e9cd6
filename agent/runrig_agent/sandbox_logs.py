"""The files `stdout` and `stderr` of a sandbox, and their rotation: one rule for both runtimes.

The newest output is in `stdout`, what came before in `stdout.1`, then `stdout.2`; a rotation gives `stdout.1`
a new inode, by which a reader that follows notices it. Sandboxes belong to tasks, so no name in them is
trusted: links are never followed, neither to read nor to cut what they point to.

Standard library only: the warden imports this.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

STREAMS = ("stdout", "stderr")

_COPY_BYTES = 1 << 20
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class LogLimits:
    """How much of each stream is kept."""

    max_bytes: int = 10 * 1024 * 1024
    """Size at which a file is rotated; a task that writes fast may exceed it between two looks."""
    max_files: int = 4
    """Files kept of each stream, the current one included; at least 1."""


def log_files(sandbox: Path, stream: str) -> list[Path]:
    """List the files of `stream` that exist, the oldest first."""
    rotated: list[Path] = []
    while os.path.lexists(path := _rotated(sandbox / stream, len(rotated) + 1)):
        rotated.append(path)
    current = [sandbox / stream] if os.path.lexists(sandbox / stream) else []
    return [*reversed(rotated), *current]


def open_log(path: Path, owner: tuple[int, int] | None = None) -> int:
    """Open a log for appending, made if need be, and give it to `owner` (uid, gid); the caller closes it.

    Raises OSError, also when the name is taken by something that is no file.
    """
    fd = os.open(path, _APPEND, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))  # noqa: TRY301 - closes it below
        os.set_blocking(fd, True)
        if owner is not None:
            os.fchown(fd, *owner)
    except BaseException:
        os.close(fd)
        raise
    return fd


def rotate_by_copy(path: Path, limits: LogLimits) -> bool:
    """Copy a log that has grown past its limit to `.1` and cut it to nothing; return whether it was.

    For a log that a task writes itself with O_APPEND: its next write goes to the start of the file. What is
    written between the last read and the cut, some microseconds, is lost.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False  # the task removed it, or put something else there
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1 or facts.st_size <= limits.max_bytes:
            return False
        if limits.max_files > 1:
            _shift(path, limits.max_files)
            _copy(fd, _rotated(path, 1), facts)
        os.ftruncate(fd, 0)
        return True
    finally:
        os.close(fd)


def rotate_by_rename(path: Path, limits: LogLimits) -> None:
    """Move a log to `.1`: for a log of which the caller is the only writer and which it opens anew."""
    if limits.max_files > 1:
        _shift(path, limits.max_files)
        os.rename(path, _rotated(path, 1))
    else:
        os.unlink(path)


def _copy(source: int, target: Path, facts: os.stat_result) -> None:
    """Copy until the end of the file, as far as it has grown meanwhile."""
    copy = os.open(target, _CREATE, stat.S_IMODE(facts.st_mode))
    try:
        with contextlib.suppress(PermissionError):
            os.fchown(copy, facts.st_uid, facts.st_gid)
        offset = 0
        while count := os.sendfile(copy, source, offset, _COPY_BYTES):
            offset += count
    finally:
        os.close(copy)


def _shift(path: Path, max_files: int) -> None:
    """Make room at `.1`; what is older than allowed goes."""
    oldest = max_files - 1
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_rotated(path, oldest))
    for number in range(oldest - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            os.rename(_rotated(path, number), _rotated(path, number + 1))


def _rotated(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
