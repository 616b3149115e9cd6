"""What runs: the description of a task, its states, and what is said of it.

Rule 4 (a task is validated on its own) lives in `checked_task`; rule 8 (terminal states never change) in `is_terminal`.
Enumerations carry the numbers of the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from runrig.errors import InvalidInput
from runrig.ids import AgentId, FrameworkId, TaskId, id_problem
from runrig.resources import NOTHING, Resources, checked_resources


class TaskState(IntEnum):
    """Where a task stands."""

    TASK_STAGING = 1
    TASK_STARTING = 2
    TASK_RUNNING = 3
    TASK_KILLING = 4
    TASK_FINISHED = 5
    TASK_FAILED = 6
    TASK_KILLED = 7
    TASK_ERROR = 8
    TASK_DROPPED = 9
    TASK_GONE_BY_OPERATOR = 10
    TASK_LOST = 11
    TASK_UNREACHABLE = 12
    TASK_UNKNOWN = 13

    @property
    def is_terminal(self) -> bool:
        """Say whether the task has ended and will never change again."""
        return 5 <= self <= 11


class Source(IntEnum):
    """Who says it."""

    MASTER = 1
    AGENT = 2
    EXECUTOR = 3


class Reason(IntEnum):
    """Why a task is in its state."""

    NONE = 0
    INVALID_OFFERS = 1
    INVALID_TASK = 2
    TASK_ID_USED = 3
    TASK_GROUP_REFUSED = 4
    ATOMIC_ACCEPT_REFUSED = 5
    AGENT_DISCONNECTED = 6
    LAUNCH_LOST = 7
    OFFER_CONFLICT = 8
    AGENT_UNREACHABLE = 10
    AGENT_RETURNED = 11
    AGENT_GONE = 12
    AGENT_FORGOT_TASK = 13
    FRAMEWORK_REMOVED = 14
    RECONCILIATION = 15
    AGENT_REFUSED = 16
    EXITED = 20
    SIGNALED = 21
    OUT_OF_MEMORY = 22
    MAX_RUN_TIME = 23
    HEALTH_CHECK = 24
    KILLED_BY_FRAMEWORK = 25
    KILLED_BY_OPERATOR = 26
    KILLED_BEFORE_LAUNCH = 27
    TASK_GROUP_ENDED = 28
    STATUS_UNAVAILABLE = 29
    HOST_REBOOTED = 30
    PREEMPTED = 31
    AGENT_DRAINED = 32
    IMAGE_UNAVAILABLE = 40
    RUNTIME_UNAVAILABLE = 41
    START_FAILED = 42
    FETCH_FAILED = 43
    DISK_FULL = 44
    USER_UNKNOWN = 45
    VOLUME_REFUSED = 46
    PORT_IN_USE = 47
    FETCHING = 60
    PULLING_IMAGE = 61
    HEALTH_CHANGED = 62


CLUSTER_REASONS = frozenset(
    {
        Reason.INVALID_OFFERS,
        Reason.ATOMIC_ACCEPT_REFUSED,
        Reason.TASK_GROUP_REFUSED,
        Reason.AGENT_DISCONNECTED,
        Reason.LAUNCH_LOST,
        Reason.OFFER_CONFLICT,
        Reason.AGENT_UNREACHABLE,
        Reason.AGENT_RETURNED,
        Reason.AGENT_GONE,
        Reason.AGENT_FORGOT_TASK,
        Reason.AGENT_REFUSED,
        Reason.STATUS_UNAVAILABLE,
        Reason.HOST_REBOOTED,
        Reason.PREEMPTED,
        Reason.AGENT_DRAINED,
        Reason.RUNTIME_UNAVAILABLE,
        Reason.PORT_IN_USE,
        Reason.DISK_FULL,
    }
)
"""Ends that are the cluster's fault: a retry policy does not charge for them."""


class RuntimeKind(IntEnum):
    """What runs a task; ANY: docker for a task with an image, process for any other."""

    ANY = 0
    DOCKER = 1
    PROCESS = 2


class NetworkMode(IntEnum):
    """The network of a container."""

    HOST = 1
    BRIDGE = 2
    NONE = 3
    USER = 4


@dataclass(frozen=True, slots=True)
class Command:
    """What to execute: `argv` without a shell, or `shell` by /bin/sh -c; neither: the image's entry point."""

    argv: tuple[str, ...] = ()
    shell: str = ""
    env: tuple[tuple[str, str], ...] = ()
    user: str = ""
    working_directory: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """The image and how it is attached to its host."""

    image: str
    force_pull: bool = False
    network: NetworkMode = NetworkMode.HOST
    network_name: str = ""
    read_only_root: bool = False
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Port:
    """A port that the task uses; `host_port` comes from the offer, `container_port` 0 is the same number."""

    host_port: int
    container_port: int = 0
    name: str = ""
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class Volume:
    """A directory seen by the task: of the host, within the allow-list, or the persistent volume `volume_id`."""

    host_path: str
    container_path: str
    read_only: bool = False
    volume_id: str = ""


