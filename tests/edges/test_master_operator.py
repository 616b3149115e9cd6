"""What people and tools ask of a real master, over gRPC and HTTP."""

from __future__ import annotations

from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from runrig.v1 import operator_pb2 as pb
from runrig.v1 import resources_pb2, scheduler_pb2, tasks_pb2
from runrig_master.core.settings import CoreSettings
from tests.edges.master_server import (
    Served,
    accept,
    acknowledge,
    resources,
    serving,
    spec,
    update,
)

FINISHED = tasks_pb2.TASK_FINISHED


async def with_tasks(master: Served, *names: str) -> tuple[Any, Any]:
    """Return a scheduler and an agent that runs tasks."""
    scheduler = await master.subscribed()
    agent = await master.registered()
    [offer] = (await scheduler.next("offers")).offers
    await scheduler.send(accept(offer, *(spec(name, 100) for name in names), refuse_ms=60_000))
    await agent.next("launch")
    for name in names:
        await agent.send(update(name))
        await scheduler.next("updates")
    return scheduler, agent


async def failed(call: Any) -> tuple[grpc.StatusCode, str]:
    """Return status and details of a call that is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def test_a_cluster_says_who_leads_it() -> None:
    async with serving() as master:
        await with_tasks(master, "t1", "t2")

        cluster = await master.operator.GetCluster(pb.GetClusterRequest())

        assert cluster.leader == master.grpc_address
        assert (cluster.epoch, cluster.agents, cluster.agents_recovering, cluster.frameworks) == (1, 1, 0, 1)
        assert cluster.tasks == 2
        assert cluster.cluster_id
        assert cluster.version
        assert cluster.started_at_unix_ms > 0


async def test_agents_frameworks_roles_offers_and_tasks_are_listed_with_their_amounts() -> None:
    async with serving() as master:
        await with_tasks(master, "t1")

        [agent] = (await master.operator.ListAgents(pb.ListAgentsRequest())).agents
        [framework] = (await master.operator.ListFrameworks(pb.ListFrameworksRequest())).frameworks
        [role] = (await master.operator.ListRoles(pb.ListRolesRequest())).roles
        [task] = (await master.operator.ListTasks(pb.ListTasksRequest())).tasks

        assert (agent.agent_id, agent.hostname, agent.state, agent.tasks) == ("a1", "host-a1", pb.AGENT_STATE_ACTIVE, 1)
        assert agent.total == resources()
        assert agent.used == resources(100, 32)
        assert agent.free == resources(3900, 992)
        assert (framework.framework_id, framework.connected) == ("f", True)
        assert framework.state == pb.FRAMEWORK_STATE_ACTIVE
        assert dict(framework.tasks_by_state) == {"TASK_RUNNING": 1}
        assert framework.used == resources(100, 32)
        assert (role.role, role.weight_millis, role.frameworks) == ("f", 1000, 1)
        assert role.dominant_share_millionths == 31_250
        assert (task.task_id, task.framework_id, task.agent_id) == ("t1", "f", "a1")
        assert task.state == tasks_pb2.TASK_RUNNING


async def offers(master: Served) -> list[Any]:
    """Return the offers that stand."""
    return list((await master.operator.ListOffers(pb.ListOffersRequest())).offers)


async def test_offers_that_stand_are_listed() -> None:
    async with serving() as master:
        scheduler = await master.subscribed()
        await master.registered()
        [made] = (await scheduler.next("offers")).offers

        [offer] = await offers(master)

        assert (offer.offer_id, offer.framework_id, offer.agent_id) == (made.offer_id, "f", "a1")
        assert offer.resources == resources()
        assert offer.expires_at_unix_ms - offer.made_at_unix_ms == 30_000


async def test_things_are_found_by_the_beginning_of_their_names() -> None:
    async with serving() as master:
        for name in ("a1", "a2", "b1"):
            await master.registered(name)
        for name in ("web", "worker", "batch"):
            await master.subscribed(name)

        by_id = await master.operator.ListAgents(pb.ListAgentsRequest(agent_ids=["a", "host-b"]))
        by_name = await master.operator.ListFrameworks(pb.ListFrameworksRequest(framework_ids=["w"]))
        none = await master.operator.ListAgents(pb.ListAgentsRequest(agent_ids=["zz"]))

        assert [agent.agent_id for agent in by_id.agents] == ["a1", "a2", "b1"]
        assert sorted(item.name for item in by_name.frameworks) == ["web", "worker"]
        assert len(none.agents) == 0


async def test_tasks_are_listed_page_by_page_in_one_order() -> None:
    async with serving() as master:
        names = [f"t{number:02}" for number in range(12)]
        await with_tasks(master, *names)
        pages, token = [], ""
        while True:
            page = await master.operator.ListTasks(pb.ListTasksRequest(page_size=5, page_token=token))
            pages.append([task.task_id for task in page.tasks])
            token = page.next_page_token
            if not token:
                break

        assert pages == [names[:5], names[5:10], names[10:]]


async def test_a_page_that_is_exactly_full_is_the_last() -> None:
    async with serving() as master:
        await with_tasks(master, "t1", "t2")

        page = await master.operator.ListTasks(pb.ListTasksRequest(page_size=2))

        assert (len(page.tasks), page.next_page_token) == (2, "")


async def test_tasks_are_chosen_by_state_framework_agent_and_beginning() -> None:
    async with serving() as master:
        scheduler, agent = await with_tasks(master, "t1", "t2", "u1")
        await agent.send(update("t2", FINISHED, 2))
        await scheduler.next("updates")
        await scheduler.send(acknowledge("t2", 2))
        await agent.next("acknowledge")

        async def names(**fields: Any) -> list[str]:
            answer = await master.operator.ListTasks(pb.ListTasksRequest(**fields))
            return [task.task_id for task in answer.tasks]

        assert await names() == ["t1", "u1"]
        assert await names(include_terminal=True) == ["t1", "t2", "u1"]
        assert await names(include_terminal=True, states=[FINISHED]) == ["t2"]
        assert await names(task_ids=["t", "x"]) == ["t1"]
        assert await names(framework_id="g") == []
        assert await names(agent_id="a1", task_ids=["u"]) == ["u1"]


async def test_a_page_that_is_too_large_is_refused() -> None:
    async with serving() as master:
        code, details = await failed(master.operator.ListTasks(pb.ListTasksRequest(page_size=10_001)))

        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details == "page_size: 10001 is not allowed; allowed: at most 10000"


async def test_an_operator_kills_a_task() -> None:
    async with serving() as master:
        _, agent = await with_tasks(master, "t1")

        answer = await master.operator.KillTask(pb.KillTaskRequest(task_id="t1", kill_policy={"grace_ms": 7}))  # type: ignore[arg-type]
        order = await agent.next("kill")

        assert answer.task.task_id == "t1"
        assert (order.task_id, order.kill_policy.grace_ms) == ("t1", 7)
        assert order.reason == tasks_pb2.REASON_KILLED_BY_OPERATOR


async def test_a_task_id_that_two_frameworks_use_needs_its_framework() -> None:
    async with serving() as master:
        first = await master.subscribed("f")
        second = await master.subscribed("g")
        await master.registered("a1")
        await master.registered("a2")
        for scheduler in (first, second):
            [offer] = (await scheduler.next("offers")).offers
            await scheduler.send(accept(offer, spec("t1"), refuse_ms=60_000))
        while len((await master.operator.ListTasks(pb.ListTasksRequest())).tasks) < 2:
            pass

        code, details = await failed(master.operator.KillTask(pb.KillTaskRequest(task_id="t1")))
        await master.operator.KillTask(pb.KillTaskRequest(task_id="t1", framework_id="g"))

        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "one of f, g" in details


async def test_a_framework_is_torn_down() -> None:
    async with serving() as master:
        scheduler, agent = await with_tasks(master, "t1")

        await master.operator.TeardownFramework(pb.TeardownFrameworkRequest(framework_id="f"))

        assert (await scheduler.refusal()).message == "an operator removed the framework"
        assert (await agent.next("shutdown_framework")).framework_id == "f"
        listed = await master.operator.ListFrameworks(pb.ListFrameworksRequest())
        everything = await master.operator.ListFrameworks(pb.ListFrameworksRequest(include_completed=True))
        assert len(listed.frameworks) == 0
        assert [item.state for item in everything.frameworks] == [pb.FRAMEWORK_STATE_COMPLETED]


async def test_an_agent_is_deactivated_reactivated_and_marked_gone() -> None:
    async with serving() as master:
        _, agent = await with_tasks(master, "t1")
        seen = []
        acts: list[tuple[Any, Any]] = [
            (master.operator.DeactivateAgent, pb.DeactivateAgentRequest(agent_id="a1")),
            (master.operator.ReactivateAgent, pb.ReactivateAgentRequest(agent_id="a1")),
            (master.operator.MarkAgentGone, pb.MarkAgentGoneRequest(agent_id="a1")),
        ]
        for act, request in acts:
            await act(request)
            [known] = (await master.operator.ListAgents(pb.ListAgentsRequest())).agents
            seen.append(known.state)

        assert seen == [pb.AGENT_STATE_DEACTIVATED, pb.AGENT_STATE_ACTIVE, pb.AGENT_STATE_GONE]
        assert "gone" in (await agent.refusal()).message


async def test_a_weight_is_set() -> None:
    async with serving() as master:
        await master.operator.SetRoleWeight(pb.SetRoleWeightRequest(role="eng/ads", weight_millis=2500))

        roles = (await master.operator.ListRoles(pb.ListRolesRequest())).roles

        assert [(role.role, role.weight_millis) for role in roles] == [("eng", 1000), ("eng/ads", 2500)]


async def test_quotas_are_set_all_or_nothing() -> None:
    async with serving() as master:
        await master.registered()
        limit = pb.RoleQuota(role="eng", limit={"cpu_millis": 3000})  # type: ignore[arg-type]
        absurd = pb.RoleQuota(role="ops", guarantee={"mem_mib": -1})  # type: ignore[arg-type]

        code, details = await failed(master.operator.SetQuotas(pb.SetQuotasRequest(quotas=[limit, absurd])))
        before = (await master.operator.ListRoles(pb.ListRolesRequest())).roles
        await master.operator.SetQuotas(pb.SetQuotasRequest(quotas=[limit]))
        [role] = (await master.operator.ListRoles(pb.ListRolesRequest())).roles

        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "quotas ops.guarantee.mem_mib: -1 is not allowed" in details
        assert not before
        assert role.role == "eng"
        assert role.limit == limit.limit
        assert not role.HasField("guarantee")


async def test_more_than_the_cluster_has_is_guaranteed_only_when_forced() -> None:
    async with serving() as master:
        await master.registered()
        quota = pb.RoleQuota(role="eng", guarantee={"cpu_millis": 5000})  # type: ignore[arg-type]

        code, details = await failed(master.operator.SetQuotas(pb.SetQuotasRequest(quotas=[quota])))
        await master.operator.SetQuotas(pb.SetQuotasRequest(quotas=[quota], is_forced=True))

        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "4000" in details
        [role] = (await master.operator.ListRoles(pb.ListRolesRequest())).roles
        assert role.guarantee == quota.guarantee


async def test_a_reservation_and_a_volume_are_made_shown_and_given_back() -> None:
    amount = resources_pb2.Resources(cpu_millis=1000, mem_mib=100, disk_mib=500)
    kept = resources_pb2.Reservation(reservation_id="r", role="eng/db", resources=amount)
    volume = resources_pb2.PersistentVolume(volume_id="v", reservation_id="r", disk_mib=200)
    total = resources_pb2.Resources(cpu_millis=4000, mem_mib=1024, disk_mib=1000)
    async with serving() as master:
        agent = await master.registered(resources=total)
        await master.operator.Reserve(pb.ReserveRequest(agent_id="a1", reservation=kept))
        await master.operator.CreateVolume(pb.CreateVolumeRequest(agent_id="a1", volume=volume))
        [known] = (await master.operator.ListAgents(pb.ListAgentsRequest())).agents
        roles = (await master.operator.ListRoles(pb.ListRolesRequest())).roles
        code, details = await failed(master.operator.Unreserve(pb.UnreserveRequest(agent_id="a1", reservation_id="r")))
        await master.operator.DestroyVolume(pb.DestroyVolumeRequest(agent_id="a1", volume_id="v"))
        order = await agent.next("destroy_volume")
        [doomed] = (await master.operator.ListAgents(pb.ListAgentsRequest())).agents

        [state] = known.reservations
        assert state.reservation == kept
        assert state.free == resources_pb2.Resources(cpu_millis=1000, mem_mib=100, disk_mib=300)
        assert [(each.volume, each.task_id, each.is_doomed) for each in state.volumes] == [(volume, "", False)]
        assert [(role.role, role.reserved.disk_mib) for role in roles] == [("eng/db", 500)]
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "v" in details
        assert order.volume_id == "v"
        assert [each.is_doomed for each in doomed.reservations[0].volumes] == [True]


async def test_an_offer_of_a_reservation_says_so_and_a_task_on_what_terms_it_runs() -> None:
    amount = resources_pb2.Resources(cpu_millis=1000, mem_mib=100)
    kept = resources_pb2.Reservation(reservation_id="r", role="f", resources=amount)
    terms = tasks_pb2.TaskTerms(reservation_id="r", group="g", priority=7)
    async with serving() as master:
        await master.registered()
        await master.operator.Reserve(pb.ReserveRequest(agent_id="a1", reservation=kept))
        scheduler = await master.subscribed()
        made: list[Any] = []
        while len(made) < 2:
            made.extend((await scheduler.next("offers")).offers)
        listed = {offer.offer_id: offer.reservation_id for offer in await offers(master)}
        [mine] = [offer for offer in made if offer.reservation.reservation_id == "r"]
        task = spec("t1", 100)
        task.terms.CopyFrom(terms)
        await scheduler.send(accept(mine, task, refuse_ms=60_000))
        while not (tasks := (await master.operator.ListTasks(pb.ListTasksRequest())).tasks):
            pass

        assert listed[mine.offer_id] == "r"
        assert sorted(listed.values()) == ["", "r"]
        assert tasks[0].terms == terms


async def test_an_agent_is_drained_until_it_is_activated() -> None:
    async with serving() as master:
        await master.registered()
        await master.operator.DrainAgent(pb.DrainAgentRequest(agent_id="a1", notice_ms=60_000, grace_ms=1))
        [drained] = (await master.operator.ListAgents(pb.ListAgentsRequest())).agents
        away = resources_pb2.Unavailability(start_unix_ms=drained.since_unix_ms + 3_600_000, duration_ms=1000)
        await master.operator.SetUnavailability(pb.SetUnavailabilityRequest(agent_ids=["a1"], unavailability=away))
        await master.operator.ReactivateAgent(pb.ReactivateAgentRequest(agent_id="a1"))
        [active] = (await master.operator.ListAgents(pb.ListAgentsRequest())).agents
        await master.operator.SetUnavailability(pb.SetUnavailabilityRequest(agent_ids=["a1"]))
        [present] = (await master.operator.ListAgents(pb.ListAgentsRequest())).agents

        assert drained.state in (pb.AGENT_STATE_DRAINING, pb.AGENT_STATE_DRAINED)
        assert drained.drain_deadline_unix_ms > drained.since_unix_ms
        assert (active.state, active.drain_deadline_unix_ms) == (pb.AGENT_STATE_ACTIVE, 0)
        assert active.unavailability == away
        assert not present.HasField("unavailability")


async def test_a_watcher_of_roles_is_told_of_those_above_what_changed() -> None:
    async with serving() as master:
        await master.operator.SetRoleWeight(pb.SetRoleWeightRequest(role="eng/ads", weight_millis=2000))
        watch = master.operator.Watch(pb.WatchRequest())
        await next_change(watch, "snapshot_end")
        scheduler = await master.subscribed(roles=["eng/ads"])
        await master.registered()
        await scheduler.next("offers")

        seen: dict[str, int] = {}
        async for response in watch:
            offered = [change.role for change in response.changes if change.role.subtree_offered.cpu_millis]
            seen.update((role.role, role.subtree_offered.cpu_millis) for role in offered)
            if len(seen) == 2:
                break

        assert seen == {"eng": 4000, "eng/ads": 4000}


async def test_the_offers_of_a_role_are_made_optimistic_and_exclusive_again() -> None:
    async with serving() as master:
        await master.operator.SetRoleOffers(pb.SetRoleOffersRequest(role="eng", is_optimistic=True))
        [role] = (await master.operator.ListRoles(pb.ListRolesRequest())).roles
        await master.operator.SetRoleOffers(pb.SetRoleOffersRequest(role="eng"))

        assert role.is_optimistic
        assert not (await master.operator.ListRoles(pb.ListRolesRequest())).roles


@pytest.mark.parametrize(
    "method, request_, code, words",
    [
        ("SetQuotas", pb.SetQuotasRequest(), "INVALID_ARGUMENT", "quotas: 0"),
        ("SetRoleOffers", pb.SetRoleOffersRequest(role="a//b"), "INVALID_ARGUMENT", "role: 'a//b'"),
        ("Explain", pb.ExplainRequest(kind=9), "INVALID_ARGUMENT", "kind: 9"),  # type: ignore[arg-type]
        ("KillTask", pb.KillTaskRequest(task_id="x"), "NOT_FOUND", "there is no task 'x'"),
        ("KillTask", pb.KillTaskRequest(), "NOT_FOUND", "there is no task ''"),
        ("TeardownFramework", pb.TeardownFrameworkRequest(framework_id="x"), "NOT_FOUND", "there is no framework 'x'"),
        ("DeactivateAgent", pb.DeactivateAgentRequest(agent_id="x"), "NOT_FOUND", "there is no agent 'x'"),
        ("ReactivateAgent", pb.ReactivateAgentRequest(), "NOT_FOUND", "there is no agent ''"),
        ("MarkAgentGone", pb.MarkAgentGoneRequest(agent_id="x"), "NOT_FOUND", "there is no agent 'x'"),
        ("SetRoleWeight", pb.SetRoleWeightRequest(role="x"), "INVALID_ARGUMENT", "weight_millis: 0"),
        ("SetRoleWeight", pb.SetRoleWeightRequest(role="a//b", weight_millis=1), "INVALID_ARGUMENT", "role: 'a//b'"),
    ],
)
async def test_what_cannot_be_done_is_refused_in_words(method: str, request_: Any, code: str, words: str) -> None:
    async with serving() as master:
        status, details = await failed(getattr(master.operator, method)(request_))

        assert status.name == code
        assert words in details


async def test_killing_a_task_that_has_ended_is_a_conflict() -> None:
    async with serving() as master:
        scheduler, agent = await with_tasks(master, "t1")
        await agent.send(update("t1", FINISHED, 2))
        await scheduler.next("updates")

        code, details = await failed(master.operator.KillTask(pb.KillTaskRequest(task_id="t1")))

        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "TASK_FINISHED" in details


# Watch


async def next_change(watch: Any, kind: str) -> Any:
    """Return the next change of a kind."""
    async for response in watch:
        for change in response.changes:
            if change.WhichOneof("change") == kind:
                return getattr(change, kind)
    raise AssertionError("the watch ended")


async def test_a_watcher_is_told_what_is_there_and_then_what_changes() -> None:
    async with serving() as master:
        scheduler, agent = await with_tasks(master, "t1")
        watch = master.operator.Watch(pb.WatchRequest())
        first: list[str | None] = []
        async for response in watch:
            first.extend(change.WhichOneof("change") for change in response.changes)
            if "snapshot_end" in first:
                break

        await agent.send(update("t1", FINISHED, 2))
        task = await next_change(watch, "task")

        assert {"agent", "framework", "task", "snapshot_end"} <= set(first)
        assert first[-1] == "snapshot_end"
        assert (task.task_id, task.state) == ("t1", FINISHED)
        scheduler.cancel()
        framework = await next_change(watch, "framework")
        assert framework.state == pb.FRAMEWORK_STATE_DISCONNECTED


async def test_watchers_are_bounded() -> None:
    async with serving(watchers=1) as master:
        first = master.operator.Watch(pb.WatchRequest())
        await next_change(first, "snapshot_end")
        second = master.operator.Watch(pb.WatchRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await next_change(second, "snapshot_end")
        first.cancel()
        while True:
            try:
                await next_change(master.operator.Watch(pb.WatchRequest()), "snapshot_end")
                break
            except grpc.aio.AioRpcError:
                continue

        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_watcher_that_does_not_read_is_cut_off() -> None:
    wide = [resources_pb2.Attribute(name="x", value="y" * 1000)] * 16
    async with serving(watch_outbox_items=20) as master:
        watch = master.operator.Watch(pb.WatchRequest())
        await next_change(watch, "snapshot_end")
        for session in range(1, 6):
            envelope = [await master.registered(f"a{number}", session, attributes=wide) for number in range(30)]
            for stream in envelope:
                stream.cancel()

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await next_change(watch, "snapshot_end")

        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "20 changes wait" in (caught.value.details() or "")


# Health, reflection, HTTP


@pytest.mark.parametrize("service", ["", "runrig.v1.AgentService", "runrig.v1.SchedulerService"])
async def test_the_master_says_that_it_serves(service: str) -> None:
    async with serving() as master:
        stub: Any = health_pb2_grpc.HealthStub(master.channel)

        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))

        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_master_says_what_it_serves() -> None:
    async with serving() as master:
        channel: Any = master.channel
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        names: set[str] = set()
        request = reflection_pb2.ServerReflectionRequest(list_services="")

        async for answer in stub.ServerReflectionInfo(iter([request])):
            names = {service.name for service in answer.list_services_response.service}

        assert {"runrig.v1.OperatorService", "runrig.v1.SchedulerService", "grpc.health.v1.Health"} <= names


async def test_http_tells_health_readiness_and_metrics() -> None:
    async with serving() as master, httpx.AsyncClient(base_url=f"http://{master.http}") as client:
        await with_tasks(master, "t1")

        health = await client.get("/healthz")
        ready = await client.get("/readyz")
        metrics = (await client.get("/metrics")).text

        assert (health.status_code, health.text) == (200, "ok\n")
        assert ready.json() == {"ready": True, "epoch": 1, "agents_recovering": 0}
        for line in (
            'runrig_agents{state="connected"} 1.0',
            'runrig_tasks{state="TASK_RUNNING"} 1.0',
            "runrig_frameworks 1.0",
            "runrig_epoch 1.0",
            'runrig_resources{kind="used",resource="cpus"} 0.1',
            'runrig_resources{kind="total",resource="mem_bytes"} 1.073741824e+09',
            'runrig_role_dominant_share{role="f"} 0.03125',
        ):
            assert line in metrics
        assert (await client.get("/nonsense")).status_code == 404
        assert (await client.post("/metrics")).status_code == 405


async def test_metrics_tell_what_is_wanted_how_long_it_waits_and_what_allocation_takes() -> None:
    need = scheduler_pb2.Demand(demand_id="d", resources=resources(1000, 32), count=6)
    async with serving() as master, httpx.AsyncClient(base_url=f"http://{master.http}") as client:
        scheduler = await master.subscribed(uses_demand=True)
        await master.registered()
        wanted = scheduler_pb2.UpdateDemand(role="f", demands=[need])
        await scheduler.send(scheduler_pb2.SchedulerCall(update_demand=wanted))
        [offer] = (await scheduler.next("offers")).offers

        before = (await client.get("/metrics")).text
        await scheduler.send(accept(offer, spec("t1")))
        await scheduler.next("offers")
        after = (await client.get("/metrics")).text

        assert offer.resources == resources(4000, 128)
        for line in (
            'runrig_offer_wait_seconds_bucket{le="+Inf"} 4.0',
            "runrig_offer_wait_seconds_count 4.0",
            "runrig_offer_answer_seconds_count 0.0",
        ):
            assert line in before
        assert sum(numbers(before, "runrig_pending_demand")) == 2
        assert numbers(before, "runrig_allocation_passes_total")[0] >= 1
        assert numbers(before, "runrig_allocation_seconds_count")[0] >= 1
        assert "runrig_offer_answer_seconds_count 1.0" in after


def numbers(text: str, name: str) -> list[float]:
    """Return the values of a metric."""
    return [float(line.split()[-1]) for line in text.splitlines() if line.partition("{")[0].split()[0] == name]


@pytest.mark.parametrize(
    "query, field",
    [
        ("", "id"),
        ("id=", "id"),
        ("kind=thing&id=x", "kind"),
        ("id=x&what=y", "what"),
    ],
)
async def test_a_strange_question_for_an_explanation_is_refused_by_its_field(query: str, field: str) -> None:
    async with serving() as master, httpx.AsyncClient(base_url=f"http://{master.http}") as client:
        answer = await client.get(f"/v1/explain?{query}")

        assert answer.status_code == 422
        assert answer.json()["field"] == field
        assert answer.json()["message"].startswith(f"{field}: ")


async def test_offers_expire_in_real_time() -> None:
    async with serving(CoreSettings(offer_timeout_s=0.2)) as master:
        scheduler = await master.subscribed()
        await master.registered()
        [offer] = (await scheduler.next("offers")).offers

        rescind = await scheduler.next("rescind")
        [again] = (await scheduler.next("offers")).offers

        assert list(rescind.offer_ids) == [offer.offer_id]
        assert again.offer_id != offer.offer_id
