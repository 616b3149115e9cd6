"""The kept output of ended tasks: files under `DATA_DIR/outputs/<job>/`.

<index>.<attempt>.out, .err    what the task wrote, without its middle if it was too much; no file: nothing
<index>.<attempt>.missing      one sentence: why there is no output
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Collection, Iterator
from pathlib import Path

from runrig.ids import TaskId
from runrig_batch.core.job import parts_of
from runrig_batch.mind import Stream

_SUFFIXES: dict[Stream, str] = {"stdout": "out", "stderr": "err"}
_PIECE = 64 * 1024


class Clipped:
    r"""The beginning and the end of a stream, whatever its length.

    Example:
        >>> clipped = Clipped(10)
        >>> clipped.add(b"hello wide and wonderful world")
        >>> clipped.result()
        b'hello\n[runrig: 20 bytes are left out here]\nworld'
    """

    def __init__(self, most_bytes: int) -> None:
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._head_room = most_bytes - most_bytes // 2
        self._tail_room = most_bytes // 2
        self._tail_bytes = 0
        self._left_out = 0

    def add(self, data: bytes) -> None:
        """Take up the next piece."""
        room = self._head_room - len(self._head)
        self._head += data[:room]
        rest = data[room:] if room > 0 else data
        if rest:
            self._tail.append(rest)
            self._tail_bytes += len(rest)
        while self._tail and self._tail_bytes - len(self._tail[0]) >= self._tail_room:
            self._left_out += len(self._tail[0])
            self._tail_bytes -= len(self._tail.popleft())

    def result(self) -> bytes:
        """Return what is kept."""
        tail = b"".join(self._tail)
        excess = max(len(tail) - self._tail_room, 0)
        left_out = self._left_out + excess
        if not left_out:
            return bytes(self._head) + tail
        return bytes(self._head) + f"\n[runrig: {left_out} bytes are left out here]\n".encode() + tail[excess:]


class OutputFiles:
    """The files; none of its methods awaits, so call those that write in a thread."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / "outputs"
        self._root.mkdir(parents=True, exist_ok=True)

    def keep(self, task_id: TaskId, streams: dict[Stream, bytes]) -> None:
        """Write what a task has written; a file is complete or not there."""
        for stream, data in streams.items():
            if data:
                self._write(self._path(task_id, _SUFFIXES[stream]), data)
        self._path(task_id, "missing").unlink(missing_ok=True)

    def note_missing(self, task_id: TaskId, why: str) -> None:
        """Write why there is no output."""
        self._write(self._path(task_id, "missing"), why.encode())

    def missing(self, task_id: TaskId) -> str:
        """Return why there is no output; empty: there is all that the task wrote."""
        try:
            return self._path(task_id, "missing").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def pieces(self, task_id: TaskId, stream: Stream) -> Iterator[bytes]:
        """Yield what a task has written."""
        try:
            with self._path(task_id, _SUFFIXES[stream]).open("rb") as file:
                while data := file.read(_PIECE):
                    yield data
        except FileNotFoundError:
            return

    def sweep(self, known: Collection[str]) -> int:
        """Delete the output of jobs that are not `known`; return of how many."""
        unknown = [folder for folder in self._root.iterdir() if folder.name not in known]
        for folder in unknown:
            shutil.rmtree(folder, ignore_errors=True)
        return len(unknown)

    def _path(self, task_id: TaskId, suffix: str) -> Path:
        parts = parts_of(task_id)
        assert parts is not None, f"{task_id} is no task of a job"
        job_id, index, attempt = parts
        return self._root / job_id / f"{index}.{attempt}.{suffix}"

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        partial.write_bytes(data)
        os.replace(partial, path)
