"""The frameworks that measure, on the SDK's raw level: what an author can do, no short cuts."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from runrig import (
    Accept,
    Command,
    Decline,
    Filter,
    Framework,
    LaunchGroup,
    LaunchTasks,
    Offer,
    OffersMade,
    RawDecision,
    RawLogic,
    Resources,
    StatusUpdate,
    TaskId,
    TaskSpec,
    TaskState,
    TasksUpdated,
)

TASK = Resources(cpu_millis=1000, mem_mib=64)
AT_ONCE = Filter(refuse_ms=0)


def launch(offers: Iterable[Offer], task_ids: Iterable[str]) -> LaunchGroup:
    """Launch small tasks on offers of one agent."""
    offers = tuple(offers)
    tasks = tuple(TaskSpec(TaskId(task_id), TASK, command=Command(argv=("true",))) for task_id in task_ids)
    return LaunchGroup(offers[0].agent_id, tuple(offer.offer_id for offer in offers), (LaunchTasks(tasks),))


class Measuring(RawLogic):
    """A logic that begins once it holds offers of `agents` agents, and is done at some time."""

    is_done = False

    def __init__(self, agents: int) -> None:
        self._agents_awaited = agents
        self._has_begun = False
        self.held: dict[str, list[Offer]] = {}
        """Offers that are held, by agent."""

    def restore_raw(self, entries: Mapping[str, bytes], now: float) -> list[RawDecision]:
        return []

    def hear(self, event: object, now: float) -> list[RawDecision]:
        match event:
            case OffersMade():
                for offer in event.offers:
                    self.held.setdefault(offer.agent_id, []).append(offer)
                if not self._has_begun and len(self.held) == self._agents_awaited:
                    self._has_begun = True
                    return self.begin()
                return self.offered(event.offers) if self._has_begun else []
            case TasksUpdated():
                return [decision for update in event.updates for decision in self.updated(update)]
            case _:
                return []

    def begin(self) -> list[RawDecision]:
        raise NotImplementedError

    def offered(self, offers: tuple[Offer, ...]) -> list[RawDecision]:
        return []

    def updated(self, update: StatusUpdate) -> list[RawDecision]:
        return []


class OneAtATime(Measuring):
    """Launch a task, wait for its end, launch the next on another agent; clock each from Accept to RUNNING."""

    def __init__(self, agents: int, tasks: int) -> None:
        super().__init__(agents)
        self.seconds: list[float] = []
        self._tasks = tasks
        self._launched_at = 0.0

    def begin(self) -> list[RawDecision]:
        return self._next()

    def _next(self) -> list[RawDecision]:
        agent_id = next(iter(self.held))
        offers = self.held.pop(agent_id)
        self._launched_at = time.perf_counter()
        return [Accept((launch(offers, [f"one-{len(self.seconds)}"]),), filter=AT_ONCE)]

    def updated(self, update: StatusUpdate) -> list[RawDecision]:
        if update.state is TaskState.TASK_RUNNING:
            self.seconds.append(time.perf_counter() - self._launched_at)
            return []
        _expect_finished(update)
        self.is_done = len(self.seconds) == self._tasks
        return [] if self.is_done else self._next()


class Declining(Measuring):
    """Decline an offer for no time at all and clock when the agent is offered again; then the next agent's."""

    def __init__(self, agents: int, times: int) -> None:
        super().__init__(agents)
        self.seconds: list[float] = []
        self._times = times
        self._declined_at = 0.0
        self._agent_id = ""

    def begin(self) -> list[RawDecision]:
        self._agent_id = next(iter(self.held))
        offers = self.held.pop(self._agent_id)
        self._declined_at = time.perf_counter()
        return [Decline(tuple(offer.offer_id for offer in offers), AT_ONCE)]

    def offered(self, offers: tuple[Offer, ...]) -> list[RawDecision]:
        if self._agent_id not in self.held:
            return []
        self.seconds.append(time.perf_counter() - self._declined_at)
        self.is_done = len(self.seconds) == self._times
        return [] if self.is_done else self.begin()


