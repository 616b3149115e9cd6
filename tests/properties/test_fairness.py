"""The allocator against exact fractions: every offer goes to whom the definition names, and nothing lies idle."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from runrig.agents import AgentChanged, Launch
from runrig.ids import AgentId, FrameworkId, Role
from runrig.offers import (
    MAX_REFUSE_MS,
    Accept,
    Call,
    Decline,
    Filter,
    LaunchGroup,
    LaunchTasks,
    Offer,
    RescindReason,
    Revive,
    Suppress,
)
from runrig.resources import NOTHING, Resources
from runrig.tasks import TaskState
from runrig_master.core.commands import AgentRecord
from runrig_master.core.events import (
    AgentReported,
    AgentStreamClosed,
    Event,
    SchedulerCalled,
    SchedulerStreamClosed,
    Tick,
    WeightAsked,
)
from runrig_master.core.settings import CoreSettings
from tests.master.core.cluster import World, agent, found, framework, offers_in, orders, rescinded, said, task
from tests.properties.effort import searching
from tests.properties.fairness import Claim, Oracle

SETTINGS = CoreSettings(silence_timeout_s=20.0, filters_per_agent_and_framework=1_000)
AGENTS = {
    "a1": agent("a1", cpus=7, mem_mib=3_000, ports="[31000-31003]", disk_mib=10),
    "a2": agent("a2", cpus=3, mem_mib=9_000, gpus=2),
    "a3": agent("a3", cpus=0, mem_mib=1_000, custom=(("fpga", 2_000),)),
    "a4": agent("a4", cpus=1, mem_mib=0),
}
FRAMEWORKS = {
    info.framework_id: replace(info, takes_gpus=True)
    for info in (
        framework("f", "eng"),
        framework("g", "eng", "ops"),
        framework("h", "ops", "web"),
        framework("i", "web", "eng"),
    )
}
agents = st.sampled_from(sorted(AGENTS))
owners = st.sampled_from(sorted(FRAMEWORKS))
roles = st.sampled_from(["eng", "ops", "web"]).map(Role)
refusals = st.sampled_from([0, 0, 5_000, 60_000, MAX_REFUSE_MS]).map(Filter)
pick = st.integers(0, 1_000)
turns = st.sampled_from([True, True, False])
"""Whether a turn of the master ends with this event, or more comes first."""


class Fairness(RuleBasedStateMachine):
    """Agents and frameworks that come and go, hold and give back."""

    @initialize(first=st.sets(agents, min_size=1))
    def begin(self, first: set[str]) -> None:
        self.world = World(SETTINGS)
        self.oracle = Oracle()
        self.infos = dict(AGENTS)
        self.count = 0
        for name in ("f", "g", "h"):
            self.subscribe(name)
        for name in sorted(first):
            self.register(name)
        self.end_turn()

    # Turns

    def tell(self, event: Event, ends_turn: bool = False) -> None:
        commands = self.world.handle(event)
        for order in orders(commands):
            if isinstance(order, Launch):
                self._launched(event, order)
        self._look()
        if ends_turn:
            self.end_turn()

    def _launched(self, event: Event, order: Launch) -> None:
        assert isinstance(event, SchedulerCalled)
        assert isinstance(event.call, Accept)
        agent_id = event.call.groups[0].agent_id
        for spec in order.tasks:
            key = (order.framework_id, spec.task_id)
            self.oracle.tasks[key] = Claim(order.framework_id, order.role, agent_id, spec.resources)

    def _look(self) -> None:
        """Take over which offers stand, from what frameworks were told."""
        standing = self.world.witness.offers.items()
        self.oracle.offers = {
            offer_id: Claim(owner, offer.role, offer.agent_id, offer.resources) for offer_id, (owner, offer) in standing
        }

    def end_turn(self) -> None:
        before = dict(self.oracle.offers)
        commands = self.world.handle(Tick())
        for offer_id, reason in rescinded(commands):
            if reason is RescindReason.EXPIRED:
                late = before[offer_id]
                self.oracle.passed_on.add((late.agent, (late.framework, late.role)))
        made = sorted(offers_in(commands), key=lambda offer: int(offer.offer_id.split("-")[1]))
        self._look()
        self._forget_unreachable()
        for offer in made:
            del self.oracle.offers[offer.offer_id]
        for offer in made:
            self._judge(offer)
        self.oracle.passed_on.clear()
        for name in self.oracle.pool:
            assert self.oracle.next_taker(name, self.world.now) is None, f"{name} is idle, and somebody waits for it"

    def _forget_unreachable(self) -> None:
        for name in list(self.oracle.pool):
            record = self.world.disk[f"agents/{name}"]
            if isinstance(record, AgentRecord) and record.is_unreachable:
                del self.oracle.pool[name]
                self.oracle.forget_refusals(agent=name)

    def _judge(self, offer: Offer) -> None:
        owner = self.world.witness.offers[offer.offer_id][0]
        assert offer.resources == self.oracle.free(offer.agent_id)
        assert (owner, offer.role) == self.oracle.next_taker(offer.agent_id, self.world.now)
        self.oracle.offers[offer.offer_id] = Claim(owner, offer.role, offer.agent_id, offer.resources)

    # Agents

    @rule(name=agents, ends=turns)
    def agent_registers(self, name: str, ends: bool) -> None:
        self.register(name)
        if ends:
            self.end_turn()

    def register(self, name: str) -> None:
        old = self.world.streams.get(name)
        mine = [(key, claim) for key, claim in self.oracle.tasks.items() if claim.agent == name]
        reports = [
            replace(found(key[1], agent_id=name, framework_id=key[0]), role=claim.role, resources=claim.resources)
            for key, claim in mine
        ]
        info = self.infos[name]
        self.tell(self.world.registration(info, *reports))
        if self.oracle.pool.get(info.agent_id, info.resources) != info.resources:
            self.oracle.forget_refusals(agent=info.agent_id)
        self.oracle.pool[info.agent_id] = info.resources
        self.oracle.offered_from.add(info.agent_id)
        if old is not None:
            self.tell(AgentStreamClosed(old, self.world.now))

    @rule(name=agents, ends=turns)
    def agent_breaks(self, name: str, ends: bool) -> None:
        if (stream := self.world.streams.pop(name, None)) is not None:
            self.oracle.offered_from.discard(AgentId(name))
            self.tell(AgentStreamClosed(stream, self.world.now), ends)

    @rule(name=agents, cpus=st.sampled_from([0, 2, 3, 7]), ends=turns)
    def agent_changes(self, name: str, cpus: int, ends: bool) -> None:
        info = replace(self.infos[name], resources=replace(AGENTS[name].resources, cpu_millis=cpus * 1000))
        stream = self.world.streams.get(name)
        if stream is not None and info != self.infos[name]:
            self.infos[name] = info
            self.oracle.pool[info.agent_id] = info.resources
            self.oracle.forget_refusals(agent=info.agent_id)
            self.tell(AgentReported(stream, AgentChanged(info)), ends)

    @rule(which=pick, ends=turns)
    def task_ends(self, which: int, ends: bool) -> None:
        there = [key for key, claim in self.oracle.tasks.items() if claim.agent in self.world.streams]
        if there:
            key = there[which % len(there)]
            claim = self.oracle.tasks.pop(key)
            update = said(key[1], TaskState.TASK_FINISHED, 2, claim.agent, key[0])
            self.tell(AgentReported(self.world.streams[claim.agent], update), ends)

    # Frameworks

    @rule(name=owners, suppressed=st.sets(roles, max_size=2), ends=turns)
    def framework_subscribes(self, name: str, suppressed: set[Role], ends: bool) -> None:
        self.subscribe(name, tuple(sorted(suppressed)))
        if ends:
            self.end_turn()

    def subscribe(self, name: str, suppressed: tuple[Role, ...] = ()) -> None:
        info = FRAMEWORKS[FrameworkId(name)]
        self.oracle.forget_refusals(info.framework_id)
        self.oracle.members[info.framework_id] = set(info.roles) - set(suppressed)
        self.oracle.passed_on = {(each, taker) for each, taker in self.oracle.passed_on if taker[0] != name}
        self.tell(self.world.subscription(info, suppressed=suppressed))

    @rule(name=owners, ends=turns)
    def framework_breaks(self, name: str, ends: bool) -> None:
        if (stream := self.world.streams.pop(f"f/{name}", None)) is not None:
            del self.oracle.members[FrameworkId(name)]
            self.tell(SchedulerStreamClosed(stream), ends)

    @rule(name=owners, role=roles, is_suppressed=st.booleans(), ends=turns)
    def framework_steers(self, name: str, role: Role, is_suppressed: bool, ends: bool) -> None:
        stream, owner = self.world.streams.get(f"f/{name}"), FrameworkId(name)
        if stream is None or role not in FRAMEWORKS[FrameworkId(name)].roles:
            return
        if is_suppressed:
            self.oracle.members[owner].discard(role)
        else:
            self.oracle.members[owner].add(role)
            self.oracle.forget_refusals(owner, role)
        call: Call = Suppress((role,)) if is_suppressed else Revive((role,))
        self.tell(SchedulerCalled(stream, call), ends)

    @rule(which=pick, count=st.integers(1, 3), filter_=refusals, ends=turns)
    def offers_are_declined(self, which: int, count: int, filter_: Filter, ends: bool) -> None:
        if (chosen := self._standing(which)) is None:
            return
        owner, _ = chosen
        offers = self.world.offers(owner)[:count]
        for offer in offers:
            self._refuse(owner, offer, offer.resources, filter_)
            self.oracle.passed_on.add((offer.agent_id, (owner, offer.role)))
        call = Decline(tuple(offer.offer_id for offer in offers), filter_)
        self.tell(SchedulerCalled(self.world.stream(owner), call), ends)

    @rule(which=pick, cpus=st.integers(0, 3), mem_mib=st.sampled_from([0, 500, 1_000]), filter_=refusals, ends=turns)
    def offer_is_accepted(self, which: int, cpus: int, mem_mib: int, filter_: Filter, ends: bool) -> None:
        if (chosen := self._standing(which)) is None:
            return
        owner, offer = chosen
        self.count += 1
        need = Resources(min(cpus * 1000, offer.resources.cpu_millis), min(mem_mib, offer.resources.mem_mib))
        need = offer.resources if need == NOTHING else need
        spec = replace(task(f"{owner}-{self.count}"), resources=need)
        if offer.resources != need:
            self._refuse(owner, offer, offer.resources - need, filter_)
        group = LaunchGroup(offer.agent_id, (offer.offer_id,), (LaunchTasks((spec,)),))
        self.tell(SchedulerCalled(self.world.stream(owner), Accept((group,), filter=filter_)), ends)

    def _standing(self, which: int) -> tuple[FrameworkId, Offer] | None:
        offers = list(self.world.witness.offers.values())
        return offers[which % len(offers)] if offers else None

    def _refuse(self, owner: FrameworkId, offer: Offer, resources: Resources, filter_: Filter) -> None:
        if filter_.refuse_ms:
            claim = Claim(owner, offer.role, offer.agent_id, resources)
            self.oracle.refusals.append((claim, self.world.now + filter_.refuse_ms / 1000))

    # Operators and time

    @rule(role=roles, weight=st.sampled_from([1, 300, 700, 1_000, 2_000, 3_000]), ends=turns)
    def operator_weighs(self, role: Role, weight: int, ends: bool) -> None:
        self.oracle.weights[role] = weight
        self.tell(WeightAsked(self.world.question(), role, weight), ends)

    @rule(after=st.sampled_from([0.0, 1.0, 6.0, 25.0]))
    def time_passes(self, after: float) -> None:
        self.world.now += after
        self.end_turn()

    # What must hold

    @invariant()
    def shares_have_not_drifted(self) -> None:
        """After any history they are what the definition makes of what is held now, to the last bit."""
        if not hasattr(self, "world"):
            return
        cluster = self.world.master.cluster
        for role in (Role("eng"), Role("ops"), Role("web")):
            node = cluster.tree.get(role)
            share = node.share(cluster.tree.total) if node is not None else 0.0
            assert share == float(self.oracle.role_share(role))
        for item in cluster.frameworks.values():
            for role, client in item.clients.items():
                assert client.share(cluster.tree.total) == float(self.oracle.framework_share(item.id, role))


TestFairness = Fairness.TestCase
TestFairness.settings = searching(examples=120, steps=40)
