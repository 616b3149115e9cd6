"""Tasks and what is said of them on the wire."""

from __future__ import annotations

from dataclasses import replace

from runrig._wire.common import (
    enum_from_wire,
    fill_resources,
    labels_from_wire,
    labels_to_wire,
    resources_from_wire,
)
from runrig.errors import InvalidInput
from runrig.ids import AgentId, FrameworkId, TaskId
from runrig.offers import LaunchableTask
from runrig.tasks import (
    MAX_LIST,
    NO_TERMS,
    CheckKind,
    Command,
    Container,
    Fetch,
    HealthCheck,
    Limits,
    NetworkMode,
    Port,
    Reason,
    RuntimeKind,
    Source,
    StatusUpdate,
    TaskSpec,
    TaskState,
    Terms,
    Volume,
)
from runrig.v1 import tasks_pb2


class ForwardedTask:
    """A task on its way through the master: what the master reads, and the received message itself."""

    __slots__ = ("body", "labels", "name", "resources", "task_id", "terms", "volume_ids")

    def __init__(self, body: tasks_pb2.TaskSpec) -> None:
        self.body = body
        self.task_id = TaskId(body.task_id)
        self.name = body.name
        self.resources = resources_from_wire(body.resources)
        self.labels = labels_from_wire(body.labels[: MAX_LIST + 1])  # enough to see that they are too many
        self.terms = terms_from_wire(body.terms) if body.HasField("terms") else NO_TERMS
        self.volume_ids = tuple(item.volume_id for item in body.volumes if item.volume_id)

    def __repr__(self) -> str:
        return f"ForwardedTask({self.task_id!r}, {self.resources!r}, labels={self.labels!r})"


def terms_from_wire(message: tasks_pb2.TaskTerms) -> Terms:
    """Read a task's terms, unchecked."""
    return Terms(message.reservation_id, message.group, message.priority, message.gang_id, message.expected_duration_ms)


def fill_terms(message: tasks_pb2.TaskTerms, terms: Terms) -> None:
    """Write a task's terms into their message."""
    message.reservation_id = terms.reservation_id
    message.group = terms.group
    message.priority = terms.priority
    message.gang_id = terms.gang_id
    message.expected_duration_ms = terms.expected_duration_ms


def fill_launchable(message: tasks_pb2.TaskSpec, task: LaunchableTask) -> None:
    """Write a task into its message: a forwarded one as it was received."""
    if isinstance(task, ForwardedTask):
        message.CopyFrom(task.body)
        return
    assert isinstance(task, TaskSpec), f"{type(task)} is neither ForwardedTask nor TaskSpec"
    _fill_task(message, task)


def task_to_wire(task: TaskSpec) -> tasks_pb2.TaskSpec:
    """Build the message of a task."""
    message = tasks_pb2.TaskSpec()
    _fill_task(message, task)
    return message


def _fill_task(message: tasks_pb2.TaskSpec, task: TaskSpec) -> None:
    message.task_id = task.task_id
    message.name = task.name
    fill_resources(message.resources, task.resources)
    for name, value in task.labels:
        message.labels.add(name=name, value=value)
    message.runtime = task.runtime.value  # type: ignore[assignment]
    message.max_run_ms = task.max_run_ms
    message.data = task.data
    if task.limits != Limits():
        message.limits.cpu_millis = task.limits.cpu_millis
        message.limits.mem_mib = task.limits.mem_mib
        message.limits.pids = task.limits.pids
    _command_to_wire(task.command, message.command)
    if task.container is not None:
        _container_to_wire(task.container, message.container)
    for port in task.ports:
        message.ports.add(
            name=port.name,
            host_port=port.host_port,
            container_port=port.container_port,
            protocol=port.protocol,
        )
    for volume in task.volumes:
        message.volumes.add(
            host_path=volume.host_path,
            container_path=volume.container_path,
            read_only=volume.read_only,
            volume_id=volume.volume_id,
        )
    for item in task.fetch:
        message.fetch.add(
            uri=item.uri,
            destination=item.destination,
            executable=item.executable,
            extract=item.extract,
            sha256=item.sha256,
        )
    if task.kill_grace_ms is not None:
        message.kill_policy.grace_ms = task.kill_grace_ms
    message.health_checks.extend(_check_to_wire(check) for check in task.health_checks)
    if task.terms != NO_TERMS:
        fill_terms(message.terms, task.terms)


