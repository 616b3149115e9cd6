"""Orders to launch: each id starts at most once, whatever arrives twice, late or after its kill.

Rules 4, 12 and 13.
"""

from __future__ import annotations

from runrig.agents import AgentInfo, Launch
from runrig.ids import TaskId
from runrig.offers import LaunchableTask
from runrig.tasks import Reason, TaskSpec, TaskState, Volume
from runrig_agent.core.account import Account
from runrig_agent.core.admission import LaunchRefused, UnreadableTask, launch_problem
from runrig_agent.core.effects import Effects
from runrig_agent.core.policy import Policy
from runrig_agent.core.records import PutTask, TaskRecord
from runrig_agent.core.runtimes import Runtimes
from runrig_agent.core.starts import Starts
from runrig_agent.core.task import Phase, Task, TaskKey
from runrig_agent.core.tombstones import Tombstones
from runrig_agent.core.updates import Updates
from runrig_agent.core.volumes import Volumes

_KILLED_FIRST = LaunchRefused(TaskState.TASK_KILLED, Reason.KILLED_BEFORE_LAUNCH, "its kill arrived before its launch")
_REST = TaskId("")
"""Stands for all members of a group that have no verdict of their own."""


class Launches:
    """Take tasks in."""

    def __init__(
        self,
        policy: Policy,
        effects: Effects,
        tasks: dict[TaskKey, Task],
        updates: Updates,
        tombstones: Tombstones,
        account: Account,
        runtimes: Runtimes,
        starts: Starts,
        volumes: Volumes,
    ) -> None:
        self._policy = policy
        self._effects = effects
        self._tasks = tasks
        self._updates = updates
        self._tombstones = tombstones
        self._account = account
        self._runtimes = runtimes
        self._starts = starts
        self._volumes = volumes

    def launch(self, order: Launch, info: AgentInfo, now: float) -> None:
        """Start the tasks that are new; answer for those that are not with their state (rule 12)."""
        if order.is_group:
            self._launch_group(order, info, now)
            return
        for launchable in order.tasks:
            if self._answer_known((order.framework_id, launchable.task_id)):
                continue
            spec, unreadable = _read(launchable)
            problem = unreadable or self._problem(order, spec, info)
            task = self._take_in(order, spec, (), now)
            if problem is not None:
                self._refuse(task, problem, now)
            else:
                self._account.take(spec)
                self._starts.begin(task)

    def _launch_group(self, order: Launch, info: AgentInfo, now: float) -> None:
        """Start all members, or none: then each says which of them was the reason (rule 4)."""
        members = {task.task_id: _read(task) for task in order.tasks}
        specs = {task_id: spec for task_id, (spec, _) in members.items()}
        unreadable = {task_id: problem for task_id, (_, problem) in members.items() if problem is not None}
        new = [spec for spec in specs.values() if not self._answer_known((order.framework_id, spec.task_id))]
        refused = self._group_problem(order, new, unreadable, info, len(specs))
        if refused is not None:
            for spec in new:
                self._refuse(self._take_in(order, spec, (), now), refused.get(spec.task_id, refused[_REST]), now)
            return
        tasks = [self._take_in(order, spec, tuple(specs), now) for spec in new]
        for task in tasks:
            self._account.take(task.spec)
        for task in tasks:
            self._starts.begin(task)

    def _group_problem(
        self,
        order: Launch,
        new: list[TaskSpec],
        unreadable: dict[TaskId, LaunchRefused],
        info: AgentInfo,
        size: int,
    ) -> dict[TaskId, LaunchRefused] | None:
        """Return why the group must not start: of the member that is the reason, and of the rest."""
        if new and len(new) < size:
            message = "another task of its group was launched before; launch all of them again with new ids"
            return {_REST: LaunchRefused(TaskState.TASK_ERROR, Reason.TASK_GROUP_REFUSED, message)}
        if any(self._tombstones.was_killed((order.framework_id, spec.task_id)) for spec in new):
            return {_REST: _KILLED_FIRST}
        taken: list[TaskSpec] = []
        problem = None
        for spec in new:
            problem = unreadable.get(spec.task_id) or self._problem(order, spec, info)
            if problem is not None:
                break
            self._account.take(spec)
            taken.append(spec)
        for spec in taken:
            self._account.release(spec)
        if problem is None:
            return None
        culprit = new[len(taken)].task_id
        message = f"task {culprit} of its group was refused: {problem.message}"
        return {culprit: problem, _REST: LaunchRefused(problem.state, Reason.TASK_GROUP_REFUSED, message)}

    def _problem(self, order: Launch, spec: TaskSpec, info: AgentInfo) -> LaunchRefused | None:
        if self._tombstones.was_killed((order.framework_id, spec.task_id)):
            return _KILLED_FIRST
        problem = launch_problem(
            spec,
            info.resources,
            self._account,
            self._runtimes.problems_of_launch,
            self._runtimes.disk_problem,
            self._policy.allowed_volumes,
        )
        return problem or self._volumes.problem(spec)

    def _answer_known(self, key: TaskKey) -> bool:
        """Answer for an id that has been seen; say whether it has."""
        task = self._tasks.get(key)
        if task is not None:
            self._updates.answer(task)
            return True
        ended = self._tombstones.last_update(key)
        if ended is not None:
            self._effects.tell(ended)
            return True
        return False

    def _take_in(self, order: Launch, spec: TaskSpec, group: tuple[TaskId, ...], now: float) -> Task:
        """Write a task down before anything of it is started or said."""
        key = (order.framework_id, spec.task_id)
        if self._tombstones.was_killed(key):
            self._tombstones.unearth(key)
        task = Task(key, spec, order.framework_name, order.role, group, now)
        self._tasks[key] = task
        self._effects.keep(PutTask(TaskRecord(key, order.framework_name, order.role, spec, group, now)))
        return task

    def _refuse(self, task: Task, refused: LaunchRefused, now: float) -> None:
        task.phase = Phase.ENDED
        self._updates.add(task, refused.state, refused.reason, now, refused.message)


def _read(task: LaunchableTask) -> tuple[TaskSpec, LaunchRefused | None]:
    """Return a task in full; of one that cannot be read, what is known of it, and why it must not start."""
    if isinstance(task, UnreadableTask):
        volumes = tuple(Volume("", "", volume_id=volume_id) for volume_id in task.volume_ids)
        known = TaskSpec(task.task_id, task.resources, task.name, task.labels, volumes=volumes, terms=task.terms)
        return known, LaunchRefused(TaskState.TASK_ERROR, Reason.INVALID_TASK, task.problem)
    assert isinstance(task, TaskSpec), f"{type(task)}: on an agent every task is read in full"
    return task, None
