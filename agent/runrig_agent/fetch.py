"""Brings what a task fetches into its sandbox before it starts: files of the agent's host, and over HTTP.

A file is written under a hidden name and takes its place when it is complete and its sum is right; an archive
is unpacked into a hidden folder, whose content is then moved. So a failure, a cancellation or a crash leaves
nothing half-done, and to fetch again after it does no harm.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from runrig.errors import InvalidInput
from runrig.tasks import Fetch, Reason
from runrig_agent.fetch_archives import ArchiveRefused, Bounds, unpack
from runrig_agent.fetch_placing import DRAFT, place_content, place_file
from runrig_agent.fetch_sources import (
    FetchProblem,
    Sources,
    SourceSettings,
    SourceUnavailable,
    last_part,
    shown,
)
from runrig_agent.runtime import LaunchFailed
from runrig_agent.sandbox_paths import Owner, checked_parts

_SHA256 = re.compile(r"[0-9a-f]{64}")

IsWanted = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """What may be fetched, and how much of it."""

    sources: SourceSettings = field(default_factory=SourceSettings)
    """How files are read, and from which folders of the host."""

    bytes_max: int = 4 * 1024**3
    """Size of one file."""

    unpacked_bytes_max: int = 16 * 1024**3
    """Size of what one archive holds."""

    unpacked_files_max: int = 100_000
    """Files and directories that one archive holds."""

    tasks_max: int = 4
    """Tasks fetching at once; more wait their turn. A task's items come one after the other, in order."""

    timeout_s: float = 1800
    """Seconds for one item, with all attempts and unpacking."""

    retry_delays_s: tuple[float, ...] = (1, 5, 15)
    """Seconds before each further attempt, when a server does not answer or says that it is busy."""

    progress_interval_s: float = 2
    """Seconds between two reports of how far a file is."""


class Fetcher:
    """Fetches for all tasks of an agent."""

    def __init__(self, settings: FetchSettings = FetchSettings()) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.tasks_max + 1, "fetch")
        self._sources = Sources(settings.sources, self._threads)
        self._turns = asyncio.Semaphore(settings.tasks_max)

    async def close(self) -> None:
        """Close the connections, and free the threads."""
        await self._sources.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def fetch(self, items: Sequence[Fetch], sandbox: Path, progress: Callable[[str], None]) -> None:
        """Bring all `items` into `sandbox`, to be its owner's; `progress` is told short texts.

        Raises LaunchFailed: FETCH_FAILED, DISK_FULL. Items before the one that failed stay.
        """
        for number, item in enumerate(items, start=1):
            place = f" ({number} of {len(items)})" if len(items) > 1 else ""
            async with self._turns:
                with _failures(item):
                    try:
                        async with asyncio.timeout(self._settings.timeout_s):
                            await self._fetch(item, sandbox, _Progress(progress, f"{shown(item.uri)}{place}"))
                    finally:
                        await self._in_thread(lambda _: _remove_drafts(sandbox))

    async def _fetch(self, item: Fetch, sandbox: Path, progress: _Progress) -> None:
        parts = destination(item)
        wanted_sum = item.sha256.lower()
        if wanted_sum and not _SHA256.fullmatch(wanted_sum):
            raise InvalidInput("fetch.sha256", item.sha256, "64 hexadecimal digits, or nothing")
        owner = Owner.of(sandbox)
        await self._in_thread(lambda _: _remove_drafts(sandbox))  # a crash may have left some
        draft = sandbox / DRAFT
        found_sum = await self._download(item.uri, draft, progress)
        if wanted_sum and found_sum != wanted_sum:
            raise FetchProblem(f"its sha256 is {found_sum}, not {wanted_sum} as given")
        if item.extract:
            progress.tell("unpacking")
            await self._in_thread(lambda is_wanted: self._unpack(draft, sandbox, parts, owner, is_wanted))
        else:
            await self._in_thread(lambda _: place_file(draft, sandbox, parts, item.executable, owner))

    async def _download(self, uri: str, draft: Path, progress: _Progress) -> str:
        """Write a file to `draft`, after some attempts if need be; return its sha256."""
        progress.tell("fetching")
        for delay_s in self._settings.retry_delays_s:
            try:
                return await self._attempt(uri, draft, progress)
            except SourceUnavailable as problem:
                progress.tell(f"fetching again in {delay_s:g} s ({problem})")
                await asyncio.sleep(delay_s)
        return await self._attempt(uri, draft, progress)

    async def _attempt(self, uri: str, draft: Path, progress: _Progress) -> str:
        digest, size = hashlib.sha256(), 0
        loop = asyncio.get_running_loop()
        tell_at = loop.time() + self._settings.progress_interval_s
        with draft.open("wb") as file:
            async with aclosing(self._sources.read(uri)) as chunks:
                async for chunk in chunks:
                    size += len(chunk.data)
                    if max(size, chunk.expected_bytes) > self._settings.bytes_max:
                        raise FetchProblem(f"it is larger than this agent allows ({self._settings.bytes_max} bytes)")
                    await loop.run_in_executor(self._threads, _append, file, digest, chunk.data)
                    if loop.time() >= tell_at:
                        tell_at = loop.time() + self._settings.progress_interval_s
                        progress.tell(f"fetching, {size >> 20} of {chunk.expected_bytes >> 20 or '?'} MiB")
        return digest.hexdigest()

    def _unpack(self, draft: Path, sandbox: Path, parts: tuple[str, ...], owner: Owner, is_wanted: IsWanted) -> None:
        folder = sandbox / f"{DRAFT}.d"
        folder.mkdir(mode=0o700)
        bounds = Bounds(self._settings.unpacked_bytes_max, self._settings.unpacked_files_max, is_wanted)
        unpack(draft, folder, bounds, owner)
        place_content(folder, sandbox, parts, owner)

    async def _in_thread(self, work: Callable[[IsWanted], None]) -> None:
        """Do blocking work; when cancelled, tell it so and wait until it has stopped."""
        given_up = threading.Event()
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._threads, work, lambda: not given_up.is_set())
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            given_up.set()
            await asyncio.gather(running, return_exceptions=True)
            raise