class Saturating(Measuring):
    """Keep `window` tasks in flight, `group` of them on one agent with each Accept, until `tasks` have ended."""

    def __init__(self, agents: int, tasks: int, group: int, window: int, began: Callable[[], None]) -> None:
        super().__init__(agents)
        self.finished = 0
        self._tasks = tasks
        self._group = group
        self._window = window
        self._began = began
        self._launched = 0
        self._need = group * TASK.cpu_millis
        self._ready: deque[str] = deque()
        """Agents whose offers may hold a whole group, the one that was used longest ago first."""

    def begin(self) -> list[RawDecision]:
        self._began()
        self._ready.extend(self.held)
        return self._fill()

    def offered(self, offers: tuple[Offer, ...]) -> list[RawDecision]:
        self._ready.extend(offer.agent_id for offer in offers)
        return self._fill()

    def _fill(self) -> list[RawDecision]:
        calls: list[RawDecision] = []
        while self._ready and self._launched < self._tasks and self._launched - self.finished < self._window:
            agent_id = self._ready.popleft()
            offers = self.held.get(agent_id, [])
            if sum(offer.resources.cpu_millis for offer in offers) >= self._need:
                del self.held[agent_id]
                names = [f"many-{number}" for number in range(self._launched, self._launched + self._group)]
                self._launched += self._group
                calls.append(Accept((launch(offers, names),), filter=AT_ONCE))
        return calls

    def updated(self, update: StatusUpdate) -> list[RawDecision]:
        if update.state is TaskState.TASK_RUNNING:
            return []
        _expect_finished(update)
        self.finished += 1
        self.is_done = self.finished >= self._tasks
        return []


@dataclass(frozen=True, slots=True)
class Launched:
    """How long a task took, from its Accept: until RUNNING came, until FINISHED came."""

    running_s: float
    finished_s: float


class Asked(RawLogic):
    """Launch the tasks that are asked for, each when an offer fits it."""

    def __init__(self) -> None:
        self.agent_ids: set[str] = set()
        self._offers: list[Offer] = []
        self._waiting: deque[TaskSpec] = deque()
        self._launched_at: dict[str, float] = {}
        self._running_at: dict[str, float] = {}
        self._ends: dict[str, asyncio.Future[Launched]] = {}

    def expect(self, task_id: str) -> asyncio.Future[Launched]:
        """Return what will be known when a task has ended."""
        self._ends[task_id] = asyncio.get_running_loop().create_future()
        return self._ends[task_id]

    def restore_raw(self, entries: Mapping[str, bytes], now: float) -> list[RawDecision]:
        return []

    def hear(self, event: object, now: float) -> list[RawDecision]:
        match event:
            case OffersMade():
                self._offers.extend(event.offers)
                self.agent_ids.update(offer.agent_id for offer in event.offers)
            case TaskSpec():
                self._waiting.append(event)
            case TasksUpdated():
                for update in event.updates:
                    self._learn(update)
            case _:
                pass
        return self._place()

    def _place(self) -> list[RawDecision]:
        calls: list[RawDecision] = []
        while self._waiting and self._offers:
            spec = self._waiting[0]
            offer = next((item for item in self._offers if item.resources.contains(spec.resources)), None)
            if offer is None:
                break
            self._waiting.popleft()
            self._offers.remove(offer)
            self._launched_at[spec.task_id] = time.perf_counter()
            group = LaunchGroup(offer.agent_id, (offer.offer_id,), (LaunchTasks((spec,)),))
            calls.append(Accept((group,), filter=AT_ONCE))
        return calls

    def _learn(self, update: StatusUpdate) -> None:
        now = time.perf_counter()
        if update.state is TaskState.TASK_RUNNING:
            self._running_at[update.task_id] = now
        elif update.state.is_terminal:
            _expect_finished(update)
            began = self._launched_at[update.task_id]
            running_at = self._running_at.get(update.task_id, now)
            self._ends[update.task_id].set_result(Launched(running_at - began, now - began))


def _expect_finished(update: StatusUpdate) -> None:
    if update.state is not TaskState.TASK_FINISHED:
        raise RuntimeError(f"{update.task_id} is {update.state.name}: {update.message}")


async def measured(logic: Measuring, master: str, timeout_s: float) -> None:
    """Run a framework with `logic` until it is done; raise TimeoutError after `timeout_s`."""
    framework = Framework(type(logic).__name__, logic, master=master)
    await asyncio.wait_for(framework.run(until=lambda: logic.is_done), timeout_s)
