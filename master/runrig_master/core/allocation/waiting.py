"""What is done for demand that a pass has left waiting: held offers are called in, gangs lay away, victims are chosen.

Each looks only at demand that waits, so a cluster in which nothing waits pays nothing.
"""

from __future__ import annotations

from runrig_master.core.allocation import layaway, letting_go, preemption
from runrig_master.core.cluster import Cluster


def look_after(cluster: Cluster, now: float) -> bool:
    """Do what is due for demand that waits; True: something has become free, and another pass is worth it."""
    preemption.call_off(cluster)
    layaway.end_overdue(cluster, now)
    if not cluster.backlog.waiting:
        cluster.backlog.looked_after_at = now
        return False
    is_freed = letting_go.call_in(cluster, now)
    layaway.begin(cluster, now)
    preemption.choose_victims(cluster, now)
    cluster.backlog.looked_after_at = now
    return is_freed


def next_deadline(cluster: Cluster) -> float | None:
    """Return when something is due for demand that waits, even if nothing happens."""
    dues = [layaway.next_deadline(cluster)]
    if cluster.backlog.waiting:
        dues += [letting_go.next_deadline(cluster), preemption.next_deadline(cluster)]
    return min((due for due in dues if due is not None), default=None)
