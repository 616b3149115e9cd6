"""The life of frameworks: subscription, failover, absence, removal. Rules 5, 6, 15 and 16."""

from __future__ import annotations

from dataclasses import replace

from runrig.agents import ShutdownFramework
from runrig.demand import checked_demand
from runrig.errors import InvalidInput, NotFound, RunrigError
from runrig.ids import MAX_ID_LENGTH, FrameworkId, Role, checked_id, checked_role
from runrig.offers import (
    FrameworkInfo,
    RefusalCode,
    RescindReason,
    Revive,
    StreamRefused,
    Subscribe,
    Subscribed,
    Suppress,
    UpdateDemand,
    UpdateFramework,
)
from runrig.tasks import MAX_MILLISECONDS, MAX_TEXT, Reason, checked_labels
from runrig_master.core import demands
from runrig_master.core.cluster import Cluster
from runrig_master.core.events import StreamId
from runrig_master.core.state import Framework


def subscribe(cluster: Cluster, stream: StreamId, call: Subscribe, fresh_id: FrameworkId) -> None:
    """Admit a framework, or let a newer subscription take over (rule 15)."""
    info = call.framework
    if not info.framework_id:
        info = replace(info, framework_id=fresh_id)
    refusal = _refusal(cluster, info, call)
    if refusal is not None:
        cluster.note("framework refused", framework=info.framework_id[:MAX_ID_LENGTH], why=refusal.message)
        cluster.refuse_stream(stream, refusal)
        return
    framework = cluster.frameworks.get(info.framework_id)
    if framework is None:
        framework = cluster.frameworks[info.framework_id] = Framework(info, call.session)
        cluster.note("framework admitted", framework=info.framework_id, name=info.name)
    else:
        _end_old_stream(cluster, framework)
        for client in framework.clients.values():
            demands.forget(cluster, client)
        cluster.leave(framework, framework.info.roles)
    _connect(cluster, framework, stream, replace(call, framework=info))


def _refusal(cluster: Cluster, info: FrameworkInfo, call: Subscribe) -> StreamRefused | None:
    try:
        _check(cluster, info)
    except InvalidInput as error:
        return StreamRefused(RefusalCode.INVALID, str(error))
    if info.framework_id in cluster.completed:
        return StreamRefused(
            RefusalCode.REMOVED, f"framework {info.framework_id} was removed; a new one needs a new id"
        )
    framework = cluster.frameworks.get(info.framework_id)
    if framework is None:
        most = cluster.settings.max_frameworks
        if len(cluster.frameworks) >= most:
            return StreamRefused(RefusalCode.TOO_SLOW, f"the cluster has {most} frameworks, its bound (max_frameworks)")
        return None
    if framework.info.roles and framework.info.principal != info.principal:
        return StreamRefused(
            RefusalCode.PRINCIPAL_CHANGED,
            str(InvalidInput("framework.principal", info.principal, repr(framework.info.principal))),
        )
    if call.session <= framework.session:
        text = f"session {call.session} is not newer than {framework.session}: another scheduler has taken over"
        return StreamRefused(RefusalCode.SUPERSEDED, text)
    return None


def _check(cluster: Cluster, info: FrameworkInfo) -> None:
    checked_id("framework.framework_id", info.framework_id)
    for field, text, least in (("name", info.name, 1), ("principal", info.principal, 0), ("web_url", info.web_url, 0)):
        if not least <= len(text) <= MAX_TEXT:
            raise InvalidInput(f"framework.{field}", text, f"{least} to {MAX_TEXT} characters")
    checked_labels("framework.labels", info.labels)
    most = cluster.settings.max_roles_per_framework
    if not 1 <= len(info.roles) <= most or len(set(info.roles)) < len(info.roles):
        raise InvalidInput("framework.roles", info.roles, f"1 to {most} roles, each once")
    for role in info.roles:
        checked_role("framework.roles", role)
    if not 0 <= info.failover_timeout_ms <= MAX_MILLISECONDS:
        raise InvalidInput("framework.failover_timeout_ms", info.failover_timeout_ms, f"0 to {MAX_MILLISECONDS}")


def _end_old_stream(cluster: Cluster, framework: Framework) -> None:
    if framework.stream is not None:
        cluster.scheduler_streams.pop(framework.stream, None)
        text = "a newer scheduler with this framework id has subscribed"
        cluster.refuse_stream(framework.stream, StreamRefused(RefusalCode.SUPERSEDED, text))
        framework.stream = None
    _release_offers(cluster, framework)


def _release_offers(cluster: Cluster, framework: Framework) -> None:
    """Take back what a scheduler that is not there any more was offered, and what was kept for its demand."""
    for offer in list(framework.offers.values()):
        cluster.close_offer(offer)
    for client in framework.clients.values():
        for wanted in client.wanted.values():
            cluster.release_claims(wanted)


def _connect(cluster: Cluster, framework: Framework, stream: StreamId, call: Subscribe) -> None:
    framework.info = call.framework
    framework.session = call.session
    framework.stream = stream
    framework.failover_deadline = None
    cluster.absent.pop(framework.id, None)
    framework.suppressed = set(call.suppressed_roles) & set(call.framework.roles)
    framework.uses_demand = call.uses_demand
    cluster.scheduler_streams[stream] = framework
    cluster.join(framework)
    for client in framework.clients.values():
        cluster.filters.clear_client(client)
    cluster.persist_framework(framework)
    settings = cluster.settings
    cluster.tell(
        framework,
        Subscribed(
            framework.id,
            cluster.id,
            int(settings.silence_timeout_s * 1000),
            int(settings.heartbeat_s * 1000),
            int(settings.offer_timeout_s * 1000),
        ),
    )
    waiting = [update for task in framework.tasks.values() for update in task.unacknowledged]
    cluster.tell_updates(framework, waiting)
    cluster.inverse_offers.tell_again(framework)
    _make_hungry(cluster, framework)
    cluster.touch("framework", framework.id)


