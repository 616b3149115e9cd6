"""Turns an app into what the SDK is asked to run: one `Want` per instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from runrig.constraints import Constraint, Operator
from runrig.demand import Placement
from runrig.errors import InvalidInput
from runrig.ids import TaskId
from runrig.resources import Resources
from runrig.tasks import (
    CheckKind,
    Command,
    Container,
    Fetch,
    HealthCheck,
    NetworkMode,
    Port,
    TaskSpec,
    Volume,
    checked_task,
)
from runrig.wants import PortWant, Want
from runrig_service.core.app import App, AppCheck, AppConstraint, AppPort, NetworkKind
from runrig_service.core.environment import environment
from runrig_service.core.errors import InvalidApp
from runrig_service.core.fields import shown
from runrig_service.core.limits import Policy

_OPERATORS = {
    "UNIQUE": Operator.UNIQUE,
    "CLUSTER": Operator.EQUALS,
    "IS": Operator.EQUALS,
    "LIKE": Operator.LIKE,
    "UNLIKE": Operator.UNLIKE,
    "MAX_PER": Operator.MAX_PER,
    "GROUP_BY": Operator.GROUP_BY,
}
_NETWORKS = {
    NetworkKind.HOST: NetworkMode.HOST,
    NetworkKind.BRIDGE: NetworkMode.BRIDGE,
    NetworkKind.CONTAINER: NetworkMode.USER,
}
_KINDS = {"COMMAND": CheckKind.COMMAND, "HTTP": CheckKind.HTTP, "HTTPS": CheckKind.HTTP, "TCP": CheckKind.TCP}

Values = Mapping[str, str]
"""The values that the instances of an app gather on, by attribute (`CLUSTER` without a value)."""


def want(app: App, task_id: TaskId, version: str, policy: Policy, gathered: Values | None = None) -> Want:
    """Return one instance of `app`; all instances of an app are one group, whatever their versions."""
    return Want(
        spec=_spec(app, task_id, version),
        ports=tuple(_port_want(app, port) for port in app.ports if port.host_port is not None or _is_host(app)),
        constraints=tuple(
            _constraint(each, gathered or {}) for each in app.constraints if not _is_open(each, gathered or {})
        ),
        group=app.app_id,
        role=app.role if app.role in policy.roles else policy.roles[0],
        placement=Placement.SPREAD,
        priority=app.priority,
    )


def attribute_of(field: str) -> str:
    """Return the attribute that a constraint's field means: `@zone` is `zone`."""
    return field.removeprefix("@")


def gathering_attributes(app: App) -> tuple[str, ...]:
    """Return the attributes on whose value, whichever comes first, all instances gather."""
    return tuple(attribute_of(each.field) for each in app.constraints if each.operator == "CLUSTER" and not each.value)


def check_launchable(app: App, policy: Policy) -> None:
    """Raise InvalidApp if the SDK would not run `app`: refused now, rather than stuck later."""
    sample = want(app, TaskId("instance"), "0000-00-00T00:00:00.000Z", policy)
    count = len(sample.ports)
    try:
        checked_task(replace(sample.spec, ports=tuple(Port(1 + number) for number in range(count))), "app")
    except InvalidInput as error:
        raise InvalidApp(_in_words_of_apps(error)) from None


def _in_words_of_apps(error: InvalidInput) -> dict[str, tuple[str, ...]]:
    """Say of an app's field what the SDK says of a task's: `app instance.command.env bytes` is in `/env`."""
    field, _, part = error.field.partition(".")[2].removeprefix("command.").partition(" ")
    return {f"/{field.replace('.', '/')}": (f"{part} must be {error.allowed}; got {shown(error.value)}".lstrip(),)}


def _spec(app: App, task_id: TaskId, version: str) -> TaskSpec:
    return TaskSpec(
        task_id=task_id,
        resources=Resources(app.cpu_millis, app.mem_mib, app.disk_mib, app.gpus),
        name=app.app_id,
        labels=app.labels,
        command=Command(
            argv=app.args or (),
            shell=app.cmd or "",
            env=environment(app, task_id, version),
            user=app.user,
        ),
        container=_container(app),
        volumes=tuple(
            Volume(each.host_path, each.container_path, each.read_only)
            for each in (app.container.volumes if app.container else ())
        ),
        fetch=tuple(Fetch(each.uri, each.destination, each.executable, each.extract) for each in app.fetch),
        kill_grace_ms=app.kill_grace_ms,
        health_checks=tuple(_check(app, each) for each in app.health_checks),
    )


def _container(app: App) -> Container | None:
    if app.container is None or app.container.image is None:
        return None
    image = app.container.image
    return Container(
        image=image.name,
        force_pull=image.force_pull,
        network=_NETWORKS[app.network],
        network_name=app.networks[0].name,
        parameters=image.parameters,
    )


def _is_host(app: App) -> bool:
    return app.network is NetworkKind.HOST


def _port_want(app: App, port: AppPort) -> PortWant:
    if _is_host(app):
        asked = port.service_port
        host_port = port.service_port if app.require_ports else 0
    else:
        asked = port.container_port
        host_port = port.host_port or 0
    return PortWant(host_port, port.container_port, port.name, port.protocol, (f"PORT_{asked}",) if asked else ())


def _check(app: App, check: AppCheck) -> HealthCheck:
    protocol = check.protocol.removeprefix("MESOS_")
    port, port_index = _checked_port(app, check)
    return HealthCheck(
        kind=_KINDS[protocol],
        shell=check.command,
        port=port,
        port_index=port_index,
        path=check.path,
        scheme="https" if protocol == "HTTPS" else "http",
        delay_ms=check.delay_ms,
        interval_ms=check.interval_ms,
        timeout_ms=check.timeout_ms,
        grace_ms=check.grace_ms,
        max_consecutive_failures=check.max_consecutive_failures,
    )


def _checked_port(app: App, check: AppCheck) -> tuple[int, int]:
    """Return the port's number, or 0 and its index among those that come from the offer."""
    if check.port is not None or check.port_index is None:
        return check.port or 0, 0
    if _is_host(app):
        return 0, check.port_index
    port = app.ports[check.port_index]
    if port.host_port is None:
        return port.container_port, 0
    return 0, sum(each.host_port is not None for each in app.ports[: check.port_index])


def _is_open(constraint: AppConstraint, gathered: Values) -> bool:
    is_gathering = constraint.operator == "CLUSTER" and not constraint.value
    return is_gathering and attribute_of(constraint.field) not in gathered


def _constraint(constraint: AppConstraint, gathered: Values) -> Constraint:
    attribute = attribute_of(constraint.field)
    value = constraint.value
    if constraint.operator == "CLUSTER" and not value:
        value = gathered[attribute]
    return Constraint(attribute, _OPERATORS[constraint.operator], value)
