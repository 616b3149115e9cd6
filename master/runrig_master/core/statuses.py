"""What agents say of tasks on its way to frameworks, and the receipts on their way back: rules 7 to 9, 13, 14."""

from __future__ import annotations

from runrig.agents import AcknowledgeUpdate, KillTask, ShutdownFramework, TaskNotHere
from runrig.ids import AgentId, TaskId
from runrig.offers import Acknowledgement, TaskReference, TasksRecovering
from runrig.tasks import Reason, StatusUpdate, TaskState
from runrig_master.core.cluster import Cluster
from runrig_master.core.state import Agent, Framework, Presence, Task


def update_came(cluster: Cluster, agent: Agent, update: StatusUpdate) -> None:
    """Apply an agent's update and pass it on; what nobody will ever receive is acknowledged here."""
    framework = cluster.frameworks.get(update.framework_id)
    if framework is None:
        _settle_for_removed(cluster, agent, update)
        return
    task = framework.tasks.get(update.task_id)
    if task is None:
        _pass_on_unknown(cluster, agent, framework, update)
    elif task.agent is not agent:
        cluster.note("update of a task that runs elsewhere", task=task.id, agent=agent.id, elsewhere=task.agent.id)
    elif update.number <= task.acknowledged:
        _acknowledge_again(cluster, task, update.number)
    elif task.state.is_terminal and update.number > task.latest:
        _note_after_end(cluster, task, update)
    elif task.state.is_terminal and update.number < task.latest:
        pass  # what led to an end is no news once the end is known; the receipt of the end covers it (rule 8)
    else:
        _apply(cluster, task, update)
        cluster.tell_update(framework, update)


def _apply(cluster: Cluster, task: Task, update: StatusUpdate) -> None:
    is_new = update.number > task.latest
    if is_new or all(kept.number != update.number for kept in task.unacknowledged):
        task.unacknowledged.append(update)
        del task.unacknowledged[: -cluster.settings.unacknowledged_per_task]
    if not is_new:
        return
    task.latest = update.number
    task.learn(update)
    if update.state.is_terminal:
        cluster.end_task(task)
    cluster.touch("task", task.id, task.framework.id)


def _settle_for_removed(cluster: Cluster, agent: Agent, update: StatusUpdate) -> None:
    """Take the last words of a removed framework's task: receive them in its place."""
    removed = cluster.completed.get(update.framework_id)
    task = removed.tasks.get(update.task_id) if removed is not None else None
    if task is not None and task.agent is agent and not task.state.is_terminal:
        task.latest = max(task.latest, update.number)
        task.learn(update)
        if update.state.is_terminal:
            cluster.end_task(task)
            cluster.forget_task(task)
        cluster.touch("task", task.id, update.framework_id)
    cluster.order(agent, AcknowledgeUpdate(update.framework_id, update.task_id, update.number))
    if not update.state.is_terminal and removed is None:
        cluster.order(agent, ShutdownFramework(update.framework_id))


def _pass_on_unknown(cluster: Cluster, agent: Agent, framework: Framework, update: StatusUpdate) -> None:
    ended = framework.ended.get(update.task_id)
    if ended is None or (update.state.is_terminal and ended.acknowledged < update.number <= ended.latest):
        cluster.tell_update(framework, update)
        return
    if update.number > ended.latest:
        _note_after_end(cluster, ended, update)
    cluster.order(agent, AcknowledgeUpdate(update.framework_id, update.task_id, update.number))


def _note_after_end(cluster: Cluster, task: Task, update: StatusUpdate) -> None:
    """Keep from a framework what would change an end that it was told (rule 8)."""
    cluster.note("update of a task that has ended", task=task.id, ended=task.state.name, said=update.state.name)


def _acknowledge_again(cluster: Cluster, task: Task, number: int) -> None:
    cluster.order(task.agent, AcknowledgeUpdate(task.framework.id, task.id, number))


def acknowledge(cluster: Cluster, framework: Framework, receipt: Acknowledgement) -> None:
    """Pass a receipt to the agent; a task that has ended and is all acknowledged is done with."""
    task = framework.tasks.get(receipt.task_id)
    if task is None:
        agent = cluster.agents.get(receipt.agent_id)
        if agent is not None and receipt.number > 0:
            cluster.order(agent, AcknowledgeUpdate(framework.id, receipt.task_id, receipt.number))
        return
    if not task.acknowledged < receipt.number <= task.latest:
        return
    task.acknowledged = receipt.number
    task.unacknowledged = [update for update in task.unacknowledged if update.number > receipt.number]
    cluster.order(task.agent, AcknowledgeUpdate(framework.id, task.id, receipt.number))
    if task.is_settled:
        cluster.forget_task(task)


