"""Messages as cases write them, with what hardly any case cares about filled in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from runrig.v1 import agent_pb2, resources_pb2, scheduler_pb2, tasks_pb2

STAGING, RUNNING, KILLING = tasks_pb2.TASK_STAGING, tasks_pb2.TASK_RUNNING, tasks_pb2.TASK_KILLING
FINISHED, FAILED, KILLED = tasks_pb2.TASK_FINISHED, tasks_pb2.TASK_FAILED, tasks_pb2.TASK_KILLED
ERROR, DROPPED, LOST = tasks_pb2.TASK_ERROR, tasks_pb2.TASK_DROPPED, tasks_pb2.TASK_LOST
UNREACHABLE, UNKNOWN = tasks_pb2.TASK_UNREACHABLE, tasks_pb2.TASK_UNKNOWN
GONE_BY_OPERATOR = tasks_pb2.TASK_GONE_BY_OPERATOR
TASK_CPU_MILLIS, TASK_MEM_MIB = 1000, 64

Offers = scheduler_pb2.Offer | Sequence[scheduler_pb2.Offer]


def resources(cpu_millis: int = 4000, mem_mib: int = 4096, ports: str = "", **fields: Any) -> resources_pb2.Resources:
    """Build an amount; `ports` are ranges such as `31000-31003`."""
    ranges = [part.partition("-") for part in ports.split(",") if part]
    named = [resources_pb2.PortRange(begin=int(begin), end=int(end or begin)) for begin, _, end in ranges]
    return resources_pb2.Resources(cpu_millis=cpu_millis, mem_mib=mem_mib, ports=named, **fields)


def spec(
    task_id: str, cpu_millis: int = TASK_CPU_MILLIS, mem_mib: int = TASK_MEM_MIB, ports: str = "", **fields: Any
) -> tasks_pb2.TaskSpec:
    """Build a task."""
    command = tasks_pb2.Command(shell="true")
    return tasks_pb2.TaskSpec(
        task_id=task_id, name=task_id, resources=resources(cpu_millis, mem_mib, ports), command=command, **fields
    )


def launch(*specs: tasks_pb2.TaskSpec) -> scheduler_pb2.Operation:
    """Build the launch of tasks that are each on their own."""
    return scheduler_pb2.Operation(launch=scheduler_pb2.LaunchTasks(tasks=specs))


def launch_task_group(*specs: tasks_pb2.TaskSpec) -> scheduler_pb2.Operation:
    """Build the launch of tasks that share a fate."""
    return scheduler_pb2.Operation(launch_task_group=scheduler_pb2.LaunchTaskGroup(tasks=specs))


def group(offers: Offers, *operations: scheduler_pb2.Operation, agent_id: str = "") -> scheduler_pb2.LaunchGroup:
    """Build a launch group on offers, of the agent of the first unless one is named."""
    named = [offers] if isinstance(offers, scheduler_pb2.Offer) else list(offers)
    ids = [offer.offer_id for offer in named]
    return scheduler_pb2.LaunchGroup(agent_id=agent_id or named[0].agent_id, offer_ids=ids, operations=operations)


def accept(
    *groups: scheduler_pb2.LaunchGroup, atomic: bool = False, refuse_ms: int | None = 0
) -> scheduler_pb2.SchedulerCall:
    """Build an Accept; what is left is offered again at once unless `refuse_ms` says otherwise (None: unsaid)."""
    filter_ = scheduler_pb2.Filter(refuse_ms=refuse_ms)
    return scheduler_pb2.SchedulerCall(accept=scheduler_pb2.Accept(groups=groups, atomic=atomic, filter=filter_))


def decline(*offers: scheduler_pb2.Offer, refuse_ms: int | None = None) -> scheduler_pb2.SchedulerCall:
    """Build a Decline, with the default filter unless `refuse_ms` says otherwise."""
    ids = [offer.offer_id for offer in offers]
    filter_ = scheduler_pb2.Filter(refuse_ms=refuse_ms)
    return scheduler_pb2.SchedulerCall(decline=scheduler_pb2.Decline(offer_ids=ids, filter=filter_))


def revive(*roles: str) -> scheduler_pb2.SchedulerCall:
    """Build a Revive, of all roles unless some are named."""
    return scheduler_pb2.SchedulerCall(revive=scheduler_pb2.Revive(roles=roles))


def suppress(*roles: str) -> scheduler_pb2.SchedulerCall:
    """Build a Suppress, of all roles unless some are named."""
    return scheduler_pb2.SchedulerCall(suppress=scheduler_pb2.Suppress(roles=roles))


def kill(task_id: str, grace_ms: int | None = None) -> scheduler_pb2.SchedulerCall:
    """Build a Kill."""
    policy = None if grace_ms is None else tasks_pb2.KillPolicy(grace_ms=grace_ms)
    return scheduler_pb2.SchedulerCall(kill=scheduler_pb2.Kill(task_id=task_id, kill_policy=policy))


def reconcile(*references: tuple[str, str]) -> scheduler_pb2.SchedulerCall:
    """Build a Reconcile of (task, agent), or of everything."""
    tasks = [scheduler_pb2.TaskReference(task_id=task_id, agent_id=agent_id) for task_id, agent_id in references]
    return scheduler_pb2.SchedulerCall(reconcile=scheduler_pb2.Reconcile(tasks=tasks))


def acknowledge(task_id: str, agent_id: str, number: int) -> scheduler_pb2.SchedulerCall:
    """Build the receipt of a task's updates up to `number`."""
    receipt = scheduler_pb2.Acknowledgement(task_id=task_id, agent_id=agent_id, number=number)
    return scheduler_pb2.SchedulerCall(acknowledge=scheduler_pb2.Acknowledge(acknowledgements=[receipt]))


