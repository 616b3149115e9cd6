"""Fitting wants to offers: resources, ports, constraints, and which of several offers is better.

Usable alone: `match` takes wants and offers and returns what to launch where, what found no place and why, and what is
left of each offer. Wants of one shape share their failures, so that a thousand alike cost little more than one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runrig.constraints import Constraint, Operator, unmet
from runrig.demand import Placement
from runrig.ids import OfferId, TaskId
from runrig.offers import Offer
from runrig.resources import Ports, Resources, single_ports
from runrig.tasks import Port, TaskSpec
from runrig.wants import PortWant, Want

Counts = dict[str, Counter[str]]
"""By attribute: how many tasks of a group run where the attribute has each value."""


@dataclass(frozen=True, slots=True)
class Match:
    """A want that found its place: `spec` has its ports and environment."""

    want: Want
    offer: Offer
    spec: TaskSpec


@dataclass(slots=True)
class Matched:
    """What `match` found."""

    matches: list[Match] = field(default_factory=list)
    reasons: dict[OfferId, str] = field(default_factory=dict)
    """For each offer that was looked at and did not serve: why the first want that it failed did not fit."""
    unplaced: list[TaskId] = field(default_factory=list)


class Room:
    """What is left of an offer while wants are placed on it."""

    __slots__ = ("left", "offer", "placed")

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.left = offer.resources
        self.placed = 0

    def attribute(self, name: str) -> str | None:
        """Return an attribute of the offer's agent."""
        return self.offer.attribute(name)


class Placed:
    """Where the tasks of each group are, as far as constraints ask."""

    def __init__(self) -> None:
        self._groups: dict[str, Counts] = {}
        self._changes: Counter[str] = Counter()
        self.known: dict[str, set[str]] = {}
        """By attribute: every value seen on any agent."""

    def counts(self, group: str) -> Mapping[str, Counter[str]]:
        """Return the counts of a group, by attribute and value."""
        return self._groups.get(group, {})

    def changes(self, group: str) -> int:
        """Return how often the counts of a group have changed since there is something to count."""
        return self._changes[group]

    def add(self, group: str, attributes: Iterable[tuple[str, str]], by: int = 1) -> None:
        """Count a task of `group` in (or, with `by` -1, out) at a place with these attributes."""
        counts = self._groups.setdefault(group, {})
        self._changes[group] += 1
        for name, value in attributes:
            counter = counts.setdefault(name, Counter())
            counter[value] += by
            if not counter[value]:
                del counter[value]
        if not any(counts.values()):
            del self._groups[group], self._changes[group]

    def see(self, attributes: Iterable[tuple[str, str]]) -> None:
        """Remember the values of an agent's attributes."""
        for name, value in attributes:
            self.known.setdefault(name, set()).add(value)


def place_attributes(offer: Offer) -> tuple[tuple[str, str], ...]:
    """Return an offer's attributes, its hostname among them."""
    return (("hostname", offer.hostname), *offer.attributes)


def match(wants: Iterable[Want], offers: Sequence[Offer], placed: Placed, most: int | None = None) -> Matched:
    """Place as many wants as fit, the earlier first; `placed` counts what is placed.

    It ends after it has looked for places for `most` of them. Those like one that found none are passed over and not
    counted: a thousand that fit nowhere keep nothing from those behind them.

    Example:
        >>> from runrig.resources import Resources
        >>> want = Want(TaskSpec(TaskId("t1"), Resources(cpu_millis=500, mem_mib=64)))
        >>> offer = Offer("o1", "a1", "host", "*", Resources.parse("cpus:1;mem:1G"))
        >>> [found.offer.offer_id for found in match([want], [offer], Placed()).matches]
        ['o1']
    """
    rooms = [Room(offer) for offer in offers]
    for offer in offers:
        placed.see(place_attributes(offer))
    result = Matched()
    possible: dict[object, list[Room]] = {}
    looks = 0
    for want in wants:
        if looks == most:
            break
        looks += _place(want, rooms, placed, possible, result)
    return result


def _place(want: Want, rooms: list[Room], placed: Placed, possible: dict[object, list[Room]], result: Matched) -> bool:
    """Place a want if it fits; say whether there was a room to look at. `possible` has those left for each shape."""
    shape = _shape_now(want, placed)
    candidates = possible.get(shape)
    if candidates is None:
        candidates = possible[shape] = [room for room in rooms if want.role in (None, room.offer.role)]
    counts = placed.counts(want.group)
    best: Room | None = None
    best_ports: tuple[int, ...] = ()
    best_key: tuple[int, ...] = ()
    failed: list[Room] = []
    for room in candidates:
        ports = pick_ports(want.ports, room.left.ports)
        problem = _problem(want, room, ports, counts, placed.known)
        if problem is not None:
            result.reasons.setdefault(room.offer.offer_id, problem)
            failed.append(room)
            continue
        assert ports is not None
        key = _preference(want, room, counts)
        if best is None or key < best_key:
            best, best_ports, best_key = room, ports, key
        if want.placement is Placement.ANY:
            break
    if failed:
        gone = {id(room) for room in failed}
        possible[shape] = [room for room in candidates if id(room) not in gone]
    if best is None:
        result.unplaced.append(want.task_id)
    else:
        _take(want, best, best_ports, placed, result)
    return bool(candidates)


