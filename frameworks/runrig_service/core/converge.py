"""Brings what runs of one app closer to what is wanted, whenever either has changed or time has passed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from runrig.ids import TaskId
from runrig.wants import Decision
from runrig_service.core.app import App, Definition, Pairs
from runrig_service.core.instance import Instance, Standing
from runrig_service.core.instances import Tally
from runrig_service.core.launch import gathering_attributes
from runrig_service.core.rollout import Counts, Step, step
from runrig_service.core.selection import select, value_of
from runrig_service.core.state import State

MAX_STEPS = 10
"""More than any app needs to come to rest: two were the most seen."""


@dataclass(slots=True)
class Next:
    """What to do now, and when to look again at the latest; milliseconds, None: when something changes."""

    decisions: list[Decision]
    wake_ms: int | None = None

    def wake_at(self, at_ms: int) -> None:
        """Look again at `at_ms`, if not earlier."""
        self.wake_ms = at_ms if self.wake_ms is None else min(self.wake_ms, at_ms)


def converge(state: State, app_id: str, now_ms: int) -> Next:
    """Return all that can be done now for one app; of an app that was removed nothing is wanted.

    Steps are taken until one does nothing: no news comes of an instance that is dropped before it was launched, so
    nothing else would bring what follows from that.
    """
    decisions: list[Decision] = []
    for _ in range(MAX_STEPS):
        result = _step(state, app_id, now_ms)
        decisions += result.decisions
        if not result.decisions:
            return Next(decisions, result.wake_ms)
    raise AssertionError(f"{app_id} does not come to rest: {decisions[-3:]}")


def _step(state: State, app_id: str, now_ms: int) -> Next:
    result = Next([])
    definition = state.apps.find(app_id)
    if definition is None:
        return result
    _release_stranded(state, definition.app, result)
    inactive = _give_up(state, definition, now_ms, result)
    counts = _counts(definition, state.instances.tally(app_id), len(inactive))
    leaving = _next_to_leave(state, definition)
    planned = _plan(definition, counts, leaving)
    if planned.stops:
        _stop(state, definition, planned, inactive, leaving, result)
    _start(state, definition, planned.start, now_ms, result)
    if definition.change and _is_complete(counts, leaving):
        result.decisions += state.apps.complete(app_id)
    return result


def _give_up(state: State, definition: Definition, now_ms: int, result: Next) -> set[TaskId]:
    """Give up what was out of reach for too long, and what is old and waits.

    Return the instances that are replaced already, but given up only later: they do not count meanwhile.
    """
    tally = state.instances.tally(definition.app.app_id)
    if not any(_needs_a_look(key, definition) for key in tally):
        return set()
    strategy = definition.app.unreachable
    inactive = set()
    for each in state.instances.of(definition.app.app_id):
        is_old = _is_old(each.version_ms, definition)
        if each.is_waiting and is_old:
            result.decisions += state.instances.stop(each)
        if each.unreachable_ms is None or strategy is None:
            continue
        inactive_ms = each.unreachable_ms + strategy.inactive_after_ms
        expunged_ms = each.unreachable_ms + strategy.expunge_after_ms
        if now_ms >= expunged_ms or (is_old and now_ms >= inactive_ms):
            result.decisions += state.instances.stop(each)
            continue
        result.wake_at(expunged_ms if now_ms >= inactive_ms else inactive_ms)
        if now_ms >= inactive_ms:
            inactive.add(each.task_id)
    return inactive


def _needs_a_look(key: tuple[int, Standing], definition: Definition) -> bool:
    version_ms, standing = key
    if standing is Standing.WAITING:
        return _is_old(version_ms, definition)
    return standing is Standing.UNREACHABLE


def _is_old(version_ms: int, definition: Definition) -> bool:
    return version_ms < definition.configured_ms


def _counts(definition: Definition, tally: Tally, inactive: int) -> Counts:
    new: Counter[Standing] = Counter()
    old: Counter[Standing] = Counter()
    for (version_ms, standing), number in tally.items():
        (old if _is_old(version_ms, definition) else new)[standing] += number
    return Counts(
        wanted=definition.app.instances,
        new=new.total() - new[Standing.STOPPING] - inactive,
        new_ready=new[Standing.READY],
        old_ready=old[Standing.READY],
        old_not_ready=old[Standing.NOT_READY] + old[Standing.UNREACHABLE],
        stopping=new[Standing.STOPPING] + old[Standing.STOPPING],
        stopping_old=old[Standing.STOPPING],
    )


def _next_to_leave(state: State, definition: Definition) -> Instance | None:
    """Return the instance that is replaced now as its agent is drained; of old ones all are on their way out."""
    app_id = definition.app.app_id
    if not state.asked_back.concerns(app_id):
        return None
    leaving = state.asked_back.next_to_leave(app_id, state.instances.of(app_id))
    return None if leaving is None or _is_old(leaving.version_ms, definition) else leaving


def _plan(definition: Definition, counts: Counts, leaving: Instance | None) -> Step:
    """Plan the next step; an instance that leaves is replaced as if it were old, and before it is stopped.

    Only where the strategy allows no more than are wanted does it go first, if the strategy allows that.
    """
    upgrade = definition.app.upgrade
    if leaving is None:
        return step(counts, upgrade)
    if not counts.is_rolling and counts.wanted * (1 + upgrade.maximum_over_capacity) >= counts.wanted + 1:
        upgrade = replace(upgrade, minimum_health_capacity=1.0)
    is_ready = int(leaving.is_ready)
    counts = replace(
        counts,
        new=counts.new - 1,
        new_ready=counts.new_ready - is_ready,
        old_ready=counts.old_ready + is_ready,
        old_not_ready=counts.old_not_ready + 1 - is_ready,
    )
    return step(counts, upgrade)


def _is_complete(counts: Counts, leaving: Instance | None) -> bool:
    """Say whether all that is wanted serves; the replacement of one that leaves may still wait for room."""
    has_all = counts.new == counts.new_ready == counts.wanted or (leaving and counts.new_ready >= counts.wanted)
    return bool(has_all) and not counts.is_rolling and not counts.stopping


def _stop(
    state: State,
    definition: Definition,
    planned: Step,
    inactive: set[TaskId],
    leaving: Instance | None,
    result: Next,
) -> None:
    app = definition.app
    instances = [each for each in _remaining(state, app) if each.task_id not in inactive]
    old = [each for each in instances if _is_old(each.version_ms, definition) or each is leaving]
    new = [each for each in instances if not _is_old(each.version_ms, definition) and each is not leaving]
    victims = [
        *select(app, (each for each in old if not each.is_ready), planned.stop_not_ready),
        *select(app, (each for each in old if each.is_ready), planned.stop_ready),
        *select(app, new, planned.stop_new),
    ]
    for each in victims:
        result.decisions += state.instances.stop(each)


def _start(state: State, definition: Definition, count: int, now_ms: int, result: Next) -> None:
    if count == 0:
        return
    app = definition.app
    trouble = state.failures.of(app.app_id)
    if trouble.delay_ms and now_ms < trouble.until_ms:
        result.wake_at(trouble.until_ms)
        return
    gathered, most = _gathered(state, app)
    count = min(count, most)
    if count:
        result.decisions += state.instances.make(definition, count, gathered, now_ms)


def _gathered(state: State, app: App) -> tuple[Pairs, int]:
    """Return the values that new instances are bound to, and how many may be made now.

    CLUSTER without a value gathers an app wherever its first instance happens to go: so the first goes
    alone, and the others wait to hear where it is.
    """
    attributes = gathering_attributes(app)
    if not attributes:
        return (), app.instances
    instances = _remaining(state, app)
    placed = next((each for each in instances if not each.is_waiting), None)
    if placed is None:
        return (), 0 if instances else 1
    values = ((name, value_of(placed, name)) for name in attributes)
    return tuple((name, value) for name, value in values if value), app.instances


def _release_stranded(state: State, app: App, result: Next) -> None:
    """Stop instances that wait for a place where nobody of their app is any more: others are made."""
    if not gathering_attributes(app):
        return
    instances = _remaining(state, app)
    if all(each.is_waiting for each in instances):
        for each in instances:
            if each.gathered:
                result.decisions += state.instances.stop(each)


def _remaining(state: State, app: App) -> list[Instance]:
    return [each for each in state.instances.of(app.app_id) if not each.is_stopping]
