"""Accepting offers: rules 2, 3 and 4.

An Accept names groups of offers, each of one agent, and what to do with them. Of a group whose offers are not all good
nothing is done: its tasks are TASK_DROPPED. In a good group each operation, and each task, is judged on its own against
what the earlier ones left. Nothing changes before all groups are judged, as an atomic Accept does all or nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from runrig.agents import Launch, checked_task_texts
from runrig.errors import InvalidInput, RunrigError
from runrig.ids import AgentId, OfferId, Role, TaskId, id_problem
from runrig.offers import (
    Accept,
    Decline,
    Filter,
    LaunchableTask,
    LaunchGroup,
    LaunchTasks,
    OperationResult,
    OperationsDone,
)
from runrig.resources import NOTHING, Resources, checked_resources
from runrig.tasks import Reason, TaskState, checked_terms
from runrig_master.core import operations
from runrig_master.core.clients import Client
from runrig_master.core.cluster import Cluster
from runrig_master.core.filters import Refusal
from runrig_master.core.operations import Change, Remainder
from runrig_master.core.pools import Pool
from runrig_master.core.quotas import is_within
from runrig_master.core.reservations import Reserves
from runrig_master.core.state import Agent, Framework, OutstandingOffer, Task, staged
from runrig_master.core.statuses import answer


@dataclass(slots=True)
class _Plan:
    """What one launch group will do."""

    group: LaunchGroup
    offers: list[OutstandingOffer]
    """Those of the group's offers that are good; all of them unless `problem` is set."""
    problem: str = ""
    problem_reason: Reason = Reason.INVALID_OFFERS
    launches: list[LaunchTasks] = field(default_factory=list)
    refused: list[tuple[LaunchableTask, Reason, str]] = field(default_factory=list)
    changes: list[tuple[Change, str]] = field(default_factory=list)
    """Its operations on reservations and volumes; each with what forbids it, or nothing."""
    left: Remainder = field(default_factory=Remainder)

    @property
    def why_not_whole(self) -> str:
        """Say what keeps the group from being carried out whole, or nothing."""
        return self.problem or next((why for *_, why in self.refused + self.changes if why), "")

    @property
    def tasks(self) -> list[LaunchableTask]:
        return list(self.group.tasks)

    @property
    def launched(self) -> list[LaunchableTask]:
        """Return those of the tasks that are good."""
        return [task for launch in self.launches for task in launch.tasks]

    @property
    def agent(self) -> Agent:
        return self.offers[0].agent

    @property
    def role(self) -> Role:
        return self.offers[0].role


def accept(cluster: Cluster, framework: Framework, call: Accept, now: float) -> None:
    """Launch on offers; what is left of them is declined with the call's filter."""
    drafts: dict[AgentId, Reserves] = {}
    plans = _plan(cluster, framework, call, drafts)
    if call.atomic and any(plan.why_not_whole for plan in plans):
        _refuse_all(cluster, framework, plans, now)
        return
    for offer in [offer for plan in plans if not plan.problem for offer in plan.offers]:
        cluster.close_offer(offer)
    for agent_id, draft in drafts.items():
        cluster.change_reserves(cluster.agents[agent_id], draft)
    _tell_changes(cluster, framework, plans)
    for plan in plans:
        if plan.problem:
            _drop(cluster, framework, plan, plan.problem_reason, plan.problem, now)
        else:
            _carry_out(cluster, framework, plan, call.filter, now)


def decline(cluster: Cluster, framework: Framework, call: Decline, now: float) -> None:
    """Give offers back; those that are not the framework's (any more) change nothing (rule 20)."""
    gangs: dict[tuple[Client, str], None] = {}
    for offer_id in call.offer_ids:
        offer = framework.offers.get(offer_id)
        if offer is not None:
            _refuse(cluster, offer.pool, offer.client, offer.resources, call.filter, now)
            _remember_reason(framework, call.filter.reason, now)
            cluster.pass_on(offer, now)
            cluster.close_offer(offer)
            if offer.gang_id:
                gangs[offer.client, offer.gang_id] = None
    for client, gang_id in gangs:
        cluster.break_gang(client, gang_id)


