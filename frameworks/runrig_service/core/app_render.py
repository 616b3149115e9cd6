"""Writes an app as Marathon's clients read it: what is not set is left out, as strict clients refuse it."""

from __future__ import annotations

from runrig_service.core.app import App, AppCheck, AppContainer, AppPort, Definition, Network, NetworkKind
from runrig_service.core.times import text_of

JsonObject = dict[str, object]


def render_app(app: App) -> JsonObject:
    """Return the app without what the server adds: what `read_app` reads back as the same app."""
    return without_empty(
        {
            "id": app.app_id,
            "cmd": app.cmd,
            "args": list(app.args) if app.args else None,
            "user": app.user or None,
            "role": app.role,
            "acceptedResourceRoles": list(app.accepted_roles) or None,
            "priority": app.priority or None,
            "container": _container(app) if app.container else None,
            "portDefinitions": [_definition(each) for each in app.ports] if _is_on_host(app) else None,
            "taskKillGracePeriodSeconds": None if app.kill_grace_ms is None else seconds(app.kill_grace_ms),
        }
    ) | {
        "env": dict(app.env),
        "instances": app.instances,
        "cpus": whole_if_possible(app.cpu_millis / 1000),
        "mem": app.mem_mib,
        "disk": app.disk_mib,
        "gpus": app.gpus,
        "labels": dict(app.labels),
        "constraints": [[each.field, each.operator, *([each.value] if each.value else [])] for each in app.constraints],
        "networks": [_network(each) for each in app.networks],
        "requirePorts": app.require_ports,
        "fetch": [
            without_empty({"uri": each.uri, "destPath": each.destination or None})
            | {"extract": each.extract, "executable": each.executable, "cache": False}
            for each in app.fetch
        ],
        "healthChecks": [_check(each) for each in app.health_checks],
        "readinessChecks": [],
        "dependencies": list(app.dependencies),
        **_strategies(app),
    }


def render_definition(definition: Definition) -> JsonObject:
    """Return the app with its version."""
    return render_app(definition.app) | {
        "version": text_of(definition.version_ms),
        "versionInfo": {
            "lastScalingAt": text_of(definition.scaled_ms),
            "lastConfigChangeAt": text_of(definition.configured_ms),
        },
    }


def without_empty(fields: JsonObject) -> JsonObject:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def seconds(milliseconds: int) -> int | float:
    """Return milliseconds as seconds, as a whole number if they are."""
    return whole_if_possible(milliseconds / 1000)


def whole_if_possible(number: float) -> int | float:
    """Return 1.0 as 1: clients that declare whole numbers choke on a fraction."""
    return int(number) if number == int(number) else number


def _is_on_host(app: App) -> bool:
    return app.network is NetworkKind.HOST


def _strategies(app: App) -> JsonObject:
    unreachable: object = "disabled"
    if app.unreachable is not None:
        unreachable = {
            "inactiveAfterSeconds": seconds(app.unreachable.inactive_after_ms),
            "expungeAfterSeconds": seconds(app.unreachable.expunge_after_ms),
        }
    return {
        "backoffSeconds": seconds(app.backoff_ms),
        "backoffFactor": app.backoff_factor,
        "maxLaunchDelaySeconds": seconds(app.max_launch_delay_ms),
        "upgradeStrategy": {
            "minimumHealthCapacity": app.upgrade.minimum_health_capacity,
            "maximumOverCapacity": app.upgrade.maximum_over_capacity,
        },
        "unreachableStrategy": unreachable,
        "killSelection": "OLDEST_FIRST" if app.kill_oldest_first else "YOUNGEST_FIRST",
    }


def _container(app: App) -> JsonObject:
    container = app.container
    assert container is not None
    return without_empty(
        {
            "type": container.kind,
            "docker": _docker(container),
            "portMappings": None if _is_on_host(app) else [_mapping(each) for each in app.ports],
        }
    ) | {
        "volumes": [
            {
                "containerPath": each.container_path,
                "hostPath": each.host_path,
                "mode": "RO" if each.read_only else "RW",
            }
            for each in container.volumes
        ]
    }


def _docker(container: AppContainer) -> JsonObject | None:
    if container.image is None:
        return None
    return {
        "image": container.image.name,
        "forcePullImage": container.image.force_pull,
        "privileged": False,
        "parameters": [{"key": key, "value": value} for key, value in container.image.parameters],
    }


def _definition(port: AppPort) -> JsonObject:
    return {"port": port.service_port} | _port_name(port)


def _mapping(port: AppPort) -> JsonObject:
    return (
        {"containerPort": port.container_port}
        | without_empty({"hostPort": port.host_port})
        | {"servicePort": port.service_port}
        | _port_name(port)
    )


def _port_name(port: AppPort) -> JsonObject:
    return {"protocol": port.protocol, "labels": dict(port.labels)} | without_empty({"name": port.name or None})


def _network(network: Network) -> JsonObject:
    if network.kind is not NetworkKind.CONTAINER:
        return {"mode": str(network.kind)}
    return {"mode": str(network.kind), "name": network.name} | (
        {"labels": dict(network.labels)} if network.labels else {}
    )


def _check(check: AppCheck) -> JsonObject:
    is_http = check.protocol.endswith(("HTTP", "HTTPS"))
    return without_empty(
        {
            "protocol": check.protocol,
            "command": {"value": check.command} if check.protocol == "COMMAND" else None,
            "path": check.path if is_http else None,
            "port": check.port,
            "portIndex": check.port_index,
            "ignoreHttp1xx": False if is_http else None,
        }
    ) | {
        "gracePeriodSeconds": seconds(check.grace_ms),
        "intervalSeconds": seconds(check.interval_ms),
        "timeoutSeconds": seconds(check.timeout_ms),
        "delaySeconds": seconds(check.delay_ms),
        "maxConsecutiveFailures": check.max_consecutive_failures,
    }
