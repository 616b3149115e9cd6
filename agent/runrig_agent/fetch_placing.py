"""The last step of a fetch: what was fetched takes its place in the sandbox, never through a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runrig_agent.fetch_sources import FetchProblem
from runrig_agent.sandbox_paths import Owner, directory_inside

DRAFT = ".runrig-fetch"
"""Name, or its beginning, of what is not complete yet."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def place_file(draft: Path, sandbox: Path, parts: tuple[str, ...], executable: bool, owner: Owner) -> None:
    """Move a file to its place, and replace what an earlier fetch has put there. Raises FetchProblem."""
    descriptor = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o755 if executable else 0o644)
        owner.give(descriptor)
    finally:
        os.close(descriptor)
    with _opened(sandbox) as root, _in_the_way(parts), directory_inside(root, parts[:-1], owner) as parent:
        os.replace(draft, parts[-1], dst_dir_fd=parent)


def place_content(folder: Path, sandbox: Path, parts: tuple[str, ...], owner: Owner) -> None:
    """Move what lies in `folder` into a directory of the sandbox, and merge them. Raises FetchProblem."""
    with (
        _opened(folder) as source,
        _opened(sandbox) as root,
        _in_the_way(parts),
        directory_inside(root, parts, owner) as target,
    ):
        _merge(source, target)


def _merge(source: int, target: int) -> None:
    """Move the content of one directory into another; no deeper than archives may be."""
    for name in os.listdir(source):
        if _is_directory(source, name) and _is_directory(target, name):
            with _opened(name, source) as below, _opened(name, target) as there:
                _merge(below, there)
        else:
            os.replace(name, name, src_dir_fd=source, dst_dir_fd=target)


def _is_directory(parent: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


@contextmanager
def _opened(path: str | Path, parent: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, _FOLDER, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _in_the_way(parts: tuple[str, ...]) -> Iterator[None]:
    try:
        yield
    except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        place = "/".join(parts) or "the sandbox"
        raise FetchProblem(f"something else is in the way at {error.filename or place!r}, below {place!r}") from error
