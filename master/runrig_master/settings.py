"""What an operator may set of the master's edges; what it may set of its decisions is in `core.settings`."""

from __future__ import annotations

from dataclasses import dataclass, field

from runrig_master.core.settings import CoreSettings


@dataclass(frozen=True, slots=True)
class MasterSettings:
    """Where the master listens, keeps its state, and how much it lets wait."""

    listen: str = "127.0.0.1:5055"
    """gRPC, for agents, schedulers and operators. Loopback unless told otherwise."""
    http: str = "127.0.0.1:5050"
    """Health and metrics."""
    state: str = "sqlite:runrig-master/state.db"
    """Where what must survive is kept: sqlite:///path or memory:."""
    advertise: str = ""
    """The address that others are told; empty: `listen`."""
    core: CoreSettings = field(default_factory=CoreSettings)
    max_items: int = 100_000
    """Items of one envelope, and tasks, offers, receipts, references, demands or roles of one item: more are refused
    before they are read, as one item is handled in one go."""
    events_waiting: int = 20_000
    """Events that may wait for the core before streams are no longer read."""
    events_per_turn: int = 2_000
    """Events that the core handles before what follows from them is carried out."""
    agent_outbox_items: int = 100_000
    """Orders that may wait for a slow agent before its stream is closed."""
    receipt_linger_s: float = 0.02
    """How long the receipt of an update waits for something else to travel to the agent with: an envelope of its own
    costs thirty times as much, and an agent that waits for a receipt only keeps the update for as long."""
    scheduler_outbox_items: int = 200_000
    """News that may wait for a slow scheduler before its stream is closed."""
    watchers: int = 100
    """Operators' Watch streams at the same time; more are refused."""
    watch_outbox_items: int = 100_000
    """Changes that may wait for a slow watcher before its stream is closed."""
