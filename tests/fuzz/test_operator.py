"""OperatorService, health and reflection under fire."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from runrig.v1 import operator_pb2, resources_pb2, scheduler_pb2, tasks_pb2
from tests.fuzz.master_target import Target, under_fire
from tests.fuzz.messages import mutated, serialized
from tests.fuzz.raw_bytes import damaged
from tests.fuzz.rounds import rounds
from tests.fuzz.unary import check_fault, status_of, streamed

STRIKES = 150
OPERATOR = "/runrig.v1.OperatorService"


def requests() -> list[tuple[str, Message]]:
    """Build a valid request of each method that answers once."""
    policy = tasks_pb2.KillPolicy(grace_ms=10)
    quota = resources_pb2.Quota(cpu_millis=1_000_000, mem_mib=1_000_000)
    amount = resources_pb2.Resources(cpu_millis=10, mem_mib=10, disk_mib=10)
    kept = resources_pb2.Reservation(reservation_id="r", role="fuzz/ed", resources=amount)
    volume = resources_pb2.PersistentVolume(volume_id="v", reservation_id="r", disk_mib=1)
    away = resources_pb2.Unavailability(start_unix_ms=1_800_000_000_000, duration_ms=1_000)
    return [
        (f"{OPERATOR}/GetCluster", operator_pb2.GetClusterRequest()),
        (f"{OPERATOR}/ListAgents", operator_pb2.ListAgentsRequest(agent_ids=["hostile", "a"])),
        (
            f"{OPERATOR}/ListFrameworks",
            operator_pb2.ListFrameworksRequest(framework_ids=["victim"], include_completed=True),
        ),
        (f"{OPERATOR}/ListRoles", operator_pb2.ListRolesRequest()),
        (f"{OPERATOR}/ListOffers", operator_pb2.ListOffersRequest()),
        (
            f"{OPERATOR}/ListTasks",
            operator_pb2.ListTasksRequest(
                task_ids=["t"], states=[tasks_pb2.TASK_RUNNING], include_terminal=True, page_size=2, page_token="v/t"
            ),
        ),
        (f"{OPERATOR}/KillTask", operator_pb2.KillTaskRequest(task_id="t", framework_id="victim", kill_policy=policy)),
        (f"{OPERATOR}/TeardownFramework", operator_pb2.TeardownFrameworkRequest(framework_id="nobody")),
        (f"{OPERATOR}/DeactivateAgent", operator_pb2.DeactivateAgentRequest(agent_id="hostile-agent")),
        (f"{OPERATOR}/ReactivateAgent", operator_pb2.ReactivateAgentRequest(agent_id="hostile-agent")),
        (f"{OPERATOR}/MarkAgentGone", operator_pb2.MarkAgentGoneRequest(agent_id="nobody")),
        (f"{OPERATOR}/SetRoleWeight", operator_pb2.SetRoleWeightRequest(role="eng/ads", weight_millis=2_000)),
        (
            f"{OPERATOR}/SetQuotas",
            operator_pb2.SetQuotasRequest(
                quotas=[operator_pb2.RoleQuota(role="fuzz/ed", limit=quota, guarantee=quota)], is_forced=True
            ),
        ),
        (f"{OPERATOR}/SetRoleOffers", operator_pb2.SetRoleOffersRequest(role="fuzz/ed", is_optimistic=True)),
        (
            f"{OPERATOR}/Reserve",
            operator_pb2.ReserveRequest(agent_id="hostile-agent", reservation=kept, from_reservation_id=""),
        ),
        (f"{OPERATOR}/Unreserve", operator_pb2.UnreserveRequest(agent_id="hostile-agent", reservation_id="r")),
        (f"{OPERATOR}/CreateVolume", operator_pb2.CreateVolumeRequest(agent_id="hostile-agent", volume=volume)),
        (f"{OPERATOR}/DestroyVolume", operator_pb2.DestroyVolumeRequest(agent_id="hostile-agent", volume_id="v")),
        (
            f"{OPERATOR}/DrainAgent",
            operator_pb2.DrainAgentRequest(agent_id="hostile-agent", notice_ms=10, grace_ms=10, then_gone=False),
        ),
        (
            f"{OPERATOR}/SetUnavailability",
            operator_pb2.SetUnavailabilityRequest(agent_ids=["hostile-agent"], unavailability=away),
        ),
        (f"{OPERATOR}/Explain", operator_pb2.ExplainRequest(id="hostile-agent")),
        (
            f"{OPERATOR}/Explain",
            operator_pb2.ExplainRequest(kind=operator_pb2.SUBJECT_KIND_DEMAND, id="d", framework_id="victim"),
        ),
        (
            f"{OPERATOR}/Explain",
            operator_pb2.ExplainRequest(kind=operator_pb2.SUBJECT_KIND_FRAMEWORK, id="victim", framework_id="victim"),
        ),
        ("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest(service="runrig.v1.AgentService")),
    ]


def streams() -> list[tuple[str, Message]]:
    """Build a valid request of each method that streams."""
    reflected = reflection_pb2.ServerReflectionRequest
    method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    extension = reflection_pb2.ExtensionRequest(containing_type="runrig.v1.Task", extension_number=1)
    return [
        (f"{OPERATOR}/Watch", operator_pb2.WatchRequest()),
        ("/grpc.health.v1.Health/Watch", health_pb2.HealthCheckRequest(service="runrig.v1.AgentService")),
        (method, reflected(file_containing_symbol="runrig.v1.OperatorService")),
        (method, reflected(file_by_filename="runrig/v1/operator.proto")),
        (method, reflected(file_containing_extension=extension)),
        (method, reflected(all_extension_numbers_of_type="runrig.v1.Task")),
        (method, reflected(list_services="")),
    ]


def made_wrong(valid: Any, chance: Random) -> bytes:
    """Return the bytes of a request that is not as it should be."""
    request = type(valid)()
    request.CopyFrom(valid)
    mutated(request, chance)
    return damaged(serialized(request), chance) if chance.random() < 0.4 else serialized(request)


async def strike(target: Target, chance: Random) -> None:
    channel = target.served.channel
    if chance.random() < 0.7:
        method, valid = chance.choice(requests())
        check_fault(method, *await status_of(channel, method, made_wrong(valid, chance)))
        return
    method, valid = chance.choice(streams())
    asked = [made_wrong(valid, chance) for _ in range(chance.choice((1, 1, 3)) if "reflection" in method else 1)]
    code, details, _ = await streamed(channel, method, *asked, most=1)
    check_fault(method, code, details)


async def barrage(seed: int) -> None:
    """Strike until the master breaks, or it is enough."""
    chance = Random(seed)
    async with under_fire() as target:
        await target.served.registered("hostile-agent")
        victim = await target.served.subscribed("victim", uses_demand=True)
        need = scheduler_pb2.Demand(demand_id="d", resources=resources_pb2.Resources(cpu_millis=10**9), count=3)
        wanted = scheduler_pb2.UpdateDemand(role="victim", demands=[need])
        await victim.send(scheduler_pb2.SchedulerCall(update_demand=wanted))
        for number in range(STRIKES):
            await strike(target, chance)
            if number % 50 == 0:
                await target.check()


@pytest.mark.parametrize("seed", rounds(3))
async def test_nothing_that_an_operator_sends_harms_the_master_or_those_who_work_with_it(seed: int) -> None:
    await barrage(seed)
