"""The command line's client of the batch framework's REST API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import httpx

from runrig.cli.failures import Failure
from runrig.cli.rest import Rest
from runrig.errors import (
    EXIT_CONFLICT,
    EXIT_NOT_FOUND,
    EXIT_TASK_FAILED,
    EXIT_TIMEOUT,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    ProtocolError,
)

Json = dict[str, Any]
KINDS = {1: "stdout", 2: "stderr", 3: "note"}
_JOBS = "/v1/jobs"
_HEAD = 5
_EXIT_CODES = {
    400: EXIT_USAGE,
    413: EXIT_USAGE,
    422: EXIT_USAGE,
    404: EXIT_NOT_FOUND,
    409: EXIT_CONFLICT,
    502: EXIT_UNREACHABLE,
    503: EXIT_UNREACHABLE,
    504: EXIT_TIMEOUT,
}
PATIENCE_S = 30.0
"""For an answer that waits for nothing."""


class Client:
    """Calls, each of which returns JSON or raises Failure with what the framework said."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet; raise InvalidInput for what is no URL."""
        self._rest = Rest("batch", url, PATIENCE_S)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close its connections."""
        self._rest.__exit__(*error)

    def submit(self, description: Json) -> Json:
        """Submit a job."""
        return self._call("POST", _JOBS, description)

    def jobs(self, states: Sequence[str], prefix: str = "", most: int | None = None) -> Iterator[Json]:
        """Yield jobs, newest first."""
        before = 0
        found = 0
        while before is not None:
            params = {"state": list(states), "prefix": prefix, "before": before, "limit": 500}
            page = self._call("GET", _JOBS, params=params)
            for job in page["jobs"]:
                if most is not None and found >= most:
                    return
                found += 1
                yield job
            before = page["next_before"]

    def show(self, job_id: str) -> Json:
        """Return a job without its tasks."""
        job = self._call("GET", f"/v1/jobs/{_quoted(job_id)}", params={"limit": 1})
        job.pop("next_after")
        job.pop("tasks")
        return job

    def tasks(self, job_id: str, states: Sequence[str] = ()) -> Iterator[Json]:
        """Yield the tasks of a job."""
        after: int | None = -1
        while after is not None:
            params: Json = {"state": list(states), "limit": 500} | ({"after": after} if after >= 0 else {})
            page = self._call("GET", f"/v1/jobs/{_quoted(job_id)}", params=params)
            yield from page["tasks"]
            after = page["next_after"]

    def task(self, job_id: str, index: int) -> Json:
        """Return one task of a job."""
        params = {"limit": 1} | ({"after": index - 1} if index else {})
        page = self._call("GET", f"/v1/jobs/{_quoted(job_id)}", params=params)
        found: list[Json] = [task for task in page["tasks"] if task["index"] == index]
        if not found:
            raise Failure(f"there is no task {job_id}.{index}; `runrig batch show {job_id}` lists them", EXIT_NOT_FOUND)
        return found[0]

    def kill(self, job_id: str) -> Json:
        """Stop a job."""
        return self._call("POST", f"/v1/jobs/{_quoted(job_id)}/kill")

    def wait(self, job_id: str, seconds: float) -> Json:
        """Return a job once it has ended, or when the time is over."""
        path = f"/v1/jobs/{_quoted(job_id)}/wait"
        return self._call("GET", path, params={"timeout": f"{seconds:.3f}"}, timeout=seconds + PATIENCE_S)

    def output(self, job_id: str, **params: object) -> Iterator[tuple[str, bytes]]:
        """Yield what a task writes, stream by stream as it comes."""
        path = f"/v1/jobs/{_quoted(job_id)}/logs"
        query: Json = {**params, "framed": "true"}
        timeout = httpx.Timeout(PATIENCE_S, read=None)
        with self._rest.stream(path, params=query, timeout=timeout) as response:
            if response.status_code >= 400:
                response.read()
                raise self._failure(response)
            yield from frames(response.iter_raw())

    def resolve(self, given: str) -> str:
        """Return the id of the one job whose id is `given` or begins with it."""
        found = [str(job["id"]) for job in self.jobs((), prefix=given, most=1000)] if given else []
        if len(found) == 1:
            return found[0]
        if given in found or (found and self._is_there(given)):
            return given
        if not found:
            problem = f"there is no job {given!r}; `runrig batch ls --all` lists those there are"
            raise Failure(problem, EXIT_NOT_FOUND)
        some = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        raise Failure(f"job: {given!r} may mean {some}; write more of it", EXIT_USAGE)

    def _is_there(self, job_id: str) -> bool:
        return self._rest.request("GET", f"/v1/jobs/{_quoted(job_id)}", params={"limit": 1}).status_code == 200

    def _call(self, method: str, path: str, body: Json | None = None, **options: Any) -> Json:
        response = self._rest.request(method, path, body, **options)
        if response.status_code == 404 and path == _JOBS:
            raise ProtocolError(f"{self._rest.url} answered {path} with 404; is it a batch framework?")
        if response.status_code >= 400:
            raise self._failure(response)
        answer = response.json()
        assert isinstance(answer, dict)
        return answer

    def _failure(self, response: httpx.Response) -> Failure:
        try:
            message = str(response.json()["message"])
        except (ValueError, KeyError, TypeError):
            message = f"{self._rest.url} answered {response.status_code}; is it a batch framework?"
        return Failure(message, _EXIT_CODES.get(response.status_code, EXIT_TASK_FAILED))


def frames(chunks: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """Take framed output apart, however it was cut on its way."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= _HEAD:
            end = _HEAD + int.from_bytes(buffer[1:_HEAD], "big")
            if len(buffer) < end:
                break
            yield KINDS.get(buffer[0], "note"), bytes(buffer[_HEAD:end])
            del buffer[:end]


def _quoted(job_id: str) -> str:
    from urllib.parse import quote

    return quote(job_id, safe="")
