"""What a pass of a master's core is about to decide, read off its books for the naive allocator.

Only what is true beside allocation is read: who is there, what is taken by whom, what is wanted, what was refused.
Nothing that the allocator keeps to be fast is looked at.
"""

from __future__ import annotations

from collections import Counter

from runrig_master.core import clients, pools
from runrig_master.core.cluster import Cluster
from runrig_master.core.quotas import Quota
from runrig_master.core.state import Agent, Framework, OutstandingOffer, Presence, Task
from tests.properties.amounts import SCALARS, counted
from tests.properties.naive_allocator import Ask, Client, Made, Owner, Pool, PoolKey, Scene


def scene_of(cluster: Cluster, now: float) -> Scene:
    """Read a scene."""
    settings = cluster.role_settings
    in_order = sorted((pool for agent in cluster.agents.values() for pool in agent.pools.values()), key=_slot)
    assert not any(pool.claims for pool in in_order), "claims are beyond the naive allocator"
    assert not cluster.recovering, "so are limits after a failover"
    scene = Scene(
        now,
        [_pool(pool, cluster.called_in) for pool in in_order],
        [
            _client(cluster, framework, client, now)
            for framework in cluster.frameworks.values()
            for client in framework.clients.values()
            if client.role in framework.info.roles and framework.takes_offers(client.role)
        ],
        Counter(),
        {},
        {role: record.weight_millis for role, record in settings.items()},
        {role: _amounts(record.limit) for role, record in settings.items() if record.limit is not None},
        {role: _amounts(record.guarantee) for role, record in settings.items() if record.guarantee is not None},
        is_demand_waiting=bool(cluster.backlog.waiting),
    )
    for agent in cluster.agents.values():
        if agent.presence in (Presence.CONNECTED, Presence.DISCONNECTED):
            scene.total.update(counted(agent.info.resources).scalars)
            for name, value in agent.attributes:
                scene.known.setdefault(name, set()).add(value)
    for framework in (*cluster.frameworks.values(), *cluster.completed.values()):
        for task in framework.tasks.values():
            _add_task(scene, task)
    for offer in cluster.offers.values():
        _add_offer(scene, offer)
    return scene


def made_of(offer: OutstandingOffer) -> Made:
    """Read an offer that a pass has made."""
    tasks: Counter[str] = Counter()
    for wanted, count in offer.parts:
        tasks[wanted.demand.demand_id] += count
    amounts = counted(offer.resources)
    return Made(offer.framework.id, offer.role, _key(offer.pool), offer.gang_id, amounts, tasks)


def _slot(pool: pools.Pool) -> int:
    return pool.slot


def _key(pool: pools.Pool) -> PoolKey:
    return (pool.agent.id, pool.reservation_id)


def _pool(pool: pools.Pool, called_in: pools.Bits) -> Pool:
    agent = pool.agent
    return Pool(
        _key(pool),
        agent.info.hostname,
        dict(agent.attributes),
        agent.info.runtimes,
        pool.reservation.role if pool.reservation is not None else "",
        counted(pool.free),
        _is_offerable(agent),
        agent.unavailability,
        bool(pool.bit & called_in),
    )


def _is_offerable(agent: Agent) -> bool:
    is_here = agent.presence is Presence.CONNECTED and agent.drain is None
    return is_here and not agent.is_deactivated and bool(agent.info.runtimes)


def _client(cluster: Cluster, framework: Framework, client: clients.Client, now: float) -> Client:
    in_order = sorted(client.wanted.values(), key=lambda wanted: wanted.order)
    declined = cluster.passed_on.get(client, 0)
    return Client(
        framework.id,
        client.role,
        framework.info.takes_gpus,
        framework.uses_demand,
        [_ask(framework, wanted) for wanted in in_order],
        [
            (_key(pool), counted(refusal.resources))
            for agent in cluster.agents.values()
            for pool in agent.pools.values()
            for refusal in cluster.filters.of(pool, client)
            if refusal.until > now
        ],
        {_key(pool) for pool in cluster.pools.within(declined)},
        client.idle_until > now,
    )


def _ask(framework: Framework, wanted: clients.Wanted) -> Ask:
    out = sum(count for offer in framework.offers.values() for each, count in offer.parts if each is wanted)
    return Ask(wanted.demand, wanted.count - out, out > 0)


def _amounts(quota: Quota) -> dict[str, int]:
    named = {name: getattr(quota, name) for name in SCALARS}
    return {name: amount for name, amount in named.items() if amount is not None}


def _add_task(scene: Scene, task: Task) -> None:
    if task.state.is_terminal:
        return
    for name, value in task.agent.attributes:
        scene.grouped[task.framework.id, task.terms.group, name, value] += 1
    if task.agent.is_counted:
        _hold(scene, (task.framework.id, task.role), counted(task.resources).scalars)


def _add_offer(scene: Scene, offer: OutstandingOffer) -> None:
    _hold(scene, (offer.framework.id, offer.role), counted(offer.resources).scalars)
    for wanted, count in offer.parts:
        for name, value in offer.agent.attributes:
            scene.grouped[offer.framework.id, wanted.demand.group, name, value] += count


def _hold(scene: Scene, owner: Owner, scalars: Counter[str]) -> None:
    scene.held.setdefault(owner, Counter()).update(scalars)
