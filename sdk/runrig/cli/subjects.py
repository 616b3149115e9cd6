"""What `runrig explain ID` means: a task, framework, role or agent of the master's, a job or an app of a framework's.

A whole id or name wins over the beginning of one, of whatever kind, and a framework over the role that is named like
it, as the two often are; where it still may mean several, they are named.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runrig.cli.output import hint
from runrig.cli.prefixes import beginning, find
from runrig.cli.waiting import Frameworks, Waiting
from runrig.errors import InvalidInput, NotFound, Unavailable
from runrig.explanations import SubjectKind

if TYPE_CHECKING:
    from runrig.cli.grpc_operator import Operator

MASTERS = {"agent": SubjectKind.AGENT, "framework": SubjectKind.FRAMEWORK, "role": SubjectKind.ROLE}
KINDS = ("task", *MASTERS, "job", "app")


@dataclass(frozen=True, slots=True)
class Named:
    """Something that has a name; `also` is another name of it."""

    kind: str
    id: str
    also: str = ""
    framework_id: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the master is asked, and what waits if it is about a framework's wants."""

    kind: SubjectKind
    id: str
    framework_id: str = ""
    waiting: Waiting | None = None


async def asked(operator: Operator, frameworks: Frameworks, kind: str | None, given: str) -> Asked:
    """Find what is meant; raise NotFound, or InvalidInput when it may mean several."""
    if kind is None:
        kind, given = await _kind_of(operator, frameworks, given)
    match kind:
        case "job":
            return _of_waiting(frameworks.job(_job_id(frameworks, given)))
        case "app":
            return _of_waiting(frameworks.app(given))
        case "task":
            return await _task(operator, frameworks, given)
        case "agent":
            return Asked(SubjectKind.AGENT, (await operator.agent(given)).id)
        case "framework":
            return Asked(SubjectKind.FRAMEWORK, (await operator.framework(given)).id)
        case _:
            roles = [role.role for role in await operator.roles()]
            return Asked(SubjectKind.ROLE, find("role", given, roles, str))


def _of_waiting(waiting: Waiting) -> Asked:
    return Asked(SubjectKind.DEMAND, waiting.group, waiting.framework_id, waiting)


async def _task(operator: Operator, frameworks: Frameworks, given: str) -> Asked:
    try:
        task = await operator.task(given)
    except NotFound:
        waiting = _that_waits(frameworks, given)
        if waiting is None:
            raise
        return _of_waiting(waiting)
    return Asked(SubjectKind.TASK, task.id, task.framework_id)


def _that_waits(frameworks: Frameworks, task_id: str) -> Waiting | None:
    """Return the job or app one of whose tasks that wait has this id: a master knows only those that were launched."""
    name = task_id.partition(".")[0]
    jobs = [frameworks.job(job) for job in frameworks.job_ids(name) if job == name]
    apps = [frameworks.app(app) for app in frameworks.app_ids() if app.strip("/").replace("/", "_") == name]
    return next((each for each in (*jobs, *apps) if task_id in each.task_ids), None)


def _job_id(frameworks: Frameworks, given: str) -> str:
    found = frameworks.job_ids(beginning(given))
    if not found and frameworks.silent:
        raise Unavailable("; ".join(frameworks.silent.values()))
    return find("job", given, found, str)


async def _kind_of(operator: Operator, frameworks: Frameworks, given: str) -> tuple[str, str]:
    """Return what kind of thing has this id or name, and its id."""
    if given.startswith("/"):
        return "app", given
    known = [
        *(Named("agent", each.id, each.hostname) for each in await operator.agents()),
        *(Named("framework", each.id, each.name) for each in await operator.frameworks()),
        *(Named("role", each.role) for each in await operator.roles()),
        *(Named("task", each.id) for each in await operator.tasks(beginning(given), include_terminal=True)),
        *(Named("job", each) for each in frameworks.job_ids(beginning(given))),
        *(Named("app", each, each.removeprefix("/")) for each in frameworks.app_ids()),
    ]
    whole = _once(each for each in known if given in (each.id, each.also))
    begun = _once(each for each in known if each.kind not in ("role", "app") and each.id.startswith(beginning(given)))
    for found in (whole, begun):
        if len(found) == 1 or [each.kind for each in found] == ["framework", "role"]:
            for other in found[1:]:
                hint(f"the framework {given} is meant; of the role: runrig explain role {other.id}")
            return found[0].kind, found[0].id
        if found:
            ways = ", ".join(f"`runrig explain {each.kind} {each.id}`" for each in found[:4])
            raise InvalidInput("ID", given, f"one of them: {ways}")
    if _that_waits(frameworks, given) is not None:
        return "task", given
    silent = "".join(f"; {why}" for why in frameworks.silent.values())
    raise NotFound(
        "task, job, app, framework, role or agent", given, f"`runrig tasks ls` and the like list them{silent}"
    )


def _once(found: Iterable[Named]) -> list[Named]:
    return list(dict.fromkeys(found))
