"""What should run, said by a framework; the SDK turns it into launches and kills.

A framework's mind is a `Logic`: a pure machine that is told what happened and answers with decisions. It says which
tasks it wants (`Run`), which it no longer wants (`Stop`), and what must be durable (`Put`, `Delete`). Decisions of one
answer are committed together, before anything of them is told to anybody and before the news that caused them is
acknowledged: so a logic that is killed at any moment and restored from its entries has lost and doubled nothing.

Walk one task through it: the logic answers `Put("job/7", …), Run((Want(…),))`. Both are durable. An offer fits; the SDK
writes that it is about to launch, then accepts. The task starts; the SDK writes what the update says together with
what the logic answers to `TaskChanged`, then acknowledges it. The task ends; the same once more, and the SDK forgets
the task: its id is never used again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from runrig.constraints import Constraint
from runrig.demand import Placement
from runrig.ids import AgentId, Role, TaskId
from runrig.tasks import Port, StatusUpdate, TaskSpec, TaskState


@dataclass(frozen=True, slots=True)
class PortWant:
    """A port to be taken from the offer; the task finds its number in $PORT0, $PORT1 …, $PORT_<NAME> and `env`.

    `host_port` 0: any that the offer has. `container_port` 0: the same number as on the host.
    """

    host_port: int = 0
    container_port: int = 0
    name: str = ""
    protocol: str = "tcp"
    env: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Want:
    """A task that should run once an offer fits.

    `spec` is the task without its ports; those of `ports` are added at the match, together with $PORT, $PORTS, $PORT0
    … and $HOST in its environment. Tasks of one `group` are counted together by UNIQUE, GROUP_BY and MAX_PER. Wants of
    one `gang` start all or not at all: they are named in one answer, and a gang's name is used once.
    `expected_duration_ms` is how long the task promises to run, 0 unknown: a short promise lets it run where a gang
    waits, and keeps it from agents that will be away before it would end.

    Of `spec.terms` only the reservation is heeded: a task that names none may run in any that its role is offered.
    """

    spec: TaskSpec
    ports: tuple[PortWant, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    group: str = ""
    role: Role | None = None
    placement: Placement = Placement.ANY
    priority: int = 0
    gang: str = ""
    expected_duration_ms: int = 0

    @property
    def task_id(self) -> TaskId:
        """Return the id of the task, which is never used twice."""
        return self.spec.task_id


@dataclass(frozen=True, slots=True)
class TaskView:
    """What the SDK knows of a task that was wanted; `state` None: waiting for an offer."""

    task_id: TaskId
    group: str
    state: TaskState | None = None
    status: StatusUpdate | None = None
    agent_id: AgentId = AgentId("")
    hostname: str = ""
    agent_address: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    ports: tuple[Port, ...] = ()
    launched_at: float = 0.0
    is_stopping: bool = False


# What a logic is told. Beside these it is told some of the master's news as they come (`runrig.offers`: CallRefused,
# OperationsDone, InverseOffersMade, InverseOffersEnded), and whatever its own edges tell it: any object.


@dataclass(frozen=True, slots=True)
class TaskChanged:
    """A task's state or health changed; after a terminal state the SDK forgets the task."""

    task: TaskView


@dataclass(frozen=True, slots=True)
class Woken:
    """The time asked for by `WakeAt` has come."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The framework is subscribed."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The master is out of reach; the SDK goes on trying."""

    why: str


# What a logic answers.


@dataclass(frozen=True, slots=True)
class Run:
    """These tasks should run. A task id known already changes nothing.

    A task that can never be launched is told as TASK_ERROR at the end of the turn.
    """

    wants: tuple[Want, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """This task should not run: a waiting one is dropped (no news comes of it), a launched one is killed.

    Of a launched one TaskChanged comes until it has ended, whatever the logic still remembers of it.
    """

    task_id: TaskId
    grace_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """Make an entry durable, together with all else in this answer."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove an entry."""

    key: str


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Tell `Woken` at this time; the earliest that is pending counts."""

    at: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question asked with `Framework.ask`; given once all of this answer is durable.

    `value` that is an exception is raised to who asked.
    """

    question: object
    value: object


@dataclass(frozen=True, slots=True)
class AnswerInverse:
    """Say what is meant to be done about an inverse offer, for people who ask; its deadline stands whatever is said."""

    inverse_offer_id: str
    is_accepted: bool
    reason: str = ""


Decision = Run | Stop | Put | Delete | WakeAt | Answer | AnswerInverse


class Logic(Protocol):
    """The mind of a framework: pure, told by one task, without clock, randomness or I/O.

    Times are seconds since 1970 and never go back within a process.
    """

    def restore(self, entries: Mapping[str, bytes], tasks: Mapping[TaskId, TaskView], now: float) -> list[Decision]:
        """Take up the entries that were durable and the tasks that were launched; say all that should run.

        A launched task that no `Run` names is stopped.
        """

    def handle(self, event: object, now: float) -> list[Decision]:
        """Learn one event; say what follows."""
