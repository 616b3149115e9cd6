"""Filters against a plain list of all that was ever refused: rule 5, its bound, and when the master must wake."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runrig.ids import AgentId, FrameworkId, Role
from runrig.offers import MAX_REFUSE_MS
from runrig.resources import NOTHING
from runrig_master.core.clients import Client
from runrig_master.core.filters import LEAST_EXPIRIES, Filters, Refusal
from runrig_master.core.pools import Pool
from tests.master.core.cluster import World, framework
from tests.master.core.cluster import agent as an_agent
from tests.properties.amounts import Amounts
from tests.properties.effort import searching

FilterKey = tuple[FrameworkId, Role]
AGENTS = (AgentId("a1"), AgentId("a2"))
agents = st.sampled_from(AGENTS)
takers = st.tuples(st.sampled_from(["f", "g"]).map(FrameworkId), st.sampled_from(["eng", "ops"]).map(Role))
few = st.builds(
    lambda cpu, mem, fpga, ports: Amounts(Counter(cpu_millis=cpu, mem_mib=mem, fpga=fpga), ports),
    st.integers(0, 2),
    st.integers(0, 1),
    st.integers(0, 1),
    st.sets(st.integers(1, 3)),
)
"""So little that one refusal often covers another."""
times = st.sampled_from([1, 1_000, 1_500, 5_000, 60_000, MAX_REFUSE_MS])


@dataclass(frozen=True)
class Refused:
    """What was refused, by whom, of which agent, and until when."""

    agent: AgentId
    taker: FilterKey
    resources: Amounts
    until: float

    def hides(self, resources: Amounts, now: float) -> bool:
        return self.until > now and self.resources.holds(resources)


class Refusals(RuleBasedStateMachine):
    """Offers that are refused and looked at again, while time passes and the master sleeps until it must wake."""

    def __init__(self) -> None:
        super().__init__()
        self.begin(16)

    @initialize(most=st.sampled_from([1, 2, 3, 16]))
    def begin(self, most: int) -> None:
        self.most = most
        self.filters = Filters(most)
        cluster = World()
        for name in AGENTS:
            cluster.handle(cluster.registration(an_agent(name)))
        for framework_id in ("f", "g", "restless"):
            cluster.handle(cluster.subscription(framework(framework_id, "eng", "ops")))
        self.pools: dict[AgentId, Pool] = {name: cluster.master.cluster.agents[name].pools[""] for name in AGENTS}
        self.clients: dict[FilterKey, Client] = {
            (item.id, role): client
            for item in cluster.master.cluster.frameworks.values()
            for role, client in item.clients.items()
        }
        self.history: list[Refused] = []
        """All that was refused and not cleared, oldest first, whether its time is over or not."""
        self.now = 1_000_000.0
        self.was_restless = False

    def of(self, agent: AgentId, taker: FilterKey) -> list[Refused]:
        return [item for item in self.history if (item.agent, item.taker) == (agent, taker)]

    @rule(agent=agents, taker=takers, refused=st.lists(st.tuples(few, times), min_size=1, max_size=3))
    def somebody_refuses(self, agent: AgentId, taker: FilterKey, refused: list[tuple[Amounts, int]]) -> None:
        for resources, refuse_ms in refused:
            until = self.now + refuse_ms / 1000
            self.filters.refuse(
                self.pools[agent], self.clients[taker], Refusal(resources.resources(), until, "too small")
            )
            self.history.append(Refused(agent, taker, resources, until))
            assert self.filters.hide(self.pools[agent], self.clients[taker], resources.resources(), self.now)

    @rule(agent=agents, taker=takers, resources=few)
    def something_is_free(self, agent: AgentId, taker: FilterKey, resources: Amounts) -> None:
        """Hidden exactly when it is within what was refused; the bound may forget the oldest, and no other."""
        mine = self.of(agent, taker)
        is_hidden = self.filters.hide(self.pools[agent], self.clients[taker], resources.resources(), self.now)
        if is_hidden:
            assert any(item.hides(resources, self.now) for item in mine), "nobody refused that"
        else:
            newest = mine[-self.most :]
            assert not any(item.hides(resources, self.now) for item in newest), "it was refused, and is offered again"

    @rule(agent=agents, taker=takers)
    def more_than_ever_is_free(self, agent: AgentId, taker: FilterKey) -> None:
        """Let a larger offer get through."""
        every = Amounts()
        for item in self.of(agent, taker):
            every.scalars |= item.resources.scalars
        every.scalars["gpus"] += 1
        assert not self.filters.hide(self.pools[agent], self.clients[taker], every.resources(), self.now)

    @rule(taker=takers, is_all=st.booleans())
    def somebody_revives(self, taker: FilterKey, is_all: bool) -> None:
        framework, role = taker[0], None if is_all else taker[1]
        for key, client in self.clients.items():
            if key[0] == framework and role in (None, key[1]):
                self.filters.clear_client(client)
        self.history = [
            item for item in self.history if item.taker[0] != framework or role not in (None, item.taker[1])
        ]

    @rule(agent=agents)
    def agent_changes(self, agent: AgentId) -> None:
        self.filters.clear_pool(self.pools[agent])
        self.history = [item for item in self.history if item.agent != agent]

    @precondition(lambda self: not self.was_restless)
    @rule(agent=agents)
    def somebody_refuses_and_revives_all_the_time(self, agent: AgentId) -> None:
        """Leave so many times behind for which nothing waits any more that they are cleared away."""
        self.was_restless = True
        other = (FrameworkId("restless"), Role("eng"))
        for second in range(LEAST_EXPIRIES):
            self.filters.refuse(self.pools[agent], self.clients[other], Refusal(NOTHING, self.now + second + 1, ""))
            self.filters.clear_client(self.clients[other])

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.5, 1.0, 1.5, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.turn_to(self.now + seconds)

    @rule()
    def the_master_sleeps_until_it_must_wake(self) -> None:
        if (due := self.filters.next_expiry()) is not None:
            self.turn_to(max(self.now, due))

    def turn_to(self, now: float) -> None:
        """Let time pass: nothing that was hidden comes to light without its agent being named."""
        hidden = [item for item in self.history if self.is_hidden(item)]
        self.now = now
        self.what_was_refused_stays_hidden()
        freed = self.filters.expire(now)
        for item in hidden:
            assert self.is_hidden(item) or freed & self.pools[item.agent].bit, (
                f"{item} may be offered, and nobody notices"
            )
        due = self.filters.next_expiry()
        assert due is None or due > now, "the master would wake for nothing, again and again"

    def is_hidden(self, item: Refused) -> bool:
        return self.filters.hide(self.pools[item.agent], self.clients[item.taker], item.resources.resources(), self.now)

    # What must hold

    @invariant()
    def what_was_refused_stays_hidden(self) -> None:
        for item in self.history:
            self.something_is_free(item.agent, item.taker, item.resources)

    @invariant()
    def the_bound_is_kept_and_nothing_is_invented(self) -> None:
        for agent in AGENTS:
            for taker, client in self.clients.items():
                kept = self.filters.of(self.pools[agent], client)
                assert len(kept) <= self.most
                mine = [(item.resources.resources(), item.until) for item in self.of(agent, taker)]
                assert all((refusal.resources, refusal.until) in mine for refusal in kept)

    @invariant()
    def no_refusal_runs_out_before_the_master_wakes(self) -> None:
        due = self.filters.next_expiry()
        for agent in AGENTS:
            for client in self.clients.values():
                for refusal in self.filters.of(self.pools[agent], client):
                    assert due is not None
                    assert due <= refusal.until

    @invariant()
    def the_bit_of_a_pool_says_whether_all_that_is_free_there_is_hidden(self) -> None:
        self.filters.expire(self.now)
        for pool in self.pools.values():
            self.filters.refresh(pool)
            for client in self.clients.values():
                is_hidden = self.filters.hide(pool, client, pool.free, self.now)
                assert bool(client.hidden & pool.bit) == is_hidden

    @rule(agent=agents, free=few)
    def something_else_becomes_free(self, agent: AgentId, free: Amounts) -> None:
        self.pools[agent].free = free.resources()


TestRefusals = Refusals.TestCase
TestRefusals.settings = searching(examples=100, steps=40)
