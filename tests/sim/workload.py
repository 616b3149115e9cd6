"""What users and frameworks do during a simulation: apps, jobs and a greedy framework that handles offers itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from runrig.errors import Refused
from runrig.ids import AgentId, FrameworkId, TaskId
from runrig.offers import (
    Accept,
    CreateVolume,
    Decline,
    DestroyVolume,
    Filter,
    Kill,
    LaunchGroup,
    LaunchTasks,
    News,
    Offer,
    OffersMade,
    Operation,
    Reconcile,
    Reserve,
    Revive,
    Subscribed,
    Suppress,
    TaskReference,
    TasksUpdated,
    Unreserve,
)
from runrig.raw import RawDecision
from runrig.resources import Resources
from runrig.tasks import Command, Reason, TaskSpec, TaskState, Terms, Volume
from runrig.testing import Behaviour, Cluster, SimulatedFramework
from runrig.wants import Put
from runrig_batch.core.batch import Batch
from runrig_batch.core.job import JobId, parts_of
from runrig_batch.core.job_file import parse_submission
from runrig_batch.core.limits import Limits
from runrig_batch.core.questions import SubmitJob, Submitted
from runrig_service.core.questions import ChangeApps, RemoveApp
from runrig_service.core.service import Service
from tests.sim.landlord import VOLUMES, drawn_reservation, drawn_volume
from tests.sim.told import ToldInOrder

RETRIES = 2
BATCH_LIMITS = Limits(job_window=16, max_faults=10_000, max_delay_s=8.0, unreachable_grace_s=5.0)
SHELL = Command(shell="true")


class Script:
    """What each task does, decided by its id and the seed alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.is_calm = False
        """After the storm what runs for ever does so."""

    def __call__(self, task: Any) -> Behaviour:
        chance = random.Random(f"{self._seed}/{task.task_id}")
        parts = parts_of(task.task_id)
        ignores_term = chance.random() < 0.1
        if parts is not None:
            exit_code = 3 if is_cursed(self._seed, parts[1]) else 0
            return Behaviour(chance.uniform(0.1, 30.0), exit_code, ignores_term=ignores_term)
        if task.task_id.startswith("greedy"):
            after_s = None if chance.random() < 0.2 else chance.uniform(0.5, 60.0)
            return Behaviour(after_s, chance.choice((0, 0, 1)), ignores_term=ignores_term)
        if self.is_calm or chance.random() < 0.7:
            return Behaviour(ignores_term=ignores_term)
        if chance.random() < 0.3:
            return Behaviour(fails_to_start=Reason.START_FAILED)
        return Behaviour(chance.uniform(1.0, 100.0), 1, ignores_term=ignores_term, is_healthy=chance.random() < 0.7)


def is_gang(key: str) -> bool:
    """Say whether the tasks of a job start all or not at all."""
    return key.startswith("gang")


def is_cursed(seed: int, index: int) -> bool:
    """Say whether an index fails at each attempt."""
    return random.Random(f"{seed}/{index}").random() < 0.1


@dataclass(frozen=True, slots=True)
class Sated:
    """The greedy one wants nothing more."""


