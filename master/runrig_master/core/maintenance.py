"""Agents that leave on purpose: drained until they are activated again, or away at a planned time (rule 17).

A drain is durable first, with a deadline that does not move whoever leads. From then on the agent gets no offers, and
frameworks with tasks there are asked, in inverse offers, to end them in their own way. At the deadline the master kills
what is left. The agent is drained once all its tasks have ended and that is acknowledged.

An unavailability stands in the agent's offers, and frameworks with tasks there are told of it. Nothing is killed.
"""

from __future__ import annotations

from runrig.errors import Conflict, InvalidInput, NotFound, RunrigError
from runrig.ids import AgentId, FrameworkId
from runrig.offers import InverseOfferReason, RescindReason
from runrig.reservations import Unavailability, checked_unavailability
from runrig.tasks import Reason
from runrig_master.core import statuses
from runrig_master.core.cluster import Cluster
from runrig_master.core.commands import AgentRecord, Drain
from runrig_master.core.events import DrainAsked, UnavailabilityAsked
from runrig_master.core.inverse_offers import OutstandingInverseOffer
from runrig_master.core.state import Agent, Presence, Task

MAX_GRACE_MS = 365 * 86_400_000

# Drains


def drain(cluster: Cluster, event: DrainAsked, now: float) -> RunrigError | None:
    """Begin to empty an agent; asked of one that is drained already, what is said last counts."""
    try:
        agent = _known_agent(cluster, event.agent_id)
        agent.drain = _checked_drain(cluster, event, now)
    except RunrigError as error:
        return error
    agent.is_drained = False
    cluster.persist_agent(agent)
    cluster.withdraw(agent, RescindReason.AGENT_DEACTIVATED)
    cluster.departures.drain_deadlines.set(agent.id, agent.drain.deadline)
    _end_inverse_offers(cluster, agent, InverseOfferReason.DRAIN)
    _ask_to_leave(cluster, agent, now)
    cluster.departures.emptied[agent.id] = agent
    cluster.note("agent is drained from now", agent=agent.id, tasks=len(agent.tasks), deadline=agent.drain.deadline)
    cluster.touch("agent", agent.id)
    return None


def _known_agent(cluster: Cluster, agent_id: AgentId) -> Agent:
    agent = cluster.agents.get(agent_id)
    if agent is None:
        raise NotFound("agent", agent_id, "see `runrig agents ls`")
    if agent.presence is Presence.GONE:
        raise Conflict(f"agent {agent_id} was marked gone")
    return agent


def _checked_drain(cluster: Cluster, event: DrainAsked, now: float) -> Drain:
    settings = cluster.settings
    notice_ms = event.notice_ms if event.notice_ms is not None else int(settings.drain_notice_s * 1000)
    most_ms = int(settings.max_drain_notice_s * 1000)
    if not 0 <= notice_ms <= most_ms:
        raise InvalidInput("notice_ms", notice_ms, f"0 to {most_ms} (max_drain_notice_s)")
    if event.grace_ms is not None and not 0 <= event.grace_ms <= MAX_GRACE_MS:
        raise InvalidInput("grace_ms", event.grace_ms, f"0 to {MAX_GRACE_MS}, or unset for each task's own")
    return Drain(int(now * 1000) + notice_ms, event.grace_ms, event.then_gone)


def end_drain(cluster: Cluster, agent: Agent) -> None:
    """Call a drain off: what has not been killed by now lives on, and the caller makes it durable."""
    if agent.drain is None:
        return
    _forget_drain(cluster, agent)
    if agent.stream is None:
        for task in agent.tasks.values():
            if task.kill_reason is Reason.AGENT_DRAINED:
                task.kill_reason, task.kill_grace_ms = None, None
    cluster.note("agent is drained no more", agent=agent.id)


def _forget_drain(cluster: Cluster, agent: Agent) -> None:
    agent.drain = None
    agent.is_drained = False
    cluster.departures.drain_deadlines.call_off(agent.id)
    cluster.departures.emptied.pop(agent.id, None)
    _end_inverse_offers(cluster, agent, InverseOfferReason.DRAIN)


