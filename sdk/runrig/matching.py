"""Fitting wants to offers: resources, ports, constraints, and which of several offers is better.

Usable alone: `match` takes wants and offers and returns what to launch where, what found no place and why, and what is
left of each offer. Wants of one shape share their failures, so that a thousand alike cost little more than one.

Wants of one gang are placed all or not at all, on the set of offers that was made for them or on offers made for nobody
in particular; offers with a gang's id serve that gang alone.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from runrig._binding import bound, pick_ports
from runrig._waiting import Shelf, Waiting, fit_of
from runrig.constraints import Constraint, Operator, unmet
from runrig.demand import Placement
from runrig.ids import OfferId, TaskId
from runrig.offers import Offer
from runrig.resources import NOTHING
from runrig.tasks import TaskSpec
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
    has_short_gang: bool = False
    """A gang found no place for all of it on offers that were made for nobody in particular: more at once might do."""


class Room:
    """What is left of an offer while wants are placed on it."""

    __slots__ = ("left", "offer", "placed", "volumes")

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.left = offer.resources
        self.volumes = frozenset(volume.volume_id for volume in offer.volumes)
        self.placed = 0

    def attribute(self, name: str) -> str | None:
        """Return an attribute of the offer's agent."""
        return self.offer.attribute(name)

    def close(self) -> None:
        """Leave nothing for others: what a gang uses is accepted with it."""
        self.left = NOTHING


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


def match(
    wants: Iterable[Want], offers: Sequence[Offer], placed: Placed, most: int | None = None, now: float = 0.0
) -> Matched:
    """Place as many wants as fit, the more urgent and the earlier first; `placed` counts what is placed.

    It ends after it has looked for places for `most` of them. Those like one that found none are passed over and not
    counted: a thousand that fit nowhere keep nothing from those behind them. Agents that will be away, counted from
    `now` (seconds since 1970), before a want's expected end are taken only if no others will do.

    Example:
        >>> from runrig.resources import Resources
        >>> want = Want(TaskSpec(TaskId("t1"), Resources(cpu_millis=500, mem_mib=64)))
        >>> offer = Offer("o1", "a1", "host", "*", Resources.parse("cpus:1;mem:1G"))
        >>> [found.offer.offer_id for found in match([want], [offer], Placed()).matches]
        ['o1']
    """
    search = _Search(offers, placed, now)
    search.run(Waiting(wants), most)
    search.result.unplaced = [task_id for shelf in search.hopeless() for task_id in shelf]
    return search.result


def match_waiting(waiting: Waiting, offers: Sequence[Offer], placed: Placed, most: int, now: float) -> Matched:
    """Do what `match` does at a cost that does not grow with what waits; `unplaced` is left empty."""
    search = _Search(offers, placed, now)
    search.run(waiting, most)
    return search.result


class _Head:
    """The want of a shelf whose turn is next."""

    __slots__ = ("_rest", "number", "shelf", "want")

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self._rest: Iterator[tuple[int, Want]] = iter(shelf.wants.values())
        self.number, self.want = next(self._rest)

    def step(self) -> bool:
        """Go on to the next want; False if there is none."""
        following = next(self._rest, None)
        if following is None:
            return False
        self.number, self.want = following
        return True

    @property
    def turn(self) -> tuple[int, int, _Head]:
        """Return what is smaller the earlier its want is looked at: never equal, as no number is given twice."""
        return -self.shelf.demand.priority, self.number, self

    def rest(self) -> list[TaskId]:
        """Return the ids of its want and those behind it."""
        return [self.want.task_id, *(want.task_id for _, want in self._rest)]


