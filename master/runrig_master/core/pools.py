"""Pools: what an agent has for one purpose, and who may see which of them.

An agent has one pool of what is not reserved and one for each reservation. In it total = used + offered + free.
Each pool has a bit, so that a set of pools is one whole number: what is free somewhere, what meets a constraint, what a
client has refused. A pass over ten thousand pools is then a few operations on such numbers.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from itertools import compress
from typing import TYPE_CHECKING, TypeVar

from runrig.constraints import Constraint, unmet
from runrig.demand import Placement
from runrig.ids import OfferId, Role
from runrig.reservations import Reservation
from runrig.resources import NOTHING, Resources
from runrig.tasks import RuntimeKind

if TYPE_CHECKING:
    from runrig_master.core.claims import Claim
    from runrig_master.core.filters import Refused
    from runrig_master.core.state import Agent, OutstandingOffer

MOST_CONSTRAINTS = 1024
"""Constraints of which it is remembered which pools meet them; above it the memory starts anew."""

Name = TypeVar("Name")
PART_BITS = 240
"""A set is walked in parts of so many bits: 10,000 pools in 1.4 ms; taking each from the whole takes 4.9 ms."""
_PART = (1 << PART_BITS) - 1

Bits = int
"""A set of pools."""
SizeKey = tuple[int, int, int, int]
"""How well a pool suits a placement; the last number is its slot."""
Sorted = tuple[list[SizeKey], int]
"""Keys in their order, and how many changes had been before they were taken."""


class Pool:
    """What an agent has that is not reserved, or one reservation of it."""

    __slots__ = (
        "agent",
        "bit",
        "claims",
        "free",
        "is_overcommitted",
        "offers",
        "optimistic",
        "refused",
        "reservation",
        "slot",
        "total",
        "used",
    )

    def __init__(self, agent: Agent, slot: int, total: Resources, reservation: Reservation | None = None) -> None:
        self.agent = agent
        self.slot = slot
        self.bit: Bits = 1 << slot
        self.reservation = reservation
        self.total = total
        self.used = NOTHING
        self.free = total
        self.is_overcommitted = False
        """Its tasks use more than it has: the agent has shrunk, or two of them name one port."""
        self.offers: dict[OfferId, OutstandingOffer] = {}
        self.optimistic: dict[OfferId, OutstandingOffer] = {}
        """Offers of what is free that take nothing from it until they are accepted."""
        self.refused: dict[Resources, Refused] = {}
        """What clients do not want to be offered of it for a while."""
        self.claims: list[Claim] = []
        """What of it is kept for demand that waits."""

    @property
    def reservation_id(self) -> str:
        """Return its reservation's id; empty: what is not reserved."""
        return self.reservation.reservation_id if self.reservation is not None else ""

    @property
    def offered(self) -> Resources:
        """Return what stands in its offers."""
        total = NOTHING
        for offer in self.offers.values():
            total = total + offer.resources
        return total


