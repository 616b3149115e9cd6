"""Reads the parts of an app: its container, checks, constraints, files and strategies."""

from __future__ import annotations

import re

from runrig_service.core.app import (
    AppCheck,
    AppConstraint,
    AppContainer,
    FetchedFile,
    HostVolume,
    Image,
    UnreachableStrategy,
    UpgradeStrategy,
)
from runrig_service.core.fields import Fields, shown

PROTOCOLS = ("HTTP", "HTTPS", "TCP", "COMMAND", "MESOS_HTTP", "MESOS_HTTPS", "MESOS_TCP")
OPERATORS = ("UNIQUE", "CLUSTER", "GROUP_BY", "LIKE", "UNLIKE", "MAX_PER", "IS")

_NEEDS_VALUE = frozenset({"LIKE", "UNLIKE", "MAX_PER", "IS"})
_COUNT = re.compile(r"[1-9]\d{0,8}\Z", re.ASCII)
_MAX_PATTERN = 255
_LEADERS_CHECKS = ("HTTP", "HTTPS", "TCP")
"""Marathon ran these itself, without a delay, which its users know; those on the agent it delayed by 15 s."""


def read_container(container: Fields | None) -> AppContainer | None:
    """Return the container, or None where there is none."""
    if container is None:
        return None
    kind = container.choice("type", "DOCKER", ("DOCKER", "MESOS"))
    docker = container.nested("docker")
    if docker is None and kind == "DOCKER":
        container.problems.add(f"{container.path}/docker", "must be defined for a container of type DOCKER")
    image = _image(docker) if docker is not None else None
    return AppContainer(kind, image, tuple(_volume(each) for each in container.objects("volumes")))


def _image(docker: Fields) -> Image:
    docker.refuse_unless_empty("privileged", "Runrig runs no privileged containers")
    docker.refuse_unless_empty("pullConfig", "secrets are not; let the agents' engines log in to the registry")
    docker.refuse_unless_empty("credential", "let the agents' engines log in to the registry")
    parameters = [(each.text("key", is_required=True), each.text("value")) for each in docker.objects("parameters")]
    name = docker.text("image", is_required=True)
    if name and not name.strip():
        docker.refuse("image", "must not be empty")
    return Image(name, docker.flag("forcePullImage"), tuple(parameters))


def _volume(volume: Fields) -> HostVolume:
    for name in ("persistent", "external", "secret"):
        volume.refuse_unless_empty(name, "volumes are directories of the host, given by hostPath")
    host_path = volume.text("hostPath", is_required=True)
    container_path = volume.text("containerPath", is_required=True)
    return HostVolume(host_path, container_path, volume.choice("mode", "RW", ("RO", "RW")) == "RO")


def read_check(check: Fields, number_of_ports: int) -> AppCheck:
    """Return one health check."""
    protocol = check.choice("protocol", "HTTP", PROTOCOLS)
    command = check.nested("command")
    text = command.text("value", is_required=True) if command else ""
    if protocol == "COMMAND" and command is None:
        check.problems.add(f"{check.path}/command", "must be defined for a check of protocol COMMAND")
    port = check.whole("port", 0, 1, 65_535) if check.has("port") else None
    return AppCheck(
        protocol=protocol,
        command=text if protocol == "COMMAND" else "",
        path=check.text("path", "/") or "/",
        port=port,
        port_index=_port_index(check, number_of_ports) if port is None and protocol != "COMMAND" else None,
        grace_ms=_duration(check, "gracePeriodSeconds", 300_000),
        interval_ms=_duration(check, "intervalSeconds", 60_000, least=0.001),
        timeout_ms=_duration(check, "timeoutSeconds", 20_000, least=0.001),
        delay_ms=_duration(check, "delaySeconds", 0 if protocol in _LEADERS_CHECKS else 15_000),
        max_consecutive_failures=check.whole("maxConsecutiveFailures", 3, 0, 1_000_000),
    )


def _port_index(check: Fields, number_of_ports: int) -> int:
    if number_of_ports == 0:
        check.problems.add(f"{check.path}/portIndex", "needs a port, and the app has none: define one, or give port")
        return 0
    index = check.whole("portIndex", 0)
    if index >= number_of_ports:
        check.refuse("portIndex", f"must be less than the app's number of ports, {number_of_ports}")
    return index


