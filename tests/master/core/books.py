"""The sums that the core's books must equal after every event."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from runrig.offers import InverseOfferReason
from runrig.resources import Resources
from runrig_master.core.cluster import Cluster
from runrig_master.core.pools import Pool
from runrig_master.core.resources import Holding
from runrig_master.core.state import Agent, Framework, OutstandingOffer, Presence, Task

DIMENSIONS = ("cpu_millis", "mem_mib", "disk_mib", "gpus")
Amounts = Counter[str]


def amounts(resources: Resources | Holding) -> Amounts:
    """Count each dimension; each port is one of its own."""
    if isinstance(resources, Resources):
        return _counted(resources).copy()
    return Counter({name: amount for name in DIMENSIONS if (amount := getattr(resources, name))})


@lru_cache(maxsize=1024)
def _counted(resources: Resources) -> Amounts:
    counted = Counter({name: getattr(resources, name) for name in DIMENSIONS})
    counted.update({f"port {port}": 1 for begin, end in resources.ports for port in range(begin, end + 1)})
    counted.update(dict(resources.custom))
    return Counter({name: amount for name, amount in counted.items() if amount})


def fair(resources: Resources) -> Amounts:
    """Count the dimensions that fairness knows."""
    return Counter({name: getattr(resources, name) for name in DIMENSIONS if getattr(resources, name)})


def check_books(cluster: Cluster) -> None:
    """Assert that all that the core keeps twice agrees."""
    for agent in cluster.agents.values():
        _check_agent(agent)
    _check_offers(cluster)
    _check_tasks(cluster)
    _check_holdings(cluster)
    _check_lists(cluster)
    _check_inverse_offers(cluster)
    for framework in (*cluster.frameworks.values(), *cluster.completed.values()):
        _check_groups(framework)


def _check_groups(framework: Framework) -> None:
    """Assert that of each group just the tasks that live and those that are offered are counted, by their places."""
    expected: Counter[tuple[str, str, str]] = Counter()
    for task in framework.tasks.values():
        if not task.state.is_terminal:
            expected.update((task.terms.group, *pair) for pair in task.agent.attributes)
    for offer in framework.offers.values():
        for wanted, count in offer.parts:
            for name, value in offer.agent.attributes:
                expected[wanted.demand.group, name, value] += count
    counted = {
        (group, name, value): count
        for group in framework.groups
        for name, values in framework.groups.counts(group).items()
        for value, count in values.items()
    }
    assert counted == dict(expected), f"{framework.id} counts {counted}, there are {expected}"


def _check_agent(agent: Agent) -> None:
    alive = [task for task in agent.tasks.values() if not task.state.is_terminal]
    total, free = amounts(agent.info.resources), amounts(agent.free)
    total -= Counter(disk_mib=sum(record.volume.disk_mib for record in agent.reserves.volumes.values()))
    used: Amounts = sum((amounts(task.resources) for task in alive), Counter())
    offered: Amounts = sum(
        (amounts(offer.resources) for offer in agent.offers.values() if not offer.is_optimistic), Counter()
    )
    assert all(amount >= 0 for amount in free.values()), f"{agent.id} has {free} free"
    if agent.is_overcommitted:
        pools = agent.pools.values()
        reserved: Amounts = sum((amounts(pool.total) for pool in pools if pool.reservation), Counter())
        assert _is_beyond(used + offered, total) or _is_beyond(reserved, total) or any(map(_is_pool_beyond, pools))
        assert all(amount == total[name] - used[name] - offered[name] for name, amount in free.items())
    else:
        assert used == amounts(agent.used), f"{agent.id} uses {used}, its books say {agent.used}"
        assert used + offered + free == total, f"{agent.id}: {used} + {offered} + {free} is not {total}"
    if agent.presence is not Presence.CONNECTED or agent.is_deactivated or agent.drain is not None:
        assert not agent.offers, f"{agent.id} is {agent.presence.value}, and offered"
    assert (agent.stream is not None) == (agent.presence is Presence.CONNECTED)
    in_pool = agent.presence in (Presence.CONNECTED, Presence.DISCONNECTED)
    assert agent.is_counted == in_pool
    assert set(agent.pools) == {"", *agent.reserves.reservations}, f"{agent.id} has the pools {list(agent.pools)}"
    for pool in agent.pools.values():
        _check_pool(pool)
    _check_volumes(agent)


def _check_volumes(agent: Agent) -> None:
    """Assert that a volume is with one task or one offer at a time, and with none when it is doomed."""
    exclusive = [offer for offer in agent.offers.values() if not offer.is_optimistic]
    holders = Counter(volume_id for offer in exclusive for volume_id in held(offer))
    holders.update(
        volume_id
        for task in agent.tasks.values()
        if not task.state.is_terminal
        for volume_id in set(task.volume_ids) & set(agent.reserves.volumes)
    )
    assert all(number == 1 for number in holders.values()), f"volumes of {agent.id} are held more than once: {holders}"
    offered = {volume_id for offer in agent.offers.values() for volume_id in held(offer)}
    assert not offered & set(agent.reserves.doomed)
    assert offered <= set(agent.reserves.volumes)


def held(offer: OutstandingOffer) -> set[str]:
    """Return the ids of the volumes that an offer holds."""
    return {volume.volume_id for volume in offer.volumes}


def _check_pool(pool: Pool) -> None:
    used, free, total = _used(pool), amounts(pool.free), amounts(pool.total)
    if pool.is_overcommitted:
        taken = used + amounts(pool.offered)
        assert all(amount <= total[name] - taken[name] for name, amount in free.items())
    else:
        assert used == amounts(pool.used)
        assert used + amounts(pool.offered) + free == total


def _used(pool: Pool) -> Amounts:
    alive = [task for task in pool.agent.tasks.values() if not task.state.is_terminal and task.pool is pool]
    return sum((amounts(task.resources) for task in alive), Counter())


def _is_pool_beyond(pool: Pool) -> bool:
    return _is_beyond(_used(pool) + amounts(pool.offered), amounts(pool.total))


def _is_beyond(taken: Amounts, total: Amounts) -> bool:
    return any(taken[name] > total[name] for name in taken)


def _check_offers(cluster: Cluster) -> None:
    for offer_id, offer in cluster.offers.items():
        assert offer.id == offer_id
        assert offer.agent.offers[offer_id] is offer
        assert offer.framework.offers[offer_id] is offer
        assert offer.framework.stream is not None
        assert offer.role in offer.framework.info.roles
        assert not offer.resources.is_empty
    count = len(cluster.offers)
    assert sum(len(agent.offers) for agent in cluster.agents.values()) == count
    assert sum(len(item.offers) for item in cluster.frameworks.values()) == count


def _check_tasks(cluster: Cluster) -> None:
    alive = 0
    for framework in (*cluster.frameworks.values(), *cluster.completed.values()):
        for task in framework.tasks.values():
            assert task.framework is framework
            assert task.agent.tasks[task.key] is task
            assert cluster.agents[task.agent.id] is task.agent
            alive += not task.state.is_terminal
            _check_task(task)
        for task in framework.ended.values():
            assert task.state.is_terminal
            assert task.agent.tasks.get(task.key) is not task
    for agent in cluster.agents.values():
        for task in agent.tasks.values():
            assert task.framework.tasks[task.id] is task
    assert cluster.tasks_alive == alive


def _check_task(task: Task) -> None:
    assert task.acknowledged <= task.latest
    assert not task.is_settled
    assert all(task.acknowledged < update.number <= task.latest for update in task.unacknowledged)


def _check_holdings(cluster: Cluster) -> None:
    by_role: dict[str, Amounts] = {}
    total: Amounts = Counter()
    for agent in cluster.agents.values():
        if agent.is_counted:
            total += fair(agent.info.resources)
    assert total == amounts(cluster.tree.total)
    for framework in (*cluster.frameworks.values(), *cluster.completed.values()):
        mine: dict[str, Amounts] = {}
        for offer in framework.offers.values():
            if not offer.is_optimistic:
                mine[offer.role] = mine.get(offer.role, Counter()) + fair(offer.resources)
        for task in framework.tasks.values():
            if not task.state.is_terminal and task.agent.is_counted:
                mine[task.role] = mine.get(task.role, Counter()) + fair(task.resources)
        for role in {*mine, *framework.clients}:
            client = framework.clients.get(role)  # type: ignore[call-overload]
            assert (amounts(client.holding) if client is not None else Counter()) == mine.get(role, Counter())
            by_role[role] = by_role.get(role, Counter()) + mine.get(role, Counter())
    for node in cluster.tree:
        assert amounts(node.own.holding) == by_role.pop(node.role, Counter())
        below: Amounts = sum((amounts(child.holding) for child in node.children.values()), Counter())
        assert amounts(node.holding) == amounts(node.own.holding) + below
    assert not any(by_role.values())


def _check_lists(cluster: Cluster) -> None:
    members = {node.role: {each.name for each in node.own.order.members()} for node in cluster.tree if node.clients}
    expected: dict[str, set[str]] = {}
    for framework in cluster.frameworks.values():
        assert not framework.is_completed
        assert (framework.id in cluster.absent) == (framework.stream is None)
        for role in framework.info.roles:
            expected.setdefault(role, set()).add(framework.id)
    assert members == expected
    assert all(framework.is_completed for framework in cluster.completed.values())
    assert not set(cluster.frameworks) & set(cluster.completed)
    waiting = (Presence.DISCONNECTED, Presence.RECOVERING)
    assert set(cluster.silent) == {agent.id for agent in cluster.agents.values() if agent.presence in waiting}
    for stream, agent in cluster.agent_streams.items():
        assert agent.stream == stream
    for stream, framework in cluster.scheduler_streams.items():
        assert framework.stream == stream


def _check_inverse_offers(cluster: Cluster) -> None:
    book = cluster.inverse_offers
    for inverse_id, inverse in book.standing.items():
        assert inverse.id == inverse_id
        assert inverse in book.of_framework(inverse.framework.id)
        assert inverse in book.of_agent(inverse.agent.id, inverse.reason)
        assert cluster.frameworks[inverse.framework.id] is inverse.framework
        assert inverse.agent.presence is not Presence.GONE
        assert inverse.tasks, f"{inverse_id} is met, and stands"
        for task in inverse.tasks.values():
            assert (task.framework, task.agent) == (inverse.framework, inverse.agent)
            assert not task.state.is_terminal
            assert book.asks_for(task, inverse.reason)
        if inverse.reason is InverseOfferReason.DRAIN:
            assert inverse.agent.drain is not None
            assert inverse.agent.drain.deadline == inverse.deadline
        if inverse.reason is InverseOfferReason.MAINTENANCE:
            assert inverse.agent.unavailability == inverse.unavailability
    for agent in cluster.agents.values():
        if agent.is_drained:
            assert agent.drain is not None
            assert not agent.tasks, f"{agent.id} is drained, and has tasks"


def _check_optimistic(cluster: Cluster) -> None:
    """Assert that optimistic offers stand on what is free, but for what was taken in this very turn."""
    for offer in cluster.offers.values():
        if offer.is_optimistic and offer.pool not in cluster.crowded:
            assert offer.pool.free.contains(offer.resources)
