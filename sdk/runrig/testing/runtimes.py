"""What really runs: tasks of the simulated hosts, and the truth about them that nobody under test may bend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runrig.ids import AgentId, FrameworkId, TaskId
from runrig.offers import LaunchableTask
from runrig.resources import Resources
from runrig.tasks import Reason, RuntimeKind, TaskSpec
from runrig.testing.world import World
from runrig_agent.core.events import FoundTask
from runrig_agent.core.task import TaskEnded, TaskStarted

TaskKey = tuple[FrameworkId, TaskId]
SIGKILL = 9


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a task does once it runs: it ends after `after_s` (None: never) with `exit_code`."""

    after_s: float | None = None
    exit_code: int = 0
    fails_to_start: Reason | None = None
    ignores_term: bool = False
    """Whether it lives on after SIGTERM, until SIGKILL."""
    is_healthy: bool = True
    """What its health checks find, if it has any."""


Script = Callable[[LaunchableTask], Behaviour]


def running(_: LaunchableTask) -> Behaviour:
    """Run for ever."""
    return Behaviour()


def finishing(after_s: float) -> Script:
    """Return the script of tasks that finish after `after_s`."""
    return lambda _: Behaviour(after_s)


def failing(after_s: float, exit_code: int = 1) -> Script:
    """Return the script of tasks that fail after `after_s`."""
    return lambda _: Behaviour(after_s, exit_code)


@dataclass(slots=True)
class RealTask:
    """A task that was really started."""

    key: TaskKey
    spec: TaskSpec
    agent_id: AgentId
    behaviour: Behaviour
    started: TaskStarted
    ended: TaskEnded | None = None


class Truth:
    """All that ever really ran, on all hosts; breaking a promise of the cluster fails at once."""

    def __init__(self) -> None:
        self.starts: list[TaskKey] = []
        """Every start of a task, in order."""
        self.tasks: dict[TaskKey, RealTask] = {}
        self.is_strict = True
        """Whether a second start of a task fails at once; without, `starts` shows it."""
        self.started: list[Callable[[RealTask], None]] = []
        """Called at each start."""

    def start(self, task: RealTask) -> None:
        """Note a start."""
        is_second = task.key in self.tasks
        self.starts.append(task.key)
        self.tasks[task.key] = task
        assert not (is_second and self.is_strict), f"{task.key} is started twice"
        for hook in self.started:
            hook(task)

    def running(self) -> list[RealTask]:
        """Return what runs now."""
        return [task for task in self.tasks.values() if task.ended is None]


class Host:
    """The runtimes of one host: their tasks outlive the agent's process, and a dead engine does not tell their ends."""

    def __init__(
        self,
        world: World,
        truth: Truth,
        agent_id: AgentId,
        total: Resources,
        script: Script,
        tell: Callable[[TaskEnded], None],
    ) -> None:
        self.agent_id = agent_id
        self.total = total
        self.script = script
        self.tasks: dict[TaskKey, RealTask] = {}
        self.volumes: dict[str, list[TaskKey]] = {}
        """The persistent volumes that are there, each with the tasks that have written to it."""
        self.deleted: list[Callable[[str], None]] = []
        """Called with each volume whose data goes."""
        self.dead: set[RuntimeKind] = set()
        self._world = world
        self._truth = truth
        self._tell = tell
        self._pids = 1000

    @property
    def running(self) -> list[RealTask]:
        """Return what runs now."""
        return [task for task in self.tasks.values() if task.ended is None]

    def start(self, key: TaskKey, spec: TaskSpec) -> RealTask | Reason:
        """Start a task, or say why not."""
        if spec.runtime_kind in self.dead:
            return Reason.START_FAILED
        behaviour = self.script(spec)
        if behaviour.fails_to_start is not None:
            return behaviour.fails_to_start
        self._check_room(key, spec)
        self._pids += 1
        started = TaskStarted(key, int(self._world.now * 1000), pid=self._pids)
        task = RealTask(key, spec, self.agent_id, behaviour, started)
        self.tasks[key] = task
        for volume_id in spec.volume_ids:
            self.volumes.setdefault(volume_id, []).append(key)
        self._world.note(self.agent_id, "really starts", key)
        self._truth.start(task)
        if behaviour.after_s is not None:
            self._world.after(behaviour.after_s, lambda: self.end(task, behaviour.exit_code))
        return task

    def _check_room(self, key: TaskKey, spec: TaskSpec) -> None:
        """Fail when more is used than is there: what runs, with this task, against the whole; one task per volume."""
        used = spec.resources
        for task in self.running:
            shared = set(task.spec.volume_ids) & set(spec.volume_ids)
            assert not shared, f"{key} and {task.key} use the same volumes {shared}"
            assert not _share_ports(task.spec.resources, spec.resources), f"{key} and {task.key} have the same port"
            used = used + task.spec.resources
        assert self.total.contains(used), f"{key} does not fit: {used} of {self.total} on {self.agent_id}"

    def end(self, task: RealTask, exit_code: int | None) -> None:
        """End a task, if it runs."""
        if task.ended is None:
            task.ended = TaskEnded(task.key, exit_code, int(self._world.now * 1000))
            self._world.note(self.agent_id, "really ends", (task.key, exit_code))
            if task.spec.runtime_kind not in self.dead:
                self._tell(task.ended)

    def signal(self, key: TaskKey, kind: RuntimeKind, number: int) -> None:
        """Send a signal, unless the engine is dead."""
        task = self.tasks.get(key)
        if task is None or kind in self.dead:
            return
        if number == SIGKILL or not task.behaviour.ignores_term:
            self.end(task, 128 + number)

    def found(self, kind: RuntimeKind, keys: frozenset[TaskKey]) -> tuple[FoundTask, ...]:
        """Say what became of tasks; whatever else there is of this kind is stopped and removed."""
        mine = [task for task in self.tasks.values() if task.spec.runtime_kind is kind]
        for task in mine:
            if task.key not in keys:
                self.end(task, 128 + SIGKILL)
        return tuple(FoundTask(task.started, task.ended) for task in mine if task.key in keys)

    def forget(self, key: TaskKey) -> None:
        """Remove what is left of a task that has ended."""
        task = self.tasks.get(key)
        if task is not None and task.ended is not None:
            del self.tasks[key]

    def delete_volume(self, volume_id: str) -> None:
        """Delete the data of a volume, which nobody may use."""
        users = [task.key for task in self.running if volume_id in task.spec.volume_ids]
        assert not users, f"volume {volume_id} is deleted under {users}"
        for hook in self.deleted:
            hook(volume_id)
        self.volumes.pop(volume_id, None)
        self._world.note(self.agent_id, "really deletes", volume_id)

    def reboot(self) -> None:
        """End all that runs, as a power cut does: nobody is told."""
        for task in self.running:
            task.ended = TaskEnded(task.key, None, int(self._world.now * 1000), has_host_rebooted=True)
        self.tasks.clear()


def _share_ports(left: Resources, right: Resources) -> bool:
    return any(a <= d and c <= b for a, b in left.ports for c, d in right.ports)
