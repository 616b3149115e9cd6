"""Operators' Watch streams: what is there, then what changes, coalesced per thing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache, partial

from runrig.errors import TooSlow
from runrig.ids import AgentId, FrameworkId, OfferId, Role, TaskId
from runrig.v1 import operator_pb2
from runrig_master.core.quotas import ancestors
from runrig_master.core.state import Framework
from runrig_master.loop import Loop
from runrig_master.views_grpc import (
    RoleSums,
    agent_view,
    all_tasks,
    framework_view,
    offer_view,
    role_view,
    role_views,
    task_view,
)

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
                sums = cache(partial(RoleSums, self._cluster))
                for response in _messages(self._read(key, sums) for key in changes):
                    yield response
        finally:
            self._watchers.remove(watcher)
            if not self._watchers:
                self._cluster.touched = None

    def _turned(self) -> None:
        touched, self._cluster.touched = self._cluster.touched or {}, {}
        changes = touched | _roles_above(touched)
        for watcher in self._watchers:
            if not watcher.is_too_slow:
                watcher.changes.update(changes)
            if len(watcher.changes) > self._most_waiting:
                watcher.is_too_slow = True
                watcher.changes.clear()
            watcher.filled.set()

    def _snapshot(self) -> Iterator[operator_pb2.WatchResponse]:
        cluster = self._cluster
        yield from _messages(operator_pb2.Change(agent=agent_view(item)) for item in list(cluster.agents.values()))
        frameworks = list(cluster.frameworks.values())
        yield from _messages(operator_pb2.Change(framework=framework_view(item)) for item in frameworks)
        yield from _messages(operator_pb2.Change(role=role) for role in list(role_views(cluster)))
        offers = list(cluster.offers.values())
        yield from _messages(operator_pb2.Change(offer=offer_view(item)) for item in offers)
        tasks = list(all_tasks(cluster, include_terminal=False))
        yield from _messages(operator_pb2.Change(task=task_view(item)) for item in tasks)
        yield operator_pb2.WatchResponse(changes=[operator_pb2.Change(snapshot_end=operator_pb2.SnapshotEnd())])

    def _read(self, key: tuple[str, str, str], sums: Callable[[], RoleSums]) -> operator_pb2.Change | None:
        kind, name, framework_id = key
        match kind:
            case "agent":
                agent = self._cluster.agents.get(AgentId(name))
                return operator_pb2.Change(agent=agent_view(agent)) if agent is not None else None
            case "role":
                return operator_pb2.Change(role=role_view(self._cluster, Role(name), sums()))
            case "offer":
                return self._read_offer(OfferId(name))
            case "framework":
                framework = self._framework(name)
                return operator_pb2.Change(framework=framework_view(framework)) if framework is not None else None
            case _:
                return self._read_task(framework_id, TaskId(name))

    def _read_offer(self, offer_id: OfferId) -> operator_pb2.Change:
        offer = self._cluster.offers.get(offer_id)
        if offer is None:
            return operator_pb2.Change(offer_ended=operator_pb2.OfferEnded(offer_id=offer_id))
        return operator_pb2.Change(offer=offer_view(offer))

    def _read_task(self, framework_id: str, task_id: TaskId) -> operator_pb2.Change | None:
        framework = self._framework(framework_id)
        if framework is None:
            return None
        task = framework.tasks.get(task_id) or framework.ended.get(task_id)
        return operator_pb2.Change(task=task_view(task)) if task is not None else None

    def _framework(self, framework_id: str) -> Framework | None:
        owner = FrameworkId(framework_id)
        return self._cluster.frameworks.get(owner) or self._cluster.completed.get(owner)


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


def _roles_above(touched: dict[tuple[str, str, str], None]) -> dict[tuple[str, str, str], None]:
    """Return the roles above those that changed: what is below them counts in their sums."""
    return {("role", above, ""): None for kind, role, _ in touched if kind == "role" for above in ancestors(Role(role))}