class Greedy:
    """A framework on raw offers: takes what it is offered, at random, and declines with all kinds of filters."""

    def __init__(self, name: str, seed: int, tasks_most: int = 15) -> None:
        self._name = name
        self._chance = random.Random(f"{seed}/{name}")
        self._whims = random.Random(f"{seed}/{name}/whims")
        self._tasks_most = tasks_most
        self._number = 0
        self._alive: dict[TaskId, AgentId] = {}
        self._killed: set[TaskId] = set()
        self.is_sated = False

    def restore_raw(self, entries: Mapping[str, bytes], now: float) -> list[RawDecision]:
        """Go on counting where the last process may have stopped."""
        self._number = int(entries.get("number", b"0"))
        return []

    def hear(self, event: object, now: float) -> list[RawDecision]:
        """Answer offers at random."""
        match event:
            case OffersMade(offers):
                if self.is_sated:
                    return [Decline(tuple(offer.offer_id for offer in offers)), Suppress()]
                if len(offers) > 1 and self._chance.random() < 0.3:
                    return self._answer_at_once(offers[:3])
                return [decision for offer in offers for decision in self._answer(offer)]
            case TasksUpdated(updates):
                for update in updates:
                    if update.state.is_terminal or update.state is TaskState.TASK_UNKNOWN:
                        self._alive.pop(update.task_id, None)
                    else:
                        self._alive[update.task_id] = update.agent_id
                return self._kill_all() if self.is_sated else [*self._kill_some(), *self._think_again()]
            case Sated():
                self.is_sated = True
                self._killed.clear()
                return [Reconcile()]
            case Subscribed():
                known = tuple(TaskReference(task_id, agent_id) for task_id, agent_id in self._alive.items())
                return [Reconcile(known), Reconcile()] if known else [Reconcile()]
            case _:
                return []

    def _answer(self, offer: Offer) -> list[RawDecision]:
        filter_ = Filter(self._chance.choice((0, 1_000, 5_000, 20_000)), "not now")
        choice = self._chance.random()
        if choice < 0.1:
            return []
        if choice < 0.6 or len(self._alive) >= self._tasks_most:
            return [Decline((offer.offer_id,), Filter(max(filter_.refuse_ms, 3_000)))]
        specs = tuple(self._task(offer) for _ in range(self._chance.randint(1, 3)))
        tasks = LaunchTasks(specs, is_group=self._chance.random() < 0.3)
        changes = [self._change(offer) for _ in range(self._chance.choice((0, 0, 1, 2)))]
        group = LaunchGroup(offer.agent_id, (offer.offer_id,), (*changes, tasks))
        return [Put("number", str(self._number).encode()), Accept((group,), filter=filter_)]

    def _answer_at_once(self, offers: tuple[Offer, ...]) -> list[RawDecision]:
        """Launch on several agents or on none; at times one of the tasks cannot be."""
        groups = []
        for offer in offers:
            task = self._task(offer)
            if self._chance.random() < 0.2:
                task = replace(task, resources=Resources(10**9, 64))
            groups.append(LaunchGroup(offer.agent_id, (offer.offer_id,), (LaunchTasks((task,)),)))
        return [Put("number", str(self._number).encode()), Accept(tuple(groups), atomic=True)]

    def _task(self, offer: Offer) -> TaskSpec:
        """Make a task that runs where the offer is of, most of the time, and at times on a volume."""
        self._number += 1
        resources = Resources(self._chance.choice((100, 500, 1_000)), 64)
        pool = offer.reservation.reservation_id if offer.reservation is not None else ""
        names = [volume.volume_id for volume in offer.volumes] if self._chance.random() < 0.7 else ["v1"]
        mounted = tuple(Volume("", name, volume_id=name) for name in names[:1]) if pool else ()
        terms = Terms(reservation_id=pool if self._chance.random() < 0.9 else "r1")
        return TaskSpec(TaskId(f"{self._name}-{self._number}"), resources, command=SHELL, terms=terms, volumes=mounted)

    def _change(self, offer: Offer) -> Operation:
        """Make or end a reservation or a volume out of an offer; some of it cannot be."""
        pool = offer.reservation.reservation_id if offer.reservation is not None else ""
        match self._chance.randrange(4):
            case 0:
                return Reserve(drawn_reservation(self._chance, offer.role), pool, "reserve")
            case 1:
                return CreateVolume(drawn_volume(self._chance, (pool or "r1",)), "create")
            case 2:
                return DestroyVolume(self._chance.choice(VOLUMES), "destroy")
            case _:
                return Unreserve(pool or "r1", "unreserve")

    def _kill_all(self) -> list[RawDecision]:
        """Kill each once: an answer to a kill must not lead to the next."""
        left = [task_id for task_id in self._alive if task_id not in self._killed]
        self._killed.update(left)
        return [Kill(task_id, 2_000) for task_id in left]

    def _think_again(self) -> list[RawDecision]:
        """Forget now and then what was refused: nobody else without demand does."""
        return [Revive()] if self._whims.random() < 0.05 else []

    def _kill_some(self) -> list[RawDecision]:
        if not self._alive or self._chance.random() > 0.1:
            return []
        return [Kill(self._chance.choice(list(self._alive)), self._chance.choice((None, 0, 2_000, 60_000)))]


@dataclass(frozen=True, slots=True)
class Act:
    """Something that a user does at `at` seconds.

    `("app", id, instances)`, `("remove", id)`, `("job", key, size)`; a job whose key says so is a gang.
    """

    at: float
    words: tuple[Any, ...]