def _plan(cluster: Cluster, framework: Framework, call: Accept, drafts: dict[AgentId, Reserves]) -> list[_Plan]:
    """Judge all groups; `drafts` is filled with what is kept of agents after the operations of all of them."""
    used_offers: set[OfferId] = set()
    used_ids: set[TaskId] = set()
    plans: list[_Plan] = []
    for group in call.groups:
        plan = _Plan(group, [offer for id_ in group.offer_ids if (offer := framework.offers.get(id_)) is not None])
        plan.problem = _offers_problem(plan, used_offers) or _gang_problem(plan, framework, call)
        if conflict := _conflict(cluster, plan, plans):
            plan.problem, plan.problem_reason = conflict, Reason.OFFER_CONFLICT
        used_offers.update(group.offer_ids)
        if not plan.problem:
            _judge(cluster, framework, plan, used_ids, drafts)
        plans.append(plan)
    return plans


def _offers_problem(plan: _Plan, used: set[OfferId]) -> str:
    group = plan.group
    ids = group.offer_ids
    if not ids:
        return "the launch group names no offer"
    if len(plan.offers) < len(ids):
        known = {offer.id for offer in plan.offers}
        missing = next(id_ for id_ in ids if id_ not in known)
        return f"offer {missing} is not this framework's any more: it was used, rescinded or has expired"
    twice = next((id_ for id_ in ids if id_ in used), None) or _repeated(ids)
    if twice is not None:
        return f"offer {twice} is named twice"
    stray = next((offer for offer in plan.offers if offer.agent.id != group.agent_id), None)
    if stray is not None:
        return f"offer {stray.id} is of agent {stray.agent.id}, not of {group.agent_id} as the launch group says"
    if len({offer.role for offer in plan.offers}) > 1:
        return "the offers of a launch group must be of one role"
    return ""


def _gang_problem(plan: _Plan, framework: Framework, call: Accept) -> str:
    """Return why the offers of a gang cannot be accepted so: all of them are, atomically, or none."""
    gangs = {(offer.client, offer.gang_id) for offer in plan.offers if offer.gang_id}
    if not gangs:
        return ""
    named = {offer_id for group in call.groups for offer_id in group.offer_ids}
    for offer in framework.offers.values():
        if (offer.client, offer.gang_id) in gangs and not (call.atomic and offer.id in named):
            return f"the offers of gang {offer.gang_id} must all be accepted by one atomic accept"
    return ""


def _conflict(cluster: Cluster, plan: _Plan, before: list[_Plan]) -> str:
    """Return what of optimistic offers others have taken first, or the groups before; empty: nothing that matters."""
    for offer_id in plan.group.offer_ids:
        if offer_id in cluster.conflicts:
            return cluster.conflicts[offer_id]
    optimistic = [offer for offer in plan.offers if offer.is_optimistic]
    if not optimistic:
        return ""
    before = [each for each in before if not each.problem and any(offer.is_optimistic for offer in each.offers)]
    for offer in optimistic:
        left = offer.pool.free
        for task in [task for each in before if each.agent is offer.agent for task in each.launched]:
            if task.terms.reservation_id == offer.pool.reservation_id:
                left = left - task.resources
        if not left.contains(offer.resources):
            return cluster.conflict_text(offer, left)
    for above in cluster.tree.path(optimistic[0].client.node):
        theirs = [task for each in before if is_within(each.role, above.role) for task in each.launched]
        need = NOTHING
        for task in [*theirs, *plan.tasks]:
            need = need + task.resources.without_ports()
        if above.limit is not None and not above.limit.admits(above.holding, need):
            return f"role {above.role} has reached its limit since the optimistic offer was made"
    return ""


def _repeated(ids: tuple[OfferId, ...]) -> OfferId | None:
    seen: set[OfferId] = set()
    for id_ in ids:
        if id_ in seen:
            return id_
        seen.add(id_)
    return None


