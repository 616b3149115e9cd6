"""A task explained: its state, where it is, why it is so, and on what terms it runs."""

from __future__ import annotations

from collections.abc import Iterator

from runrig.tasks import Reason, TaskState, Terms
from runrig_master.core.cluster import Cluster
from runrig_master.core.explain.words import framework_text, resources_text, span_text, until_text
from runrig_master.core.explanation import Explanation, SubjectKind
from runrig_master.core.state import Agent, Presence, Task


def explain_task(cluster: Cluster, task: Task, now: float) -> Explanation:
    """Explain a task that was launched."""
    facts = [fact for fact in _facts(cluster, task, now) if fact]
    return Explanation(SubjectKind.TASK, task.id, _summary(task, now), facts=tuple(facts))


def _summary(task: Task, now: float) -> str:
    state = task.state.name.removeprefix("TASK_")
    where = f"{task.id} is {state} on {task.agent.info.hostname}"
    at_ms = task.status.at_unix_ms
    since = f", for {span_text(now - at_ms / 1000)}" if at_ms and not task.state.is_terminal else ""
    if at_ms and task.state.is_terminal:
        since = f", ended {span_text(now - at_ms / 1000)} ago"
    why = _why(task)
    return f"{where}{since}{f': {why}' if why else ''}"


def _why(task: Task) -> str:
    """Return reason and message of the latest update, and what a task without news waits for."""
    status = task.status
    parts = [status.reason.name] if status.reason is not Reason.NONE else []
    if status.exit_code is not None and task.state.is_terminal:
        parts.append(f"exit code {status.exit_code}")
    if status.message:
        parts.append(status.message)
    if not parts and task.state is TaskState.TASK_STAGING:
        parts.append(_staging(task.agent))
    return ", ".join(parts)


def _staging(agent: Agent) -> str:
    if agent.presence is Presence.CONNECTED:
        return "its agent was told to start it and has not said anything of it yet"
    return f"its agent is {agent.presence.value}, and says of it when it is back"


def _facts(cluster: Cluster, task: Task, now: float) -> Iterator[str]:
    yield f"it is of {framework_text(task.framework)}, in role {task.role}, and holds {resources_text(task.resources)}"
    if task.agent.presence is not Presence.CONNECTED:
        yield f"its agent is {task.agent.presence.value}"
    if task.kill_reason is not None and not task.state.is_terminal:
        yield f"it is being killed: {task.kill_reason.name}"
    yield from _terms(task.terms)
    if task.status.healthy is not None:
        yield "its health check passes" if task.status.healthy else "its health check fails"
    for inverse in cluster.inverse_offers.of_agent(task.agent.id):
        if inverse.tasks.get(task.id) is task:
            asked = f"its framework is asked to end it ({inverse.reason.name})"
            yield f"{asked}, {until_text(inverse.deadline, now)}" if inverse.deadline else asked
    if task.state.is_terminal and task.unacknowledged:
        yield "its framework has not acknowledged its end yet"


def _terms(terms: Terms) -> Iterator[str]:
    if terms.reservation_id:
        yield f"it runs in reservation {terms.reservation_id}"
    if terms.gang_id:
        yield f"it is of gang {terms.gang_id}: all of it is preempted or none"
    if terms.group:
        yield f"constraints count it in group {terms.group}"
    if terms.priority:
        yield f"its priority is {terms.priority}"
    if terms.expected_duration_ms:
        yield f"it promised to run for {span_text(terms.expected_duration_ms / 1000)}"
