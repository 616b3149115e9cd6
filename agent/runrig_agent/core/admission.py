"""Whether a task may start on this agent at all (rule 4): each reason to refuse it says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runrig.errors import InvalidInput
from runrig.ids import TaskId, id_problem
from runrig.resources import Resources, ports_contain, ports_text
from runrig.tasks import NO_TERMS, Reason, RuntimeKind, TaskSpec, TaskState, Terms, Volume, checked_task
from runrig_agent.core.account import Account


@dataclass(frozen=True, slots=True)
class UnreadableTask:
    """A task whose description cannot be read: as much of it as the master reads, and what is wrong."""

    task_id: TaskId
    name: str
    resources: Resources
    labels: tuple[tuple[str, str], ...]
    problem: str
    terms: Terms = NO_TERMS
    volume_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LaunchRefused:
    """A task does not start: how its end is called, and why."""

    state: TaskState
    reason: Reason
    message: str


def launch_problem(
    spec: TaskSpec,
    total: Resources,
    account: Account,
    runtime_problems: Mapping[RuntimeKind, str],
    disk_problem: str | None,
    allowed_volumes: tuple[str, ...],
) -> LaunchRefused | None:
    """Return why `spec` must not start here, or None: the task's own faults first, then the agent's."""
    try:
        checked_task(spec)
        _check_ports(spec)
    except InvalidInput as error:
        return LaunchRefused(TaskState.TASK_ERROR, Reason.INVALID_TASK, str(error))
    for volume in spec.volumes:
        problem = _volume_problem(volume, allowed_volumes)
        if problem is not None:
            return LaunchRefused(TaskState.TASK_ERROR, Reason.VOLUME_REFUSED, problem)
    if disk_problem is not None:
        return LaunchRefused(TaskState.TASK_FAILED, Reason.DISK_FULL, disk_problem)
    if spec.runtime_kind in runtime_problems:
        problem = f"{spec.runtime_kind.name.lower()}: {runtime_problems[spec.runtime_kind]}"
        return LaunchRefused(TaskState.TASK_FAILED, Reason.RUNTIME_UNAVAILABLE, problem)
    shortage = account.shortage(total, spec.resources)
    if shortage is not None:
        problem = f"{shortage}: the agent's resources changed after the offer; launch it on another one"
        return LaunchRefused(TaskState.TASK_DROPPED, Reason.AGENT_REFUSED, problem)
    return None


def _check_ports(spec: TaskSpec) -> None:
    for number, port in enumerate(spec.ports):
        if not ports_contain(spec.resources.ports, ((port.host_port, port.host_port),)):
            field = f"task {spec.task_id}.ports[{number}].host_port"
            raise InvalidInput(field, port.host_port, f"one of its resources, {ports_text(spec.resources.ports)}")


def _volume_problem(volume: Volume, allowed: tuple[str, ...]) -> str | None:
    """Judge paths by their text; that links do not lead out is seen to when the volume is mounted."""
    if volume.volume_id:
        return _persistent_problem(volume)
    if not volume.host_path.startswith("/"):
        return f"volume host_path {volume.host_path!r} is not allowed; allowed: an absolute path"
    for name, path in (("host_path", volume.host_path), ("container_path", volume.container_path)):
        if not _is_plain(path):
            return f"volume {name} {path!r} is not allowed; allowed: a path without `..`"
    if any(_is_within(volume.host_path, directory) for directory in allowed):
        return None
    known = ", ".join(allowed) or "none"
    return f"volume host_path {volume.host_path!r} is not within the agent's --allow-volume ({known})"


def _persistent_problem(volume: Volume) -> str | None:
    """Judge a persistent volume: it is Runrig's own, so that no list need allow it."""
    problem = id_problem(volume.volume_id)
    if problem is not None:
        return f"volume volume_id {volume.volume_id!r} is not allowed; allowed: {problem}"
    if volume.host_path:
        return f"volume host_path {volume.host_path!r} is not allowed; allowed: none beside volume_id"
    if not _is_plain(volume.container_path):
        return f"volume container_path {volume.container_path!r} is not allowed; allowed: a path without `..`"
    return None


def _is_plain(path: str) -> bool:
    return bool(path) and ".." not in path.split("/") and "\0" not in path


def _is_within(path: str, directory: str) -> bool:
    parts, wanted = _parts(path), _parts(directory)
    return parts[: len(wanted)] == wanted


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
