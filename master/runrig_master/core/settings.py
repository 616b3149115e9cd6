"""What an operator may set of the core's decisions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """Times in seconds."""

    offer_timeout_s: float = 30.0
    """An offer that is not answered for this long is rescinded: hoarding is impossible (rule 1)."""
    silence_timeout_s: float = 75.0
    """An agent is unreachable after this silence; five heartbeats, as Mesos has it (rule 10)."""
    heartbeat_s: float = 15.0
    """Every stream carries something at least this often."""
    agent_return_timeout_s: float = 75.0
    """How long an agent that was admitted may take to come back after the master was restarted."""
    unreachable_per_s: float = 10.0
    """How many agents may be marked unreachable in a second, so that a wave can be noticed and stopped."""
    unreachable_fraction: float = 0.5
    """Above this fraction of all agents marking stops, loudly: more likely the master is cut off than the agents."""
    unreachable_fraction_least_agents: int = 10
    """Clusters smaller than this have no such stop."""
    drain_notice_s: float = 300.0
    """How long frameworks have to leave an agent that is drained, unless the operator says: time to start elsewhere."""
    max_drain_notice_s: float = 30 * 86_400.0
    """More is refused: such a drain has been forgotten."""
    max_window_distance_s: float = 366 * 86_400.0
    """An agent's unavailability begins no further from now: what does is a wrong number."""
    inverse_offers_per_framework: int = 10_000
    """More do not stand at a time: of what they would ask for a framework hears when it ends."""
    default_failover_timeout_s: float = 7 * 86_400.0
    """For frameworks known only through agents, after the store was lost."""
    max_agents: int = 50_000
    """More are refused."""
    max_frameworks: int = 10_000
    """More are refused."""
    max_tasks: int = 1_000_000
    """More tasks that have not ended are refused as TASK_ERROR."""
    max_roles_per_framework: int = 100
    """More are refused."""
    max_demands_per_role: int = 10_000
    """More are refused."""
    ended_tasks_per_framework: int = 1_000
    """Tasks that have ended and been acknowledged are listed until this many newer ones have."""
    completed_frameworks: int = 1_000
    """Frameworks that were removed and whose id is still refused; the oldest are forgotten above it."""
    filters_per_agent_and_framework: int = 16
    """Refusals remembered for one agent, framework and role; the oldest go first."""
    offer_hold_s: float = 0.25
    """A raw framework may think about an offer for this long before demand that waits calls it in: a round trip and
    some work, not a nap."""
    layaway_after_s: float = 10.0
    """A gang that has waited this long claims places: most come together by themselves before."""
    layaway_s: float = 600.0
    """For how long at a time; then the next gang of the role has its turn."""
    layaway_fraction: float = 0.5
    """The most of the cluster's cpus and memory that may be claimed."""
    preempt_after_s: float = 1.0
    """Demand waits this long before it takes the place of lower priorities: what is about to be free costs nobody."""
    preemption_notice_s: float = 10.0
    """How long the victims' frameworks have to choose for themselves."""
    preemptions_per_minute: int = 120
    """More tasks are not preempted: priorities must not thrash a cluster."""
    preemption_pools: int = 1_000
    """Pools among which victims are looked for at a time."""
    conflicts_remembered: int = 10_000
    """Optimistic offers of which it is remembered that another framework was first, to answer a late Accept."""
    unacknowledged_per_task: int = 64
    """Updates kept for a scheduler that is away; older ones come again from the agent."""
