"""The words of cases: agents and schedulers that are played, a master that is judged.

Every case names its agents, frameworks and roles after itself, so that cases can run one after the other against one
master, and leaves nothing behind: frameworks are torn down, agents marked gone, weights reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from runrig.v1 import agent_pb2, operator_pb2, operator_pb2_grpc, resources_pb2, scheduler_pb2, tasks_pb2
from tests.conformance.ends import End, PlayedAgent, PlayedScheduler
from tests.conformance.lines import Driver, Refused
from tests.conformance.messages import resources

Answer = TypeVar("Answer")

LONG_MS = 3_600_000
DEFAULT_WEIGHT_MILLIS = 1000


class Cluster:
    """One case's cluster: the master it is given, and the ends it plays."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.tag = uuid.uuid4().hex[:8]
        self.silence_timeout_ms = 0
        """As the master has said to the last agent or scheduler that it took."""
        self.offer_timeout_ms = 0
        self._ends: list[End] = []
        self._agents: dict[str, None] = {}
        self._frameworks: dict[str, None] = {}
        self._roles: dict[str, None] = {}
        self._quotas: dict[str, None] = {}
        self._questions = 0

    def name(self, word: str) -> str:
        """Return a name that no other case has."""
        return f"{word}-{self.tag}"

    # Who takes part

    def new_agent(self, word: str = "a", **fields: Any) -> PlayedAgent:
        """Open an agent's stream, on which nothing is said yet."""
        known: dict[str, Any] = {
            "agent_id": self.name(word),
            "hostname": f"host-{self.name(word)}",
            "resources": resources(),
            "runtimes": [tasks_pb2.RUNTIME_KIND_PROCESS],
            "version": "0",
        }
        self._agents[self.name(word)] = None
        agent = PlayedAgent(self, agent_pb2.AgentInfo(**(known | fields)))
        self._ends.append(agent)
        return agent

    async def agent(self, word: str = "a", **fields: Any) -> PlayedAgent:
        """Return an agent that is registered."""
        agent = self.new_agent(word, **fields)
        await agent.returns()
        return agent

    def new_scheduler(self, word: str = "f", *roles: str, **fields: Any) -> PlayedScheduler:
        """Open a scheduler's stream, on which nothing is said yet; its role has its name unless others are given."""
        known: dict[str, Any] = {
            "framework_id": self.name(word),
            "name": word,
            "roles": [self.name(role) for role in roles or (word,)],
            "failover_timeout_ms": LONG_MS,
        }
        info = scheduler_pb2.FrameworkInfo(**(known | fields))
        if info.framework_id:
            self.note_framework(info.framework_id)
        scheduler = PlayedScheduler(self, info)
        self._ends.append(scheduler)
        return scheduler

    async def scheduler(
        self, word: str = "f", *roles: str, suppressed: Iterable[str] = (), **fields: Any
    ) -> PlayedScheduler:
        """Return a scheduler that is subscribed."""
        scheduler = self.new_scheduler(word, *roles, **fields)
        await scheduler.returns(suppressed)
        return scheduler

    async def pair(self, **fields: Any) -> tuple[PlayedScheduler, PlayedAgent]:
        """Return a subscribed scheduler and a registered agent, which is on offer to it."""
        return await self.scheduler(), await self.agent(**fields)

    async def running(self, *specs: tasks_pb2.TaskSpec) -> tuple[PlayedScheduler, PlayedAgent]:
        """Return a scheduler and an agent that runs its tasks; each has been said to run, as number 1."""
        scheduler, agent = await self.pair()
        await scheduler.runs(*specs, on=agent)
        return scheduler, agent

    def note_framework(self, framework_id: str) -> None:
        """Remember a framework, to tear it down in the end."""
        self._frameworks[framework_id] = None

    # What operators do

    @property
    def operator(self) -> operator_pb2_grpc.OperatorServiceAsyncStub:
        """Return the operator's calls."""
        return self.driver.operator

    async def ask(self, call: Awaitable[Answer]) -> Answer:
        """Make an operator's call; raise Refused if it is refused."""
        return await self.driver.asked(call)

    async def epoch(self) -> int:
        """Return the number of this leadership."""
        return int((await self.ask(self.operator.GetCluster(operator_pb2.GetClusterRequest()))).epoch)

    async def tear_down(self, scheduler: PlayedScheduler) -> None:
        """Remove a framework."""
        await self.ask(
            self.operator.TeardownFramework(operator_pb2.TeardownFrameworkRequest(framework_id=scheduler.id))
        )

    async def mark_gone(self, agent: PlayedAgent) -> None:
        """Say that an agent never comes back."""
        await self.ask(self.operator.MarkAgentGone(operator_pb2.MarkAgentGoneRequest(agent_id=agent.id)))

    async def drain(self, agent: PlayedAgent, **fields: Any) -> None:
        """Empty an agent."""
        await self.ask(self.operator.DrainAgent(operator_pb2.DrainAgentRequest(agent_id=agent.id, **fields)))

    async def reactivate(self, agent: PlayedAgent) -> None:
        """Have an agent's offers resumed."""
        await self.ask(self.operator.ReactivateAgent(operator_pb2.ReactivateAgentRequest(agent_id=agent.id)))

    async def plan_absence(self, away: resources_pb2.Unavailability | None, *agents: PlayedAgent) -> None:
        """Say when agents will be away; None: they will not."""
        request = operator_pb2.SetUnavailabilityRequest(agent_ids=[agent.id for agent in agents], unavailability=away)
        await self.ask(self.operator.SetUnavailability(request))

    async def weigh(self, role: str, weight_millis: int) -> None:
        """Set the weight of a role."""
        self._roles[role] = None
        await self.ask(
            self.operator.SetRoleWeight(operator_pb2.SetRoleWeightRequest(role=role, weight_millis=weight_millis))
        )

    async def set_quotas(self, *quotas: operator_pb2.RoleQuota, is_forced: bool = False) -> None:
        """Set limits and guarantees."""
        self._quotas.update(dict.fromkeys(quota.role for quota in quotas))
        await self.ask(self.operator.SetQuotas(operator_pb2.SetQuotasRequest(quotas=quotas, is_forced=is_forced)))

    # Time, and what follows from what

    def now_ms(self) -> float:
        """Return a time that never goes back."""
        return self.driver.now_ms()

    async def pass_time(self, milliseconds: float) -> None:
        """Let time pass."""
        await self.driver.pass_time(milliseconds)

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str, within_ms: float = 0) -> None:
        """Wait until an operator sees that something is so."""
        assert await self.driver.poll(condition, within_ms), f"not so: {what}"

    async def settle(self) -> None:
        """Wait until all that follows from what was sent has come.

        Two questions one after the other on every stream: the first is answered after what was sent has been handled,
        the second after what followed from it was written.
        """
        for _ in range(0 if self.driver.is_immediate else 2):
            self._questions += 1
            open_ends = [end for end in self._ends if end.is_admitted and end.line.end is None]
            await asyncio.gather(*(end.ask(self._questions) for end in open_ends))

    async def restart(self) -> None:
        """Kill the master and start it again."""
        for end in self._ends:
            end.is_admitted = False
        await self.driver.restart()

    # Before and after

    async def begin(self) -> None:
        """See that nobody else is there: others would be offered this case's agents, and this case theirs."""
        agents = (await self.ask(self.operator.ListAgents(operator_pb2.ListAgentsRequest()))).agents
        frameworks = (await self.ask(self.operator.ListFrameworks(operator_pb2.ListFrameworksRequest()))).frameworks
        here = [agent.agent_id for agent in agents if agent.state == operator_pb2.AGENT_STATE_ACTIVE]
        here += [framework.framework_id for framework in frameworks if framework.connected]
        assert not here, f"a master without agents and frameworks is needed; this one has {', '.join(here)}"

    async def leave_nothing_behind(self) -> None:
        """Remove all that this case has brought."""
        for framework_id in self._frameworks:
            teardown = operator_pb2.TeardownFrameworkRequest(framework_id=framework_id)
            await self._quietly(self.operator.TeardownFramework(teardown))
        for agent_id in self._agents:
            gone = operator_pb2.MarkAgentGoneRequest(agent_id=agent_id)
            await self._quietly(self.operator.MarkAgentGone(gone))
        if self._quotas:
            none = operator_pb2.SetQuotasRequest(quotas=[operator_pb2.RoleQuota(role=role) for role in self._quotas])
            await self._quietly(self.operator.SetQuotas(none))
        for role in self._roles:
            weight = operator_pb2.SetRoleWeightRequest(role=role, weight_millis=DEFAULT_WEIGHT_MILLIS)
            await self._quietly(self.operator.SetRoleWeight(weight))

    async def _quietly(self, call: Awaitable[object]) -> None:
        with contextlib.suppress(Refused):
            await self.ask(call)
