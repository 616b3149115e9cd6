from __future__ import annotations

import pytest

from runrig.cli import tasks_end
from runrig.cli.tasks_end import end_tasks, settled
from runrig.errors import Unavailable
from runrig.v1 import operator_pb2 as pb
from runrig.v1 import tasks_pb2
from tests.cli.fake_master import FakeMaster
from tests.cli.test_operator import agent, framework, task


def ignore(_text: str) -> None: ...


async def test_a_cluster_is_settled_once_agents_and_frameworks_are_there(master: FakeMaster) -> None:
    master.agents, master.frameworks = [agent("a1", "agent-1")], [framework("f1", "batch")]
    told: list[str] = []

    await settled(master.address, {"agent-1"}, 1, told.append)

    assert told == []


async def test_an_agent_that_can_run_nothing_is_told_of(master: FakeMaster) -> None:
    master.agents = [pb.Agent(agent_id="a1", hostname="agent-1", state=pb.AGENT_STATE_ACTIVE)]
    told: list[str] = []

    await settled(master.address, {"agent-1"}, 0, told.append)

    assert told == ["agent-1 can run no task: no runtime works there; its log says why"]


async def test_what_is_missing_is_named_when_patience_is_over(master: FakeMaster) -> None:
    master.agents = [agent("a1", "agent-1")]

    with pytest.raises(Unavailable, match="agent-2 is missing, and 0 of 2 frameworks are connected"):
        await settled(master.address, {"agent-1", "agent-2"}, 2, ignore, patience_s=0.3)


async def test_the_tasks_of_a_cluster_that_goes_on_later_are_killed_one_by_one(master: FakeMaster) -> None:
    master.tasks = [task("web-1"), task("web-2"), task("web-3", tasks_pb2.TASK_FINISHED)]
    told: list[str] = []

    await end_tasks(master.address, teardown=False, tell=told.append)

    assert [each.task_id for each in master.told if isinstance(each, pb.KillTaskRequest)] == ["web-1", "web-2"]
    assert told == ["ending 2 tasks"]


async def test_the_frameworks_of_a_cluster_that_ends_for_good_are_torn_down(master: FakeMaster) -> None:
    master.tasks, master.frameworks = [task("web-1")], [framework("f1", "service")]

    await end_tasks(master.address, teardown=True, tell=ignore)

    assert master.told == [pb.TeardownFrameworkRequest(framework_id="f1")]


async def test_nobody_waits_for_tasks_on_agents_that_nobody_hears(master: FakeMaster) -> None:
    master.tasks, master.immortal = [task("web-1", tasks_pb2.TASK_UNREACHABLE)], ("web",)

    await end_tasks(master.address, teardown=False, tell=ignore)


async def test_tasks_that_do_not_end_are_named(master: FakeMaster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_end, "PATIENCE_S", 0.3)
    master.tasks, master.immortal = [task("web-1")], ("web",)

    with pytest.raises(Unavailable, match=r"1 tasks have not ended after 0\.3 s: web-1 on agent-1"):
        await end_tasks(master.address, teardown=False, tell=ignore)
