"""Unpacking of archives that we do not trust: nothing leaves the folder, and nothing grows beyond its bounds.

Rules, which hold whatever the archive's headers claim:
1. A member is a file, a directory or a link; never a device. Its path is relative, without `..`, not too deep.
2. Nothing is written through a link: the parents of a member are real directories.
3. A symbolic link goes up only at its beginning, and not above the folder; a hard link names a file unpacked before.
4. Bytes are counted as they are written, members as they come; headers are read within a budget.
5. Of a mode only the permission bits for files remain: no setuid, and always readable by the owner.

The kind of an archive is told by its content, not by its name. Everything here blocks, and is called in a thread.
"""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from lzma import LZMAError
from pathlib import Path
from typing import IO, Protocol

from runrig_agent.fetch_decompression import Decompressed, is_compressed
from runrig_agent.sandbox_paths import Owner, directory_inside

COPY_BYTES = 64 * 1024
DEPTH_MAX = 64
NAME_BYTES_MAX = 2048
HEADER_BYTES_MAX = 1024 * 1024
"""Of one member of a tar, extensions included: far above any path and its attributes."""
DIRECTORY_BYTES_PER_FILE = 256
"""Of a zip's central directory, which is read as a whole: long names included."""


class ArchiveRefused(Exception):
    """The archive breaks a rule or a bound, or is none; the message says which, of which member."""


class Given(Exception):
    """Unpacking was given up because nobody wants it any more."""


@dataclass(slots=True)
class Bounds:
    """How large what is unpacked may become; `is_wanted` is asked often, and ends the work when false."""

    bytes_max: int
    files_max: int
    is_wanted: Callable[[], bool] = lambda: True
    _bytes: int = field(default=0, init=False)
    _files: int = field(default=0, init=False)

    def count_file(self) -> None:
        """Count a member."""
        self._files += 1
        if self._files > self.files_max:
            raise ArchiveRefused(f"it holds more than {self.files_max} files")

    def count_bytes(self, count: int) -> None:
        """Count what is about to be written."""
        self._bytes += count
        if self._bytes > self.bytes_max:
            raise ArchiveRefused(f"it is larger than {self.bytes_max} bytes unpacked")
        if not self.is_wanted():
            raise Given


class Readable(Protocol):
    """What a member's content is read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""
