"""What an agent and the master say to each other, as plain data; the wire mapping turns it into envelopes.

Reports go to the master, orders come from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from runrig.ids import AgentId, FrameworkId, Role, TaskId
from runrig.offers import LaunchableTask, StreamRefused
from runrig.resources import Resources
from runrig.tasks import Reason, RuntimeKind, StatusUpdate


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """Who an agent is and what it has; it chose `agent_id` at its first start."""

    agent_id: AgentId
    hostname: str
    resources: Resources
    address: str = ""
    http_address: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    runtimes: tuple[RuntimeKind, ...] = (RuntimeKind.PROCESS,)
    version: str = ""


@dataclass(frozen=True, slots=True)
class TaskReport:
    """A task that an agent has, with its latest update, acknowledged or not."""

    framework_id: FrameworkId
    task_id: TaskId
    name: str
    role: Role
    resources: Resources
    labels: tuple[tuple[str, str], ...]
    status: StatusUpdate


@dataclass(frozen=True, slots=True)
class Register:
    """The first report of a stream: the whole truth of the agent's tasks.

    `session` grows with each connection of this agent; `epoch` is the highest it has seen.
    """

    agent: AgentInfo
    session: int
    epoch: int
    tasks: tuple[TaskReport, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentChanged:
    """The agent's resources, attributes, address or runtimes changed."""

    agent: AgentInfo


@dataclass(frozen=True, slots=True)
class TaskNotHere:
    """A kill or acknowledgement named a task that this agent does not have."""

    framework_id: FrameworkId
    task_id: TaskId


Report = Register | StatusUpdate | AgentChanged | TaskNotHere


@dataclass(frozen=True, slots=True)
class Registered:
    """The registration stands."""

    cluster_id: str
    silence_timeout_ms: int
    heartbeat_ms: int


@dataclass(frozen=True, slots=True)
class Launch:
    """Start tasks; idempotent on (framework, task id) (rule 12)."""

    framework_id: FrameworkId
    framework_name: str
    role: Role
    tasks: tuple[LaunchableTask, ...]
    is_group: bool = False


@dataclass(frozen=True, slots=True)
class KillTask:
    """End a task; before its launch it wins over the launch (rule 13)."""

    framework_id: FrameworkId
    task_id: TaskId
    grace_ms: int | None = None
    reason: Reason = Reason.KILLED_BY_FRAMEWORK


@dataclass(frozen=True, slots=True)
class AcknowledgeUpdate:
    """The framework has received update `number` and all before it."""

    framework_id: FrameworkId
    task_id: TaskId
    number: int


@dataclass(frozen=True, slots=True)
class ShutdownFramework:
    """Kill all its tasks, and forget its updates once they are gone."""

    framework_id: FrameworkId


Order = Registered | Launch | KillTask | AcknowledgeUpdate | ShutdownFramework | StreamRefused