def task_from_wire(message: tasks_pb2.TaskSpec, field: str = "task") -> TaskSpec:
    """Read a task; raise InvalidInput. `runrig.tasks.checked_task` says whether it can be launched."""
    field = f"{field} {message.task_id}"
    return TaskSpec(
        task_id=TaskId(message.task_id),
        resources=resources_from_wire(message.resources),
        name=message.name,
        labels=labels_from_wire(message.labels),
        limits=Limits(message.limits.cpu_millis, message.limits.mem_mib, message.limits.pids)
        if message.HasField("limits")
        else Limits(),
        runtime=enum_from_wire(RuntimeKind, f"{field}.runtime", message.runtime),
        command=_command_from_wire(message.command),
        container=_container_from_wire(field, message.container) if message.HasField("container") else None,
        ports=tuple(
            Port(item.host_port, item.container_port, item.name, item.protocol or "tcp") for item in message.ports
        ),
        volumes=tuple(
            Volume(item.host_path, item.container_path, item.read_only, item.volume_id) for item in message.volumes
        ),
        fetch=tuple(
            Fetch(item.uri, item.destination, item.executable, item.extract, item.sha256) for item in message.fetch
        ),
        kill_grace_ms=grace_from_wire(message.kill_policy) if message.HasField("kill_policy") else None,
        max_run_ms=message.max_run_ms,
        health_checks=tuple(
            _check_from_wire(f"{field}.health_checks[{number}]", item)
            for number, item in enumerate(message.health_checks)
        ),
        data=message.data,
        terms=terms_from_wire(message.terms) if message.HasField("terms") else NO_TERMS,
    )


def grace_from_wire(message: tasks_pb2.KillPolicy) -> int | None:
    """Read a kill policy's grace in milliseconds, None when it says none; raise InvalidInput."""
    if not message.HasField("grace_ms"):
        return None
    if not 0 <= message.grace_ms <= 365 * 86_400_000:
        raise InvalidInput("kill_policy.grace_ms", message.grace_ms, "0 to 31,536,000,000")
    return message.grace_ms


def _command_to_wire(command: Command, message: tasks_pb2.Command) -> None:
    message.argv.extend(command.argv)
    message.shell = command.shell
    for name, value in command.env:
        message.env.add(name=name, value=value)
    message.user = command.user
    message.working_directory = command.working_directory


def _command_from_wire(message: tasks_pb2.Command) -> Command:
    return Command(
        tuple(message.argv),
        message.shell,
        tuple((item.name, item.value) for item in message.env),
        message.user,
        message.working_directory,
    )


def _container_to_wire(container: Container, message: tasks_pb2.Container) -> None:
    message.image = container.image
    message.force_pull = container.force_pull
    message.network = container.network.value  # type: ignore[assignment]
    message.network_name = container.network_name
    message.read_only_root = container.read_only_root
    message.parameters.extend(labels_to_wire(container.parameters))


def _container_from_wire(field: str, message: tasks_pb2.Container) -> Container:
    return Container(
        image=message.image,
        force_pull=message.force_pull,
        network=enum_from_wire(NetworkMode, f"{field}.container.network", message.network or NetworkMode.HOST),
        network_name=message.network_name,
        read_only_root=message.read_only_root,
        parameters=labels_from_wire(message.parameters),
    )