def update(cluster: Cluster, framework: Framework, call: UpdateFramework) -> None:
    """Change what may change; raise InvalidInput and change nothing when it may not."""
    info = replace(call.framework, framework_id=framework.id)
    _check(cluster, info)
    if info.principal != framework.info.principal:
        raise InvalidInput("framework.principal", info.principal, repr(framework.info.principal))
    dropped = [role for role in framework.info.roles if role not in info.roles]
    for role in dropped:
        demands.forget(cluster, cluster.client(framework, role))
    cluster.leave(framework, dropped)
    framework.info = info
    framework.suppressed.difference_update(dropped)
    cluster.join(framework)
    cluster.persist_framework(framework)
    theirs = [offer for offer in framework.offers.values() if offer.role in dropped]
    cluster.rescind(theirs, RescindReason.FRAMEWORK_CHANGED)
    _make_hungry(cluster, framework)
    cluster.touch("framework", framework.id)


def revive(cluster: Cluster, framework: Framework, call: Revive) -> None:
    """Clear filters and let offers flow again, at once (rule 5)."""
    for role in _named_roles(framework, call.roles):
        framework.suppressed.discard(role)
        client = cluster.client(framework, role)
        cluster.filters.clear_client(client)
        client.idle_until = 0.0
        demands.look_anew(cluster, client)
    cluster.touch("framework", framework.id)


def suppress(cluster: Cluster, framework: Framework, call: Suppress) -> None:
    """Stop new offers; those that are out stay (rule 6)."""
    framework.suppressed.update(_named_roles(framework, call.roles))
    cluster.touch("framework", framework.id)


def state_demand(cluster: Cluster, framework: Framework, call: UpdateDemand, now: float) -> None:
    """Take what the framework wants next in a role."""
    [role] = _named_roles(framework, (call.role,))
    most = cluster.settings.max_demands_per_role
    if len(call.demands) > most:
        raise InvalidInput("update_demand.demands", len(call.demands), f"at most {most} (max_demands_per_role)")
    for demand in call.demands:
        checked_demand("update_demand.demand", demand)
    demands.state(cluster, cluster.client(framework, role), call.demands, now)


def _make_hungry(cluster: Cluster, framework: Framework) -> None:
    for role in framework.info.roles:
        demands.look_anew(cluster, cluster.client(framework, role))


def _named_roles(framework: Framework, roles: tuple[Role, ...]) -> tuple[Role, ...]:
    for role in roles:
        if role not in framework.info.roles:
            raise InvalidInput("roles", role, f"those of the framework: {', '.join(framework.info.roles)}")
    return roles or framework.info.roles


def stream_closed(cluster: Cluster, stream: StreamId, now: float) -> None:
    """Keep a disconnected framework's tasks until its failover deadline, which the store counts (rule 16)."""
    framework = cluster.scheduler_streams.pop(stream, None)
    if framework is None:
        return
    framework.stream = None
    framework.failover_deadline = now + framework.info.failover_timeout_ms / 1000
    cluster.absent[framework.id] = framework
    _release_offers(cluster, framework)
    cluster.persist_framework(framework)
    cluster.note("framework disconnected", framework=framework.id, name=framework.info.name)
    cluster.touch("framework", framework.id)


def remove(cluster: Cluster, framework: Framework, why: str) -> None:
    """End a framework: its id is never admitted again, its tasks are killed; agents say when each has ended."""
    framework.is_completed = True
    framework.failover_deadline = None
    cluster.persist_framework(framework)
    if framework.stream is not None:
        cluster.scheduler_streams.pop(framework.stream, None)
        cluster.refuse_stream(framework.stream, StreamRefused(RefusalCode.REMOVED, why))
        framework.stream = None
    _release_offers(cluster, framework)
    for inverse in cluster.inverse_offers.of_framework(framework.id):
        cluster.inverse_offers.end(inverse)
    for client in framework.clients.values():
        demands.forget(cluster, client)
    cluster.leave(framework, framework.info.roles)
    cluster.absent.pop(framework.id, None)
    del cluster.frameworks[framework.id]
    cluster.completed[framework.id] = framework
    agents = {task.agent.id: task.agent for task in framework.tasks.values()}
    for agent in agents.values():
        cluster.order(agent, ShutdownFramework(framework.id))
    for task in list(framework.tasks.values()):
        if task.state.is_terminal:
            cluster.forget_task(task)
        else:
            task.kill_reason = Reason.FRAMEWORK_REMOVED
    cluster.note("framework removed", framework=framework.id, name=framework.info.name, why=why)
    cluster.touch("framework", framework.id)


def teardown_asked(cluster: Cluster, framework_id: FrameworkId) -> RunrigError | None:
    """Remove a framework as an operator asks; one that is removed already is no error."""
    if framework_id in cluster.completed:
        return None
    framework = cluster.frameworks.get(framework_id)
    if framework is None:
        return NotFound("framework", framework_id, "see `runrig frameworks ls`")
    remove(cluster, framework, "an operator removed the framework")
    return None
