"""Valid messages, with something in every field: what is made of them is nearly valid."""

from __future__ import annotations

from random import Random
from typing import Any

from runrig.v1 import agent_pb2, resources_pb2, scheduler_pb2, tasks_pb2

LABELS = [resources_pb2.Label(name="tier", value="web")]


def amount() -> resources_pb2.Resources:
    """Build an amount with everything in it."""
    return resources_pb2.Resources(
        cpu_millis=100,
        mem_mib=32,
        disk_mib=10,
        ports=[resources_pb2.PortRange(begin=31_000, end=31_001)],
        custom=[resources_pb2.CustomResource(name="licences", amount_millis=1_000)],
    )


def plenty() -> resources_pb2.Resources:
    """Build what a hostile agent says it has."""
    return resources_pb2.Resources(
        cpu_millis=64_000,
        mem_mib=65_536,
        disk_mib=10_000,
        gpus=8,
        ports=[resources_pb2.PortRange(begin=31_000, end=32_000)],
        custom=[resources_pb2.CustomResource(name="licences", amount_millis=100_000)],
    )


def task(task_id: str) -> tasks_pb2.TaskSpec:
    """Build a task."""
    return tasks_pb2.TaskSpec(
        task_id=task_id,
        name="web",
        resources=amount(),
        labels=LABELS,
        limits=tasks_pb2.Limits(cpu_millis=200, mem_mib=64, pids=100),
        runtime=tasks_pb2.RUNTIME_KIND_PROCESS,
        command=tasks_pb2.Command(shell="true", env=[tasks_pb2.EnvVar(name="A", value="b")], working_directory="."),
        container=tasks_pb2.Container(image="busybox", network=tasks_pb2.NETWORK_MODE_HOST, parameters=LABELS),
        ports=[tasks_pb2.PortMapping(name="http", host_port=31_000, protocol="tcp")],
        volumes=[tasks_pb2.Volume(host_path="/data", container_path="/data")],
        fetch=[tasks_pb2.Fetch(uri="https://localhost/a.tar", destination="a", extract=True)],
        kill_policy=tasks_pb2.KillPolicy(grace_ms=10),
        max_run_ms=60_000,
        health_checks=[tasks_pb2.HealthCheck(tcp=tasks_pb2.TcpCheck(port=31_000), interval_ms=1_000)],
        data=b"\0\1",
    )


def framework(framework_id: str) -> scheduler_pb2.FrameworkInfo:
    """Build a framework."""
    return scheduler_pb2.FrameworkInfo(
        framework_id=framework_id,
        name="hostile",
        roles=["hostile", "eng/ads"],
        failover_timeout_ms=3_600_000,
        principal="somebody",
        labels=LABELS,
        web_url="http://127.0.0.1:1",
    )


def subscribe(framework_id: str, session: int = 1) -> scheduler_pb2.SchedulerCall:
    """Build a subscription."""
    return scheduler_pb2.SchedulerCall(
        subscribe=scheduler_pb2.Subscribe(
            framework=framework(framework_id), session=session, suppressed_roles=["eng/ads"]
        )
    )


def call(chance: Random, framework_id: str, offers: list[tuple[str, str]], name: str) -> scheduler_pb2.SchedulerCall:
    """Build one of the calls; `offers` are those that the framework has, each with its agent."""
    calls: dict[str, Any] = {
        "accept": scheduler_pb2.Accept(
            groups=[
                _group(chance, offer_id, agent_id, f"{name}-{place}")
                for place, (offer_id, agent_id) in enumerate(offers)
            ]
            or [_group(chance, "o1-1", "nobody", name)],
            atomic=chance.random() < 0.3,
            filter=_filter(),
        ),
        "decline": scheduler_pb2.Decline(offer_ids=[offer_id for offer_id, _ in offers], filter=_filter()),
        "revive": scheduler_pb2.Revive(roles=["hostile"]),
        "suppress": scheduler_pb2.Suppress(roles=["eng/ads"]),
        "kill": scheduler_pb2.Kill(task_id=name, kill_policy=tasks_pb2.KillPolicy(grace_ms=10)),
        "acknowledge": scheduler_pb2.Acknowledge(
            acknowledgements=[scheduler_pb2.Acknowledgement(task_id=name, agent_id="hostile-agent", number=1)]
        ),
        "reconcile": scheduler_pb2.Reconcile(tasks=[scheduler_pb2.TaskReference(task_id=name, agent_id="nobody")]),
        "update_demand": scheduler_pb2.UpdateDemand(role="hostile", demands=[_demand()]),
        "update_framework": scheduler_pb2.UpdateFramework(framework=framework(framework_id)),
        "teardown": scheduler_pb2.Teardown(),
        "subscribe": subscribe(framework_id, 2).subscribe,
    }
    # Accepting reaches deepest; a teardown ends all.
    kind = chance.choices(list(calls), [12 if kind == "accept" else 1 if kind == "teardown" else 3 for kind in calls])[
        0
    ]
    return scheduler_pb2.SchedulerCall(**{kind: calls[kind]})


