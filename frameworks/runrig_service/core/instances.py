"""The instances of all apps, the durable counter their ids come from, and which entries keep them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from runrig.ids import TaskId
from runrig.wants import Decision, Delete, Put, Run, Stop, TaskView
from runrig_service.core.app import App, Definition, Pairs
from runrig_service.core.instance import Instance, Standing
from runrig_service.core.launch import want
from runrig_service.core.limits import Policy
from runrig_service.core.paths import instance_id
from runrig_service.core.times import text_of

COUNTER = "counter"

Tally = Counter[tuple[int, Standing]]
"""How many instances of an app there are, by version and standing; kept, as a large app is not counted at each news."""


class Instances:
    """All instances; each method that changes something returns what is to be done and made durable."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._by_app: dict[str, dict[TaskId, Instance]] = {}
        self._by_id: dict[TaskId, Instance] = {}
        self._tallies: dict[str, Tally] = {}
        self._last_number = 0

    def restore(
        self, entries: Mapping[str, bytes], counter: bytes, tasks: Mapping[TaskId, TaskView], now_ms: int
    ) -> None:
        """Take up the entries by task id, and what the SDK knows of the tasks; the clock may have been set back."""
        self._last_number = int(counter)
        restored = (Instance.from_bytes(TaskId(name), value) for name, value in entries.items())
        for instance in sorted(restored, key=lambda each: each.number):
            instance.view = tasks.get(instance.task_id)
            if instance.unreachable_ms is not None:
                instance.unreachable_ms = min(instance.unreachable_ms, now_ms)
            self._add(instance)

    def __iter__(self) -> Iterator[Instance]:
        """Yield all, in the order in which they were made."""
        yield from self._by_id.values()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._by_id)

    def find(self, task_id: TaskId) -> Instance | None:
        """Return an instance, or None."""
        return self._by_id.get(task_id)

    def of(self, app_id: str) -> list[Instance]:
        """Return the instances of an app, in the order in which they were made."""
        return list(self._by_app.get(app_id, {}).values())

    def tally(self, app_id: str) -> Tally:
        """Return how many instances of an app there are, by version and standing."""
        return self._tallies.get(app_id, Counter())

    def versions(self, app_id: str) -> set[int]:
        """Return the versions that the instances of an app have, but for those that are being stopped."""
        return {version_ms for version_ms, standing in self.tally(app_id) if standing is not Standing.STOPPING}

    def learn(self, instance: Instance, view: TaskView, now_ms: int) -> bool:
        """Take up news of an instance's task; say whether its entry has changed."""
        self._count(instance, -1)
        has_changed = instance.learn(view, now_ms)
        self._count(instance, 1)
        return has_changed

    def make(self, definition: Definition, count: int, gathered: Pairs, now_ms: int) -> list[Decision]:
        """Make new instances of an app's current version, and ask for them to run."""
        app, version = definition.app, text_of(definition.version_ms)
        made = []
        for _ in range(count):
            self._last_number += 1
            task_id = instance_id(app.app_id, version, self._last_number)
            instance = Instance(task_id, app.app_id, definition.version_ms, now_ms, bool(app.health_checks), gathered)
            self._add(instance)
            made.append(instance)
        return [
            Put(COUNTER, str(self._last_number).encode()),
            *(self.put(each) for each in made),
            Run(tuple(want(app, each.task_id, version, self._policy, dict(gathered)) for each in made)),
        ]

    def again(self, instance: Instance, app: App) -> Run:
        """Ask for an instance that was made before to run, in the same words."""
        version = text_of(instance.version_ms)
        return Run((want(app, instance.task_id, version, self._policy, dict(instance.gathered)),))

    def stop(self, instance: Instance) -> list[Decision]:
        """Stop an instance: it is forgotten when it has ended, or at once where no end will be told.

        No end is told of a task that was never launched; and one that is out of reach may be so for ever:
        the SDK goes on trying to kill it, and nothing waits for that.
        """
        if instance.is_waiting or instance.is_unreachable:
            return [self.forget(instance), Stop(instance.task_id)]
        if instance.is_stopping:
            return []
        self._count(instance, -1)
        instance.is_stopping = True
        self._count(instance, 1)
        return [self.put(instance), Stop(instance.task_id)]

    def forget(self, instance: Instance) -> Delete:
        """Forget an instance that has ended."""
        self._count(instance, -1)
        del self._by_id[instance.task_id]
        siblings = self._by_app[instance.app_id]
        del siblings[instance.task_id]
        if not siblings:
            del self._by_app[instance.app_id]
        return Delete(_key(instance.task_id))

    def put(self, instance: Instance) -> Put:
        """Return the entry of an instance."""
        return Put(_key(instance.task_id), instance.to_bytes())

    def _add(self, instance: Instance) -> None:
        assert instance.task_id not in self._by_id, f"{instance.task_id} is there already"
        self._by_id[instance.task_id] = instance
        self._by_app.setdefault(instance.app_id, {})[instance.task_id] = instance
        self._count(instance, 1)

    def _count(self, instance: Instance, change: int) -> None:
        tally = self._tallies.setdefault(instance.app_id, Counter())
        key = (instance.version_ms, instance.standing)
        tally[key] += change
        if not tally[key]:
            del tally[key]
        if not tally:
            del self._tallies[instance.app_id]


def _key(task_id: TaskId) -> str:
    return f"instance/{task_id}"
