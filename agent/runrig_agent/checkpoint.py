"""What the agent keeps on disk: one SQLite file in its work directory, written by one thread.

The thread takes all changes that wait and commits them together (WAL, synchronous=FULL: a commit is durable when it
returns). Changes are applied in the order of their writing, as `core.memory_checkpoint` does. A lock on the work
directory keeps a second agent out: it is held as long as this process lives, and no longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import queue
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import assert_never

from runrig.errors import Conflict, Unavailable
from runrig.ids import AgentId, FrameworkId, Role, TaskId
from runrig.tasks import Reason, StatusUpdate, TaskState
from runrig_agent.core import records
from runrig_agent.core.task import Ending, TaskKey
from runrig_agent.rows_grpc import spec_from_row, spec_to_row, update_from_row, update_to_row

SCHEMA_VERSION = 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tasks (
    framework_id TEXT NOT NULL, task_id TEXT NOT NULL, framework_name TEXT NOT NULL, role TEXT NOT NULL,
    task_group TEXT NOT NULL, launched_at REAL NOT NULL, spec BLOB NOT NULL,
    acknowledged INTEGER NOT NULL DEFAULT 0, ending TEXT, PRIMARY KEY (framework_id, task_id));
CREATE TABLE IF NOT EXISTS updates (
    framework_id TEXT NOT NULL, task_id TEXT NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (framework_id, task_id, number));
CREATE TABLE IF NOT EXISTS tombstones (
    framework_id TEXT NOT NULL, task_id TEXT NOT NULL, at REAL NOT NULL, body BLOB,
    PRIMARY KEY (framework_id, task_id));
"""
_PUT_TASK = (
    "INSERT OR REPLACE INTO tasks (framework_id, task_id, framework_name, role, task_group, launched_at, spec)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a checkpoint held when it was opened. The agent's id is chosen at its first start."""

    agent_id: AgentId
    saved: records.SavedState
    is_host_rebooted: bool


class Checkpoint:
    """The open checkpoint of this process."""

    def __init__(self, connection: sqlite3.Connection, lock: int, path: Path, make_room: Callable[[], None]) -> None:
        self._connection = connection
        self._make_room = make_room
        self._lock = lock
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._problem: Unavailable | None = None
        self._thread = threading.Thread(target=self._write_all, name="checkpoint", daemon=True)
        self._thread.start()
        self.commits = 0

    @classmethod
    async def open(cls, work_dir: Path, make_room: Callable[[], None] = lambda: None) -> tuple[Checkpoint, Opened]:
        """Open the checkpoint of a work directory, which is made if it is not there.

        When the disk is full `make_room` is called, in any thread, to free some of it for one more try.
        Raises Conflict when another agent runs in it, Unavailable when it cannot be used.
        """
        path = work_dir / "agent.db"
        try:
            lock = await asyncio.to_thread(_lock, work_dir)
        except OSError as error:
            raise Unavailable(f"the work directory {work_dir} cannot be used: {error.strerror}") from error
        try:
            connection, opened = await asyncio.to_thread(_opened, path, make_room)
        except (sqlite3.Error, OSError) as error:
            os.close(lock)
            raise Unavailable(f"the checkpoint {path} cannot be read: {error}; {_advice(error)}") from error
        except Conflict:
            os.close(lock)
            raise
        return cls(connection, lock, path, make_room), opened

    def write(self, changes: tuple[records.Change, ...]) -> asyncio.Future[None]:
        """Make changes durable, after all that were written before; the future raises Unavailable."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.put(_Write(changes, future))
        return future

    async def close(self) -> None:
        """Write what waits, then let another agent in."""
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()
        os.close(self._lock)

    def _write_all(self) -> None:
        while (first := self._waiting.get()) is not None:
            together = [first]
            with contextlib.suppress(queue.Empty):
                while (more := self._waiting.get_nowait()) is not None:
                    together.append(more)
                self._waiting.put(None)  # it was the sign to end: it must be seen again
            self._commit(together)

    def _commit(self, writes: list[_Write]) -> None:
        try:
            if self._problem is None:
                self._apply_in_room(writes)
                self.commits += 1
        except sqlite3.Error as error:
            self._problem = Unavailable(f"the checkpoint {self._path} cannot be written: {error}; {_advice(error)}")
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
            self._loop.call_soon_threadsafe(_settle, writes, self._problem)

    def _apply_in_room(self, writes: list[_Write]) -> None:
        """Apply what must be kept, on a full disk too: then there is room kept for it."""
        try:
            self._apply(writes)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            self._make_room()
            self._apply(writes)

    def _apply(self, writes: list[_Write]) -> None:
        execute = self._connection.execute
        execute("BEGIN")
        try:
            for write in writes:
                for change in write.changes:
                    for statement, values in _statements(change):
                        execute(statement, values)
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()


@dataclass(frozen=True, slots=True)
class _Write:
    changes: tuple[records.Change, ...]
    future: asyncio.Future[None]


def _advice(error: Exception) -> str:
    return "free disk on it" if "full" in str(error) else "check its disk"


def _settle(writes: list[_Write], problem: Unavailable | None) -> None:
    for write in writes:
        if write.future.done():
            continue
        if problem is None:
            write.future.set_result(None)
        else:
            write.future.set_exception(problem)


def _lock(work_dir: Path) -> int:
    """Hold the lock of the work directory, made if need be; raise Conflict when another process does."""
    work_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    lock = os.open(work_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(lock, 20).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise Conflict(
            f"another agent (pid {owner}) runs in {work_dir}; stop it, or choose another --work-dir"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _opened(path: Path, make_room: Callable[[], None]) -> tuple[sqlite3.Connection, Opened]:
    """Open and read the file; on a full disk it says `disk I/O error` as well."""
    try:
        connection = _connect(path)
        return connection, _load(connection)
    except sqlite3.OperationalError:
        make_room()
        connection = _connect(path)
        return connection, _load(connection)


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file and make it what this version needs; raise Conflict when a newer version wrote it."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # tasks' secrets are in it, and in its log
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.executescript(_SCHEMA)
    version = _meta(connection, "schema", str(SCHEMA_VERSION))
    if int(version) > SCHEMA_VERSION:
        connection.close()
        raise Conflict(f"{path} was written by a newer version of the agent; upgrade this one")
    return connection


def _load(connection: sqlite3.Connection) -> Opened:
    agent_id = AgentId(_meta(connection, "agent_id", f"agent-{uuid.uuid4().hex[:12]}"))
    boot_id = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
    is_host_rebooted = _meta(connection, "boot_id", boot_id) != boot_id
    connection.execute("UPDATE meta SET value = ? WHERE name = 'boot_id'", (boot_id,))
    return Opened(agent_id, _saved(connection), is_host_rebooted)


def _meta(connection: sqlite3.Connection, name: str, first: str) -> str:
    """Return a value, which is `first` if there is none yet."""
    connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, first))
    [(value,)] = connection.execute("SELECT value FROM meta WHERE name = ?", (name,))
    return str(value)


def _saved(connection: sqlite3.Connection) -> records.SavedState:
    updates: dict[TaskKey, list[StatusUpdate]] = {}
    for (body,) in connection.execute("SELECT body FROM updates ORDER BY framework_id, task_id, number"):
        update = update_from_row(body)
        updates.setdefault((update.framework_id, update.task_id), []).append(update)
    tombstones = (
        records.Tombstone(_key(framework_id, task_id), update_from_row(body) if body is not None else None, at)
        for framework_id, task_id, at, body in connection.execute(
            "SELECT framework_id, task_id, at, body FROM tombstones ORDER BY at, framework_id, task_id"
        )
    )
    return records.SavedState(
        int(_meta(connection, "session", "0")),
        int(_meta(connection, "epoch", "0")),
        tuple(_saved_tasks(connection, updates)),
        tuple(tombstones),
    )


def _saved_tasks(
    connection: sqlite3.Connection, updates: dict[TaskKey, list[StatusUpdate]]
) -> Iterator[records.SavedTask]:
    for framework_id, task_id, name, role, group, launched_at, spec, acknowledged, ending in connection.execute(
        "SELECT framework_id, task_id, framework_name, role, task_group, launched_at, spec, acknowledged, ending"
        " FROM tasks ORDER BY launched_at, framework_id, task_id"
    ):
        key = _key(framework_id, task_id)
        members = tuple(TaskId(member) for member in json.loads(group))
        record = records.TaskRecord(key, name, Role(role), spec_from_row(spec), members, launched_at)
        yield records.SavedTask(record, _ending(ending), acknowledged, tuple(updates.get(key, ())))


def _statements(change: records.Change) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield the statements that a change means."""
    match change:
        case records.PutLink(session, epoch):
            yield "INSERT OR REPLACE INTO meta VALUES ('session', ?)", (str(session),)
            yield "INSERT OR REPLACE INTO meta VALUES ('epoch', ?)", (str(epoch),)
        case records.PutTask(record):
            yield (
                _PUT_TASK,
                (
                    *record.key,
                    record.framework_name,
                    record.role,
                    json.dumps(record.group),
                    record.launched_at,
                    spec_to_row(record.spec),
                ),
            )
        case records.PutEnding(key, ending):
            row = json.dumps(asdict(ending))
            yield "UPDATE tasks SET ending = ? WHERE framework_id = ? AND task_id = ?", (row, *key)
        case records.PutUpdate(update):
            row_key = (update.framework_id, update.task_id, update.number)
            yield "INSERT OR REPLACE INTO updates VALUES (?, ?, ?, ?)", (*row_key, update_to_row(update))
        case records.DropUpdate(key, number):
            yield "DELETE FROM updates WHERE framework_id = ? AND task_id = ? AND number = ?", (*key, number)
        case records.PutAcknowledged(key, through, below):
            yield (
                "UPDATE tasks SET acknowledged = ? WHERE framework_id = ? AND task_id = ?",
                (through, *key),
            )
            yield "DELETE FROM updates WHERE framework_id = ? AND task_id = ? AND number < ?", (*key, below)
        case records.PutTombstone(tombstone):
            key, body = tombstone.key, tombstone.update
            yield "DELETE FROM tasks WHERE framework_id = ? AND task_id = ?", key
            yield "DELETE FROM updates WHERE framework_id = ? AND task_id = ?", key
            yield (
                "INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?, ?)",
                (*key, tombstone.at, update_to_row(body) if body is not None else None),
            )
        case records.DropTombstones(keys):
            for key in keys:
                yield "DELETE FROM tombstones WHERE framework_id = ? AND task_id = ?", key
        case _:
            assert_never(change)


def _ending(row: str | None) -> Ending | None:
    if row is None:
        return None
    values = json.loads(row)
    return Ending(**{**values, "state": TaskState(values["state"]), "reason": Reason(values["reason"])})


def _key(framework_id: str, task_id: str) -> TaskKey:
    return FrameworkId(framework_id), TaskId(task_id)