class _Search:
    """One search for places."""

    def __init__(self, offers: Sequence[Offer], placed: Placed, now: float) -> None:
        self.result = Matched()
        self._placed = placed
        self._now_ms = int(now * 1000)
        rooms = sorted(map(Room, offers), key=_generality)
        self._free = [room for room in rooms if not room.offer.gang_id]
        self._sets: dict[str, list[Room]] = {}
        for room in rooms:
            placed.see(place_attributes(room.offer))
            if room.offer.gang_id:
                self._sets.setdefault(room.offer.gang_id, []).append(room)
        self._possible: dict[object, list[Room]] = {}
        """Rooms that may have a place for a shape."""
        self._given_up: list[_Head] = []
        self._waiting_for_group: dict[str, list[_Head]] = {}
        """Shelves that were given up, to be tried again when a task of their group is placed."""

    def run(self, waiting: Waiting, most: int | None) -> None:
        """Place what can be placed."""
        heads = [_Head(shelf).turn for shelf in waiting.shelves]
        heapq.heapify(heads)
        looks = 0
        gangs = set[str]()
        while heads and (most is None or looks < most):
            _, _, head = heapq.heappop(heads)
            gang_id = head.shelf.demand.gang_id
            if gang_id:
                if gang_id not in gangs:
                    gangs.add(gang_id)
                    looks += self._place_gang(gang_id, waiting.gang(gang_id))
                continue
            looks += self._place(head, heads)
        for gang_id in self._sets.keys() - gangs:
            self._refuse(self._sets[gang_id], f"nothing of gang {gang_id} is wanted")

    def hopeless(self) -> Iterator[list[TaskId]]:
        """Yield the ids of those that found no place, shelf by shelf."""
        for heads in (self._given_up, *self._waiting_for_group.values()):
            for head in heads:
                yield head.rest()

    def _place(self, head: _Head, heads: list[tuple[int, int, _Head]]) -> bool:
        """Place a want if it fits, else give its shelf up; say whether there was a room to look at."""
        want = head.want
        candidates = self._candidates(self._possible, head.shelf.fit, want, self._free)
        has_candidates = bool(candidates)
        place = self._best(want, candidates)
        if place is None:
            if _depends_on_group(want.constraints):
                self._waiting_for_group.setdefault(want.group, []).append(head)
            else:
                self._given_up.append(head)
            return has_candidates
        self._take(want, *place)
        if head.step():
            heapq.heappush(heads, head.turn)
        for other in self._waiting_for_group.pop(want.group, ()):
            heapq.heappush(heads, other.turn)
        return True

    def _candidates(self, possible: dict[object, list[Room]], fit: object, want: Want, rooms: list[Room]) -> list[Room]:
        """Return the rooms that may have a place: where one failed, those like it do not look again.

        What a group's constraints say holds while nothing changes in the group.
        """
        key = (fit, want.group, self._placed.changes(want.group)) if _depends_on_group(want.constraints) else fit
        found = possible.get(key)
        if found is None:
            found = possible[key] = list(rooms)
        return found

    def _best(self, want: Want, candidates: list[Room]) -> tuple[Room, tuple[int, ...]] | None:
        """Return the room that suits a want best, with its ports; those that do not fit are taken out."""
        counts = self._placed.counts(want.group)
        best: tuple[Room, tuple[int, ...]] | None = None
        best_key: tuple[int, ...] = ()
        failed = set[int]()
        for room in candidates:
            ports = pick_ports(want.ports, room.left.ports)
            problem = _problem(want, room, ports, counts, self._placed.known)
            if problem is not None:
                self.result.reasons.setdefault(room.offer.offer_id, problem)
                failed.add(id(room))
                continue
            assert ports is not None
            is_risky = self._is_away_before_the_end(want, room.offer)
            key = (is_risky, room.offer.reservation is None, *_preference(want, room, counts))
            if best is None or key < best_key:
                best, best_key = (room, ports), key
            if want.placement is Placement.ANY and not is_risky:
                break
        if failed:
            candidates[:] = [room for room in candidates if id(room) not in failed]
        return best

    def _is_away_before_the_end(self, want: Want, offer: Offer) -> bool:
        if offer.unavailability is None or not want.expected_duration_ms:
            return False
        return offer.unavailability.overlaps(self._now_ms, self._now_ms + want.expected_duration_ms)

    def _take(self, want: Want, room: Room, ports: tuple[int, ...]) -> None:
        spec = bound(want, room.offer, ports)
        room.left = room.left - spec.resources
        room.volumes = room.volumes.difference(spec.volume_ids)
        room.placed += 1
        self._placed.add(want.group, place_attributes(room.offer))
        self.result.matches.append(Match(want, room.offer, spec))

    # Gangs

    def _place_gang(self, gang_id: str, shelves: list[Shelf]) -> int:
        """Place all wants of a gang or none; return for how many places were looked."""
        wants = [want for shelf in shelves for _, want in shelf.wants.values()]
        made_for_it = self._sets.get(gang_id, [])
        if made_for_it:
            problem = self._place_all(wants, made_for_it)
            if problem is None:
                return len(wants)
            self._refuse(made_for_it, problem)
        untouched = [room for room in self._free if not room.placed]
        if untouched:
            if self._place_all(wants, untouched) is None:
                return len(wants)
            self.result.has_short_gang = True
        self._given_up.extend(map(_Head, shelves))
        return 1 if untouched or made_for_it else 0

    def _place_all(self, wants: list[Want], rooms: list[Room]) -> str | None:
        """Place all of a gang on these rooms, or none; return why not."""
        problem = ""
        for order in (_as_stated, _largest_first):
            problem = self._try(order(wants), rooms)
            if not problem:
                for room in rooms:
                    if room.placed:
                        room.close()
                return None
        return problem

    def _try(self, wants: list[Want], rooms: list[Room]) -> str:
        before = [(room, room.left, room.volumes) for room in rooms]
        mark = len(self.result.matches)
        possible: dict[object, list[Room]] = {}
        for want in wants:
            place = self._best(want, self._candidates(possible, fit_of(want), want, rooms))
            if place is None:
                break
            self._take(want, *place)
        placed = len(self.result.matches) - mark
        if placed == len(wants):
            return ""
        for match_ in self.result.matches[mark:]:
            self._placed.add(match_.want.group, place_attributes(match_.offer), -1)
        del self.result.matches[mark:]
        for room, left, volumes in before:
            room.left, room.volumes, room.placed = left, volumes, 0
        return f"{placed} of {len(wants)} of gang {wants[0].gang} fit"

    def _refuse(self, rooms: list[Room], reason: str) -> None:
        for room in rooms:
            self.result.reasons[room.offer.offer_id] = reason


