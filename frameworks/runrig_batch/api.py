"""The REST API of the batch framework; docs/batch.md describes it for its users.

Everything is answered by the mind (`runrig_batch.core.questions`); here is HTTP only:
bodies, parameters, statuses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from runrig.errors import InvalidInput, RunrigError, http_status
from runrig.serving import Guard, is_loopback
from runrig_batch import metrics, queries
from runrig_batch.core.fields import whole_in
from runrig_batch.core.job import JobId
from runrig_batch.core.job_file import decode, parse_submission
from runrig_batch.core.questions import (
    CountAll,
    IndexPage,
    JobPage,
    KillJob,
    ListIndices,
    ListWanted,
    ShowJob,
    SubmitJob,
    Submitted,
    WantedTasks,
)
from runrig_batch.core.views import JobSummary, Totals
from runrig_batch.logs import Logs, Piece
from runrig_batch.mind import Mind, ask
from runrig_batch.settings import Settings
from runrig_batch.shapes import description_json, error_json, row_json, summary_json, waiting_json

FRAMES = "application/vnd.runrig.frames"
FRAME_KINDS = {"stdout": 1, "stderr": 2, "note": 3}


class Malformed(Exception):
    """The body is no JSON or TOML at all: 400, where a value that is not allowed is 422."""


class TooLarge(Exception):
    """The body is larger than the setting allows: 413."""


class Api:
    """The handlers."""

    def __init__(self, mind: Mind, logs: Logs, settings: Settings) -> None:
        self._mind = mind
        self._logs = logs
        self._settings = settings

    async def submit(self, request: Request) -> Response:
        """Accept a job: 201, or 200 when the same was submitted with the same key before."""
        queries.only(request.query_params)
        description = await self._body(request)
        spec, key = parse_submission(description, self._settings.limits)
        submitted = await ask(self._mind, SubmitJob(spec, key), Submitted)
        job_id = submitted.summary.job.job_id
        status = 201 if submitted.is_new else 200
        return JSONResponse(summary_json(submitted.summary), status, {"Location": f"/v1/jobs/{job_id}"})

    async def list_jobs(self, request: Request) -> Response:
        """Show jobs, newest first."""
        page = await ask(self._mind, queries.jobs_asked(request.query_params, self._settings.api), JobPage)
        return JSONResponse(
            {"jobs": [summary_json(each) for each in page.jobs], "next_before": page.next_before or None}
        )

    async def show(self, request: Request) -> Response:
        """Show a job with a page of its indices."""
        question = queries.indices_asked(_job_id(request), request.query_params, self._settings.api)
        summary = await ask(self._mind, ShowJob(question.job_id), JobSummary)
        page = await ask(self._mind, question, IndexPage)
        tasks = [row_json(each) for each in page.rows]
        return JSONResponse({**summary_json(summary), "tasks": tasks, "next_after": page.next_after})

    async def waiting(self, request: Request) -> Response:
        """Show which tasks of a job wait for an offer, and what `runrig explain` asks the master of them."""
        queries.only(request.query_params)
        wanted = await ask(self._mind, ListWanted(_job_id(request)), WantedTasks)
        return JSONResponse(waiting_json(wanted, self._mind.framework_id, self._mind.declines))

    async def description(self, request: Request) -> Response:
        """Show what was submitted, ready to be submitted again."""
        summary = await ask(self._mind, ShowJob(_job_id(request)), JobSummary)
        return JSONResponse(description_json(summary))

    async def kill(self, request: Request) -> Response:
        """Stop a job; one that has ended is left as it is."""
        return JSONResponse(summary_json(await ask(self._mind, KillJob(_job_id(request)), JobSummary)))

    async def wait(self, request: Request) -> Response:
        """Answer when a job has ended, or when `timeout` is over: its state says which."""
        queries.only(request.query_params, "timeout")
        most_s = self._settings.api.max_wait_s
        wait_s = queries.seconds(request.query_params, "timeout", most_s, most_s)
        return JSONResponse(summary_json(await ask(self._mind, ShowJob(_job_id(request), wait_s), JobSummary)))

    async def logs(self, request: Request) -> Response:
        """Stream what a task writes: as it is, or with `framed` both streams told apart."""
        query = request.query_params
        queries.only(query, "index", "attempt", "stream", "follow", "framed")
        wanted = queries.stream(query)
        is_framed = queries.flag(query, "framed")
        attempt = whole_in("attempt", query.get("attempt", 0), 0, 2**31)
        job_id = _job_id(request)
        sight = await self._logs.find(job_id, await self._index(job_id, query.get("index")), attempt)
        if queries.flag(query, "follow"):
            pieces = self._logs.follow(sight, wanted, is_one_attempt=attempt > 0)
        else:
            pieces = await _begun(self._logs.read(sight, wanted))
        body = _framed(pieces) if is_framed else _plain(pieces)
        return StreamingResponse(body, media_type=FRAMES if is_framed else "text/plain; charset=utf-8")

    async def info(self, _request: Request) -> Response:
        """Say who this is, and what jobs may ask for."""
        limits = self._settings.limits
        return JSONResponse(
            {
                "name": self._settings.name,
                "version": version("runrig"),
                "framework_id": self._mind.framework_id or None,
                "is_connected": self._mind.is_connected,
                "roles": list(self._settings.roles),
                "limits": {name: getattr(limits, name) for name in limits.__slots__ if name.startswith("max_")},
            }
        )

    async def healthz(self, _request: Request) -> Response:
        """Say that the process answers."""
        return PlainTextResponse("ok\n")

    async def readyz(self, _request: Request) -> Response:
        """Say whether jobs can run: a submission is accepted without a master, too, and waits."""
        if self._mind.is_connected:
            return PlainTextResponse("ok\n")
        return PlainTextResponse("not connected to a master\n", 503)

    async def metrics(self, _request: Request) -> Response:
        """Show numbers for Prometheus."""
        totals = await ask(self._mind, CountAll(), Totals)
        return Response(metrics.exposition(totals, self._mind.is_connected), media_type=metrics.MEDIA_TYPE)

    async def _body(self, request: Request) -> object:
        most = self._settings.api.max_body_bytes
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise TooLarge(f"a body may have {most} bytes; fetch large input with `fetch`")
        is_toml = "toml" in request.headers.get("content-type", "")
        try:
            return decode(body.decode(), is_toml)
        except UnicodeDecodeError as error:
            raise Malformed(f"the body is not UTF-8: {error}") from None
        except InvalidInput as error:
            raise Malformed(str(error)) from None

    async def _index(self, job_id: JobId, given: str | None) -> int:
        """Return the index asked for; a job with one task needs none."""
        if given is not None:
            return whole_in("index", given, 0, 2**31)
        summary = await ask(self._mind, ShowJob(job_id), JobSummary)
        if summary.job.spec.size > 1:
            raise InvalidInput("index", "", f"one index: {job_id} has {summary.job.spec.size} tasks")
        page = await ask(self._mind, ListIndices(job_id, limit=1), IndexPage)
        return page.rows[0].index


def app(mind: Mind, logs: Logs, settings: Settings) -> Starlette:
    """Return the ASGI application."""
    api = Api(mind, logs, settings)
    return Starlette(
        middleware=[Middleware(Guard, is_local=is_loopback(settings.api.host))],
        routes=[
            Route("/v1/jobs", api.submit, methods=["POST"]),
            Route("/v1/jobs", api.list_jobs, methods=["GET"]),
            Route("/v1/jobs/{job_id}", api.show, methods=["GET"]),
            Route("/v1/jobs/{job_id}", api.kill, methods=["DELETE"]),
            Route("/v1/jobs/{job_id}/kill", api.kill, methods=["POST"]),
            Route("/v1/jobs/{job_id}/waiting", api.waiting, methods=["GET"]),
            Route("/v1/jobs/{job_id}/description", api.description, methods=["GET"]),
            Route("/v1/jobs/{job_id}/logs", api.logs, methods=["GET"]),
            Route("/v1/jobs/{job_id}/wait", api.wait, methods=["GET"]),
            Route("/v1/info", api.info, methods=["GET"]),
            Route("/healthz", api.healthz, methods=["GET"]),
            Route("/readyz", api.readyz, methods=["GET"]),
            Route("/metrics", api.metrics, methods=["GET"]),
        ],
        exception_handlers={
            RunrigError: _refused,
            HTTPException: _http_refused,
            ClientDisconnect: _gone,
            Malformed: _status_of(400),
            TooLarge: _status_of(413),
        },
    )


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RunrigError)
    return JSONResponse(error_json(error), http_status(error))


async def _http_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse({"message": message}, error.status_code, dict(error.headers or {}))


async def _gone(_request: Request, _error: Exception) -> Response:
    """Answer nobody: the client hung up before its body was complete, which is no bug."""
    return Response(status_code=400)


def _status_of(status: int) -> Any:
    async def refuse(_request: Request, error: Exception) -> Response:
        return JSONResponse({"message": str(error)}, status)

    return refuse


def _job_id(request: Request) -> JobId:
    return JobId(request.path_params["job_id"])


async def _begun(pieces: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    """Wait for the first piece, so that an agent that is silent becomes a status and not a broken body."""
    first = await anext(pieces, None)

    async def all_pieces() -> AsyncIterator[Piece]:
        if first is not None:
            yield first
            async for piece in pieces:
                yield piece

    return all_pieces()


async def _plain(pieces: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
    async for kind, data in pieces:
        if kind != "note":
            yield data


async def _framed(pieces: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
    """Put a head of five bytes before each piece: its kind, and its length as a big-endian number."""
    async for kind, data in pieces:
        yield FRAME_KINDS[kind].to_bytes(1, "big") + len(data).to_bytes(4, "big") + data
