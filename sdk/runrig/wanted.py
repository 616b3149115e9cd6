"""The level at which most frameworks are written: keep n of these running, run those once.

    wants = Wants()
    wants.keep("web", 3, task(shell="python3 -m http.server $PORT", cpus=0.1, mem="64M", ports=1))
    Framework("hello", wants).main()

`Wants` is a `Logic`: it gives each run an id of its own, counts runs durably, waits longer after each failure, and
charges no retry for the cluster's faults.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runrig._gang import Gang
from runrig._patience import backoff_s, is_clusters_fault, was_healthy
from runrig._waiting import terms_of
from runrig.constraints import Constraint
from runrig.demand import Placement
from runrig.errors import Conflict, InvalidInput
from runrig.ids import MAX_ID_LENGTH, Role, TaskId, checked_id
from runrig.offers import InverseOffer, InverseOfferReason, InverseOffersMade
from runrig.resources import Resources, parse_cpus, parse_mib
from runrig.tasks import (
    Command,
    Container,
    HealthCheck,
    NetworkMode,
    Reason,
    TaskSpec,
    TaskState,
    Terms,
    Volume,
    checked_terms,
)
from runrig.wants import (
    AnswerInverse,
    Decision,
    PortWant,
    Put,
    Run,
    Stop,
    TaskChanged,
    TaskView,
    WakeAt,
    Want,
    Woken,
)


def task(
    shell: str = "",
    *,
    argv: Sequence[str] = (),
    image: str = "",
    cpus: float | str = 0.1,
    mem: str | int = "32M",
    disk: str | int = 0,
    gpus: int = 0,
    env: Mapping[str, str] | None = None,
    user: str = "",
    ports: int | Sequence[PortWant] = 0,
    network: NetworkMode = NetworkMode.HOST,
    constraints: Sequence[Constraint] = (),
    placement: Placement = Placement.ANY,
    health_checks: Sequence[HealthCheck] = (),
    volumes: Sequence[Volume] = (),
    max_run_s: float = 0,
    expected_duration_s: float = 0,
    kill_grace_s: float | None = None,
    priority: int = 0,
    reservation: str = "",
    role: str | None = None,
) -> Want:
    """Describe a task: a shell command or `argv`, in a container if there is an `image`. Raises InvalidInput.

    A `priority` above 0 goes before others, and may take their place. `expected_duration_s` is a promise that can find
    it a place earlier. It runs in the `reservation` that is named, or in any that its role is offered.

    Example:
        >>> task("echo hello", cpus=0.5, mem="64M").spec.resources
        Resources(cpu_millis=500, mem_mib=64, disk_mib=0, gpus=0, ports=(), custom=())
    """
    wanted = tuple(PortWant() for _ in range(ports)) if isinstance(ports, int) else tuple(ports)
    spec = TaskSpec(
        TaskId("described"),
        Resources(parse_cpus("cpus", cpus), parse_mib("mem", mem), parse_mib("disk", disk), gpus),
        command=Command(tuple(argv), shell, tuple((env or {}).items()), user),
        container=Container(image, network=network) if image else None,
        kill_grace_ms=None if kill_grace_s is None else int(kill_grace_s * 1000),
        max_run_ms=int(max_run_s * 1000),
        health_checks=tuple(health_checks),
        volumes=tuple(volumes),
        terms=Terms(reservation_id=reservation),
    )
    want = Want(
        spec,
        wanted,
        tuple(constraints),
        role=Role(role) if role else None,
        placement=placement,
        priority=priority,
        expected_duration_ms=int(expected_duration_s * 1000),
    )
    checked_terms("task", terms_of(want))
    return want


@dataclass(slots=True)
class _Slot:
    """One task of a goal: which run of it is the current, and how the last ended."""

    run: int = 0
    failures: int = 0
    is_over: bool = False
    has_failed: bool = False
    not_before: float = 0.0
    mishaps: int = 0
    """Ends in a row that were the cluster's fault."""

    def dump(self) -> bytes:
        words = [self.run, self.failures, self.is_over, self.has_failed, self.not_before, self.mishaps]
        return json.dumps(words).encode()

    @classmethod
    def parse(cls, value: bytes) -> _Slot:
        return cls(*json.loads(value))


