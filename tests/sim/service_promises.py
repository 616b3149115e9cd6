"""What the service framework must keep to: instances are remembered, numbered once, not too many and not too few."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from runrig.ids import TaskId
from runrig.offers import Accept, Acknowledge, Call, InverseOfferReason, InverseOffersMade, News, TasksUpdated
from runrig.tasks import StatusUpdate, TaskState
from runrig.testing import SimulatedFramework

INSTANCE = "app/instance/"
VERSION = "app/version"


class ServicePromises:
    """Watch the durable entries of the service framework whenever it speaks."""

    def __init__(self, framework: SimulatedFramework) -> None:
        self._framework = framework
        self._numbers: dict[str, TaskId] = {}
        """To whom each number was given."""
        self._running: set[TaskId] = set()
        """Instances of which it has acknowledged that they run, and heard nothing worse."""
        self._heard_running: set[TaskId] = set()
        self._ended: set[TaskId] = set()
        """Instances of whose end it has heard: what was overtaken by that is no news."""
        self._asked_back: set[str] = set()
        """Apps of which a drain has asked for an instance: one at a time is replaced before it is stopped."""
        self._instances: dict[str, bytes] = {}
        self._versions: set[str] = set()
        framework.heard.append(self._heard)
        framework.said.append(self._says)

    def _says(self, call: Call) -> None:
        match call:
            case Accept(groups):
                for task in (task for group in groups for task in group.tasks):
                    self._check_launch(task.task_id)
            case Acknowledge(receipts):
                self._running |= {receipt.task_id for receipt in receipts} & self._heard_running
            case _:
                pass
        self._check_stops()

    def _check_launch(self, task_id: TaskId) -> None:
        value = self._framework.entries.get(INSTANCE + task_id)
        assert value is not None, f"{task_id} is launched, and not remembered (any more)"
        number = task_id.rpartition("-")[2]
        first = self._numbers.setdefault(number, task_id)
        assert first == task_id, f"{task_id} has the number of {first}"
        app = _read(value)["app"]
        there = {key: each for key, each in self._all().items() if _read(each)["app"] == app}
        configured = _read(self._framework.entries[f"app/app{app}"])["configured"]
        if any(_read(each)["version"] < configured for each in there.values()):
            return  # what is replaced by another configuration may be doubled meanwhile
        most = max(self._wanted(app, set()), default=0)
        if app in self._asked_back:
            there = {key: each for key, each in there.items() if not _stops(each)}
            most += 1
        assert len(there) <= most, f"{app}: {task_id} is launched as one of {len(there)}, wanted are {most}"

    def _heard(self, news: News) -> None:
        for inverse in news.inverse_offers if isinstance(news, InverseOffersMade) else ():
            if inverse.reason is not InverseOfferReason.MAINTENANCE:
                there = self._all()
                known = [there[INSTANCE + task_id] for task_id in inverse.task_ids if INSTANCE + task_id in there]
                self._asked_back |= {_read(each)["app"] for each in known}
        for update in news.updates if isinstance(news, TasksUpdated) else ():
            self._learn(update)

    def _learn(self, update: StatusUpdate) -> None:
        task_id = update.task_id
        is_remembered = INSTANCE + task_id in self._framework.entries
        assert is_remembered or task_id not in self._running, f"{task_id} was forgotten before it had ended"
        if update.state.is_terminal:
            self._ended.add(task_id)
        if update.state is TaskState.TASK_RUNNING and is_remembered and task_id not in self._ended:
            self._heard_running.add(task_id)
        elif update.state is not TaskState.TASK_KILLING:
            self._heard_running.discard(task_id)
            self._running.discard(task_id)

    def _check_stops(self) -> None:
        """Assert that of what was there no more is stopped than is too many."""
        before, self._instances = self._instances, self._all()
        old_versions, self._versions = self._versions, {key for key in self._framework.entries if _is_version(key)}
        stopped = {key for key, value in self._instances.items() if _stops(value)} - {
            key for key, value in before.items() if _stops(value)
        }
        for app in {_read(self._instances[key])["app"] for key in stopped & before.keys()}:
            old = {key for key, value in before.items() if _read(value)["app"] == app and not _stops(value)}
            kept = old - stopped
            was_removed = any(key.startswith(f"{VERSION}{app}/") for key in old_versions - self._versions)
            least = 0 if was_removed else min((*self._wanted(app, old_versions), len(old)))
            assert len(kept) >= least, f"{app}: of {len(old)} instances {len(kept)} are kept, wanted are {least}"

    def _all(self) -> dict[str, bytes]:
        return {key: value for key, value in self._framework.entries.items() if key.startswith(INSTANCE)}

    def _wanted(self, app: str, known: set[str]) -> list[int]:
        """Return how many instances the latest version of an app wants, and those that are not in `known`; 0: none."""
        versions = sorted(key for key in self._framework.entries if key.startswith(f"{VERSION}{app}/"))
        return [_read(self._framework.entries[key])["instances"] for key in versions if key not in known][-9:] + (
            [_read(self._framework.entries[versions[-1]])["instances"]] if versions else [0]
        )


def _is_version(key: str) -> bool:
    return key.startswith(VERSION)


def _stops(value: bytes) -> bool:
    return bool(_read(value).get("stopping"))


@lru_cache(maxsize=4096)
def _read(value: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(value)
    return fields
