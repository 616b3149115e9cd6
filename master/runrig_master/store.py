"""Where the master keeps what must survive it, fenced by the epoch of its leadership.

`sqlite:///path` for real, `memory:` for tests. Every commit names the term under which it is made: a term that is over
writes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from runrig._sqlite import SqliteFile, read_entries
from runrig.errors import InvalidInput, Superseded

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS epoch (only INTEGER PRIMARY KEY CHECK (only = 1), value INTEGER NOT NULL);
INSERT OR IGNORE INTO epoch VALUES (1, 0);
"""


@dataclass(frozen=True, slots=True)
class Term:
    """One leadership; `epoch` grows with each."""

    epoch: int


class Store(Protocol):
    """Durable entries under a fence."""

    async def campaign(self) -> Term:
        """Begin a leadership, ending any other."""

    async def read(self, prefix: str) -> dict[str, bytes]:
        """Return the entries whose key starts with `prefix`, in order."""

    async def commit(self, puts: Mapping[str, bytes], deletes: Iterable[str], term: Term) -> None:
        """Write and remove entries, all or nothing.

        Raise Superseded when `term` is over, Unavailable when it cannot.
        """

    def close(self) -> None:
        """Free what the store holds."""


class MemoryStore:
    """Entries that are gone with the process."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.epoch = 0

    async def campaign(self) -> Term:
        """Begin a leadership, ending any other."""
        self.epoch += 1
        return Term(self.epoch)

    async def read(self, prefix: str) -> dict[str, bytes]:
        """Return the entries whose key starts with `prefix`, in order."""
        return {key: value for key, value in sorted(self.entries.items()) if key.startswith(prefix)}

    async def commit(self, puts: Mapping[str, bytes], deletes: Iterable[str], term: Term) -> None:
        """Write and remove entries; raise Superseded when `term` is over."""
        _check_term(self.epoch, term)
        self.entries.update(puts)
        for key in deletes:
            self.entries.pop(key, None)

    def close(self) -> None:
        """Do nothing."""


class SqliteStore:
    """Entries in one SQLite file, with the epoch beside them and compared in each transaction."""

    def __init__(self, path: Path) -> None:
        """Open or create the file; raise Conflict if another master has it open."""
        self._file = SqliteFile(path, _SCHEMA)

    async def campaign(self) -> Term:
        """Begin a leadership, ending any other."""

        def work(connection: sqlite3.Connection) -> int:
            connection.execute("UPDATE epoch SET value = value + 1")
            return _epoch(connection)

        return Term(await self._file.run(work))

    async def read(self, prefix: str) -> dict[str, bytes]:
        """Return the entries whose key starts with `prefix`, in order."""
        return await self._file.run(lambda connection: read_entries(connection, prefix))

    async def commit(self, puts: Mapping[str, bytes], deletes: Iterable[str], term: Term) -> None:
        """Write and remove entries, all or nothing.

        Raise Superseded when `term` is over, Unavailable when it cannot.
        """
        written = list(puts.items())
        removed = [(key,) for key in deletes]

        def work(connection: sqlite3.Connection) -> None:
            _check_term(_epoch(connection), term)
            connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", written)
            connection.executemany("DELETE FROM entries WHERE key = ?", removed)

        await self._file.run(work)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_store(url: str) -> Store:
    """Open the store that `url` names; raise InvalidInput for a kind that is not known."""
    if url == "memory:":
        return MemoryStore()
    kind, _, place = url.partition(":")
    path = Path("/" + place.lstrip("/") if place.startswith("///") else place)
    if kind == "sqlite" and path.name and (place.startswith("///") or not place.startswith("//")):
        return SqliteStore(path)
    raise InvalidInput("state", url, "sqlite:///absolute/path, sqlite:relative/path or memory:")


def _epoch(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT value FROM epoch").fetchone()[0])


def _check_term(epoch: int, term: Term) -> None:
    if epoch != term.epoch:
        raise Superseded(f"epoch {term.epoch} is over: another master leads with epoch {epoch}")
