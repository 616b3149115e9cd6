"""What waits for an offer in a framework: asked over the REST APIs of the service and the batch framework.

Both say the same of an app or a job: the framework's id, the group of its wants, which tasks wait, and why the
framework itself has declined its last offers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

from runrig.cli.rest import Rest
from runrig.errors import NotFound, ProtocolError, Unavailable
from runrig.explanations import DeclineCount

PATIENCE_S = 10.0
SERVICE, BATCH = "service", "batch"


@dataclass(frozen=True, slots=True)
class Waiting:
    """The tasks of one job or app that wait; `task_ids` are the first of `count`."""

    kind: str
    """`job` or `app`."""
    id: str
    framework_id: str
    group: str
    count: int
    task_ids: tuple[str, ...]
    declines: tuple[DeclineCount, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return all of it but what it is of."""
        return {
            "framework_id": self.framework_id or None,
            "group": self.group,
            "count": self.count,
            "task_ids": list(self.task_ids),
        }


class Frameworks:
    """Both frameworks, to be used with `with`; who does not answer is told when nothing else is found."""

    def __init__(self, service: str, batch: str) -> None:
        """Connect to nothing yet; raise InvalidInput for what is no URL."""
        self._rests = {SERVICE: Rest(SERVICE, service, PATIENCE_S), BATCH: Rest(BATCH, batch, PATIENCE_S)}
        self.silent: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the connections."""
        for rest in self._rests.values():
            rest.__exit__(*error)

    def app_ids(self) -> list[str]:
        """List the apps; none if the service framework does not answer."""
        found = self._heard(SERVICE, "/v2/apps")
        return [str(app["id"]) for app in found["apps"]] if found is not None else []

    def job_ids(self, prefix: str) -> list[str]:
        """List the jobs whose id begins so, the newest first; none if the batch framework does not answer."""
        found = self._heard(BATCH, f"/v1/jobs?state=all&limit=100&prefix={quote(prefix, safe='')}")
        return [str(job["id"]) for job in found["jobs"]] if found is not None else []

    def app(self, app_id: str) -> Waiting:
        """Say what waits of an app; raise NotFound or Unavailable."""
        path = quote(f"/v2/waiting/{app_id.strip('/')}")
        return self._waiting(SERVICE, "app", "/" + app_id.strip("/"), path)

    def job(self, job_id: str) -> Waiting:
        """Say what waits of a job; raise NotFound or Unavailable."""
        return self._waiting(BATCH, "job", job_id, f"/v1/jobs/{quote(job_id, safe='')}/waiting")

    def _heard(self, framework: str, path: str) -> dict[str, Any] | None:
        try:
            return self._get(framework, path)
        except Unavailable as error:
            self.silent[framework] = str(error)
            return None

    def _waiting(self, framework: str, kind: str, name: str, path: str) -> Waiting:
        said = self._get(framework, path)
        if said is None:
            raise NotFound(kind, name, f"see `runrig {framework} ls`")
        try:
            return Waiting(
                kind,
                name,
                str(said["framework_id"] or ""),
                str(said["group"]),
                int(said["count"]),
                tuple(map(str, said["task_ids"])),
                tuple(DeclineCount(str(each["reason"]), int(each["count"])) for each in said["declines"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise self._strange(framework, path, error) from None

    def _get(self, framework: str, path: str) -> dict[str, Any] | None:
        """Return what a framework says; None: it knows no such thing."""
        rest = self._rests[framework]
        answer = rest.request("GET", path)
        if answer.status_code == 404:
            return None
        if answer.status_code >= 500:
            raise Unavailable(f"the {framework} framework at {rest.url} answered {path} with {answer.status_code}")
        try:
            said = answer.json()
        except json.JSONDecodeError as error:
            raise self._strange(framework, path, error) from None
        if not answer.is_success or not isinstance(said, dict):
            raise self._strange(framework, path, answer.status_code)
        return said

    def _strange(self, framework: str, path: str, what: object) -> ProtocolError:
        url = self._rests[framework].url
        return ProtocolError(f"{url} answered {path} with {what!r}; is it a {framework} framework of this version?")
