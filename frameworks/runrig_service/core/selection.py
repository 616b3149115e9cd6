"""Which instances to stop when there are too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from runrig.tasks import TaskState
from runrig_service.core.app import App
from runrig_service.core.instance import Instance
from runrig_service.core.launch import attribute_of


def select(app: App, candidates: Iterable[Instance], count: int) -> list[Instance]:
    """Return the `count` instances of `candidates` that are missed least.

    First those that run nowhere yet or are out of reach; then, where the app spreads over an attribute
    (GROUP_BY), of those on its fullest values; then those that serve least; and among equals the youngest,
    or the oldest if the app says so. Marathon does the same, but takes no notice of health.
    """
    ranked = sorted(candidates, key=lambda each: _rank(app, each))
    attribute = next((attribute_of(each.field) for each in app.constraints if each.operator == "GROUP_BY"), None)
    if attribute is None or count >= len(ranked):
        return ranked[:count]
    chosen = [each for each in ranked if each.is_waiting or each.is_unreachable][:count]
    left = ranked[len(chosen) :]
    while len(chosen) < count:
        counts = Counter(value_of(each, attribute) for each in left)
        most = max(counts.values())
        victim = next(each for each in left if counts[value_of(each, attribute)] == most)
        chosen.append(victim)
        left.remove(victim)
    return chosen


def value_of(instance: Instance, attribute: str) -> str:
    """Return the value that an attribute has where the instance runs, or nothing."""
    view = instance.view
    if view is None:
        return ""
    if attribute == "hostname":
        return view.hostname
    return next((value for name, value in view.attributes if name == attribute), "")


def _rank(app: App, instance: Instance) -> tuple[int, int, str]:
    age = instance.active_since_ms if app.kill_oldest_first else -instance.active_since_ms
    return _worth(instance), age, instance.task_id


def _worth(instance: Instance) -> int:
    if instance.is_waiting:
        return 0
    if instance.is_unreachable:
        return 1
    if instance.is_ready:
        return 5
    order = {TaskState.TASK_STAGING: 2, TaskState.TASK_STARTING: 3}
    return order.get(instance.state or TaskState.TASK_RUNNING, 4)
