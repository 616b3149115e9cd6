"""OperatorService: what people and tools ask."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sized
from typing import Any, TypeVar

import grpc

from runrig._wire import enum_from_wire, explanation_to_wire, grace_from_wire
from runrig._wire.common import reservation_from_wire, unavailability_from_wire, volume_from_wire
from runrig.errors import Conflict, InvalidInput, NotFound, RunrigError, TooSlow, Unavailable
from runrig.ids import AgentId, FrameworkId, Role, TaskId
from runrig.tasks import TaskState
from runrig.v1 import operator_pb2, operator_pb2_grpc
from runrig_master.core.events import (
    CreateVolumeAsked,
    DeactivationAsked,
    DestroyVolumeAsked,
    DrainAsked,
    GoneAsked,
    KillTaskAsked,
    QuotasAsked,
    ReserveAsked,
    RoleOffersAsked,
    TeardownAsked,
    UnavailabilityAsked,
    UnreserveAsked,
    WeightAsked,
)
from runrig_master.core.explain import explain
from runrig_master.core.explanation import Subject, SubjectKind
from runrig_master.core.quotas import MAX_QUOTAS
from runrig_master.core.state import Presence, Task
from runrig_master.loop import Loop
from runrig_master.quotas_grpc import role_quota_from_wire
from runrig_master.settings import MasterSettings
from runrig_master.views_grpc import agent_view, all_tasks, framework_view, offer_view, role_views, task_view
from runrig_master.watch_grpc import Watchers

Context = grpc.aio.ServicerContext[Any, Any]
Req = TypeVar("Req")
Res = TypeVar("Res")
Item = TypeVar("Item")

DEFAULT_PAGE = 1_000
MOST_PAGE = 10_000
MOST_NAMES = 1_000

_STATUSES: tuple[tuple[type[RunrigError], grpc.StatusCode], ...] = (
    (InvalidInput, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (Conflict, grpc.StatusCode.FAILED_PRECONDITION),
    (TooSlow, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
)


def _answering(
    method: Callable[[Any, Req], Awaitable[Res]],
) -> Callable[[Any, Req, Context], Awaitable[Res]]:
    """Turn an error of Runrig into the status that says it."""

    @functools.wraps(method)
    async def answer(self: OperatorService, request: Req, context: Context) -> Res:
        try:
            return await method(self, request)
        except RunrigError as error:
            code = next((code for kind, code in _STATUSES if isinstance(error, kind)), grpc.StatusCode.ABORTED)
            await context.abort(code, str(error))
            raise AssertionError("abort raises") from None

    return answer


class OperatorService(operator_pb2_grpc.OperatorServiceServicer):
    """Answers from the core's state, which the same event loop changes."""

    def __init__(self, loop: Loop, settings: MasterSettings) -> None:
        self._loop = loop
        self._settings = settings
        self._cluster = loop.master.cluster
        self._started_at = loop.now()
        self._watchers = Watchers(loop, settings.watchers, settings.watch_outbox_items)

    @_answering
    async def GetCluster(self, request: operator_pb2.GetClusterRequest) -> operator_pb2.GetClusterResponse:
        """Say which cluster this is and who leads it."""
        agents = self._cluster.agents.values()
        return operator_pb2.GetClusterResponse(
            cluster_id=self._cluster.id,
            epoch=self._cluster.epoch,
            version=importlib.metadata.version("runrig"),
            leader=self._settings.advertise,
            started_at_unix_ms=int(self._started_at * 1000),
            agents=sum(agent.presence is not Presence.GONE for agent in agents),
            agents_recovering=sum(agent.presence is Presence.RECOVERING for agent in agents),
            frameworks=len(self._cluster.frameworks),
            tasks=self._cluster.tasks_alive,
        )

    @_answering
    async def ListAgents(self, request: operator_pb2.ListAgentsRequest) -> operator_pb2.ListAgentsResponse:
        """List agents, all or those whose id or hostname begins with one of the names."""
        _check_names("agent_ids", request.agent_ids)
        agents = [
            agent
            for agent in self._cluster.agents.values()
            if _is_named((agent.id, agent.info.hostname), request.agent_ids)
        ]
        agents.sort(key=lambda agent: (agent.info.hostname, agent.id))
        return operator_pb2.ListAgentsResponse(agents=[agent_view(agent) for agent in agents])

    @_answering
    async def ListFrameworks(self, request: operator_pb2.ListFrameworksRequest) -> operator_pb2.ListFrameworksResponse:
        """List frameworks, all or those whose id or name begins with one of the names."""
        _check_names("framework_ids", request.framework_ids)
        known = list(self._cluster.frameworks.values())
        if request.include_completed:
            known.extend(self._cluster.completed.values())
        named = [item for item in known if _is_named((item.id, item.info.name), request.framework_ids)]
        return operator_pb2.ListFrameworksResponse(frameworks=[framework_view(item) for item in named])

    @_answering
    async def ListRoles(self, request: operator_pb2.ListRolesRequest) -> operator_pb2.ListRolesResponse:
        """List roles."""
        return operator_pb2.ListRolesResponse(roles=role_views(self._cluster))

    @_answering
    async def ListOffers(self, request: operator_pb2.ListOffersRequest) -> operator_pb2.ListOffersResponse:
        """List the offers that have not ended."""
        return operator_pb2.ListOffersResponse(offers=[offer_view(offer) for offer in self._cluster.offers.values()])

    @_answering
    async def ListTasks(self, request: operator_pb2.ListTasksRequest) -> operator_pb2.ListTasksResponse:
        """List tasks, a page at a time, in the order of (framework, id)."""
        if request.page_size > MOST_PAGE:
            raise InvalidInput("page_size", request.page_size, f"at most {MOST_PAGE}")
        _check_names("task_ids", request.task_ids)
        states = [enum_from_wire(TaskState, "states", state) for state in request.states[: MOST_NAMES + 1]]
        _check_names("states", states)
        size = request.page_size or DEFAULT_PAGE
        tasks = sorted(
            (task for task in all_tasks(self._cluster, request.include_terminal) if _is_asked(task, request)),
            key=_page_key,
        )
        if request.page_token:
            tasks = [task for task in tasks if _page_key(task) > request.page_token]
        more = _page_key(tasks[size - 1]) if len(tasks) > size else ""
        return operator_pb2.ListTasksResponse(tasks=[task_view(task) for task in tasks[:size]], next_page_token=more)

    @_answering
    async def KillTask(self, request: operator_pb2.KillTaskRequest) -> operator_pb2.KillTaskResponse:
        """Have a task killed; the framework is told as of any other end."""
        task = self._find_task(request.framework_id, request.task_id)
        grace_ms = grace_from_wire(request.kill_policy) if request.HasField("kill_policy") else None
        await self._loop.ask(KillTaskAsked(self._loop.new_question(), task.framework.id, task.id, grace_ms))
        return operator_pb2.KillTaskResponse(task=task_view(task))

    @_answering
    async def TeardownFramework(
        self, request: operator_pb2.TeardownFrameworkRequest
    ) -> operator_pb2.TeardownFrameworkResponse:
        """Remove a framework and kill its tasks."""
        framework_id = FrameworkId(request.framework_id)
        await self._loop.ask(TeardownAsked(self._loop.new_question(), framework_id))
        return operator_pb2.TeardownFrameworkResponse()

    @_answering
    async def DeactivateAgent(
        self, request: operator_pb2.DeactivateAgentRequest
    ) -> operator_pb2.DeactivateAgentResponse:
        """Stop the offers of an agent; its tasks run on."""
        await self._loop.ask(DeactivationAsked(self._loop.new_question(), AgentId(request.agent_id), True))
        return operator_pb2.DeactivateAgentResponse()

    @_answering
    async def ReactivateAgent(
        self, request: operator_pb2.ReactivateAgentRequest
    ) -> operator_pb2.ReactivateAgentResponse:
        """Resume the offers of an agent."""
        await self._loop.ask(DeactivationAsked(self._loop.new_question(), AgentId(request.agent_id), False))
        return operator_pb2.ReactivateAgentResponse()

    @_answering
    async def MarkAgentGone(self, request: operator_pb2.MarkAgentGoneRequest) -> operator_pb2.MarkAgentGoneResponse:
        """End all that an agent had: it never comes back."""
        await self._loop.ask(GoneAsked(self._loop.new_question(), AgentId(request.agent_id)))
        return operator_pb2.MarkAgentGoneResponse()

    @_answering
    async def SetRoleWeight(self, request: operator_pb2.SetRoleWeightRequest) -> operator_pb2.SetRoleWeightResponse:
        """Set the weight of a role."""
        await self._loop.ask(WeightAsked(self._loop.new_question(), Role(request.role), request.weight_millis))
        return operator_pb2.SetRoleWeightResponse()

    @_answering
    async def SetQuotas(self, request: operator_pb2.SetQuotasRequest) -> operator_pb2.SetQuotasResponse:
        """Set limits and guarantees, all or nothing."""
        quotas = tuple(role_quota_from_wire(item) for item in request.quotas[: MAX_QUOTAS + 1])
        await self._loop.ask(QuotasAsked(self._loop.new_question(), quotas, request.is_forced))
        return operator_pb2.SetQuotasResponse()

    @_answering
    async def SetRoleOffers(self, request: operator_pb2.SetRoleOffersRequest) -> operator_pb2.SetRoleOffersResponse:
        """Make the offers of a role optimistic, or exclusive."""
        await self._loop.ask(RoleOffersAsked(self._loop.new_question(), Role(request.role), request.is_optimistic))
        return operator_pb2.SetRoleOffersResponse()

    @_answering
    async def Reserve(self, request: operator_pb2.ReserveRequest) -> operator_pb2.ReserveResponse:
        """Keep resources of an agent for a role."""
        reservation = reservation_from_wire(request.reservation)
        question, agent_id = self._loop.new_question(), AgentId(request.agent_id)
        await self._loop.ask(ReserveAsked(question, agent_id, reservation, request.from_reservation_id))
        return operator_pb2.ReserveResponse()

    @_answering
    async def Unreserve(self, request: operator_pb2.UnreserveRequest) -> operator_pb2.UnreserveResponse:
        """Give a reservation back."""
        question, agent_id = self._loop.new_question(), AgentId(request.agent_id)
        await self._loop.ask(UnreserveAsked(question, agent_id, request.reservation_id))
        return operator_pb2.UnreserveResponse()

    @_answering
    async def CreateVolume(self, request: operator_pb2.CreateVolumeRequest) -> operator_pb2.CreateVolumeResponse:
        """Make a persistent volume on the disk of a reservation."""
        question, agent_id = self._loop.new_question(), AgentId(request.agent_id)
        await self._loop.ask(CreateVolumeAsked(question, agent_id, volume_from_wire(request.volume)))
        return operator_pb2.CreateVolumeResponse()

    @_answering
    async def DestroyVolume(self, request: operator_pb2.DestroyVolumeRequest) -> operator_pb2.DestroyVolumeResponse:
        """Delete a persistent volume with its data."""
        question, agent_id = self._loop.new_question(), AgentId(request.agent_id)
        await self._loop.ask(DestroyVolumeAsked(question, agent_id, request.volume_id))
        return operator_pb2.DestroyVolumeResponse()

    @_answering
    async def DrainAgent(self, request: operator_pb2.DrainAgentRequest) -> operator_pb2.DrainAgentResponse:
        """Empty an agent: ask its frameworks to leave, then kill what still runs."""
        await self._loop.ask(
            DrainAsked(
                self._loop.new_question(),
                AgentId(request.agent_id),
                request.notice_ms if request.HasField("notice_ms") else None,
                request.grace_ms if request.HasField("grace_ms") else None,
                request.then_gone,
            )
        )
        return operator_pb2.DrainAgentResponse()

    @_answering
    async def SetUnavailability(
        self, request: operator_pb2.SetUnavailabilityRequest
    ) -> operator_pb2.SetUnavailabilityResponse:
        """Say when agents will be away."""
        _check_names("agent_ids", request.agent_ids)
        away = unavailability_from_wire(request.unavailability) if request.HasField("unavailability") else None
        agent_ids = tuple(map(AgentId, request.agent_ids))
        await self._loop.ask(UnavailabilityAsked(self._loop.new_question(), agent_ids, away))
        return operator_pb2.SetUnavailabilityResponse()

    @_answering
    async def Explain(self, request: operator_pb2.ExplainRequest) -> operator_pb2.ExplainResponse:
        """Say why it waits, what it holds, what would help."""
        kind = enum_from_wire(SubjectKind, "kind", request.kind)
        subject = Subject(kind, request.id, FrameworkId(request.framework_id))
        return explanation_to_wire(explain(self._cluster, subject, self._loop.now()))

    async def Watch(
        self, request: operator_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[operator_pb2.WatchResponse]:
        """Say what is there, then what changes."""
        try:
            async for response in self._watchers.watch():
                yield response
        except TooSlow as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))

    def _find_task(self, framework_id: str, task_id: str) -> Task:
        found = [
            framework.tasks[TaskId(task_id)]
            for framework in self._cluster.frameworks.values()
            if TaskId(task_id) in framework.tasks and framework_id in ("", framework.id)
        ]
        if not found:
            raise NotFound("task", task_id, "see `runrig tasks ls`")
        if len(found) > 1:
            names = ", ".join(task.framework.id for task in found[:5])
            raise InvalidInput("framework_id", framework_id, f"one of {names}, as each has a task of this id")
        return found[0]


def _check_names(field: str, names: Sized) -> None:
    """Each thing that is listed is compared with each name."""
    if len(names) > MOST_NAMES:
        raise InvalidInput(field, len(names), f"at most {MOST_NAMES}")


def _is_named(names: Iterable[str], wanted: Iterable[str]) -> bool:
    wanted = list(wanted)
    return not wanted or any(name.startswith(prefix) for name in names for prefix in wanted)


def _is_asked(task: Task, request: operator_pb2.ListTasksRequest) -> bool:
    return (
        _is_named((task.id,), request.task_ids)
        and request.framework_id in ("", task.framework.id)
        and request.agent_id in ("", task.agent.id)
        and (not request.states or task.state.value in request.states)
    )


def _page_key(task: Task) -> str:
    return f"{task.framework.id}/{task.id}"
