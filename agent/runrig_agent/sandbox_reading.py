"""Reads a log that rotates meanwhile (see sandbox_logs), from the start or its last lines, to its end or on.

A log is a chain of files: `stdout.2`, `stdout.1`, `stdout`. A rotation is noticed by the new inode of
`stdout.1`, and counted by where the old one went. Whether it was made by renaming or by copying, what was
`stdout` is then `stdout.n` with the same content, so one rule serves both: go on there at the same offset,
and then upwards to `stdout`. Everything here blocks, shortly, and is called in a thread. The files belong to
a task: links are never followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Self

CHUNK_BYTES = 64 * 1024
FILES_MAX = 100
"""Rotated files looked at: more than any setting makes, fewer than a hostile task can."""
RESTLESS_MAX = 10
"""Looks at a rotation in progress before it is taken as it is."""


@dataclass(slots=True)
class _Segment:
    """One open file of the chain: what is to be read of it begins at `offset`, and ends at `end` if given."""

    descriptor: int
    offset: int = 0
    end: int | None = None

    def read(self) -> bytes:
        length = CHUNK_BYTES if self.end is None else min(CHUNK_BYTES, self.end - self.offset)
        data = os.pread(self.descriptor, length, self.offset) if length > 0 else b""
        self.offset += len(data)
        return data

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size


class LogReader:
    """Reads one stream of one sandbox.

    With `follow`, `read` may return more after it has returned nothing; without, it ends at what was there at
    first.
    """

    def __init__(self, sandbox: Path, stream: str, *, follow: bool = False, tail_lines: int | None = None) -> None:
        self._sandbox = sandbox
        self._stream = stream
        self._follow = follow
        self._tail_lines = tail_lines
        self._segments: deque[_Segment] = deque()
        self._newest_rotated: int | None = None
        self._anchor: int | None = None  # keeps that file open, as a freed inode is soon another file's
        self._restless = 0
        self._seen_size: int | None = None

    def __enter__(self) -> Self:
        """Open what there is, at the place to begin."""
        self._open_chain(FILES_MAX)
        if self._tail_lines is not None:
            _skip_to_last_lines(self._segments, self._tail_lines)
        if not self._follow:
            for segment in self._segments:
                segment.end = segment.size
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._drop_anchor()
        while self._segments:
            os.close(self._segments.popleft().descriptor)

    def read(self) -> bytes:
        """Return the next bytes, at most CHUNK_BYTES; nothing when all that is there now has been read."""
        while self._segments:
            segment = self._segments[0]
            if len(self._segments) == 1 and self._follow:
                return self._read_newest(segment)
            if data := segment.read():
                return data
            os.close(self._segments.popleft().descriptor)
        if self._follow:  # the task has not written yet
            self._open_chain(FILES_MAX)
            return self._segments[0].read() if self._segments else b""
        return b""

    def _read_newest(self, segment: _Segment) -> bytes:
        """Read the file that is written to; once it has been rotated, go on where its content is now."""
        if self._inode(1) != self._newest_rotated:
            return self.read() if self._follow_rotation(segment) else b""
        if segment.size < segment.offset:
            segment.offset = 0  # the task has emptied it itself
        data = segment.read()
        if not data and self._inode(0) not in (None, os.fstat(segment.descriptor).st_ino):
            self._open_chain(0)  # the task has replaced it itself
        return data

    def _follow_rotation(self, segment: _Segment) -> bool:
        """Open what lies between `segment` and the newest file; say whether there is something to read."""
        if not self._is_settled():
            return False
        chain = [inode for number in range(1, FILES_MAX + 1) if (inode := self._inode(number)) is not None]
        rotations = chain.index(self._newest_rotated) if self._newest_rotated in chain else len(chain)
        is_lost = self._newest_rotated is not None and self._newest_rotated not in chain
        offset = 0 if is_lost else segment.offset
        self._open_chain(rotations)
        if self._segments:
            self._segments[0].offset = offset
        return True

    def _is_settled(self) -> bool:
        """Say whether a rotation is over: `.1`, which may be a copy in the making, has kept its size."""
        size = self._size(1)
        self._restless += 1
        is_settled = size is not None and size == self._seen_size
        if is_settled or self._restless > RESTLESS_MAX:
            self._restless, self._seen_size = 0, None
            if size is None:  # no rotation: the task has removed it itself
                self._drop_anchor()
            return size is not None
        self._seen_size = size
        return False

    def _open_chain(self, rotated: int) -> None:
        """Open the newest file and up to `rotated` before it; again if they rotate meanwhile."""
        for _ in range(3):
            self.close()
            self._set_anchor()
            for number in range(rotated + 1):
                descriptor = self._open(number)
                if descriptor is not None:
                    self._segments.appendleft(_Segment(descriptor))
                elif number > 0:
                    break
            if self._inode(1) == self._newest_rotated:
                return

    def _set_anchor(self) -> None:
        """Remember which file is the newest rotated one."""
        self._drop_anchor()
        with contextlib.suppress(OSError):
            self._anchor = os.open(self._path(1), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._newest_rotated = os.fstat(self._anchor).st_ino

    def _drop_anchor(self) -> None:
        if self._anchor is not None:
            os.close(self._anchor)
        self._anchor = self._newest_rotated = None

    def _path(self, number: int) -> Path:
        return self._sandbox / (f"{self._stream}.{number}" if number else self._stream)

    def _open(self, number: int) -> int | None:
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self._path(number), flags)
        except OSError:  # not there, a link, or not ours to read
            return None
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return None

    def _inode(self, number: int) -> int | None:
        try:
            return self._path(number).lstat().st_ino
        except OSError:
            return None

    def _size(self, number: int) -> int | None:
        try:
            return self._path(number).lstat().st_size
        except OSError:
            return None


def _skip_to_last_lines(segments: deque[_Segment], lines: int) -> None:
    """Set the offsets so that the last `lines` lines are read; a last line without its newline counts too."""
    missing = lines + 1  # the newline before the first wanted line
    is_end = True
    for segment in reversed(segments):
        end = segment.size
        segment.offset = end
        while end > 0 and missing > 0:
            begin = max(0, end - CHUNK_BYTES)
            block = os.pread(segment.descriptor, end - begin, begin)
            if is_end and not block.endswith(b"\n"):
                missing -= 1
            is_end = False
            found, missing = _newlines_back(block, missing)
            segment.offset = begin + found
            end = begin
        if missing <= 0:
            _skip_all_before(segments, segment)
            return


def _newlines_back(block: bytes, missing: int) -> tuple[int, int]:
    """Return where the text after the `missing`-th newline from the end begins, and how many still miss."""
    begin = end = len(block)
    while missing > 0:
        end = block.rfind(b"\n", 0, end)
        if end < 0:
            return 0, missing
        begin, missing = end + 1, missing - 1
    return begin, 0


def _skip_all_before(segments: deque[_Segment], first: _Segment) -> None:
    for segment in segments:
        if segment is first:
            return
        segment.offset = segment.size
