"""A second simulation, of allocation alone: many who want much, and an operator who changes what they may have.

Crowds of small tasks, gangs, urgent and patient ones, a hoarder and two frameworks of an optimistic role want more
than there is; quotas and weights change, the master and frameworks die. `rules.py` judges. In the end the quotas are
lifted, and all that was wanted must have run.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from runrig.ids import Role, TaskId
from runrig.offers import (
    Accept,
    Decline,
    Filter,
    InverseOffersMade,
    LaunchGroup,
    LaunchTasks,
    Offer,
    OffersMade,
    OffersRescinded,
    TasksUpdated,
)
from runrig.raw import RawDecision
from runrig.resources import Resources
from runrig.scheduler import SchedulerSettings
from runrig.tasks import Command, TaskSpec, TaskState
from runrig.testing import Behaviour, Cluster, Weather
from runrig.wanted import task
from runrig.wants import Decision, Run, Stop, TaskChanged, TaskView, Want
from runrig_master.core.events import QuestionId, QuotasAsked, RoleEvent, RoleOffersAsked, WeightAsked
from runrig_master.core.quotas import Quota, RoleQuota
from runrig_master.core.settings import CoreSettings
from tests.sim.checkers import MasterChecker
from tests.sim.rules import Rules

AGENTS = 10
BUSY_S = 120.0
CALM_S = 300.0
"""How long all that is wanted may take once the operator has lifted the quotas and nothing dies any more."""
SETTINGS = CoreSettings(
    layaway_after_s=5.0,
    layaway_s=60.0,
    preempt_after_s=1.0,
    preemption_notice_s=5.0,
    preemptions_per_minute=8,
)
CROWDS = {"small": "eng/small", "train": "eng/train", "urgent": "prod", "mixed": "ops"}
"""Frameworks that state demand, with their roles."""
ROLES = ("eng", *CROWDS.values())
SHARED = Role("shared")
NOBODY = QuestionId(0)


class Crowd:
    """Wants what it is told, until it has finished; a task that was ended by others is wanted anew under a new name."""

    def __init__(self, wanted: dict[TaskId, Want]) -> None:
        self._wanted = wanted
        """What users want and has not finished, outside the process that may die."""

    def restore(self, entries: Mapping[str, bytes], tasks: Mapping[TaskId, TaskView], now: float) -> list[Decision]:
        """Want again all that has not finished."""
        return [Run(tuple(self._wanted.values()))]

    def handle(self, event: object, now: float) -> list[Decision]:
        """Want more; give back what is asked back; try again what did not finish."""
        match event:
            case Run(wants):
                self._wanted.update((want.task_id, want) for want in wants)
                return [event]
            case InverseOffersMade(asked):
                return [Stop(task_id) for each in asked for task_id in each.task_ids]
            case TaskChanged(view) if view.state is not None and view.state.is_terminal:
                return self._ended(view)
            case _:
                return []

    def _ended(self, view: TaskView) -> list[Decision]:
        want = self._wanted.pop(view.task_id, None)
        if want is None or view.state is TaskState.TASK_FINISHED:
            return []
        name, _, attempt = view.task_id.rpartition("~")
        again = replace(want, spec=replace(want.spec, task_id=TaskId(f"{name}~{int(attempt) + 1}")), gang="")
        self._wanted[again.task_id] = again
        return [Run((again,))]


class Hoarder:
    """Holds what it is offered."""

    def restore_raw(self, entries: Mapping[str, bytes], now: float) -> list[RawDecision]:
        """Remember nothing."""
        return []

    def hear(self, event: object, now: float) -> list[RawDecision]:
        """Say nothing."""
        return []


class Racer:
    """Accepts optimistic offers some time after it was made them, and declines others."""

    def __init__(self, name: str, seed: int, starts: int) -> None:
        self._name = name
        self._chance = random.Random(f"{seed}/{name}/{starts}")
        self._prefix = f"{name}-{starts}"
        self._held: dict[str, Offer] = {}
        self._number = 0
        self.is_sated = False

    def restore_raw(self, entries: Mapping[str, bytes], now: float) -> list[RawDecision]:
        """Remember nothing."""
        return []

    def hear(self, event: object, now: float) -> list[RawDecision]:
        """Answer at once, late or never."""
        match event:
            case OffersMade(offers):
                self._held.update((offer.offer_id, offer) for offer in offers)
                return self._answer() if self._chance.random() < 0.5 else []
            case OffersRescinded(offer_ids):
                for offer_id in offer_ids:
                    if self._chance.random() < 0.5:  # at times it has not read that yet
                        self._held.pop(offer_id, None)
                return []
            case TasksUpdated() | "answer":
                return self._answer()
            case _:
                return []

    def _answer(self) -> list[RawDecision]:
        said: list[RawDecision] = []
        chosen = [offer for offer in self._held.values() if self._chance.random() < 0.6][:3]
        groups = []
        for offer in chosen:
            del self._held[offer.offer_id]
            cpus = self._chance.choice((500, 1000, offer.resources.cpu_millis))
            if self.is_sated or self._chance.random() < 0.4 or not cpus:
                said.append(Decline((offer.offer_id,), Filter(self._chance.choice((0, 1_000, 10_000)))))
                continue
            self._number += 1
            spec = TaskSpec(
                TaskId(f"{self._prefix}-{self._number}"), Resources(cpus, 64), command=Command(shell="true")
            )
            groups.append(LaunchGroup(offer.agent_id, (offer.offer_id,), (LaunchTasks((spec,)),)))
        if groups:
            said.append(Accept(tuple(groups), atomic=self._chance.random() < 0.3, filter=Filter(0)))
        return said


class Market:
    """One simulation."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(f"{seed}/market")
        self.seed = seed
        self.cluster = Cluster(SETTINGS, seed)
        checker = MasterChecker(SETTINGS)
        self.rules = Rules(SETTINGS, self.cluster)
        for watcher in (checker, self.rules):
            self.cluster.leader.watchers.append(watcher)
            watcher.begins(self.cluster.leader)
        self.cluster.agents(AGENTS, "cpus:4;mem:4G", self._script, rack=["a", "b"])
        self.wanted: dict[str, dict[TaskId, Want]] = {name: {} for name in CROWDS}
        settings = SchedulerSettings(reconcile_s=60.0, refuse_ms=5_000)
        for name, role in CROWDS.items():
            self.cluster.run(name, partial(Crowd, self.wanted[name]), roles=(role,), settings=settings)
        self.cluster.run("hoarder", Hoarder, roles=("hoarders",))
        self._ask(RoleOffersAsked(NOBODY, SHARED, True))
        self._starts = 0
        for name in ("racer-1", "racer-2"):
            self.cluster.run(name, partial(self._racer, name), roles=(SHARED,))

    def run(self) -> None:
        """Let them want and be served; assert that all has run in the end."""
        cluster, chance = self.cluster, self._chance
        for number in range(30):
            name = chance.choice(list(CROWDS))
            cluster.after(chance.uniform(0, BUSY_S), partial(self._want, name, number))
        for _ in range(chance.randint(4, 16)):
            cluster.after(chance.uniform(0, BUSY_S), self._change_something)
        for _ in range(chance.randint(0, 4)):
            name = chance.choice([*CROWDS, "hoarder", "racer-1", "master", "agent-1", "agent-2"])
            cluster.after(chance.uniform(0, BUSY_S), partial(cluster.find(name).kill))
            cluster.after(BUSY_S, cluster.find(name).start)
        if chance.random() < 0.5:
            cluster.weather = Weather(delay_most_s=0.2)
        cluster.advance(BUSY_S)
        self._calm_down()

    def _calm_down(self) -> None:
        cluster = self.cluster
        cluster.weather = Weather()
        for name in (*CROWDS, "hoarder", "racer-1", "racer-2", "master", "agent-1", "agent-2"):
            cluster.find(name).start()
        cluster.settle()
        self._ask(QuotasAsked(NOBODY, tuple(RoleQuota(Role(role)) for role in ROLES)))
        for name in ("racer-1", "racer-2"):
            logic = cluster.frameworks[name].logic
            assert isinstance(logic, Racer)
            logic.is_sated = True
            cluster.frameworks[name].tell("answer")
        waited = 0.0
        while left := {name: len(wants) for name, wants in self.wanted.items() if wants}:
            assert waited < CALM_S, f"{CALM_S:.0f} s after the quotas were lifted there wait {left}"
            cluster.advance(5.0)
            waited += 5.0
        self.rules.check_end()

    # What happens

    def _want(self, name: str, number: int) -> None:
        """Want some tasks of one shape, at times a gang."""
        chance = self._chance
        lasts_s = chance.choice((2, 5, 10, 20))
        is_gang = chance.random() < (0.7 if name == "train" else 0.1)
        count = chance.randint(2, 12)
        want = task(
            "work",
            cpus=chance.choice((0.5, 1, 1, 2)),
            mem="128M",
            priority={"urgent": 5, "small": -1}.get(name, chance.choice((0, 0, 3))),
            expected_duration_s=lasts_s if chance.random() < 0.5 else 0,
        )
        gang = f"{name}.{number}.{count}" if is_gang else ""
        ids = (TaskId(f"{name}.{number}.{lasts_s}.{index}~0") for index in range(count))
        wants = tuple(replace(want, spec=replace(want.spec, task_id=id_), gang=gang) for id_ in ids)
        if self.cluster.frameworks[name].is_up:
            self.cluster.frameworks[name].tell(Run(wants))
        else:
            self.wanted[name].update((each.task_id, each) for each in wants)

    def _script(self, item: object) -> Behaviour:
        words = str(getattr(item, "task_id", "")).split(".")
        return Behaviour(float(words[2]) if len(words) > 2 else 4.0)

    def _racer(self, name: str) -> Racer:
        self._starts += 1
        return Racer(name, self.seed, self._starts)

    def _change_something(self) -> None:
        """Set a quota or a weight; some quotas are too small for what runs already, or for anything."""
        chance = self._chance
        role = Role(chance.choice(ROLES))
        match chance.randrange(4):
            case 0:
                self._ask(WeightAsked(NOBODY, role, chance.choice((500, 1000, 4000))))
            case 1:
                guarantee = Quota(cpu_millis=chance.choice((2_000, 8_000, 16_000)))
                self._ask(QuotasAsked(NOBODY, (RoleQuota(role, None, guarantee),), is_forced=True))
            case _:
                limit = Quota(cpu_millis=chance.choice((0, 400, 3_000, 8_000, 20_000)))
                self._ask(QuotasAsked(NOBODY, (RoleQuota(role, limit),)))

    def _ask(self, event: RoleEvent) -> None:
        if any(master.is_up for master in self.cluster.masters.values()):
            self.cluster.leader.ask(lambda question: replace(event, question=question))


def simulate(seed: int) -> None:
    """Run one; raise AssertionError."""
    Market(seed).run()
