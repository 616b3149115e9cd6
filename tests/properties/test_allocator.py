"""The allocator against the naive one: every pass makes exactly its offers, in the same order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from runrig.agents import AgentChanged
from runrig.constraints import Constraint, Operator
from runrig.demand import Demand, Placement
from runrig.ids import AgentId, Role
from runrig.offers import (
    MAX_REFUSE_MS,
    Accept,
    Call,
    Decline,
    Filter,
    LaunchGroup,
    LaunchTasks,
    Revive,
    Suppress,
    UpdateDemand,
)
from runrig.reservations import Reservation, Unavailability
from runrig.resources import Resources
from runrig.tasks import RuntimeKind, TaskSpec, TaskState, Terms
from runrig_master.core.allocation import places
from runrig_master.core.events import (
    AgentReported,
    AgentStreamClosed,
    DeactivationAsked,
    Event,
    QuotasAsked,
    SchedulerCalled,
    SchedulerStreamClosed,
    Tick,
    UnavailabilityAsked,
    WeightAsked,
)
from runrig_master.core.master import Master
from runrig_master.core.quotas import Quota, RoleQuota
from runrig_master.core.settings import CoreSettings
from runrig_master.core.state import OutstandingOffer
from tests.master.core.books import check_books
from tests.master.core.cluster import World, agent, found, framework, said, task
from tests.properties.effort import searching
from tests.properties.naive_allocator import NaiveAllocator
from tests.properties.scenes import made_of, scene_of

SETTINGS = CoreSettings(
    silence_timeout_s=20.0, filters_per_agent_and_framework=1_000, layaway_after_s=1e9, preemptions_per_minute=0
)
"""What is laid away and preempted has tests of its own: it changes what is free for whom, not how it is shared."""
MOST_FEW = places.FEW
RACKS = ("r1", "r2", "r3")
AGENTS = {
    "a1": replace(
        agent("a1", cpus=4, mem_mib=4_000, ports="[31000-31003]", attributes=(("rack", "r1"),)),
        reservations=(Reservation("x", Role("eng"), Resources(2_000, 1_000), is_static=True),),
    ),
    "a2": agent("a2", cpus=3, mem_mib=6_000, gpus=2, attributes=(("rack", "r2"),), disk_mib=10),
    "a3": replace(
        agent("a3", cpus=5, mem_mib=3_000, custom=(("fpga", 2_000),), attributes=(("rack", "r1"),)),
        reservations=(
            Reservation("y", Role("eng/ads"), Resources(1_000, 1_000, custom=(("fpga", 1_000),)), is_static=True),
        ),
    ),
    "a4": agent("a4", cpus=1, mem_mib=500, ports="[31000-31001]"),
    "a5": replace(agent("a5", cpus=2, mem_mib=0, attributes=(("rack", "r2"),)), runtimes=(RuntimeKind.DOCKER,)),
}
FRAMEWORKS = {
    "f": framework("f", "eng", "ops"),
    "g": replace(framework("g", "eng/ads"), takes_gpus=True),
    "h": framework("h", "ops", "eng/ads"),
    "p": framework("p", "eng/ads", "ops"),
    "q": framework("q", "eng", "eng/ml"),
}
WITH_DEMAND = ("p", "q")
ROLES = ("eng", "eng/ads", "eng/ml", "ops")
agents = st.sampled_from(sorted(AGENTS))
owners = st.sampled_from(sorted(FRAMEWORKS))
roles = st.sampled_from(ROLES).map(Role)
refusals = st.sampled_from([0, 0, 5_000, 60_000, MAX_REFUSE_MS]).map(Filter)
pick = st.integers(0, 1_000)
turns = st.sampled_from([True, True, False])
"""Whether a turn of the master ends with this event, or more comes first."""
few_cpus = st.sampled_from([0, 500, 1_000, 1_000, 2_000])
constraints = st.one_of(
    st.builds(Constraint, st.just("rack"), st.just(Operator.EQUALS), st.sampled_from(RACKS)),
    st.builds(Constraint, st.sampled_from(["rack", "hostname"]), st.just(Operator.UNIQUE)),
    st.builds(Constraint, st.just("rack"), st.just(Operator.GROUP_BY), st.sampled_from(["", "2", "3"])),
    st.builds(Constraint, st.just("rack"), st.just(Operator.MAX_PER), st.sampled_from(["1", "2"])),
    st.builds(Constraint, st.just("rack"), st.sampled_from([Operator.UNLIKE, Operator.LIKE]), st.just("r[12]")),
)
shapes = st.one_of(
    st.builds(Resources, st.sampled_from([500, 1_000, 2_000]), st.sampled_from([0, 500, 1_000])),
    st.builds(Resources, few_cpus, st.just(100), gpus=st.integers(0, 1)),
    st.builds(Resources, few_cpus, st.just(100), ports=st.just(((31001, 31001),))),
    st.just(Resources(100, custom=(("fpga", 500),))),
    st.just(Resources(disk_mib=5)),
    st.just(Resources(50_000, 100)),
)
demands = st.builds(
    Demand,
    st.sampled_from(["d1", "d2", "d3", "d4"]),
    shapes,
    st.integers(1, 4),
    st.lists(constraints, max_size=2).map(tuple),
    st.sampled_from(Placement),
    st.sampled_from([0, 0, 5]),
    st.sampled_from(["", "", "", "gang"]),
    st.sampled_from([0, 5_000]),
    st.sampled_from([0, 0, 1, 2]),
    st.sampled_from(["", "red"]),
    st.sampled_from([RuntimeKind.ANY, RuntimeKind.ANY, RuntimeKind.DOCKER]),
    reservation_id=st.sampled_from(["", "", "", "x"]),
)
amounts = st.one_of(
    st.none(),
    st.builds(Quota, st.sampled_from([None, 0, 1_000, 2_500, 4_000]), st.sampled_from([None, 500, 3_000])),
    st.builds(Quota, disk_mib=st.just(5), gpus=st.sampled_from([None, 0, 1])),
)


class Watched(Master):
    """A master whose every pass is compared with what the naive allocator makes of the same scene."""

    def _allocate(self, now: float) -> list[OutstandingOffer]:
        expected = NaiveAllocator(scene_of(self.cluster, now)).run()
        made = super()._allocate(now)
        assert [made_of(offer) for offer in made] == expected
        return made


class WatchedWorld(World):
    """A world with such a master."""

    def fresh_master(self) -> Master:
        """Build it."""
        return Watched("c1", self.epoch, self.settings, self.first_records, self.first_now)


class Allocator(RuleBasedStateMachine):
    """Agents and frameworks that come and go, want, take, refuse and give back."""

    @initialize(first=st.sets(agents, min_size=1), few=st.sampled_from([0, MOST_FEW]))
    def begin(self, first: set[str], few: int) -> None:
        """Have pools sorted for all demands, as in large clusters, or for each."""
        places.FEW = few
        self.world = WatchedWorld(SETTINGS)
        self.infos = dict(AGENTS)
        self.count = 0
        for name in FRAMEWORKS:
            self.subscribe(name)
        for name in sorted(first):
            self.register(name)
        self.end_turn()

    def teardown(self) -> None:
        """Have small sets be small again."""
        places.FEW = MOST_FEW

    # Turns

    def tell(self, event: Event, ends_turn: bool = False) -> None:
        self.world.handle(event)
        check_books(self.world.master.cluster)
        if ends_turn:
            self.end_turn()

    def end_turn(self) -> None:
        self.world.handle(Tick())
        check_books(self.world.master.cluster)

    # Agents

    @rule(name=agents, ends=turns)
    def agent_registers(self, name: str, ends: bool) -> None:
        self.register(name)
        if ends:
            self.end_turn()

    def register(self, name: str) -> None:
        old = self.world.streams.get(name)
        known = self.world.master.cluster.agents.get(AgentId(name))
        reports = [
            replace(
                found(each.id, agent_id=name, framework_id=each.framework.id),
                role=each.role,
                resources=each.resources,
                terms=each.terms,
            )
            for each in (known.tasks.values() if known is not None else ())
            if not each.state.is_terminal or each.state is TaskState.TASK_UNREACHABLE
        ]
        self.tell(self.world.registration(self.infos[name], *reports))
        if old is not None:
            self.tell(AgentStreamClosed(old, self.world.now))

    @rule(name=agents, ends=turns)
    def agent_breaks(self, name: str, ends: bool) -> None:
        if (stream := self.world.streams.pop(name, None)) is not None:
            self.tell(AgentStreamClosed(stream, self.world.now), ends)

    @rule(name=agents, cpus=st.sampled_from([2, 3, 7]), rack=st.sampled_from(RACKS), keeps=st.booleans(), ends=turns)
    def agent_changes(self, name: str, cpus: int, rack: str, keeps: bool, ends: bool) -> None:
        before = AGENTS[name]
        info = replace(
            before,
            resources=replace(before.resources, cpu_millis=cpus * 1000),
            attributes=(("rack", rack),),
            reservations=before.reservations if keeps else (),
        )
        stream = self.world.streams.get(name)
        if stream is not None and info != self.infos[name]:
            self.infos[name] = info
            self.tell(AgentReported(stream, AgentChanged(info)), ends)

    @rule(which=pick, ends=turns)
    def task_ends(self, which: int, ends: bool) -> None:
        cluster = self.world.master.cluster
        there = [
            each
            for member in cluster.agents.values()
            if member.id in self.world.streams
            for each in member.tasks.values()
            if not each.state.is_terminal
        ]
        if there:
            each = there[which % len(there)]
            update = said(each.id, TaskState.TASK_FINISHED, each.latest + 1, each.agent.id, each.framework.id)
            self.tell(AgentReported(self.world.streams[each.agent.id], update), ends)

    # Frameworks

    @rule(name=owners, suppressed=st.sets(roles, max_size=1), ends=turns)
    def framework_subscribes(self, name: str, suppressed: set[Role], ends: bool) -> None:
        self.subscribe(name, tuple(sorted(suppressed)))
        if ends:
            self.end_turn()

    def subscribe(self, name: str, suppressed: tuple[Role, ...] = ()) -> None:
        event = self.world.subscription(FRAMEWORKS[name], suppressed=suppressed)
        self.tell(replace(event, call=replace(event.call, uses_demand=name in WITH_DEMAND)))  # type: ignore[arg-type]

    @rule(name=owners, ends=turns)
    def framework_breaks(self, name: str, ends: bool) -> None:
        if (stream := self.world.streams.pop(f"f/{name}", None)) is not None:
            self.tell(SchedulerStreamClosed(stream), ends)

    @rule(name=owners, role=roles, is_suppressed=st.booleans(), ends=turns)
    def framework_steers(self, name: str, role: Role, is_suppressed: bool, ends: bool) -> None:
        if role in FRAMEWORKS[name].roles:
            self.call(name, Suppress((role,)) if is_suppressed else Revive((role,)), ends)

    @rule(
        name=st.sampled_from(WITH_DEMAND),
        which=st.integers(0, 1),
        stated=st.lists(demands, max_size=4, unique_by=lambda demand: demand.demand_id),
        ends=turns,
    )
    def framework_wants(self, name: str, which: int, stated: list[Demand], ends: bool) -> None:
        self.call(name, UpdateDemand(FRAMEWORKS[name].roles[which], tuple(stated)), ends)

    @rule(which=pick, count=st.integers(1, 3), filter_=refusals, ends=turns)
    def offers_are_declined(self, which: int, count: int, filter_: Filter, ends: bool) -> None:
        if (chosen := self._standing(which)) is not None:
            offers = self.world.offers(chosen.framework.id)[:count]
            self.call(chosen.framework.id, Decline(tuple(offer.offer_id for offer in offers), filter_), ends)

    @rule(which=pick, filter_=refusals, ends=turns)
    def what_was_wanted_is_launched(self, which: int, filter_: Filter, ends: bool) -> None:
        chosen = self._standing(which, lambda offer: bool(offer.parts))
        if chosen is None:
            return
        gang = [chosen]
        if chosen.gang_id:
            gang = [
                offer
                for offer in chosen.framework.offers.values()
                if (offer.gang_id, offer.client) == (chosen.gang_id, chosen.client)
            ]
        groups = tuple(self._launch(offer) for offer in gang)
        self.call(chosen.framework.id, Accept(groups, bool(chosen.gang_id), filter_), ends)

    def _launch(self, offer: OutstandingOffer) -> LaunchGroup:
        left = offer.resources
        specs = []
        for wanted, count in offer.parts:
            demand = wanted.demand
            for _ in range(count):
                rest = left.less_ports(demand.resources.ports)
                ports = tuple((port, port) for port in rest.take_ports(demand.port_count))
                need = demand.resources + Resources(ports=ports)
                if not left.contains(need):
                    break
                left = left - need
                specs.append(self._spec(need, offer.pool.reservation_id, demand.group))
        return LaunchGroup(offer.agent.id, (offer.id,), (LaunchTasks(tuple(specs)),))

    def _spec(self, need: Resources, reservation_id: str, group: str) -> TaskSpec:
        self.count += 1
        return replace(task(f"t{self.count}"), resources=need, terms=Terms(reservation_id, group))

    @rule(which=pick, cpus=st.integers(0, 3), mem_mib=st.sampled_from([0, 500, 1_000]), filter_=refusals, ends=turns)
    def offer_is_accepted(self, which: int, cpus: int, mem_mib: int, filter_: Filter, ends: bool) -> None:
        if (offer := self._standing(which)) is None:
            return
        has = offer.resources
        need = Resources(min(cpus * 1000, has.cpu_millis), min(mem_mib, has.mem_mib))
        spec = self._spec(has if need.is_empty else need, offer.pool.reservation_id, "red")
        group = LaunchGroup(offer.agent.id, (offer.id,), (LaunchTasks((spec,)),))
        self.call(offer.framework.id, Accept((group,), filter=filter_), ends)

    def call(self, name: str, call: Call, ends: bool) -> None:
        stream = self.world.streams.get(f"f/{name}")
        if stream is not None:
            self.tell(SchedulerCalled(stream, call), ends)

    def _standing(
        self, which: int, suits: Callable[[OutstandingOffer], bool] = lambda _: True
    ) -> OutstandingOffer | None:
        offers = [offer for offer in self.world.master.cluster.offers.values() if suits(offer)]
        return offers[which % len(offers)] if offers else None

    # Operators and time

    @rule(role=roles, weight=st.sampled_from([1, 300, 1_000, 2_000, 3_000]), ends=turns)
    def operator_weighs(self, role: Role, weight: int, ends: bool) -> None:
        self.tell(WeightAsked(self.world.question(), role, weight), ends)

    @rule(role=roles, limit=amounts, guarantee=amounts, ends=turns)
    def operator_sets_quotas(self, role: Role, limit: Quota | None, guarantee: Quota | None, ends: bool) -> None:
        self.tell(QuotasAsked(self.world.question(), (RoleQuota(role, limit, guarantee),), True), ends)

    @rule(name=agents, is_deactivated=st.booleans(), ends=turns)
    def operator_deactivates(self, name: str, is_deactivated: bool, ends: bool) -> None:
        self.tell(DeactivationAsked(self.world.question(), AgentId(name), is_deactivated), ends)

    @rule(name=agents, start_s=st.sampled_from([0, 3, 30]), duration_s=st.sampled_from([0, 2, 20]), ends=turns)
    def operator_plans_absence(self, name: str, start_s: int, duration_s: int, ends: bool) -> None:
        if AgentId(name) in self.world.master.cluster.agents:
            window = Unavailability(int((self.world.now + start_s) * 1000), duration_s * 1000)
            self.tell(UnavailabilityAsked(self.world.question(), (AgentId(name),), window), ends)

    @rule(after=st.sampled_from([0.0, 1.0, 6.0, 25.0]))
    def time_passes(self, after: float) -> None:
        self.world.now += after
        self.end_turn()


TestAllocator = Allocator.TestCase
TestAllocator.settings = searching(examples=100, steps=40)
