"""Any history of a cluster, told by Hypothesis: whatever happens, the books are right and nobody is lied to.

The world checks itself after every event (`books.py`, `witness.py`). Here agents are played that hold the ground truth:
what really runs, numbered and retried as real agents do it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runrig.agents import (
    AcknowledgeUpdate,
    AgentChanged,
    DestroyAgentVolume,
    KillTask,
    Launch,
    Order,
    Register,
    Registered,
    ShutdownFramework,
    TaskNotHere,
    TaskReport,
    VolumeDestroyed,
)
from runrig.ids import FrameworkId, OfferId, Role, TaskId
from runrig.offers import (
    Accept,
    Acknowledge,
    Acknowledgement,
    AnswerInverseOffer,
    Call,
    CreateVolume,
    Decline,
    DestroyVolume,
    Filter,
    Kill,
    LaunchGroup,
    LaunchTasks,
    Operation,
    Reconcile,
    Reserve,
    Revive,
    Suppress,
    TaskReference,
    TasksUpdated,
    Teardown,
    Unreserve,
    UpdateFramework,
)
from runrig.reservations import PersistentVolume, Reservation, Unavailability
from runrig.resources import Resources
from runrig.tasks import NO_TERMS, StatusUpdate, TaskSpec, TaskState, Terms, Volume
from runrig_master.core.commands import CloseStream, Command, SendToAgent, SendToScheduler
from runrig_master.core.events import (
    AgentReported,
    AgentStreamClosed,
    CreateVolumeAsked,
    DestroyVolumeAsked,
    ReserveAsked,
    SchedulerCalled,
    SchedulerStreamClosed,
    UnreserveAsked,
)
from runrig_master.core.settings import CoreSettings
from tests.master.core.books import amounts
from tests.master.core.cluster import World, agent, framework, said, task

SETTINGS = CoreSettings(
    offer_timeout_s=20.0,
    silence_timeout_s=10.0,
    agent_return_timeout_s=15.0,
    filters_per_agent_and_framework=1_000,
    ended_tasks_per_framework=10_000,
    completed_frameworks=2,
    unreachable_fraction_least_agents=3,
)
STATIC = Reservation("s", Role("eng"), Resources(1000, 256, 300), is_static=True)
AGENTS = {
    "a1": replace(agent("a1", cpus=4, mem_mib=1024, ports="[31000-31003]", disk_mib=900), reservations=(STATIC,)),
    "a2": agent("a2", cpus=2, mem_mib=4096, disk_mib=300),
    "a3": agent("a3", cpus=8, mem_mib=512, gpus=2),
}
FRAMEWORKS = {
    "f": framework("f", "eng", timeout_s=40),
    "g": framework("g", "eng", "ops", timeout_s=40),
    "h": framework("h", "ops", timeout_s=0),
}
ENDS = (TaskState.TASK_FINISHED, TaskState.TASK_FAILED, TaskState.TASK_KILLED)
LIFE = (TaskState.TASK_STARTING, TaskState.TASK_RUNNING)
names = st.sampled_from(sorted(AGENTS))
schedulers = st.sampled_from(sorted(FRAMEWORKS))
seconds = st.sampled_from([0.0, 0.5, 3.0, 9.0, 30.0])
filters = st.sampled_from([0, 1_000, 5_000, 60_000]).map(Filter)
specs = st.tuples(
    st.integers(0, 5), st.sampled_from([1, 256, 600]), st.sampled_from(["", "", "[31000]", "[31001-31002]"])
)
pick = st.integers(0, 1_000)
pools = st.sampled_from(["", "s", "r1", "r2"])
volumes = st.sampled_from(["v1", "v2"])
reservations = st.builds(
    Reservation,
    st.sampled_from(["r1", "r2", "s"]),
    st.sampled_from([Role("eng"), Role("eng"), Role("eng/ads"), Role("ops")]),
    st.sampled_from([Resources(1000, 128, 200), Resources(500, disk_mib=90), Resources(9000), Resources(mem_mib=64)]),
)
persistent = st.builds(PersistentVolume, volumes, pools, st.sampled_from([50, 80, 250]))
operations = st.one_of(
    st.builds(Reserve, reservations, pools, st.just("reserve")),
    st.builds(Unreserve, pools, st.just("unreserve")),
    st.builds(CreateVolume, persistent, st.just("create")),
    st.builds(DestroyVolume, volumes, st.just("destroy")),
)


@dataclass
class Real:
    """A task that an agent really has."""

    name: TaskId
    framework: FrameworkId
    role: Role
    resources: Resources
    updates: list[StatusUpdate] = field(default_factory=list)
    acknowledged: int = 0
    is_dying: bool = False
    terms: Terms = NO_TERMS
    volume_ids: tuple[str, ...] = ()

    @property
    def state(self) -> TaskState:
        return self.updates[-1].state if self.updates else TaskState.TASK_STAGING


class Cluster(RuleBasedStateMachine):
    """Everything that can happen to a master."""

    @initialize()
    def begin(self) -> None:
        self.world = World(SETTINGS)
        self.real: dict[str, dict[tuple[FrameworkId, TaskId], Real]] = {name: {} for name in AGENTS}
        self.infos = dict(AGENTS)
        self.doomed: dict[str, set[str]] = {name: set() for name in AGENTS}
        self.started: set[tuple[FrameworkId, TaskId]] = set()
        self.to_acknowledge: list[tuple[str, StatusUpdate]] = []
        self.seen_offers: list[OfferId] = []
        self.epochs: list[int] = []
        self.count = 0
        for name in ("a1", "a2"):
            self.do(self.world.registration(self.infos[name]))
        for name in ("f", "g"):
            self.do(self.world.subscription(FRAMEWORKS[name]))
        for name in ("f", "g"):
            self.scheduler_launches(name, [(1, 1, ""), (0, 1, "")])
        self.tasks_start("a1")

    def do(self, *events: object, after: float = 0.0) -> None:
        """Let events happen and the agents and schedulers hear what comes of them."""
        commands = self.world.turn(*events, after=after)  # type: ignore[arg-type]
        for command in commands:
            self.hear(command)

    def hear(self, command: Command) -> None:
        owners = {stream: name for name, stream in self.world.streams.items()}
        match command:
            case SendToAgent(stream, order):
                if stream in owners:  # an agent that has opened another stream does not listen to the old one
                    self.obey(owners[stream], order)
            case SendToScheduler(stream, TasksUpdated(updates)) if stream in owners:
                self.to_acknowledge.extend((owners[stream], update) for update in updates if update.number)
            case CloseStream(stream):
                if owners.get(stream) is not None:
                    del self.world.streams[owners[stream]]
            case _:
                pass

    def obey(self, name: str, order: Order) -> None:
        mine = self.real[name]
        match order:
            case Launch():
                for spec in order.tasks:
                    key = (order.framework_id, spec.task_id)
                    assert key not in self.started, f"{key} is started twice"
                    self.started.add(key)
                    mine[key] = Real(spec.task_id, order.framework_id, order.role, spec.resources)
                    mine[key].terms, mine[key].volume_ids = spec.terms, spec.volume_ids
                    assert not self.doomed[name] & set(spec.volume_ids), f"{spec} is launched on what is destroyed"
            case DestroyAgentVolume(volume_id):
                self.doomed[name].add(volume_id)
            case KillTask():
                if (known := mine.get((order.framework_id, order.task_id))) is not None:
                    known.is_dying = True
            case AcknowledgeUpdate():
                self.acknowledged(mine, (order.framework_id, order.task_id), order.number)
            case ShutdownFramework():
                for item in mine.values():
                    item.is_dying = item.is_dying or item.framework == order.framework_id
            case Registered():
                pass
            case _:
                raise AssertionError(order)

    def acknowledged(
        self, mine: dict[tuple[FrameworkId, TaskId], Real], key: tuple[FrameworkId, TaskId], number: int
    ) -> None:
        known = mine.get(key)
        if known is not None:
            assert number <= len(known.updates), "more is acknowledged than was said"
            known.acknowledged = max(known.acknowledged, number)
            if known.state.is_terminal and known.acknowledged == len(known.updates):
                del mine[key]

    # Agents

    def reports(self, name: str) -> tuple[TaskReport, ...]:
        return tuple(
            TaskReport(
                item.framework,
                item.name,
                item.name,
                item.role,
                item.resources,
                (),
                item.updates[-1]
                if item.updates
                else replace(
                    said(item.name, framework_id=item.framework),
                    number=0,
                    state=item.state,
                    agent_id=AGENTS[name].agent_id,
                ),
                item.terms,
                item.volume_ids,
            )
            for item in self.real[name].values()
        )

    @rule(name=names, epoch=st.sampled_from([0, 0, 0, 99]))
    def agent_connects(self, name: str, epoch: int) -> None:
        old = self.world.streams.get(name)
        self.do(self.world.registration(self.infos[name], *self.reports(name), epoch=epoch))
        if old is not None:
            self.do(AgentStreamClosed(old, self.world.now))
        self.agent_says_all(name)

    @rule(name=names, ago=st.sampled_from([0.0, 5.0]))
    def agent_breaks(self, name: str, ago: float) -> None:
        if (stream := self.world.streams.pop(name, None)) is not None:
            self.do(AgentStreamClosed(stream, self.world.now - ago))

    @rule(name=names, cpus=st.sampled_from([0, 1, 4, 16]), rack=st.sampled_from(["", "r1", "r2"]))
    def agent_changes(self, name: str, cpus: int, rack: str) -> None:
        attributes = (("rack", rack),) if rack else ()
        resources = replace(AGENTS[name].resources, cpu_millis=cpus * 1000)
        self.infos[name] = replace(self.infos[name], resources=resources, attributes=attributes)
        if (stream := self.world.streams.get(name)) is not None:
            self.do(AgentReported(stream, AgentChanged(self.infos[name])))

    @rule(name=names, which=pick, end=st.sampled_from([*ENDS, None, None]), is_lost=st.booleans())
    def task_moves(self, name: str, which: int, end: TaskState | None, is_lost: bool) -> None:
        tasks = [item for item in self.real[name].values() if not item.state.is_terminal]
        if not tasks:
            return
        item = tasks[which % len(tasks)]
        state = TaskState.TASK_KILLED if item.is_dying else end or LIFE[min(len(item.updates), 1)]
        update = StatusUpdate(item.framework, item.name, AGENTS[name].agent_id, len(item.updates) + 1, state)
        item.updates.append(update)
        if (stream := self.world.streams.get(name)) is not None and not is_lost:
            self.do(AgentReported(stream, update))

    @rule(name=names, is_there=st.booleans())
    def agent_changes_its_flags(self, name: str, is_there: bool) -> None:
        static = (STATIC,) if is_there and AGENTS[name].resources.contains(STATIC.resources) else ()
        self.infos[name] = replace(self.infos[name], reservations=static)

    @rule(name=names, volume=volumes)
    def agent_deletes_a_volume(self, name: str, volume: str) -> None:
        """Say that a volume is gone, be it true or not yet: then the master does not wait for it."""
        stream = self.world.streams.get(name)
        is_used = any(volume in item.volume_ids and not item.state.is_terminal for item in self.real[name].values())
        if stream is not None and not (is_used and volume in self.doomed[name]):
            self.doomed[name].discard(volume)
            self.do(AgentReported(stream, VolumeDestroyed(volume)))

    @rule(name=names, what=st.sampled_from(["says again", "has not", "registers twice"]), which=pick, older=pick)
    def agent_misbehaves(self, name: str, what: str, which: int, older: int) -> None:
        stream = self.world.streams.get(name)
        updates = [update for item in self.real[name].values() for update in item.updates[item.acknowledged :]]
        if stream is None:
            return
        if what == "says again" and updates:
            self.do(*(AgentReported(stream, updates[number % len(updates)]) for number in (which, older)))
        elif what == "has not":
            owner = sorted(FRAMEWORKS)[which % 3]
            key = (FrameworkId(owner), TaskId(f"{owner}-{older % 20}"))
            if key not in self.real[name]:
                self.do(AgentReported(stream, TaskNotHere(*key)))
        elif what == "registers twice":
            self.do(AgentReported(stream, Register(self.infos[name], 10**6, 0, self.reports(name))))
            self.do(AgentStreamClosed(stream, self.world.now))

    # Schedulers

    @rule(name=schedulers, is_suppressed=st.booleans(), is_stale=st.sampled_from([False, False, True]))
    def scheduler_subscribes(self, name: str, is_suppressed: bool, is_stale: bool) -> None:
        info = FRAMEWORKS[name]
        before = self.world.streams.get(f"f/{name}")
        session = self.world.sessions.get(f"f/{name}", 1) if is_stale else None
        suppressed = tuple(info.roles) if is_suppressed else ()
        call = self.world.subscription(info, session, suppressed)
        self.do(call)
        if f"f/{name}" not in self.world.streams and before is not None and is_stale:
            self.world.streams[f"f/{name}"] = before

    @rule(name=schedulers)
    def scheduler_breaks(self, name: str) -> None:
        if (stream := self.world.streams.pop(f"f/{name}", None)) is not None:
            self.do(SchedulerStreamClosed(stream))

    @rule(
        name=schedulers,
        shapes=st.lists(specs, min_size=1, max_size=3),
        filter_=filters,
        is_atomic=st.booleans(),
        is_group=st.booleans(),
        is_twice=st.sampled_from([False, False, True]),
        forged=st.sampled_from([None, None, None, "unknown", "used", "other", "agent"]),
    )
    def scheduler_accepts(
        self,
        name: str,
        shapes: list[tuple[int, int, str]],
        filter_: Filter,
        is_atomic: bool,
        is_group: bool,
        is_twice: bool,
        forged: str | None,
    ) -> None:
        stream = self.world.streams.get(f"f/{name}")
        if stream is None:
            return
        groups = []
        offers = self.world.offers(name)
        self.seen_offers.extend(offer.offer_id for offer in offers)
        for agent_id in sorted({offer.agent_id for offer in offers}):
            ids = [offer.offer_id for offer in offers if offer.agent_id == agent_id][:2]
            match forged:
                case "unknown":
                    ids.append(OfferId("o9-9"))
                case "used":
                    ids.append(self.seen_offers[0])
                case "other":
                    ids.extend(key for key, (owner, _) in self.world.witness.offers.items() if owner != name)
                case "agent":
                    agent_id = AGENTS["a1"].agent_id
                case _:
                    pass
            launched = tuple(self.spec(name, *shape) for shape in shapes)
            groups.append(LaunchGroup(agent_id, tuple(ids), (LaunchTasks(launched, is_group), LaunchTasks(()))))
        call = Accept(tuple(groups), is_atomic, filter_)
        self.do(SchedulerCalled(stream, call))
        if is_twice and self.world.streams.get(f"f/{name}") == stream:
            self.do(SchedulerCalled(stream, call))

    @rule(name=schedulers, shapes=st.lists(st.sampled_from([(1, 1, ""), (0, 1, "")]), min_size=1, max_size=2))
    def scheduler_launches(self, name: str, shapes: list[tuple[int, int, str]]) -> None:
        """Launch what fits, so that histories have tasks in them."""
        stream = self.world.streams.get(f"f/{name}")
        for offer in self.world.offers(name)[:1]:
            launched = LaunchTasks(tuple(self.spec(name, *shape) for shape in shapes))
            group = LaunchGroup(offer.agent_id, (offer.offer_id,), (launched,))
            assert stream is not None
            self.do(SchedulerCalled(stream, Accept((group,), filter=Filter(0))))

    @rule(
        name=schedulers,
        which=pick,
        changes=st.lists(operations, min_size=1, max_size=4),
        pool=pools,
        volume=st.one_of(st.none(), volumes),
        filter_=filters,
        is_atomic=st.booleans(),
        is_twice=st.sampled_from([False, False, True]),
    )
    def scheduler_reserves(
        self,
        name: str,
        which: int,
        changes: list[Operation],
        pool: str,
        volume: str | None,
        filter_: Filter,
        is_atomic: bool,
        is_twice: bool,
    ) -> None:
        """Reserve and make volumes on all offers of an agent, and launch there."""
        stream = self.world.streams.get(f"f/{name}")
        offers = self.world.offers(name)
        if stream is None or not offers:
            return
        chosen = offers[which % len(offers)]
        ids = tuple(o.offer_id for o in offers if (o.agent_id, o.role) == (chosen.agent_id, chosen.role))
        mounted = (Volume("", "data", volume_id=volume),) if volume is not None else ()
        spec = replace(self.spec(name, 0, 1, ""), terms=Terms(reservation_id=pool), volumes=mounted)
        group = LaunchGroup(chosen.agent_id, ids, (*changes, LaunchTasks((spec,))))
        call = Accept((group,), is_atomic, filter_)
        self.do(SchedulerCalled(stream, call))
        if is_twice and self.world.streams.get(f"f/{name}") == stream:
            self.do(SchedulerCalled(stream, call))

    @rule(name=names)
    def tasks_start(self, name: str) -> None:
        """Let all that was launched on an agent say that it runs."""
        for item in self.real[name].values():
            if not item.updates:
                state = TaskState.TASK_KILLED if item.is_dying else TaskState.TASK_RUNNING
                item.updates.append(StatusUpdate(item.framework, item.name, AGENTS[name].agent_id, 1, state))
        self.agent_says_all(name)

    def agent_says_all(self, name: str) -> None:
        for item in list(self.real[name].values()):
            if (stream := self.world.streams.get(name)) is not None:
                self.do(*(AgentReported(stream, update) for update in item.updates[item.acknowledged :]))

    def spec(self, name: str, cpus: int, mem_mib: int, ports: str) -> TaskSpec:
        self.count += 1
        return task(f"{name}-{self.count}", cpus, mem_mib, ports)

    @rule(name=schedulers, filter_=filters, which=pick)
    def scheduler_declines(self, name: str, filter_: Filter, which: int) -> None:
        if (stream := self.world.streams.get(f"f/{name}")) is not None:
            ids = [offer.offer_id for offer in self.world.offers(name)]
            strange = list(self.world.witness.offers)[:1] + self.seen_offers[:1]
            self.do(SchedulerCalled(stream, Decline((*ids[: which % 3 + 1], *strange), filter_)))

    @precondition(lambda self: self.to_acknowledge)
    @rule(which=pick, is_all=st.booleans())
    def scheduler_acknowledges(self, which: int, is_all: bool) -> None:
        owner, update = self.to_acknowledge[which % len(self.to_acknowledge)]
        if (stream := self.world.streams.get(owner)) is None:
            return
        chosen = [item for who, item in self.to_acknowledge if who == owner] if is_all else [update]
        receipts = tuple(Acknowledgement(item.task_id, item.agent_id, item.number) for item in chosen)
        self.do(SchedulerCalled(stream, Acknowledge(receipts)))

    @rule(name=schedulers, number=st.integers(0, 40), grace=st.sampled_from([None, 0, 5_000]))
    def scheduler_kills(self, name: str, number: int, grace: int | None) -> None:
        if (stream := self.world.streams.get(f"f/{name}")) is not None:
            self.do(SchedulerCalled(stream, Kill(TaskId(f"{name}-{number}"), grace)))

    @rule(name=schedulers, numbers=st.lists(st.integers(0, 40), max_size=4), place=st.sampled_from(["", "a1", "zz"]))
    def scheduler_reconciles(self, name: str, numbers: list[int], place: str) -> None:
        if (stream := self.world.streams.get(f"f/{name}")) is not None:
            where = replace(AGENTS["a1"], agent_id=place).agent_id  # type: ignore[arg-type]
            asked = tuple(TaskReference(TaskId(f"{name}-{number}"), where) for number in numbers)
            self.do(SchedulerCalled(stream, Reconcile(asked)))

    @rule(name=schedulers, which=pick, is_accepted=st.booleans())
    def scheduler_answers_an_inverse_offer(self, name: str, which: int, is_accepted: bool) -> None:
        known = [*self.world.witness.inverse_offers, "i9-9"]
        if (stream := self.world.streams.get(f"f/{name}")) is not None:
            self.do(SchedulerCalled(stream, AnswerInverseOffer(known[which % len(known)], is_accepted, "soon")))

    @rule(
        name=schedulers,
        call=st.sampled_from(
            [
                Revive(),
                Suppress(),
                Revive((Role("eng"),)),
                Suppress((Role("ops"),)),
                UpdateFramework(framework("x", "eng")),
                UpdateFramework(framework("x", "eng", "ops")),
                UpdateFramework(framework("x", "eng", "eng")),
                Teardown(),
            ]
        ),
        chance=st.integers(0, 3),
    )
    def scheduler_changes_its_mind(self, name: str, call: Call, chance: int) -> None:
        stream = self.world.streams.get(f"f/{name}")
        if stream is not None and not (isinstance(call, Teardown) and (chance or name != "h")):
            self.do(SchedulerCalled(stream, call))

    # Operators and time

    @rule(
        what=st.sampled_from(
            ["deactivate", "reactivate", "drain", "plan", "kill", "kill", "weigh", "gone", "tear down"]
        ),
        name=names,
        owner=schedulers,
        number=st.integers(0, 20),
    )
    def operator_acts(self, what: str, name: str, owner: str, number: int) -> None:
        commands: list[Command] = []
        match what:
            case "deactivate":
                commands = self.world.deactivate(name)
            case "reactivate":
                commands = self.world.reactivate(name)
            case "drain":
                commands = self.world.drain(
                    name, number * 1_000, 500 * (number % 3) or None, name == "a3" and not number
                )
            case "plan":
                start_ms = int(self.world.now * 1000) + number * 500
                window = Unavailability(start_ms, (number % 4) * 5_000) if number % 5 else None
                commands = self.world.plan_absence(window, name, "a1")
            case "kill":
                commands = self.world.kill_as_operator(f"{owner}-{number}", owner)
            case "weigh":
                commands = self.world.weigh("eng", number * 200)
            case "gone" if number == 0:
                commands = self.world.mark_gone("a3")
            case "tear down" if number < 3:
                commands = self.world.tear_down("h")
            case _:
                pass
        for command in commands:
            self.hear(command)

    @rule(name=names, asked=st.one_of(reservations, persistent, pools, volumes), source=pools)
    def operator_reserves(self, name: str, asked: Reservation | PersistentVolume | str, source: str) -> None:
        question, agent_id = self.world.question(), AGENTS[name].agent_id
        match asked:
            case Reservation():
                self.do(ReserveAsked(question, agent_id, asked, source))
            case PersistentVolume():
                self.do(CreateVolumeAsked(question, agent_id, asked))
            case "v1" | "v2":
                self.do(DestroyVolumeAsked(question, agent_id, asked))
            case str():
                self.do(UnreserveAsked(question, agent_id, asked))

    @rule(after=seconds)
    def time_passes(self, after: float) -> None:
        self.do(after=after)

    @rule(after=seconds)
    def master_restarts(self, after: float) -> None:
        self.world.assert_replays()
        self.epochs.append(self.world.epoch)
        for command in self.world.restart(after):
            self.hear(command)

    # What must hold

    @invariant()
    def a_volume_has_one_task_at_a_time(self) -> None:
        """Ground truth: nobody writes where another does."""
        for name, tasks in getattr(self, "real", {}).items():
            used = Counter(
                volume for item in tasks.values() if not item.state.is_terminal for volume in item.volume_ids
            )
            assert all(number == 1 for number in used.values()), f"volumes of {name} are shared: {used}"

    @invariant()
    def what_runs_fits(self) -> None:
        """Ground truth: what really runs on an agent that never shrank is within what it has."""
        for name, tasks in getattr(self, "real", {}).items():
            total = amounts(AGENTS[name].resources)
            if self.infos[name].resources.cpu_millis < AGENTS[name].resources.cpu_millis:
                continue
            used: Counter[str] = Counter()
            for item in tasks.values():
                if not item.state.is_terminal:
                    used += amounts(item.resources)
            most = max(total["cpu_millis"], 16_000)
            assert all(used[key] <= (most if key == "cpu_millis" else total[key]) for key in used), f"{name}: {used}"

    @invariant()
    def the_master_wakes_in_time(self) -> None:
        """All that is due lies ahead: otherwise the loop would turn for nothing, or something is late."""
        due = self.world.master.next_deadline() if hasattr(self, "world") else None
        assert due is None or due > self.world.now

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.assert_replays()


TestHistory = Cluster.TestCase
TestHistory.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
