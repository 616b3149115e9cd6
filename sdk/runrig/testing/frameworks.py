"""A framework of the simulated cluster: the SDK's real scheduler over the author's logic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runrig._records import TaskRecord
from runrig._turn import Persist
from runrig.errors import Refused
from runrig.ids import TaskId
from runrig.offers import Call, FrameworkInfo, News
from runrig.raw import RawScheduler
from runrig.scheduler import Scheduler, SchedulerCommand, SchedulerEvent, SchedulerSettings, Told, TurnEnded
from runrig.session import CloseStream, Ended, EnvelopeCame, OpenStream, Started, StreamClosed, StreamOpened, Transmit
from runrig.tasks import TaskState
from runrig.testing.masters import SimulatedMaster
from runrig.testing.network import Kind, Network, Stream
from runrig.testing.recording import AnyLogic, Recording, Step, scheduler_of
from runrig.testing.steps_grpc import Begun, ToJson
from runrig.testing.turns import Disk, Turns
from runrig.testing.world import World
from runrig.wants import Answer, TaskView


class SimulatedFramework:
    """A scheduler's process: its durable entries stay when it is killed."""

    def __init__(
        self,
        world: World,
        network: Network,
        masters: Mapping[str, SimulatedMaster],
        info: FrameworkInfo,
        make: Callable[[], AnyLogic],
        settings: SchedulerSettings = SchedulerSettings(),
    ) -> None:
        self.name = info.framework_id or info.name
        self.info = info
        self.make = make
        """Makes the logic of a new process."""
        self.logic: AnyLogic
        self.entries: dict[str, bytes] = {}
        self.disk = Disk(world, self.name)
        self.error: Refused | None = None
        """Set when no master will have it again."""
        self.scheduler: Scheduler | RawScheduler | None = None
        self.is_frozen = False
        self.skew_s = 0.0
        self.died: Callable[[], None] = lambda: None
        """Called when it ends by itself: its store failed."""
        self.heard: list[Callable[[News], None]] = []
        """Called with all news that reaches it, before its scheduler is told."""
        self.said: list[Callable[[Call], None]] = []
        """Called with all calls that it sends, as it sends them."""
        self.steps: list[Step] = []
        """All that its schedulers were told and answered; `recording` writes it down."""
        self._world = world
        self._network = network
        self._masters = masters
        self._settings = settings
        self._chance = world.chance(f"framework/{self.name}")
        self._starts = 0
        self._turns: Turns | None = None
        self._events: list[SchedulerEvent] = []
        self._stream: Stream | None = None
        self._number = 0
        """The scheduler's own name for its stream."""
        self._address = 0
        self._questions: dict[int, tuple[object, Callable[[Any], None]]] = {}

    @property
    def is_up(self) -> bool:
        """Say whether its process runs."""
        return self.scheduler is not None

    @property
    def now(self) -> float:
        """Return its own clock's time."""
        return self._world.now + self.skew_s

    # Faults

    def start(self) -> None:
        """Start the process with what its store holds."""
        if self.scheduler is not None:
            return
        self._starts += 1
        self.logic = self.make()
        begun = Begun(self.info, dict(sorted(self.entries.items())), self._settings)
        self.steps.append(Step(self.now, begun, ()))
        self.scheduler = scheduler_of(begun, self.logic, self.now)
        self._turns = Turns(self._world, self._turn, self._deadline)
        self._world.note(self.name, "starts")
        self._push(Started(self._starts))

    def kill(self) -> None:
        """Kill the process: what was not durable is lost."""
        if self.scheduler is None:
            return
        assert self._turns is not None
        self._turns.stop()
        self.scheduler = None
        self.is_frozen = False
        self._stream = None
        self._events.clear()
        self._questions.clear()
        self._world.note(self.name, "dies")
        self._network.client_died(self)
        self.disk.crash()

    def restart(self, logic: AnyLogic | None = None) -> None:
        """Kill the process if it runs, and start it again with its durable entries, with a new `logic` if given."""
        self.kill()
        if logic is not None:
            self.make = lambda: logic
        self.start()

    def disconnect(self) -> None:
        """Break its stream; it comes back by itself."""
        if self._stream is not None:
            self._network.break_stream(self._stream)

    def freeze(self) -> None:
        """Stop the process as SIGSTOP does."""
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

    # What an author does and looks at

    def tell(self, event: object) -> None:
        """Tell the logic something."""
        self._push(Told(event))

    def ask_later(self, question: object, answered: Callable[[Any], None]) -> None:
        """Tell the logic a question; `answered` is given the answer, unless the process dies before."""
        if self.scheduler is not None:
            self._questions[id(question)] = (question, answered)
            self.tell(question)

    def ask(self, question: object) -> object:
        """Tell the logic a question and return the answer, or raise it. Time passes only if its disk takes some."""
        answers: list[Any] = []
        self.ask_later(question, answers.append)
        while not answers:
            assert self.scheduler is not None, f"{self.name} is dead and cannot answer"
            assert self._world.next_due is not None, f"the logic did not answer {question}"
            assert self._world.next_due <= self._world.now + 60.0, f"the logic did not answer {question}"
            self._world.step()
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    def recording(self, to_json: ToJson | None = None) -> Recording:
        """Return all that its schedulers were told and answered so far, process after process.

        `to_json` makes plain JSON of what is the author's own: events that `tell` and `ask` were given and answers, if
        they are not plain JSON already. Raises InvalidInput when it is needed and missing.
        """
        return Recording.of(self.steps, to_json)

    @property
    def tasks(self) -> Mapping[TaskId, TaskView]:
        """Return what the scheduler knows of the tasks that it has launched."""
        return {task_id: record.view() for task_id, record in self._records.items()}

    def count(self, state: TaskState = TaskState.TASK_RUNNING) -> int:
        """Count the launched tasks in `state`."""
        statuses = (record.status for record in self._records.values())  # no views: `always` asks after each step
        return sum((TaskState.TASK_STAGING if status is None else status.state) is state for status in statuses)

    @property
    def _records(self) -> Mapping[TaskId, TaskRecord]:
        assert self.scheduler is not None, f"{self.name} is dead and knows nothing"
        assert isinstance(self.scheduler, Scheduler), f"{self.name} handles offers itself: see `running` of the cluster"
        return self.scheduler.records

    # The network

    def opened(self, stream: Stream) -> None:
        """Learn that a stream is open."""
        if stream is self._stream:
            self._push(StreamOpened(self._number))

    def received(self, stream: Stream, epoch: int, items: Sequence[Any]) -> None:
        """Take an envelope."""
        if stream is self._stream:
            for hook in self.heard:
                for item in items:
                    hook(item)
            self._push(EnvelopeCame(self._number, epoch, tuple(items)))

    def closed(self, stream: Stream, why: str) -> None:
        """Learn that a stream is closed."""
        if stream is self._stream:
            self._stream = None
            self._push(StreamClosed(self._number, why, self._chance.random()))

    # Turns

    def _push(self, event: SchedulerEvent) -> None:
        if self.scheduler is not None:
            assert self._turns is not None
            self._events.append(event)
            self._turns.wake()

    def _deadline(self) -> float | None:
        due = self.scheduler.next_deadline() if self.scheduler is not None else None
        return None if due is None else due - self.skew_s

    def _turn(self) -> None:
        assert self.scheduler is not None
        events, self._events = self._events, []
        commands: list[SchedulerCommand] = []
        for event in (*events, TurnEnded()):
            answer: list[SchedulerCommand] = []
            self.steps.append(Step(self.now, event, answer))  # before it is told: the last step may be what it fails at
            answer.extend(self.scheduler.handle(event, self.now))
            commands.extend(answer)
        self._carry_out(commands)

    def _carry_out(self, commands: list[SchedulerCommand]) -> None:
        """Carry out commands in order; what stands behind a `Persist` waits until that is durable."""
        for place, command in enumerate(commands):
            if self.scheduler is None:
                return
            if isinstance(command, Persist):
                self._make_durable(command, commands[place + 1 :])
                return
            self._do(command)

    def _make_durable(self, command: Persist, rest: list[SchedulerCommand]) -> None:
        turns = self._turns
        assert turns is not None

        def write() -> None:
            self.entries.update(command.puts)
            for key in command.deletes:
                self.entries.pop(key, None)

        def done() -> None:
            if not turns.is_over:
                self._carry_out(rest)
                turns.release()

        def failed() -> None:
            if not turns.is_over:
                self.kill()
                self.died()

        turns.hold()
        self.disk.commit(write, done, failed)

    def _do(self, command: SchedulerCommand) -> None:
        match command:
            case Transmit():
                if self._stream is not None and command.stream == self._number:
                    for hook in self.said:
                        hook(command.call)
                    self._network.send(self._stream, self._stream.up, command.call)
            case OpenStream():
                self._open(command)
            case CloseStream():
                if self._stream is not None and command.stream == self._number:
                    self._network.close(self._stream, command.why)
            case Answer():
                _, answered = self._questions.pop(id(command.question), (None, None))
                if answered is not None:
                    answered(command.value)
            case Ended():
                self.error = command.error
                self.kill()
            case _:
                pass

    def _open(self, command: OpenStream) -> None:
        names = list(self._masters)
        address = command.leader or names[self._address % len(names)]
        if not command.leader:
            self._address += 1
        self._number = command.stream
        self._stream = self._network.connect(Kind.SCHEDULER, self, self._masters.get(address))
        if self._stream is None:
            self._push(StreamClosed(command.stream, "no such address", self._chance.random()))
