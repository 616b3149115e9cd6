"""Carries out what the core wants done with tasks, and tells it what came of that.

It joins the runtimes, the sandboxes, the volumes, the fetcher and the health checks. Each preparation, launch and
signal is an asyncio task of its own, so that a hung engine holds up nobody else; how many run at once is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from runrig.errors import RunrigError
from runrig.tasks import Reason, RuntimeKind, TaskSpec
from runrig_agent.core import commands, events
from runrig_agent.core.task import TaskEnded, TaskStarted
from runrig_agent.fetch import Fetcher
from runrig_agent.health_checks import HealthChecks
from runrig_agent.health_probes import CheckedTask
from runrig_agent.runtime import Ended, Found, LaunchFailed, LaunchOrder, Runtime, Signal, Started, TaskKey
from runrig_agent.sandboxes import Sandboxes
from runrig_agent.volumes import Volumes

log = structlog.get_logger()

Tell = Callable[[events.Event], None]


@dataclass(frozen=True, slots=True)
class TaskRunSettings:
    """How much is done at once."""

    preparations_max: int = 64
    """Tasks being prepared; fetching and pulling have narrower bounds of their own."""

    launches_max: int = 64
    """Tasks being launched, per runtime: a warden answers in a millisecond, an engine takes what it can."""

    recovery_retry_s: float = 5.0
    """Seconds until a runtime that could not say what became of its tasks is asked again."""

    message_max: int = 2000
    """Characters of a message: engines can be verbose, and updates are kept by many."""


class TaskRuns:
    """What is being done with tasks on this agent. It is told ends and availability by the runtimes."""

    def __init__(
        self,
        runtimes: Mapping[RuntimeKind, Runtime],
        sandboxes: Sandboxes,
        volumes: Volumes,
        fetcher: Fetcher,
        tell: Tell,
        hostname: str,
        settings: TaskRunSettings = TaskRunSettings(),
    ) -> None:
        self._runtimes = runtimes
        self._sandboxes = sandboxes
        self._volumes = volumes
        self._fetcher = fetcher
        self._tell = tell
        self._hostname = hostname
        self._settings = settings
        self._health = HealthChecks(self._checked)
        self._preparing: dict[TaskKey, _Job] = {}
        self._prepared: dict[TaskKey, LaunchOrder] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._preparations = asyncio.Semaphore(settings.preparations_max)
        self._launches = {kind: asyncio.Semaphore(settings.launches_max) for kind in runtimes}
        self._started = {kind: asyncio.Event() for kind in runtimes}
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Never a result: the exception of what failed in a way that nobody foresaw, to stop the agent."""

    def start(self) -> None:
        """Begin to watch the runtimes, each by itself: one may be dead."""
        for kind, runtime in self._runtimes.items():
            self._do(self._start(kind, runtime))

    async def close(self) -> None:
        """Stop doing anything; tasks run on."""
        jobs = [*self._running]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        await self._health.close()
        for runtime in self._runtimes.values():
            await runtime.close()
        await self._fetcher.close()

    # What runtimes and health checks tell: the RuntimeListener.

    def task_ended(self, key: TaskKey, ended: Ended) -> None:
        """Pass on the end of a task."""
        self._tell(self._ended(key, ended))

    def availability_changed(self, kind: RuntimeKind, problem: str | None) -> None:
        """Pass on whether a runtime can be used."""
        log.info("runtime changed", runtime=kind.name.lower(), problem=problem)
        self._tell(events.RuntimeChanged(kind, problem))

    def _checked(self, key: TaskKey, number: int, is_healthy: bool, message: str) -> None:
        self._tell(events.TaskChecked(key, number, is_healthy, self._cut(message)))

    # What the core wants.

    def prepare(self, command: commands.PrepareTask) -> None:
        """Make the sandbox, fetch files, have the runtime bring its image."""
        job = self._do(self._prepare(command.key, command.spec))
        self._preparing[command.key] = job
        job.task.add_done_callback(lambda _: self._preparing.pop(command.key, None))

    def cancel_preparation(self, key: TaskKey) -> None:
        """Give it up; what is there already is collected with the sandbox."""
        job = self._preparing.get(key)
        if job is not None:
            job.task.cancel()
        self._prepared.pop(key, None)

    def launch(self, command: commands.LaunchTask) -> None:
        """Start a task."""
        self._do(self._launch(command.key, command.spec))

    def signal(self, command: commands.SignalTask) -> None:
        """Send a signal; when that fails the core will ask again."""
        runtime = self._runtimes.get(command.kind)
        if runtime is not None:
            self._do(self._try(runtime.signal(command.key, Signal(command.signal)), "signal", command.key))

    def forget(self, command: commands.ForgetTask) -> None:
        """Let the sandbox, and what the runtime keeps, be collected when their time has come."""
        self._prepared.pop(command.key, None)
        self._sandboxes.mark_ended(command.key, command.ended_at_unix_ms)

    def delete_volume(self, command: commands.DeleteVolume) -> None:
        """Delete the data of a persistent volume."""
        self._do(self._delete(command.volume_id))

    def recover(self, command: commands.RecoverTasks) -> None:
        """Ask a runtime what became of its tasks."""
        self._do(self._recover(command))

    def watch(self, command: commands.StartHealthChecks) -> None:
        """Begin to check a task that runs."""
        runtime = self._runtimes[command.spec.runtime_kind]
        env = self.environment(command.key, command.spec)
        self._health.watch(CheckedTask(command.key, command.spec, runtime, env, command.address))

    def unwatch(self, key: TaskKey) -> None:
        """Check it no longer."""
        self._health.unwatch(key)

    def runtime(self, kind: RuntimeKind) -> Runtime | None:
        """Return the runtime of a kind, if there is one."""
        return self._runtimes.get(kind)

    def environment(self, key: TaskKey, spec: TaskSpec) -> tuple[tuple[str, str], ...]:
        """Return a task's environment: what Runrig tells it, and its own, which wins."""
        told = {
            "RUNRIG_FRAMEWORK_ID": key[0],
            "RUNRIG_TASK_ID": key[1],
            "RUNRIG_AGENT_HOSTNAME": self._hostname,
            "RUNRIG_SANDBOX": str(self._sandboxes.path(key)),
        }
        return tuple({**told, **dict(spec.command.env)}.items())

    # How it is done.

    async def _start(self, kind: RuntimeKind, runtime: Runtime) -> None:
        await runtime.start(self)
        self._started[kind].set()

    async def _prepare(self, key: TaskKey, spec: TaskSpec) -> None:
        def told(reason: Reason) -> Callable[[str], None]:
            return lambda text: self._tell(events.TaskProgressed(key, reason, self._cut(text)))

        try:
            async with self._preparations:
                order = self._order(key, spec)
                if spec.fetch:
                    await self._fetcher.fetch(spec.fetch, order.sandbox, told(Reason.FETCHING))
                is_container = spec.runtime_kind is RuntimeKind.DOCKER
                progress = told(Reason.PULLING_IMAGE) if is_container else _ignore
                await self._runtimes[spec.runtime_kind].prepare(order, progress)
        except LaunchFailed as error:
            self._not_started(key, error)
        else:
            self._prepared[key] = order
            self._tell(events.TaskPrepared(key))

    async def _launch(self, key: TaskKey, spec: TaskSpec) -> None:
        kind = spec.runtime_kind
        try:
            async with self._launches[kind]:
                order = self._prepared.pop(key, None) or self._order(key, spec)
                started = await self._runtimes[kind].launch(order)
        except LaunchFailed as error:
            self._not_started(key, error)
        else:
            self._tell(_started(key, started))

    def _order(self, key: TaskKey, spec: TaskSpec) -> LaunchOrder:
        sandbox: Path = self._sandboxes.create(key, spec.runtime_kind, spec.command.user)
        volumes = {volume_id: self._volumes.provide(volume_id) for volume_id in spec.volume_ids}
        return LaunchOrder(key, spec, sandbox, self.environment(key, spec), volumes)

    def _not_started(self, key: TaskKey, error: LaunchFailed) -> None:
        log.info("task did not start", framework=key[0], task=key[1], reason=error.reason.name, why=str(error))
        self._tell(events.TaskNotStarted(key, error.reason, self._cut(str(error))))

    async def _recover(self, command: commands.RecoverTasks) -> None:
        kind = command.kind
        await self._started[kind].wait()
        try:
            found = await self._runtimes[kind].recover(command.keys)
        except LaunchFailed as error:
            self._tell(events.RuntimeChanged(kind, self._cut(str(error))))
            await asyncio.sleep(self._settings.recovery_retry_s)
            self._tell(events.RuntimeChanged(kind, None))
        else:
            log.info("tasks found", runtime=kind.name.lower(), asked=len(command.keys), found=len(found))
            self._tell(events.TasksFound(kind, tuple(self._found(each) for each in found)))

    async def _delete(self, volume_id: str) -> None:
        problem = await self._volumes.delete(volume_id)
        if problem is None:
            log.info("volume deleted", volume=volume_id)
        else:
            log.error("volume cannot be deleted", volume=volume_id, why=problem)
        self._tell(events.VolumeDeleted(volume_id, problem))

    async def _try(self, action: Awaitable[None], what: str, key: TaskKey) -> None:
        try:
            await action
        except RunrigError as error:
            log.warning("a task could not be told", what=what, framework=key[0], task=key[1], why=str(error))

    def _found(self, found: Found) -> events.FoundTask:
        ended = self._ended(found.key, found.ended) if found.ended is not None else None
        return events.FoundTask(_started(found.key, found.started), ended)

    def _ended(self, key: TaskKey, ended: Ended) -> TaskEnded:
        return TaskEnded(
            key,
            ended.exit_code,
            ended.ended_at_unix_ms,
            ended.is_out_of_memory,
            self._cut(ended.message),
            ended.has_host_rebooted,
        )

    def _cut(self, message: str) -> str:
        """Return a message that fits, and that can be sent: programs may say what is no Unicode."""
        return message[: self._settings.message_max].encode(errors="replace").decode()

    def _do(self, work: Coroutine[Any, Any, None]) -> _Job:
        job = _Job(asyncio.create_task(work))
        self._running.add(job.task)
        job.task.add_done_callback(self._done)
        return job

    def _done(self, job: asyncio.Task[None]) -> None:
        self._running.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None and not self.failure.done():
            self.failure.set_exception(error)


@dataclass(frozen=True, slots=True)
class _Job:
    """Work that goes on by itself."""

    task: asyncio.Task[None]


def _started(key: TaskKey, started: Started) -> TaskStarted:
    return TaskStarted(key, started.started_at_unix_ms, started.pid, started.container_id, started.address)


def _ignore(_: str) -> None:
    pass