@dataclass(frozen=True, slots=True)
class Fetch:
    """A file brought into the sandbox before the task starts."""

    uri: str
    destination: str = ""
    executable: bool = False
    extract: bool = False
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps above what is reserved; 0 means the default of each (see the proto)."""

    cpu_millis: int = 0
    mem_mib: int = 0
    pids: int = 0


class CheckKind(IntEnum):
    """What a health check tries."""

    COMMAND = 1
    HTTP = 2
    TCP = 3


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One check, run by the agent; times in milliseconds.

    HTTP and TCP try `port`, or with 0 the host port of the task's `port_index`-th port. `max_consecutive_failures` 0
    reports and never kills; failures within `grace_ms` of the start do not count until the first success.
    """

    kind: CheckKind
    argv: tuple[str, ...] = ()
    shell: str = ""
    port: int = 0
    port_index: int = 0
    path: str = "/"
    scheme: str = "http"
    statuses: tuple[int, ...] = ()
    delay_ms: int = 0
    interval_ms: int = 10_000
    timeout_ms: int = 20_000
    grace_ms: int = 10_000
    max_consecutive_failures: int = 3


@dataclass(frozen=True, slots=True)
class Terms:
    """What the master schedules a task by, beside its resources.

    `reservation_id` names the reservation among its offers that it runs in; empty: in what is not reserved. Tasks of
    one `group` are counted together by UNIQUE, GROUP_BY and MAX_PER; those of one gang are preempted all or none.
    `expected_duration_ms` is how long it promises to run, 0 unknown: a short promise lets it run where a gang waits.
    """

    reservation_id: str = ""
    group: str = ""
    priority: int = 0
    gang_id: str = ""
    expected_duration_ms: int = 0


NO_TERMS = Terms()


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One run of a command or container, ready to launch.

    Example:
        >>> TaskSpec(TaskId("hello-1"), Resources(cpu_millis=100, mem_mib=32), command=Command(shell="echo hello"))
        ... # doctest: +ELLIPSIS
        TaskSpec(task_id='hello-1', ...)
    """

    task_id: TaskId
    resources: Resources
    name: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    limits: Limits = Limits()
    runtime: RuntimeKind = RuntimeKind.ANY
    command: Command = Command()
    container: Container | None = None
    ports: tuple[Port, ...] = ()
    volumes: tuple[Volume, ...] = ()
    fetch: tuple[Fetch, ...] = ()
    kill_grace_ms: int | None = None
    max_run_ms: int = 0
    health_checks: tuple[HealthCheck, ...] = ()
    data: bytes = b""
    terms: Terms = NO_TERMS

    @property
    def volume_ids(self) -> tuple[str, ...]:
        """Return the persistent volumes that it uses."""
        return tuple(volume.volume_id for volume in self.volumes if volume.volume_id)

    @property
    def runtime_kind(self) -> RuntimeKind:
        """Say which runtime runs it."""
        if self.runtime is not RuntimeKind.ANY:
            return self.runtime
        return RuntimeKind.DOCKER if self.container is not None else RuntimeKind.PROCESS


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """What an agent, or the master, says of a task.

    `number` 0 is the master's and needs no acknowledgement (rule 9).
    """

    framework_id: FrameworkId
    task_id: TaskId
    agent_id: AgentId
    number: int
    state: TaskState
    reason: Reason = Reason.NONE
    source: Source = Source.AGENT
    message: str = ""
    at_unix_ms: int = 0
    healthy: bool | None = None
    exit_code: int | None = None
    runtime: RuntimeKind = RuntimeKind.ANY
    container_id: str = ""
    pid: int = 0
    address: str = ""


MAX_TEXT = 1024
MAX_ENV = 1024
MAX_ENV_BYTES = 256 * 1024
MAX_DATA_BYTES = 64 * 1024
MAX_LIST = 256
MAX_PRIORITY = 1_000_000
MAX_MILLISECONDS = 10 * 365 * 86_400_000


def checked_labels(field: str, labels: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return `labels` (or attributes) if they are not too many or too long; raise InvalidInput naming `field`."""
    if len(labels) > MAX_LIST:
        raise InvalidInput(field, len(labels), f"at most {MAX_LIST}")
    for name, value in labels:
        if not 1 <= len(name) <= MAX_TEXT or len(value) > MAX_TEXT:
            raise InvalidInput(
                field, f"{name}:{value}", f"a name of 1 to {MAX_TEXT} characters, a value of at most {MAX_TEXT}"
            )
    return labels


def checked_task(task: TaskSpec, field: str = "task") -> TaskSpec:
    """Return `task` if it can be launched somewhere.

    Raise InvalidInput naming the field, the value and what is allowed.
    """
    problem = id_problem(task.task_id)
    if problem is not None:
        raise InvalidInput(f"{field}.task_id", task.task_id, problem)
    field = f"{field} {task.task_id}"
    checked_resources(f"{field}.resources", task.resources)
    if task.resources == NOTHING:
        raise InvalidInput(f"{field}.resources", str(task.resources), "some cpu, memory or another resource")
    _check_texts(field, task)
    _check_command(field, task)
    _check_ports(field, task)
    _check_times(field, task)
    checked_terms(f"{field}.terms", task.terms)
    for number, check in enumerate(task.health_checks):
        checked_health_check(f"{field}.health_checks[{number}]", check, len(task.ports))
    return task


