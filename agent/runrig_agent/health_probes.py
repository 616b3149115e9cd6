"""One try of one health check: by command, HTTP or TCP."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass

import httpx

from runrig.errors import NotFound, Unavailable
from runrig.tasks import CheckKind, HealthCheck, NetworkMode, Reason, TaskSpec
from runrig_agent.runtime import ExecSession, LaunchFailed, Runtime, TaskKey

MESSAGE_BYTES = 256
"""How much of a failed command's output is told: enough for its last words."""


@dataclass(frozen=True, slots=True)
class CheckedTask:
    """A running task, with all that a check of it needs; `address` is its container's own, if it has one."""

    key: TaskKey
    spec: TaskSpec
    runtime: Runtime
    env: tuple[tuple[str, str], ...] = ()
    address: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a try found; `ok` None: nothing, by no fault of the task (its engine is down, or it ended)."""

    ok: bool | None
    message: str = ""


async def probe(task: CheckedTask, check: HealthCheck, client: httpx.AsyncClient, local: str) -> Outcome:
    """Try once, as long as the check's timeout; `local` is the address of ports published on this host."""
    try:
        async with asyncio.timeout(check.timeout_ms / 1000):
            if check.kind is CheckKind.COMMAND:
                return await _command(task, check)
            host, port = endpoint(task, check, local)
            if check.kind is CheckKind.HTTP:
                return await _http(check, host, port, client)
            return await _tcp(host, port)
    except TimeoutError:
        return Outcome(False, f"no answer within {check.timeout_ms / 1000:g} s")


def endpoint(task: CheckedTask, check: HealthCheck, local: str) -> tuple[str, int]:
    """Return the address and port to try.

    A port of the host is tried at `local`: every port of a task on the host's network, and what is published
    from its container. Any other port can only be the container's own, and is tried at the container's
    address.
    """
    if check.port == 0:
        return local, task.spec.ports[check.port_index].host_port
    container = task.spec.container
    has_own_network = container is not None and container.network is not NetworkMode.HOST
    is_published = any(check.port == port.host_port for port in task.spec.ports)
    if has_own_network and not is_published and task.address:
        return task.address, check.port
    return local, check.port


async def _tcp(host: str, port: int) -> Outcome:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return Outcome(False, f"cannot connect to {host}:{port}: {_why(error)}")
    writer.transport.abort()  # nothing was said, so there is nothing to finish
    return Outcome(True)


def _why(error: OSError) -> str:
    """Say it in the system's words: asyncio's own only repeat the address."""
    return os.strerror(error.errno) if error.errno else str(error)


async def _http(check: HealthCheck, host: str, port: int, client: httpx.AsyncClient) -> Outcome:
    shown = f"[{host}]" if ":" in host else host
    url = f"{check.scheme}://{shown}:{port}/{check.path.removeprefix('/')}"
    try:
        async with client.stream("GET", url) as response:  # the body is not read: it may have no end
            status = response.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Outcome(False, f"GET {url}: {str(error) or type(error).__name__}")
    wanted = status in check.statuses if check.statuses else 200 <= status <= 399
    return Outcome(wanted, "" if wanted else f"GET {url}: status {status}")


async def _command(task: CheckedTask, check: HealthCheck) -> Outcome:
    argv = check.argv or ("/bin/sh", "-c", check.shell)
    try:
        session = await task.runtime.exec(task.key, argv, dict(task.env), tty=False)
        try:
            with contextlib.suppress(OSError):  # it has closed it itself
                await session.end_input()
            last_words = await _last_words(session)
            code = await session.exit_code()
        finally:
            await session.close()
    except (NotFound, Unavailable) as error:
        return Outcome(None, str(error))
    except LaunchFailed as error:
        is_task_fault = error.reason is not Reason.RUNTIME_UNAVAILABLE
        return Outcome(False if is_task_fault else None, str(error))
    if code == 0:
        return Outcome(True)
    return Outcome(False, f"exit code {code}" + (f": {last_words}" if last_words else ""))


async def _last_words(session: ExecSession) -> str:
    """Read a session's output to its end, as a full pipe would block it, and return the end of it."""
    kept = b""
    async for _, data in session.output():
        kept = (kept + data)[-MESSAGE_BYTES:]
    return kept.decode(errors="replace").strip()
