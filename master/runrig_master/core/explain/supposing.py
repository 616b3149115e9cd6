"""What if: a change of the cluster that holds while a question is asked, and is undone whatever comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runrig.resources import Resources
from runrig_master.core.clients import Client
from runrig_master.core.cluster import Cluster
from runrig_master.core.pools import Pool
from runrig_master.core.state import OutstandingOffer, Task


@contextmanager
def more_free(pool: Pool, more: Resources, is_larger: bool = False) -> Iterator[None]:
    """Suppose that more of a pool were free, or that it were so much larger."""
    free, total = pool.free, pool.total
    pool.free = free + more.less_ports(free.ports)
    if is_larger:
        pool.total = total + more.less_ports(total.ports)
    try:
        yield
    finally:
        pool.free, pool.total = free, total


@contextmanager
def ended(cluster: Cluster, task: Task) -> Iterator[None]:
    """Suppose that a task had ended."""
    framework = task.framework
    client = framework.clients.get(task.role)
    framework.groups.add(task.terms.group, task.agent, -1)
    try:
        with more_free(task.pool, task.resources), _less_held(cluster, client if task.agent.is_counted else None, task):
            yield
    finally:
        framework.groups.add(task.terms.group, task.agent, 1)


@contextmanager
def let_go(cluster: Cluster, offer: OutstandingOffer) -> Iterator[None]:
    """Suppose that an offer had ended, and nothing of it were used."""
    groups = offer.framework.groups
    for wanted, count in offer.parts:
        groups.add(wanted.demand.group, offer.agent, -count)
    try:
        with more_free(offer.pool, offer.resources), _less_held(cluster, offer.client, offer):
            yield
    finally:
        for wanted, count in offer.parts:
            groups.add(wanted.demand.group, offer.agent, count)


@contextmanager
def _less_held(cluster: Cluster, client: Client | None, what: Task | OutstandingOffer) -> Iterator[None]:
    nodes = list(cluster.tree.path(client.node)) if client is not None else []
    for node in nodes:
        node.holding.remove(what.resources)
    try:
        yield
    finally:
        for node in nodes:
            node.holding.add(what.resources)
