"""The directories of tasks: made before the start, kept a while after the end, then collected.

    <work>/sandboxes/<framework>/<task>            the sandbox, 0700, the task's user's
    <work>/sandboxes/<framework>/.<task>.json      its record: whose it is and when the task ended
    <work>/sandboxes/.trash                        what is being removed

Records outlive the agent's process, so that a kill -9 loses nothing; they are not synced to disk, for a crash
of the host ends the tasks too: `recover` takes what is neither marked nor alive as ended now. Only what is
marked as ended is ever collected. The state changes on the event loop alone; a thread only empties the trash.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import structlog

from runrig.errors import RunrigError
from runrig.tasks import RuntimeKind
from runrig_agent.runtime import TaskKey
from runrig_agent.sandbox_owner import make_private, owner_for
from runrig_agent.sandbox_paths import safe_name
from runrig_agent.sandbox_records import Record, read_records, remove_record, write_record
from runrig_agent.sandbox_trash import empty_trash
from runrig_agent.sandbox_usage import SandboxUsage, disk_used_fraction, measure

log = structlog.get_logger()

BATCH = 32
"""Sandboxes removed before the disk is looked at again: no more goes than must."""


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """How long ended tasks leave traces."""

    gc_age_s: float = 7 * 86_400
    """Seconds that an ended task's sandbox is kept on an empty disk: a week, as people expect from Mesos."""

    gc_headroom: float = 0.1
    """Fraction of the disk to keep free: the time above shrinks to nothing as the disk fills to 1 - this."""

    gc_least_age_s: float = 120
    """Seconds that a sandbox is kept however full the disk is, so that a failure's output can be read."""

    gc_max_ended: int = 10_000
    """Most sandboxes of ended tasks, the oldest go first: a batch agent ends millions of tasks in a week."""

    gc_interval_s: float = 60
    """Seconds between two collections."""

    forget_age_s: float = 600
    """Seconds that an ended task's container is kept, for a post-mortem: its output is in the sandbox."""

    forget_max_ended: int = 100
    """Most ended containers kept: engines become slow with thousands."""

    forget_timeout_s: float = 60
    """Seconds for one removal of a container: a hung engine must not hold up the collection of sandboxes."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What one collection did."""

    sandboxes: tuple[TaskKey, ...] = ()
    freed_bytes: int = 0
    forgotten: tuple[TaskKey, ...] = ()
    problems: tuple[str, ...] = ()
    """What could not be removed, and why; it is tried again."""


def keep_s(settings: SandboxSettings, used_fraction: float) -> float:
    """Return how long ended sandboxes are kept when so much of the disk is used (Mesos, src/slave/gc.cpp)."""
    share = max(0.0, 1.0 - settings.gc_headroom - used_fraction)
    return max(settings.gc_least_age_s, settings.gc_age_s * share)


