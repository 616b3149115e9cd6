"""One pass: what became free, and who wants more, brought together step by step.

Rule 1: a step takes the client that is first in the tree's order, and gives it one task of what it demands, or all of
        one pool if it makes no demands. Then the order is looked at again.
Rule 2: a client is shown the pools that changed since the last pass, and all of them when it wants more than then.
Rule 3: who can take nothing more is not asked again in the pass.
Rule 4: who has passed a pool on in this turn, or takes raw offers and had no use for the last while demand waits, is
        asked when the others have had what they want; so is everybody without demand for what was called in for it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from runrig.resources import NOTHING, Resources
from runrig_master.core.allocation import gangs, optimistic
from runrig_master.core.allocation.places import Places
from runrig_master.core.allocation.predicates import (
    cut,
    holds,
    holds_when_empty,
    is_at_limit,
    must_borrow,
    open_to,
    quota_problem,
    suitable,
)
from runrig_master.core.allocation.queue import Queue
from runrig_master.core.clients import Client, Wanted, need
from runrig_master.core.cluster import Cluster
from runrig_master.core.demands import line_up
from runrig_master.core.pools import Bits, Pool, is_worth_offering
from runrig_master.core.roles import RoleNode
from runrig_master.core.state import OutstandingOffer

MOST_ROUNDS = 1_000
"""Each round takes something, so they end; this bound is for the day on which that is not so."""


def allocate(cluster: Cluster, now: float) -> list[OutstandingOffer]:
    """Run a pass if anything changed; return the offers made."""
    cluster.settle_conflicts()
    if not (cluster.dirty or cluster.hungry or cluster.reshaped or cluster.tree.eased):
        cluster.passed_on = {}
        return []
    pass_ = Pass(cluster, now)
    pass_.decide()
    return pass_.issue()


TakeKey = tuple[Client, Pool, str, bool]
"""Who takes it, from where, for which gang, and whether it is lent."""


class Take:
    """What a client takes from a pool in this pass."""

    __slots__ = ("key", "lent_for_ms", "parts", "resources", "tasks")

    def __init__(self, key: TakeKey) -> None:
        self.key = key
        self.resources = NOTHING
        self.lent_for_ms = 0
        self.tasks: list[Resources] = []
        self.parts: dict[Wanted, int] = {}


class Pass:
    """One pass over what is dirty and who is hungry."""

    def __init__(self, cluster: Cluster, now: float) -> None:
        cluster.passes += 1
        cluster.pools.begin_pass()
        cluster.tree.settle()
        self.cluster = cluster
        self.now = now
        self.dirty = cluster.dirty & cluster.pools.offerable
        self.hungry, cluster.hungry = cluster.hungry, {}
        self._ask_again_who_was_turned_away()
        self.passed_on, cluster.passed_on = cluster.passed_on, {}
        self.called_in, cluster.called_in = cluster.called_in, 0
        cluster.dirty = 0
        for pool in cluster.pools.within(self.dirty):
            if pool.refused:
                cluster.filters.refresh(pool)
        self.asks_again = False
        """Even those who stand back are asked now."""
        self._is_demand_waiting = bool(cluster.backlog.waiting)
        self._stand_back: dict[Client, None] = {}
        """Clients of raw offers that have let demand go first."""
        self.round = cluster.next_round()
        self.made: list[OutstandingOffer] = []
        self._takes: dict[TakeKey, Take] = {}
        self._judged: dict[Client, None] = {}
        self._places: dict[Wanted, Places] = {}
        self._open: dict[Client, Bits] = {}
        self._visible: dict[Client, Bits] = {}
        """What raw clients are shown in this round."""
        self._most: tuple[int, int] | None = None
        """The most cpu and the most memory that were free of a pool that changed; it only shrinks during a pass."""
        self._at: dict[Client, int] = {}
        """How far a client's queue is spent."""
        self.has_rebalanced = False
        """A task was taken of a group in which other demand balances that found nothing before."""
        self._guaranteed: RoleNode | None = None
        """The role whose guarantee is being served."""

    def decide(self) -> None:
        """Take steps until nobody can take one."""
        cluster = self.cluster
        self._take_up_feasible()
        self._serve_guarantees()
        self._serve_all(self._step)
        if self.passed_on or self._stand_back:
            self.asks_again = True
            self._begin_round()
            self._serve_all(self._late_step)
        if not self._is_anything_left():
            self._judge_unasked()
        cluster.tree.eased.clear()

    def _is_anything_left(self) -> bool:
        """Say whether anybody is shown anything: when a pool is gone, none of the others need be asked about it."""
        pools = self.cluster.pools
        return bool((pools.offerable if self.hungry else self.dirty) & pools.worth)

    def _judge_unasked(self) -> None:
        for client in self.hungry:
            for wanted in client.queue:
                if wanted.is_new and not wanted.offered:
                    self.judge(wanted)

    def _serve_all(self, step: Callable[[Client], bool]) -> None:
        """Serve whoever can take something; again those whose constraints what was taken since has eased."""
        tree = self.cluster.tree
        for _ in range(MOST_ROUNDS):
            queue = Queue(tree.root, tree.total)
            while self._is_anything_left() and queue.serve(step):
                pass
            if not self.has_rebalanced:
                return
            self.has_rebalanced = False
            self._begin_round()

    def _begin_round(self) -> None:
        self.round = self.cluster.next_round()
        self._at.clear()
        self._places.clear()
        self._visible.clear()

    def issue(self) -> list[OutstandingOffer]:
        """Make offers of what was taken; return them."""
        cluster = self.cluster
        for (client, pool, gang_id, _), take in self._takes.items():
            if not take.resources.is_empty:
                parts = tuple(take.parts.items())
                for wanted, count in parts:
                    cluster.note_waiting(wanted)
                    if wanted.claims:
                        cluster.use_claim(wanted, pool, count)
                offer = cluster.issue_offer(pool, client, take.resources, self.now, parts, gang_id)
                offer.lent_for_ms = take.lent_for_ms
                self.made.append(offer)
        self.made += optimistic.offers(self)
        for client in self.hungry:
            for wanted in client.queue:
                wanted.is_new = False
        for client in self._judged:
            line_up(client)
        cluster.settle_conflicts()
        return self.made

    # Guarantees

    def _serve_guarantees(self) -> None:
        """Serve roles below their guarantee first, the one with the smallest part of it before others.

        What a role holds only grows meanwhile: one whose part has grown since it was put on the heap is put back.
        """
        tree = self.cluster.tree
        short = [(node.satisfaction(), node.role, node) for node in tree.guaranteed if node.lacks()]
        heapq.heapify(short)
        queue = Queue(tree.root, tree.total)
        while short and self._is_anything_left():
            part, role, node = short[0]
            now_part = node.satisfaction()
            if now_part != part:
                heapq.heapreplace(short, (now_part, role, node))
                continue
            if node is not self._guaranteed:
                self._guaranteed, queue = node, Queue(node, tree.total)
            if not node.lacks() or not queue.serve(self._step):
                heapq.heappop(short)
        self._guaranteed = None

    # Steps

    def _step(self, client: Client) -> bool:
        if not client.takes_offers:
            return False
        if client.framework.uses_demand:
            return self._demand_step(client)
        if client.node.is_optimistic or self._stands_back(client):
            return False
        return self._raw_step(client)

    def _stands_back(self, client: Client) -> bool:
        """Say whether demand goes first: what it waits for must not travel round those who have no use for it."""
        is_idle = client.idle_until > self.now and not self.asks_again and self._guaranteed is None
        if is_idle and self._is_demand_waiting:
            self._stand_back[client] = None
            return True
        return False

    def _late_step(self, client: Client) -> bool:
        return (client in self.passed_on or client in self._stand_back) and self._step(client)

    def scope(self, client: Client, is_new: bool) -> Bits:
        """Return the pools that a client is shown."""
        pools = self.cluster.pools
        bits = (pools.offerable if is_new else self.dirty) & pools.worth
        if client in self.passed_on and not self.asks_again:
            bits &= ~self.passed_on[client]
        return bits

    def _raw_step(self, client: Client) -> bool:
        """Take all of one pool."""
        if not is_at_limit(self.cluster, client):
            pools = self.cluster.pools
            candidates = self._visible_to(client) & pools.worth
            if candidates & self.called_in and not self.asks_again and self._guaranteed is None:
                self._stand_back[client] = None
                candidates &= ~self.called_in
            for pool in pools.within(candidates):
                resources = self.cut(client, pool)
                if resources is not None:
                    self._take(client, pool, resources)
                    return True
        self._turn_away(client)
        return False

    def _visible_to(self, client: Client) -> Bits:
        """Return the pools that a raw client is shown in this round, and has not refused."""
        visible = self._visible.get(client)
        if visible is None:
            visible = self.scope(client, client in self.hungry) & self.open_to(client) & ~client.hidden
            self._visible[client] = visible
        return visible

    def _turn_away(self, client: Client) -> None:
        """Remember who is to be asked again when what is below a limit holds less."""
        for node in self.cluster.tree.limits_of(client.node):
            node.turned_away[client] = None

    def cut(self, client: Client, pool: Pool) -> Resources | None:
        """Return what a client without demand is offered of a pool; None: nothing."""
        resources = cut(self.cluster, client, pool, self.now)
        served = self._guaranteed
        if served is not None and served.guarantee is not None:
            resources = served.guarantee.cut(served.holding, resources)
        if not is_worth_offering(resources) or self.cluster.filters.hide(pool, client, resources, self.now):
            return None
        return resources

    def _demand_step(self, client: Client) -> bool:
        """Take one task of the most urgent demand that finds a place, or a whole gang."""
        queue = client.queue
        at = self._at.get(client, 0)
        while at < len(queue):
            wanted = queue[at]
            if wanted.unmet > 0 and wanted.spent != self.round:
                if wanted.demand.gang_id:
                    if gangs.place(self, wanted):
                        return True
                elif (pool := self._place_for(wanted)) is not None:
                    self.take_task(wanted, pool)
                    return True
            at += 1
            self._at[client] = at
        return False

    def _place_for(self, wanted: Wanted) -> Pool | None:
        if not self.may_fit(wanted) or self.is_beyond_quota(wanted):
            return None
        if wanted.is_new and not wanted.offered and not self.judge(wanted):
            return None
        pool = self.places(wanted).best()
        if pool is None:
            wanted.spent = self.round
        return pool

    def may_fit(self, wanted: Wanted) -> bool:
        """Say whether any pool that a demand is shown could be large enough: most demand that waits need not look."""
        if wanted.is_new:
            return True
        if self._most is None:
            free = [pool.free for pool in self.cluster.pools.within(self.dirty & self.cluster.pools.worth)]
            most_cpu = max((each.cpu_millis for each in free), default=-1)
            self._most = (most_cpu, max((each.mem_mib for each in free), default=-1))
        return wanted.amounts[0] <= self._most[0] and wanted.amounts[1] <= self._most[1]

    def is_beyond_quota(self, wanted: Wanted) -> bool:
        """Say whether a limit keeps a demand from one task more; it is asked again when that has more room."""
        if quota_problem(self.cluster, wanted) is None:
            return False
        self._turn_away(wanted.client)
        return True

    def places(self, wanted: Wanted) -> Places:
        """Return the pools that a demand may still take from in this pass."""
        places = self._places.get(wanted)
        if places is None:
            candidates = self.scope(wanted.client, wanted.is_new) & suitable(self.cluster, wanted)
            places = self._places[wanted] = Places(self.cluster, wanted, candidates, self.now)
        return places

    def judge(self, wanted: Wanted) -> bool:
        """Put demand aside that no pool could hold even if it were empty: it costs nothing until a pool changes."""
        bits, totals = suitable(self.cluster, wanted), self.cluster.pools.totals
        if any(theirs & bits and holds(wanted, total) for total, theirs in totals.items()):
            return True
        wanted.is_infeasible = True
        self.cluster.backlog.infeasible[wanted] = None
        self.cluster.note_waiting(wanted)
        self._judged[wanted.client] = None
        return False

    def _take_up_feasible(self) -> None:
        """Take demand up again that a pool which came or has grown could hold."""
        cluster = self.cluster
        reshaped, cluster.reshaped = cluster.reshaped, 0
        if not reshaped:
            return
        for wanted in cluster.backlog.long:
            wanted.is_too_big = False
        for wanted in list(cluster.backlog.infeasible):
            pools = cluster.pools.within(reshaped & suitable(cluster, wanted))
            if any(holds_when_empty(wanted, pool) for pool in pools):
                del cluster.backlog.infeasible[wanted]
                wanted.is_infeasible = False
                cluster.note_waiting(wanted)
                wanted.is_new = True
                self.hungry[wanted.client] = None
                line_up(wanted.client)

    def _ask_again_who_was_turned_away(self) -> None:
        """Show all pools to those whom a limit has kept from something, and has more room now."""
        for node in self.cluster.tree.eased:
            turned_away, node.turned_away = node.turned_away, {}
            for client in turned_away:
                self.hungry[client] = None
                for wanted in client.queue:
                    wanted.is_new = True
        self.cluster.tree.eased.clear()

    def open_to(self, client: Client) -> Bits:
        """Return the pools that are not reserved for others than a client."""
        bits = self._open.get(client)
        if bits is None:
            bits = self._open[client] = open_to(self.cluster, client)
        return bits

    # Taking

    def take_task(self, wanted: Wanted, pool: Pool) -> Take:
        """Take one task of a demand from a pool."""
        is_lent = bool(pool.claims) and must_borrow(wanted, pool)
        take = self._take(wanted.client, pool, need(wanted.demand, pool), wanted.demand.gang_id, is_lent)
        take.parts[wanted] = take.parts.get(wanted, 0) + 1
        if is_lent:
            take.lent_for_ms = max(take.lent_for_ms, wanted.demand.expected_duration_ms)
        wanted.offered += 1
        group, framework = wanted.demand.group, wanted.client.framework
        framework.groups.add(group, pool.agent, 1)
        self.has_rebalanced |= any(
            other.is_balancing and other.spent == self.round
            for client in framework.clients.values()
            for other in client.counting.get(group, ())
        )
        return take

    def give_back(self, wanted: Wanted, pool: Pool, take: Take) -> None:
        """Undo the latest task taken of a demand from a pool."""
        resources = take.tasks.pop()
        self.cluster.give_back(pool, wanted.client, resources)
        take.resources = take.resources - resources
        if not take.tasks:
            del self._takes[take.key]
        take.parts[wanted] -= 1
        wanted.offered -= 1
        wanted.client.framework.groups.add(wanted.demand.group, pool.agent, -1)

    def _take(self, client: Client, pool: Pool, resources: Resources, gang_id: str = "", is_lent: bool = False) -> Take:
        self.cluster.take(pool, client, resources)
        key = (client, pool, gang_id, is_lent)
        take = self._takes.get(key)
        if take is None:
            take = self._takes[key] = Take(key)
        take.resources = take.resources + resources
        take.tasks.append(resources)
        return take
