"""A framework of the simulated cluster: the SDK's real scheduler over the author's logic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from runrig._turn import Persist
from runrig.errors import Refused
from runrig.ids import TaskId
from runrig.offers import FrameworkInfo
from runrig.raw import RawLogic, RawScheduler
from runrig.scheduler import Scheduler, SchedulerCommand, SchedulerEvent, Told, TurnEnded
from runrig.session import CloseStream, Ended, EnvelopeCame, OpenStream, Started, StreamClosed, StreamOpened, Transmit
from runrig.tasks import TaskState
from runrig.wants import Answer, Logic, TaskView

if TYPE_CHECKING:
    from runrig.testing.cluster import Cluster


class SimulatedFramework:
    """A scheduler's process: its durable entries stay when it is killed."""

    def __init__(self, cluster: Cluster, info: FrameworkInfo, logic: Logic | RawLogic) -> None:
        self.info = info
        self.logic = logic
        self.entries: dict[str, bytes] = {}
        self.answers: list[Answer] = []
        self.error: Refused | None = None
        self.scheduler: Scheduler | RawScheduler | None = None
        self._cluster = cluster
        self._starts = 0
        self._stream: int | None = None
        """The master's name for the stream that is open."""
        self._own_stream = 0
        self._pending: list[SchedulerEvent] = []
        self._is_due = False

    # Faults

    def kill(self) -> None:
        """Kill the process: what was not durable is lost."""
        if self._stream is not None:
            self._cluster.break_scheduler_stream(self._stream)
        self._stream = None
        self.scheduler = None
        self._pending.clear()

    def restart(self, logic: Logic | RawLogic | None = None) -> None:
        """Kill the process if it runs, and start it again with its durable entries, with a new `logic` if given."""
        self.kill()
        self.logic = logic if logic is not None else self.logic
        self.start()

    def disconnect(self) -> None:
        """Break its stream; it comes back by itself."""
        if self._stream is not None:
            self._cluster.break_scheduler_stream(self._stream)
            self.stream_closed(self._stream)

    def start(self) -> None:
        """Start the process."""
        self._starts += 1
        now = self._cluster.now
        if isinstance(self.logic, RawLogic):
            self.scheduler = RawScheduler(self.info, self.logic, dict(self.entries), now)
        else:
            self.scheduler = Scheduler(self.info, self.logic, dict(self.entries), now)
        self._push(Started(self._starts))

    # What an author looks at

    def tell(self, event: object) -> None:
        """Tell the logic something."""
        self._push(Told(event))

    def ask(self, question: object) -> object:
        """Tell the logic a question and return the answer, or raise it."""
        self.tell(question)
        self._cluster.settle()
        answer = next((item for item in self.answers if item.question is question), None)
        assert answer is not None, f"the logic did not answer {question}"
        self.answers.remove(answer)
        if isinstance(answer.value, Exception):
            raise answer.value
        return answer.value

    @property
    def tasks(self) -> Mapping[TaskId, TaskView]:
        """Return what the scheduler knows of the tasks that it has launched."""
        assert isinstance(self.scheduler, Scheduler)
        return {task_id: record.view() for task_id, record in self.scheduler.records.items()}

    def count(self, state: TaskState = TaskState.TASK_RUNNING) -> int:
        """Count the launched tasks in `state`."""
        return sum(view.state is state for view in self.tasks.values())

    # The cluster's side

    def heard(self, stream: int, event: EnvelopeCame) -> None:
        """Take an envelope."""
        if stream == self._stream and self.scheduler is not None:
            self._push(EnvelopeCame(self._own_stream, event.epoch, event.news))

    def stream_closed(self, stream: int) -> None:
        """Learn that the stream is gone."""
        if stream == self._stream:
            self._stream = None
            self._push(StreamClosed(self._own_stream, "the stream broke"))

    def next_deadline(self) -> float | None:
        """Return when a turn is due."""
        return self.scheduler.next_deadline() if self.scheduler is not None else None

    def turn(self) -> None:
        """Do one turn."""
        self._is_due = False
        if self.scheduler is None:
            return
        events, self._pending = self._pending, []
        commands: list[SchedulerCommand] = []
        if self._stream is not None:
            events.append(EnvelopeCame(self._own_stream, self._cluster.epoch, ()))  # the master's heartbeat
        for event in events:
            commands.extend(self.scheduler.handle(event, self._cluster.now))
        commands.extend(self.scheduler.handle(TurnEnded(), self._cluster.now))
        for command in commands:
            self._carry_out(command)

    def _push(self, event: SchedulerEvent) -> None:
        self._pending.append(event)
        if not self._is_due:
            self._is_due = True
            self._cluster.soon(self.turn)

    def _carry_out(self, command: SchedulerCommand) -> None:
        match command:
            case Persist():
                self.entries.update(command.puts)
                for key in command.deletes:
                    self.entries.pop(key, None)
            case OpenStream():
                self._open(command)
            case Transmit():
                if self._stream is not None and command.stream == self._own_stream:
                    self._cluster.scheduler_says(self._stream, command.call)
            case CloseStream():
                self.disconnect()
            case Answer():
                self.answers.append(command)
            case Ended():
                self.error = command.error
                self.kill()
            case _:
                pass

    def _open(self, command: OpenStream) -> None:
        self._own_stream = command.stream
        if self._cluster.master_is_up:
            self._stream = self._cluster.open_scheduler_stream(self)
            self._push(StreamOpened(command.stream))
        else:
            self._push(StreamClosed(command.stream, "no master answers"))
