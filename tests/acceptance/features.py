"""A cluster of one agent with allow-lists, for tests of what an agent does for its tasks."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from runrig import HealthCheck, TaskState
from runrig.testing.processes import RealCluster, real_cluster
from tests.acceptance.author import Author, author_of

TERMINAL_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Place:
    """A cluster, someone who launches tasks on it, and directories of the host that tasks may have."""

    cluster: RealCluster
    author: Author
    volumes: Path
    files: Path

    def sandbox(self, task_id: str) -> Path:
        """Return the sandbox of a task that something was said of."""
        status = self.author.told(task_id)[-1]
        [agent] = (self.cluster.directory / "agents").iterdir()
        return agent / "sandboxes" / status.framework_id / task_id

    def output(self, task_id: str, stream: str = "stdout") -> str:
        """Return what a task has written so far."""
        path = self.sandbox(task_id) / stream
        return path.read_text() if path.exists() else ""

    def listed(self, task_id: str) -> dict[str, Any]:
        """Return what `tasks ls -o json` says of a task."""
        [found] = [task for task in self.cluster.json("tasks", "ls", "--all") if task["id"] == task_id]
        assert isinstance(found, dict)
        return found

    def printed(self, task_id: str) -> str:
        """Wait for a task that should succeed; return what it wrote."""
        ended = self.author.ended(task_id)
        assert ended.state is TaskState.TASK_FINISHED, f"{ended.message}: {self.output(task_id, 'stderr')}"
        return self.output(task_id)


@contextmanager
def place_of(folder: Path, *options: str) -> Iterator[Place]:
    """Run a cluster of one agent while the block runs; `runrig dev` gets the options."""
    volumes, files = folder / "volumes", folder / "files"
    for made in (volumes, files):
        made.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNRIG_AGENT_ALLOW_VOLUME", str(volumes))
        patch.setenv("RUNRIG_AGENT_ALLOW_FETCH", str(files))
        with (
            real_cluster(folder / "c", "--agents", "1", "--no-restart", *options) as cluster,
            author_of(cluster.master) as author,
        ):
            yield Place(cluster, author, volumes, files)


def often(check: HealthCheck) -> HealthCheck:
    """Return a check that is tried five times a second, and counts from the start."""
    return replace(check, interval_ms=200, timeout_ms=5_000, grace_ms=0)


def in_terminal(cluster: RealCluster, words: list[str], *steps: tuple[str, str]) -> tuple[str, int]:
    """Run a command of `runrig` in a terminal: wait for each step's first text, then type its second.

    Return what stood on the terminal, and the exit code.
    """
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "runrig", *words]
    process = subprocess.Popen(
        command, env=cluster.environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    shown = ""
    try:
        for awaited, typed in steps:
            before = len(shown)
            shown = _read_until(ours, shown, before, awaited)
            os.write(ours, typed.encode())
        shown = _read_until(ours, shown, len(shown), None)
        return shown, process.wait(TERMINAL_TIMEOUT_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)


def _read_until(descriptor: int, shown: str, begin: int, awaited: str | None) -> str:
    """Read a terminal until it shows `awaited` behind `begin`; None: until its end."""
    end = time.monotonic() + TERMINAL_TIMEOUT_S
    while awaited is None or awaited not in shown[begin:]:
        assert time.monotonic() < end, f"the terminal does not show {awaited!r}: {shown!r}"
        if not select.select([descriptor], [], [], 0.1)[0]:
            continue
        try:
            data = os.read(descriptor, 65536)
        except OSError:  # the other end is closed: what Linux says at a terminal's end
            return shown
        shown += data.decode(errors="replace")
    return shown
