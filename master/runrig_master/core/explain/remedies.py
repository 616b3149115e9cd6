"""What would help: changes of the request or of the cluster under which the same predicates let a task in now.

Each is found where just one thing stands in the way, tried by supposing the change, and given only if no predicate
turns that pool away then. At most `MOST_TRIED` pools are tried for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from runrig.constraints import Constraint, text_of
from runrig.demand import Demand
from runrig.ids import Role
from runrig.reservations import Reservation
from runrig.resources import count_ports
from runrig_master.core.allocation.predicates import Kind, Predicate, all_problems, over_limit
from runrig_master.core.clients import Wanted
from runrig_master.core.cluster import Cluster, alive
from runrig_master.core.explain import supposing
from runrig_master.core.explain.funnel import Funnel
from runrig_master.core.explain.shortage import Ranked, Shortage, available
from runrig_master.core.explain.words import (
    amounts_text,
    counted,
    dimensions,
    framework_text,
    joined,
    resources_text,
    span_text,
)
from runrig_master.core.pools import Pool
from runrig_master.core.quotas import Quota, is_within
from runrig_master.core.state import Agent, OutstandingOffer, Task

MOST_TRIED = 256
MOST_TASKS = 10_000
"""Tasks of a role at its limit that are looked through for the smallest whose end would do."""


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """State another demand."""

    demand: Demand
    text: str


@dataclass(frozen=True, slots=True)
class EndTask:
    """A task that runs would have to end."""

    task: Task
    text: str


@dataclass(frozen=True, slots=True)
class EndOffer:
    """An offer that is out would have to end without a launch."""

    offer: OutstandingOffer
    text: str


@dataclass(frozen=True, slots=True)
class RaiseLimits:
    """An operator would have to raise limits of roles."""

    limits: tuple[tuple[Role, Quota], ...]
    text: str


@dataclass(frozen=True, slots=True)
class BringBack:
    """An agent would have to be there again: connected, active, not away."""

    agent: Agent
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class GiveBack:
    """A reservation would have to be given back."""

    agent: Agent
    reservation: Reservation
    text: str


@dataclass(frozen=True, slots=True)
class Revive:
    """The framework would have to forget what it has refused, or that it suppressed offers."""

    role: Role
    text: str


Remedy = ChangeRequest | EndTask | EndOffer | RaiseLimits | BringBack | GiveBack | Revive


def remedies_of(cluster: Cluster, wanted: Wanted, funnel: Funnel, now: float) -> list[Remedy]:
    """Return what would make one task of a demand fit now, the cheapest for the framework first."""
    search = _Search(cluster, wanted, funnel, now)
    return [
        *search.ask_less(),
        *search.drop_constraints(),
        *search.promise_less(),
        *search.revive(),
        *search.end_offer(),
        *search.end_task(),
        *search.give_back(),
        *search.raise_limits(),
        *search.bring_back(),
    ]


def smaller_gang(wanted: Wanted, count: int) -> Iterator[ChangeRequest]:
    """Yield the gang of so many tasks, of which it is known that they fit."""
    if count:
        demand = replace(wanted.demand, count=count)
        yield ChangeRequest(demand, f"ask for {counted(count, 'task')} in gang {demand.gang_id}")


class _Search:
    def __init__(self, cluster: Cluster, wanted: Wanted, funnel: Funnel, now: float) -> None:
        self.cluster = cluster
        self.wanted = wanted
        self.funnel = funnel
        self.now = now

    def _is_let_in(self, wanted: Wanted, pool: Pool) -> bool:
        return next(all_problems(self.cluster, wanted, pool, self.now), None) is None

    def _turned_by(self, *kinds: Kind) -> list[Pool]:
        return [pool for kind in kinds for pool in self.funnel.pools_of(kind)]

    def _is_alone(self, predicate: Predicate, pool: Pool) -> bool:
        return list(all_problems(self.cluster, self.wanted, pool, self.now)) == [predicate]

    def _blocked_by(self, kind: Kind) -> Iterator[tuple[Predicate, Pool]]:
        """Yield pools that nothing but one predicate of a kind keeps from the demand."""
        for predicate, pools in self.funnel.turned.items():
            if predicate.kind is kind:
                for pool in pools[:MOST_TRIED]:
                    if self._is_alone(predicate, pool):
                        yield predicate, pool

    def _changed(self, demand: Demand) -> Wanted:
        other = Wanted(self.wanted.client, demand, self.wanted.order, self.wanted.since)
        other.offered = self.wanted.offered
        return other

    # The request

    def ask_less(self) -> Iterator[ChangeRequest]:
        """Yield the least that one task could ask less for, in one dimension, else in all that are short."""
        limited = self._turned_by(Kind.QUOTA)
        found = [item for item in (self._less(pool) for pool in limited[:1]) if item is not None]
        if not found:
            shortages = self._shortages()
            single: dict[str, Ranked] = {}
            for name, item in ((name, item) for shortage in shortages for name, item in shortage.of_one.items()):
                single[name] = min(item, single.get(name, item))
            found = [item for item in (self._less(pool) for _, _, pool in sorted(single.values())) if item is not None]
            if not found:
                tried = (self._less(pool) for shortage in shortages for pool in shortage.closest[:3])
                found = [item for item in tried if item is not None][:1]
        yield from found

    def _shortages(self) -> list[Shortage]:
        """Return what is short where only that keeps the demand away, by what is free now."""
        known = self.funnel.shortages
        found = [known[kind] for kind in (Kind.OFFERED, Kind.CLAIMED, Kind.FREE) if kind in known]
        if too_small := self._turned_by(Kind.SIZE):
            found.append(Shortage.of(self.wanted, too_small, self.now))
        return found

    def _less(self, pool: Pool) -> ChangeRequest | None:
        """Return the demand cut to what it could have of a pool."""
        demand = self.wanted.demand
        free = available(self.wanted, pool, self.now)
        for node in self.cluster.tree.path(self.wanted.client.node):
            if node.limit is not None:
                free = node.limit.cut(node.holding, free)
        need = demand.resources
        custom = dict(free.custom)
        less = replace(
            need,
            cpu_millis=min(need.cpu_millis, free.cpu_millis),
            mem_mib=min(need.mem_mib, free.mem_mib),
            disk_mib=min(need.disk_mib, free.disk_mib),
            gpus=min(need.gpus, free.gpus),
            custom=tuple((name, min(amount, custom[name])) for name, amount in need.custom if name in custom),
        )
        ports = min(demand.port_count, max(0, count_ports(free.ports) - count_ports(need.ports)))
        cut = replace(demand, resources=less, port_count=ports)
        is_nothing_left = (need.cpu_millis and not less.cpu_millis) or (need.mem_mib and not less.mem_mib)
        if cut == demand or is_nothing_left or not self._is_let_in(self._changed(cut), pool):
            return None
        before, after = dimensions(need), dimensions(less)
        before["ports"], after["ports"] = demand.port_count, ports
        changed = {name: after.get(name, 0) for name, amount in before.items() if after.get(name, 0) != amount}
        words = joined(_amount(name, amount) for name, amount in changed.items())
        return ChangeRequest(cut, f"ask for {words}: {pool.agent.info.hostname} has that")

    def drop_constraints(self) -> Iterator[ChangeRequest]:
        """Yield the constraints without any one of which it would fit."""
        for constraint in self.wanted.demand.constraints:
            kind = Kind.GROUP if constraint in self.wanted.counting else Kind.CONSTRAINT
            demand = self._without(constraint)
            changed = self._changed(demand)
            for pool in self.funnel.turned.get(Predicate(kind, constraint), ())[:MOST_TRIED]:
                if self._is_let_in(changed, pool):
                    text = f"drop the constraint {text_of(constraint)}: {pool.agent.info.hostname} has room"
                    yield ChangeRequest(demand, text)
                    break

    def _without(self, constraint: Constraint) -> Demand:
        demand = self.wanted.demand
        return replace(demand, constraints=tuple(item for item in demand.constraints if item != constraint))

    def promise_less(self) -> Iterator[ChangeRequest]:
        """Yield a promise to end before an agent will be away."""
        for _, pool in self._blocked_by(Kind.MAINTENANCE):
            away = pool.agent.unavailability
            assert away is not None
            left_ms = away.start_unix_ms - int(self.now * 1000)
            demand = replace(self.wanted.demand, expected_duration_ms=left_ms)
            if left_ms > 0 and self._is_let_in(self._changed(demand), pool):
                text = f"promise to end within {span_text(left_ms / 1000)}: {pool.agent.info.hostname} is there so long"
                yield ChangeRequest(demand, text)
                return

    def revive(self) -> Iterator[Revive]:
        """Yield the end of what the framework itself has refused."""
        for _, pool in self._blocked_by(Kind.FILTER):
            until = max(each.until for each in self.cluster.filters.of(pool, self.wanted.client))
            role = self.wanted.client.role
            wait = f"its refusal of {pool.agent.info.hostname} ends in {span_text(until - self.now)}"
            yield Revive(role, f"the framework revives its offers for role {role}; {wait}")
            return

    # Others

    def end_offer(self) -> Iterator[EndOffer]:
        """Yield the offer that ends first of those whose end would do."""
        pools = self._turned_by(Kind.OFFERED)[:MOST_TRIED]
        offers = [offer for pool in pools for offer in pool.offers.values() if not self._is_mine(offer)]
        for offer in sorted(offers, key=lambda offer: offer.expires_at)[:MOST_TRIED]:
            with supposing.let_go(self.cluster, offer):
                is_let_in = self._is_let_in(self.wanted, offer.pool)
            if is_let_in:
                whose = f"{framework_text(offer.framework)} lets go of offer {offer.id} on {offer.agent.info.hostname}"
                yield EndOffer(offer, f"{whose}; it ends in {span_text(offer.expires_at - self.now)}")
                return

    def _is_mine(self, offer: OutstandingOffer) -> bool:
        """Say whether an offer was made for this very demand: that it ends would help nobody."""
        return any(part is self.wanted for part, _ in offer.parts)

    def end_task(self) -> Iterator[EndTask]:
        """Yield the smallest task of those found whose end would do."""
        for task in sorted(self._candidates(), key=_size):
            pools = [task.pool, *self._turned_by(Kind.QUOTA)[:1]]
            with supposing.ended(self.cluster, task):
                is_let_in = any(self._is_let_in(self.wanted, pool) for pool in pools)
            if is_let_in:
                whose = f"task {task.id} of {framework_text(task.framework)} ends on {task.agent.info.hostname}"
                yield EndTask(task, f"{whose} ({resources_text(task.resources)})")
                return

    def _candidates(self) -> list[Task]:
        if self._turned_by(Kind.QUOTA):
            return self._holding_limit()[:MOST_TRIED]
        wanted = self.wanted
        need = wanted.demand.resources
        tasks = []
        known = self.funnel.shortages
        for pool in (pool for kind in (Kind.OFFERED, Kind.FREE) if kind in known for pool in known[kind].closest):
            free = available(wanted, pool, self.now)
            for task in alive(pool.agent):
                gets = task.resources
                if (
                    task.pool is pool
                    and free.cpu_millis + gets.cpu_millis >= need.cpu_millis
                    and free.mem_mib + gets.mem_mib >= need.mem_mib
                ):
                    tasks.append(task)
        for pool in self._turned_by(Kind.GROUP)[:32]:
            tasks += [task for task in alive(pool.agent) if self._is_of_group(task)]
        return tasks

    def _is_of_group(self, task: Task) -> bool:
        return task.framework is self.wanted.client.framework and task.terms.group == self.wanted.demand.group

    def _holding_limit(self) -> list[Task]:
        """Return tasks below the lowest role whose limit is in the way, the smallest first."""
        node = next(over_limit(self.cluster, self.wanted.client, self.wanted.demand.resources))
        tasks: list[Task] = []
        for framework in self.cluster.frameworks.values():
            if len(tasks) < MOST_TASKS and any(is_within(role, node.role) for role in framework.clients):
                theirs = (task for task in framework.tasks.values() if not task.state.is_terminal)
                tasks += [task for task in theirs if task.agent.is_offerable and is_within(task.role, node.role)]
        return sorted(tasks, key=_size)

    # Operators

    def raise_limits(self) -> Iterator[RaiseLimits]:
        """Yield the least limits under which it would fit."""
        if not self._turned_by(Kind.QUOTA) or self.cluster.recovering:
            return
        limits: list[tuple[Role, Quota]] = []
        words: list[str] = []
        need = self.wanted.demand.resources
        for node in over_limit(self.cluster, self.wanted.client, need):
            assert node.limit is not None
            least = {
                name: getattr(node.holding, name) + getattr(need, name)
                for name, most in node.limit.amounts().items()
                if getattr(node.holding, name) + getattr(need, name) > most
            }
            limits.append((node.role, replace(node.limit, **least)))
            words.append(f"the limit of {node.role} to {amounts_text(least)}")
        yield RaiseLimits(tuple(limits), f"an operator raises {joined(words)}")

    def give_back(self) -> Iterator[GiveBack]:
        """Yield a reservation for others in whose place it would fit."""
        for pool in self._turned_by(Kind.RESERVED)[:MOST_TRIED]:
            agent = pool.agent
            base = agent.pools[""]
            for other in agent.pools.values():
                if other.reservation is None:
                    continue
                with supposing.more_free(base, other.free, is_larger=True):
                    is_let_in = not other.used.cpu_millis and self._is_let_in(self.wanted, base)
                if is_let_in:
                    kept = f"{resources_text(other.reservation.resources)} kept for {other.reservation.role}"
                    name = other.reservation.reservation_id
                    text = f"reservation {name} of {agent.info.hostname} is given back ({kept})"
                    yield GiveBack(agent, other.reservation, text)
                    return

    def bring_back(self) -> Iterator[BringBack]:
        """Yield an agent that would do if it were there."""
        for kind, what in (
            (Kind.DRAINING, "an operator activates {}"),
            (Kind.MAINTENANCE, "an operator ends the maintenance of {}"),
            (Kind.CONNECTED, "{} comes back"),
        ):
            for _, pool in self._blocked_by(kind):
                yield BringBack(pool.agent, kind, what.format(pool.agent.info.hostname))
                break


_PLAIN = {"cpu_millis": "cpus", "mem_mib": "memory", "disk_mib": "disk", "gpus": "gpus", "ports": "ports"}


def _amount(name: str, amount: int) -> str:
    return amounts_text({name: amount}) if amount else f"no {_PLAIN.get(name, name)}"


def _size(task: Task) -> tuple[int, int, str]:
    return (task.resources.cpu_millis, task.resources.mem_mib, task.id)
