"""What the framework is asked, by the REST API or others: answered once what it changed is durable.

A question that is refused is answered with the error, and has changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runrig.ids import TaskId

Body = Mapping[str, object]


@dataclass(frozen=True, slots=True, eq=False)
class CreateApp:
    """Create an app; answered with its JSON."""

    body: Body


@dataclass(frozen=True, slots=True, eq=False)
class ChangeApps:
    """Create or change apps, all or none; answered with a `Changed`.

    With `is_partial` the fields that a body does not name stay as they are; with `must_exist` none is
    created. A body that holds nothing but a version brings that version back. `app_id` is that of the
    address, when there is just one.
    """

    bodies: tuple[Body, ...]
    app_id: str | None = None
    is_partial: bool = True
    must_exist: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class RemoveApp:
    """Stop all instances of an app and forget it; answered with a `Changed`."""

    app_id: str


@dataclass(frozen=True, slots=True, eq=False)
class RestartApp:
    """Replace all instances of an app, as if its configuration had changed; answered with a `Changed`."""

    app_id: str


@dataclass(frozen=True, slots=True, eq=False)
class StopTasks:
    """Stop instances; answered with the list of them as JSON, or with a `Changed` if apps are scaled.

    Without `scale` they are replaced. Ids that are unknown are passed over, unless `must_exist`.
    """

    task_ids: tuple[TaskId, ...] | None = None
    app_id: str | None = None
    host: str | None = None
    scale: bool = False
    must_exist: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ListApps:
    """List the apps that match, as JSON: id and command contain a text, labels match a selector.

    `below` asks for the apps of a group, such as `/shop`.
    """

    id_part: str = ""
    cmd_part: str = ""
    labels: str = ""
    below: str = "/"
    embed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class ShowApp:
    """Show an app with all that can be embedded, as JSON."""

    app_id: str


@dataclass(frozen=True, slots=True, eq=False)
class ListVersions:
    """List the versions of an app, newest first."""

    app_id: str


@dataclass(frozen=True, slots=True, eq=False)
class ShowVersion:
    """Show an app as it was, as JSON."""

    app_id: str
    version: str


@dataclass(frozen=True, slots=True, eq=False)
class ListTasks:
    """List the tasks that were launched, of one app or all, as JSON; `states`: `running`, `staging`."""

    app_id: str | None = None
    states: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class ListWaiting:
    """List the instances of an app that wait for an offer, the earlier first: WaitingInstances."""

    app_id: str
    limit: int = 100


@dataclass(frozen=True, slots=True)
class WaitingInstances:
    """The first few of `count` instances that wait for an offer, as wants of one `group`."""

    group: str
    count: int
    task_ids: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Count:
    """Count what there is; answered with a `Totals`."""


Question = (
    CreateApp
    | ChangeApps
    | RemoveApp
    | RestartApp
    | StopTasks
    | ListApps
    | ShowApp
    | ListVersions
    | ShowVersion
    | ListTasks
    | ListWaiting
    | Count
)


@dataclass(frozen=True, slots=True)
class Changed:
    """A change was taken up: `version` and `change` name it; `created` are the ids of apps that are new."""

    version: str
    change: str
    created: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Totals:
    """How many there are, of apps and of their instances by where they stand."""

    apps: int
    wanted: int
    waiting: int
    staged: int
    running: int
    healthy: int
    unhealthy: int
    unreachable: int
    stopping: int
    changes: int
