"""A runtime that runs nothing: tests say what becomes of its tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from runrig.errors import NotFound
from runrig.tasks import Reason, RuntimeKind
from runrig_agent.runtime import (
    Ended,
    ExecSession,
    Found,
    LaunchFailed,
    LaunchOrder,
    RuntimeListener,
    Signal,
    Started,
    TaskKey,
    Usage,
)


class FakeRuntime:
    """Keeps what it was asked; `problem` makes it unavailable, `hangs` makes launches wait for ever."""

    def __init__(self, kind: RuntimeKind = RuntimeKind.PROCESS) -> None:
        self.kind = kind
        self.problem: str | None = None
        self.hangs = False
        self.bug: Exception | None = None
        self.listener: RuntimeListener | None = None
        self.tasks: dict[TaskKey, Ended | None] = {}
        self.orders: list[LaunchOrder] = []
        self.signals: list[tuple[TaskKey, int]] = []
        self.recoveries = 0
        self.cancelled = 0

    async def start(self, listener: RuntimeListener) -> None:
        self.listener = listener
        listener.availability_changed(self.kind, self.problem)

    async def recover(self, keys: frozenset[TaskKey]) -> list[Found]:
        self.recoveries += 1
        if self.problem is not None:
            raise LaunchFailed(Reason.RUNTIME_UNAVAILABLE, self.problem)
        self.tasks = {key: end for key, end in self.tasks.items() if key in keys}
        return [Found(key, Started(1000), end) for key, end in self.tasks.items()]

    async def prepare(self, order: LaunchOrder, progress: Callable[[str], None]) -> None:
        progress("10 %")
        try:
            if self.hangs:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def launch(self, order: LaunchOrder) -> Started:
        if self.bug is not None:
            raise self.bug
        if self.hangs:
            await asyncio.Event().wait()
        self.orders.append(order)
        self.tasks[order.key] = None
        return Started(1000, pid=1)

    async def signal(self, key: TaskKey, signal: Signal) -> None:
        self.signals.append((key, signal))
        if key in self.tasks:
            self.end(key, Ended(128 + signal, 10**13))

    async def forget(self, key: TaskKey) -> None:
        self.tasks.pop(key, None)

    async def exec(self, key: TaskKey, argv: tuple[str, ...], env: Mapping[str, str], tty: bool) -> ExecSession:
        raise NotFound("task", key[1])

    async def usage(self, key: TaskKey) -> Usage:
        return Usage()

    async def close(self) -> None:
        self.listener = None

    def end(self, key: TaskKey, ended: Ended) -> None:
        """Let a task end."""
        self.tasks[key] = ended
        assert self.listener is not None
        self.listener.task_ended(key, ended)
