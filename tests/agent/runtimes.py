"""What tests of the runtimes share: a listener that remembers, orders, and waiting for conditions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from runrig.ids import FrameworkId, TaskId
from runrig.resources import Resources
from runrig.tasks import Command, Container, Limits, Port, RuntimeKind, TaskSpec, Volume
from runrig_agent.runtime import Ended, LaunchOrder, Runtime, TaskKey
from runrig_agent.volumes import Volumes

DEADLINE_S = 30.0
FRAMEWORK = FrameworkId("framework-1")


class Listener:
    """Remembers what a runtime told: ends in order, availability as it is now (the problem, None: none)."""

    def __init__(self) -> None:
        self.ends: list[tuple[TaskKey, Ended]] = []
        self.problem: str | None = "nothing was heard yet"
        self.problems: list[str | None] = []
        self._changed = asyncio.Event()

    def task_ended(self, key: TaskKey, ended: Ended) -> None:
        self.ends.append((key, ended))
        self._changed.set()

    def availability_changed(self, kind: RuntimeKind, problem: str | None) -> None:
        self.problem = problem
        self.problems.append(problem)
        self._changed.set()

    def end_of(self, key: TaskKey) -> Ended | None:
        """Return the end that was told of a task, which is one at most."""
        ends = [ended for each, ended in self.ends if each == key]
        assert len(ends) <= 1, f"told twice: {ends}"
        return ends[0] if ends else None

    async def end(self, key: TaskKey) -> Ended:
        """Wait for the end of a task."""
        await self._until(lambda: self.end_of(key) is not None)
        ended = self.end_of(key)
        assert ended is not None
        return ended

    async def available(self, expected: bool = True) -> None:
        """Wait until the runtime can, or cannot, be used."""
        await self._until(lambda: (self.problem is None) == expected)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


async def until(condition: Callable[[], bool], what: str) -> None:
    """Look at something until it is as it should be; fails after DEADLINE_S."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:.0f} s: {what}"
        await asyncio.sleep(0.01)


def key(task: str) -> TaskKey:
    return FRAMEWORK, TaskId(task)


def order(
    folder: Path,
    task: str,
    shell: str = "",
    *,
    argv: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    user: str = "",
    working_directory: str = "",
    mem_mib: int = 256,
    limits: Limits | None = None,
    container: Container | None = None,
    ports: tuple[Port, ...] = (),
    volumes: tuple[Volume, ...] = (),
) -> LaunchOrder:
    """Make a sandbox below `folder`, and the order to run a task there, with its persistent volumes."""
    sandbox = folder / "sandboxes" / task
    sandbox.mkdir(parents=True, exist_ok=True)
    command = Command(argv=argv, shell=shell, user=user, working_directory=working_directory)
    spec = TaskSpec(
        TaskId(task),
        Resources(cpu_millis=100, mem_mib=mem_mib),
        command=command,
        container=container,
        limits=limits or Limits(),
        ports=ports,
        volumes=volumes,
    )
    persistent = {volume_id: Volumes(folder).provide(volume_id) for volume_id in spec.volume_ids}
    told = {"RUNRIG_SANDBOX": str(sandbox), **(env or {})}
    return LaunchOrder(key(task), spec, sandbox, tuple(told.items()), persistent)


async def run(runtime: Runtime, launch: LaunchOrder) -> None:
    """Prepare and launch."""
    await runtime.prepare(launch, lambda _: None)
    await runtime.launch(launch)


def text(launch: LaunchOrder, file: str = "stdout") -> str:
    """Read a file of the sandbox; empty while it is not there."""
    path = launch.sandbox / file
    return path.read_text() if path.exists() else ""


def is_alive(pid: int) -> bool:
    """Say whether a process runs: neither gone nor waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
