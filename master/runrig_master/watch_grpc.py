"""Operators' Watch streams: what is there, then what changes, coalesced per thing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from runrig.errors import TooSlow
from runrig.ids import AgentId, FrameworkId, TaskId
from runrig.v1 import operator_pb2
from runrig_master.core.state import Task
from runrig_master.loop import Loop
from runrig_master.views_grpc import agent_view, all_tasks, framework_view, task_view

CHANGES_PER_MESSAGE = 1_000


class _Watcher:
    __slots__ = ("changes", "filled", "is_too_slow")

    def __init__(self) -> None:
        self.changes: dict[tuple[str, str, str], None] = {}
        self.filled = asyncio.Event()
        self.is_too_slow = False


class Watchers:
    """All who watch."""

    def __init__(self, loop: Loop, most: int, most_waiting: int) -> None:
        self._loop = loop
        self._cluster = loop.master.cluster
        self._most = most
        self._most_waiting = most_waiting
        self._watchers: list[_Watcher] = []
        loop.turned = self._turned

    async def watch(self) -> AsyncIterator[operator_pb2.WatchResponse]:
        """Yield the state, then its changes; raise TooSlow at a bound."""
        if len(self._watchers) >= self._most:
            raise TooSlow(f"{self._most} watch already, the bound (watchers); end one first")
        watcher = _Watcher()
        self._watchers.append(watcher)
        if self._cluster.touched is None:
            self._cluster.touched = {}
        try:
            for response in self._snapshot():
                yield response
            while True:
                await watcher.filled.wait()
                watcher.filled.clear()
                if watcher.is_too_slow:
                    raise TooSlow(f"{self._most_waiting} changes wait for a watcher that does not read")
                changes, watcher.changes = watcher.changes, {}
                for response in _messages(self._read(key) for key in changes):
                    yield response
        finally:
            self._watchers.remove(watcher)
            if not self._watchers:
                self._cluster.touched = None

    def _turned(self) -> None:
        touched, self._cluster.touched = self._cluster.touched, {}
        for watcher in self._watchers:
            watcher.changes.update(touched or {})
            watcher.is_too_slow = len(watcher.changes) > self._most_waiting
            watcher.filled.set()

    def _snapshot(self) -> Iterator[operator_pb2.WatchResponse]:
        cluster = self._cluster
        yield from _messages(operator_pb2.Change(agent=agent_view(item)) for item in list(cluster.agents.values()))
        frameworks = list(cluster.frameworks.values())
        yield from _messages(operator_pb2.Change(framework=framework_view(item)) for item in frameworks)
        tasks = list(all_tasks(cluster, include_terminal=False))
        yield from _messages(operator_pb2.Change(task=task_view(item)) for item in tasks)
        yield operator_pb2.WatchResponse(changes=[operator_pb2.Change(snapshot_end=operator_pb2.SnapshotEnd())])

    def _read(self, key: tuple[str, str, str]) -> operator_pb2.Change | None:
        kind, name, framework_id = key
        cluster = self._cluster
        if kind == "agent":
            agent = cluster.agents.get(AgentId(name))
            return operator_pb2.Change(agent=agent_view(agent)) if agent is not None else None
        owner = FrameworkId(name if kind == "framework" else framework_id)
        framework = cluster.frameworks.get(owner) or cluster.completed.get(owner)
        if framework is None:
            return None
        if kind == "framework":
            return operator_pb2.Change(framework=framework_view(framework))
        task: Task | None = framework.tasks.get(TaskId(name)) or framework.ended.get(TaskId(name))
        return operator_pb2.Change(task=task_view(task)) if task is not None else None


def _messages(changes: Iterator[operator_pb2.Change | None]) -> Iterator[operator_pb2.WatchResponse]:
    batch: list[operator_pb2.Change] = []
    for change in changes:
        if change is not None:
            batch.append(change)
        if len(batch) == CHANGES_PER_MESSAGE:
            yield operator_pb2.WatchResponse(changes=batch)
            batch = []
    if batch:
        yield operator_pb2.WatchResponse(changes=batch)
