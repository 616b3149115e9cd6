"""What is asked about: one thing of the cluster, found by its kind and id."""

from __future__ import annotations

from collections.abc import Iterator

from runrig.errors import InvalidInput, NotFound
from runrig.ids import AgentId, FrameworkId, Role, TaskId
from runrig_master.core.clients import Client, Wanted
from runrig_master.core.cluster import Cluster
from runrig_master.core.explanation import Subject, SubjectKind
from runrig_master.core.roles import RoleNode
from runrig_master.core.state import Agent, Framework, Task

MOST_NAMED = 5
Found = Task | Framework | RoleNode | Agent | list[Wanted]


def found(cluster: Cluster, subject: Subject) -> Found:
    """Return what a subject means; raise NotFound, or InvalidInput when it may mean several."""
    kinds = [subject.kind] if subject.kind is not SubjectKind.ANY else [kind for kind in SubjectKind if kind]
    hits = [(kind, each) for kind in kinds for each in _hits(cluster, kind, subject)]
    if not hits:
        name = "task, framework, role, agent or demand" if len(kinds) > 1 else kinds[0].name.lower()
        hint = "known are those that were launched and not forgotten" if kinds == [SubjectKind.TASK] else ""
        raise NotFound(name, subject.id, hint or "`runrig tasks ls` and the like list them")
    if len({kind for kind, _ in hits}) > 1:
        names = ", ".join(dict.fromkeys(kind.name.lower() for kind, _ in hits))
        raise InvalidInput("kind", subject.kind.name.lower(), f"one of {names}, as each has the id {subject.id!r}")
    if len(hits) > 1:
        names = ", ".join(_framework_of(each) for _, each in hits[:MOST_NAMED])
        raise InvalidInput("framework_id", subject.framework_id, f"one of {names}, as each has the id {subject.id!r}")
    return hits[0][1]


def _framework_of(item: Found) -> str:
    if isinstance(item, Task):
        return item.framework.id
    return item[0].client.framework.id if isinstance(item, list) else ""


def _hits(cluster: Cluster, kind: SubjectKind, subject: Subject) -> Iterator[Found]:
    match kind:
        case SubjectKind.TASK:
            yield from _tasks(cluster, subject)
        case SubjectKind.FRAMEWORK:
            framework_id = FrameworkId(subject.id)
            framework = cluster.frameworks.get(framework_id) or cluster.completed.get(framework_id)
            if framework is not None:
                yield framework
        case SubjectKind.ROLE:
            node = cluster.tree.get(Role(subject.id))
            if node is not None:
                yield node
        case SubjectKind.AGENT:
            agent = cluster.agents.get(AgentId(subject.id))
            if agent is not None:
                yield agent
        case SubjectKind.DEMAND:
            yield from _demands(cluster, subject)
        case SubjectKind.ANY:
            raise AssertionError("stands for all others")


def _tasks(cluster: Cluster, subject: Subject) -> Iterator[Task]:
    task_id = TaskId(subject.id)
    for framework in _frameworks(cluster, subject):
        task = framework.tasks.get(task_id) or framework.ended.get(task_id)
        if task is not None:
            yield task


def _demands(cluster: Cluster, subject: Subject) -> Iterator[list[Wanted]]:
    for framework in _frameworks(cluster, subject):
        theirs = list(wanted_by(framework))
        of_id = [wanted for wanted in theirs if wanted.demand.demand_id == subject.id]
        of_group = [wanted for wanted in theirs if subject.id in (wanted.demand.group, wanted.demand.gang_id)]
        if of_id or of_group:
            yield of_id or of_group


def _frameworks(cluster: Cluster, subject: Subject) -> Iterator[Framework]:
    for framework in (*cluster.frameworks.values(), *cluster.completed.values()):
        if subject.framework_id in ("", framework.id):
            yield framework


def wanted_by(framework: Framework) -> Iterator[Wanted]:
    """Yield all that a framework wants, the most urgent first, role by role."""
    for client in framework.clients.values():
        yield from wanted_of(client)


def wanted_of(client: Client) -> list[Wanted]:
    """Return all that a client wants, the most urgent first."""
    return sorted(client.wanted.values(), key=lambda wanted: wanted.urgency)
