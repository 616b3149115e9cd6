"""The process runtime: tasks as plain processes, started and watched by the agent's warden.

It holds no task itself. After a restart it asks the warden for the list; when the warden is killed it starts
another, which finds the tasks again. See `runrig_agent.warden` for what is promised.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog

from runrig.errors import NotFound, Unavailable
from runrig.ids import FrameworkId, TaskId
from runrig.tasks import Reason, RuntimeKind, TaskSpec, Volume
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
from runrig_agent.runtimes.process_exec import start_exec
from runrig_agent.runtimes.warden_link import WardenError, WardenGone, WardenLink, WardenSettings
from runrig_agent.sandbox_logs import LogLimits
from runrig_agent.sandbox_owner import give_away
from runrig_agent.sandbox_paths import Owner
from runrig_agent.warden import cgroups, processes, spawning

log = structlog.get_logger()

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RECONNECT_S = (0.05, 5.0)


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """The process runtime's settings."""

    log: LogLimits = field(default_factory=LogLimits)
    """How much of stdout and stderr is kept in each sandbox."""
    default_pids: int = 4096
    """Processes and threads that a task may have unless it says otherwise; needs cgroups."""
    default_user: str = ""
    """Whom tasks run as that name no user; empty: as the agent."""
    volume_roots: tuple[Path, ...] = ()
    """Directories of the host below which volumes may lie."""
    warden: WardenSettings = field(default_factory=WardenSettings)
    """How the warden is started."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is kept of a task: where its usage is found, and whether its end was told."""

    pid: int
    groups: dict[str, str]
    is_end_told: bool = False


