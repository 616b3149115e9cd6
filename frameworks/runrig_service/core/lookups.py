"""Answers questions that change nothing."""

from __future__ import annotations

from runrig.tasks import TaskState
from runrig_service.core.app import Definition
from runrig_service.core.app_render import JsonObject, render_app
from runrig_service.core.errors import Missing
from runrig_service.core.instance import Instance
from runrig_service.core.questions import (
    Count,
    ListApps,
    ListTasks,
    ListVersions,
    ListWaiting,
    ShowApp,
    ShowVersion,
    Totals,
    WaitingInstances,
)
from runrig_service.core.selector import parse_selector
from runrig_service.core.state import State
from runrig_service.core.times import instant_of, text_of
from runrig_service.core.views import STAGING, render_app_info, render_task

EVERYTHING = frozenset({"tasks", "lastTaskFailure"})


def look_up(state: State, question: object) -> object:
    """Return the answer; raise Missing for what is not there, InvalidApp for a selector that is none."""
    match question:
        case ListApps():
            return _list_apps(state, question)
        case ShowApp():
            return render_app_info(state, state.app(question.app_id), EVERYTHING)
        case ListVersions():
            state.app(question.app_id)
            return [text_of(each) for each in state.apps.versions(question.app_id)]
        case ShowVersion():
            return _show_version(state, question)
        case ListTasks():
            return _list_tasks(state, question)
        case ListWaiting():
            return _list_waiting(state, question)
        case Count():
            return _totals(state)
        case _:
            raise TypeError(f"{question!r} is no question that a service knows")


def _list_apps(state: State, question: ListApps) -> list[JsonObject]:
    selects = parse_selector(question.labels)

    def matches(definition: Definition) -> bool:
        app = definition.app
        return (
            app.app_id.startswith(question.below)
            and question.id_part.lower() in app.app_id.lower()
            and question.cmd_part.lower() in (app.cmd or "").lower()
            and selects(dict(app.labels))
        )

    return [render_app_info(state, each, question.embed) for each in state.apps if matches(each)]


def _show_version(state: State, question: ShowVersion) -> JsonObject:
    app_id = question.app_id
    state.app(app_id)
    version_ms = instant_of(question.version)
    app = state.apps.version(app_id, version_ms) if version_ms is not None else None
    if app is None or version_ms is None:
        raise Missing("version", question.version, f"App '{app_id}' does not exist in version {question.version[:80]}")
    return render_app(app) | {"version": text_of(version_ms)}


def _list_tasks(state: State, question: ListTasks) -> list[JsonObject]:
    if question.app_id is None:
        instances = list(state.instances)
    else:
        state.app(question.app_id)
        instances = state.instances.of(question.app_id)
    return [render_task(state, each) for each in instances if not each.is_waiting and _is_in(each, question.states)]


def _list_waiting(state: State, question: ListWaiting) -> WaitingInstances:
    state.app(question.app_id)
    waiting = [each.task_id for each in state.instances.of(question.app_id) if each.is_waiting]
    return WaitingInstances(question.app_id, len(waiting), tuple(waiting[: question.limit]))


def _is_in(instance: Instance, states: frozenset[str]) -> bool:
    if not states:
        return True
    if instance.state in STAGING:
        return "staging" in states
    return instance.state is TaskState.TASK_RUNNING and "running" in states


def _totals(state: State) -> Totals:
    instances = list(state.instances)
    return Totals(
        apps=len(state.apps),
        wanted=sum(each.app.instances for each in state.apps),
        waiting=sum(each.is_waiting for each in instances),
        staged=sum(each.state in STAGING for each in instances),
        running=sum(each.state is TaskState.TASK_RUNNING for each in instances),
        healthy=sum(each.health is True for each in instances),
        unhealthy=sum(each.health is False for each in instances),
        unreachable=sum(each.is_unreachable for each in instances),
        stopping=sum(each.is_stopping for each in instances),
        changes=sum(bool(each.change) for each in state.apps),
    )
