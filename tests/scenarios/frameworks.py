"""Frameworks of the scenarios: some hold or decline what they are offered, others want tasks, now or wave by wave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from runrig import (
    Accept,
    Decision,
    Decline,
    Filter,
    InverseOffer,
    InverseOffersMade,
    LaunchGroup,
    LaunchTasks,
    Offer,
    OffersMade,
    OffersRescinded,
    RawDecision,
    Resources,
    Run,
    StatusUpdate,
    Stop,
    Subscribed,
    TaskChanged,
    TasksUpdated,
    TaskView,
    UpdateDemand,
    WakeAt,
    Want,
)
from runrig.demand import Demand
from runrig.ids import OfferId, Role, TaskId
from runrig.tasks import Command, TaskSpec, TaskState
from runrig.testing import Cluster


class Raw:
    """A framework on raw offers, which by itself holds what it is offered; what it is told is kept for the test."""

    uses_demand = False

    def __init__(self, name: str = "raw") -> None:
        self.name = name
        self.held: dict[OfferId, Offer] = {}
        self.offered: list[Offer] = []
        """All offers that it was ever made."""
        self.rescinded: list[OffersRescinded] = []
        self.updates: list[StatusUpdate] = []
        self.asked_back: list[InverseOffer] = []
        self._number = 0

    def restore_raw(self, entries: Mapping[str, bytes], now: float) -> list[RawDecision]:
        """Have nothing to take up: no scenario restarts one."""
        return []

    def hear(self, event: object, now: float) -> list[RawDecision]:
        """Keep account of offers; say what a test has it say."""
        match event:
            case OffersMade(offers):
                self.offered += offers
                self.held.update((offer.offer_id, offer) for offer in offers)
                return self.answer(offers, now)
            case OffersRescinded():
                self.rescinded.append(event)
                for offer_id in event.offer_ids:
                    self.held.pop(offer_id, None)
            case TasksUpdated(updates):
                self.updates += updates
            case InverseOffersMade(asked):
                self.asked_back += asked
            case Subscribed():
                return self.subscribed()
            case list():
                return self.say(event)
            case _:
                pass
        return []

    def subscribed(self) -> list[RawDecision]:
        """Say what is to be said after each subscription."""
        return []

    def answer(self, offers: Sequence[Offer], now: float) -> list[RawDecision]:
        """Say what is to be said to new offers."""
        return []

    def say(self, calls: list[RawDecision]) -> list[RawDecision]:
        """Say what the test says; offers that it names are answered."""
        for call in calls:
            named = [id_ for group in call.groups for id_ in group.offer_ids] if isinstance(call, Accept) else []
            for offer_id in [*named, *(call.offer_ids if isinstance(call, Decline) else ())]:
                self.held.pop(offer_id, None)
        return calls

    def states(self) -> dict[str, str]:
        """Return the last state and reason that it heard of each task."""
        return {update.task_id: f"{update.state.name} {update.reason.name}" for update in self.updates}

    def task(self, resources: str) -> TaskSpec:
        """Return a fresh task."""
        self._number += 1
        return spec(f"{self.name}-{self._number}", resources)


class Decliner(Raw):
    """A framework that looks at each offer for `thinks_s` and then declines it."""

    def __init__(self, name: str, thinks_s: float = 0.0, refuse_ms: int = 5_000) -> None:
        super().__init__(name)
        self._thinks_s = thinks_s
        self._filter = Filter(refuse_ms, "just looking")
        self._due: list[tuple[float, tuple[OfferId, ...]]] = []

    def answer(self, offers: Sequence[Offer], now: float) -> list[RawDecision]:
        """Decline at once, or after some thought."""
        offer_ids = tuple(offer.offer_id for offer in offers)
        if not self._thinks_s:
            return [Decline(offer_ids, self._filter)]
        self._due.append((now + self._thinks_s, offer_ids))
        return [WakeAt(self._due[0][0])]

    def hear(self, event: object, now: float) -> list[RawDecision]:
        """Decline what has been looked at for long enough."""
        said = super().hear(event, now)
        while self._due and self._due[0][0] <= now:
            said.append(Decline(self._due.pop(0)[1], self._filter))
        return [*said, *([WakeAt(self._due[0][0])] if self._due else [])]


class Eager(Raw):
    """A framework on raw offers that runs one task in each offer that holds it."""

    def __init__(self, name: str, resources: str, most: int) -> None:
        super().__init__(name)
        self._resources = resources
        self._left = most

    def answer(self, offers: Sequence[Offer], now: float) -> list[RawDecision]:
        """Launch in each offer as long as something is wanted."""
        said: list[RawDecision] = []
        for offer in offers:
            if self._left and offer.resources.contains(Resources.parse(self._resources)):
                self._left -= 1
                said.append(accept(launch(offer, self.task(self._resources))))
            else:
                said.append(Decline((offer.offer_id,), Filter(1_000)))
        return said


class Demanding(Raw):
    """A framework that states demand by hand and answers nothing by itself."""

    uses_demand = True

    def __init__(self, name: str, role: str, *demands: Demand) -> None:
        super().__init__(name)
        self._call = UpdateDemand(Role(role), demands)

    def subscribed(self) -> list[RawDecision]:
        """State the demand."""
        return [self._call]


class Crowd:
    """A framework of the SDK: it wants what it is told to want, when it is told so, and counts what became of it."""

    def __init__(self, yields: bool = True) -> None:
        self.ended: Counter[str] = Counter()
        """Ends, by the name of the state and of the reason."""
        self.finished_at: list[float] = []
        self.started_at: dict[TaskId, float] = {}
        self.asked_back: list[InverseOffer] = []
        self._yields = yields

    def restore(self, entries: Mapping[str, bytes], tasks: Mapping[TaskId, TaskView], now: float) -> list[Decision]:
        """Have nothing to take up: no scenario restarts one."""
        return []

    def handle(self, event: object, now: float) -> list[Decision]:
        """Want what the test wants; give back what is asked back, if it is of the yielding kind."""
        match event:
            case Run() | Stop():
                return [event]
            case TaskChanged(view) if view.state is not None:
                self._learn(view, now)
            case InverseOffersMade(asked):
                self.asked_back += asked
                return [Stop(task_id) for each in asked for task_id in each.task_ids] if self._yields else []
            case _:
                pass
        return []

    def _learn(self, view: TaskView, now: float) -> None:
        assert view.state is not None
        if view.state is TaskState.TASK_RUNNING:
            self.started_at.setdefault(view.task_id, now)
        if view.state.is_terminal:
            reason = view.status.reason.name if view.status is not None else ""
            self.ended[f"{view.state.name} {reason}"] += 1
            if view.state is TaskState.TASK_FINISHED:
                self.finished_at.append(now)


def waves(cluster: Cluster, name: str, rounds: int, every_s: float, wave: Callable[[int], Sequence[Want]]) -> None:
    """Have a crowd want one wave of tasks every so many seconds, the first one now."""
    framework = cluster.frameworks[name]
    for number in range(rounds):
        cluster.after(number * every_s, lambda number=number: framework.tell(Run(tuple(wave(number)))))  # type: ignore[misc]


def copies(want: Want, name: str, count: int, gang: str = "") -> tuple[Want, ...]:
    """Return `count` wants like one, each of its own name."""
    ids = (TaskId(f"{name}.{number}") for number in range(count))
    return tuple(replace(want, spec=replace(want.spec, task_id=id_, name=name), group=name, gang=gang) for id_ in ids)


def spec(task_id: str, resources: str) -> TaskSpec:
    """Return a task of raw offers."""
    return TaskSpec(TaskId(task_id), Resources.parse(resources), task_id, command=Command(shell="true"))


def launch(offer: Offer, *specs: TaskSpec) -> LaunchGroup:
    """Return what launches tasks on an offer."""
    return LaunchGroup(offer.agent_id, (offer.offer_id,), (LaunchTasks(specs),))


def accept(*groups: LaunchGroup, atomic: bool = False) -> Accept:
    """Return an Accept; what it leaves may be offered again at once."""
    return Accept(groups, atomic, Filter(0))
