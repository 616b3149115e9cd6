"""Names and paths of sandboxes: what a task, which is not trusted, has put there must not lead anywhere else.

Reading: `opened_inside` follows links, as people expect, and then asks the kernel where the opened file
really is; what is not below the sandbox is refused. That leaves no moment in which a task could exchange a
directory for a link. Writing: `directory_inside` never goes through a link.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from runrig.errors import InvalidInput, NotFound, Refused

NAME_MAX = 200
"""Bytes of a directory's name, below the 255 of most file systems: a prefix and a suffix must still fit."""

INSIDE = "a path within the sandbox, relative to it; links that lead out of it are not followed"


def safe_name(value: str) -> str:
    """Return a file name for an id: readable, never hidden, never `..`, different for different ids.

    Everything but letters, digits and `_-@+=.` is percent-encoded: colons and commas have meanings in paths
    of search and in mount options. A name that becomes too long ends in `~` and a hash, and `~` is otherwise
    encoded.
    """
    name = quote(value, safe="@+=", encoding="utf-8", errors="surrogatepass").replace("~", "%7E")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    if len(name) <= NAME_MAX:
        return name
    digest = hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()[:32]
    return f"{name[: NAME_MAX - 33]}~{digest}"


@dataclass(frozen=True, slots=True)
class Opened:
    """Something found inside: `descriptor` names it (O_PATH: not to be read), `path` says where it is."""

    descriptor: int
    status: os.stat_result
    path: str

    def reopen(self, flags: int = 0) -> int:
        """Return a new descriptor to read it with; it never blocks, whatever the file is."""
        return os.open(f"/proc/self/fd/{self.descriptor}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)


@contextmanager
def opened_inside(root: Path, path: str, field: str = "path") -> Iterator[Opened]:
    """Find `path` (relative; empty: the root) below `root`; nothing is read, so that devices do no harm.

    Raises InvalidInput naming `field` for what leads out of `root`, NotFound, and Refused when it may not be
    read.
    """
    parts = checked_parts(path, field) if path not in ("", ".") else ()
    descriptor = _found(os.path.join(root, *parts), path, field)
    try:
        home = os.path.realpath(root)
        real = os.readlink(f"/proc/self/fd/{descriptor}")
        if real != home and not real.startswith(home.rstrip("/") + "/"):
            raise InvalidInput(field, path, INSIDE)
        yield Opened(descriptor, os.fstat(descriptor), os.path.relpath(real, home))
    finally:
        os.close(descriptor)


def checked_parts(path: str, field: str) -> tuple[str, ...]:
    """Return the parts of a relative path without `..`; raise InvalidInput naming `field`."""
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if path.startswith("/") or ".." in parts or "\0" in path or not parts:
        raise InvalidInput(field, path, INSIDE)
    return parts


def _found(full: str, path: str, field: str) -> int:
    try:
        return os.open(full, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("file", path, "list the sandbox to see what is there") from None
    except PermissionError as error:
        raise Refused(f"{field}: the agent may not read {path!r}: {error.strerror}") from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise InvalidInput(field, path, f"{INSIDE}; {error.strerror}") from error
        raise
    except UnicodeEncodeError:
        raise InvalidInput(field, path, "valid Unicode") from None


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom new files belong to; as root only, otherwise they are this process's own."""

    uid: int
    gid: int

    @classmethod
    def of(cls, path: Path) -> Owner:
        """Say whom a directory belongs to."""
        status = path.stat()
        return cls(status.st_uid, status.st_gid)

    def give(self, descriptor: int) -> None:
        """Make an open file or directory theirs."""
        if os.geteuid() == 0:
            os.fchown(descriptor, self.uid, self.gid)


@contextmanager
def directory_inside(root: int, parts: Sequence[str], owner: Owner) -> Iterator[int]:
    """Open the directory `parts` below the descriptor `root`, made where missing, never through a link.

    Raises NotADirectoryError when something else is in the way.
    """
    descriptor = os.dup(root)
    try:
        for part in parts:
            below = _directory(descriptor, part, owner)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _directory(parent: int, name: str, owner: Owner) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", name) from None
        return os.open(name, flags, dir_fd=parent)
    descriptor = os.open(name, flags, dir_fd=parent)
    owner.give(descriptor)
    return descriptor
