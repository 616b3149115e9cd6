"""The life of agents: coming, going silent, coming back, being marked gone. Rules 10, 11, 17 (deactivation) and 19."""

from __future__ import annotations

from runrig.agents import (
    AgentChanged,
    DestroyAgentVolume,
    KillTask,
    Register,
    Registered,
    ShutdownFramework,
    TaskReport,
)
from runrig.errors import Conflict, NotFound, RunrigError
from runrig.ids import AgentId, FrameworkId
from runrig.offers import FrameworkInfo, RefusalCode, RescindReason, StreamRefused
from runrig.tasks import Reason, TaskState
from runrig_master.core import maintenance, role_settings, statuses
from runrig_master.core.cluster import Cluster
from runrig_master.core.events import StreamId
from runrig_master.core.reservations import Reserves
from runrig_master.core.state import Agent, Framework, Presence, Task


def register(cluster: Cluster, stream: StreamId, report: Register, now: float) -> None:
    """Admit an agent, or take it back with its tasks."""
    refusal = _refusal(cluster, report)
    if refusal is not None:
        cluster.note("agent refused", agent=report.agent.agent_id, why=refusal.message)
        cluster.refuse_stream(stream, refusal)
        return
    agent = cluster.agents.get(report.agent.agent_id)
    if agent is None:
        agent = Agent(report.agent, Presence.RECOVERING, now)
        cluster.admit(agent)
        cluster.note("agent admitted", agent=agent.id, hostname=report.agent.hostname)
        agent.since = now
        is_new = True
    else:
        is_new = False
        _end_old_stream(cluster, agent)
    _take_back(cluster, agent, stream, report, is_new, now)


def _refusal(cluster: Cluster, report: Register) -> StreamRefused | None:
    agent = cluster.agents.get(report.agent.agent_id)
    if report.epoch > cluster.epoch:
        text = f"the agent has seen epoch {report.epoch}, this master leads epoch {cluster.epoch}: it is stale"
        return StreamRefused(RefusalCode.STALE_EPOCH, text)
    strangers = {task.framework_id for task in report.tasks if task.framework_id not in cluster.completed}
    most = cluster.settings.max_frameworks
    if strangers and len(cluster.frameworks.keys() | strangers) > most:
        text = f"with those of its tasks the cluster would have more than {most} frameworks, its bound (max_frameworks)"
        return StreamRefused(RefusalCode.TOO_SLOW, text)
    if agent is None:
        if len(cluster.agents) >= cluster.settings.max_agents:
            text = f"the cluster has {cluster.settings.max_agents} agents, its bound (max_agents)"
            return StreamRefused(RefusalCode.TOO_SLOW, text)
        return None
    if agent.presence is Presence.GONE:
        text = "this agent was marked gone; to use the host again clear its work directory and start it anew"
        return StreamRefused(RefusalCode.GONE, text)
    if report.session <= agent.session:
        text = f"session {report.session} is not newer than {agent.session}: another process runs as this agent"
        return StreamRefused(RefusalCode.SUPERSEDED, text)
    return None


def _end_old_stream(cluster: Cluster, agent: Agent) -> None:
    if agent.stream is not None:
        cluster.agent_streams.pop(agent.stream, None)
        text = "the agent has connected anew"
        cluster.refuse_stream(agent.stream, StreamRefused(RefusalCode.OUT_OF_ORDER, text))
        agent.stream = None
    cluster.rescind(list(agent.offers.values()), RescindReason.AGENT_LEFT)


def _take_back(cluster: Cluster, agent: Agent, stream: StreamId, report: Register, is_new: bool, now: float) -> None:
    was = agent.presence
    if agent.info.attributes != report.agent.attributes or agent.info.resources != report.agent.resources:
        _clear_filters(cluster, agent)
    must_persist = is_new or was is Presence.UNREACHABLE or agent.info != report.agent
    agent.session = report.session
    agent.stream = stream
    agent.presence = Presence.CONNECTED
    agent.unreachable_at = None
    cluster.silent.pop(agent.id, None)
    cluster.unseen.pop(agent.id, None)
    cluster.agent_streams[stream] = agent
    if was is Presence.UNREACHABLE:
        agent.since = now
        cluster.note("agent is back", agent=agent.id)
    cluster.replace_info(agent, report.agent)
    if must_persist:
        cluster.persist_agent(agent)
    settings = cluster.settings
    cluster.order(
        agent,
        Registered(cluster.id, int(settings.silence_timeout_s * 1000), int(settings.heartbeat_s * 1000)),
    )
    for volume_id in agent.reserves.doomed:
        cluster.order(agent, DestroyAgentVolume(volume_id))
    _merge_tasks(cluster, agent, report.tasks, was, now)
    maintenance.agent_returned(cluster, agent, now)
    cluster.count_in(agent)
    cluster.recovered(agent)
    role_settings.keep_limits(cluster, {task.role: None for task in agent.tasks.values()})
    cluster.touch("agent", agent.id)


