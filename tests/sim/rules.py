"""What allocation must keep to, whatever is wanted and set: judged from what a master is told and what it says."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence

from runrig.agents import KillTask, Launch
from runrig.demand import Demand
from runrig.ids import FrameworkId, Role, TaskId
from runrig.offers import InverseOfferReason, InverseOffersMade, OffersMade, UpdateDemand
from runrig.resources import Resources
from runrig.tasks import Reason
from runrig.testing import Cluster
from runrig.testing.masters import SimulatedMaster
from runrig_master.core.commands import Command, RoleRecord, SendToAgent, SendToScheduler
from runrig_master.core.events import Event, SchedulerCalled
from runrig_master.core.quotas import DIMENSIONS, is_within
from runrig_master.core.settings import CoreSettings

MINUTE_S = 60.0


class Rules:
    """Watch a master: limits, gangs, preemption and its budget."""

    def __init__(self, settings: CoreSettings, cluster: Cluster) -> None:
        self._settings = settings
        self._cluster = cluster
        self._demands: dict[tuple[FrameworkId, Role], tuple[Demand, ...]] = {}
        self._priorities: dict[tuple[FrameworkId, TaskId], int] = {}
        self._asked_at: dict[TaskId, float] = {}
        """When tasks were asked back for a higher priority."""
        self._asked: set[str] = set()
        self._preempted_at: deque[float] = deque()
        self._gang_starts: Counter[str] = Counter()

    def begins(self, master: SimulatedMaster) -> None:
        """Forget what a master that has died had asked for."""
        self._demands.clear()
        self._asked_at.clear()
        self._asked.clear()
        self._preempted_at.clear()

    def told(self, master: SimulatedMaster, event: Event) -> None:
        """Remember what frameworks say that they want."""
        if isinstance(event, SchedulerCalled) and isinstance(event.call, UpdateDemand):
            framework = master.core.cluster.scheduler_streams.get(event.stream)
            if framework is not None:
                self._demands[framework.id, event.call.role] = event.call.demands

    def did(self, master: SimulatedMaster, commands: Sequence[Command]) -> None:
        """Judge what came of one event."""
        launched: Counter[str] = Counter()
        offered: dict[Role, None] = {}
        for command in commands:
            match command:
                case SendToAgent(_, Launch() as order):
                    for task in order.tasks:
                        self._priorities[order.framework_id, task.task_id] = task.terms.priority
                        launched[task.terms.gang_id] += 1
                    self._check_limits(master, order.role)
                case SendToAgent(_, KillTask(reason=Reason.PREEMPTED) as order):
                    self._check_notice(master, order)
                case SendToScheduler(_, OffersMade(offers)):
                    offered.update((offer.role, None) for offer in offers if not offer.is_optimistic)
                case SendToScheduler(_, InverseOffersMade(inverse_offers)):
                    for inverse in inverse_offers:
                        if (
                            inverse.reason is InverseOfferReason.PREEMPTION
                            and inverse.inverse_offer_id not in self._asked
                        ):
                            self._asked.add(inverse.inverse_offer_id)
                            self._check_victims(master, inverse.task_ids)
                case _:
                    pass
        for role in offered:
            self._check_limits(master, role)
        for gang_id, count in launched.items():
            if gang_id:
                size = int(gang_id.rsplit(".", 1)[1])
                assert count == size, f"of gang {gang_id} {count} are launched"
                self._gang_starts[gang_id] += 1
                assert self._gang_starts[gang_id] == 1, f"gang {gang_id} is launched again"

    def turned(self, master: SimulatedMaster) -> None:
        """Assert that no agent has been given more than it has, and that no optimistic offer promises what is gone."""
        cluster = master.core.cluster
        for agent in cluster.agents.values():
            cpus = sum(task.resources.cpu_millis for task in agent.tasks.values() if not task.state.is_terminal)
            most = agent.info.resources.cpu_millis
            assert cpus <= most, f"{agent.id} was given tasks of {cpus} cpu_millis, and has {most}"
        for offer in cluster.offers.values():
            if offer.is_optimistic and offer.pool not in cluster.crowded:
                assert offer.pool.free.contains(offer.resources), f"{offer.id} promises what others have taken"

    def _check_limits(self, master: SimulatedMaster, role: Role) -> None:
        """Assert that a role to which something was just offered or given is within its limits, as are those above."""
        for record in master.records.values():
            if not isinstance(record, RoleRecord) or record.limit is None or not is_within(role, record.role):
                continue
            if master.core.cluster.role_settings.get(record.role) != record:
                continue  # it is being changed
            held = Counter[str]()
            for resources in self._held(master, record.role):
                held.update({name: getattr(resources, name) for name in DIMENSIONS})
            for name, most in record.limit.amounts().items():
                assert held[name] <= most, f"{record.role} holds {held[name]} {name}, its limit is {most} (rule 18)"

    def _held(self, master: SimulatedMaster, role: Role) -> Iterator[Resources]:
        """Yield what stands in offers of a role and those below it, and what its tasks use where that is known."""
        cluster = master.core.cluster
        for offer in cluster.offers.values():
            if is_within(offer.role, role) and not offer.is_optimistic:
                yield offer.resources
        for framework in (*cluster.frameworks.values(), *cluster.completed.values()):
            for task in framework.tasks.values():
                if is_within(task.role, role) and not task.state.is_terminal and task.agent.is_counted:
                    yield task.resources

    def _check_victims(self, master: SimulatedMaster, task_ids: Sequence[TaskId]) -> None:
        """Assert that somebody wants more urgently than each victim, and that no more are asked than the budget."""
        highest = max((demand.priority for stated in self._demands.values() for demand in stated), default=None)
        for task_id in task_ids:
            [priority] = [value for (_, each), value in self._priorities.items() if each == task_id] or [0]
            assert highest is not None, f"{task_id} is asked back, and nobody wants anything"
            assert priority < highest, f"{task_id} of priority {priority} is asked back, nobody wants above {highest}"
            self._asked_at[task_id] = master.now
            self._preempted_at.append(master.now)
        while self._preempted_at and self._preempted_at[0] <= master.now - MINUTE_S:
            self._preempted_at.popleft()
        count, most = len(self._preempted_at), self._settings.preemptions_per_minute
        assert count <= most, f"{count} tasks are preempted within a minute, at most {most} may be"

    def _check_notice(self, master: SimulatedMaster, order: KillTask) -> None:
        asked_at = self._asked_at.get(order.task_id)
        assert asked_at is not None, f"{order.task_id} is preempted, and was not asked back before"
        notice_s = master.now - asked_at
        assert notice_s >= self._settings.preemption_notice_s - 0.001, f"{order.task_id} had a notice of {notice_s} s"

    def check_end(self) -> None:
        """Assert that nothing is kept for anybody when nobody waits."""
        claims = self._cluster.master.cluster.backlog.claims
        assert not claims, f"{len(claims)} claims are left, and nobody waits"