@dataclass(slots=True)
class _Goal:
    name: str
    count: int
    want: Want
    is_kept: bool
    retries: int = 0
    slots: dict[int, _Slot] = field(default_factory=dict)


class Wants:
    """A set of tasks that should run, said by name.

    Where the master asks for resources back, to drain an agent or for who is more urgent, the tasks there are stopped
    and started elsewhere.
    """

    def __init__(self, on_change: Callable[[TaskView], None] | None = None) -> None:
        """`on_change` is told each task whose state or health changed."""
        self._on_change = on_change
        self._goals: dict[str, _Goal] = {}
        self._gangs: dict[str, Gang] = {}
        self._tasks: dict[TaskId, tuple[_Goal, int]] = {}
        self._is_restored = False

    def keep(self, name: str, count: int, want: Want) -> None:
        """Keep `count` of a task running: one that ends is started again, after a wait that grows with failures."""
        if not 0 <= count <= 100_000:
            raise InvalidInput("count", count, "0 to 100000")
        self._add(_Goal(name, count, want, is_kept=True))

    def once(self, name: str, want: Want, retries: int = 0) -> None:
        """Run a task once: to success, or until it has failed `retries` + 1 times by its own fault."""
        self._add(_Goal(name, 1, want, is_kept=False, retries=_checked_retries(retries)))

    def gang(self, name: str, count: int, want: Want, retries: int = 0) -> None:
        """Run `count` of a task once, started all together or not at all, to the success of each.

        One that fails stops the others, and all are tried again: that is one retry. $RUNRIG_GANG_INDEX tells each which
        of them it is, from 0, and $RUNRIG_GANG_SIZE how many there are.
        """
        if not 1 <= count <= 10_000:
            raise InvalidInput("count", count, "1 to 10000")
        self._check_name(name)
        self._gangs[name] = Gang(name, count, want, _checked_retries(retries))

    @property
    def is_done(self) -> bool:
        """Say whether all that was to run once has ended."""
        slots = (slot for goal in self._goals.values() if not goal.is_kept for slot in goal.slots.values())
        return all(slot.is_over for slot in slots) and all(gang.is_over for gang in self._gangs.values())

    @property
    def failed(self) -> list[str]:
        """Return the names of what was to run once and has failed for good."""
        goals = [goal.name for goal in self._goals.values() if any(slot.has_failed for slot in goal.slots.values())]
        return [*goals, *(gang.name for gang in self._gangs.values() if gang.has_failed)]

    def _add(self, goal: _Goal) -> None:
        self._check_name(goal.name)
        goal.slots = {index: _Slot() for index in range(goal.count)}
        self._goals[goal.name] = goal

    def _check_name(self, name: str) -> None:
        checked_id("name", name)
        if len(name) > MAX_ID_LENGTH - 32:
            raise InvalidInput("name", name, f"at most {MAX_ID_LENGTH - 32} characters")
        if self._is_restored:
            raise Conflict("say what should run before the framework starts")
        if name in self._goals or name in self._gangs:
            raise InvalidInput("name", name, "each name once")

    # Logic

    def restore(self, entries: Mapping[str, bytes], tasks: Mapping[TaskId, TaskView], now: float) -> list[Decision]:
        """Take up which run of each task is the current one; say all that should run."""
        self._is_restored = True
        decisions: list[Decision] = []
        for goal in self._goals.values():
            for index in goal.slots:
                stored = entries.get(f"slot/{goal.name}/{index}")
                if stored is not None:
                    goal.slots[index] = _Slot.parse(stored)
                decisions.extend(self._start(goal, index, now))
        for gang in self._gangs.values():
            decisions.extend(gang.restore(entries, tasks, now))
        return decisions

    def handle(self, event: object, now: float) -> list[Decision]:
        """Learn one event; say what follows."""
        match event:
            case TaskChanged():
                if self._on_change is not None:
                    self._on_change(event.task)
                gang = self._gangs.get(event.task.task_id.rsplit(".", 2)[0])
                return gang.changed(event.task, now) if gang is not None else self._changed(event.task, now)
            case Woken():
                return self._woken(now)
            case InverseOffersMade():
                return [each for offer in event.inverse_offers for each in self._give_back(offer, now)]
            case _:
                return []

    def _woken(self, now: float) -> list[Decision]:
        decisions: list[Decision] = []
        for goal in self._goals.values():
            for index, slot in goal.slots.items():
                if slot.not_before > 0:  # one that waits on asks to be woken again
                    decisions.extend(self._start(goal, index, now))
        for gang in self._gangs.values():
            decisions.extend(gang.start(now))
        return decisions

    def _give_back(self, offer: InverseOffer, now: float) -> list[Decision]:
        if offer.reason is InverseOfferReason.MAINTENANCE:
            return []
        decisions: list[Decision] = [Stop(task_id) for task_id in offer.task_ids if task_id in self._tasks]
        for gang in self._gangs.values():
            decisions.extend(gang.give_back(offer.task_ids, now))
        return [*decisions, AnswerInverse(offer.inverse_offer_id, is_accepted=True, reason="they are being stopped")]

    def _start(self, goal: _Goal, index: int, now: float) -> list[Decision]:
        slot = goal.slots[index]
        if slot.is_over:
            return []
        if slot.not_before > now:
            return [WakeAt(slot.not_before)]
        slot.not_before = 0.0
        task_id = TaskId(f"{goal.name}.{index}.{slot.run}")
        if task_id in self._tasks:
            return []
        self._tasks[task_id] = (goal, index)
        spec = replace(goal.want.spec, task_id=task_id, name=goal.name)
        return [Run((replace(goal.want, spec=spec, group=goal.want.group or goal.name),))]

    def _changed(self, view: TaskView, now: float) -> list[Decision]:
        place = self._tasks.get(view.task_id)
        if place is None or view.state is None or view.status is None:
            return []
        goal, index = place
        is_replaced = goal.is_kept and view.state is TaskState.TASK_UNREACHABLE
        if not view.state.is_terminal and not is_replaced:
            return []
        del self._tasks[view.task_id]
        slot = goal.slots[index]
        self._judge(goal, slot, view, now)
        slot.run += 1
        decisions: list[Decision] = [
            Put(f"slot/{goal.name}/{index}", slot.dump()),
            *self._start(goal, index, now),
        ]
        return [*decisions, Stop(view.task_id)] if is_replaced else decisions

    def _judge(self, goal: _Goal, slot: _Slot, view: TaskView, now: float) -> None:
        assert view.status is not None
        if not goal.is_kept and view.state is TaskState.TASK_FINISHED:
            slot.is_over = True
            return
        if was_healthy(view, now):
            slot.mishaps = 0
            slot.failures = 0 if goal.is_kept else slot.failures
        if view.is_stopping and view.state is not TaskState.TASK_UNREACHABLE:
            return  # it was given back: nothing else stops the current run of a slot
        if is_clusters_fault(view):
            slot.mishaps += 1
            if slot.mishaps > 1:  # the first is cured by another agent, mostly
                slot.not_before = now + backoff_s(slot.mishaps - 1)
            return
        slot.mishaps = 0
        slot.failures += 1
        hopeless = view.status.reason is Reason.INVALID_TASK
        if not goal.is_kept and (hopeless or slot.failures > goal.retries):
            slot.is_over = slot.has_failed = True
            return
        slot.not_before = now + backoff_s(slot.failures)


def _checked_retries(retries: int) -> int:
    if not 0 <= retries <= 1000:
        raise InvalidInput("retries", retries, "0 to 1000")
    return retries
