"""Processes that commit until they are killed, many in a run: `python -m tests.properties.crashing KIND FOLDER TRIALS`.

Each is forked from this one, which does nothing else: so that a trial costs milliseconds.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from time import perf_counter

from runrig.store import SqliteStore
from runrig_master.store import SqliteStore as MasterStore
from runrig_master.store import Term

KEYS = 50
MOMENTS = 11
"""In each trial another part of the time that a commit takes passes between a receipt and the kill."""


class Opened:
    """Either store, under one leadership if there are any."""

    def __init__(self, kind: str, path: Path) -> None:
        self.store = MasterStore(path) if kind == "master" else SqliteStore(path)
        self.term = Term(0)

    async def lead(self) -> None:
        """Begin a leadership, where there are any."""
        if isinstance(self.store, MasterStore):
            self.term = await self.store.campaign()

    async def commit(self, number: int) -> None:
        """Make commit `number`."""
        puts, deletes = change(number)
        if isinstance(self.store, MasterStore):
            await self.store.commit(puts, deletes, self.term)
        else:
            await self.store.commit(puts, deletes)

    async def close(self) -> None:
        """Close the store."""
        if isinstance(self.store, MasterStore):
            self.store.close()
        else:
            await self.store.close()


def change(number: int) -> tuple[dict[str, bytes], list[str]]:
    """Return what commit `number` puts and deletes: several entries, of which most replace earlier ones."""
    value = b"%d " % number * (number % 97)
    puts = {f"k{number % KEYS}": value, f"k{number * 7 % KEYS}": value, "last": b"%d" % number}
    return puts, [f"k{(number + place) * 3 % KEYS}" for place in range(3)]


def after(count: int) -> dict[str, bytes]:
    """Return what must be there after the first `count` commits."""
    entries: dict[str, bytes] = {}
    for number in range(count):
        puts, deletes = change(number)
        entries.update(puts)
        for key in deletes:
            entries.pop(key, None)
    return entries


def at_once(trial: int) -> int:
    """Return how many commits wait together in a trial."""
    return (1, 16)[trial % 2]


def trial_path(folder: Path, trial: int) -> Path:
    """Return the file of a trial."""
    return folder / f"{trial}.db"


def said_until_killed(kind: str, folder: Path, trial: int) -> int:
    """Fork a process that commits; have it killed; return how many commits it said to be durable."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        try:
            asyncio.run(_commit_on(kind, folder, trial, writer))
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as receipts:
        lines = [receipts.readline() for _ in range(2 + trial // 2)]
        began = perf_counter()
        lines.append(receipts.readline())
        ended = perf_counter()
        while perf_counter() < ended + (ended - began) * (trial % MOMENTS) / MOMENTS:
            pass
        os.kill(process, signal.SIGKILL)
        lines.extend(receipts)
    os.waitpid(process, 0)
    return max(int(line) for line in lines if line.endswith("\n"))


async def _commit_on(kind: str, folder: Path, trial: int, receipts: int) -> None:
    """Commit for ever; in every other pair of trials die by its own hand as soon as something is durable."""
    store = Opened(kind, trial_path(folder, trial))
    await store.lead()
    count = at_once(trial)
    for done in range(0, 10**9, count):
        await asyncio.gather(*(store.commit(number) for number in range(done, done + count)))
        os.write(receipts, b"%d\n" % (done + count))
        if trial % 4 > 1 and done > trial * count:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    for each in range(int(sys.argv[3])):
        print(said_until_killed(sys.argv[1], Path(sys.argv[2]), each), flush=True)  # noqa: T201 (to who runs it)
