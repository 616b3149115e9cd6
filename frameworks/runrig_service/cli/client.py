"""Asks the service framework over its REST API, and turns what it refuses into Runrig's errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from runrig.cli.rest import Rest
from runrig.errors import Conflict, ProtocolError, TimedOut, Unavailable
from runrig_service.core.errors import InvalidApp, Missing
from runrig_service.core.paths import canonical

TIMEOUT_S = 40.0
"""Longer than the API waits for a change to be durable, so that its own answer comes first."""

App = dict[str, Any]


class ServiceClient:
    """One service framework; Unavailable is raised where it does not answer."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet; raise InvalidInput for what is no URL."""
        self._rest = Rest("service", url, TIMEOUT_S)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the connections."""
        self._rest.__exit__(*error)

    def apps(self) -> list[App]:
        """Return all apps."""
        return list(self._json("GET", "/v2/apps")["apps"])

    def app(self, app_id: str) -> App:
        """Return an app with its tasks; raise Missing."""
        return dict(self._json("GET", f"/v2/apps{canonical(app_id)}")["app"])

    def tasks(self) -> list[dict[str, Any]]:
        """Return all tasks, those of removed apps that are still being stopped too."""
        return list(self._json("GET", "/v2/tasks")["tasks"])

    def deploy(self, apps: Sequence[App]) -> None:
        """Create apps, or change them into just what is said; all or none."""
        self._json("PUT", "/v2/apps?partialUpdate=false", list(apps))

    def change(self, app_id: str, fields: App) -> None:
        """Change fields of an app; raise Missing."""
        self._json("PATCH", f"/v2/apps{canonical(app_id)}", fields)

    def restart(self, app_id: str) -> None:
        """Replace all instances of an app; raise Missing."""
        self._json("POST", f"/v2/apps{canonical(app_id)}/restart")

    def remove(self, app_id: str) -> None:
        """Stop an app and forget it; raise Missing."""
        self._json("DELETE", f"/v2/apps{canonical(app_id)}")

    def _json(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        answer = self._rest.request(method, path, body)
        try:
            value = answer.json()
        except ValueError:
            value = None
        if not isinstance(value, dict) or (answer.status_code == 404 and path == "/v2/apps"):
            url = self._rest.url
            raise ProtocolError(f"{url} answered {path} with {answer.status_code}; is it a service framework?")
        if answer.is_success:
            return value
        raise _error(answer.status_code, value, path)


def _error(status: int, body: dict[str, Any], path: str) -> Exception:
    message = str(body.get("message") or f"{path} was answered with {status}")
    if status == 404:
        return Missing("app", path, message)
    if status in (400, 413, 422):
        details = body.get("details")
        more = f": {details}" if isinstance(details, str) and details else ""
        return InvalidApp(_problems(details) or {"/": (f"{message}{more}",)})
    if status == 504:
        return TimedOut(message)
    return Unavailable(message) if status >= 500 else Conflict(message)


def _problems(details: object) -> dict[str, tuple[str, ...]]:
    """Return what is wrong by path, from a body that may be of another server."""
    if not isinstance(details, list):
        return {}
    found = {}
    for each in details:
        if isinstance(each, dict) and isinstance(each.get("errors"), list):
            found[str(each.get("path"))] = tuple(str(error) for error in each["errors"])
    return found