def _generality(room: Room) -> tuple[bool, bool]:
    """Return a key of which the smallest is of use to the fewest: it is looked at first."""
    return not room.offer.lent_for_ms, room.offer.reservation is None


def _as_stated(wants: list[Want]) -> list[Want]:
    return wants


def _largest_first(wants: list[Want]) -> list[Want]:
    return sorted(wants, key=_size, reverse=True)


def _size(want: Want) -> tuple[int, int, int]:
    resources = want.spec.resources
    return resources.gpus, resources.cpu_millis, resources.mem_mib


def _depends_on_group(constraints: tuple[Constraint, ...]) -> bool:
    return any(item.operator in (Operator.UNIQUE, Operator.GROUP_BY, Operator.MAX_PER) for item in constraints)


def _preference(want: Want, room: Room, counts: Mapping[str, Counter[str]]) -> tuple[int, ...]:
    """Return a key of which the smallest is best: crowded hosts for PACK, empty ones for SPREAD."""
    if want.placement is Placement.ANY:
        return ()
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
    if want.role not in (None, room.offer.role):
        return f"role {want.role} is wanted"
    kind = want.spec.runtime_kind
    if room.offer.runtimes and kind not in room.offer.runtimes:
        return f"agent has no {kind.name.lower()} runtime"
    if room.offer.lent_for_ms and not 0 < want.expected_duration_ms <= room.offer.lent_for_ms:
        return f"lent to tasks that promise to end within {room.offer.lent_for_ms / 1000:g} s"
    if not room.left.contains(want.spec.resources):
        short = room.left.shortfall(want.spec.resources)
        return "short of " + ", ".join(f"{name} by {amount}" for name, amount in short.items())
    if ports is None:
        return f"short of ports: {len(want.ports)} wanted" + _fixed_ports_text(want.ports)
    return _reserved_problem(want, room) or unmet(want.constraints, room, counts, known)


def _reserved_problem(want: Want, room: Room) -> str | None:
    wanted, offered = want.spec.terms.reservation_id, room.offer.reservation
    if wanted and (offered is None or offered.reservation_id != wanted):
        return f"not of reservation {wanted}"
    missing = [volume_id for volume_id in want.spec.volume_ids if volume_id not in room.volumes]
    return f"volume {', '.join(missing)} is not here" if missing else None


def _fixed_ports_text(ports: tuple[PortWant, ...]) -> str:
    fixed = [str(port.host_port) for port in ports if port.host_port]
    return f", {', '.join(fixed)} among them" if fixed else ""