def _judge(
    cluster: Cluster,
    framework: Framework,
    plan: _Plan,
    used_ids: set[TaskId],
    drafts: dict[AgentId, Reserves],
) -> None:
    plan.left = Remainder.of(plan.offers)
    for operation in plan.group.operations:
        if isinstance(operation, LaunchTasks):
            _judge_launch(cluster, framework, plan, operation, used_ids)
        else:
            if plan.agent.id not in drafts:
                drafts[plan.agent.id] = plan.agent.reserves.copy()
            _judge_change(framework, plan, operation, drafts[plan.agent.id])


def _judge_change(framework: Framework, plan: _Plan, change: Change, draft: Reserves) -> None:
    try:
        operations.apply(change, draft, plan.left, plan.agent, framework, plan.role)
    except RunrigError as error:
        plan.changes.append((change, str(error)))
    else:
        plan.changes.append((change, ""))


def _judge_launch(
    cluster: Cluster, framework: Framework, plan: _Plan, operation: LaunchTasks, used_ids: set[TaskId]
) -> None:
    good: list[LaunchableTask] = []
    refused: list[tuple[LaunchableTask, Reason, str]] = []
    left = plan.left.copy()
    for task in operation.tasks:
        verdict = _task_problem(cluster, framework, task, left, used_ids)
        if verdict is None:
            good.append(task)
            used_ids.add(task.task_id)
            left.take(task)
        else:
            refused.append((task, *verdict))
    if operation.is_group and refused:
        _refuse_group(plan, good, refused, used_ids)
        return
    plan.left = left
    plan.refused.extend(refused)
    if good:
        plan.launches.append(LaunchTasks(tuple(good), operation.is_group))


def _refuse_group(
    plan: _Plan,
    good: list[LaunchableTask],
    refused: list[tuple[LaunchableTask, Reason, str]],
    used_ids: set[TaskId],
) -> None:
    bad = refused[0][0].task_id
    plan.refused.extend(refused)
    for task in good:
        used_ids.discard(task.task_id)
        plan.refused.append((task, Reason.TASK_GROUP_REFUSED, f"task {bad} of the same task group was refused"))


def _task_problem(
    cluster: Cluster, framework: Framework, task: LaunchableTask, left: Remainder, used_ids: set[TaskId]
) -> tuple[Reason, str] | None:
    problem = id_problem(task.task_id)
    if problem is not None:
        return Reason.INVALID_TASK, f"task_id: {task.task_id!r} is not allowed; allowed: {problem}"
    if task.task_id in used_ids or task.task_id in framework.tasks or task.task_id in framework.ended:
        return (
            Reason.TASK_ID_USED,
            f"task_id: {task.task_id!r} was used before; each run needs an id of its own",
        )
    try:
        checked_resources("resources", task.resources)
        checked_task_texts("task", task.name, task.labels)
        checked_terms("terms", task.terms)
        has = left.has("terms.reservation_id", task.terms.reservation_id)
        left.check_volumes(task)
    except InvalidInput as error:
        return Reason.INVALID_TASK, str(error)
    if task.resources.is_empty:
        return (
            Reason.INVALID_TASK,
            "resources: nothing is asked; allowed: some cpu, memory or another resource",
        )
    if not has.contains(task.resources):
        text = ", ".join(f"{name} by {amount}" for name, amount in has.shortfall(task.resources).items())
        return Reason.INVALID_TASK, f"resources: what the offers have left is short of {text}"
    if cluster.tasks_alive + len(used_ids) >= cluster.settings.max_tasks:
        return (
            Reason.INVALID_TASK,
            f"the cluster runs {cluster.settings.max_tasks} tasks, its bound (max_tasks)",
        )
    return None


def _refuse_all(cluster: Cluster, framework: Framework, plans: list[_Plan], now: float) -> None:
    """Launch nothing of an atomic Accept (rule 3)."""
    why = next(plan.why_not_whole for plan in plans if plan.why_not_whole)
    for plan in plans:
        reason = plan.problem_reason if plan.problem else Reason.ATOMIC_ACCEPT_REFUSED
        _drop(
            cluster,
            framework,
            plan,
            reason,
            plan.problem or f"nothing of the atomic accept was launched: {why}",
            now,
        )
    _tell_changes(cluster, framework, plans, why)