def kill(
    cluster: Cluster, framework: Framework, task_id: TaskId, grace_ms: int | None, reason: Reason, now: float
) -> None:
    """Have a task killed; an unknown one is answered as a reconciliation of it (rule 13)."""
    task = framework.tasks.get(task_id)
    if task is None:
        reconcile(cluster, framework, (TaskReference(task_id),), now)
    elif task.state.is_terminal:
        cluster.tell_update(framework, answer(task, now))
    else:
        task.kill_reason = reason
        task.kill_grace_ms = shorter(task.kill_grace_ms, grace_ms)
        cluster.order(task.agent, kill_order(task))


def kill_order(task: Task) -> KillTask:
    """Return the order that ends `task` as was asked."""
    assert task.kill_reason is not None
    return KillTask(task.framework.id, task.id, task.kill_grace_ms, task.kill_reason)


def shorter(first: int | None, second: int | None) -> int | None:
    """Return the shorter of two graces; None says none."""
    graces = [grace for grace in (first, second) if grace is not None]
    return min(graces) if graces else None


def not_here(cluster: Cluster, agent: Agent, report: TaskNotHere, now: float) -> None:
    """Learn that an agent does not have a task that it was asked to kill: the launch was lost (rule 12)."""
    task = cluster.find_task((report.framework_id, report.task_id))
    if task is not None and task.agent is agent and not task.state.is_terminal:
        lose(cluster, task, now)


def lose(cluster: Cluster, task: Task, now: float) -> None:
    """End a task that its agent does not have: dropped if the agent never spoke of it, else lost (rule 11)."""
    if task.latest == 0:
        cluster.say(task, TaskState.TASK_DROPPED, Reason.LAUNCH_LOST, "the launch never reached the agent", now)
    else:
        text = "the agent came back without it; look for its work directory having been cleared"
        cluster.say(task, TaskState.TASK_LOST, Reason.AGENT_FORGOT_TASK, text, now)
    task.acknowledged = task.latest
    cluster.forget_task(task)


def reconcile(cluster: Cluster, framework: Framework, references: tuple[TaskReference, ...], now: float) -> None:
    """Answer what is known of tasks (rule 14)."""
    if not references:
        cluster.tell_updates(framework, [answer(known, now) for known in framework.tasks.values()])
        return
    recovering: list[TaskReference] = []
    answers: list[StatusUpdate] = []
    for reference in references:
        task = framework.tasks.get(reference.task_id) or framework.ended.get(reference.task_id)
        if task is not None:
            answers.append(answer(task, now))
        elif _is_recovering(cluster, reference.agent_id):
            recovering.append(reference)
        else:
            answers.append(_verdict(cluster, framework, reference, now))
    cluster.tell_updates(framework, answers)
    if recovering:
        cluster.tell(framework, TasksRecovering(tuple(recovering)))


def answer(task: Task, now: float) -> StatusUpdate:
    """Return what is known of a task, as an update of the master's own."""
    status = task.status
    return StatusUpdate(
        task.framework.id,
        task.id,
        task.agent.id,
        0,
        task.state,
        Reason.RECONCILIATION if not task.state.is_terminal else status.reason,
        status.source,
        status.message,
        int(now * 1000),
        status.healthy,
        status.exit_code,
        status.runtime,
        status.container_id,
        status.pid,
        status.address,
    )


def _is_recovering(cluster: Cluster, agent_id: AgentId) -> bool:
    """Say whether the agent, or with none named some agent, may have tasks that this leadership has not heard of."""
    if agent_id:
        agent = cluster.agents.get(agent_id)
        return agent is not None and agent.presence is Presence.RECOVERING
    return bool(cluster.unseen)


def _verdict(cluster: Cluster, framework: Framework, reference: TaskReference, now: float) -> StatusUpdate:
    agent = cluster.agents.get(reference.agent_id)
    state, text = TaskState.TASK_UNKNOWN, "neither the master nor the agent knows it"
    if agent is not None and agent.presence is Presence.UNREACHABLE:
        state, text = TaskState.TASK_UNREACHABLE, "its agent is unreachable"
    elif agent is not None and agent.presence is Presence.GONE:
        state, text = TaskState.TASK_GONE_BY_OPERATOR, "its agent was marked gone"
    return cluster.own_update(
        framework.id, reference.task_id, reference.agent_id, state, Reason.RECONCILIATION, text, now
    )
