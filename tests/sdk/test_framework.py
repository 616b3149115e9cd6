"""`Framework` against a real master on loopback: how it comes, how it goes on, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from runrig import Framework, MemoryStore, SqliteStore, Wants, task
from runrig.errors import InvalidInput, Removed, Superseded
from runrig.testing.processes import until
from tests.edges.master_server import process, serving
from tests.free_ports import free_ports

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE_S = 30.0


@contextlib.asynccontextmanager
async def running(framework: Framework) -> AsyncIterator[asyncio.Task[None]]:
    """Run a framework while the block runs."""
    run = asyncio.create_task(framework.run())
    try:
        yield run
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  (a framework has no event for it)
            await asyncio.sleep(0.01)


def framework(master: str, store: SqliteStore | MemoryStore | None = None) -> Framework:
    wants = Wants()
    wants.keep("web", 1, task("serve"))
    return Framework("f", wants, master=master, store=store)


async def test_a_framework_that_was_there_first_waits_for_its_master(tmp_path: Path) -> None:
    grpc_port, http_port = free_ports(2)
    early = framework(f"127.0.0.1:{grpc_port}")

    async with running(early):
        await asyncio.sleep(0)
        with process(tmp_path / "master.db", grpc_port, http_port):
            await eventually(lambda: early.is_connected)


async def test_of_several_masters_the_one_that_answers_is_found() -> None:
    [nobody] = free_ports(1)
    async with serving() as master:
        found = framework(f"127.0.0.1:{nobody},{master.grpc_address}")

        async with running(found):
            await eventually(lambda: found.is_connected)


async def test_of_two_with_the_same_id_the_newer_goes_on_and_the_older_is_told(tmp_path: Path) -> None:
    async with serving() as master:
        older = framework(master.grpc_address, SqliteStore(tmp_path / "older.db"))
        async with running(older) as run:
            await eventually(lambda: older.is_connected)
            newer = Framework("f", Wants(), master=master.grpc_address, framework_id=older.framework_id)

            async with running(newer):
                with pytest.raises(Superseded, match="a newer scheduler with this framework id has subscribed"):
                    await asyncio.wait_for(run, PATIENCE_S)
                await eventually(lambda: newer.is_connected)


async def test_a_framework_without_a_durable_store_is_removed_at_its_end_and_its_id_never_admitted_again() -> None:
    async with serving() as master:
        first = framework(master.grpc_address)
        async with running(first):
            await eventually(lambda: first.is_connected)

        second = Framework("f", Wants(), master=master.grpc_address, framework_id=first.framework_id)

        with pytest.raises(Removed):
            await asyncio.wait_for(second.run(), PATIENCE_S)


async def test_a_program_whose_framework_was_taken_over_says_so_in_one_line(tmp_path: Path) -> None:
    async with serving() as master:
        older, older_log = started(tmp_path, "older", "keep_running.py", master.grpc_address, str(tmp_path / "a.db"))
        await until_known(master.grpc_address)
        copied(tmp_path, "a.db", "b.db")

        newer, _ = started(tmp_path, "newer", "keep_running.py", master.grpc_address, str(tmp_path / "b.db"))
        try:
            assert await asyncio.to_thread(older.wait, PATIENCE_S) == 5
        finally:
            newer.kill()
            newer.wait()

    assert older_log.read_text() == "keep-running: a newer scheduler with this framework id has subscribed\n"


@pytest.mark.parametrize(
    "example, number, code",
    [
        ("keep_running.py", signal.SIGINT, 0),
        ("keep_running.py", signal.SIGTERM, 0),
        ("run_once.py", signal.SIGINT, 130),
        ("run_once.py", signal.SIGTERM, 143),
    ],
)
async def test_a_signal_ends_a_program_quietly_and_as_done_only_if_it_had_nothing_to_finish(
    tmp_path: Path, example: str, number: signal.Signals, code: int
) -> None:
    async with serving() as master:
        program, log = started(tmp_path, "program", example, master.grpc_address)
        await until_known(master.grpc_address)

        program.send_signal(number)

        assert await asyncio.to_thread(program.wait, PATIENCE_S) == code
    assert log.read_text() == ""


@pytest.mark.parametrize(
    "fields, part",
    [
        ({"name": ""}, "name: '' is not allowed; allowed: 1 to 255 characters"),
        ({"roles": ()}, "roles: () is not allowed; allowed: one role at least, and each once"),
        ({"roles": ("a", "a")}, "roles: ('a', 'a') is not allowed; allowed: one role at least, and each once"),
        ({"roles": ("a b",)}, "roles: 'a b' is not allowed; allowed: a path of 1 to 8 parts"),
        ({"framework_id": "a/b"}, "framework_id: 'a/b' is not allowed; allowed: no slash and no control character"),
        ({"master": ""}, "master: '' is not allowed; allowed: host:port, or several joined by commas"),
        ({"master": "h:99999"}, "master: 'h:99999' is not allowed; allowed: host:port"),
    ],
)
def test_what_can_never_be_admitted_is_refused_before_anything_runs(fields: dict[str, object], part: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Framework(**{"name": "f", "logic": Wants(), **fields})  # type: ignore[arg-type]

    assert part in str(refused.value)


def started(folder: Path, name: str, example: str, *words: str) -> tuple[subprocess.Popen[bytes], Path]:
    """Start an example; return it and where it writes."""
    log = folder / f"{name}.log"
    with log.open("wb") as file:
        return subprocess.Popen([sys.executable, str(EXAMPLES / example), *words], stdout=file, stderr=file), log


def copied(folder: Path, name: str, copy: str) -> None:
    """Copy a store with what belongs to it."""
    for file in folder.glob(f"{name}*"):
        shutil.copy(file, folder / file.name.replace(name, copy))


async def until_known(master: str) -> None:
    """Wait until a framework is subscribed."""
    command = [sys.executable, "-m", "runrig", "frameworks", "ls", "-o", "name", "--master", master]

    def is_known() -> bool:
        return bool(subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout)

    await asyncio.to_thread(until, is_known, "a framework is subscribed")
