"""A client of the master's OperatorService: follows the leader, follows pages, answers with plain data.

    async with Operator.of("h1:5055,h2:5055") as operator:
        for task in await operator.tasks():
            ...

Raises Unavailable when no master answers, TimedOut when one does not answer in time, else what the master
raised.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc

from runrig._grpc_errors import error_from
from runrig._wire import explanation_from_wire
from runrig._wire.common import fill_reservation, fill_volume
from runrig.cli import views
from runrig.cli.failures import NO_MASTER
from runrig.cli.grpc_views import agent_view, framework_view, offer_view, role_view, task_view
from runrig.cli.prefixes import beginning, find
from runrig.cli.settings import addresses
from runrig.errors import Conflict, NotFound, TimedOut, Unavailable
from runrig.explanations import Explanation, SubjectKind
from runrig.reservations import PersistentVolume, Reservation
from runrig.tasks import TaskState
from runrig.v1 import operator_pb2, operator_pb2_grpc, resources_pb2

if TYPE_CHECKING:
    from runrig.v1.operator_pb2_grpc import OperatorServiceAsyncStub

Request = TypeVar("Request")
Response = TypeVar("Response")

CONNECT_TIMEOUT_S = 3.0  # for one address; a host that is down does not refuse, it is silent
CALL_TIMEOUT_S = 10.0
PAGE = 1_000
_DIGITS = re.compile(r"(\d+)")
HOPS = 3  # times that a standby may point elsewhere within one call
LEADER_KEY = "runrig-leader"
"""Trailing metadata with which a standby names the leader."""
CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.use_local_subchannel_pool", 1),
)


class Operator:
    """A connection to the leading master; use it with `async with`."""

    def __init__(self, masters: Sequence[str], timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._masters = list(masters)
        self._timeout_s = timeout_s
        self._address = ""
        self._channel: grpc.aio.Channel | None = None

    @classmethod
    def of(cls, masters: str, timeout_s: float = CALL_TIMEOUT_S) -> Self:
        """Return a client of `h1:5055,h2:5055`; raise InvalidInput."""
        return cls(addresses("--master", masters), timeout_s)

    async def __aenter__(self) -> Self:
        """Return itself: the connection is made by the first call."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self._hang_up()

    async def cluster(self) -> views.ClusterView:
        """Return what the leader says of itself and the cluster."""
        answer = await self._ask(operator_pb2.GetClusterRequest(), lambda stub: stub.GetCluster)
        return views.ClusterView(
            answer.cluster_id,
            answer.leader or self._address,
            answer.version,
            answer.epoch,
            answer.started_at_unix_ms,
            answer.agents,
            answer.agents_recovering,
            answer.frameworks,
            answer.tasks,
        )

    async def agents(self) -> list[views.AgentView]:
        """List the agents by hostname."""
        answer = await self._ask(operator_pb2.ListAgentsRequest(), lambda stub: stub.ListAgents)
        return sorted(map(agent_view, answer.agents), key=lambda agent: (agent.hostname, agent.id))

    async def frameworks(self, *, include_completed: bool = False) -> list[views.FrameworkView]:
        """List the frameworks by name."""
        request = operator_pb2.ListFrameworksRequest(include_completed=include_completed)
        answer = await self._ask(request, lambda stub: stub.ListFrameworks)
        return sorted(map(framework_view, answer.frameworks), key=lambda framework: (framework.name, framework.id))

    async def roles(self) -> list[views.RoleView]:
        """List the roles by path."""
        answer = await self._ask(operator_pb2.ListRolesRequest(), lambda stub: stub.ListRoles)
        return sorted(map(role_view, answer.roles), key=lambda role: role.role)

    async def offers(self) -> list[views.OfferView]:
        """List the outstanding offers, the oldest first."""
        answer = await self._ask(operator_pb2.ListOffersRequest(), lambda stub: stub.ListOffers)
        return sorted(map(offer_view, answer.offers), key=lambda offer: (offer.made_unix_ms, offer.id))

    async def tasks(
        self,
        prefix: str = "",
        *,
        framework_id: str = "",
        agent_id: str = "",
        states: Sequence[str] = (),
        include_terminal: bool = False,
    ) -> list[views.TaskView]:
        """List tasks, all pages, the oldest first; `states` are names such as TASK_RUNNING."""
        request = operator_pb2.ListTasksRequest(
            task_ids=[prefix] if prefix else [],
            framework_id=framework_id,
            agent_id=agent_id,
            states=[TaskState[state].value for state in states],  # type: ignore[misc]
            include_terminal=include_terminal or any(TaskState[state].is_terminal for state in states),
            page_size=PAGE,
        )
        found: list[views.TaskView] = []
        while True:
            answer = await self._ask(request, lambda stub: stub.ListTasks)
            found.extend(map(task_view, answer.tasks))
            if not answer.next_page_token:
                return sorted(found, key=_order)
            request.page_token = answer.next_page_token

    async def task(self, given: str, framework_id: str = "") -> views.TaskView:
        """Return the task with this id, else the one that it begins: a live one if any, else one that ended.

        Raises NotFound, or InvalidInput when several fit.
        """
        found = await self.tasks(beginning(given), framework_id=framework_id, include_terminal=True)
        meant = [task for task in found if task.id == given]
        live = [task for task in found if not TaskState[task.state].is_terminal]
        return find("task", given, meant or live or found, lambda task: task.id)

    async def agent(self, given: str) -> views.AgentView:
        """Return the agent with an id, its unique prefix, or a hostname; raise NotFound or InvalidInput."""
        return find("agent", given, await self.agents(), lambda agent: agent.id, also=lambda agent: agent.hostname)

    async def framework(self, given: str, *, include_completed: bool = False) -> views.FrameworkView:
        """Return the framework with an id, its unique prefix, or a name; raise NotFound or InvalidInput."""
        found = await self.frameworks(include_completed=include_completed)
        return find("framework", given, found, lambda each: each.id, also=lambda each: each.name)

    async def kill_task(self, task: views.TaskView, grace_ms: int | None = None) -> views.TaskView:
        """Ask the task to end; return where it stands."""
        request = operator_pb2.KillTaskRequest(task_id=task.id, framework_id=task.framework_id)
        if grace_ms is not None:
            request.kill_policy.grace_ms = grace_ms
        answer = await self._ask(request, lambda stub: stub.KillTask, ("task", task.id))
        return task_view(answer.task) if answer.task.task_id else task

    async def teardown_framework(self, framework_id: str) -> None:
        """Kill the framework's tasks and close its id for ever."""
        request = operator_pb2.TeardownFrameworkRequest(framework_id=framework_id)
        await self._ask(request, lambda stub: stub.TeardownFramework, ("framework", framework_id))

    async def deactivate_agent(self, agent_id: str) -> None:
        """Offer nothing of the agent any more; its tasks go on."""
        request = operator_pb2.DeactivateAgentRequest(agent_id=agent_id)
        await self._ask(request, lambda stub: stub.DeactivateAgent, ("agent", agent_id))

    async def reactivate_agent(self, agent_id: str) -> None:
        """Offer the agent's resources again."""
        request = operator_pb2.ReactivateAgentRequest(agent_id=agent_id)
        await self._ask(request, lambda stub: stub.ReactivateAgent, ("agent", agent_id))

    async def mark_agent_gone(self, agent_id: str) -> None:
        """Declare that the agent never comes back: its tasks are TASK_GONE_BY_OPERATOR."""
        request = operator_pb2.MarkAgentGoneRequest(agent_id=agent_id)
        await self._ask(request, lambda stub: stub.MarkAgentGone, ("agent", agent_id))

    async def drain_agent(
        self, agent_id: str, notice_ms: int | None = None, grace_ms: int | None = None, *, then_gone: bool = False
    ) -> None:
        """Offer nothing of the agent, ask its frameworks to leave, and kill what still runs after the notice."""
        request = operator_pb2.DrainAgentRequest(
            agent_id=agent_id, notice_ms=notice_ms, grace_ms=grace_ms, then_gone=then_gone
        )
        await self._ask(request, lambda stub: stub.DrainAgent, ("agent", agent_id))

    async def set_unavailability(self, agent_ids: Sequence[str], away: views.AwayView | None) -> None:
        """Say when agents will be away; None: they will not be, after all."""
        request = operator_pb2.SetUnavailabilityRequest(agent_ids=agent_ids)
        if away is not None:
            request.unavailability.start_unix_ms = away.start_unix_ms
            request.unavailability.duration_ms = away.duration_ms
        await self._ask(request, lambda stub: stub.SetUnavailability)

    async def set_quota(
        self, role: str, limit: views.Amounts | None, guarantee: views.Amounts | None, *, is_forced: bool = False
    ) -> None:
        """Set both the limit and the guarantee of a role; None: none."""
        quota = operator_pb2.RoleQuota(role=role)
        if limit is not None:
            quota.limit.CopyFrom(resources_pb2.Quota(**dict(limit)))
        if guarantee is not None:
            quota.guarantee.CopyFrom(resources_pb2.Quota(**dict(guarantee)))
        request = operator_pb2.SetQuotasRequest(quotas=[quota], is_forced=is_forced)
        await self._ask(request, lambda stub: stub.SetQuotas)

    async def set_role_weight(self, role: str, weight_millis: int) -> None:
        """Set the weight of a role."""
        request = operator_pb2.SetRoleWeightRequest(role=role, weight_millis=weight_millis)
        await self._ask(request, lambda stub: stub.SetRoleWeight)

    async def set_role_offers(self, role: str, *, is_optimistic: bool) -> None:
        """Make the offers of a role optimistic, or exclusive."""
        request = operator_pb2.SetRoleOffersRequest(role=role, is_optimistic=is_optimistic)
        await self._ask(request, lambda stub: stub.SetRoleOffers)

    async def reserve(self, agent_id: str, reservation: Reservation, from_reservation_id: str = "") -> None:
        """Keep resources of an agent for a role, out of another reservation or of what is not reserved."""
        request = operator_pb2.ReserveRequest(agent_id=agent_id, from_reservation_id=from_reservation_id)
        fill_reservation(request.reservation, reservation)
        await self._ask(request, lambda stub: stub.Reserve)

    async def unreserve(self, agent_id: str, reservation_id: str) -> None:
        """Give a reservation back."""
        request = operator_pb2.UnreserveRequest(agent_id=agent_id, reservation_id=reservation_id)
        await self._ask(request, lambda stub: stub.Unreserve)

    async def create_volume(self, agent_id: str, volume: PersistentVolume) -> None:
        """Make a persistent volume on the disk of a reservation."""
        request = operator_pb2.CreateVolumeRequest(agent_id=agent_id)
        fill_volume(request.volume, volume)
        await self._ask(request, lambda stub: stub.CreateVolume)

    async def destroy_volume(self, agent_id: str, volume_id: str) -> None:
        """Delete a persistent volume with its data."""
        request = operator_pb2.DestroyVolumeRequest(agent_id=agent_id, volume_id=volume_id)
        await self._ask(request, lambda stub: stub.DestroyVolume)

    async def explain(self, kind: SubjectKind, identity: str, framework_id: str = "") -> Explanation:
        """Ask why something waits, what it holds and what would help."""
        request = operator_pb2.ExplainRequest(
            kind=kind.value,  # type: ignore[arg-type]
            id=identity,
            framework_id=framework_id,
        )
        return explanation_from_wire(await self._ask(request, lambda stub: stub.Explain))

    async def _ask(
        self,
        request: Request,
        method: Callable[[OperatorServiceAsyncStub], Callable[..., Awaitable[Response]]],
        about: tuple[str, str] = ("", ""),
    ) -> Response:
        """Make one call to the leader, wherever it is."""
        for _ in range(HOPS):
            stub = await self._stub()
            try:
                return await method(stub)(request, timeout=self._timeout_s)
            except grpc.aio.AioRpcError as error:
                leader = _leader(error)
                await self._hang_up()
                if not leader:
                    raise self._meaning(error, about) from error
                self._masters.insert(0, leader)
        raise Unavailable(f"the masters {', '.join(self._masters)} point at one another; try again")

    async def _stub(self) -> OperatorServiceAsyncStub:
        """Connect to the first master that answers, unless connected."""
        masters = list(dict.fromkeys(self._masters))
        for address in masters:
            if self._channel is not None:
                break
            channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
            if await _is_reached(channel):
                self._channel, self._address = channel, address
            else:
                await channel.close()
        if self._channel is None:
            raise Unavailable(f"no master answers at {', '.join(masters)}; {NO_MASTER}")
        return operator_pb2_grpc.OperatorServiceStub(self._channel)

    async def _hang_up(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def _meaning(self, error: grpc.aio.AioRpcError, about: tuple[str, str]) -> Exception:
        match error.code():
            case grpc.StatusCode.UNAVAILABLE:
                return Unavailable(f"the master at {self._address} went away: {error.details()}; try again")
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return TimedOut(f"the master at {self._address} did not answer within {self._timeout_s:g} s")
            case grpc.StatusCode.UNIMPLEMENTED:
                text = f"the master at {self._address} does not know this call: {error.details()}; is it of an older"
                return Conflict(f"{text} version? see `runrig version`")
            case grpc.StatusCode.NOT_FOUND if about[0]:
                return NotFound(*about)
            case _:
                return error_from(error, f"the master at {self._address}")


def _order(task: views.TaskView) -> tuple[int, str, list[str | int]]:
    """Sort by age; those launched at once by id, job-2 before job-10."""
    parts: list[str | int] = [int(part) if part.isdecimal() else part for part in _DIGITS.split(task.id)]
    return task.launched_unix_ms, task.framework, parts


def _leader(error: grpc.aio.AioRpcError) -> str:
    """Return where a standby says that the leader is."""
    if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
        return ""
    metadata: Any = error.trailing_metadata() or ()
    return next((str(value) for key, value in metadata if key == LEADER_KEY), "")


async def _is_reached(channel: grpc.aio.Channel) -> bool:
    """Say whether a connection stands: at once when refused, after CONNECT_TIMEOUT_S when all is silent."""
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    state = channel.get_state(try_to_connect=True)
    while state is not grpc.ChannelConnectivity.READY:
        if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
            return False
        try:
            await asyncio.wait_for(channel.wait_for_state_change(state), deadline - time.monotonic())
        except TimeoutError:
            return False
        state = channel.get_state(try_to_connect=True)
    return True