def _take(want: Want, room: Room, ports: tuple[int, ...], placed: Placed, result: Matched) -> None:
    spec = bound(want, room.offer, ports)
    room.left = room.left - spec.resources
    room.placed += 1
    placed.add(want.group, place_attributes(room.offer))
    result.matches.append(Match(want, room.offer, spec))


def _shape_now(want: Want, placed: Placed) -> object:
    """Return what two wants share if a room that failed one fails the other; a group's while nothing changes in it."""
    shape = (want.spec.resources, want.ports, want.constraints, want.role, want.spec.runtime_kind)
    return (shape, want.group, placed.changes(want.group)) if _depends_on_group(want.constraints) else shape


def _depends_on_group(constraints: tuple[Constraint, ...]) -> bool:
    return any(item.operator in (Operator.UNIQUE, Operator.GROUP_BY, Operator.MAX_PER) for item in constraints)


def _preference(want: Want, room: Room, counts: Mapping[str, Counter[str]]) -> tuple[int, ...]:
    """Return a key of which the smallest is best: crowded hosts for PACK, empty ones for SPREAD."""
    if want.placement is Placement.PACK:
        return (room.left.cpu_millis, room.left.mem_mib)
    here = counts.get("hostname", Counter())[room.offer.hostname]
    return (here, room.placed, -room.left.cpu_millis, -room.left.mem_mib)


def _problem(
    want: Want,
    room: Room,
    ports: tuple[int, ...] | None,
    counts: Mapping[str, Counter[str]],
    known: dict[str, set[str]],
) -> str | None:
    kind = want.spec.runtime_kind
    if room.offer.runtimes and kind not in room.offer.runtimes:
        return f"agent has no {kind.name.lower()} runtime"
    if not room.left.contains(want.spec.resources):
        short = room.left.shortfall(want.spec.resources)
        return "short of " + ", ".join(f"{name} by {amount}" for name, amount in short.items())
    if ports is None:
        return f"short of ports: {len(want.ports)} wanted" + _fixed_ports_text(want.ports)
    return unmet(want.constraints, room, counts, known)


def _fixed_ports_text(ports: tuple[PortWant, ...]) -> str:
    fixed = [str(port.host_port) for port in ports if port.host_port]
    return f", {', '.join(fixed)} among them" if fixed else ""


def pick_ports(wanted: tuple[PortWant, ...], offered: Ports) -> tuple[int, ...] | None:
    """Return a host port for each of `wanted`, or None if `offered` has not got them."""
    if not wanted:
        return ()
    fixed = [port.host_port for port in wanted if port.host_port]
    if len(set(fixed)) < len(fixed) or not Resources(ports=offered).contains(Resources(ports=single_ports(fixed))):
        return None
    rest = Resources(ports=offered).less_ports(single_ports(fixed))
    free = iter(rest.take_ports(len(wanted) - len(fixed)))
    try:
        return tuple(port.host_port or next(free) for port in wanted)
    except (StopIteration, RuntimeError):
        return None


def bound(want: Want, offer: Offer, numbers: tuple[int, ...]) -> TaskSpec:
    """Return the want's task with its ports and with $HOST, $PORT, $PORTS, $PORT0 … in its environment."""
    ports = tuple(
        Port(number, port.container_port, port.name, port.protocol)
        for port, number in zip(want.ports, numbers, strict=True)
    )
    spec = want.spec
    own = dict(spec.command.env)
    env = {**_port_env(want.ports, numbers), "HOST": offer.hostname, **own}
    return replace(
        spec,
        ports=ports,
        resources=spec.resources + Resources(ports=single_ports(numbers)) if numbers else spec.resources,
        command=replace(spec.command, env=tuple(env.items())),
    )


def _port_env(wanted: tuple[PortWant, ...], numbers: tuple[int, ...]) -> Mapping[str, str]:
    env: dict[str, str] = {}
    for index, (port, number) in enumerate(zip(wanted, numbers, strict=True)):
        env[f"PORT{index}"] = str(number)
        if port.name:
            env[f"PORT_{port.name.upper().replace('-', '_')}"] = str(number)
        env.update({name: str(number) for name in port.env})
    if numbers:
        env["PORT"] = str(numbers[0])
        env["PORTS"] = ",".join(str(number) for number in numbers)
    return env
