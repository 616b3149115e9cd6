"""What operators see as it happens: Mesos calls it the event stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from runrig.v1 import operator_pb2
from tests.conformance.cases import Need, case
from tests.conformance.cluster import Cluster
from tests.conformance.messages import FINISHED, spec


async def changes(cluster: Cluster) -> AsyncGenerator[operator_pb2.Change, None]:
    """Yield what a watcher is told."""
    async for response in cluster.operator.Watch(operator_pb2.WatchRequest()):
        for change in response.changes:
            yield change


@case(mesos=(60,), needs=(Need.WIRE,))
async def test_a_watcher_is_told_what_is_there_and_then_what_changes(cluster: Cluster) -> None:
    scheduler, agent = await cluster.running(spec("t"))
    told = changes(cluster)
    there: set[str] = set()
    async for change in told:
        if change.HasField("snapshot_end"):
            break
        there |= {change.agent.agent_id, change.framework.framework_id, change.task.task_id}
    assert {agent.id, scheduler.id, "t"} <= there

    await agent.says(scheduler, "t", FINISHED, 2)

    async for change in told:
        if change.task.task_id == "t" and change.task.state == FINISHED:
            break
    await told.aclose()
