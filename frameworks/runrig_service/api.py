"""The REST API: Marathon's v2, as far as its clients use it. docs/service.md says what differs.

Everything is asked of the core (`runrig_service.core.questions`); here is HTTP only: addresses, bodies, statuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import TypeVar

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from runrig.errors import RunrigError, TimedOut, http_status
from runrig.ids import TaskId
from runrig.serving import Guard, is_loopback
from runrig_service.core.errors import InvalidApp
from runrig_service.core.questions import (
    ChangeApps,
    Changed,
    Count,
    CreateApp,
    ListApps,
    ListTasks,
    ListVersions,
    ListWaiting,
    RemoveApp,
    RestartApp,
    ShowApp,
    ShowVersion,
    StopTasks,
    Totals,
    WaitingInstances,
)
from runrig_service.metrics import prometheus_text
from runrig_service.mind import Mind, ask
from runrig_service.requests import (
    CollapsedSlashes,
    Malformed,
    TooLarge,
    app_id,
    embedded,
    flag,
    read_object,
    read_objects,
)
from runrig_service.settings import Settings

T = TypeVar("T")
DEPLOYMENT = "Marathon-Deployment-Id"
NOT_DURABLE = "no durable answer in time; the change may still be made: look before you repeat it"

log = structlog.get_logger()


class Api:
    """The handlers."""

    def __init__(self, mind: Mind, settings: Settings) -> None:
        self._mind = mind
        self._settings = settings

    async def list_apps(self, request: Request) -> Response:
        """List the apps that match."""
        query = request.query_params
        question = ListApps(
            id_part=query.get("id", ""),
            cmd_part=query.get("cmd", ""),
            labels=query.get("label", ""),
            embed=embedded(request),
        )
        return JSONResponse({"apps": await self._ask(question, list)})

    async def create_app(self, request: Request) -> Response:
        """Create an app: 201 with the app itself."""
        app = await self._ask(CreateApp(await read_object(request, self._most)), dict)
        change = app["deployments"][0]["id"] if app["deployments"] else ""
        return JSONResponse(app, 201, {"Location": f"/v2/apps{app['id']}", DEPLOYMENT: change})

    async def change_apps(self, request: Request) -> Response:
        """Create or change several apps, all or none."""
        bodies = await read_objects(request, self._most)
        is_patch = request.method == "PATCH"
        is_partial = is_patch or flag(request, "partialUpdate", True)
        return await self._changed(ChangeApps(bodies, is_partial=is_partial, must_exist=is_patch))

    async def show_app(self, request: Request) -> Response:
        """Show an app; `/v2/apps/shop/*` shows the apps of a group."""
        name = app_id(request)
        if name.endswith("/*"):
            below = ListApps(below=name[:-1], embed=embedded(request))
            return JSONResponse({"*": await self._ask(below, list)})
        return JSONResponse({"app": await self._ask(ShowApp(name), dict)})

    async def change_app(self, request: Request) -> Response:
        """Create or change an app: 201 if it is new."""
        is_patch = request.method == "PATCH"
        question = ChangeApps(
            (await read_object(request, self._most),),
            app_id(request),
            is_partial=is_patch or flag(request, "partialUpdate", True),
            must_exist=is_patch,
        )
        return await self._changed(question)

    async def remove_app(self, request: Request) -> Response:
        """Stop an app and forget it."""
        return await self._changed(RemoveApp(app_id(request)))

    async def restart_app(self, request: Request) -> Response:
        """Replace all instances of an app."""
        return await self._changed(RestartApp(app_id(request)))

    async def list_versions(self, request: Request) -> Response:
        """List the versions of an app."""
        return JSONResponse({"versions": await self._ask(ListVersions(app_id(request)), list)})

    async def show_version(self, request: Request) -> Response:
        """Show an app as it was."""
        question = ShowVersion(app_id(request), request.path_params["version"])
        return JSONResponse(await self._ask(question, dict))

    async def list_app_tasks(self, request: Request) -> Response:
        """List the tasks of an app."""
        return JSONResponse({"tasks": await self._ask(ListTasks(app_id(request)), list)})

    async def list_waiting(self, request: Request) -> Response:
        """List the instances that wait for an offer, with what `runrig explain` asks the master of them."""
        waiting = await self._ask(ListWaiting(app_id(request)), WaitingInstances)
        declines = sorted(self._mind.declines.items(), key=lambda item: (-item[1], item[0]))
        return JSONResponse(
            {
                "framework_id": self._mind.framework_id or None,
                "group": waiting.group,
                "count": waiting.count,
                "task_ids": list(waiting.task_ids),
                "declines": [{"reason": reason, "count": count} for reason, count in declines],
            }
        )

    async def list_tasks(self, request: Request) -> Response:
        """List all tasks; `status` chooses."""
        query = request.query_params
        states = {each.lower() for each in (*query.getlist("status"), *query.getlist("status[]"))}
        if states - {"running", "staging"}:
            raise Malformed("Invalid query parameter status", "running or staging")
        return JSONResponse({"tasks": await self._ask(ListTasks(states=frozenset(states)), list)})

    async def stop_app_tasks(self, request: Request) -> Response:
        """Stop the tasks of an app, of one host if it is given."""
        host = request.query_params.get("host")
        question = StopTasks(
            app_id=app_id(request), host=None if host in (None, "*") else host, scale=self._scale(request)
        )
        return await self._stopped(question, "tasks")

    async def stop_app_task(self, request: Request) -> Response:
        """Stop one task of an app."""
        question = StopTasks(
            (TaskId(request.path_params["task_id"]),),
            app_id(request),
            scale=self._scale(request),
            must_exist=True,
        )
        return await self._stopped(question, "task")

    async def stop_tasks(self, request: Request) -> Response:
        """Stop the tasks whose ids the body names."""
        scale = self._scale(request)
        body = await read_object(request, self._most)
        ids = body.get("ids")
        if not isinstance(ids, list) or not all(isinstance(each, str) and each for each in ids):
            raise Malformed("Invalid JSON", 'the body must be {"ids": [...]}, a list of the ids of tasks')
        return await self._stopped(StopTasks(tuple(TaskId(each) for each in ids), scale=scale), "tasks")

    async def info(self, _request: Request) -> Response:
        """Say what this is, in the shape that Marathon's clients demand."""
        return JSONResponse(self._info())

    async def leader(self, _request: Request) -> Response:
        """Say who leads: this process, as there is one."""
        return JSONResponse({"leader": self._address})

    async def ping(self, request: Request) -> Response:
        """Answer."""
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse("pong")
        return PlainTextResponse("pong")

    async def healthz(self, _request: Request) -> Response:
        """Say that the process lives."""
        return PlainTextResponse("ok")

    async def readyz(self, _request: Request) -> Response:
        """Say whether the framework is connected to a master."""
        if self._mind.is_connected:
            return PlainTextResponse("ok")
        return PlainTextResponse("no master is within reach yet; apps run on meanwhile", 503)

    async def metrics(self, _request: Request) -> Response:
        """Count what there is, for Prometheus."""
        text, media_type = prometheus_text(await self._ask(Count(), Totals), self._mind.is_connected)
        return Response(text, media_type=media_type)

    @property
    def _most(self) -> int:
        return self._settings.api.max_body_bytes

    @property
    def _address(self) -> str:
        return f"{self._settings.api.hostname}:{self._settings.api.port}"

    async def _ask(self, question: object, kind: type[T]) -> T:
        try:
            async with asyncio.timeout(self._settings.api.answer_timeout_s):
                return await ask(self._mind, question, kind)
        except TimeoutError:
            raise TimedOut(NOT_DURABLE) from None

    async def _changed(self, question: object) -> Response:
        changed = await self._ask(question, Changed)
        headers = {DEPLOYMENT: changed.change}
        if len(changed.created) == 1 and isinstance(question, ChangeApps) and question.app_id is not None:
            headers["Location"] = f"/v2/apps{changed.created[0]}"
        status = 201 if "Location" in headers else 200
        return JSONResponse({"version": changed.version, "deploymentId": changed.change}, status, headers)

    async def _stopped(self, question: StopTasks, name: str) -> Response:
        if question.scale:
            return await self._changed(question)
        tasks = await self._ask(question, list)
        return JSONResponse({name: tasks if name == "tasks" else next(iter(tasks), {})})

    def _scale(self, request: Request) -> bool:
        scale, wipe = flag(request, "scale"), flag(request, "wipe")
        if scale and wipe:
            raise Malformed("You cannot use scale and wipe at the same time.")
        return scale

    def _info(self) -> dict[str, object]:
        return {
            "name": "runrig-service",
            "version": version("runrig"),
            "buildref": "",
            "elected": True,
            "leader": self._address,
            "frameworkId": self._mind.framework_id,
            "marathon_config": {
                "master": self._settings.master,
                "failover_timeout": self._settings.failover_timeout_ms / 1000,
                "framework_name": self._settings.name,
                "ha": False,
                "hostname": self._settings.api.hostname,
                "local_port_min": self._settings.service_ports[0],
                "local_port_max": self._settings.service_ports[1],
                "mesos_role": self._settings.roles[0],
            },
            "zookeeper_config": {},
            "http_config": {"http_port": self._settings.api.port, "https_port": 0},
        }


