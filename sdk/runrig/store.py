"""Where a framework keeps what must survive it: entries by key, changed together or not at all.

`SqliteStore` is for real, `MemoryStore` for tests and for frameworks that may forget.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from runrig._sqlite import SqliteFile, read_entries

_SCHEMA = "CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"


class Store(Protocol):
    """Durable entries."""

    @property
    def is_durable(self) -> bool:
        """Say whether the entries outlive the process.

        A framework that forgets its id cannot come back for its tasks.
        """

    async def read(self, prefix: str = "") -> dict[str, bytes]:
        """Return the entries whose key starts with `prefix`, in the order of their keys."""

    async def commit(self, puts: Mapping[str, bytes], deletes: Iterable[str] = ()) -> None:
        """Write and remove entries, all or nothing; return once that is durable. Raises Unavailable."""

    async def close(self) -> None:
        """Free what the store holds."""


class MemoryStore:
    """Entries that are gone with the process.

    Example:
        >>> import asyncio
        >>> store = MemoryStore()
        >>> asyncio.run(store.commit({"job/1": b"waiting"}))
        >>> asyncio.run(store.read("job/"))
        {'job/1': b'waiting'}
    """

    is_durable = False

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}

    async def read(self, prefix: str = "") -> dict[str, bytes]:
        """Return the entries whose key starts with `prefix`, in the order of their keys."""
        return {key: value for key, value in sorted(self.entries.items()) if key.startswith(prefix)}

    async def commit(self, puts: Mapping[str, bytes], deletes: Iterable[str] = ()) -> None:
        """Write and remove entries."""
        self.entries.update(puts)
        for key in deletes:
            self.entries.pop(key, None)

    async def close(self) -> None:
        """Do nothing: the entries stay, for a second framework to find."""


class SqliteStore:
    """Entries in one SQLite file (write-ahead log, full synchronisation, group commit)."""

    is_durable = True

    def __init__(self, path: str | Path) -> None:
        """Open or create the file; raise Conflict if another process has it open."""
        self._file = SqliteFile(Path(path), _SCHEMA)

    async def read(self, prefix: str = "") -> dict[str, bytes]:
        """Return the entries whose key starts with `prefix`, in the order of their keys."""
        return await self._file.run(lambda connection: read_entries(connection, prefix))

    async def commit(self, puts: Mapping[str, bytes], deletes: Iterable[str] = ()) -> None:
        """Write and remove entries, all or nothing; return once that is durable. Raises Unavailable."""
        written = list(puts.items())
        removed = [(key,) for key in deletes]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", written)
            connection.executemany("DELETE FROM entries WHERE key = ?", removed)

        await self._file.run(work)

    async def close(self) -> None:
        """Close the file."""
        self._file.close()
