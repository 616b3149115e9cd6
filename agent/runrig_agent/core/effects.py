"""What the parts of the core want done, gathered while one event is handled."""

from __future__ import annotations

from collections.abc import Iterable

from runrig.agents import Report
from runrig_agent.core.commands import Checkpoint, Command, SendReports
from runrig_agent.core.records import Change, DropTombstones, DropUpdate, PutAcknowledged, PutTombstone

_LAZY = (PutAcknowledged, DropUpdate, DropTombstones)
"""What may be lost in a crash: an update is sent again, a tombstone lives longer."""


class Effects:
    """Changes first, then reports, then actions: nothing is told or done before it is durable."""

    def __init__(self) -> None:
        self._changes: list[Change] = []
        self._reports: list[Report] = []
        self._actions: list[Command] = []

    def keep(self, change: Change) -> None:
        """Make a change durable."""
        self._changes.append(change)

    def tell(self, report: Report) -> None:
        """Send a report if the agent is registered; otherwise registration says it anew."""
        self._reports.append(report)

    def do(self, command: Command) -> None:
        """Carry out a command after the changes are durable."""
        self._actions.append(command)

    def take(self, registered_session: int | None) -> list[Command]:
        """Return the commands in order and begin anew; reports go to the registered session, if any."""
        commands: list[Command] = []
        if self._changes:
            commands.append(Checkpoint(tuple(self._changes), _need_barrier(self._changes)))
        if self._reports and registered_session is not None:
            commands.append(SendReports(registered_session, tuple(self._reports)))
        commands.extend(self._actions)
        self._changes, self._reports, self._actions = [], [], []
        return commands


def merged(commands: Iterable[Command]) -> list[Command]:
    """Join the commands of several events, so that a batch costs one commit and one envelope.

    All changes come first, in their order: to make one durable earlier than asked harms nothing. Reports of
    one session go out together where the first of them stood.
    """
    changes: list[Change] = []
    is_barrier = False
    rest: list[Command] = []
    reports: list[Report] = []
    place, session = -1, -1
    for command in commands:
        if isinstance(command, Checkpoint):
            changes.extend(command.changes)
            is_barrier = is_barrier or command.is_barrier
        elif isinstance(command, SendReports):
            if command.session != session:
                place, session, reports = len(rest), command.session, []
                rest.append(command)
            reports.extend(command.reports)
            rest[place] = SendReports(session, tuple(reports))
        else:
            rest.append(command)
    return [Checkpoint(tuple(changes), is_barrier), *rest] if changes else rest


def _need_barrier(changes: Iterable[Change]) -> bool:
    return not all(isinstance(change, _LAZY) or _is_burial(change) for change in changes)


def _is_burial(change: Change) -> bool:
    """Say whether a tombstone replaces an ended task; one of a task that never came cannot wait."""
    return isinstance(change, PutTombstone) and change.tombstone.update is not None
