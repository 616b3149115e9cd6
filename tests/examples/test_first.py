"""The first test of docs/testing.md."""

from __future__ import annotations

from runrig import Wants, task
from runrig.testing import Cluster


def make_web() -> Wants:
    wants = Wants()
    wants.keep("web", 4, task("serve", cpus=1, mem="64M", ports=1))
    return wants


def test_a_lost_agents_tasks_are_replaced() -> None:
    cluster = Cluster()
    cluster.agents(3, "cpus:4;mem:8G;ports:[31000-31099]", rack=["a", "b", "c"])
    web = cluster.run("web", make_web)
    cluster.until(lambda: web.count() == 4)

    cluster.kill("agent-1")
    cluster.advance("80s")

    assert web.count() == 4
    assert all(view.agent_id != "agent-1" for view in web.tasks.values() if not view.is_stopping)