def _merge_tasks(cluster: Cluster, agent: Agent, reports: tuple[TaskReport, ...], was: Presence, now: float) -> None:
    reported = {(report.framework_id, report.task_id) for report in reports}
    for task in [task for key, task in agent.tasks.items() if key not in reported]:
        if not task.state.is_terminal:
            statuses.lose(cluster, task, now)
        elif task.framework.tasks.get(task.id) is task:
            cluster.forget_task(task)
    removed: dict[FrameworkId, None] = {}
    for report in reports:
        if report.framework_id in cluster.completed:
            removed[report.framework_id] = None
            _merge_removed(cluster, agent, report)
        else:
            _merge_task(cluster, agent, report, was, now)
    for framework_id in removed:
        cluster.order(agent, ShutdownFramework(framework_id))


def _merge_removed(cluster: Cluster, agent: Agent, report: TaskReport) -> None:
    """Keep the books of a removed framework's task until its agent says that it has ended (rule 11)."""
    framework = cluster.completed[report.framework_id]
    task = framework.tasks.get(report.task_id)
    if task is None and not report.status.state.is_terminal:
        cluster.add_task(_reported_task(cluster, framework, agent, report))
    elif task is not None:
        statuses.update_came(cluster, agent, report.status)


def _merge_task(cluster: Cluster, agent: Agent, report: TaskReport, was: Presence, now: float) -> None:
    framework = cluster.frameworks.get(report.framework_id) or _unknown_framework(cluster, report.framework_id, now)
    task = framework.tasks.get(report.task_id)
    if task is not None and task.agent is not agent:
        cluster.note("two agents report one task", True, task=task.id, agents=(task.agent.id, agent.id))
        return
    if task is None:
        _merge_stranger(cluster, agent, framework, report, was)
        return
    if not task.state.is_terminal:
        _return_to_real_state(cluster, task, report, was)
    if task.kill_reason is not None and not task.state.is_terminal:
        cluster.order(agent, statuses.kill_order(task))


def _merge_stranger(cluster: Cluster, agent: Agent, framework: Framework, report: TaskReport, was: Presence) -> None:
    """Take up a task that this leadership has not seen; end one that was given up, as its framework was told so."""
    is_alive = not report.status.state.is_terminal
    if report.task_id not in framework.ended:
        task = _reported_task(cluster, framework, agent, report)
        cluster.add_task(task)
        if is_alive and was is Presence.UNREACHABLE:
            _tell_returned(cluster, task)
    elif is_alive:
        cluster.note("task that was given up runs", True, task=report.task_id, agent=agent.id)
        cluster.order(agent, KillTask(framework.id, report.task_id, reason=Reason.AGENT_FORGOT_TASK))


def _return_to_real_state(cluster: Cluster, task: Task, report: TaskReport, was: Presence) -> None:
    """Rule 8: unreachable is not terminal; rule 11: what ended meanwhile has ended."""
    status = report.status
    before = task.state
    task.latest = max(task.latest, status.number)
    task.learn(status)
    cluster.touch("task", task.id, task.framework.id)
    if status.state.is_terminal:
        cluster.end_task(task)
        if task.is_settled:
            cluster.forget_task(task)
    elif was is Presence.UNREACHABLE and before is TaskState.TASK_UNREACHABLE:
        _tell_returned(cluster, task)


def _tell_returned(cluster: Cluster, task: Task) -> None:
    at = task.status.at_unix_ms / 1000
    news = cluster.own_update(
        task.framework.id, task.id, task.agent.id, task.state, Reason.AGENT_RETURNED, "its agent is back", at
    )
    cluster.tell_update(task.framework, news)


def _clear_filters(cluster: Cluster, agent: Agent) -> None:
    for pool in agent.pools.values():
        cluster.filters.clear_pool(pool)


def _reported_task(cluster: Cluster, framework: Framework, agent: Agent, report: TaskReport) -> Task:
    task = Task(
        report.task_id,
        report.name,
        framework,
        cluster.pool_of(agent, report.terms),
        report.role,
        report.resources,
        report.labels,
        report.status,
        report.terms,
        report.volume_ids,
    )
    task.learn(report.status)
    return task


def _unknown_framework(cluster: Cluster, framework_id: FrameworkId, now: float) -> Framework:
    """Make a place for tasks whose framework the store has lost: it may come back and claim them."""
    timeout_s = cluster.settings.default_failover_timeout_s
    info = FrameworkInfo("(unknown)", (), framework_id, int(timeout_s * 1000))
    framework = cluster.frameworks[framework_id] = Framework(info, 0)
    framework.failover_deadline = now + timeout_s
    cluster.absent[framework_id] = framework
    cluster.note("framework known only by its tasks", True, framework=framework_id)
    cluster.persist_framework(framework)
    return framework