@dataclass(frozen=True, slots=True)
class _Progress:
    """Tells how far one item is."""

    told: Callable[[str], None]
    what: str

    def tell(self, state: str) -> None:
        self.told(f"{state}: {self.what}")


def destination(item: Fetch) -> tuple[str, ...]:
    """Return where an item goes within the sandbox: a file's path, or the folder to unpack an archive into.

    Without a destination that is the last part of the uri, or the sandbox itself. Raises InvalidInput.
    """
    if item.extract and item.destination in ("", ".", "./"):
        return ()
    parts = checked_parts(item.destination or last_part(item.uri), "fetch.destination")
    if parts[0].startswith(DRAFT) or (item.destination.endswith("/") and not item.extract):
        raise InvalidInput("fetch.destination", item.destination, "a path of a file within the sandbox")
    return parts


def _append(file: BinaryIO, digest: hashlib._Hash, data: bytes) -> None:
    file.write(data)
    digest.update(data)


def _remove_drafts(sandbox: Path) -> None:
    (sandbox / DRAFT).unlink(missing_ok=True)
    shutil.rmtree(sandbox / f"{DRAFT}.d", ignore_errors=True)


@contextmanager
def _failures(item: Fetch) -> Iterator[None]:
    """Turn whatever goes wrong with an item into what the core is told."""
    what = shown(item.uri)
    try:
        yield
    except (FetchProblem, ArchiveRefused, InvalidInput) as error:
        raise LaunchFailed(Reason.FETCH_FAILED, f"fetching {what}: {error}", is_task_fault=True) from error
    except SourceUnavailable as error:
        raise LaunchFailed(Reason.FETCH_FAILED, f"fetching {what}: {error}; try again later") from error
    except TimeoutError as error:
        message = f"fetching {what}: not done in time; make it smaller, or raise the agent's fetch timeout"
        raise LaunchFailed(Reason.FETCH_FAILED, message) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"fetching {what}: the agent's disk is full; free some, or ask for an agent with more"
            raise LaunchFailed(Reason.DISK_FULL, message) from error
        raise LaunchFailed(Reason.FETCH_FAILED, f"fetching {what}: {error.strerror or error}") from error