class Sandboxes:
    """All sandboxes of an agent.

    `forget` removes what a runtime keeps of a task: Runtime.forget of the runtime of that kind. `clock`
    returns Unix seconds, `disk_used` the fraction of a path's disk that is used.
    """

    def __init__(
        self,
        work_directory: Path,
        forget: Callable[[TaskKey, RuntimeKind], Awaitable[None]],
        settings: SandboxSettings = SandboxSettings(),
        clock: Callable[[], float] = time.time,
        disk_used: Callable[[Path], float] = disk_used_fraction,
    ) -> None:
        self.directory = work_directory / "sandboxes"
        self._trash = self.directory / ".trash"
        self._forget = forget
        self._settings = settings
        self._clock = clock
        self._disk_used = disk_used
        self._records: dict[TaskKey, Record] = {}
        self._stuck: set[TaskKey] = set()  # could not be moved; the next process tries again
        self._numbers = count()

    async def recover(self, living: AbstractSet[TaskKey]) -> None:
        """Find what earlier processes left; call it before anything else, with the tasks that have not ended.

        A sandbox of a task that is neither living nor marked (the host crashed) counts as ended now.
        """
        self._trash.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o711)  # tasks of other users pass through, and see nothing
        living_paths = {self.path(key) for key in living}
        for record in await asyncio.to_thread(read_records, self.directory):
            self._records[record.key] = record
            path = self.path(record.key)
            if record.ended_at_unix_ms is None and record.key not in living and path not in living_paths:
                self.mark_ended(record.key, self._now_unix_ms())

    def path(self, key: TaskKey) -> Path:
        """Say where a task's sandbox is, or would be."""
        framework_id, task_id = key
        return self.directory / safe_name(framework_id) / safe_name(task_id)

    def find(self, key: TaskKey) -> Path | None:
        """Return the sandbox of a task, living or ended; None when there is none or no longer."""
        path = self.path(key)
        return path if path.is_dir() else None

    def create(self, key: TaskKey, runtime: RuntimeKind, user: str = "") -> Path:
        """Make a living task's sandbox, or find it made, and return it; `user` as in `Command.user`.

        Raises LaunchFailed: USER_UNKNOWN, DISK_FULL, START_FAILED.
        """
        path = self.path(key)
        owner = owner_for(user, runtime)
        record = Record(key, runtime)
        make_private(path, owner, before=lambda: write_record(self.directory, record))
        self._records[key] = record
        return path

    def mark_ended(self, key: TaskKey, at_unix_ms: int) -> None:
        """Remember that a task has ended: from now on its sandbox may be collected. The first mark counts."""
        record = self._records.get(key)
        if record is None or record.ended_at_unix_ms is not None:
            return
        record.ended_at_unix_ms = at_unix_ms
        self._save(record)

    async def usage(self, key: TaskKey) -> SandboxUsage:
        """Measure what a sandbox takes on disk."""
        return await asyncio.to_thread(measure, self.path(key))

    async def run(self) -> None:
        """Collect for ever, at the interval of the settings."""
        while True:
            try:
                collected = await self.collect()
            except OSError as error:
                log.error("sandboxes cannot be collected", error=str(error), directory=str(self.directory))
            else:
                _report(collected)
            await asyncio.sleep(self._settings.gc_interval_s)

    async def collect(self) -> Collected:
        """Remove what is due, oldest first, and say what was removed. Living tasks are never touched."""
        removed: list[TaskKey] = []
        freed, problems = 0, dict[str, None]()
        while batch := self._due_sandboxes()[:BATCH]:
            problems.update(dict.fromkeys(self._move_to_trash(batch)))
            emptied = await asyncio.to_thread(empty_trash, self._trash)
            freed += emptied.freed_bytes
            problems.update(dict.fromkeys(emptied.problems))
            removed.extend(record.key for record in batch if record.is_removed)
        forgotten = await self._forget_all(self._due_to_forget(), problems)
        return Collected(tuple(removed), freed, tuple(forgotten), tuple(problems))

    def _due_sandboxes(self) -> list[Record]:
        kept = [record for record in self._ended() if not record.is_removed and record.key not in self._stuck]
        surplus = len(kept) - self._settings.gc_max_ended
        keep_ms = keep_s(self._settings, self._disk_used(self.directory)) * 1000
        now = self._now_unix_ms()
        return [
            record
            for number, record in enumerate(kept)
            if number < surplus or now - (record.ended_at_unix_ms or 0) >= keep_ms
        ]

    def _move_to_trash(self, records: Iterable[Record]) -> list[str]:
        problems = []
        for record in records:
            try:
                os.rename(self.path(record.key), self._trash / self._fresh_name())
            except FileNotFoundError:
                pass  # removed before a crash, or by hand
            except OSError as error:
                problems.append(f"{error.filename}: {error.strerror}")
                self._stuck.add(record.key)
                continue
            record.is_removed = True
            self._save(record)
        return problems

    async def forget_ended(self) -> None:
        """Let the runtimes remove what they keep of ended tasks, however young; the sandboxes stay."""
        problems: dict[str, None] = {}
        forgotten = await self._forget_all([record for record in self._ended() if not record.is_forgotten], problems)
        _report(Collected(forgotten=tuple(forgotten), problems=tuple(problems)))

    async def _forget_all(self, records: Iterable[Record], problems: dict[str, None]) -> list[TaskKey]:
        forgotten = []
        for record in records:
            try:
                async with asyncio.timeout(self._settings.forget_timeout_s):
                    await self._forget(record.key, record.runtime)
            except (RunrigError, TimeoutError) as error:
                problems[f"{record.runtime.name.lower()} runtime: {str(error) or 'no answer'}"] = None
                if isinstance(error, TimeoutError):
                    break  # the others would wait as long
            else:
                record.is_forgotten = True
                self._save(record)
                forgotten.append(record.key)
        return forgotten

    def _due_to_forget(self) -> list[Record]:
        kept = [record for record in self._ended() if not record.is_forgotten]
        surplus = len(kept) - self._settings.forget_max_ended
        now, keep_ms = self._now_unix_ms(), self._settings.forget_age_s * 1000
        return [
            record
            for number, record in enumerate(kept)
            if number < surplus or record.is_removed or now - (record.ended_at_unix_ms or 0) >= keep_ms
        ]

    def _ended(self) -> list[Record]:
        """List the records of ended tasks, the oldest first."""
        ended = [record for record in self._records.values() if record.ended_at_unix_ms is not None]
        return sorted(ended, key=lambda record: record.ended_at_unix_ms or 0)

    def _save(self, record: Record) -> None:
        if record.is_removed and record.is_forgotten:
            del self._records[record.key]
            remove_record(self.directory, record.key)
            return
        try:
            write_record(self.directory, record)
        except OSError as error:  # a full disk: after a restart it counts as ended then
            log.warning("cannot note the end of a sandbox", task=record.key[1], error=str(error))

    def _fresh_name(self) -> str:
        while (self._trash / (name := f"sandbox-{next(self._numbers)}")).exists():
            pass  # what could not be removed is still there
        return name

    def _now_unix_ms(self) -> int:
        return int(self._clock() * 1000)


def _report(collected: Collected) -> None:
    if collected.sandboxes or collected.problems:
        log.info(
            "sandboxes collected",
            sandboxes=len(collected.sandboxes),
            freed_mib=collected.freed_bytes >> 20,
            forgotten=len(collected.forgotten),
            problems=collected.problems,
        )
