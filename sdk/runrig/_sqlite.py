"""A SQLite file with one writer thread and group commit.

Jobs that wait while a transaction commits go together into the next one: with synchronous=FULL this costs nothing over
weaker modes (50,000 commits a second with 64 waiting, docs/decisions/0002-state.md). Each job has a savepoint of its
own, so that one that fails takes nothing of the others with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Generic, TypeVar

from runrig.errors import Conflict, Unavailable

T = TypeVar("T")
MOST_JOBS_PER_TRANSACTION = 256


class _Job(Generic[T]):
    __slots__ = ("_error", "_result", "future", "loop", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T], loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.loop = loop
        self.future: asyncio.Future[T] = loop.create_future()
        self._result: T | None = None
        self._error: BaseException | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        connection.execute("SAVEPOINT job")
        try:
            self._result = self.work(connection)
        except Exception as error:  # noqa: BLE001 (raised to who asked)
            connection.execute("ROLLBACK TO job")
            self._error = error
        connection.execute("RELEASE job")

    def finish(self, error: BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop of who asked is closed: others still wait
            self.loop.call_soon_threadsafe(self._settle, error or self._error)

    def _settle(self, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(self._result)  # type: ignore[arg-type]


class SqliteFile:
    """One open file; no other process may open it at the same time."""

    def __init__(self, path: Path, schema: str) -> None:
        """Open `path`, creating it with the statements of `schema`.

        Raises Conflict if another process has it open, Unavailable if it cannot be opened.
        """
        self.path = path
        self._is_closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(path.with_name(path.name + ".lock"))
        except OSError as error:
            raise self._cannot_open(error) from error
        self._jobs: queue.SimpleQueue[_Job[object] | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(schema,), name=f"sqlite {path.name}", daemon=True)
        self._thread.start()
        problem = self._ready.get()
        if problem is not None:
            os.close(self._lock)
            raise self._cannot_open(problem) from problem

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` within a transaction; return its result once the transaction is durable. Raises Unavailable."""
        if self._is_closed:
            raise Unavailable(f"{self.path} has been closed")
        job = _Job(work, asyncio.get_running_loop())
        self._jobs.put(job)  # type: ignore[arg-type]
        return await job.future

    def close(self) -> None:
        """Finish what was asked, then close the file."""
        if not self._is_closed:
            self._is_closed = True
            self._jobs.put(None)
            self._thread.join()
            os.close(self._lock)

    def _cannot_open(self, problem: BaseException) -> Unavailable:
        return Unavailable(f"cannot open {self.path}: {problem}; check the disk and the file's owner")

    def _run(self, schema: str) -> None:
        try:
            connection = sqlite3.connect(self.path, isolation_level=None)
        except sqlite3.Error as error:
            self._ready.put(error)
            return
        with contextlib.closing(connection):
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.executescript(schema)
            except Exception as error:  # noqa: BLE001 (raised to who opens)
                self._ready.put(error)
                return
            self._ready.put(None)
            while self._commit(connection, self._next_jobs()):
                pass

    def _next_jobs(self) -> list[_Job[object] | None]:
        jobs = [self._jobs.get()]
        while len(jobs) < MOST_JOBS_PER_TRANSACTION and jobs[-1] is not None:
            try:
                jobs.append(self._jobs.get_nowait())
            except queue.Empty:
                break
        return jobs

    def _commit(self, connection: sqlite3.Connection, taken: list[_Job[object] | None]) -> bool:
        """Run jobs in one transaction; return whether there will be more."""
        jobs = [job for job in taken if job is not None]
        problem: BaseException | None = None
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                job.run(connection)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            problem = Unavailable(f"cannot write {self.path}: {error}; is its disk full or read-only?")
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        for job in jobs:
            job.finish(problem)
        return len(jobs) == len(taken)


def read_entries(connection: sqlite3.Connection, prefix: str) -> dict[str, bytes]:
    """Return what table `entries` has under keys that start with `prefix`, in order.

    Python compares: SQLite's own functions take a text to end at its first NUL.
    """
    query = "SELECT key, value FROM entries WHERE key >= ? ORDER BY key"
    with contextlib.closing(connection.execute(query, (prefix,))) as rows:
        return dict(takewhile(lambda row: row[0].startswith(prefix), rows))


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise Conflict(
            f"{path.parent} is in use by process {holder}; stop it first, or give another directory"
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
