"""Wants that have no place yet, by shape: what is said of them costs what has changed, not what waits.

Wants of one shape are alike to the master and to offers: they are one demand, and where one of them finds no place
none does. A shelf holds those of one shape, the earlier first.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from runrig.demand import MAX_COUNT, Demand
from runrig.ids import Role, TaskId
from runrig.resources import Resources, single_ports
from runrig.tasks import Terms
from runrig.wants import Want

Shape = tuple[object, ...]
"""All that decides where a want may go and how urgent it is."""

_NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(slots=True, eq=False)
class Shelf:
    """Wants of one shape, each with a number that grows as wants come."""

    shape: Shape
    role: Role | None
    fit: object
    """What it shares with other shapes: a place that fails one fails all."""
    demand: Demand
    wants: OrderedDict[TaskId, tuple[int, Want]] = field(default_factory=OrderedDict)

    def stated(self) -> Demand:
        """Return the demand for all of them."""
        count = min(len(self.wants), MAX_COUNT)
        if self.demand.count != count:
            self.demand = replace(self.demand, count=count)
        return self.demand

    @property
    def urgency(self) -> tuple[int, int]:
        """Return what is smaller the more urgent it is: priority, then who came first."""
        return -self.demand.priority, next(iter(self.wants.values()))[0]


class Waiting(Mapping[TaskId, Want]):
    """All wants without a place."""

    def __init__(self, wants: Iterable[Want] = ()) -> None:
        self.roles: Counter[Role | None] = Counter()
        """How many wait in each role."""
        self.constrained: Counter[str] = Counter()
        """How many wait in each group that have constraints."""
        self._shapes: dict[TaskId, Shape] = {}
        self._shelves: dict[Shape, Shelf] = {}
        self._gangs: dict[str, dict[Shape, Shelf]] = {}
        self._last_number = 0
        self._touched: set[Role | None] = set()
        for want in wants:
            self.add(want)

    def __getitem__(self, task_id: TaskId) -> Want:
        """Return a want that waits."""
        return self._shelves[self._shapes[task_id]].wants[task_id][1]

    def __iter__(self) -> Iterator[TaskId]:
        """Yield the ids of all, the earlier first."""
        return iter(self._shapes)

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._shapes)

    @property
    def shelves(self) -> Iterable[Shelf]:
        """Return one shelf for each shape, none of them empty."""
        return self._shelves.values()

    def gang(self, gang_id: str) -> list[Shelf]:
        """Return the shelves of a gang's wants."""
        return list(self._gangs.get(gang_id, {}).values())

    @property
    def has_gangs(self) -> bool:
        """Say whether a gang waits."""
        return bool(self._gangs)

    def has_like(self, want: Want) -> bool:
        """Say whether a want of the same shape waits."""
        return shape_of(want) in self._shelves

    def add(self, want: Want) -> None:
        """Let a want wait; one that waits already changes nothing."""
        if want.task_id in self._shapes:
            return
        shape = shape_of(want)
        shelf = self._shelves.get(shape)
        if shelf is None:
            shelf = self._shelves[shape] = Shelf(shape, want.role, fit_of(want), demand_of(want))
            if shelf.demand.gang_id:
                self._gangs.setdefault(shelf.demand.gang_id, {})[shape] = shelf
        self._last_number += 1
        shelf.wants[want.task_id] = self._last_number, want
        self._shapes[want.task_id] = shape
        self._count(want, 1)

    def take(self, task_id: TaskId) -> Want | None:
        """Take a want out; None if it does not wait."""
        shape = self._shapes.pop(task_id, None)
        if shape is None:
            return None
        shelf = self._shelves[shape]
        _, want = shelf.wants.pop(task_id)
        if not shelf.wants:
            self._clear(shelf)
        self._count(want, -1)
        return want

    def take_touched(self) -> set[Role | None]:
        """Return, once, the roles in which something came or went; None: in whichever there are."""
        touched, self._touched = self._touched, set()
        return touched

    def demands(self, role: Role, most: int) -> tuple[Demand, ...]:
        """Return what is wanted in a role; of more than `most` shapes the most urgent, and no gang in part."""
        shelves = [shelf for shelf in self._shelves.values() if shelf.role in (None, role)]
        if len(shelves) > most:
            shelves.sort(key=_urgency)
            cut = {shelf.demand.gang_id for shelf in shelves[most:]} - {""}
            shelves = [shelf for shelf in shelves[:most] if shelf.demand.gang_id not in cut]
        return tuple(shelf.stated() for shelf in shelves)

    def _clear(self, shelf: Shelf) -> None:
        del self._shelves[shelf.shape]
        gang_id = shelf.demand.gang_id
        if gang_id:
            del self._gangs[gang_id][shelf.shape]
            if not self._gangs[gang_id]:
                del self._gangs[gang_id]

    def _count(self, want: Want, by: int) -> None:
        self._touched.add(want.role)
        self.roles[want.role] += by
        if not self.roles[want.role]:
            del self.roles[want.role]
        if want.constraints:
            self.constrained[want.group] += by
            if not self.constrained[want.group]:
                del self.constrained[want.group]


def _urgency(shelf: Shelf) -> tuple[int, int]:
    return shelf.urgency


def shape_of(want: Want) -> Shape:
    """Return what two wants share that are alike to the master and to every offer."""
    spec = want.spec
    fixed = fixed_ports(want)
    return (
        *(want.role, spec.resources, fixed, len(want.ports) - len(fixed), want.constraints, want.placement),
        *(terms_of(want), spec.runtime_kind, spec.volume_ids),
    )


def fit_of(want: Want) -> object:
    """Return what two wants share if a place that has not enough for one has not for the other."""
    spec, fixed = want.spec, fixed_ports(want)
    ports = fixed, len(want.ports) - len(fixed)
    promise = want.expected_duration_ms
    return want.role, spec.resources, ports, want.constraints, spec.runtime_kind, spec.terms, spec.volume_ids, promise


def fixed_ports(want: Want) -> tuple[int, ...]:
    """Return the particular host ports that a want asks for."""
    return tuple(sorted(port.host_port for port in want.ports if port.host_port)) if want.ports else ()


def terms_of(want: Want) -> Terms:
    """Return the terms that a want's task is launched on; within which reservation only its spec can say."""
    reservation_id = want.spec.terms.reservation_id
    return Terms(reservation_id, want.group, want.priority, want.gang, want.expected_duration_ms)


def demand_of(want: Want) -> Demand:
    """Return the demand for one want; its id follows from its shape, and says to people whose it is."""
    spec, fixed = want.spec, fixed_ports(want)
    label = _NOT_IN_LABELS.sub("_", want.group or spec.name).strip("_.")[:60] or "task"
    digest = hashlib.sha256(repr(shape_of(want)).encode("utf-8", "backslashreplace")).hexdigest()[:12]
    return Demand(
        f"{label}-{digest}",
        spec.resources + Resources(ports=single_ports(tuple(set(fixed)))) if fixed else spec.resources,
        constraints=want.constraints,
        placement=want.placement,
        priority=want.priority,
        gang_id=want.gang,
        expected_duration_ms=want.expected_duration_ms,
        port_count=len(want.ports) - len(fixed),
        group=want.group,
        runtime=spec.runtime_kind,
        reservation_id=spec.terms.reservation_id,
    )