def changed(cluster: Cluster, agent: Agent, report: AgentChanged) -> None:
    """Take up what an agent says of itself now: its offers are void, its filters forgotten."""
    if report.agent.agent_id != agent.id or report.agent == agent.info:
        return
    cluster.rescind(list(agent.offers.values()), RescindReason.AGENT_CHANGED)
    _clear_filters(cluster, agent)
    cluster.replace_info(agent, report.agent)
    cluster.persist_agent(agent)
    cluster.mark_dirty(agent)
    cluster.touch("agent", agent.id)


def stream_closed(cluster: Cluster, stream: StreamId, last_heard: float) -> None:
    """Take an agent's offers back at once; leave its tasks alone until it has been silent for long (rule 10)."""
    agent = cluster.agent_streams.pop(stream, None)
    if agent is None:
        return
    agent.stream = None
    agent.presence = Presence.DISCONNECTED
    agent.unreachable_at = last_heard + cluster.settings.silence_timeout_s
    cluster.silent[agent.id] = agent
    cluster.withdraw(agent, RescindReason.AGENT_LEFT)
    cluster.note("agent disconnected", agent=agent.id)
    cluster.touch("agent", agent.id)


def mark_unreachable(cluster: Cluster, agent: Agent, now: float) -> None:
    """Give up waiting for an agent: first durable, then told to its frameworks."""
    agent.presence = Presence.UNREACHABLE
    agent.unreachable_at = None
    cluster.silent.pop(agent.id, None)
    agent.since = now
    cluster.count_out(agent)
    cluster.recovered(agent)
    _clear_filters(cluster, agent)
    cluster.persist_agent(agent)
    cluster.note("agent unreachable", True, agent=agent.id, tasks=len(agent.tasks))
    text = f"agent {agent.id} was silent for too long"
    for task in list(agent.tasks.values()):
        if not task.state.is_terminal:
            cluster.say(task, TaskState.TASK_UNREACHABLE, Reason.AGENT_UNREACHABLE, text, now)
    cluster.touch("agent", agent.id)


def deactivate(cluster: Cluster, agent_id: AgentId, is_deactivated: bool) -> RunrigError | None:
    """Stop the offers of an agent, or resume them and end its drain; it stays so over failovers (rule 17)."""
    agent = cluster.agents.get(agent_id)
    if agent is None:
        return NotFound("agent", agent_id, "see `runrig agents ls`")
    if agent.presence is Presence.GONE:
        return Conflict(f"agent {agent_id} was marked gone")
    agent.is_deactivated = is_deactivated
    if not is_deactivated:
        maintenance.end_drain(cluster, agent)
    cluster.persist_agent(agent)
    if is_deactivated:
        cluster.withdraw(agent, RescindReason.AGENT_DEACTIVATED)
    else:
        cluster.mark_dirty(agent)
    cluster.touch("agent", agent.id)
    return None


def mark_gone(cluster: Cluster, agent_id: AgentId, now: float) -> RunrigError | None:
    """End all that an agent had: an operator says that it never comes back."""
    agent = cluster.agents.get(agent_id)
    if agent is None:
        return NotFound("agent", agent_id, "see `runrig agents ls`")
    if agent.presence is Presence.GONE:
        return None
    agent.presence = Presence.GONE
    agent.since = now
    agent.unreachable_at = None
    cluster.silent.pop(agent.id, None)
    cluster.unseen.pop(agent.id, None)
    maintenance.forget_agent(cluster, agent)
    cluster.persist_agent(agent)
    cluster.withdraw(agent, RescindReason.AGENT_LEFT)
    cluster.count_out(agent)
    cluster.recovered(agent)
    _clear_filters(cluster, agent)
    _end_tasks_of_gone(cluster, agent, now)
    cluster.change_reserves(agent, Reserves(agent.id))
    if agent.stream is not None:
        cluster.agent_streams.pop(agent.stream, None)
        text = "an operator marked this agent gone"
        cluster.refuse_stream(agent.stream, StreamRefused(RefusalCode.GONE, text))
        agent.stream = None
    cluster.note("agent marked gone", True, agent=agent.id)
    cluster.touch("agent", agent.id)
    return None


def _end_tasks_of_gone(cluster: Cluster, agent: Agent, now: float) -> None:
    for task in list(agent.tasks.values()):
        if not task.state.is_terminal:
            text = f"an operator marked agent {agent.id} gone"
            cluster.say(task, TaskState.TASK_GONE_BY_OPERATOR, Reason.AGENT_GONE, text, now)
        task.acknowledged = task.latest
        cluster.forget_task(task)