def _group(chance: Random, offer_id: str, agent_id: str, task_id: str) -> scheduler_pb2.LaunchGroup:
    tasks = [task(f"{task_id}-{place}") for place in range(2)]
    tasks[1].resources.ports[0].begin = tasks[1].resources.ports[0].end = 31_500
    if chance.random() < 0.5:
        operation = scheduler_pb2.Operation(launch=scheduler_pb2.LaunchTasks(tasks=tasks))
    else:
        operation = scheduler_pb2.Operation(launch_task_group=scheduler_pb2.LaunchTaskGroup(tasks=tasks))
    return scheduler_pb2.LaunchGroup(agent_id=agent_id, offer_ids=[offer_id], operations=[operation])


def _filter() -> scheduler_pb2.Filter:
    return scheduler_pb2.Filter(refuse_ms=100, reason="insufficient_cpu")


def _demand() -> scheduler_pb2.Demand:
    like = scheduler_pb2.CONSTRAINT_OPERATOR_LIKE
    return scheduler_pb2.Demand(
        demand_id="d1",
        resources=amount(),
        count=3,
        constraints=[scheduler_pb2.Constraint(attribute="rack", operator=like, value="a.*")],
        placement=scheduler_pb2.PLACEMENT_SPREAD,
        priority=1,
        gang_id="gang",
        expected_duration_ms=1_000,
    )


def agent(agent_id: str) -> agent_pb2.AgentInfo:
    """Build an agent."""
    return agent_pb2.AgentInfo(
        agent_id=agent_id,
        hostname="host",
        address="127.0.0.1:1",
        http_address="127.0.0.1:2",
        resources=plenty(),
        attributes=[resources_pb2.Attribute(name="rack", value="a")],
        runtimes=[tasks_pb2.RUNTIME_KIND_PROCESS],
        version="1",
    )


def status(framework_id: str, task_id: str, agent_id: str, number: int, state: int) -> tasks_pb2.StatusUpdate:
    """Build a status update with something in every field."""
    return tasks_pb2.StatusUpdate(
        framework_id=framework_id,
        task_id=task_id,
        agent_id=agent_id,
        number=number,
        state=state,  # type: ignore[arg-type]
        reason=tasks_pb2.REASON_EXITED,
        source=tasks_pb2.SOURCE_AGENT,
        message="so it is",
        at_unix_ms=1_700_000_000_000,
        healthy=True,
        exit_code=3,
        runtime=tasks_pb2.RUNTIME_KIND_PROCESS,
        container_id="c",
        pid=7,
        address="10.0.0.1",
    )


def task_report(framework_id: str, task_id: str, agent_id: str, number: int, state: int) -> agent_pb2.TaskReport:
    """Build what a returning agent says of a task."""
    return agent_pb2.TaskReport(
        framework_id=framework_id,
        task_id=task_id,
        name="web",
        role="hostile",
        resources=amount(),
        labels=LABELS,
        status=status(framework_id, task_id, agent_id, number, state),
    )


def registration(
    agent_id: str, tasks: list[agent_pb2.TaskReport], session: int = 1, epoch: int = 1
) -> agent_pb2.AgentReport:
    """Build a registration."""
    register = agent_pb2.Register(agent=agent(agent_id), session=session, epoch=epoch, tasks=tasks)
    return agent_pb2.AgentReport(register=register)
