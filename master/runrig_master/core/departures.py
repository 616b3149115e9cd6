"""What is due with agents that leave on purpose, as `maintenance` needs it."""

from __future__ import annotations

from runrig.ids import AgentId
from runrig_master.core.alarms import Alarms
from runrig_master.core.state import Agent


class Departures:
    """Times that come, and agents that may have become empty."""

    __slots__ = ("drain_deadlines", "emptied", "window_ends")

    def __init__(self) -> None:
        self.drain_deadlines: Alarms[AgentId] = Alarms()
        self.window_ends: Alarms[AgentId] = Alarms()
        """When agents that are planned to be away will be back."""
        self.emptied: dict[AgentId, Agent] = {}
        """Agents that are drained and may have become empty in this turn."""
