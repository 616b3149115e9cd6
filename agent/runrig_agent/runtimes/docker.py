"""The docker runtime: tasks as containers of the host's engine.

What runs is known to the engine alone: containers are found by their labels, named after their task, and
created at most once because a name is given once. The engine may die at any time; containers that live on
(live-restore) are found again, others are reported as ended, and what was asked of it meanwhile is done when
it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from runrig.errors import NotFound, Unavailable
from runrig.tasks import Reason, RuntimeKind
from runrig_agent.runtime import (
    Ended,
    ExecSession,
    Found,
    LaunchFailed,
    LaunchOrder,
    RuntimeListener,
    Signal,
    Started,
    TaskKey,
    Usage,
)
from runrig_agent.runtimes.docker_containers import State, create_and_start, inspected, listed
from runrig_agent.runtimes.docker_engine import Engine
from runrig_agent.runtimes.docker_errors import launch_failed
from runrig_agent.runtimes.docker_exec import DockerExec
from runrig_agent.runtimes.docker_images import Images
from runrig_agent.runtimes.docker_logs import ContainerLog
from runrig_agent.runtimes.docker_removals import Removals
from runrig_agent.runtimes.docker_settings import DockerSettings
from runrig_agent.runtimes.docker_spec import SANDBOX, container_name, key_of, planned
from runrig_agent.runtimes.docker_streams import EngineAnswer
from runrig_agent.runtimes.docker_watch import EngineWatch
from runrig_agent.sandbox_owner import give_away, owner_for
from runrig_agent.warden import cgroups

log = structlog.get_logger()

_SIGKILL_EXIT = 137


@dataclass(slots=True)
class _Container:
    """A container that this agent watches."""

    key: TaskKey
    id: str
    started: Started
    log: ContainerLog
    oom_event: asyncio.Event = field(default_factory=asyncio.Event)
    was_signaled: bool = False
    is_end_told: bool = False
    is_check_due: bool = False
    check: asyncio.Task[None] | None = None


class DockerRuntime:
    """Runs tasks as containers; see `Runtime`. `agent` is the agent's id, which the containers' labels carry."""

    def __init__(self, work_dir: Path, agent: str, settings: DockerSettings | None = None) -> None:
        self._settings = settings or DockerSettings()
        self._agent = agent
        self._notes = work_dir / "docker-logs"
        self._engine = Engine(self._settings)
        self._images = Images(self._engine, self._settings.pulls_at_once)
        self._launches = asyncio.Semaphore(self._settings.launches_at_once)
        self._removals = Removals(self._engine, self._settings.removals_at_once, self._launches)
        self._watch = EngineWatch(
            self._engine, agent, self._settings, self._is_up, self._is_down, self._heard, self._relist
        )
        self._listener: RuntimeListener | None = None
        self._problem: str | None = "not started"
        self._containers: dict[TaskKey, _Container] = {}
        self._launching: dict[TaskKey, asyncio.Lock] = {}
        self._died_early: set[TaskKey] = set()
        """Whose end was heard of while they were launched."""
        self._unsent_signals: dict[TaskKey, Signal] = {}
        self._chores: set[asyncio.Task[None]] = set()

    @property
    def kind(self) -> RuntimeKind:
        return RuntimeKind.DOCKER

    async def start(self, listener: RuntimeListener) -> None:
        """Look for the engine, and go on looking."""
        self._listener = listener
        self._notes.mkdir(parents=True, exist_ok=True)
        self._removals.start()
        await self._watch.start()

    async def recover(self, keys: frozenset[TaskKey]) -> list[Found]:
        """Find the containers with our label: those of `keys` are watched, others are removed."""
        try:
            states = await listed(self._engine, self._agent)
            kept: list[State] = []
            for state in states:
                if key_of(state.labels) in keys and state.was_started:
                    kept.append(state)
                else:
                    log.info("removing a container that the agent does not know", container=state.name)
                    self._removals.add(state.name)
            return [found for found in await asyncio.gather(*map(self._recover, kept)) if found is not None]
        except (Unavailable, EngineAnswer) as error:
            raise LaunchFailed(Reason.RUNTIME_UNAVAILABLE, str(error)) from error

    async def prepare(self, order: LaunchOrder, progress: Callable[[str], None]) -> None:
        """Bring the image."""
        planned(order, self._agent, self._settings.container)  # refuse before pulling
        container = order.spec.container
        assert container is not None
        user = order.spec.command.user or self._settings.container.default_user
        await asyncio.to_thread(_give_volumes, order, user)
        await self._images.ensure(container.image, container.force_pull, progress)

    async def launch(self, order: LaunchOrder) -> Started:
        """Create and start the container, or adopt the one that is there."""
        plan = planned(order, self._agent, self._settings.container)
        lock = self._launching.setdefault(order.key, asyncio.Lock())
        try:
            async with lock, self._launches:
                known = self._containers.get(order.key)
                if known is not None:
                    return known.started
                self._removals.discard(plan.name)
                state = await create_and_start(self._engine, plan)
                if not state.is_running:
                    self._died_early.add(order.key)
                return self._take_up(order.key, state, order.sandbox).started
        except (Unavailable, EngineAnswer) as error:
            self._removals.add(plan.name)  # it may have been made, and even started
            raise launch_failed(error) from error
        except LaunchFailed:
            self._removals.add(plan.name)
            raise
        finally:
            self._launching.pop(order.key, None)
            if order.key in self._died_early:
                self._died_early.discard(order.key)
                asyncio.get_running_loop().call_soon(self._check, order.key)

    async def signal(self, key: TaskKey, signal: Signal) -> None:
        """Send a signal to the container's first process, which passes it on; its end takes all with it."""
        name = container_name(self._agent, key)
        if (container := self._containers.get(key)) is not None:
            name, container.was_signaled = container.id, True
        try:
            await self._engine.change(lambda api: api.kill(name, int(signal)))
        except EngineAnswer as answer:
            if answer.status not in (404, 409):
                log.warning("cannot signal a container", container=name, error=str(answer))
            self._check(key)
        except Unavailable:
            self._unsent_signals[key] = max(signal, self._unsent_signals.get(key, signal), key=_strength)

    async def forget(self, key: TaskKey) -> None:
        """Remove the container, later."""
        container = self._containers.pop(key, None)
        self._unsent_signals.pop(key, None)
        if container is not None:
            await container.log.stop()
        name = container_name(self._agent, key)
        (self._notes / name).unlink(missing_ok=True)
        self._removals.add(name)

    async def exec(self, key: TaskKey, argv: tuple[str, ...], env: Mapping[str, str], tty: bool) -> ExecSession:
        """Run a command in the container, with its environment and as its user."""
        container = self._containers.get(key)
        if container is None or container.is_end_told:
            raise NotFound("running task", key[1])
        try:
            return await DockerExec.started(self._engine, container.id, argv, env, tty)
        except EngineAnswer as answer:
            if answer.status in (404, 409):
                raise NotFound("running task", key[1], str(answer)) from answer
            raise launch_failed(answer) from answer
        except Unavailable as error:
            raise launch_failed(error) from error

    async def usage(self, key: TaskKey) -> Usage:
        """Read the container's cgroups; the engine itself would take a second for each answer (measured)."""
        container = self._containers.get(key)
        if container is None or container.is_end_told or not self._engine.is_local:
            return Usage()
        groups = cgroups.groups_of(container.started.pid)
        if not any(container.id in group for group in groups.values()):
            return Usage()
        return Usage(*cgroups.usage(groups))

    async def close(self) -> None:
        """Stop watching; containers run on."""
        await self._watch.close()
        await self._removals.close(self._settings.removals_at_stop_s)
        tasks = [*self._chores, *(each.check for each in self._containers.values() if each.check is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for container in self._containers.values():
            await container.log.stop()
        self._engine.close()

    # --- containers ---------------------------------------------------------------------------------------

    def _take_up(self, key: TaskKey, state: State, sandbox: Path) -> _Container:
        """Watch a container from now on."""
        notes = self._notes / container_name(self._agent, key)
        output = ContainerLog(self._engine, state.id, sandbox, self._settings.log, notes)
        container = self._containers[key] = _Container(key, state.id, state.started, output)
        output.start()
        return container

    async def _recover(self, listed_state: State) -> Found | None:
        """Watch a container of an earlier agent; None when it has gone since it was listed."""
        key = key_of(listed_state.labels)
        try:
            state = await inspected(self._engine, listed_state.id)
        except EngineAnswer as answer:
            if answer.status == 404:
                return None
            raise
        container = self._containers.get(key) or self._take_up(key, state, state.mounted_at(SANDBOX))
        if state.is_running:
            return Found(key, container.started)
        container.is_end_told = True
        await container.log.finish(self._settings.log_drain_s)
        return Found(key, container.started, state.ended(container.oom_event.is_set()))

    def _check(self, key: TaskKey) -> None:
        """See whether a container has ended, and tell; asked meanwhile, look once more."""
        container = self._containers.get(key)
        if container is None or container.is_end_told:
            return
        container.is_check_due = True
        if container.check is None:
            container.check = asyncio.create_task(self._check_now(container))

    async def _check_now(self, container: _Container) -> None:
        try:
            ended = None
            while container.is_check_due and ended is None:
                container.is_check_due = False
                ended = await self._end_of(container)
            if ended is None:
                return
            await container.log.finish(self._settings.log_drain_s)
            if ended.exit_code == _SIGKILL_EXIT and not (ended.is_out_of_memory or container.was_signaled):
                await self._wait_for_oom(container)
                ended = await self._end_of(container) or ended
            if not container.is_end_told and self._listener is not None:
                container.is_end_told = True
                self._listener.task_ended(container.key, ended)
        finally:
            container.check = None

    async def _wait_for_oom(self, container: _Container) -> None:
        """Give an unexplained SIGKILL time to be explained: the engine may say `oom` after it has said `die`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.oom_patience_s):
                await container.oom_event.wait()

    async def _end_of(self, container: _Container) -> Ended | None:
        """Ask the engine how a container ended; None while it runs, or nobody knows."""
        try:
            state = await inspected(self._engine, container.id)
        except EngineAnswer as answer:
            if answer.status != 404:
                log.warning("cannot inspect a container", container=container.id[:12], error=str(answer))
                return None
            return Ended(None, int(time.time() * 1000), message="somebody removed its container")
        except Unavailable:
            return None  # it is asked again when the engine is back
        return None if state.is_running else state.ended(container.oom_event.is_set())

    # --- the engine ---------------------------------------------------------------------------------------

    def _is_up(self) -> None:
        self._say(None)
        unsent, self._unsent_signals = self._unsent_signals, {}
        for key, signal in unsent.items():
            self._do(self.signal(key, signal))

    def _is_down(self, problem: str) -> None:
        self._engine.disconnect()
        self._say(problem)

    def _heard(self, event: dict[str, Any]) -> None:
        key = key_of(event.get("Actor", {}).get("Attributes", {}))
        if event.get("Action") == "oom" and key in self._containers:
            self._containers[key].oom_event.set()
        elif event.get("Action") == "die":
            if key in self._launching:
                self._died_early.add(key)
            self._check(key)

    async def _relist(self) -> None:
        """Check the containers that the engine does not list as running."""
        running = {state.id for state in await listed(self._engine, self._agent) if state.is_running}
        for container in list(self._containers.values()):
            if container.id not in running:
                self._check(container.key)

    def _say(self, problem: str | None) -> None:
        if problem != self._problem and self._listener is not None:
            self._problem = problem
            self._listener.availability_changed(RuntimeKind.DOCKER, problem)

    def _do(self, chore: Awaitable[None]) -> None:
        async def run() -> None:
            with contextlib.suppress(Unavailable):
                await chore

        task = asyncio.create_task(run())
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


def _give_volumes(order: LaunchOrder, user: str) -> None:
    """Let the user that the container runs as write to its persistent volumes; raises LaunchFailed."""
    owner = owner_for(user, RuntimeKind.DOCKER)
    for folder in order.volumes.values():
        if owner is None:
            folder.chmod(0o777)  # a name that only the image knows
        elif user:
            give_away(folder, owner)


def _strength(signal: Signal) -> bool:
    return signal == 9
