"""A master that answers people: the operator service over plain lists, on a real port."""
# ruff: noqa: N802 (names and parameters are those of the generated base class)

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc

from runrig.v1 import operator_pb2 as pb
from runrig.v1 import operator_pb2_grpc, tasks_pb2

Answer = TypeVar("Answer")


@dataclass
class FakeMaster(operator_pb2_grpc.OperatorServiceServicer):
    """Answers from its lists and notes what it was told; `leader` makes it a standby."""

    agents: list[pb.Agent] = field(default_factory=list)
    frameworks: list[pb.Framework] = field(default_factory=list)
    roles: list[pb.Role] = field(default_factory=list)
    offers: list[pb.OutstandingOffer] = field(default_factory=list)
    tasks: list[pb.Task] = field(default_factory=list)
    leader: str = ""
    page: int = 2
    immortal: tuple[str, ...] = ()
    """Names of tasks that no kill ends."""
    told: list[object] = field(default_factory=list)
    refusal: tuple[grpc.StatusCode, str] | None = None
    """What the calls of quotas, reservations, maintenance and the like are refused with."""
    drains_to: pb.AgentState.ValueType = pb.AGENT_STATE_DRAINED
    explanation: pb.ExplainResponse | None = None
    """What anything is explained with; None: it does not know how."""
    address: str = ""

    @contextmanager
    def serve(self) -> Iterator[FakeMaster]:
        server = grpc.server(ThreadPoolExecutor(2))
        operator_pb2_grpc.add_OperatorServiceServicer_to_server(self, server)
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield self
        finally:
            server.stop(None).wait()

    def _told(self, request: object, context: Any, answer: Answer) -> Answer:
        """Note what was asked, and answer it, or refuse it as `refusal` says."""
        self._lead(context)
        self.told.append(request)
        if self.refusal is not None:
            context.abort(*self.refusal)
        return answer

    def _kill(self, tasks: list[pb.Task]) -> None:
        for task in tasks:
            if task.name not in self.immortal and not 5 <= task.state <= 11:
                task.state = tasks_pb2.TASK_KILLED

    def _lead(self, context: Any) -> None:
        if self.leader:
            context.set_trailing_metadata((("runrig-leader", self.leader),))
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"this master does not lead; ask {self.leader}")

    def GetCluster(self, request: pb.GetClusterRequest, context: Any) -> pb.GetClusterResponse:
        self._lead(context)
        return pb.GetClusterResponse(cluster_id="c1", epoch=3, version="9.9", leader=self.address)

    def ListAgents(self, request: pb.ListAgentsRequest, context: Any) -> pb.ListAgentsResponse:
        self._lead(context)
        return pb.ListAgentsResponse(agents=self.agents)

    def ListFrameworks(self, request: pb.ListFrameworksRequest, context: Any) -> pb.ListFrameworksResponse:
        self._lead(context)
        completed = pb.FRAMEWORK_STATE_COMPLETED
        found = [each for each in self.frameworks if request.include_completed or each.state != completed]
        return pb.ListFrameworksResponse(frameworks=found)

    def ListRoles(self, request: pb.ListRolesRequest, context: Any) -> pb.ListRolesResponse:
        self._lead(context)
        return pb.ListRolesResponse(roles=self.roles)

    def ListOffers(self, request: pb.ListOffersRequest, context: Any) -> pb.ListOffersResponse:
        self._lead(context)
        return pb.ListOffersResponse(offers=self.offers)

    def ListTasks(self, request: pb.ListTasksRequest, context: Any) -> pb.ListTasksResponse:
        self._lead(context)
        found = [
            task
            for task in self.tasks
            if (request.include_terminal or not 5 <= task.state <= 11)
            and (not request.task_ids or task.task_id.startswith(tuple(request.task_ids)))
            and request.framework_id in ("", task.framework_id)
            and request.agent_id in ("", task.agent_id)
            and (not request.states or task.state in request.states)
        ]
        begin = int(request.page_token or 0)
        more = str(begin + self.page) if begin + self.page < len(found) else ""
        return pb.ListTasksResponse(tasks=found[begin : begin + self.page], next_page_token=more)

    def KillTask(self, request: pb.KillTaskRequest, context: Any) -> pb.KillTaskResponse:
        self._lead(context)
        self.told.append(request)
        [task] = [task for task in self.tasks if task.task_id == request.task_id]
        answer = pb.KillTaskResponse(task=task)
        self._kill([task])
        return answer

    def TeardownFramework(self, request: pb.TeardownFrameworkRequest, context: Any) -> pb.TeardownFrameworkResponse:
        self._lead(context)
        self.told.append(request)
        self._kill([task for task in self.tasks if task.framework_id == request.framework_id])
        return pb.TeardownFrameworkResponse()

    def DeactivateAgent(self, request: pb.DeactivateAgentRequest, context: Any) -> pb.DeactivateAgentResponse:
        self.told.append(request)
        return pb.DeactivateAgentResponse()

    def ReactivateAgent(self, request: pb.ReactivateAgentRequest, context: Any) -> pb.ReactivateAgentResponse:
        self.told.append(request)
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "it is active already")
        return pb.ReactivateAgentResponse()

    def MarkAgentGone(self, request: pb.MarkAgentGoneRequest, context: Any) -> pb.MarkAgentGoneResponse:
        self.told.append(request)
        return pb.MarkAgentGoneResponse()

    def SetRoleWeight(self, request: pb.SetRoleWeightRequest, context: Any) -> pb.SetRoleWeightResponse:
        return self._told(request, context, pb.SetRoleWeightResponse())

    def SetQuotas(self, request: pb.SetQuotasRequest, context: Any) -> pb.SetQuotasResponse:
        return self._told(request, context, pb.SetQuotasResponse())

    def SetRoleOffers(self, request: pb.SetRoleOffersRequest, context: Any) -> pb.SetRoleOffersResponse:
        return self._told(request, context, pb.SetRoleOffersResponse())

    def Reserve(self, request: pb.ReserveRequest, context: Any) -> pb.ReserveResponse:
        return self._told(request, context, pb.ReserveResponse())

    def Unreserve(self, request: pb.UnreserveRequest, context: Any) -> pb.UnreserveResponse:
        return self._told(request, context, pb.UnreserveResponse())

    def CreateVolume(self, request: pb.CreateVolumeRequest, context: Any) -> pb.CreateVolumeResponse:
        return self._told(request, context, pb.CreateVolumeResponse())

    def DestroyVolume(self, request: pb.DestroyVolumeRequest, context: Any) -> pb.DestroyVolumeResponse:
        return self._told(request, context, pb.DestroyVolumeResponse())

    def DrainAgent(self, request: pb.DrainAgentRequest, context: Any) -> pb.DrainAgentResponse:
        for agent in self.agents:
            if agent.agent_id == request.agent_id:
                agent.state = self.drains_to
        return self._told(request, context, pb.DrainAgentResponse())

    def SetUnavailability(self, request: pb.SetUnavailabilityRequest, context: Any) -> pb.SetUnavailabilityResponse:
        return self._told(request, context, pb.SetUnavailabilityResponse())

    def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:
        if self.explanation is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "this master cannot explain yet")
        return self._told(request, context, self.explanation or pb.ExplainResponse())

    def Watch(self, request: pb.WatchRequest, context: Any) -> Iterator[pb.WatchResponse]:
        yield pb.WatchResponse()
