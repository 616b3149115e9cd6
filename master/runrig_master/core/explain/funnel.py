"""The funnel: of all agents, how many each predicate turns away from a demand, in the order in which they are asked.

An agent with several pools stands where that pool stands which gets furthest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from runrig.constraints import Constraint
from runrig_master.core.allocation.predicates import (
    QUOTA,
    Kind,
    Predicate,
    absences,
    is_away,
    lasting,
    over_limit,
    problems,
)
from runrig_master.core.clients import Wanted
from runrig_master.core.cluster import Cluster
from runrig_master.core.explain.shortage import MEASURED, Shortage
from runrig_master.core.pools import Bits, Pool
from runrig_master.core.state import Agent, Presence


@dataclass(slots=True)
class Funnel:
    """Which pools each predicate turned away, and which are left."""

    turned: dict[Predicate, list[Pool]] = field(default_factory=dict)
    """In the order of the predicates: the pools, one of each agent that was turned away there."""
    left: list[Pool] = field(default_factory=list)
    """Pools that no predicate turns away; one of each agent."""
    agents: int = 0
    shortages: dict[Kind, Shortage] = field(default_factory=dict)
    """Of the predicates that say that there is too little of something: how far their pools are."""

    @property
    def last(self) -> Predicate | None:
        """Return the predicate that turned away those who got furthest."""
        return next(reversed(self.turned), None)

    def pools_of(self, kind: Kind) -> list[Pool]:
        """Return the pools turned away by predicates of a kind."""
        return [pool for predicate, pools in self.turned.items() if predicate.kind is kind for pool in pools]


def present(cluster: Cluster) -> Bits:
    """Return the pools of agents that were not marked gone."""
    pools = cluster.pools
    bits = pools.unreserved
    for reserved in pools.reserved.values():
        bits |= reserved
    for pool in pools.listed(bits & ~pools.offerable):
        if pool.agent.presence is Presence.GONE:
            bits ^= pool.bit
    return bits


def with_runtimes(cluster: Cluster, bits: Bits) -> Bits:
    """Return those pools of a set on whose agents anything can run."""
    for pool in cluster.pools.listed(bits & ~cluster.pools.offerable):
        if not pool.agent.info.runtimes:
            bits ^= pool.bit
    return bits


def funnel_of(cluster: Cluster, wanted: Wanted, now: float) -> Funnel:
    """Ask every predicate of every agent."""
    sieve = Sieve(cluster)
    sieve.turn_away_absent()
    rules = list(lasting(cluster, wanted))
    runtime, *others = rules
    sieve.keep(*runtime)
    leaving = (pool for pool in cluster.pools.listed(sieve.left) if pool.agent.unavailability is not None)
    sieve.turn_away(Predicate(Kind.MAINTENANCE), [pool for pool in leaving if is_away(wanted, pool, now)])
    for rule in others:
        sieve.keep(*rule)
    found: dict[Predicate, list[Pool]] = {}
    fitting: list[Pool] = []
    before: Predicate | None = None
    bucket: list[Pool] = []
    for pool in cluster.pools.listed(sieve.left):
        predicate = next(problems(cluster, wanted, pool, now), None)
        if predicate is None:
            fitting.append(pool)
            continue
        if predicate is not before:
            before, bucket = predicate, found.setdefault(predicate, [])
        bucket.append(pool)
    order = {item: place for place, item in enumerate(wanted.counting)}
    for predicate in sorted(found, key=lambda each: (each.kind, order.get(each.constraint, 0))):  # type: ignore[arg-type]
        sieve.add(predicate, found[predicate])
    if fitting and next(over_limit(cluster, wanted.client, wanted.demand.resources), None) is not None:
        sieve.add(QUOTA, fitting)
        fitting = []
    funnel = sieve.funnel(fitting)
    for kind in MEASURED:
        if pools := funnel.pools_of(kind):
            funnel.shortages[kind] = Shortage.of(wanted, pools, now, is_empty=kind is Kind.SIZE)
    return funnel


class Sieve:
    """Turns pools away set by set, and remembers by what."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.left = present(cluster)
        self.found: list[tuple[Predicate, list[Pool]]] = []

    def turn_away_absent(self) -> None:
        """Ask what the set of offerable pools answers, one by one for those that are not in it."""
        absent: dict[Kind, list[Pool]] = {Kind.CONNECTED: [], Kind.DRAINING: [], Kind.RUNTIME: []}
        offerable = self.cluster.pools.offerable
        for pool in self.cluster.pools.listed(self.left & ~offerable):
            kind = next(absences(pool), None)
            if kind is not None:
                absent[kind].append(pool)
                self.left ^= pool.bit
        self.found += [(Predicate(kind), pools) for kind, pools in absent.items() if pools]

    def keep(self, kind: Kind, constraint: Constraint | None, allowed: Bits) -> None:
        """Turn away what is not in a set."""
        turned = self.left & ~allowed
        if turned:
            self.left &= allowed
            self.add(Predicate(kind, constraint), self.cluster.pools.listed(turned))

    def turn_away(self, predicate: Predicate, turned: list[Pool]) -> None:
        """Turn away what was judged one by one."""
        for pool in turned:
            self.left ^= pool.bit
        if turned:
            self.add(predicate, turned)

    def add(self, predicate: Predicate, pools: list[Pool]) -> None:
        """Note whom a predicate has turned away."""
        for place, (known, before) in enumerate(self.found):
            if known == predicate:
                self.found[place] = (known, before + pools)
                return
        self.found.append((predicate, pools))

    def funnel(self, fitting: list[Pool]) -> Funnel:
        """Return what came of it, agent by agent."""
        if self.cluster.pools.reserved:
            return self._by_agent(fitting)
        agents = sum(len(pools) for _, pools in self.found) + len(fitting)
        return Funnel(dict(self.found), fitting, agents)

    def _by_agent(self, fitting: list[Pool]) -> Funnel:
        furthest: dict[Agent, tuple[Predicate | None, Pool]] = {}
        for predicate, pools in self.found:
            furthest.update((pool.agent, (predicate, pool)) for pool in pools)
        furthest.update((pool.agent, (None, pool)) for pool in reversed(fitting))
        turned: dict[Predicate, list[Pool]] = {predicate: [] for predicate, _ in self.found}
        left: list[Pool] = []
        for last, pool in furthest.values():
            (turned[last] if last is not None else left).append(pool)
        return Funnel({predicate: pools for predicate, pools in turned.items() if pools}, left, len(furthest))
