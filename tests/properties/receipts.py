"""What update streams promise, watched from outside: who said what, who kept it, and what may be acknowledged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runrig._records import TaskRecord
from runrig.agents import AcknowledgeUpdate, Registered
from runrig.ids import TaskId
from runrig.offers import Acknowledge, TasksUpdated
from runrig.scheduler import TASK_PREFIX, SchedulerEvent
from runrig.session import EnvelopeCame
from runrig.tasks import StatusUpdate, TaskState
from runrig.wants import Decision, Put, Run, TaskChanged, TaskView
from runrig_agent.core import commands as do
from runrig_agent.core import events, records
from tests.properties.relay import POLICY, Relay, wanted

DONE = "app/done/"


@dataclass
class Stream:
    """The updates of one task at its agent."""

    said: dict[int, StatusUpdate] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)
    """Said, and not acknowledged."""
    retry_at: float | None = None
    retry_s: float = 0.0


class Mind:
    """A logic that wants tasks, each until it has ended, and remembers their ends."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def restore(self, entries: Mapping[str, bytes], tasks: Mapping[TaskId, TaskView], now: float) -> list[Decision]:
        return [Run(tuple(wanted(name) for name in self._watched.names if f"done/{name}" not in entries))]

    def handle(self, event: object, now: float) -> list[Decision]:
        if isinstance(event, list):
            return event
        if not isinstance(event, TaskChanged):
            return []
        self._watched.logic_learns(event.task)
        is_over = event.task.state is not None and event.task.state.is_terminal
        return [Put(f"done/{event.task.task_id}", b"")] if is_over else []


class Watched(Relay):
    """A relay that objects to what must not be."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.streams: dict[TaskId, Stream] = {}
        self.heard: dict[TaskId, int] = {}
        """The highest number that came to the framework."""
        self.receipted: dict[TaskId, int] = {}
        """The highest number that the framework sent a receipt of."""
        self.learnt: dict[TaskId, int] = {}
        """The highest number that the framework's logic was told."""
        self.ends: dict[TaskId, TaskState] = {}
        """What the framework's logic was told as the end of a task."""
        super().__init__(lambda: Mind(self))

    # The agent

    def agent_starts(self, saved: records.SavedState) -> None:
        """Check what a crash has left: receipts may be lost, updates may not."""
        left = {
            task.record.key[1]: [update.number for update in task.updates if update.number > task.acknowledged]
            for task in saved.tasks
        }
        for task_id, stream in self.streams.items():
            numbers = left.get(task_id, [])
            assert set(stream.waiting) <= set(numbers), "a crash lost an update that nobody has received"
            stream.waiting, stream.retry_at = numbers, None

    def agent_said(self, event: events.Event, commands: list[do.Command]) -> None:
        """Check each sending of an update against when it is due."""
        before = {task_id: list(stream.waiting) for task_id, stream in self.streams.items()}
        due = self._due(event)
        self._acknowledged(event)
        fresh = self._kept(commands)
        sent = [
            (report.task_id, report.number)
            for command in commands
            if isinstance(command, do.SendReports)
            for report in command.reports
            if isinstance(report, StatusUpdate) and report.number
        ]
        if self.agent.is_registered:
            again = [(task_id, number) for task_id in due for number in before[task_id]]
            assert set(fresh) <= set(sent), "an update waits for something"
            if due or isinstance(event, events.Tick):
                assert sorted(sent) == sorted({*again, *fresh}), f"at {self.now}: too early, too late, or not all"
        for key, task in self.agent._tasks.items():
            numbers = [update.number for update in task.unacknowledged]
            assert len(numbers) <= POLICY.unacknowledged_updates
            if key[1] in self.streams:
                assert numbers == self.streams[key[1]].waiting

    def _due(self, event: events.Event) -> list[TaskId]:
        """Return of which tasks all that waits must be sent now, and set when it is due again."""
        due = []
        is_confirmed = isinstance(event, events.OrdersReceived) and any(
            isinstance(order, Registered) for order in event.orders
        )
        for task_id, stream in self.streams.items():
            if is_confirmed and stream.waiting:
                stream.retry_s = 10.0
            elif isinstance(event, events.Tick) and stream.retry_at is not None and stream.retry_at <= self.now:
                stream.retry_s = min(2 * stream.retry_s, 600.0)
            else:
                continue
            stream.retry_at = self.now + stream.retry_s
            due.append(task_id)
        return due

    def _acknowledged(self, event: events.Event) -> None:
        for order in event.orders if isinstance(event, events.OrdersReceived) else ():
            if isinstance(order, AcknowledgeUpdate):
                assert order.number <= self.receipted.get(order.task_id, 0), "nobody has sent that receipt"
                stream = self.streams[order.task_id]
                stream.waiting = [number for number in stream.waiting if number > order.number]
                stream.retry_at = stream.retry_at if stream.waiting else None

    def _kept(self, commands: list[do.Command]) -> list[tuple[TaskId, int]]:
        """Take note of what the agent writes; return the new updates."""
        fresh = []
        for change in (change for each in commands if isinstance(each, do.Checkpoint) for change in each.changes):
            if isinstance(change, records.PutUpdate):
                self._said(change.update)
                fresh.append((change.update.task_id, change.update.number))
            elif isinstance(change, records.DropUpdate):
                self.streams[change.key[1]].waiting.remove(change.number)
        return fresh

    def _said(self, update: StatusUpdate) -> None:
        stream = self.streams.setdefault(update.task_id, Stream())
        last = max(stream.said, default=0)
        assert update.number == last + 1
        assert not last or not stream.said[last].state.is_terminal, "something is said after the end"
        stream.said[update.number] = update
        stream.waiting.append(update.number)
        if stream.retry_at is None:
            stream.retry_s = 10.0
            stream.retry_at = self.now + 10.0

    # The framework

    def scheduler_hears(self, event: SchedulerEvent) -> None:
        """Remember what came."""
        for news in event.news if isinstance(event, EnvelopeCame) else ():
            for update in news.updates if isinstance(news, TasksUpdated) else ():
                self.heard[update.task_id] = max(self.heard.get(update.task_id, 0), update.number)
                if update.number:
                    assert update == self.streams[update.task_id].said[update.number], "it was changed on its way"

    def scheduler_receipts(self, call: Acknowledge) -> None:
        """Check that what is acknowledged has come, and is durable."""
        for receipt in call.acknowledgements:
            task_id, number = receipt.task_id, receipt.number
            assert number <= self.heard[task_id]
            if f"{DONE}{task_id}" not in self.entries:
                assert number <= TaskRecord.parse(self.entries[TASK_PREFIX + task_id]).number
            self.receipted[task_id] = max(number, self.receipted.get(task_id, 0))

    def logic_learns(self, view: TaskView) -> None:
        """Check that nothing goes back."""
        assert view.state is not None
        assert view.status is not None
        assert view.task_id not in self.ends, f"{self.ends[view.task_id].name} became {view.state.name}"
        if view.status.number:
            assert view.status.number > self.learnt.get(view.task_id, 0)
            self.learnt[view.task_id] = view.status.number
        if view.state.is_terminal:
            self.ends[view.task_id] = view.state
