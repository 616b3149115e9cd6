"""What the warden remembers: a record per task, kept in a journal of JSON lines.

A journal rather than a file per task, so that one flush makes many ends durable. Only ends need the flush:
what was written survives the end of the warden without it, and a crash of the host ends the tasks too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runrig_agent.sandbox_logs import LogLimits

Key = tuple[str, str]

_LINES_BEFORE_COMPACTION = 2000


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a task runs as; numbers, because looking up names may take long and is done by the agent."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class End:
    """How a task ended; `code` None: nobody knows."""

    code: int | None
    at_ms: int
    is_out_of_memory: bool = False
    has_host_rebooted: bool = False
    message: str = ""


@dataclass(slots=True)
class Record:
    """One task. `pid` is 0 from the moment that its start is announced until it has happened."""

    key: Key
    token: str
    boot_id: str
    sandbox: str
    cwd: str
    identity: Identity | None = None
    cgroups: dict[str, str] = field(default_factory=dict)
    memory_limit_bytes: int = 0
    log: LogLimits = field(default_factory=LogLimits)
    pid: int = 0
    start_ticks: int = 0
    started_at_ms: int = 0
    end: End | None = None

    def described(self) -> dict[str, Any]:
        """Return what an agent is told of the task."""
        return {
            "key": self.key,
            "pid": self.pid,
            "started_at_ms": self.started_at_ms,
            "cgroups": self.cgroups,
            "end": None if self.end is None else asdict(self.end),
        }


class Journal:
    """The records, and the file that outlives the process; for the holder of the directory's lock only."""

    def __init__(self, path: Path) -> None:
        self.records: dict[Key, Record] = {}
        self._path = path
        self._must_flush = False
        self._fd = -1
        self._lines = 0
        self._read()
        self._compact()

    def announce(self, record: Record) -> None:
        """Note that a task is about to start."""
        self._write({"is": "announced", "record": asdict(record)})
        self.records[record.key] = record

    def started(self, record: Record) -> None:
        """Note that it has started: pid, start_ticks and started_at_ms are set."""
        self._write(
            {"is": "started", "key": record.key, "pid": record.pid}
            | {"start_ticks": record.start_ticks, "started_at_ms": record.started_at_ms}
        )

    def ended(self, record: Record, end: End) -> None:
        """Note how it ended; on disk after the next `flush`."""
        self._write({"is": "ended", "key": record.key, "end": asdict(end)})
        record.end = end
        self._must_flush = True

    def forgotten(self, record: Record) -> None:
        """Note that nobody asks any more."""
        self._write({"is": "forgotten", "key": record.key})
        del self.records[record.key]

    def flush(self) -> None:
        """Bring what was noted to the disk, and the file down to size when it has grown."""
        if self._lines > _LINES_BEFORE_COMPACTION + 3 * len(self.records) and self._path.exists():
            self._compact()
        elif self._must_flush:
            os.fdatasync(self._fd)
        self._must_flush = False

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _write(self, line: dict[str, Any]) -> None:
        data = _line(line)
        before = os.fstat(self._fd).st_size
        written = os.write(self._fd, data)
        if written != len(data):  # a full disk may take part of it: no other line may follow that
            os.ftruncate(self._fd, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        self._lines += 1

    def _read(self) -> None:
        """Read what there is; only the last line can be incomplete, and was then told to nobody."""
        data = self._path.read_bytes() if self._path.exists() else b""
        for line in data.splitlines():
            with contextlib.suppress(ValueError):
                self._apply(json.loads(line))

    def _apply(self, line: dict[str, Any]) -> None:
        if line["is"] == "announced":
            record = _record(line["record"])
            self.records[record.key] = record
            return
        key: Key = (line["key"][0], line["key"][1])
        record_or_none = self.records.get(key)
        if record_or_none is None:
            return
        match line["is"]:
            case "started":
                for name in ("pid", "start_ticks", "started_at_ms"):
                    setattr(record_or_none, name, line[name])
            case "ended":
                record_or_none.end = End(**line["end"])
            case "forgotten":
                del self.records[key]
            case _:
                pass

    def _compact(self) -> None:
        """Replace the file by one that holds only what is known now."""
        fresh = self._path.with_name(f"{self._path.name}.new")
        fd = os.open(fresh, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(os.dup(fd), "wb") as file:
            for record in self.records.values():
                file.write(_line({"is": "announced", "record": asdict(record)}))
        os.fsync(fd)
        os.rename(fresh, self._path)
        _fsync_directory(self._path.parent)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._lines = len(self.records)


def _record(fields: dict[str, Any]) -> Record:
    identity, end = fields["identity"], fields["end"]
    fields["key"] = (fields["key"][0], fields["key"][1])
    fields["log"] = LogLimits(**fields["log"])
    fields["identity"] = identity and Identity(identity["uid"], identity["gid"], tuple(identity["groups"]))
    fields["end"] = end and End(**end)
    return Record(**fields)


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _fsync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
