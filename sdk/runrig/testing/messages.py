"""What messages say, in a few words."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from runrig.agents import AcknowledgeUpdate, KillTask, Launch, Register
from runrig.offers import (
    Accept,
    Acknowledge,
    Decline,
    Kill,
    OffersMade,
    OffersRescinded,
    Reconcile,
    StreamRefused,
    TasksRecovering,
    TasksUpdated,
)
from runrig.tasks import Reason, StatusUpdate

NAMES_MOST = 4
"""So many names of tasks or agents a line has; of the rest it says how many there are."""


def all_said(items: Iterable[object]) -> str:
    """Say what some messages say, those that say the same once."""
    said = [(words, len(list(alike))) for words, alike in groupby(map(said_by, items))]
    return "; ".join(words if count == 1 else f"{count} x {words}" for words, count in said)


def said_by(item: object) -> str:
    """Say what one message says; the name of its kind is enough where nothing else tells it from others."""
    match item:
        case TasksUpdated():
            return _some(_update(each) for each in item.updates)
        case StatusUpdate():
            return _update(item)
        case OffersMade():
            return "offers of " + _some(offer.agent_id for offer in item.offers)
        case OffersRescinded():
            return f"offers rescinded, {item.reason.name}"
        case Accept():
            groups = (f"{_some(task.task_id for task in group.tasks)} on {group.agent_id}" for group in item.groups)
            return "launch " + _some(groups)
        case Launch():
            return "launch " + _some(task.task_id for task in item.tasks)
        case Kill() | KillTask():
            return f"kill {item.task_id}"
        case Decline():
            return f"decline, {item.filter.reason}" if item.filter.reason else "decline"
        case Acknowledge():
            return "received " + _some(each.task_id for each in item.acknowledgements)
        case AcknowledgeUpdate():
            return f"received {item.task_id}"
        case Reconcile():
            return "reconcile " + (_some(each.task_id for each in item.tasks) or "all")
        case TasksRecovering():
            return "recovering " + _some(each.task_id for each in item.tasks)
        case Register():
            return "register with " + (_some(each.task_id for each in item.tasks) or "no tasks")
        case StreamRefused():
            return f"refused: {item.message}"
        case str() | int() | float():
            return str(item)
        case _:
            return type(item).__name__


def _update(update: StatusUpdate) -> str:
    reason = "" if update.reason is Reason.NONE else f" ({update.reason.name})"
    return f"{update.task_id} {update.state.name}{reason}"


def _some(names: Iterable[str]) -> str:
    found = list(names)
    rest = len(found) - NAMES_MOST
    return ", ".join(found[:NAMES_MOST]) + (f" and {rest} more" if rest > 0 else "")
