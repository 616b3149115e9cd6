"""What is kept is kept: group commit, one failing job, locks and full disks; for kill -9 see tests/properties."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path

import pytest

from runrig._sqlite import SqliteFile
from runrig.errors import Conflict, Superseded, Unavailable
from runrig.store import MemoryStore, SqliteStore, Store
from runrig_master import store as master_store

COUNTERS = "CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL CHECK (value < 1000))"


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
    else:
        opened = SqliteStore(tmp_path / "state.db")
        yield opened
        opened._file.close()


async def test_what_was_committed_is_read_in_the_order_of_its_keys(store: Store) -> None:
    await store.commit({"b/1": b"1", "a": b"2", "b/0": b"\x00\xff"})

    assert list((await store.read()).items()) == [("a", b"2"), ("b/0", b"\x00\xff"), ("b/1", b"1")]
    assert await store.read("b/") == {"b/0": b"\x00\xff", "b/1": b"1"}


async def test_a_commit_replaces_and_removes(store: Store) -> None:
    await store.commit({"a": b"1", "b": b"1"})
    await store.commit({"a": b"2"}, ["b", "never was"])

    assert await store.read() == {"a": b"2"}


@pytest.mark.parametrize("prefix", ["%", "_", "a%", "é", "'", "a\0"])
async def test_a_prefix_is_taken_as_it_is_written(store: Store, prefix: str) -> None:
    await store.commit({f"{prefix}x": b"1", "other": b"2", "ab": b"3"})

    assert f"{prefix}x" in await store.read(prefix)
    assert "other" not in await store.read(prefix)


async def test_only_the_store_on_disk_is_durable() -> None:
    assert not MemoryStore().is_durable
    assert SqliteStore.is_durable


async def test_a_store_is_found_again(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path / "deep" / "er" / "state.db")
    await first.commit({"a": b"1"})
    await first.close()
    second = SqliteStore(tmp_path / "deep" / "er" / "state.db")

    assert await second.read() == {"a": b"1"}
    await second.close()


async def test_jobs_that_wait_are_committed_together_and_each_has_its_own_result(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "state.db", COUNTERS)
    await file.run(lambda connection: connection.execute("INSERT INTO counters VALUES ('n', 0)"))
    commits: list[int] = []

    def add(connection: sqlite3.Connection) -> int:
        commits.append(connection.total_changes)
        connection.execute("UPDATE counters SET value = value + 1")
        return int(connection.execute("SELECT value FROM counters").fetchone()[0])

    results = await asyncio.gather(*(file.run(add) for _ in range(500)))

    assert results == list(range(1, 501))
    file.close()


async def test_a_job_that_fails_takes_nothing_of_the_others_with_it(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "state.db", COUNTERS)

    def put(name: str, value: int) -> Coroutine[None, None, None]:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO counters VALUES (?, 1)", (f"{name}-begun",))
            connection.execute("INSERT INTO counters VALUES (?, ?)", (name, value))

        return file.run(work)

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO counters VALUES ('broken', 1)")
        raise ZeroDivisionError

    results = await asyncio.gather(
        put("a", 1),
        put("too much", 1000),
        file.run(broken),
        put("b", 2),
        return_exceptions=True,
    )
    rows = await file.run(lambda connection: connection.execute("SELECT name FROM counters ORDER BY 1").fetchall())

    assert [type(result) for result in results] == [type(None), sqlite3.IntegrityError, ZeroDivisionError, type(None)]
    assert [name for (name,) in rows] == ["a", "a-begun", "b", "b-begun"]
    file.close()


async def test_who_stops_waiting_for_a_job_disturbs_nobody(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db")
    waiting = asyncio.create_task(store.commit({"a": b"1"}))
    await asyncio.sleep(0)
    waiting.cancel()

    await store.commit({"b": b"2"})

    assert await store.read() == {"a": b"1", "b": b"2"}
    await store.close()


def test_a_job_whose_loop_is_gone_disturbs_nobody(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "state.db", COUNTERS)
    is_gone = threading.Event()

    async def leave_early() -> None:
        slow = asyncio.create_task(file.run(lambda _: is_gone.wait(30)))
        await asyncio.sleep(0)
        slow.cancel()

    asyncio.run(leave_early())
    is_gone.set()

    async def ask() -> object:
        return await file.run(lambda connection: connection.execute("SELECT 2").fetchone())

    assert asyncio.run(ask()) == (2,)
    file.close()


async def test_a_store_that_was_closed_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db")
    await store.close()
    await store.close()

    with pytest.raises(Unavailable, match="has been closed"):
        await store.read()


async def test_a_file_that_is_open_is_in_use_and_by_whom(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db")

    with pytest.raises(Conflict, match=f"in use by process {os.getpid()}"):
        SqliteStore(tmp_path / "state.db")
    await store.close()
    await SqliteStore(tmp_path / "state.db").close()


@pytest.mark.parametrize("what", ["text", "folder", "under a file"])
async def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, what: str) -> None:
    path = tmp_path / "state.db"
    match what:
        case "text":
            path.write_text("no database " * 1000)
        case "folder":
            path.mkdir()
        case _:
            path.write_text("x")
            path = path / "state.db"

    with pytest.raises(Unavailable, match=f"cannot open {path}"):
        SqliteStore(path)
    if what == "text":
        path.unlink()
        await SqliteStore(path).close()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of one mebibyte."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


async def test_a_full_disk_is_said_and_keeps_all_that_was_durable(tiny_disk: Path) -> None:
    store = SqliteStore(tiny_disk / "state.db")
    await store.commit({"first": b"1"})
    kept = {"first"}
    refusals = []
    for number in range(40):
        try:
            await store.commit({str(number): os.urandom(50_000)})
            kept.add(str(number))
        except Unavailable as error:
            refusals.append(str(error))

    assert refusals
    assert all("is its disk full" in text for text in refusals)
    assert set(await store.read()) == kept
    await store.close()
    again = SqliteStore(tiny_disk / "state.db")
    assert set(await again.read()) == kept
    await again.close()


async def test_commits_that_wait_together_at_a_full_disk_all_fail_or_all_stand(tiny_disk: Path) -> None:
    store = SqliteStore(tiny_disk / "state.db")
    results = await asyncio.gather(
        *(store.commit({f"{number:03}": os.urandom(30_000)}) for number in range(60)), return_exceptions=True
    )
    stood = {f"{number:03}" for number, result in enumerate(results) if result is None}

    assert any(isinstance(result, Unavailable) for result in results)
    assert set(await store.read()) == stood
    await store.close()


# The master's own store: the same file, and a fence.


@pytest.fixture(params=["memory", "sqlite"])
def fenced(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[master_store.Store]:
    url = "memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'state.db'}"
    opened = master_store.open_store(url)
    yield opened
    opened.close()


async def test_each_leadership_has_a_greater_epoch(fenced: master_store.Store) -> None:
    assert [(await fenced.campaign()).epoch for _ in range(3)] == [1, 2, 3]


async def test_a_leadership_that_is_over_writes_nothing(fenced: master_store.Store) -> None:
    """Rule C of the master's core, and Mesos case 38."""
    old = await fenced.campaign()
    await fenced.commit({"a": b"1"}, (), old)
    new = await fenced.campaign()

    with pytest.raises(Superseded, match="epoch 1 is over: another master leads with epoch 2"):
        await fenced.commit({"a": b"2", "b": b"2"}, ("a",), old)

    assert await fenced.read("") == {"a": b"1"}
    await fenced.commit({"b": b"2"}, ("a",), new)
    assert await fenced.read("") == {"b": b"2"}


async def test_the_epoch_survives_the_process(tmp_path: Path) -> None:
    epochs = []
    for _ in range(3):
        opened = master_store.open_store(f"sqlite:///{tmp_path / 'state.db'}")
        epochs.append((await opened.campaign()).epoch)
        opened.close()

    assert epochs == [1, 2, 3]
