"""Waits until a change is complete, telling how it goes on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from runrig.cli.output import hint, plain
from runrig.errors import TimedOut, Unavailable
from runrig_service.cli.client import App, ServiceClient

PAUSE_S = 0.5
"""Between two looks: a person does not see the difference, and a server does not feel it."""


@dataclass(slots=True)
class Waiting:
    """One wait; `look` returns what to tell, and whether it is over."""

    timeout_s: float
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep

    def until(self, look: Callable[[], tuple[str, bool]]) -> None:
        """Look until it is over; raise TimedOut with the last news. A server that is away is waited for."""
        deadline = self.clock() + self.timeout_s
        told = ""
        while True:
            try:
                news, is_over = look()
            except Unavailable as error:
                news, is_over = f"no answer: {error}", False
            if news != told:
                hint(plain(news))
                told = news
            if is_over:
                return
            if self.clock() >= deadline:
                raise TimedOut(f"not complete in time ({told}); it goes on, look with `runrig service ls`")
            self.pause(PAUSE_S)


def until_complete(client: ServiceClient, app_ids: list[str], waiting: Waiting) -> None:
    """Wait until the last change of each app is complete; raise NotFound where one is removed meanwhile."""
    for app_id in app_ids:

        def look(app_id: str = app_id) -> tuple[str, bool]:
            app = client.app(app_id)
            return progress(app), not app["deployments"]

        waiting.until(look)


def until_gone(client: ServiceClient, app_id: str, waiting: Waiting) -> None:
    """Wait until no task of an app is left."""

    def look() -> tuple[str, bool]:
        left = sum(task["appId"] == app_id for task in client.tasks())
        return f"{app_id}: {left} still stopping" if left else f"{app_id}: gone", not left

    waiting.until(look)


def progress(app: App) -> str:
    """Return in a line how far an app is."""
    current = [task for task in app["tasks"] if task["version"] >= app["versionInfo"]["lastConfigChangeAt"]]
    wanted = app["instances"]
    running = sum(task["state"] == "TASK_RUNNING" for task in current)
    parts = [f"{running}/{wanted} running"]
    if app["healthChecks"]:
        healthy = sum(any(each["alive"] for each in task["healthCheckResults"]) for task in current)
        parts.append(f"{healthy}/{wanted} healthy")
    old = len(app["tasks"]) - len(current)
    if old:
        parts.append(f"{old} of an earlier version")
    if app["deployments"] and len(current) < wanted:
        parts.append("waiting for offers or for the delay after a failure")
    failure = app.get("lastTaskFailure")
    if app["deployments"] and failure and failure["version"] >= app["versionInfo"]["lastConfigChangeAt"]:
        parts.append(f"last failure: {failure['state']} {failure['message']}".rstrip())
    return f"{app['id']}: {', '.join(parts)}"
