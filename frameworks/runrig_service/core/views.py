"""Writes apps and tasks with what is going on, as Marathon's clients read them."""

from __future__ import annotations

import json
from collections.abc import Iterable

from runrig.tasks import TaskState
from runrig.wants import TaskView
from runrig_service.core.app import Definition
from runrig_service.core.app_render import JsonObject, render_definition, without_empty
from runrig_service.core.instance import Instance
from runrig_service.core.state import State
from runrig_service.core.times import text_of

STAGING = (TaskState.TASK_STAGING, TaskState.TASK_STARTING)


def render_with_counts(definition: Definition, instances: Iterable[Instance]) -> JsonObject:
    """Return an app with how many tasks it has, and the change that is not complete yet."""
    launched = [each for each in instances if not each.is_waiting]
    return render_definition(definition) | {
        "tasksStaged": sum(each.state in STAGING for each in launched),
        "tasksRunning": sum(each.state is TaskState.TASK_RUNNING for each in launched),
        "tasksHealthy": sum(each.health is True and each.is_ready for each in launched),
        "tasksUnhealthy": sum(each.health is False for each in launched),
        "deployments": [{"id": definition.change}] if definition.change else [],
    }


def render_app_info(state: State, definition: Definition, embed: frozenset[str]) -> JsonObject:
    """Return an app with counts, and with what else is asked for: `tasks`, `lastTaskFailure`."""
    app_id = definition.app.app_id
    instances = state.instances.of(app_id)
    info = render_with_counts(definition, instances)
    if "tasks" in embed:
        info["tasks"] = [render_task(state, each) for each in instances if not each.is_waiting]
    last = state.failures.of(app_id).last
    if "lastTaskFailure" in embed and last:
        info["lastTaskFailure"] = json.loads(last)
    return info


def render_task(state: State, instance: Instance) -> JsonObject:
    """Return a task that was launched."""
    view = instance.view
    assert view is not None, f"{instance.task_id} was not launched"
    app = state.apps.version(instance.app_id, instance.version_ms)
    status = view.status
    address = status.address if status is not None else ""
    return without_empty(
        {
            "id": instance.task_id,
            "appId": instance.app_id,
            "host": view.hostname,
            "ports": [port.host_port for port in view.ports],
            "servicePorts": [port.service_port for port in app.ports] if app is not None else [],
            "ipAddresses": [{"ipAddress": address, "protocol": "IPv4"}] if address else [],
            "slaveId": view.agent_id,
            "state": _state_name(instance),
            "stagedAt": text_of(instance.staged_ms),
            "startedAt": None if instance.started_ms is None else text_of(instance.started_ms),
            "version": text_of(instance.version_ms),
            "localVolumes": [],
            "healthCheckResults": [] if instance.health is None else [_health_result(instance)],
        }
    )


def render_failure(instance: Instance, view: TaskView, now_ms: int) -> str:
    """Return what is kept of the last failure, as JSON."""
    status = view.status
    return json.dumps(
        {
            "appId": instance.app_id,
            "host": view.hostname,
            "message": _message(view),
            "slaveId": view.agent_id,
            "state": _state_name(instance),
            "taskId": instance.task_id,
            "timestamp": text_of(status.at_unix_ms if status is not None and status.at_unix_ms else now_ms),
            "version": text_of(instance.version_ms),
        }
    )


def _state_name(instance: Instance) -> str:
    return instance.state.name if instance.state is not None else "TASK_STAGING"


def _message(view: TaskView) -> str:
    """Return the agent's message or, where it has none, the reason and the exit code."""
    status = view.status
    if status is None:
        return ""
    if status.message:
        return status.message
    code = f" with exit code {status.exit_code}" if status.exit_code is not None else ""
    return f"{status.reason.name.lower().replace('_', ' ')}{code}"


def _health_result(instance: Instance) -> JsonObject:
    is_alive = instance.health is True
    first, failed = instance.first_success_ms, instance.last_failure_ms
    return without_empty(
        {
            "alive": is_alive,
            "consecutiveFailures": 0 if is_alive else 1,
            "firstSuccess": None if first is None else text_of(first),
            "lastSuccess": None if first is None else text_of(first),
            "lastFailure": None if failed is None else text_of(failed),
            "instanceId": instance.task_id,
            "taskId": instance.task_id,
        }
    )
