"""An agent of the simulated cluster: the real core, over a simulated host, disk and network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, assert_never

from runrig.agents import AgentInfo, Launch
from runrig.tasks import RuntimeKind, TaskSpec
from runrig.testing.masters import SimulatedMaster
from runrig.testing.network import Kind, Network, Stream
from runrig.testing.runtimes import Host, RealTask, Script, TaskKey, Truth
from runrig.testing.turns import Disk, Turns
from runrig.testing.world import World
from runrig_agent.core import commands as do
from runrig_agent.core import events
from runrig_agent.core.agent import AgentCore
from runrig_agent.core.effects import merged
from runrig_agent.core.memory_checkpoint import MemoryCheckpoint
from runrig_agent.core.policy import Policy
from runrig_agent.core.task import TaskEnded

RECOVERY_TAKES = 5
"""How much longer a runtime looks for earlier tasks than it launches one."""
KINDS = (RuntimeKind.DOCKER, RuntimeKind.PROCESS)


class AgentWatcher(Protocol):
    """Sees all that an agent's core is told and answers."""

    def did(self, event: events.Event, commands: Sequence[do.Command]) -> None:
        """See an event and what the core answered."""


class SimulatedAgent:
    """An agent's process and its host. Tasks outlive the process, as they do on a real host."""

    def __init__(
        self,
        world: World,
        network: Network,
        masters: Mapping[str, SimulatedMaster],
        truth: Truth,
        info: AgentInfo,
        script: Script,
        policy: Policy,
    ) -> None:
        self.name: str = info.agent_id
        self.info = info
        self.is_frozen = False
        self.is_up = False
        self.skew_s = 0.0
        self.checkpoint = MemoryCheckpoint()
        self.disk = Disk(world, self.name)
        self.host = Host(world, truth, info.agent_id, info.resources, script, self._task_ended)
        self.stopped: do.StopAgent | None = None
        """Set when it gave up for good, as no master will have it."""
        self.launch_s = 0.0
        """The longest time that a launch takes."""
        self.watchers: list[AgentWatcher] = []
        self.died: Callable[[], None] = lambda: None
        """Called when it ends by itself: its disk failed."""
        self.core: AgentCore
        self._world = world
        self._network = network
        self._masters = masters
        self._policy = policy
        self._chance = world.chance(f"agent/{self.name}")
        self._events: list[events.Event] = []
        self._turns: Turns | None = None
        self._session = 0
        self._stream: Stream | None = None
        self._launching: list[do.LaunchTask] = []
        self._checked: set[TaskKey] = set()
        self._asked: dict[RuntimeKind, do.RecoverTasks] = {}
        self._launches: list[Launch] = []
        """All orders to launch that ever came."""

    @property
    def running(self) -> list[TaskKey]:
        """Return what really runs."""
        return [task.key for task in self.host.running]

    @property
    def now(self) -> float:
        """Return its own clock's time."""
        return self._world.now + self.skew_s

    # Faults

    def start(self, *, is_host_rebooted: bool = False) -> None:
        """Start the process with what its disk holds."""
        if self.is_up:
            return
        self.is_up = True
        self.core = AgentCore(self._policy)
        self._turns = Turns(self._world, self._turn, self._deadline)
        self._world.note(self.name, "starts")
        info = replace(self.info, runtimes=KINDS)
        self._tell(events.AgentStarted(info, self.checkpoint.saved(), is_host_rebooted))

    def kill(self) -> None:
        """Kill the process: its tasks run on, its stream breaks, what was not durable is lost."""
        if not self.is_up:
            return
        assert self._turns is not None
        self._turns.stop()
        self.is_up = self.is_frozen = False
        self._events.clear()
        self._stream = None
        self._checked.clear()
        self._asked.clear()
        self._world.note(self.name, "dies")
        self._network.client_died(self)
        self.disk.crash()
        launching, self._launching = self._launching, []
        for command in launching:
            if self._chance.random() < 0.5:
                self.host.start(command.key, command.spec)

    def restart(self) -> None:
        """Kill the process if it runs, and start it again: it finds its tasks and registers."""
        self.kill()
        self.start()

    def reboot(self) -> None:
        """Cut the host's power; `start` with `is_host_rebooted` brings it back."""
        self.kill()
        self.host.reboot()

    def freeze(self) -> None:
        """Stop the process as SIGSTOP does; its tasks run on."""
        if self.is_up and not self.is_frozen:
            assert self._turns is not None
            self.is_frozen = True
            self._turns.hold()

    def thaw(self) -> None:
        """Let the process go on."""
        if self.is_frozen:
            assert self._turns is not None
            self.is_frozen = False
            self._turns.release()
            self._network.release()

    def disconnect(self) -> None:
        """Break its stream; it comes back by itself."""
        if self._stream is not None:
            self._network.break_stream(self._stream)

    def lose_tasks(self) -> None:
        """Lose the host with all that runs on it, and the work directory, but for the agent's name."""
        self.kill()
        self.host.reboot()
        self.host.volumes.clear()
        self.checkpoint = MemoryCheckpoint()
        self.start()

    def end_task(self, key: TaskKey, exit_code: int = 0) -> None:
        """End a task now."""
        task = self.host.tasks.get(key)
        if task is not None:
            self.host.end(task, exit_code)

    def repeat_launch(self) -> None:
        """Say an order to launch again that it has carried out: maybe long ago, maybe to an earlier process."""
        saved = self.checkpoint.saved()
        known = {task.record.key for task in saved.tasks} | {stone.key for stone in saved.tombstones if stone.update}
        done = [
            each for each in self._launches if all((each.framework_id, task.task_id) in known for task in each.tasks)
        ]
        if done and self.is_up and self.core.is_registered:
            self._tell(events.OrdersReceived(self._session, self.core.epoch, (self._chance.choice(done),)))

    def engine_dies(self, kind: RuntimeKind) -> None:
        """Let a runtime stop answering; its tasks run on."""
        if kind not in self.host.dead:
            self.host.dead.add(kind)
            self._world.note(self.name, "loses its engine", kind.name)
            self._tell(events.RuntimeChanged(kind, "the engine does not answer"))

    def engine_returns(self, kind: RuntimeKind) -> None:
        """Let a runtime answer again."""
        if kind in self.host.dead:
            self.host.dead.discard(kind)
            self._world.note(self.name, "has its engine again", kind.name)
            self._tell(events.RuntimeChanged(kind, None))

    # The network

    def opened(self, stream: Stream) -> None:
        """Learn that a stream is open."""
        if stream is self._stream:
            self._tell(events.StreamOpened(self._session))

    def received(self, stream: Stream, epoch: int, items: Sequence[Any]) -> None:
        """Take an envelope."""
        if stream is self._stream:
            self._launches.extend(item for item in items if isinstance(item, Launch))
            self._tell(events.OrdersReceived(self._session, epoch, tuple(items)))

    def closed(self, stream: Stream, why: str) -> None:
        """Learn that a stream is closed."""
        if stream is self._stream:
            self._stream = None
            self._tell(events.StreamClosed(self._session, why, self._chance.random(), stream.refusal))

    # Turns

    def _tell(self, event: events.Event) -> None:
        if self.is_up:
            assert self._turns is not None
            self._events.append(event)
            self._turns.wake()

    def _deadline(self) -> float | None:
        due = self.core.next_deadline()
        return None if due is None else due - self.skew_s

    def _turn(self) -> None:
        told, self._events = self._events, []
        commands: list[do.Command] = []
        for event in told:
            commands.extend(self._handle(event))
        due = self.core.next_deadline()
        if due is not None and due <= self.now:
            commands.extend(self._handle(events.Tick()))
        self._make_durable(merged(commands))

    def _handle(self, event: events.Event) -> list[do.Command]:
        commands = self.core.handle(event, self.now)
        for watcher in self.watchers:
            watcher.did(event, commands)
        return commands

    def _make_durable(self, commands: list[do.Command]) -> None:
        turns, checkpoint = self._turns, self.checkpoint
        assert turns is not None
        if not commands or not isinstance(commands[0], do.Checkpoint):
            self._carry_out(commands)
            return
        first, rest = commands[0], commands[1:]

        def done() -> None:
            if first.is_barrier and not turns.is_over:
                self._carry_out(rest)
                turns.release()

        def failed() -> None:
            if not turns.is_over:
                self.kill()
                self.died()

        if first.is_barrier:
            turns.hold()
        self.disk.commit(lambda: checkpoint.apply(first.changes), done, failed)
        if not first.is_barrier:
            self._carry_out(rest)

    def _carry_out(self, commands: Sequence[do.Command]) -> None:
        for command in commands:
            if not self.is_up:
                return
            match command:
                case do.SendReports():
                    if self._stream is not None and command.session == self._session:
                        for report in command.reports:
                            self._network.send(self._stream, self._stream.up, report)
                case do.OpenStream():
                    self._open(command)
                case do.CloseStream():
                    if self._stream is not None and command.session == self._session:
                        self._network.close(self._stream, command.why)
                case do.PrepareTask():
                    self._soon(events.TaskPrepared(command.key))
                case do.LaunchTask():
                    self._launch(command)
                case do.SignalTask():
                    self.host.signal(command.key, command.kind, command.signal)
                case do.ForgetTask():
                    self.host.forget(command.key)
                case do.DeleteVolume(volume_id):
                    self.host.delete_volume(volume_id)
                    self._soon(events.VolumeDeleted(volume_id))
                case do.RecoverTasks():
                    self._recover(command)
                case do.StartHealthChecks():
                    self._check(command.key, command.spec)
                case do.StopHealthChecks():
                    self._checked.discard(command.key)
                case do.StopAgent():
                    self.stopped = command
                    self._world.note(self.name, "stops for good", command.why)
                    self.kill()
                case do.Checkpoint() | do.SetHeartbeat() | do.CancelPreparation() | do.AdoptTask():
                    pass
                case _:
                    assert_never(command)

    def _open(self, command: do.OpenStream) -> None:
        self._session = command.session
        self._stream = self._network.connect(Kind.AGENT, self, self._masters.get(command.master))
        if self._stream is None:
            self._tell(events.StreamClosed(command.session, "no such address", self._chance.random()))

    # What runs

    def _delay(self) -> float:
        return self.launch_s * self._chance.random() ** 3 if self.launch_s else 0.0

    def _soon(self, event: events.Event) -> None:
        turns = self._turns
        self._world.after(self._delay(), lambda: self._tell(event) if turns is self._turns else None)

    def _launch(self, command: do.LaunchTask) -> None:
        self._launching.append(command)
        self._world.after(self._delay(), lambda: self._launched(command))

    def _launched(self, command: do.LaunchTask) -> None:
        if not any(command is each for each in self._launching):
            return
        self._launching = [each for each in self._launching if each is not command]
        result = self.host.start(command.key, command.spec)
        if isinstance(result, RealTask):
            self._tell(result.started)
        else:
            self._tell(events.TaskNotStarted(command.key, result, "it could not be started"))

    def _recover(self, command: do.RecoverTasks) -> None:
        self._asked[command.kind] = command
        if self.launch_s:
            self._world.after(RECOVERY_TAKES * self._delay(), lambda: self._recovered(command))
        else:
            self._recovered(command)

    def _recovered(self, command: do.RecoverTasks) -> None:
        """Answer what became of tasks, unless the process that asked is gone, or has asked again."""
        if not self.is_up or self._asked.get(command.kind) is not command:
            return
        if command.kind in self.host.dead:
            self._tell(events.RuntimeChanged(command.kind, "the engine does not answer"))
            return
        self._tell(events.TasksFound(command.kind, self.host.found(command.kind, command.keys)))

    def _task_ended(self, ended: TaskEnded) -> None:
        self._tell(ended)

    def _check(self, key: TaskKey, spec: TaskSpec) -> None:
        self._checked.add(key)
        self._world.after(1.0, lambda: self._checked_now(key, spec))

    def _checked_now(self, key: TaskKey, spec: TaskSpec) -> None:
        task = self.host.tasks.get(key)
        if key not in self._checked or task is None or task.ended is not None:
            return
        for number in range(len(spec.health_checks)):
            self._tell(events.TaskChecked(key, number, task.behaviour.is_healthy))
        if not task.behaviour.is_healthy:
            self._world.after(1.0, lambda: self._checked_now(key, spec))