def _check_to_wire(check: HealthCheck) -> tasks_pb2.HealthCheck:
    message = tasks_pb2.HealthCheck(
        delay_ms=check.delay_ms,
        interval_ms=check.interval_ms,
        timeout_ms=check.timeout_ms,
        grace_ms=check.grace_ms,
        max_consecutive_failures=check.max_consecutive_failures,
    )
    match check.kind:
        case CheckKind.COMMAND:
            message.command.argv.extend(check.argv)
            message.command.shell = check.shell
        case CheckKind.HTTP:
            message.http.scheme = check.scheme
            message.http.port = check.port
            message.http.port_index = check.port_index
            message.http.path = check.path
            message.http.statuses.extend(check.statuses)
        case CheckKind.TCP:
            message.tcp.port = check.port
            message.tcp.port_index = check.port_index
    return message


def _check_from_wire(field: str, message: tasks_pb2.HealthCheck) -> HealthCheck:
    return replace(
        _checked_thing_from_wire(field, message),
        delay_ms=message.delay_ms,
        interval_ms=message.interval_ms or 10_000,
        timeout_ms=message.timeout_ms or 20_000,
        grace_ms=message.grace_ms,
        max_consecutive_failures=message.max_consecutive_failures,
    )


def _checked_thing_from_wire(field: str, message: tasks_pb2.HealthCheck) -> HealthCheck:
    match message.WhichOneof("check"):
        case "command":
            return HealthCheck(CheckKind.COMMAND, argv=tuple(message.command.argv), shell=message.command.shell)
        case "http":
            return HealthCheck(
                CheckKind.HTTP,
                port=message.http.port,
                port_index=message.http.port_index,
                path=message.http.path or "/",
                scheme=message.http.scheme or "http",
                statuses=tuple(message.http.statuses),
            )
        case "tcp":
            return HealthCheck(CheckKind.TCP, port=message.tcp.port, port_index=message.tcp.port_index)
        case _:
            raise InvalidInput(field, "no kind", "exactly one of command, http and tcp")


def update_to_wire(update: StatusUpdate) -> tasks_pb2.StatusUpdate:
    """Build the message of a status update."""
    message = tasks_pb2.StatusUpdate()
    fill_update(message, update)
    return message


def fill_update(message: tasks_pb2.StatusUpdate, update: StatusUpdate) -> None:
    """Write a status update into its message. The hottest mapping of all: what is unset is not written."""
    message.framework_id = update.framework_id
    message.task_id = update.task_id
    message.agent_id = update.agent_id
    message.number = update.number
    message.state = update.state  # type: ignore[assignment]
    message.source = update.source  # type: ignore[assignment]
    message.at_unix_ms = update.at_unix_ms
    if update.reason:
        message.reason = update.reason  # type: ignore[assignment]
    if update.message:
        message.message = update.message
    if update.healthy is not None:
        message.healthy = update.healthy
    if update.exit_code is not None:
        message.exit_code = update.exit_code
    if update.runtime:
        message.runtime = update.runtime  # type: ignore[assignment]
    if update.container_id:
        message.container_id = update.container_id
    if update.pid:
        message.pid = update.pid
    if update.address:
        message.address = update.address


def update_from_wire(message: tasks_pb2.StatusUpdate) -> StatusUpdate:
    """Read a status update; raise InvalidInput. A reason that this version does not know becomes NONE."""
    return StatusUpdate(
        FrameworkId(message.framework_id),
        TaskId(message.task_id),
        AgentId(message.agent_id),
        message.number,
        STATES.get(message.state) or enum_from_wire(TaskState, "update.state", message.state),
        REASONS.get(message.reason, Reason.NONE),
        SOURCES.get(message.source) or enum_from_wire(Source, "update.source", message.source),
        message.message,
        message.at_unix_ms,
        message.healthy if message.HasField("healthy") else None,
        message.exit_code if message.HasField("exit_code") else None,
        RUNTIMES.get(message.runtime, RuntimeKind.ANY),
        message.container_id,
        message.pid,
        message.address,
    )


STATES = {int(item): item for item in TaskState}
REASONS = {int(item): item for item in Reason}
SOURCES = {int(item): item for item in Source}
RUNTIMES = {int(item): item for item in RuntimeKind}
