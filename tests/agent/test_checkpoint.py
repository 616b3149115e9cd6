from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from runrig.errors import Conflict, Unavailable
from runrig.ids import Role
from runrig.tasks import Reason, TaskState, Terms, Volume
from runrig_agent.checkpoint import Checkpoint
from runrig_agent.core import commands as do
from runrig_agent.core import events, records
from runrig_agent.core.memory_checkpoint import MemoryCheckpoint
from runrig_agent.core.task import Ending
from tests.agent.core.given import Agent, acknowledge, container, key, kill, launch, process, registered


def changes_of(agent: Agent, commands: list[do.Command]) -> list[records.Change]:
    return [change for command in commands if isinstance(command, do.Checkpoint) for change in command.changes]


def modes(work_dir: Path) -> dict[str, int]:
    """Return what others than the owner may do with the files of a checkpoint."""
    return {path.name: path.stat().st_mode & 0o077 for path in work_dir.glob("agent.db*")}


async def reopened(path: Path) -> records.SavedState:
    checkpoint, opened = await Checkpoint.open(path)
    await checkpoint.close()
    return opened.saved


async def test_an_agent_chooses_its_id_once(tmp_path: Path) -> None:
    first, opened = await Checkpoint.open(tmp_path / "work")
    await first.close()
    second, again = await Checkpoint.open(tmp_path / "work")
    await second.close()

    assert opened.agent_id == again.agent_id != ""
    assert opened.saved == records.SavedState()


async def test_two_agents_cannot_share_a_work_directory(tmp_path: Path) -> None:
    checkpoint, _ = await Checkpoint.open(tmp_path)

    with pytest.raises(Conflict, match=f"pid {os.getpid()}.*--work-dir"):
        await Checkpoint.open(tmp_path)

    await checkpoint.close()
    assert await reopened(tmp_path) == records.SavedState()


async def test_on_a_full_disk_room_is_made_and_the_change_is_kept(tmp_path: Path) -> None:
    def limit(pages: int) -> None:
        checkpoint._connection.execute(f"PRAGMA max_page_count = {pages}")

    def make_room() -> None:
        rooms.append("made")
        limit(100_000)

    rooms: list[str] = []
    checkpoint, _ = await Checkpoint.open(tmp_path, make_room)
    agent = registered()
    limit(1)  # SQLite's own limit is to it what a full disk is

    await checkpoint.write(tuple(changes_of(agent, agent.order(launch(*(process(f"t{n}") for n in range(99)))))))
    await checkpoint.close()

    assert rooms == ["made"]
    assert len((await reopened(tmp_path)).tasks) == 99


async def test_what_cannot_be_a_work_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Unavailable, match="cannot be used"):
        await Checkpoint.open(tmp_path / "file")


async def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "agent.db").write_bytes(b"no database, and long enough to be seen as none" * 100)

    with pytest.raises(Unavailable, match="cannot be read"):
        await Checkpoint.open(tmp_path)


async def test_a_checkpoint_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    checkpoint, _ = await Checkpoint.open(tmp_path)
    await checkpoint.close()
    with sqlite3.connect(tmp_path / "agent.db") as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    connection.close()

    with pytest.raises(Conflict, match="newer version"):
        await Checkpoint.open(tmp_path)


async def test_terms_and_volumes_of_a_task_are_kept(tmp_path: Path) -> None:
    spec = replace(
        process(), terms=Terms("ssd", "db", 3, "g", 60_000), volumes=(Volume("", "store", volume_id="data"),)
    )
    agent = registered()
    checkpoint, _ = await Checkpoint.open(tmp_path)

    await checkpoint.write(tuple(changes_of(agent, agent.order(launch(spec)))))
    await checkpoint.close()

    assert [task.record.spec for task in (await reopened(tmp_path)).tasks] == [spec]


async def test_only_the_agent_itself_may_read_the_secrets_of_tasks(tmp_path: Path) -> None:
    checkpoint, _ = await Checkpoint.open(tmp_path)
    await checkpoint.write((records.PutLink(1, 1),))

    seen = modes(tmp_path)
    await checkpoint.close()

    assert seen == dict.fromkeys(("agent.db", "agent.db-wal", "agent.db-shm"), 0)


async def test_a_reboot_is_noticed(tmp_path: Path) -> None:
    checkpoint, first = await Checkpoint.open(tmp_path)
    await checkpoint.close()
    with sqlite3.connect(tmp_path / "agent.db") as connection:
        connection.execute("UPDATE meta SET value = 'another' WHERE name = 'boot_id'")
    connection.close()

    checkpoint, second = await Checkpoint.open(tmp_path)
    await checkpoint.close()

    assert (first.is_host_rebooted, second.is_host_rebooted) == (False, True)


