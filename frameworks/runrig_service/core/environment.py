"""The variables that Marathon gives its tasks, as far as they are known before an offer fits.

`PORT…` and `HOST` are known at the match: the SDK sets those. See Marathon's page "Task environment
variables".
"""

from __future__ import annotations

import re

from runrig.ids import TaskId
from runrig_service.core.app import App, NetworkKind, Pairs

MAX_LABEL_VALUE = 512
"""Labels with longer values are not given to tasks, as in Marathon."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]+")


def environment(app: App, task_id: TaskId, version: str) -> Pairs:
    """Return the variables of one instance; the app's own win over those given here."""
    given = {
        "MARATHON_APP_ID": app.app_id,
        "MARATHON_APP_VERSION": version,
        "MARATHON_APP_RESOURCE_CPUS": _decimal(app.cpu_millis, 1000),
        "MARATHON_APP_RESOURCE_MEM": _decimal(app.mem_mib, 1),
        "MARATHON_APP_RESOURCE_DISK": _decimal(app.disk_mib, 1),
        "MARATHON_APP_RESOURCE_GPUS": str(app.gpus),
        "MESOS_TASK_ID": task_id,
        **_labels(app.labels),
        **_container_ports(app),
    }
    if app.container is not None and app.container.image is not None:
        given["MARATHON_APP_DOCKER_IMAGE"] = app.container.image.name
    return tuple(sorted((given | dict(app.env)).items()))


def variable_name(text: str) -> str:
    """Return text as the end of a variable's name: `my-port` as `MY_PORT`."""
    return _NOT_IN_NAMES.sub("_", text).upper()


def _labels(labels: Pairs) -> dict[str, str]:
    short = {variable_name(key): value for key, value in labels if len(value) < MAX_LABEL_VALUE}
    return {"MARATHON_APP_LABELS": " ".join(short)} | {f"MARATHON_APP_LABEL_{key}": each for key, each in short.items()}


def _container_ports(app: App) -> dict[str, str]:
    """Return the variables of an app whose ports are all its containers' own: none comes from an offer."""
    if (
        not app.ports
        or any(port.host_port is not None for port in app.ports)
        or app.network is not NetworkKind.CONTAINER
    ):
        return {}
    numbers = [str(port.container_port) for port in app.ports]
    given = {f"PORT{index}": number for index, number in enumerate(numbers)}
    for port, number in zip(app.ports, numbers, strict=True):
        given[f"PORT_{number}"] = number
        if port.name:
            given[f"PORT_{variable_name(port.name)}"] = number
    return given | {"PORT": numbers[0], "PORTS": ",".join(numbers)}


def _decimal(amount: int, unit: int) -> str:
    """Write an amount as Marathon does: 128 as `128.0`, a tenth of a cpu as `0.1`."""
    return str(float(amount) / unit)