def acts(seed: int, lasts_s: float) -> list[Act]:
    """Draw what users do."""
    chance = random.Random(f"{seed}/users")
    drawn = [Act(0.0, ("app", "/web", 4)), Act(0.0, ("job", "first", chance.randint(1, 20)))]
    for number in range(chance.randint(2, 8)):
        at = chance.uniform(0, lasts_s)
        name = chance.choice(("/web", "/shop/api"))
        match chance.randrange(4):
            case 0:
                drawn.append(Act(at, ("job", f"job-{number}", chance.randint(1, 16))))
            case 1:
                drawn.append(Act(at, ("remove", name)))
            case _:
                drawn.append(Act(at, ("app", name, chance.randint(0, 8))))
    drawn.append(Act(chance.uniform(0, lasts_s), ("job", "gang", chance.randint(2, 6))))
    return sorted(drawn, key=lambda act: act.at)


class Users:
    """Those who want things: they remember what they asked for, and ask again when nobody has answered."""

    def __init__(self, seed: int, cluster: Cluster) -> None:
        self.apps: dict[str, int | None] = {}
        """What each app should be: so many instances, or (None) removed."""
        self.jobs: dict[str, JobId | None] = {}
        """The job of each submission; None: nobody has answered yet."""
        self._sizes: dict[str, int] = {}
        self._cluster = cluster
        self.service = cluster.run(
            "service", lambda: ToldInOrder(Service()), roles=("service",), settings=cluster_settings()
        )
        self.batch = cluster.run(
            "batch", lambda: ToldInOrder(Batch(BATCH_LIMITS)), roles=("batch",), settings=cluster_settings()
        )
        self.greedy = cluster.run("greedy", lambda: Greedy("greedy", seed), roles=("default", "eng/ads"))

    def do(self, act: Act) -> None:
        """Want something."""
        self._cluster.world.note("user", "wants", act.words)
        match act.words:
            case ("app", name, instances):
                self.apps[name] = instances
                self._put(name)
            case ("remove", name):
                self.apps[name] = None
                self._put(name)
            case ("job", key, size):
                self.jobs[key] = None
                self._sizes[key] = size
                self._submit(key)
            case _:
                raise AssertionError(act)

    def insist(self) -> None:
        """Ask again for all that nobody has confirmed, and for all that may have been lost with its answer."""
        self.greedy.tell(Sated())
        for name in self.apps:
            self._put(name)
        for key, job in self.jobs.items():
            if job is None:
                self._submit(key)

    def repeat(self) -> None:
        """Submit each job once more, as who has lost the answer does: it is no other job."""
        for key in self.jobs:
            self._submit(key)

    def _put(self, name: str) -> None:
        instances = self.apps[name]
        if instances is None:
            self._ask(self.service, RemoveApp(name), lambda _: None)
            return
        body = {
            "cmd": "serve", "cpus": 0.5, "mem": 64, "instances": instances, "backoffSeconds": 1, "backoffFactor": 1.2,
            "maxLaunchDelaySeconds": 5,
            "healthChecks": [{"protocol": "COMMAND", "command": {"value": "true"}, "gracePeriodSeconds": 5}],
        }  # fmt: skip
        self._ask(self.service, ChangeApps((body,), name), lambda _: None)

    def _submit(self, key: str) -> None:
        body: dict[str, Any] = {
            "name": key,
            "command": "true",
            "cpus": 0.5,
            "retries": RETRIES,
            "retry_delay": "1s",
        }
        if is_gang(key):
            body |= {"gang": self._sizes[key], "constraints": [["hostname", "UNIQUE"]], "priority": 5}
        else:
            body |= {"array": self._sizes[key], "parallelism": 1 if self._sizes[key] <= 4 else 0}
        spec, _ = parse_submission(body, BATCH_LIMITS)

        def answered(value: object) -> None:
            assert isinstance(value, Submitted), value
            known = self.jobs[key]
            assert known in (None, value.summary.job.job_id), "a submission that is repeated is one job"
            self.jobs[key] = value.summary.job.job_id
            durable = f"app/job/{self.jobs[key]}"
            assert durable in self.batch.entries, f"{key} is confirmed before it is durable"

        self._ask(self.batch, SubmitJob(spec, key), answered)

    def _ask(self, framework: SimulatedFramework, question: object, answered: Callable[[Any], None]) -> None:
        def hear(value: object) -> None:
            if isinstance(value, Refused):
                assert isinstance(question, RemoveApp), f"{question} is refused: {value}"
            else:
                answered(value)

        if framework.is_up:
            framework.ask_later(question, hear)


def cluster_settings() -> Any:
    """Return the settings of the frameworks: as in production, but for waits that would only cost time."""
    from runrig.scheduler import SchedulerSettings

    return SchedulerSettings(reconcile_s=120.0, refuse_ms=20_000)


__all__ = ["Act", "FrameworkId", "News", "Script", "Users", "acts", "is_cursed", "is_gang"]