def _ask_to_leave(cluster: Cluster, agent: Agent, now: float) -> None:
    if agent.drain is not None:
        _ask(cluster, agent, InverseOfferReason.DRAIN, now, deadline=agent.drain.deadline)


def _kill_what_is_left(cluster: Cluster, agent: Agent) -> None:
    """Kill with the drain's grace; a task that is being killed already may have less time left, never more."""
    assert agent.drain is not None
    cluster.departures.drain_deadlines.call_off(agent.id)
    killed = 0
    for task in _left(agent):
        grace_ms = statuses.shorter(task.kill_grace_ms, agent.drain.grace_ms)
        if task.kill_reason is None or grace_ms != task.kill_grace_ms:
            task.kill_reason = task.kill_reason or Reason.AGENT_DRAINED
            task.kill_grace_ms = grace_ms
            cluster.order(agent, statuses.kill_order(task))
            killed += 1
    if killed:
        cluster.note("tasks are killed as their agent is drained", agent=agent.id, tasks=killed)


def _settle_drained(cluster: Cluster) -> list[Agent]:
    """Return those of the agents found empty that are to be marked gone."""
    emptied, cluster.departures.emptied = cluster.departures.emptied, {}
    gone = []
    for agent in emptied.values():
        if agent.drain is None or agent.tasks or agent.id in cluster.unseen or agent.is_drained:
            continue
        agent.is_drained = True
        cluster.note("agent is drained", agent=agent.id)
        cluster.touch("agent", agent.id)
        if agent.drain.then_gone:
            gone.append(agent)
    return gone


# Unavailability


def set_unavailability(cluster: Cluster, event: UnavailabilityAsked, now: float) -> RunrigError | None:
    """Plan when agents are away, or that they are not; for all that are named or, if one cannot be, for none."""
    try:
        agents = _named_agents(cluster, event.agent_ids)
        if event.unavailability is not None:
            _check_window(cluster, event.unavailability, now)
    except RunrigError as error:
        return error
    for agent in agents:
        if agent.unavailability != event.unavailability:
            _change_window(cluster, agent, event.unavailability, now)
    return None


def _named_agents(cluster: Cluster, agent_ids: tuple[AgentId, ...]) -> list[Agent]:
    most = cluster.settings.max_agents
    if not 1 <= len(agent_ids) <= most:
        raise InvalidInput("agent_ids", len(agent_ids), f"1 to {most} agents")
    return [_known_agent(cluster, agent_id) for agent_id in dict.fromkeys(agent_ids)]


def _check_window(cluster: Cluster, window: Unavailability, now: float) -> None:
    checked_unavailability("unavailability", window)
    now_ms, most_ms = int(now * 1000), int(cluster.settings.max_window_distance_s * 1000)
    earliest, latest = max(0, now_ms - most_ms), now_ms + most_ms
    if not earliest <= window.start_unix_ms <= latest:
        allowed = f"{earliest} to {latest}: it is {now_ms} now (max_window_distance_s)"
        raise InvalidInput("unavailability.start_unix_ms", window.start_unix_ms, allowed)
    end_ms = window.start_unix_ms + window.duration_ms
    if window.duration_ms and end_ms <= now_ms:
        allowed = f"0 for one without an end, or more than {now_ms - window.start_unix_ms}: else it is over already"
        raise InvalidInput("unavailability.duration_ms", window.duration_ms, allowed)


def _change_window(cluster: Cluster, agent: Agent, window: Unavailability | None, now: float) -> None:
    agent.unavailability = window
    cluster.persist_agent(agent)
    cluster.rescind(list(agent.offers.values()), RescindReason.AGENT_CHANGED)
    cluster.mark_dirty(agent)
    _end_inverse_offers(cluster, agent, InverseOfferReason.MAINTENANCE)
    _set_end(cluster, agent)
    _tell_of_window(cluster, agent, now)
    cluster.note("agent's unavailability is changed", agent=agent.id, window=window)
    cluster.touch("agent", agent.id)


def _set_end(cluster: Cluster, agent: Agent) -> None:
    window = agent.unavailability
    if window is not None and window.duration_ms:
        cluster.departures.window_ends.set(agent.id, (window.start_unix_ms + window.duration_ms) / 1000)
    else:
        cluster.departures.window_ends.call_off(agent.id)


