"""Runrig's SDK: what a framework's author imports.

Three levels, each usable alone: *wants* (`Wants`, or a `Logic` of your own), *matching* (`match`, constraints), and
*raw offers* (`RawLogic`). `Framework` runs any of them. docs/sdk.md walks through them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runrig.constraints import Constraint, Operator
    from runrig.demand import Demand, Placement
    from runrig.errors import (
        Conflict,
        InvalidInput,
        NotFound,
        NotLeader,
        ProtocolError,
        Refused,
        Removed,
        RunrigError,
        Superseded,
        TimedOut,
        TooSlow,
        Unavailable,
    )
    from runrig.framework import Framework, FrameworkSettings
    from runrig.ids import AgentId, FrameworkId, OfferId, Role, TaskId
    from runrig.matching import Match, Matched, Placed, match
    from runrig.offers import (
        Accept,
        Acknowledge,
        Acknowledgement,
        AnswerInverseOffer,
        Call,
        CallRefused,
        CreateVolume,
        Decline,
        DestroyVolume,
        Filter,
        FrameworkInfo,
        InverseOffer,
        InverseOfferReason,
        InverseOffersEnded,
        InverseOffersMade,
        Kill,
        LaunchGroup,
        LaunchTasks,
        News,
        Offer,
        OffersMade,
        OffersRescinded,
        Operation,
        OperationResult,
        OperationsDone,
        Reconcile,
        RescindReason,
        Reserve,
        Revive,
        Subscribed,
        Suppress,
        TaskReference,
        TasksRecovering,
        TasksUpdated,
        Teardown,
        Unreserve,
        UpdateDemand,
        UpdateFramework,
    )
    from runrig.raw import RawDecision, RawLogic
    from runrig.reservations import PersistentVolume, Reservation, Unavailability
    from runrig.resources import Resources, parse_cpus, parse_mib
    from runrig.sandbox import Sandbox
    from runrig.scheduler import Scheduler, SchedulerSettings
    from runrig.session import Session, SessionSettings
    from runrig.store import MemoryStore, SqliteStore, Store
    from runrig.tasks import (
        CLUSTER_REASONS,
        CheckKind,
        Command,
        Container,
        Fetch,
        HealthCheck,
        Limits,
        NetworkMode,
        Port,
        Reason,
        RuntimeKind,
        Source,
        StatusUpdate,
        TaskSpec,
        TaskState,
        Terms,
        Volume,
    )
    from runrig.wanted import Wants, task
    from runrig.wants import (
        Answer,
        AnswerInverse,
        Connected,
        Decision,
        Delete,
        Disconnected,
        Logic,
        PortWant,
        Put,
        Run,
        Stop,
        TaskChanged,
        TaskView,
        WakeAt,
        Want,
        Woken,
    )

__all__ = [
    "CLUSTER_REASONS",
    "Accept",
    "Acknowledge",
    "Acknowledgement",
    "AgentId",
    "Answer",
    "AnswerInverse",
    "AnswerInverseOffer",
    "Call",
    "CallRefused",
    "CheckKind",
    "Command",
    "Conflict",
    "Connected",
    "Constraint",
    "Container",
    "CreateVolume",
    "Decision",
    "Decline",
    "Delete",
    "Demand",
    "DestroyVolume",
    "Disconnected",
    "Fetch",
    "Filter",
    "Framework",
    "FrameworkId",
    "FrameworkInfo",
    "FrameworkSettings",
    "HealthCheck",
    "InvalidInput",
    "InverseOffer",
    "InverseOfferReason",
    "InverseOffersEnded",
    "InverseOffersMade",
    "Kill",
    "LaunchGroup",
    "LaunchTasks",
    "Limits",
    "Logic",
    "Match",
    "Matched",
    "MemoryStore",
    "NetworkMode",
    "News",
    "NotFound",
    "NotLeader",
    "Offer",
    "OfferId",
    "OffersMade",
    "OffersRescinded",
    "Operation",
    "OperationResult",
    "OperationsDone",
    "Operator",
    "PersistentVolume",
    "Placed",
    "Placement",
    "Port",
    "PortWant",
    "ProtocolError",
    "Put",
    "RawDecision",
    "RawLogic",
    "Reason",
    "Reconcile",
    "Refused",
    "Removed",
    "RescindReason",
    "Reservation",
    "Reserve",
    "Resources",
    "Revive",
    "Role",
    "Run",
    "RunrigError",
    "RuntimeKind",
    "Sandbox",
    "Scheduler",
    "SchedulerSettings",
    "Session",
    "SessionSettings",
    "Source",
    "SqliteStore",
    "StatusUpdate",
    "Stop",
    "Store",
    "Subscribed",
    "Superseded",
    "Suppress",
    "TaskChanged",
    "TaskId",
    "TaskReference",
    "TaskSpec",
    "TaskState",
    "TaskView",
    "TasksRecovering",
    "TasksUpdated",
    "Teardown",
    "Terms",
    "TimedOut",
    "TooSlow",
    "Unavailability",
    "Unavailable",
    "Unreserve",
    "UpdateDemand",
    "UpdateFramework",
    "Volume",
    "WakeAt",
    "Want",
    "Wants",
    "Woken",
    "match",
    "parse_cpus",
    "parse_mib",
    "task",
]

_HOMES = {
    "constraints": "Constraint Operator",
    "demand": "Demand Placement",
    "errors": (
        "Conflict InvalidInput NotFound NotLeader ProtocolError Refused Removed RunrigError Superseded "
        "TimedOut TooSlow Unavailable"
    ),
    "framework": "Framework FrameworkSettings",
    "ids": "AgentId FrameworkId OfferId Role TaskId",
    "matching": "Match Matched Placed match",
    "offers": (
        "Accept Acknowledge Acknowledgement AnswerInverseOffer Call CallRefused CreateVolume Decline "
        "DestroyVolume Filter FrameworkInfo InverseOffer InverseOfferReason InverseOffersEnded "
        "InverseOffersMade Kill LaunchGroup LaunchTasks News Offer OffersMade OffersRescinded Operation "
        "OperationResult OperationsDone Reconcile RescindReason Reserve Revive Subscribed Suppress "
        "TaskReference TasksRecovering TasksUpdated Teardown Unreserve UpdateDemand UpdateFramework"
    ),
    "raw": "RawDecision RawLogic",
    "reservations": "PersistentVolume Reservation Unavailability",
    "resources": "Resources parse_cpus parse_mib",
    "sandbox": "Sandbox",
    "scheduler": "Scheduler SchedulerSettings",
    "session": "Session SessionSettings",
    "store": "MemoryStore SqliteStore Store",
    "tasks": (
        "CLUSTER_REASONS CheckKind Command Container Fetch HealthCheck Limits NetworkMode Port Reason "
        "RuntimeKind Source StatusUpdate TaskSpec TaskState Terms Volume"
    ),
    "wanted": "Wants task",
    "wants": (
        "Answer AnswerInverse Connected Decision Delete Disconnected Logic PortWant Put Run Stop TaskChanged TaskView "
        "WakeAt Want Woken"
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    """Import a public name at its first use: the command line and the master need few of them."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'runrig' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"runrig.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
