"""The agent's core: what an agent decides.

Rule 1: the state changes only in `handle`.
Rule 2: nothing here reads a clock, draws a random number or awaits; time and chance come in with the event.
Rule 3: what must survive a crash stands in a Checkpoint ahead of the commands that rely on it.
Rule 4: what is told twice, late or in another order changes nothing (rule 20 of the cluster).

Each subject has a part of its own: the link with the master, launches, starts, ends, updates, health,
runtimes, recovery, tombstones, volumes. They share the tasks, and put what they want done into one `Effects`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import assert_never

from runrig.agents import (
    AcknowledgeUpdate,
    AgentChanged,
    AgentInfo,
    DestroyAgentVolume,
    KillTask,
    Launch,
    Order,
    Register,
    Registered,
    ShutdownFramework,
    TaskNotHere,
)
from runrig.offers import RefusalCode, StreamRefused
from runrig.tasks import Reason, TaskState
from runrig_agent.core import events
from runrig_agent.core.account import Account
from runrig_agent.core.commands import Command, SendReports
from runrig_agent.core.effects import Effects
from runrig_agent.core.ends import Ends
from runrig_agent.core.health import Health
from runrig_agent.core.launches import Launches
from runrig_agent.core.link import LinkPhase, MasterLink
from runrig_agent.core.policy import Policy
from runrig_agent.core.recovery import Recovery
from runrig_agent.core.runtimes import Runtimes
from runrig_agent.core.starts import Starts
from runrig_agent.core.task import Task, TaskEnded, TaskKey, TaskStarted
from runrig_agent.core.timers import TimerKind, TimerName, Timers
from runrig_agent.core.tombstones import Tombstones
from runrig_agent.core.updates import Updates
from runrig_agent.core.volumes import Volumes


class AgentCore:
    """Decide what an agent starts, ends and says."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._info: AgentInfo | None = None
        self._tasks: dict[TaskKey, Task] = {}
        self._effects = Effects()
        self._timers = Timers()
        self._account = Account()
        self._link = MasterLink(policy, self._effects, self._timers)
        self._tombstones = Tombstones(policy, self._effects, self._timers)
        self._updates = Updates(policy, self._effects, self._timers)
        self._runtimes = Runtimes(self._effects, self._tasks)
        shared = (policy, self._effects, self._timers, self._tasks, self._updates)
        self._volumes = Volumes(policy, self._effects, self._timers, self._account)
        self._ends = Ends(*shared, self._tombstones, self._account, self._volumes)
        self._starts = Starts(*shared, self._ends, self._runtimes)
        self._health = Health(self._updates, self._ends)
        self._recovery = Recovery(self._effects, self._tasks, self._account, self._runtimes, self._starts, self._ends)
        self._launches = Launches(
            policy,
            self._effects,
            self._tasks,
            self._updates,
            self._tombstones,
            self._account,
            self._runtimes,
            self._starts,
            self._volumes,
        )

    def handle(self, event: events.Event, now: float) -> list[Command]:
        """Apply one event at time `now` (unix seconds); return what must be done, in order."""
        self._apply(event, now)
        self._stop_when_nothing_is_left()
        return self._effects.take(self._link.registered_session)

    def next_deadline(self) -> float | None:
        """Return when to send the next Tick, or None: not until something else happens."""
        return self._timers.next_deadline()

    @property
    def info(self) -> AgentInfo:
        """Return what the agent says of itself now."""
        assert self._info is not None, "AgentStarted comes first"
        return self._info

    @property
    def has_started(self) -> bool:
        """Say whether the agent knows who it is."""
        return self._info is not None

    @property
    def is_registered(self) -> bool:
        """Say whether a master has this agent."""
        return self._link.phase is LinkPhase.REGISTERED

    @property
    def master(self) -> str:
        """Return the address of the master it is, or was last, connected to."""
        return self._link.master

    @property
    def epoch(self) -> int:
        """Return the highest epoch seen."""
        return self._link.epoch

    def living(self, key: TaskKey) -> Task | None:
        """Return a task that has not ended; only to be read."""
        task = self._tasks.get(key)
        return task if task is not None and task.is_live else None

    def live_tasks(self) -> Iterator[Task]:
        """Yield the tasks that have not ended; only to be read."""
        return (task for task in self._tasks.values() if task.is_live)

    def count_states(self) -> Counter[TaskState]:
        """Count tasks by what was last said of them."""
        return Counter(task.state for task in self._tasks.values())

    def count_unacknowledged(self) -> int:
        """Count the updates that wait for an acknowledgement."""
        return sum(len(task.unacknowledged) for task in self._tasks.values())

    def _apply(self, event: events.Event, now: float) -> None:
        match event:
            case events.OrdersReceived():
                if self._link.admits(event.session, event.epoch, now):
                    for order in event.orders:
                        self._obey(order, now)
            case (
                TaskStarted()
                | TaskEnded()
                | events.TaskPrepared()
                | events.TaskProgressed()
                | events.TaskNotStarted()
                | events.TaskChecked()
            ):
                task = self._tasks.get(event.key)
                if task is not None:
                    self._task_changed(task, event, now)
            case events.Tick():
                for name in self._timers.due(now):
                    self._time_has_come(name, now)
            case events.StreamOpened(session):
                if self._link.opened(session):
                    self._register(session)
            case events.StreamClosed():
                self._link.closed(event, now)
                self._heed_refusal(now)
            case events.RuntimeChanged(kind, problem):
                self._runtimes.changed(kind, problem)
                if problem is not None:
                    self._recovery.gone_without_word(kind, now)
                self._runtimes_changed(now)
            case events.DiskChanged(problem):
                self._runtimes.disk_problem = problem
                self._runtimes_changed(now)
            case events.TasksFound():
                self._recovery.found(event, now)
                self._runtimes_changed(now)
            case events.VolumeDeleted(volume_id, problem):
                self._volumes.deleted(volume_id, problem, now)
            case events.AgentInfoChanged(info):
                self._info = replace(info, runtimes=self._runtimes.available)
                self._effects.tell(AgentChanged(self._info))
            case events.AgentStarted():
                self._start(event, now)
            case _:
                assert_never(event)

    def _start(self, event: events.AgentStarted, now: float) -> None:
        assert self._info is None, "an agent starts once"
        saved = event.saved
        self._info = replace(event.info, runtimes=())
        self._updates.agent_id = event.info.agent_id
        self._link.restore(saved.session, saved.epoch)
        self._tombstones.restore(saved.tombstones, now)
        self._recovery.restore(saved.tasks, event.is_host_rebooted)
        self._timers.set(TimerKind.RECOVERY_WAIT, now + self._policy.recovery_wait_s)
        self._runtimes.configure(event.info.runtimes)
        self._runtimes_changed(now)

    def _runtimes_changed(self, now: float) -> None:
        """Say which runtimes can be used, and register once all have been asked about earlier tasks."""
        if self.info.runtimes != self._runtimes.available:
            self._info = replace(self.info, runtimes=self._runtimes.available)
            self._effects.tell(AgentChanged(self._info))
        if self._link.phase is LinkPhase.IDLE and self._runtimes.have_answered:
            self._timers.cancel(TimerKind.RECOVERY_WAIT)
            self._link.open(now)

    def _register(self, session: int) -> None:
        tasks = tuple(self._updates.report(task) for task in self._tasks.values())
        register = Register(self.info, session, self._link.epoch, tasks)
        self._effects.do(SendReports(session, (register,)))

    def _obey(self, order: Order, now: float) -> None:
        match order:
            case Launch():
                self._launches.launch(order, self.info, now)
            case AcknowledgeUpdate():
                self._acknowledged(order, now)
            case KillTask():
                self._kill(order, now)
            case Registered():
                if self._link.registered(order, now):
                    for task in self._tasks.values():
                        self._updates.resume(task, now)
            case ShutdownFramework(framework_id):
                for task in [task for task in self._tasks.values() if task.key[0] == framework_id]:
                    self._ends.forget(task, now)
            case DestroyAgentVolume(volume_id):
                self._volumes.destroy(volume_id)
            case StreamRefused():
                self._link.refused(order)
                self._heed_refusal(now)
            case _:
                assert_never(order)

    def _kill(self, order: KillTask, now: float) -> None:
        key = (order.framework_id, order.task_id)
        task = self._tasks.get(key)
        if task is not None:
            self._ends.kill(task, order.grace_ms, order.reason, now)
        elif (last := self._tombstones.last_update(key)) is not None:
            self._effects.tell(last)
        else:
            if not self._tombstones.was_killed(key):
                self._tombstones.bury(key, None, now)
            self._effects.tell(TaskNotHere(*key))

    def _acknowledged(self, order: AcknowledgeUpdate, now: float) -> None:
        key = (order.framework_id, order.task_id)
        task = self._tasks.get(key)
        if task is not None:
            self._ends.acknowledged(task, order.number, now)
        elif self._tombstones.last_update(key) is None:
            self._effects.tell(TaskNotHere(*key))

    def _task_changed(
        self,
        task: Task,
        event: TaskStarted
        | TaskEnded
        | events.TaskPrepared
        | events.TaskProgressed
        | events.TaskNotStarted
        | events.TaskChecked,
        now: float,
    ) -> None:
        match event:
            case TaskStarted():
                self._starts.started(task, event, now)
            case TaskEnded():
                self._starts.ended(task, event, now)
            case events.TaskPrepared():
                self._starts.prepared(task)
            case events.TaskProgressed(_, reason, message):
                self._starts.progressed(task, reason, message, now)
            case events.TaskNotStarted(_, reason, message):
                self._starts.not_started(task, reason, message, now)
            case events.TaskChecked():
                self._health.checked(task, event, now)
            case _:
                assert_never(event)

    def _time_has_come(self, name: TimerName, now: float) -> None:
        kind, key = name
        match kind:
            case TimerKind.RECONNECT:
                self._link.open(now)
            case TimerKind.SILENCE:
                self._link.check_silence(now)
            case TimerKind.RECOVERY_WAIT:
                if self._link.phase is LinkPhase.IDLE:
                    self._link.open(now)
            case TimerKind.TOMBSTONES:
                self._tombstones.drop_old(now)
            case TimerKind.VOLUMES:
                self._volumes.retry()
            case TimerKind.RETRY_UPDATES | TimerKind.PROGRESS | TimerKind.MAX_RUN | TimerKind.KILL:
                task = self._tasks.get(key)
                if task is not None:
                    self._time_of_task(kind, task, now)
            case _:
                assert_never(kind)

    def _time_of_task(self, kind: TimerKind, task: Task, now: float) -> None:
        if kind is TimerKind.RETRY_UPDATES:
            self._updates.retry(task, now)
        elif kind is TimerKind.PROGRESS:
            self._starts.tell_progress(task, now)
        elif kind is TimerKind.MAX_RUN and task.is_live:
            message = f"it ran for more than its {task.spec.max_run_ms / 1000:g} s"
            self._ends.end(task, TaskState.TASK_FAILED, Reason.MAX_RUN_TIME, message, now)
        elif kind is TimerKind.KILL and task.is_live:
            self._ends.signal_kill(task, now)

    def _heed_refusal(self, now: float) -> None:
        """End all tasks when the agent was marked gone: they have been given up, and may run elsewhere."""
        stop = self._link.stop
        if stop is not None and stop.code in (RefusalCode.GONE, RefusalCode.REMOVED):
            for task in list(self._tasks.values()):
                if task.is_live:
                    self._ends.kill(task, None, Reason.AGENT_GONE, now)

    def _stop_when_nothing_is_left(self) -> None:
        stop = self._link.stop
        if stop is None:
            return
        is_gone = stop.code in (RefusalCode.GONE, RefusalCode.REMOVED)
        if not (is_gone and any(task.is_live for task in self._tasks.values())):
            self._link.stop = None
            self._effects.do(stop)
