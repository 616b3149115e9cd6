"""The mind of the service framework: keeps the wanted number of instances of each app running.

Rule 1: whatever is decided follows from durable entries and from what the SDK says of tasks: there is no
step in between that a crash could lose. A rollout is not a script; it is what `converge` does while old
instances are left.
Rule 2: an instance is remembered before it is asked for, and forgotten with the news of its end: so none is
doubled.
Rule 3: nothing here reads a clock, draws a number or awaits.

Entries: `app/…`, `version/…/<instant>`, `instance/<task id>`, `failure/…`, `counter`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from runrig.errors import Refused
from runrig.ids import TaskId
from runrig.offers import InverseOffer, InverseOfferReason, InverseOffersEnded, InverseOffersMade
from runrig.wants import (
    Answer,
    AnswerInverse,
    Connected,
    Decision,
    Disconnected,
    Run,
    Stop,
    TaskChanged,
    TaskView,
    WakeAt,
    Want,
    Woken,
)
from runrig_service.core import edits
from runrig_service.core.converge import converge
from runrig_service.core.edits import Edit
from runrig_service.core.instance import Instance
from runrig_service.core.instances import COUNTER
from runrig_service.core.limits import Limits, Policy
from runrig_service.core.lookups import look_up
from runrig_service.core.questions import ChangeApps, CreateApp, RemoveApp, RestartApp, StopTasks
from runrig_service.core.state import State
from runrig_service.core.times import milliseconds
from runrig_service.core.views import render_failure


class Service:
    """A `runrig.wants.Logic`; see the rules above."""

    def __init__(self, limits: Limits | None = None, policy: Policy | None = None) -> None:
        self._limits = limits or Limits()
        self._policy = policy or Policy()
        self._state = State(self._limits, self._policy)
        self._wakes: dict[str, int] = {}
        self._told_ms: int | None = None

    def restore(self, entries: Mapping[str, bytes], tasks: Mapping[TaskId, TaskView], now: float) -> list[Decision]:
        """Take up what was durable; ask again for all that should run, and stop again what should not."""
        kinds: dict[str, dict[str, bytes]] = defaultdict(dict)
        for key, value in entries.items():
            kind, slash, name = key.partition("/")
            kinds[kind]["/" + name if slash else ""] = value
        state = self._state
        state.apps.restore(kinds["app"], kinds["version"])
        now_ms = milliseconds(now)
        state.failures.restore(kinds["failure"], now_ms)
        records = {name[1:]: value for name, value in kinds["instance"].items()}
        state.instances.restore(records, entries.get(COUNTER, b"0"), tasks, now_ms)
        decisions = self._resume()
        for definition in list(state.apps):
            decisions += self._converge(definition.app.app_id, now_ms)
        return [*decisions, *self._wake_at()]

    def handle(self, event: object, now: float) -> list[Decision]:
        """Learn one event; say what follows."""
        now_ms = milliseconds(now)
        match event:
            case TaskChanged():
                return self._learn(event.task, now_ms)
            case Woken():
                return self._woken(now_ms)
            case Connected():
                return self._converge_all(self._state.asked_back.clear(), now_ms)
            case Disconnected():
                return []
            case InverseOffersMade():
                return [each for inverse in event.inverse_offers for each in self._give_back(inverse, now_ms)]
            case InverseOffersEnded():
                forget = self._state.asked_back.forget
                apps = [app_id for each in event.inverse_offer_ids for app_id in forget(each)]
                return self._converge_all(apps, now_ms)
            case _:
                return self._answer(event, now_ms)

    def _resume(self) -> list[Decision]:
        decisions: list[Decision] = []
        wants: list[Want] = []
        for each in list(self._state.instances):
            app = self._state.apps.version(each.app_id, each.version_ms)
            if each.is_stopping and each.view is None:
                decisions.append(self._state.instances.forget(each))
            elif each.is_stopping:
                decisions.append(Stop(each.task_id))
            else:
                assert app is not None, f"{each.task_id} has a version that is not kept"
                wants += self._state.instances.again(each, app).wants
        return [Run(tuple(wants)), *decisions] if wants else decisions

    def _learn(self, view: TaskView, now_ms: int) -> list[Decision]:
        instance = self._state.instances.find(view.task_id)
        if instance is None:
            return self._unknown(view)
        decisions: list[Decision] = []
        has_changed = self._state.instances.learn(instance, view, now_ms)
        if view.state is not None and view.state.is_terminal:
            decisions += self._ended(instance, view, now_ms)
        elif instance.is_stopping and instance.is_unreachable:
            decisions += self._state.instances.stop(instance)
        elif has_changed:
            decisions.append(self._state.instances.put(instance))
        return [*decisions, *self._converge(instance.app_id, now_ms), *self._wake_at()]

    def _unknown(self, view: TaskView) -> list[Decision]:
        """Stop a task that was given up and is back; one in its last moments needs nothing."""
        if view.state is None or view.state.is_terminal or view.is_stopping:
            return []
        return [Stop(view.task_id)]

    def _ended(self, instance: Instance, view: TaskView, now_ms: int) -> list[Decision]:
        decisions: list[Decision] = [self._state.instances.forget(instance)]
        definition = self._state.apps.find(instance.app_id)
        is_current = definition is not None and instance.version_ms >= definition.configured_ms
        if definition is not None and is_current and not instance.is_stopping and view.status is not None:
            last = render_failure(instance, view, now_ms)
            decisions.append(self._state.failures.note(definition.app, view.status, last, now_ms))
        return decisions

    def _give_back(self, inverse: InverseOffer, now_ms: int) -> list[Decision]:
        """Replace what is on an agent that is drained, one after the other; stop at once what others need more."""
        find = self._state.instances.find
        asked = [each for task_id in inverse.task_ids if (each := find(task_id)) is not None]
        if inverse.reason is InverseOfferReason.MAINTENANCE:
            return [AnswerInverse(inverse.inverse_offer_id, is_accepted=False, reason="its instances run on")]
        decisions: list[Decision] = []
        if inverse.reason is InverseOfferReason.DRAIN:
            self._state.asked_back.note(inverse.inverse_offer_id, asked)
            intent = "its instances are replaced one after the other, each before it is stopped"
        else:
            for each in asked:
                decisions += self._state.instances.stop(each)
            intent = "its instances are being stopped"
        decisions += self._converge_all([each.app_id for each in asked], now_ms)
        return [*decisions, AnswerInverse(inverse.inverse_offer_id, is_accepted=True, reason=intent)]

    def _converge_all(self, app_ids: list[str], now_ms: int) -> list[Decision]:
        decisions: list[Decision] = []
        for app_id in dict.fromkeys(app_ids):
            decisions += self._converge(app_id, now_ms)
        return [*decisions, *self._wake_at()]

    def _woken(self, now_ms: int) -> list[Decision]:
        self._told_ms = None
        due = sorted(app_id for app_id, at_ms in self._wakes.items() if at_ms <= now_ms)
        return self._converge_all(due, now_ms)

    def _converge(self, app_id: str, now_ms: int) -> list[Decision]:
        result = converge(self._state, app_id, now_ms)
        self._wakes.pop(app_id, None)
        if result.wake_ms is not None:
            self._wakes[app_id] = result.wake_ms
        return result.decisions

    def _wake_at(self) -> list[Decision]:
        """Ask to be woken for the first app that is due, unless that is asked already."""
        first_ms = min(self._wakes.values(), default=None)
        if first_ms is None or (self._told_ms is not None and self._told_ms <= first_ms):
            return []
        self._told_ms = first_ms
        return [WakeAt(first_ms / 1000)]

    def _answer(self, question: object, now_ms: int) -> list[Decision]:
        try:
            edit = self._ask(question, now_ms)
        except Refused as error:
            return [Answer(question, error)]
        for app_id in edit.touched:
            edit.decisions += self._converge(app_id, now_ms)
        return [*edit.decisions, *self._wake_at(), Answer(question, edit.value)]

    def _ask(self, question: object, now_ms: int) -> Edit:
        match question:
            case CreateApp():
                return edits.create_app(self._state, question, now_ms)
            case ChangeApps():
                return edits.change_apps(self._state, question, now_ms)
            case RemoveApp():
                return edits.remove_app(self._state, question, now_ms)
            case RestartApp():
                return edits.restart_app(self._state, question, now_ms)
            case StopTasks():
                return edits.stop_tasks(self._state, question, now_ms)
            case _:
                return Edit(look_up(self._state, question))