def _drop(cluster: Cluster, framework: Framework, plan: _Plan, reason: Reason, why: str, now: float) -> None:
    for offer in plan.offers:
        if offer.id in cluster.offers:
            cluster.close_offer(offer)
            if offer.gang_id:
                cluster.break_gang(offer.client, offer.gang_id)
    for task in plan.tasks:
        known = framework.tasks.get(task.task_id) or framework.ended.get(task.task_id)
        if known is not None:  # the Accept was sent twice: nothing of what it launched is dropped (rule 20)
            cluster.tell_update(framework, answer(known, now))
        else:
            _tell_refused(cluster, framework, plan.group.agent_id, task, TaskState.TASK_DROPPED, reason, why, now)


def _carry_out(cluster: Cluster, framework: Framework, plan: _Plan, filter_: Filter, now: float) -> None:
    agent, role = plan.agent, plan.role
    cluster.served(plan.offers, sum(len(launch.tasks) for launch in plan.launches))
    if plan.launches:
        plan.offers[0].client.idle_until = 0.0
    for launch in plan.launches:
        for task in launch.tasks:
            status = staged(framework, agent, task.task_id, now)
            cluster.add_task(
                Task(
                    task.task_id,
                    task.name,
                    framework,
                    agent.pools[task.terms.reservation_id],
                    role,
                    task.resources,
                    task.labels,
                    status,
                    task.terms,
                    task.volume_ids,
                )
            )
        cluster.order(agent, Launch(framework.id, framework.info.name, role, launch.tasks, launch.is_group))
    for task, reason, why in plan.refused:
        _tell_refused(cluster, framework, agent.id, task, TaskState.TASK_ERROR, reason, why, now)
    for pool in {offer.pool: None for offer in plan.offers}:
        left = plan.left.amounts.get(pool.reservation_id)
        if left is not None and not left.is_empty:
            _refuse(cluster, pool, plan.offers[0].client, left, filter_, now)


def _tell_changes(cluster: Cluster, framework: Framework, plans: list[_Plan], why: str = "") -> None:
    """Say what became of operations on reservations and volumes; with `why` no group was carried out."""
    results: list[OperationResult] = []
    for plan in plans:
        agent_id = plan.group.agent_id
        if plan.problem or why:
            agent = cluster.agents.get(agent_id)
            for change in plan.group.operations:
                if not isinstance(change, LaunchTasks) and change.operation_id:
                    is_done = agent is not None and operations.is_in_effect(change, agent.reserves)
                    message = "" if is_done else plan.problem or why
                    results.append(OperationResult(change.operation_id, agent_id, is_done, message))
        else:
            for change, refusal in plan.changes:
                if change.operation_id:
                    results.append(OperationResult(change.operation_id, agent_id, not refusal, refusal))
    if results:
        cluster.tell(framework, OperationsDone(tuple(results)))


def _refuse(cluster: Cluster, pool: Pool, client: Client, resources: Resources, filter_: Filter, now: float) -> None:
    if filter_.refuse_ms > 0:
        until = now + filter_.refuse_ms / 1000
        cluster.filters.refuse(pool, client, Refusal(resources, until, filter_.reason))


MOST_REASONS = 64
"""Reasons for declining that are remembered of a framework: the latest."""


def _remember_reason(framework: Framework, reason: str, now: float) -> None:
    if reason:
        count, _ = framework.declines.pop(reason, (0, 0.0))
        framework.declines[reason] = (count + 1, now)
        if len(framework.declines) > MOST_REASONS:
            framework.declines.popitem(last=False)


def _tell_refused(
    cluster: Cluster,
    framework: Framework,
    agent_id: AgentId,
    task: LaunchableTask,
    state: TaskState,
    reason: Reason,
    why: str,
    now: float,
) -> None:
    update = cluster.own_update(framework.id, task.task_id, agent_id, state, reason, why, now)
    cluster.tell_update(framework, update)