def build_api(mind: Mind, settings: Settings) -> Starlette:
    """Return the application: an ASGI server serves it, a test calls it."""
    api = Api(mind, settings)
    app = "/v2/apps/{app_id:path}"
    routes = [
        Route("/v2/apps", api.list_apps, methods=["GET"]),
        Route("/v2/apps", api.create_app, methods=["POST"]),
        Route("/v2/apps", api.change_apps, methods=["PUT", "PATCH"]),
        Route(f"{app}/restart", api.restart_app, methods=["POST"]),
        Route(f"{app}/versions", api.list_versions, methods=["GET"]),
        Route(f"{app}/versions/{{version}}", api.show_version, methods=["GET"]),
        Route(f"{app}/tasks", api.list_app_tasks, methods=["GET"]),
        Route(f"{app}/tasks", api.stop_app_tasks, methods=["DELETE"]),
        Route(f"{app}/tasks/{{task_id}}", api.stop_app_task, methods=["DELETE"]),
        Route(app, api.show_app, methods=["GET"]),
        Route(app, api.change_app, methods=["PUT", "PATCH"]),
        Route(app, api.remove_app, methods=["DELETE"]),
        Route("/v2/waiting/{app_id:path}", api.list_waiting, methods=["GET"]),
        Route("/v2/tasks", api.list_tasks, methods=["GET"]),
        Route("/v2/tasks/delete", api.stop_tasks, methods=["POST"]),
        Route("/v2/info", api.info, methods=["GET"]),
        Route("/v2/leader", api.leader, methods=["GET"]),
        Route("/ping", api.ping, methods=["GET"]),
        Route("/healthz", api.healthz, methods=["GET"]),
        Route("/readyz", api.readyz, methods=["GET"]),
        Route("/metrics", api.metrics, methods=["GET"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(Guard, is_local=is_loopback(settings.api.host)),
            Middleware(CollapsedSlashes),
        ],
        exception_handlers={
            InvalidApp: _invalid_app,
            RunrigError: _refused,
            Malformed: _malformed,
            TooLarge: _too_large,
            HTTPException: _not_served,
            ClientDisconnect: _gone,
            Exception: _failed,
        },
    )


Handler = Callable[[Request, Exception], Awaitable[Response]]


async def _invalid_app(_request: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidApp)
    details = [{"path": path, "errors": list(errors)} for path, errors in error.problems.items()]
    return JSONResponse({"message": "Object is not valid", "details": details}, 422)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RunrigError)
    return JSONResponse({"message": str(error)}, http_status(error))


async def _malformed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Malformed)
    return JSONResponse({"message": error.message} | ({"details": error.details} if error.details else {}), 400)


async def _too_large(_request: Request, error: Exception) -> Response:
    return JSONResponse({"message": str(error)}, 413)


async def _not_served(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"URI not found: {request.url.path}" if error.status_code == 404 else error.detail
    return JSONResponse({"message": message}, error.status_code, error.headers)


async def _gone(_request: Request, _error: Exception) -> Response:
    """Answer nobody: the client hung up before its body was complete, which is no bug."""
    return Response(status_code=400)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("request failed", path=request.url.path, method=request.method, error=repr(error))
    return JSONResponse({"message": "Runrig failed to answer; its log says why"}, 500)
