"""Why it waits, what it holds, what would help: by the predicates that decide, run dry."""

from __future__ import annotations

from runrig_master.core.cluster import Cluster
from runrig_master.core.explanation import Explanation, Subject


def explain(cluster: Cluster, subject: Subject, now: float) -> Explanation:
    """Explain a subject as it stands at `now`; raise NotFound, or InvalidInput when it may mean several.

    Changes nothing. Raises NotImplementedError as long as there is no answer to give.
    """
    raise NotImplementedError("this master cannot explain yet")


def pending_by_reason(cluster: Cluster, now: float) -> dict[str, int]:
    """Count at `now` the tasks that are wanted and have no offer, by the predicate that turns them away first."""
    assert now >= 0
    wanted = sum(
        client.tasks_wanted for framework in cluster.frameworks.values() for client in framework.clients.values()
    )
    return {"unexplained": wanted} if wanted else {}