class ProcessRuntime:
    """Runs tasks as processes; see `Runtime`."""

    def __init__(self, work_dir: Path, settings: ProcessSettings | None = None) -> None:
        self._settings = settings or ProcessSettings()
        self._link = WardenLink(work_dir / "warden", self._settings.warden, self._heard_end, self._lost_warden)
        self._listener: RuntimeListener | None = None
        self._known: dict[TaskKey, _Known] = {}
        self._launching: set[TaskKey] = set()
        self._is_recovering = False
        self._held_back: dict[TaskKey, Ended] = {}
        self._connecting: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._problem: str | None = "not started"
        self._is_closed = False

    @property
    def kind(self) -> RuntimeKind:
        return RuntimeKind.PROCESS

    async def start(self, listener: RuntimeListener) -> None:
        """Start or find the warden."""
        self._listener = listener
        try:
            await self._connect()
        except (Unavailable, WardenError) as error:
            self._say(str(error))
            self._connecting = asyncio.create_task(self._connect_again())

    async def recover(self, keys: frozenset[TaskKey]) -> list[Found]:
        """List the warden's tasks that are in `keys`; forget the others, killing them."""
        found: list[Found] = []
        strangers: list[TaskKey] = []
        self._is_recovering = True
        try:
            for task in await self._link.ask_list("list"):
                each = _found(task)
                if each.key not in keys:
                    strangers.append(each.key)
                    continue
                found.append(each)
                self._know(task, is_end_told=each.ended is not None)
            for key in strangers:
                log.info("stopping a task that the agent does not know", framework=key[0], task=key[1])
                await self._link.ask("forget", key=key)
        except WardenGone as error:
            raise LaunchFailed(Reason.RUNTIME_UNAVAILABLE, str(error)) from error
        finally:
            self._is_recovering = False
            for key in list(self._held_back):
                asyncio.get_running_loop().call_soon(self._release, key)
        return found

    async def prepare(self, order: LaunchOrder, progress: Callable[[str], None]) -> None:
        """Give the sandbox to the task's user, and put its volumes there."""
        identity = await asyncio.to_thread(_identity_of, self._user_of(order.spec))
        await asyncio.to_thread(_link_volumes, order, self._settings.volume_roots)
        if identity is not None:
            progress(f"giving the sandbox to {self._user_of(order.spec)}")
            owner = Owner(identity["uid"], identity["gid"])
            for folder in (order.sandbox, *order.volumes.values()):
                await asyncio.to_thread(give_away, folder, owner)

    async def launch(self, order: LaunchOrder) -> Started:
        """Have the warden start the task. If it dies meanwhile, the next one knows whether it did."""
        request = await self._request(order)
        self._launching.add(order.key)
        try:
            answer = await self._ask_until_answered(request)
        except WardenError as error:
            raise _launch_failed(error) from error
        finally:
            self._launching.discard(order.key)
            asyncio.get_running_loop().call_soon(self._release, order.key)
        task = answer["task"]
        self._know(task)
        if task["end"] is not None and not self._known[order.key].is_end_told:
            self._held_back[order.key] = _ended(task["end"])
        return _found(task).started

    async def signal(self, key: TaskKey, signal: Signal) -> None:
        """Send a signal to the task's first process group, SIGKILL to all of it."""
        await self._tell("signal", key=key, signal=int(signal))

    async def forget(self, key: TaskKey) -> None:
        """Have the warden drop its record."""
        await self._tell("forget", key=key)
        self._known.pop(key, None)

    async def exec(self, key: TaskKey, argv: tuple[str, ...], env: Mapping[str, str], tty: bool) -> ExecSession:
        """Run a command as the task's user, in its working directory, environment and cgroups."""
        try:
            return await start_exec(await self._link.open_extra(), key, argv, env, tty)
        except WardenError as error:
            if error.kind == spawning.UNKNOWN:
                raise NotFound("running task", key[1]) from error
            raise _launch_failed(error) from error
        except Unavailable as error:
            raise LaunchFailed(Reason.RUNTIME_UNAVAILABLE, str(error)) from error

    async def usage(self, key: TaskKey) -> Usage:
        """Read the task's cgroups; where it has none, what its first process and those below it use."""
        known = self._known.get(key)
        if known is None or known.is_end_told:
            return Usage()
        cpu_seconds, memory_bytes = cgroups.usage(known.groups)
        if cpu_seconds is None or memory_bytes is None:
            usage = processes.usage(known.pid)
            cpu_seconds = usage[0] if cpu_seconds is None else cpu_seconds
            memory_bytes = usage[1] if memory_bytes is None else memory_bytes
        return Usage(cpu_seconds, memory_bytes)

    async def close(self) -> None:
        """Leave the warden alone; it ends when nothing runs."""
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._connecting
        with contextlib.suppress(WardenGone):
            await self._link.ask("leave")
        await self._link.close()

    # --- launching ----------------------------------------------------------------------------------------

    def _user_of(self, spec: TaskSpec) -> str:
        return spec.command.user or self._settings.default_user

    async def _request(self, order: LaunchOrder) -> dict[str, Any]:
        spec = order.spec
        identity = None
        env = {"PATH": _PATH} | dict(order.env)
        if user := self._user_of(spec):
            identity = await asyncio.to_thread(_identity_of, user)
            env = {"USER": user, "LOGNAME": user, "HOME": str(order.sandbox)} | env
        directory = spec.command.working_directory
        return {
            "key": order.key,
            "argv": list(spec.command.argv) or ["/bin/sh", "-c", spec.command.shell],
            "env": env,
            "cwd": str(order.sandbox / directory),
            "sandbox": str(order.sandbox),
            "user": identity,
            "limits": {
                "cpu_shares": spec.resources.cpu_millis * 1024 // 1000,
                "cpu_millis": spec.limits.cpu_millis,
                "memory_bytes": (spec.limits.mem_mib or spec.resources.mem_mib) << 20,
                "pids": spec.limits.pids or self._settings.default_pids,
            },
            "log": asdict(self._settings.log),
        }

    async def _ask_until_answered(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask again when the warden goes away: a task starts once, however often that is asked."""
        deadline = time.monotonic() + self._settings.warden.start_timeout_s
        while True:
            try:
                return await self._link.ask("launch", **request)
            except WardenGone:
                try:
                    async with asyncio.timeout(deadline - time.monotonic()):
                        await self._connected.wait()
                except TimeoutError:
                    problem = self._problem or "the warden does not answer"
                    raise LaunchFailed(Reason.RUNTIME_UNAVAILABLE, problem) from None

    async def _tell(self, operation: str, **fields: object) -> None:
        """Ask for something that can be asked twice, until it is done or this is closed."""
        while not self._is_closed:
            try:
                await self._link.ask(operation, **fields)
            except WardenGone:
                await self._connected.wait()
            else:
                return

    # --- ends ---------------------------------------------------------------------------------------------

    def _know(self, task: dict[str, Any], is_end_told: bool = False) -> None:
        key = _key(task)
        if key not in self._known:
            self._known[key] = _Known(task["pid"], task["cgroups"], is_end_told)

    def _heard_end(self, task: dict[str, Any]) -> None:
        key = _key(task)
        if self._is_recovering or key in self._launching:
            self._held_back[key] = _ended(task["end"])
        else:
            self._tell_end(key, _ended(task["end"]))

    def _release(self, key: TaskKey) -> None:
        """Tell the end of a task that had ended before `launch` or `recover` returned."""
        ended = self._held_back.pop(key, None)
        if ended is not None and key in self._launching:
            self._held_back[key] = ended
        elif ended is not None:
            self._tell_end(key, ended)

    def _tell_end(self, key: TaskKey, ended: Ended) -> None:
        known = self._known.get(key)
        if known is None or known.is_end_told or self._listener is None:
            return
        self._known[key] = _Known(known.pid, known.groups, is_end_told=True)
        self._listener.task_ended(key, ended)

    # --- the warden ---------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        greeting = await self._link.connect()
        log.info("warden", pid=greeting["pid"], cgroups=greeting["cgroups"], problems=greeting["why_no_cgroups"])
        await self._catch_up()
        self._connected.set()
        self._say(None)

    async def _catch_up(self) -> None:
        """Hear what ended while nobody listened."""
        for task in await self._link.ask_list("list"):
            if task["end"] is not None:
                self._heard_end(task)

    def _lost_warden(self) -> None:
        self._connected.clear()
        if not self._is_closed and (self._connecting is None or self._connecting.done()):
            log.warning("the warden has gone; starting another")
            self._connecting = asyncio.create_task(self._connect_again())

    async def _connect_again(self) -> None:
        delay_s, most_s = _RECONNECT_S
        while True:
            with contextlib.suppress(WardenGone):
                try:
                    await self._connect()
                except (Unavailable, WardenError) as error:
                    self._say(str(error))
                else:
                    return
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, most_s)

    def _say(self, problem: str | None) -> None:
        if problem != self._problem and self._listener is not None:
            self._problem = problem
            self._listener.availability_changed(RuntimeKind.PROCESS, problem)


def _key(task: dict[str, Any]) -> TaskKey:
    framework, name = task["key"]
    return FrameworkId(framework), TaskId(name)


def _found(task: dict[str, Any]) -> Found:
    started = Started(task["started_at_ms"], task["pid"])
    return Found(_key(task), started, None if task["end"] is None else _ended(task["end"]))


def _ended(end: dict[str, Any]) -> Ended:
    return Ended(
        exit_code=end["code"],
        ended_at_unix_ms=end["at_ms"],
        is_out_of_memory=end["is_out_of_memory"],
        has_host_rebooted=end["has_host_rebooted"],
        message=end["message"],
    )


def _launch_failed(error: WardenError) -> LaunchFailed:
    reasons = {spawning.NO_SPACE: Reason.DISK_FULL}
    is_task_fault = error.kind == spawning.BAD_COMMAND
    return LaunchFailed(reasons.get(error.kind, Reason.START_FAILED), str(error), is_task_fault)


def _identity_of(user: str) -> dict[str, Any] | None:
    """Look up a user name or `uid[:gid]`, which may take long; raises LaunchFailed(USER_UNKNOWN)."""
    if not user:
        return None
    name, _, group = user.partition(":")
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        uid, gid, groups = entry.pw_uid, entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid)
    except KeyError:
        if not name.isdigit():
            raise LaunchFailed(
                Reason.USER_UNKNOWN,
                f"user {name!r} is not known on this agent; create it there, or give a uid",
                is_task_fault=True,
            ) from None
        uid, gid, groups = int(name), int(name), []
    if group:
        gid = _gid_of(group)
        groups = [gid]
    if os.geteuid() != 0 and uid != os.geteuid():
        raise LaunchFailed(
            Reason.USER_UNKNOWN,
            f"the agent does not run as root, so it cannot start tasks as {user!r}; leave the user empty",
            is_task_fault=True,
        )
    return None if os.geteuid() != 0 else {"uid": uid, "gid": gid, "groups": groups}


def _gid_of(group: str) -> int:
    import grp

    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        message = f"group {group!r} is not known on this agent; create it there, or give a gid"
        raise LaunchFailed(Reason.USER_UNKNOWN, message, is_task_fault=True) from None


def _link_volumes(order: LaunchOrder, roots: tuple[Path, ...]) -> None:
    """Show volumes to the task: a process sees the host's own files, so that a link must do."""
    for volume in order.spec.volumes:
        source = _checked_volume(volume, order, roots)
        link = order.sandbox / volume.container_path
        if Path(volume.container_path) == source:
            continue
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(source)
        except OSError as error:
            raise LaunchFailed(Reason.START_FAILED, f"volume {volume.container_path}: {error}") from error


def _checked_volume(volume: Volume, order: LaunchOrder, roots: tuple[Path, ...]) -> Path:
    """Return the real directory of a volume that a process can have; raises LaunchFailed(VOLUME_REFUSED)."""
    is_persistent = bool(volume.volume_id)
    source = order.volumes[volume.volume_id] if is_persistent else Path(volume.host_path).resolve()
    target = Path(volume.container_path)
    why = ""
    if not is_persistent and not any(source.is_relative_to(root.resolve()) for root in roots):
        why = "it is not below a directory that this agent allows"
    elif not source.is_dir():
        why = "it is no directory of this agent"
    elif volume.read_only:
        why = "the process runtime cannot make it read-only; use a container"
    elif (target.is_absolute() and target != source) or ".." in target.parts:
        why = f"a process cannot have it at {target}; give a path relative to the sandbox, or use a container"
    if why:
        name = volume.volume_id or volume.host_path
        raise LaunchFailed(Reason.VOLUME_REFUSED, f"volume {name}: {why}", is_task_fault=True)
    return source
