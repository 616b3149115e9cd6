"""Runs the health checks of this agent's tasks and tells how each try went; the core judges it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import structlog

from runrig.tasks import CheckKind, HealthCheck
from runrig_agent.health_probes import CheckedTask, Outcome, probe
from runrig_agent.runtime import TaskKey

log = structlog.get_logger()

HealthListener = Callable[[TaskKey, int, bool, str], None]
"""Told (key, number of the check, whether it succeeded, why not) after each try: what TaskChecked holds."""


@dataclass(frozen=True, slots=True)
class HealthCheckSettings:
    """How checks are run."""

    requests_max: int = 64
    """HTTP and TCP checks tried at once; more wait their turn, which does not count as their time."""

    commands_max: int = 4
    """Command checks tried at once: each costs a docker engine some 50 ms of work."""

    local_address: str = "127.0.0.1"
    """Where ports of tasks on the host's network, and published ports, are tried."""


class HealthChecks:
    """The checks of all running tasks; `listener` is called on the event loop."""

    def __init__(self, listener: HealthListener, settings: HealthCheckSettings = HealthCheckSettings()) -> None:
        self._listener = listener
        self._settings = settings
        self._runs: dict[TaskKey, list[asyncio.Task[None]]] = {}
        self._requests = asyncio.Semaphore(settings.requests_max)
        self._commands = asyncio.Semaphore(settings.commands_max)
        self._client: httpx.AsyncClient | None = None

    def watch(self, task: CheckedTask) -> None:
        """Begin to check a task that runs; a task that is watched already is left as it is."""
        if task.key in self._runs or not task.spec.health_checks:
            return
        self._runs[task.key] = [
            asyncio.create_task(self._run(task, number), name=f"health check {number} of {task.key[1]}")
            for number in range(len(task.spec.health_checks))
        ]

    def unwatch(self, key: TaskKey) -> None:
        """Check no longer: the task has ended, or is being killed. A task that is not watched is no error."""
        for run in self._runs.pop(key, []):
            run.cancel()

    async def close(self) -> None:
        """Check nothing any more."""
        runs = [run for each in self._runs.values() for run in each]
        for key in list(self._runs):
            self.unwatch(key)
        await asyncio.gather(*runs, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    async def _run(self, task: CheckedTask, number: int) -> None:
        """Try one check for ever: the delay first, then an interval after the end of each try."""
        check = task.spec.health_checks[number]
        await asyncio.sleep(check.delay_ms / 1000)
        while True:
            outcome = await self._try(task, check)
            if outcome.ok is None:
                log.debug("health check without result", task=task.key[1], why=outcome.message)
            else:
                self._listener(task.key, number, outcome.ok, outcome.message)
            await asyncio.sleep(check.interval_ms / 1000)

    async def _try(self, task: CheckedTask, check: HealthCheck) -> Outcome:
        async with self._commands if check.kind is CheckKind.COMMAND else self._requests:
            return await probe(task, check, self._http_client(), self._settings.local_address)

    def _http_client(self) -> httpx.AsyncClient:
        """Return the client, made when first needed; no connection is kept, no proxy asked."""
        if self._client is None:
            limits = httpx.Limits(max_connections=self._settings.requests_max, max_keepalive_connections=0)
            self._client = httpx.AsyncClient(
                verify=False,  # as the contract says: its certificate may be of its own making
                trust_env=False,
                follow_redirects=False,
                timeout=None,  # the check's own timeout is around it
                limits=limits,
                headers={"User-Agent": "runrig-health-check"},
            )
        return self._client