class Pools:
    """All pools of the cluster by their slots, and the sets of them that allocation asks for."""

    def __init__(self) -> None:
        self._by_slot: list[Pool | None] = []
        self._vacant: list[int] = []
        self.version = 0
        """Grows when pools come, go or change their nature: what was concluded from the sets is void."""
        self.offerable: Bits = 0
        """Of agents that may be offered now."""
        self.worth: Bits = 0
        """With something free on which a task could run."""
        self.unreserved: Bits = 0
        self.reserved: dict[Role, Bits] = {}
        self._reservations: dict[str, Bits] = {}
        self.totals: dict[Resources, Bits] = {}
        """The pools that have so much when they are empty: few sizes, as a rule."""
        self.changed: list[Pool] = []
        """Those of which something else was free, one after the other, since the last pass began, and not nothing."""
        self.grown: list[Pool] = []
        """Those of which more was free, or fewer tasks of a group ran there."""
        self._sorted: dict[Placement, Sorted] = {}
        self._runtimes: dict[RuntimeKind, Bits] = {}
        self._constraints: dict[Constraint, Bits] = {}
        self.known: dict[str, Counter[str]] = {}
        """By attribute: its values on the agents that count, with their number."""

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._by_slot) - len(self._vacant)

    def __getitem__(self, slot: int) -> Pool:
        """Return the pool of a slot."""
        pool = self._by_slot[slot]
        assert pool is not None
        return pool

    @property
    def all(self) -> Bits:
        """Return the set of all."""
        return (1 << len(self._by_slot)) - 1

    def within(self, bits: Bits) -> Iterator[Pool]:
        """Yield the pools of a set, in the order of their slots."""
        by_slot, first = self._by_slot, 0
        while bits:
            gap = (bits & -bits).bit_length() - 1
            bits >>= gap
            first += gap
            part = bits & _PART
            while part:
                lowest = part & -part
                part ^= lowest
                pool = by_slot[first + lowest.bit_length() - 1]
                if pool is not None:
                    yield pool
            bits >>= PART_BITS
            first += PART_BITS

    def listed(self, bits: Bits) -> list[Pool]:
        """Return the pools of a set, in the order of their slots: quicker than `within` for a large one."""
        bits &= self.all
        flags = bin(bits)[:1:-1].encode().translate(_FLAGS)
        return [pool for pool in compress(self._by_slot, flags) if pool is not None]

    def add(self, agent: Agent, total: Resources, reservation: Reservation | None = None) -> Pool:
        """Make a pool in the lowest vacant slot."""
        if self._vacant:
            slot = heapq.heappop(self._vacant)
        else:
            slot = len(self._by_slot)
            self._by_slot.append(None)
        pool = self._by_slot[slot] = Pool(agent, slot, total, reservation)
        self.version += 1
        self._enter(pool)
        return pool

    def remove(self, pool: Pool) -> None:
        """Take a pool away; it has no offers any more."""
        assert not pool.offers
        assert not pool.optimistic
        self._leave(pool)
        self._by_slot[pool.slot] = None
        heapq.heappush(self._vacant, pool.slot)
        self.version += 1

    def reshape(self, pool: Pool) -> None:
        """Learn that the agent's attributes or runtimes, or the pool's reservation, have changed."""
        self._leave(pool)
        self._enter(pool)
        self.version += 1

    def _enter(self, pool: Pool) -> None:
        bit = pool.bit
        self.totals[pool.total] = self.totals.get(pool.total, 0) | bit
        if pool.reservation is None:
            self.unreserved |= bit
        else:
            role = pool.reservation.role
            self.reserved[role] = self.reserved.get(role, 0) | bit
            self._reservations[pool.reservation_id] = self._reservations.get(pool.reservation_id, 0) | bit
        for kind in pool.agent.info.runtimes:
            self._runtimes[kind] = self._runtimes.get(kind, 0) | bit
        for constraint in self._constraints:
            if meets(pool.agent, constraint):
                self._constraints[constraint] |= bit
        self.worth_changed(pool)

    def _leave(self, pool: Pool) -> None:
        others = ~pool.bit
        self.offerable &= others
        self.worth &= others
        self.unreserved &= others
        self._drop_total(pool)
        for sets in (self._runtimes, self._constraints):
            for key in sets:
                sets[key] &= others  # type: ignore[index]
        _take_out(self.reserved, pool)
        _take_out(self._reservations, pool)

    def set_total(self, pool: Pool, total: Resources) -> None:
        """Give a pool its size."""
        if total != pool.total:
            self._drop_total(pool)
            pool.total = total
            self.totals[total] = self.totals.get(total, 0) | pool.bit

    def _drop_total(self, pool: Pool) -> None:
        self.totals[pool.total] ^= pool.bit
        if not self.totals[pool.total]:
            del self.totals[pool.total]

    def worth_changed(self, pool: Pool) -> None:
        """Learn that what is free of a pool has changed."""
        bit, free = pool.bit, pool.free
        if free.cpu_millis or free.mem_mib or free.gpus or free.custom:
            self.worth |= bit
            self.changed.append(pool)
        elif self.worth & bit:
            self.worth ^= bit

    def begin_pass(self) -> None:
        """Forget what has changed before."""
        self.changed.clear()
        self.grown.clear()
        self._sorted.clear()

    def in_order(self, placement: Placement) -> Sorted:
        """Return what was worth offering when this was first asked in a pass, the best for a placement first."""
        known = self._sorted.get(placement)
        if known is None:
            pools = self.listed(self.offerable & self.worth)
            if placement is Placement.PACK:
                keys = [(0, pool.free.cpu_millis, pool.free.mem_mib, pool.slot) for pool in pools]
            else:
                keys = [(0, -pool.free.cpu_millis, -pool.free.mem_mib, pool.slot) for pool in pools]
            keys.sort()
            known = self._sorted[placement] = (keys, len(self.changes(placement)))
        return known

    def changes(self, placement: Placement) -> list[Pool]:
        """Return the pools, one after the other, that may have become better for a placement."""
        return self.changed if placement is Placement.PACK else self.grown

    def set_offerable(self, pool: Pool, is_offerable: bool) -> None:
        """Learn whether a pool may be offered now."""
        if is_offerable:
            self.offerable |= pool.bit
        else:
            self.offerable &= ~pool.bit

    def running(self, kind: RuntimeKind) -> Bits:
        """Return the pools of agents that have a runtime; ANY: all."""
        return self.all if kind is RuntimeKind.ANY else self._runtimes.get(kind, 0)

    def of_reservation(self, reservation_id: str) -> Bits:
        """Return the pools of reservations with this id, of whichever agents."""
        return self._reservations.get(reservation_id, 0)

    def meeting(self, constraint: Constraint) -> Bits:
        """Return the pools of agents whose attributes meet a constraint that looks at nothing else."""
        bits = self._constraints.get(constraint)
        if bits is None:
            if len(self._constraints) >= MOST_CONSTRAINTS:
                self._constraints.clear()
            bits = 0
            met: dict[str | None, bool] = {}
            for pool in self.within(self.all):
                value = pool.agent.attribute(constraint.attribute)
                if value not in met:
                    met[value] = meets(pool.agent, constraint)
                if met[value]:
                    bits |= pool.bit
            self._constraints[constraint] = bits
        return bits

    def see(self, agent: Agent) -> None:
        """Count an agent's attributes among the known ones."""
        for name, value in agent.attributes:
            self.known.setdefault(name, Counter())[value] += 1

    def unsee(self, agent: Agent) -> bool:
        """Count them out; True: a value is not known any more."""
        is_gone = False
        for name, value in agent.attributes:
            values = self.known[name]
            values[value] -= 1
            if not values[value]:
                del values[value]
                is_gone = True
            if not values:
                del self.known[name]
        return is_gone


_FLAGS = bytes.maketrans(b"01", b"\0\1")


def _take_out(sets: dict[Name, Bits], pool: Pool) -> None:
    for name, bits in list(sets.items()):
        if bits == pool.bit:
            del sets[name]
        elif bits & pool.bit:
            sets[name] = bits ^ pool.bit


def meets(agent: Agent, constraint: Constraint) -> bool:
    """Say whether an agent's attributes meet a constraint that does not count tasks."""
    return unmet((constraint,), agent, {}, {}) is None


def size_key(pool: Pool, placement: Placement, here: int) -> SizeKey:
    """Return a key of which the smallest is best; `here` is how many tasks of the group run on the host."""
    free = pool.free
    if placement is Placement.PACK:
        return (0, free.cpu_millis, free.mem_mib, pool.slot)
    return (here, -free.cpu_millis, -free.mem_mib, pool.slot)


def is_worth_offering(free: Resources) -> bool:
    """Say whether a task could run on it: ports and disk alone run nothing."""
    return bool(free.cpu_millis or free.mem_mib or free.gpus or free.custom)
