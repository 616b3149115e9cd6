"""Changes of what is wanted. Each checks everything first: what is refused has changed nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from runrig.ids import TaskId
from runrig.wants import Decision
from runrig_service.core.app import App, Definition
from runrig_service.core.app_json import merged, read_app
from runrig_service.core.app_render import render_app
from runrig_service.core.errors import AppExists, InvalidApp, Missing
from runrig_service.core.instance import Instance
from runrig_service.core.paths import canonical, deployment_id
from runrig_service.core.questions import (
    Body,
    ChangeApps,
    Changed,
    CreateApp,
    RemoveApp,
    RestartApp,
    StopTasks,
)
from runrig_service.core.service_ports import with_service_ports
from runrig_service.core.state import State
from runrig_service.core.times import instant_of, text_of
from runrig_service.core.views import render_task, render_with_counts


@dataclass(slots=True)
class Edit:
    """The answer to a question, what it decided, and the apps to converge then."""

    value: object
    decisions: list[Decision] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)


def create_app(state: State, question: CreateApp, now_ms: int) -> Edit:
    """Create an app; raise InvalidApp or AppExists."""
    app = read_app(question.body, state.limits, state.policy)
    if state.apps.find(app.app_id) is not None:
        raise AppExists(app.app_id)
    [definition] = _checked_new(state, [app], now_ms)
    return Edit(render_with_counts(definition, []), [*state.apps.put(definition, ())], touched=[definition.app.app_id])


def change_apps(state: State, question: ChangeApps, now_ms: int) -> Edit:
    """Create or change apps; raise InvalidApp or Missing."""
    targets = [_target(state, body, question) for body in question.bodies]
    names = [each.app_id for each in targets]
    if len(set(names)) < len(names):
        raise InvalidApp({"/": ("each app must be given once",)})
    new = [each for each in targets if state.apps.find(each.app_id) is None]
    definitions = {each.app.app_id: each for each in _checked_new(state, new, now_ms)}
    edit = Edit(None)
    for app in targets:
        current = state.apps.find(app.app_id)
        definition = definitions.get(app.app_id) or _next(state, app, now_ms)
        definitions[app.app_id] = definition
        if definition is not current:
            _replace(state, definition, edit)
    last = definitions[names[-1]] if names else None
    version = text_of(last.version_ms if last else now_ms)
    edit.value = Changed(version, deployment_id(names[-1] if names else "/", version), tuple(e.app_id for e in new))
    return edit


def restart_app(state: State, question: RestartApp, now_ms: int) -> Edit:
    """Replace all instances of an app; raise Missing."""
    current = state.app(question.app_id)
    version_ms = max(now_ms, current.version_ms + 1)
    edit = Edit(None)
    _replace(state, _definition(current.app, version_ms, version_ms, version_ms), edit)
    edit.value = _changed(question.app_id, version_ms)
    return edit


def remove_app(state: State, question: RemoveApp, now_ms: int) -> Edit:
    """Stop all instances of an app and forget it; raise Missing."""
    current = state.app(question.app_id)
    edit = Edit(_changed(question.app_id, max(now_ms, current.version_ms + 1)))
    edit.decisions += [*state.apps.remove(question.app_id), *state.failures.forget(question.app_id)]
    for each in state.instances.of(question.app_id):
        edit.decisions += state.instances.stop(each)
    return edit


def stop_tasks(state: State, question: StopTasks, now_ms: int) -> Edit:
    """Stop instances; raise Missing."""
    victims = _victims(state, question)
    names = list(dict.fromkeys(each.app_id for each in victims))
    edit = Edit([render_task(state, each) for each in victims if not each.is_waiting], touched=names)
    counts = {name: sum(each.app_id == name and not each.is_stopping for each in victims) for name in names}
    for each in victims:
        edit.decisions += state.instances.stop(each)
    if not question.scale:
        return edit
    version_ms = now_ms
    for name in names:
        current = state.apps.find(name)
        if current is not None and counts[name]:
            definition = _next(state, current.app.scaled(max(0, current.app.instances - counts[name])), now_ms)
            version_ms = definition.version_ms
            edit.decisions += state.apps.put(definition, state.instances.versions(name))
    edit.value = _changed(names[-1] if names else "/", version_ms)
    return edit


def _changed(app_id: str, version_ms: int) -> Changed:
    version = text_of(version_ms)
    return Changed(version, deployment_id(app_id, version))


def _definition(app: App, version_ms: int, scaled_ms: int, configured_ms: int) -> Definition:
    change = deployment_id(app.app_id, text_of(version_ms))
    return Definition(app, version_ms, scaled_ms, configured_ms, change)


def _checked_new(state: State, apps: Sequence[App], now_ms: int) -> list[Definition]:
    """Return definitions of apps that are new; raise InvalidApp where one may not be."""
    taken = state.apps.service_ports()
    found = []
    for app in apps:
        neighbour = state.apps.neighbour(app.app_id) or _nested(app.app_id, apps)
        if neighbour is not None:
            message = f"Groups and Applications may not have the same identifier; {neighbour} is an app"
            raise InvalidApp({"/id": (message,)})
        if len(state.apps) + len(apps) > state.limits.apps:
            raise InvalidApp({"/id": (f"must not be another app: there may be {state.limits.apps}",)})
        with_ports = with_service_ports(app, None, taken, state.policy)
        found.append(_definition(with_ports, now_ms, now_ms, now_ms))
    return found


def _nested(app_id: str, apps: Iterable[App]) -> str | None:
    return next((each.app_id for each in apps if each.app_id.startswith(f"{app_id}/")), None)


def _target(state: State, body: Body, question: ChangeApps) -> App:
    """Return what an app shall become."""
    app_id = question.app_id
    if app_id is None:
        given = body.get("id")
        app_id = canonical(given) if isinstance(given, str) and given else None
    current = state.apps.find(app_id) if app_id is not None else None
    if current is None:
        if question.must_exist and app_id is not None:
            raise Missing("app", app_id, f"App '{app_id}' does not exist")
        return read_app(body, state.limits, state.policy, app_id)
    if body.get("version") is not None and not set(body) - {"version", "id"}:
        return _rolled_back(state, current, body["version"])
    if question.is_partial:
        body = merged(render_app(current.app), body)
    return read_app(body, state.limits, state.policy, app_id)


def _rolled_back(state: State, current: Definition, version: object) -> App:
    app_id = current.app.app_id
    version_ms = instant_of(version) if isinstance(version, str) else None
    if version_ms is None:
        raise InvalidApp(
            {"/version": (f"must be one of those of /v2/apps{app_id}/versions; got {ascii(version)[:80]}",)}
        )
    app = state.apps.version(app_id, version_ms)
    if app is None:
        raise Missing("version", text_of(version_ms), f"App '{app_id}' does not exist in version {text_of(version_ms)}")
    return app


def _next(state: State, app: App, now_ms: int) -> Definition:
    """Return the definition that follows the current one; the current one itself if nothing changes."""
    current = state.app(app.app_id)
    app = with_service_ports(app, current.app, state.apps.service_ports(), state.policy)
    version_ms = max(now_ms, current.version_ms + 1)
    if app == current.app:
        return current
    if app.differs_only_in_scale(current.app):
        return _definition(app, version_ms, version_ms, current.configured_ms)
    return _definition(app, version_ms, version_ms, version_ms)


def _replace(state: State, definition: Definition, edit: Edit) -> None:
    app_id = definition.app.app_id
    current = state.apps.find(app_id)
    if current is not None and definition.configured_ms != current.configured_ms:
        edit.decisions += state.failures.reset_delay(app_id)
    edit.decisions += state.apps.put(definition, state.instances.versions(app_id))
    edit.touched.append(app_id)


def _victims(state: State, question: StopTasks) -> list[Instance]:
    if question.app_id is not None:
        state.app(question.app_id)
    if question.task_ids is None:
        assert question.app_id is not None, "which tasks?"
        found = state.instances.of(question.app_id)
    else:
        found = [each for name in dict.fromkeys(question.task_ids) if (each := _named(state, name, question))]
    if question.host is not None:
        found = [each for each in found if each.view is not None and each.view.hostname == question.host]
    return found


def _named(state: State, task_id: TaskId, question: StopTasks) -> Instance | None:
    instance = state.instances.find(task_id)
    is_asked = instance is not None and question.app_id in (None, instance.app_id)
    if not is_asked and question.must_exist:
        raise Missing("task", task_id, f"Task '{task_id}' does not exist")
    return instance if is_asked else None