def _duration(fields: Fields, name: str, default_ms: int, least: float = 0.0) -> int:
    """Read seconds as milliseconds; fractions are allowed, as agents count in milliseconds."""
    return round(fields.number(name, default_ms / 1000, least, fields.problems.limits.seconds) * 1000)


def read_backoff(app: Fields) -> tuple[int, float, int]:
    """Return the first delay, the factor by which it grows and the largest; delays in milliseconds."""
    first_ms = _duration(app, "backoffSeconds", 1000)
    factor = app.number("backoffFactor", 1.15, 1.0, 1_000_000.0)
    return first_ms, factor, _duration(app, "maxLaunchDelaySeconds", 300_000)


def read_kill_grace(app: Fields) -> int | None:
    """Return the grace of a kill in milliseconds, or None where the agent's own shall do."""
    return _duration(app, "taskKillGracePeriodSeconds", 0) if app.has("taskKillGracePeriodSeconds") else None


def read_constraints(app: Fields) -> tuple[AppConstraint, ...]:
    """Return the constraints."""
    found = []
    for number, item in enumerate(app.items("constraints")):
        path = f"/constraints({number})"
        if isinstance(item, list) and len(item) in (2, 3) and all(isinstance(part, str) for part in item):
            constraint = AppConstraint(*item)
            problem = _constraint_problem(constraint)
            if problem:
                app.problems.add(path, f"{problem}; got {shown(item)}")
            found.append(constraint)
        else:
            app.problems.add(path, f"must be [field, operator] or [field, operator, value]; got {shown(item)}")
    return tuple(found)


def _constraint_problem(constraint: AppConstraint) -> str | None:
    operator, value = constraint.operator, constraint.value
    if not constraint.field.strip() or len(constraint.field) > _MAX_PATTERN or not constraint.field.isprintable():
        return "field must be the name of an attribute, or hostname"
    if operator not in OPERATORS:
        return f"operator must be one of {', '.join(OPERATORS)}"
    if len(value) > _MAX_PATTERN or not value.isprintable():
        return f"value must have at most {_MAX_PATTERN} printable characters"
    if operator in _NEEDS_VALUE and not value:
        return f"{operator} needs a value"
    if operator == "UNIQUE" and value:
        return "UNIQUE takes no value"
    if operator == "MAX_PER" and not _COUNT.match(value):
        return "the value of MAX_PER must be a whole number of at least 1"
    if operator == "GROUP_BY" and value and not _COUNT.match(value):
        return "the value of GROUP_BY must be a whole number of at least 1"
    return _pattern_problem(value) if operator in ("LIKE", "UNLIKE") else None


def _pattern_problem(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"value must be a regular expression ({error})"
    return None


def read_fetch(app: Fields) -> tuple[FetchedFile, ...]:
    """Return the files to fetch, from `fetch` or the older `uris`."""
    if app.items("fetch"):
        return tuple(
            FetchedFile(
                uri=each.text("uri", is_required=True),
                extract=each.flag("extract", True),
                executable=each.flag("executable"),
                destination=each.text("destPath"),
            )
            for each in app.objects("fetch")
        )
    return tuple(FetchedFile(uri) for uri in app.texts("uris") if uri)


def read_upgrade(app: Fields) -> UpgradeStrategy:
    """Return the upgrade strategy."""
    fields = app.nested("upgradeStrategy")
    if fields is None:
        return UpgradeStrategy()
    return UpgradeStrategy(
        fields.number("minimumHealthCapacity", 1.0, 0.0, 1.0),
        fields.number("maximumOverCapacity", 1.0, 0.0, 1.0),
    )


def read_unreachable(app: Fields, value: object) -> UnreachableStrategy | None:
    """Return the unreachable strategy; None: `disabled`."""
    if value == "disabled":
        return None
    if value is not None and not isinstance(value, dict):
        app.refuse("unreachableStrategy", 'must be "disabled" or an object')
        return None
    fields = app.nested("unreachableStrategy")
    if fields is None:
        return UnreachableStrategy()
    inactive_ms = _duration(fields, "inactiveAfterSeconds", 0)
    expunge_ms = _duration(fields, "expungeAfterSeconds", inactive_ms)
    if expunge_ms < inactive_ms:
        fields.refuse("expungeAfterSeconds", "must not be less than inactiveAfterSeconds")
    return UnreachableStrategy(inactive_ms, expunge_ms)
