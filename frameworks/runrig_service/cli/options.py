"""Options that several commands share, and how apps are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from runrig.cli.durations import DURATION
from runrig.cli.output import Column
from runrig_service.cli.client import App

F = TypeVar("F", bound=Callable[..., Any])


def wait_options(function: F) -> F:
    """Add `--wait` and `--timeout`, as the parameters `wait: bool` and `timeout: float` (seconds)."""
    function = click.option(
        "--timeout",
        type=DURATION,
        default="10m",
        show_default=True,
        help="With --wait: give up after this long, with exit code 124. The change goes on all the same.",
    )(function)
    return click.option("--wait", is_flag=True, help="Wait until the change is complete; tell how it goes.")(function)


def state_of(app: App) -> str:
    """Return one word for how an app is."""
    if app["deployments"]:
        return "DEPLOYING"
    if app["tasksUnhealthy"]:
        return "UNHEALTHY"
    return "RUNNING" if app["tasksRunning"] >= app["instances"] else "WAITING"


def health_of(task: dict[str, Any]) -> str:
    """Return what the checks say of a task, or nothing."""
    results = task["healthCheckResults"]
    if not results:
        return ""
    return "HEALTHY" if all(each["alive"] for each in results) else "UNHEALTHY"


def what_it_runs(app: App) -> str:
    """Return the image, the command or the arguments."""
    image = ((app.get("container") or {}).get("docker") or {}).get("image", "")
    return str(" ".join(filter(None, (image, app.get("cmd") or " ".join(app.get("args", ()))))))


APPS: tuple[Column[App], ...] = (
    Column("ID", lambda app: app["id"], "id"),
    Column("STATE", state_of, "state"),
    Column("RUNNING", lambda app: f"{app['tasksRunning']}/{app['instances']}", "number"),
    Column("HEALTHY", lambda app: app["tasksHealthy"] if app["healthChecks"] else None, "number"),
    Column("CPUS", lambda app: f"{app['cpus']:g}", "number"),
    Column("MEM", lambda app: f"{app['mem']}M", "number"),
    Column("RUNS", what_it_runs),
    Column("VERSION", lambda app: app["version"], wide=True),
    Column("CONFIGURED", lambda app: app["versionInfo"]["lastConfigChangeAt"], wide=True),
    Column("LABELS", lambda app: ",".join(f"{key}:{value}" for key, value in app["labels"].items()), wide=True),
    Column("LAST FAILURE", lambda app: app.get("lastTaskFailure", {}).get("message"), wide=True),
)

TASKS: tuple[Column[dict[str, Any]], ...] = (
    Column("TASK", lambda task: task["id"], "id"),
    Column("STATE", lambda task: task["state"], "state"),
    Column("HOST", lambda task: task["host"]),
    Column("PORTS", lambda task: ",".join(str(port) for port in task["ports"])),
    Column("HEALTH", health_of, "state"),
    Column("SINCE", lambda task: task.get("startedAt") or task["stagedAt"]),
    Column("VERSION", lambda task: task["version"], wide=True),
)