def _check_texts(field: str, task: TaskSpec) -> None:
    for name, length, most in (
        ("name", len(task.name), MAX_TEXT),
        ("data", len(task.data), MAX_DATA_BYTES),
        ("labels", len(task.labels), MAX_LIST),
        ("volumes", len(task.volumes), MAX_LIST),
        ("fetch", len(task.fetch), MAX_LIST),
        ("health_checks", len(task.health_checks), MAX_LIST),
        ("command.env", len(task.command.env), MAX_ENV),
        ("command.env bytes", sum(len(key) + len(value) for key, value in task.command.env), MAX_ENV_BYTES),
    ):
        if length > most:
            raise InvalidInput(f"{field}.{name}", length, f"at most {most}")


def _check_command(field: str, task: TaskSpec) -> None:
    if task.command.argv and task.command.shell:
        raise InvalidInput(f"{field}.command", task.command.shell, "either argv or shell")
    for key, value in task.command.env:
        if not key or "=" in key or "\0" in key + value:
            raise InvalidInput(f"{field}.command.env", key, "names without `=`, and no zero byte")
    if task.runtime_kind is RuntimeKind.DOCKER:
        if task.container is None or not task.container.image.strip():
            raise InvalidInput(f"{field}.container.image", "", "the name of an image, as the docker runtime needs one")
    elif not (task.command.argv or task.command.shell):
        raise InvalidInput(f"{field}.command", "", "argv or shell, as there is no image to say what to run")


def _check_ports(field: str, task: TaskSpec) -> None:
    seen: set[tuple[int, str]] = set()
    for number, port in enumerate(task.ports):
        where = f"{field}.ports[{number}]"
        if not 1 <= port.host_port <= 65535:
            raise InvalidInput(f"{where}.host_port", port.host_port, "1 to 65535, taken from the offer")
        if not 0 <= port.container_port <= 65535:
            raise InvalidInput(f"{where}.container_port", port.container_port, "0 to 65535")
        if port.protocol not in ("tcp", "udp"):
            raise InvalidInput(f"{where}.protocol", port.protocol, "tcp or udp")
        if (port.host_port, port.protocol) in seen:
            raise InvalidInput(f"{where}.host_port", port.host_port, "each port once")
        seen.add((port.host_port, port.protocol))


def checked_terms(field: str, terms: Terms) -> Terms:
    """Return `terms` if a task can run on them; raise InvalidInput naming `field`."""
    for name, value in (("reservation_id", terms.reservation_id), ("gang_id", terms.gang_id)):
        problem = id_problem(value) if value else None
        if problem is not None:
            raise InvalidInput(f"{field}.{name}", value, problem)
    if len(terms.group) > MAX_TEXT:
        raise InvalidInput(f"{field}.group", terms.group, f"at most {MAX_TEXT} characters")
    if not -MAX_PRIORITY <= terms.priority <= MAX_PRIORITY:
        raise InvalidInput(f"{field}.priority", terms.priority, f"{-MAX_PRIORITY} to {MAX_PRIORITY}")
    if not 0 <= terms.expected_duration_ms <= MAX_MILLISECONDS:
        raise InvalidInput(f"{field}.expected_duration_ms", terms.expected_duration_ms, f"0 to {MAX_MILLISECONDS}")
    return terms


def _check_times(field: str, task: TaskSpec) -> None:
    for name, value in (("kill_policy.grace_ms", task.kill_grace_ms or 0), ("max_run_ms", task.max_run_ms)):
        if not 0 <= value <= MAX_MILLISECONDS:
            raise InvalidInput(f"{field}.{name}", value, f"0 to {MAX_MILLISECONDS}")


def checked_health_check(field: str, check: HealthCheck, ports: int) -> HealthCheck:
    """Return `check` if a task with `ports` ports can be checked so; raise InvalidInput naming `field`."""
    if check.kind is CheckKind.COMMAND and bool(check.argv) == bool(check.shell):
        raise InvalidInput(f"{field}.command", check.shell, "either argv or shell")
    if not 0 <= check.port <= 65535:
        raise InvalidInput(f"{field}.port", check.port, "1 to 65535, or 0 for the port at port_index")
    if check.kind is not CheckKind.COMMAND and check.port == 0 and not 0 <= check.port_index < ports:
        raise InvalidInput(f"{field}.port_index", check.port_index, f"less than the task's number of ports, {ports}")
    if check.scheme not in ("http", "https"):
        raise InvalidInput(f"{field}.scheme", check.scheme, "http or https")
    for name in ("delay_ms", "interval_ms", "timeout_ms", "grace_ms", "max_consecutive_failures"):
        value = getattr(check, name)
        least = 1 if name in ("interval_ms", "timeout_ms") else 0
        if not least <= value <= MAX_MILLISECONDS:
            raise InvalidInput(f"{field}.{name}", value, f"{least} to {MAX_MILLISECONDS}")
    return check
