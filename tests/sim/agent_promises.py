"""What an agent must keep to: durable before started and said, nothing killed unasked, epochs that never go back."""

from __future__ import annotations

from collections.abc import Sequence

from runrig.agents import AcknowledgeUpdate, KillTask, Launch, Order, ShutdownFramework
from runrig.ids import FrameworkId
from runrig.offers import FINAL_REFUSALS, StreamRefused
from runrig.tasks import RuntimeKind, StatusUpdate, TaskState
from runrig.testing import SimulatedAgent
from runrig.testing.runtimes import RealTask, TaskKey, Truth
from runrig_agent.core import commands as do
from runrig_agent.core import events
from runrig_agent.core.memory_checkpoint import MemoryCheckpoint
from runrig_agent.core.records import PutTombstone, SavedState


class AgentPromises:
    """Watch one agent, over all its processes."""

    def __init__(self, agent: SimulatedAgent, truth: Truth) -> None:
        self._agent = agent
        self._epochs: dict[TaskKey, int] = {}
        """In which epoch each task was ordered."""
        self._killed: set[TaskKey] = set()
        self._receipts: dict[TaskKey, int] = {}
        self._shut_down: set[FrameworkId] = set()
        self._is_refused = False
        self._asked: set[RuntimeKind] = set()
        """Runtimes that have not answered yet what became of earlier tasks."""
        agent.watchers.append(self)
        truth.started.append(self._really_started)

    def did(self, event: events.Event, commands: Sequence[do.Command]) -> None:
        """See an event and what the core answered."""
        match event:
            case events.OrdersReceived():
                for order in event.orders:
                    self._ordered(order, event.epoch)
            case events.TaskChecked():
                if not event.is_healthy:
                    self._killed.add(event.key)
            case events.AgentStarted():
                self._asked.clear()
                self._check_saved(event.saved)
            case events.TasksFound() | events.RuntimeChanged():
                self._asked.discard(event.kind)
            case events.StreamClosed():
                self._is_refused |= event.refusal is not None and event.refusal.code in FINAL_REFUSALS
            case _:
                pass
        for command in commands:
            if isinstance(command, do.SignalTask):
                task = self._agent.host.tasks.get(command.key)
                assert task is None or task.ended is not None or self._may_end(command.key), (
                    f"{self._agent.name} sends signal {command.signal} to {command.key}, and nobody asked for that"
                )
            elif isinstance(command, do.Checkpoint):
                self._check_burials(command)
            elif isinstance(command, do.LaunchTask):
                kind = command.spec.runtime_kind
                assert kind not in self._asked, f"{command.key} is launched while {kind.name} looks for earlier tasks"
            elif isinstance(command, do.RecoverTasks):
                self._asked.add(command.kind)
                self._check_recovery(command)

    def _ordered(self, order: Order, epoch: int) -> None:
        match order:
            case Launch():
                if order.is_group:  # whoever of a group ends first ends the others
                    self._killed.update((order.framework_id, task.task_id) for task in order.tasks)
                for task in order.tasks:
                    self._epochs.setdefault((order.framework_id, task.task_id), epoch)
            case AcknowledgeUpdate():
                key = (order.framework_id, order.task_id)
                self._receipts[key] = max(order.number, self._receipts.get(key, 0))
            case KillTask():
                self._killed.add((order.framework_id, order.task_id))
            case ShutdownFramework():
                self._shut_down.add(order.framework_id)
            case StreamRefused():
                self._is_refused |= order.code in FINAL_REFUSALS
            case _:
                pass

    def _may_end(self, key: TaskKey) -> bool:
        return key in self._killed or key[0] in self._shut_down or self._is_refused

    def _check_burials(self, command: do.Checkpoint) -> None:
        """Assert that only tasks whose last word was received are forgotten."""
        for change in command.changes:
            if isinstance(change, PutTombstone) and change.tombstone.update is not None:
                key, number = change.tombstone.key, change.tombstone.update.number
                is_received = self._receipts.get(key, 0) >= number or key[0] in self._shut_down
                assert is_received, f"{self._agent.name} forgets {key}, nobody has received update {number}"

    def _check_saved(self, saved: SavedState) -> None:
        """Assert that a restart forgets no kill of which somebody was told."""
        for task in saved.tasks:
            is_to_end = bool(task.updates) and task.updates[-1].state is TaskState.TASK_KILLING
            assert task.ending is not None or not is_to_end, f"the kill of {task.record.key} is forgotten at a restart"

    def _check_recovery(self, command: do.RecoverTasks) -> None:
        """Assert that a runtime is asked for all that should run on: the rest it stops."""
        for task in self._agent.host.running:
            is_named = task.key in command.keys or task.spec.runtime_kind is not command.kind
            assert is_named or self._may_end(task.key), f"{self._agent.name} does not look for {task.key}, which runs"

    def _really_started(self, task: RealTask) -> None:
        if task.agent_id != self._agent.info.agent_id:
            return
        checkpoint = self._agent.checkpoint
        assert task.key in checkpoint._tasks, f"{task.key} starts before it is written down"
        assert checkpoint._link.epoch >= self._epochs[task.key], (
            "a task starts before the epoch of its launch is durable"
        )

    def check_said(self, update: StatusUpdate) -> None:
        """Judge an update that a master has heard: a restart must not unsay it, nor give its number to another."""
        key = (update.framework_id, update.task_id)
        durable = _last_number(self._agent.checkpoint, key)
        assert update.number <= durable, f"{self._agent.name} said update {update.number} of {key} before writing it"

    def problem(self) -> str | None:
        """Return what should not be so in the end."""
        for saved in self._agent.checkpoint.saved().tasks:
            if saved.updates and saved.updates[-1].state.is_terminal:
                return f"{self._agent.name} still keeps {saved.record.key}, which has ended"
        return None


def _last_number(checkpoint: MemoryCheckpoint, key: TaskKey) -> int:
    """Return the number of the latest update of a task that is durable."""
    stone = checkpoint._tombstones.get(key)
    buried = stone.update.number if stone is not None and stone.update is not None else 0
    return max(checkpoint._updates.get(key, {}), default=buried)