async def test_everything_that_is_written_is_read_again(tmp_path: Path) -> None:
    agent = registered()
    commands = agent.run(process("a", ports=(31000,), max_run_ms=5))
    commands += agent.order(launch(container("b"), process("c"), is_group=True))
    commands += agent.tell(events.TaskProgressed(key("b"), Reason.PULLING_IMAGE, "10 %"))
    commands += agent.order(kill("a", grace_ms=10_000), kill("never"), acknowledge(1, "a"))
    checkpoint, _ = await Checkpoint.open(tmp_path)

    await checkpoint.write((records.PutLink(4, 9), *changes_of(agent, commands)))
    await checkpoint.close()

    saved = await reopened(tmp_path)
    assert (saved.session, saved.epoch) == (4, 9)
    assert saved.tasks == agent.disk.saved().tasks
    assert saved.tombstones == agent.disk.saved().tombstones
    assert isinstance(saved.tasks[0].ending, Ending)
    assert saved.tasks[0].updates[-1].state is TaskState.TASK_KILLING


@pytest.mark.parametrize("seed", range(5))
async def test_the_file_means_the_same_as_the_memory(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    agent, memory = registered(), MemoryCheckpoint()
    checkpoint, _ = await Checkpoint.open(tmp_path)
    writes = []
    for number in range(200):
        name = f"t{chance.randrange(20)}"
        possible: list[events.Event] = [
            events.OrdersReceived(agent.session, 7, (launch(process(name, cpu_millis=1)),)),
            events.OrdersReceived(agent.session, 7, (kill(name),)),
            events.OrdersReceived(agent.session, 7, (acknowledge(number % 4, name),)),
            agent.started(name),
            agent.ended(chance.choice([0, 1, None]), name),
        ]
        for change in changes_of(agent, agent.tell(chance.choice(possible), after=0.5)):
            memory.apply([change])
            writes.append(checkpoint.write((change,)))
    await asyncio.gather(*writes)
    await checkpoint.close()

    saved = await reopened(tmp_path)
    assert (saved.tasks, saved.tombstones) == (memory.saved().tasks, memory.saved().tombstones)
    assert saved.tasks


def test_a_checkpoint_in_memory_takes_what_the_file_takes_whatever_it_knows_of_the_task() -> None:
    """The file ignores words on tasks it does not have, and begins anew with a task that is put again."""
    memory = MemoryCheckpoint()
    ending = Ending(TaskState.TASK_KILLED, Reason.KILLED_BY_FRAMEWORK, "", 3.0, 1.0)
    task = records.TaskRecord(key(), "tests", Role("eng"), process(), (), 1.0)

    memory.apply([records.PutEnding(key(), ending), records.DropUpdate(key(), 1), records.PutAcknowledged(key(), 1, 1)])
    memory.apply([records.PutTask(task), records.PutEnding(key(), ending), records.PutAcknowledged(key(), 1, 1)])
    memory.apply([records.PutTask(task)])

    assert memory.saved().tasks == (records.SavedTask(task, None, 0, ()),)


async def test_writes_that_wait_are_committed_together(tmp_path: Path) -> None:
    checkpoint, _ = await Checkpoint.open(tmp_path)

    await asyncio.gather(*(checkpoint.write((records.PutLink(number, 1),)) for number in range(1000)))

    assert checkpoint.commits < 100
    await checkpoint.close()
    assert (await reopened(tmp_path)).session == 999


async def test_a_disk_that_cannot_be_written_is_told_to_all_who_wait(tmp_path: Path) -> None:
    checkpoint, _ = await Checkpoint.open(tmp_path)
    checkpoint._connection.execute("PRAGMA query_only=ON")

    first, second = checkpoint.write((records.PutLink(1, 1),)), checkpoint.write((records.PutLink(2, 1),))

    for write in (first, second):
        with pytest.raises(Unavailable, match="cannot be written"):
            await write
    await checkpoint.close()


WRITER = """
    import asyncio, sys
    from pathlib import Path
    from runrig_agent.checkpoint import Checkpoint
    from runrig_agent.core.records import PutLink

    async def main():
        checkpoint, _ = await Checkpoint.open(Path(sys.argv[1]))
        for number in range(1_000_000):
            await checkpoint.write((PutLink(number, 1),))
            print(number, flush=True)

    asyncio.run(main())
"""


def test_kill_9_loses_nothing_that_was_durable(tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    lines = [program.stdout.readline() for _ in range(50)]

    program.send_signal(signal.SIGKILL)
    lines += program.stdout.readlines()
    program.wait()
    program.stdout.close()

    whole = [line for line in lines if line.endswith("\n")]
    assert asyncio.run(reopened(tmp_path)).session >= int(whole[-1])
