"""Reads an app as Marathon's clients write it, in any of the forms they have used since version 0.8.

`read_app` is idempotent on what `app_render` writes: the store and the REST API share one form. What Runrig
does not do is refused with the reason, not ignored: an app that asks for a secret must not run without it.
"""

from __future__ import annotations

from collections.abc import Mapping

from runrig.ids import Role
from runrig_service.core.app import App, NetworkKind
from runrig_service.core.app_parts import (
    read_backoff,
    read_check,
    read_constraints,
    read_container,
    read_fetch,
    read_kill_grace,
    read_unreachable,
    read_upgrade,
)
from runrig_service.core.app_ports import read_networks, read_ports
from runrig_service.core.fields import Fields, Problems, shown
from runrig_service.core.launch import check_launchable
from runrig_service.core.limits import UNLIMITED, Limits, Policy
from runrig_service.core.paths import canonical, path_problem

Json = Mapping[str, object]

_UNSUPPORTED = {
    "secrets": "there is no store of secrets yet",
    "readinessChecks": "use healthChecks, which decide readiness too",
    "check": "use healthChecks",
    "resourceLimits": "tasks are limited to what they reserve",
    "executorResources": "tasks need no executor",
}


def read_app(body: Json, limits: Limits, policy: Policy, app_id: str | None = None) -> App:
    """Return the app; raise InvalidApp with all that is wrong.

    `app_id` is the id when the body need not say it.
    """
    fields = Fields(body, "", Problems(limits))
    app = _app(fields, _app_id(fields, app_id), limits)
    _check_whole(fields, app)
    _check_roles(fields, app, policy)
    fields.problems.raise_any()
    check_launchable(app, policy)
    return app


def read_stored_app(body: Json) -> App:
    """Return an app that was admitted once, whatever limits and roles are now."""
    return _app(Fields(body, "", Problems(UNLIMITED)), str(body["id"]), UNLIMITED)


def _app_id(fields: Fields, app_id: str | None) -> str:
    given = fields.text("id", is_required=app_id is None)
    name = canonical(given) if given else app_id or "/"
    if app_id is not None and name != app_id:
        fields.refuse("id", f"must be {app_id}, as the address says, or left out")
    problem = path_problem(name)
    if problem is not None and (given or app_id is not None):
        fields.problems.add("/id", f"{problem}; got {shown(given or name)}")
    return name


def _app(fields: Fields, name: str, limits: Limits) -> App:
    container = fields.nested("container")
    networks = read_networks(fields, container)
    ports = read_ports(fields, container, networks[0].kind)
    backoff_ms, backoff_factor, max_launch_delay_ms = read_backoff(fields)
    return App(
        app_id=name,
        instances=fields.whole("instances", 1, 0, limits.instances),
        cmd=fields.optional_text("cmd") or None,
        args=fields.texts("args") or None,
        cpu_millis=_rounded_up(fields.number("cpus", 1.0, 0.001, limits.cpus) * 1000),
        mem_mib=_rounded_up(fields.number("mem", 128.0, 0.0, limits.mib)),
        disk_mib=_rounded_up(fields.number("disk", 0.0, 0.0, limits.mib)),
        gpus=fields.whole("gpus", 0, 0, limits.gpus),
        user=fields.text("user"),
        env=fields.text_map("env", limits.env_length),
        labels=fields.text_map("labels"),
        constraints=read_constraints(fields),
        container=read_container(container),
        networks=networks,
        ports=ports,
        require_ports=fields.flag("requirePorts"),
        fetch=read_fetch(fields),
        health_checks=tuple(read_check(each, len(ports)) for each in fields.objects("healthChecks")),
        backoff_ms=backoff_ms,
        backoff_factor=backoff_factor,
        max_launch_delay_ms=max_launch_delay_ms,
        upgrade=read_upgrade(fields),
        unreachable=read_unreachable(fields, fields.raw("unreachableStrategy")),
        kill_oldest_first=_kills_oldest_first(fields),
        kill_grace_ms=read_kill_grace(fields),
        role=Role(fields.text("role")) if fields.text("role") else None,
        accepted_roles=fields.texts("acceptedResourceRoles"),
        priority=fields.whole("priority", 0, 0, limits.priority),
        dependencies=tuple(_resolved(name, each) for each in fields.texts("dependencies")),
    )


def _rounded_up(amount: float) -> int:
    """Return whole units: a third of a cpu is neither refused nor cut short."""
    return -int(-round(amount, 6) // 1)


def _kills_oldest_first(fields: Fields) -> bool:
    return fields.choice("killSelection", "YOUNGEST_FIRST", ("YOUNGEST_FIRST", "OLDEST_FIRST")) == "OLDEST_FIRST"


def _resolved(app_id: str, path: str) -> str:
    """Return the absolute path of a dependency, which may be relative to the app's group."""
    parts = [] if path.startswith("/") else app_id.split("/")[:-1]
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return canonical("/".join(parts))


def _check_whole(fields: Fields, app: App) -> None:
    if app.cmd and app.args:
        fields.problems.add("/", "AppDefinition must contain one of 'cmd' or 'args', not both")
    says_what_to_run = app.cmd or app.args or app.is_containerized
    if not says_what_to_run and not fields.problems.has("/cmd", "/args"):
        fields.problems.add("/", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'")
    if app.network is not NetworkKind.HOST and not app.is_containerized:
        fields.problems.add("/networks", "must be the host's for an app without an image")
    if fields.text("executor") not in ("", "//cmd"):
        fields.refuse("executor", "must be empty: tasks need no executor")
    for name, why in _UNSUPPORTED.items():
        fields.refuse_unless_empty(name, why)


def _check_roles(fields: Fields, app: App, policy: Policy) -> None:
    if app.role is not None and app.role not in policy.roles:
        fields.refuse("role", f"must be one of {', '.join(policy.roles)}")
    allowed = ("*", *policy.roles)
    for number, role in enumerate(app.accepted_roles):
        if role not in allowed:
            message = f"must be one of {', '.join(allowed)}; got {shown(role)}"
            fields.problems.add(f"/acceptedResourceRoles({number})", message)


def merged(current: Json, update: Json) -> dict[str, object]:
    """Return an app's JSON, as rendered, with the fields of an update put in their place.

    A field replaces the whole field, as in Marathon, and what says the same in another form.
    """
    result = dict(current)
    given = {name: value for name, value in update.items() if value is not None}
    for name in given:
        for other in _REPLACED_BY.get(name, ()):
            result.pop(other, None)
    if _says_network(given):
        result.pop("portDefinitions", None)
        if "networks" not in given:
            result.pop("networks", None)
    return result | given


_REPLACED_BY = {
    "cmd": ("args",),
    "args": ("cmd",),
    "ports": ("portDefinitions",),
    "uris": ("fetch",),
    "ipAddress": ("networks", "portDefinitions"),
}


def _says_network(update: Json) -> bool:
    container = update.get("container")
    docker = container.get("docker") if isinstance(container, dict) else None
    return bool(update.get("networks")) or (isinstance(docker, dict) and bool(docker.get("network")))
