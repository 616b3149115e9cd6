"""The core through storms: orders lost, doubled and late, crashes between any two commands, runtimes that come and go.

The world outside holds the truth: what was really started, what was really heard. When the storm is over everything
must come to rest: each task was started at most once, each has one story, and somebody has heard its end.
"""

from __future__ import annotations

import random

import pytest

from runrig.agents import Order, Register, Registered
from runrig.ids import FrameworkId
from runrig.tasks import Fetch, Reason, RuntimeKind, StatusUpdate, TaskState
from runrig_agent.core import commands as do
from runrig_agent.core import events, records
from runrig_agent.core.agent import AgentCore
from runrig_agent.core.effects import merged
from runrig_agent.core.memory_checkpoint import MemoryCheckpoint
from runrig_agent.core.task import TaskEnded, TaskKey, TaskStarted
from tests.agent.core.given import FRAMEWORK, INFO, POLICY, START, acknowledge, container, key, kill, launch, process

SEEDS = range(60)
STEPS = 400
TASKS = 40


class World:
    """Everything but the agent's core."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = START
        self.disk = MemoryCheckpoint()
        self.lazy: list[records.Change] = []
        self.session = 0
        self.inbox: list[events.Event] = []
        self.under_way: list[do.LaunchTask | do.RecoverTasks] = []
        self.started: dict[TaskKey, TaskStarted] = {}
        self.ends: dict[TaskKey, TaskEnded] = {}
        self.launches: dict[TaskKey, int] = {}
        self.heard: dict[tuple[TaskKey, int], StatusUpdate] = {}
        self.ordered: set[TaskKey] = set()
        self.is_registered = False
        self.is_stormy = True
        self.dead: set[RuntimeKind] = set()
        self.boot()

    def boot(self) -> None:
        """Start the agent with what the disk holds."""
        self.core = AgentCore(POLICY)
        self.inbox = []
        self.is_registered = False
        self.tell(events.AgentStarted(INFO, self.disk.saved()))

    def maybe(self, likelihood: float) -> bool:
        return self.is_stormy and self.chance.random() < likelihood

    def tell(self, *told: events.Event) -> None:
        """Tell a batch; carry its commands out, unless the agent dies on the way."""
        commands = [command for event in told for command in self.core.handle(event, self.now)]
        for command in merged(commands):
            if self.maybe(0.005):
                self.crash()
                return
            self.carry_out(command)

    def crash(self) -> None:
        """Kill the agent: what it did not wait for may or may not have reached the disk."""
        self.now += self.chance.random()
        if self.lazy and self.chance.random() < 0.5:
            self.disk.apply(self.lazy)
        self.lazy = []
        for command in self.under_way:
            if isinstance(command, do.LaunchTask) and self.chance.random() < 0.5:
                self.launch(command)
        self.under_way = []
        self.boot()

    def carry_out(self, command: do.Command) -> None:
        match command:
            case do.Checkpoint():
                self.lazy.extend(command.changes)
                if command.is_barrier or self.chance.random() < 0.5:
                    self.disk.apply(self.lazy)
                    self.lazy = []
            case do.OpenStream():
                assert command.session > self.session, "sessions grow"
                self.session = command.session
                self.is_registered = False
                self.inbox.append(events.StreamOpened(command.session))
            case do.CloseStream():
                self.cut("asked")
            case do.SendReports():
                if command.session == self.session and not self.maybe(0.02):
                    for report in command.reports:
                        self.hear(report)
            case do.RecoverTasks() | do.LaunchTask():
                self.under_way.append(command)
            case do.PrepareTask():
                self.inbox.append(events.TaskProgressed(command.key, Reason.FETCHING, "10 %"))
                failed = events.TaskNotStarted(command.key, Reason.FETCH_FAILED, "no such file")
                self.inbox.append(failed if self.maybe(0.1) else events.TaskPrepared(command.key))
            case do.SignalTask():
                self.signal(command)
            case _:
                pass

    def finish(self, command: do.LaunchTask | do.RecoverTasks) -> None:
        """Let a runtime do what it was told a while ago, in any order."""
        if isinstance(command, do.LaunchTask):
            self.launch(command)
        else:
            self.recover(command)

    def hear(self, report: object) -> None:
        """Be the master: check that stories are consistent, acknowledge."""
        if isinstance(report, Register):
            assert report.session == self.session
            self.is_registered = True
            self.inbox.append(events.OrdersReceived(self.session, 7, (Registered("c", 75_000, 15_000),)))
            for task in report.tasks:
                self.hear(task.status)
        if not isinstance(report, StatusUpdate) or report.number == 0:
            return
        task_key = (report.framework_id, report.task_id)
        known = self.heard.setdefault((task_key, report.number), report)
        assert known == report, "an update is always told in the same words"
        terminal = [n for (k, n), update in self.heard.items() if k == task_key and update.state.is_terminal]
        assert len(terminal) <= 1, "rule 8"
        assert not terminal or terminal[0] == max(n for k, n in self.heard if k == task_key), "nothing follows an end"
        if not self.maybe(0.2):
            self.order(acknowledge(report.number, report.task_id))

    def order(self, *orders: Order) -> None:
        """Send an envelope: it may be doubled."""
        envelope = events.OrdersReceived(self.session, 7, orders)
        self.inbox.extend([envelope] * (2 if self.maybe(0.1) else 1))

    def launch(self, command: do.LaunchTask) -> None:
        self.launches[command.key] = self.launches.get(command.key, 0) + 1
        kind = command.spec.runtime_kind
        if kind in self.dead or self.maybe(0.05):
            self.inbox.append(events.TaskNotStarted(command.key, Reason.START_FAILED, "no"))
            return
        started = TaskStarted(command.key, int(self.now * 1000), pid=1)
        self.started[command.key] = started
        if self.maybe(0.2):
            self.end(command.key, 0)  # its end overtakes its start
        self.inbox.append(started)
        if self.maybe(0.3):
            self.end(command.key, 0)

    def end(self, task_key: TaskKey, code: int | None) -> None:
        if task_key in self.started and task_key not in self.ends:
            self.ends[task_key] = TaskEnded(task_key, code, int(self.now * 1000))
            self.inbox.append(self.ends[task_key])

    def signal(self, command: do.SignalTask) -> None:
        if command.kind in self.dead:
            return
        if not self.maybe(0.3):
            self.end(command.key, 128 + command.signal)

    def recover(self, command: do.RecoverTasks) -> None:
        if command.kind in self.dead:
            self.inbox.append(events.RuntimeChanged(command.kind, "dead"))
            return
        for task_key in self.of_kind(command.kind):
            if task_key not in command.keys and task_key not in self.ends:
                assert self.core.living(task_key) is None, "what the agent has is not removed"
                self.end(task_key, 137)
        found = tuple(
            events.FoundTask(self.started[each], self.ends.get(each))
            for each in self.of_kind(command.kind)
            if each in command.keys
        )
        place = self.chance.randrange(len(self.inbox) + 1)  # others are told before what was found before them
        self.inbox.insert(max(place, self.last_start()), events.TasksFound(command.kind, found))

    def last_start(self) -> int:
        """Return the place after the last start or end that waits to be told."""
        places = [n for n, event in enumerate(self.inbox) if isinstance(event, TaskStarted | TaskEnded)]
        return places[-1] + 1 if places else 0

    def of_kind(self, kind: RuntimeKind) -> list[TaskKey]:
        return [each for each in self.started if each[1].startswith("d") == (kind is RuntimeKind.DOCKER)]

    def cut(self, why: str) -> None:
        self.is_registered = False
        self.inbox.append(events.StreamClosed(self.session, why, self.chance.random()))

    def step(self) -> None:
        """Let one thing happen."""
        self.now += self.chance.random()
        due = self.core.next_deadline()
        if due is not None and due <= self.now:
            self.tell(events.Tick())
        batch = [self.inbox.pop(0) for _ in range(min(len(self.inbox), self.chance.randrange(1, 6)))]
        if self.maybe(0.1):  # late and out of order, but never ahead of what causes it
            self.inbox.extend(event for event in batch if isinstance(event, TaskEnded))
        if batch:
            self.tell(*batch)
        while self.under_way and not self.maybe(0.5):
            self.finish(self.under_way.pop(self.chance.randrange(len(self.under_way))))
        if self.is_stormy:
            self.storm()

    def storm(self) -> None:
        chance = self.chance
        name = f"{chance.choice('pd')}{chance.randrange(TASKS)}"
        if self.is_registered and self.maybe(0.4):
            spec = (
                container(name)
                if name.startswith("d")
                else process(name, cpu_millis=1, fetch=(Fetch("file:///data/x"),) if chance.random() < 0.3 else ())
            )
            self.ordered.add(key(name))
            self.order(launch(spec))
        if self.is_registered and self.maybe(0.1):
            self.order(kill(name, chance.choice([None, 0, 500, 60_000])))
        if self.maybe(0.2):
            self.end(key(name), chance.choice([0, 0, 1, 137, None]))
        if self.maybe(0.02):
            self.cut("storm")
        if self.maybe(0.02):
            self.flip(chance.choice([RuntimeKind.DOCKER, RuntimeKind.PROCESS]))

    def flip(self, kind: RuntimeKind) -> None:
        """Let a runtime die, or come back."""
        if kind in self.dead:
            self.dead.discard(kind)
            self.inbox.append(events.RuntimeChanged(kind, None))
        else:
            self.dead.add(kind)
            self.inbox.append(events.RuntimeChanged(kind, "dead"))

    def calm(self) -> None:
        """End the storm: everything works, all tasks get killed, time passes."""
        self.is_stormy = False
        for kind in list(self.dead):
            self.flip(kind)
        self.cut("calm")
        for _ in range(2000):
            self.step()
            if self.is_registered and not self.inbox:
                if living := list(self.core.live_tasks()):
                    self.order(*(kill(task.key[1], 0) for task in living))
                elif not self.core.count_unacknowledged():
                    return
                self.now += 5.0


@pytest.mark.parametrize("seed", SEEDS)
def test_after_any_storm_everything_comes_to_rest(seed: int) -> None:
    world = World(seed)
    for _ in range(STEPS):
        world.step()
    world.calm()

    assert {each: n for each, n in world.launches.items() if n > 1} == {}, "rule 12"
    assert world.core.count_unacknowledged() == 0
    assert list(world.core.live_tasks()) == []
    assert [each for each in world.started if each not in world.ends] == [], "nothing runs that nobody knows of"
    told = {each for (each, _), update in world.heard.items() if update.state.is_terminal}
    assert set(world.started) <= told, "the end of everything that ran was heard"
    lost = [update for update in world.heard.values() if update.state is TaskState.TASK_DROPPED]
    assert [update.task_id for update in lost if (FrameworkId(FRAMEWORK), update.task_id) in world.started] == []


def test_storms_do_what_they_should() -> None:
    worlds = [World(seed) for seed in range(20)]
    for world in worlds:
        for _ in range(STEPS):
            world.step()
    reasons = {update.reason for world in worlds for update in world.heard.values()}

    assert {Reason.EXITED, Reason.KILLED_BEFORE_LAUNCH, Reason.LAUNCH_LOST, Reason.KILLED_BY_FRAMEWORK} <= reasons
    assert {Reason.STATUS_UNAVAILABLE, Reason.RUNTIME_UNAVAILABLE, Reason.FETCH_FAILED} <= reasons