def _tell_of_window(cluster: Cluster, agent: Agent, now: float) -> None:
    if agent.unavailability is not None:
        _ask(cluster, agent, InverseOfferReason.MAINTENANCE, now)


# Inverse offers


def _ask(cluster: Cluster, agent: Agent, reason: InverseOfferReason, now: float, deadline: float | None = None) -> None:
    """Ask frameworks for those of their tasks on an agent that they were not asked for yet."""
    if agent.presence is Presence.UNREACHABLE:
        return  # its return brings it up
    inverse_offers = cluster.inverse_offers
    by_framework: dict[FrameworkId, list[Task]] = {}
    for task in _left(agent):
        if not inverse_offers.asks_for(task, reason):
            by_framework.setdefault(task.framework.id, []).append(task)
    window = agent.unavailability if reason is InverseOfferReason.MAINTENANCE else None
    for tasks in by_framework.values():
        made = inverse_offers.make(
            reason, tasks[0].framework, agent, tasks, now, deadline=deadline, unavailability=window
        )
        if sum(len(inverse.tasks) for inverse in made) < len(tasks):
            text = "a framework has as many inverse offers as it may (inverse_offers_per_framework)"
            cluster.note(text, True, framework=tasks[0].framework.id, agent=agent.id)


def _left(agent: Agent) -> list[Task]:
    """Return the tasks that run there, but for those of removed frameworks: they are being killed."""
    return [task for task in agent.tasks.values() if not task.state.is_terminal and not task.framework.is_completed]


def _end_inverse_offers(cluster: Cluster, agent: Agent, reason: InverseOfferReason) -> None:
    for inverse in cluster.inverse_offers.of_agent(agent.id, reason):
        cluster.inverse_offers.end(inverse)


def end_notice(cluster: Cluster, inverse: OutstandingInverseOffer, now: float) -> None:
    """Do what was announced for an inverse offer's deadline; what a drain kills it finds itself."""
    if inverse.reason is InverseOfferReason.PREEMPTION:
        for task in list(inverse.tasks.values()):
            statuses.kill(cluster, task.framework, task.id, None, Reason.PREEMPTED, now)
    cluster.inverse_offers.end(inverse)


# Agents and time


def recall(cluster: Cluster, agent: Agent, record: AgentRecord) -> None:
    """Take up what the store remembers of an agent."""
    agent.drain = record.drain
    agent.unavailability = record.unavailability
    if agent.drain is not None:
        cluster.departures.drain_deadlines.set(agent.id, agent.drain.deadline)
    _set_end(cluster, agent)


def agent_returned(cluster: Cluster, agent: Agent, now: float) -> None:
    """See to the tasks that an agent has come back with: past the deadline of its drain they are killed."""
    _tell_of_window(cluster, agent, now)
    if agent.drain is None:
        return
    agent.is_drained = agent.is_drained and not agent.tasks
    cluster.departures.emptied[agent.id] = agent
    if agent.drain.deadline <= now:
        _kill_what_is_left(cluster, agent)
    else:
        _ask_to_leave(cluster, agent, now)


def forget_agent(cluster: Cluster, agent: Agent) -> None:
    """Forget all that was planned with an agent that is gone; the caller makes it durable."""
    _forget_drain(cluster, agent)
    agent.unavailability = None
    cluster.departures.window_ends.call_off(agent.id)
    _end_inverse_offers(cluster, agent, InverseOfferReason.MAINTENANCE)


def tick(cluster: Cluster, now: float) -> list[Agent]:
    """Do what is due; return the agents that are drained and are to be marked gone."""
    for agent_id in cluster.departures.window_ends.due(now):
        _change_window(cluster, cluster.agents[agent_id], None, now)
    for agent_id in cluster.departures.drain_deadlines.due(now):
        _kill_what_is_left(cluster, cluster.agents[agent_id])
    return _settle_drained(cluster)


def next_deadline(cluster: Cluster) -> float | None:
    """Return when something is due."""
    dues = (
        cluster.departures.window_ends.next(),
        cluster.departures.drain_deadlines.next(),
        cluster.inverse_offers.next_deadline(),
    )
    return min((due for due in dues if due is not None), default=None)