def answer_inverse_offer(inverse_offer_id: str, is_accepted: bool, reason: str = "") -> scheduler_pb2.SchedulerCall:
    """Build the answer to an inverse offer."""
    return scheduler_pb2.SchedulerCall(
        answer_inverse_offer=scheduler_pb2.AnswerInverseOffer(
            inverse_offer_id=inverse_offer_id, is_accepted=is_accepted, reason=reason
        )
    )


def teardown() -> scheduler_pb2.SchedulerCall:
    """Build a Teardown."""
    return scheduler_pb2.SchedulerCall(teardown=scheduler_pb2.Teardown())


def update_framework(info: scheduler_pb2.FrameworkInfo) -> scheduler_pb2.SchedulerCall:
    """Build an UpdateFramework."""
    return scheduler_pb2.SchedulerCall(update_framework=scheduler_pb2.UpdateFramework(framework=info))


def subscribe(
    info: scheduler_pb2.FrameworkInfo, session: int = 1, suppressed: Iterable[str] = ()
) -> scheduler_pb2.SchedulerCall:
    """Build a subscription."""
    return scheduler_pb2.SchedulerCall(
        subscribe=scheduler_pb2.Subscribe(framework=info, session=session, suppressed_roles=suppressed)
    )


def register(
    info: agent_pb2.AgentInfo, session: int = 1, epoch: int = 0, tasks: Iterable[agent_pb2.TaskReport] = ()
) -> agent_pb2.AgentReport:
    """Build a registration."""
    return agent_pb2.AgentReport(
        register=agent_pb2.Register(agent=info, session=session, epoch=epoch, tasks=tasks),
    )


def status(
    framework_id: str, task_id: str, agent_id: str, state: tasks_pb2.TaskState.ValueType, number: int, **fields: Any
) -> tasks_pb2.StatusUpdate:
    """Build what an agent says of a task."""
    return tasks_pb2.StatusUpdate(
        framework_id=framework_id,
        task_id=task_id,
        agent_id=agent_id,
        number=number,
        state=state,
        source=tasks_pb2.SOURCE_AGENT,
        **fields,
    )


def has(
    framework_id: str,
    role: str,
    task_id: str,
    agent_id: str,
    state: tasks_pb2.TaskState.ValueType = RUNNING,
    number: int = 1,
) -> agent_pb2.TaskReport:
    """Build what a registering agent says of a task that it has."""
    return agent_pb2.TaskReport(
        framework_id=framework_id,
        task_id=task_id,
        name=task_id,
        role=role,
        resources=resources(TASK_CPU_MILLIS, TASK_MEM_MIB),
        status=status(framework_id, task_id, agent_id, state, number),
    )


def state_name(update: tasks_pb2.StatusUpdate) -> str:
    """Return the name of an update's state."""
    return tasks_pb2.TaskState.Name(update.state)


def reason_name(update: tasks_pb2.StatusUpdate) -> str:
    """Return the name of an update's reason, without its prefix."""
    return tasks_pb2.Reason.Name(update.reason).removeprefix("REASON_")


def agent_changed(info: agent_pb2.AgentInfo) -> agent_pb2.AgentReport:
    """Build what an agent says of itself when it has changed."""
    return agent_pb2.AgentReport(changed=info)


def task_unknown(framework_id: str, task_id: str) -> agent_pb2.AgentReport:
    """Build an agent's word that it has never seen the launch of a task."""
    return agent_pb2.AgentReport(task_unknown=agent_pb2.TaskUnknown(framework_id=framework_id, task_id=task_id))


def update_report(update: tasks_pb2.StatusUpdate) -> agent_pb2.AgentReport:
    """Build the report of an update."""
    return agent_pb2.AgentReport(update=update)


def attribute(name: str, value: str) -> resources_pb2.Attribute:
    """Build an attribute."""
    return resources_pb2.Attribute(name=name, value=value)
