from __future__ import annotations

import json
import re

from runrig.v1 import operator_pb2 as pb
from runrig.v1 import resources_pb2, tasks_pb2
from tests.cli.conftest import Runrig
from tests.cli.fake_master import FakeMaster
from tests.cli.test_output import on_terminal

PROMISED = """
    id name framework framework_id agent_id hostname role state reason message runtime container_id pid
    resources started_at finished_at
"""
LAUNCHED = 1_795_293_660_123  # 2026-11-21T20:41:00.123Z


def task(
    identity: str, state: tasks_pb2.TaskState.ValueType = tasks_pb2.TASK_RUNNING, framework: str = "f1"
) -> pb.Task:
    return pb.Task(
        task_id=identity,
        name="web",
        framework_name="service",
        framework_id=framework,
        agent_id="a1",
        hostname="agent-1",
        role="eng",
        state=state,
        reason=tasks_pb2.REASON_EXITED,
        source=tasks_pb2.SOURCE_AGENT,
        runtime=tasks_pb2.RUNTIME_KIND_DOCKER,
        container_id="0123456789abcdef",
        resources=resources_pb2.Resources(
            cpu_millis=1500, mem_mib=512, ports=[resources_pb2.PortRange(begin=31000, end=31001)]
        ),
        launched_at_unix_ms=LAUNCHED,
        labels=[resources_pb2.Label(name="app", value="/web")],
    )


def agent(identity: str, hostname: str) -> pb.Agent:
    return pb.Agent(
        agent_id=identity,
        hostname=hostname,
        state=pb.AGENT_STATE_ACTIVE,
        attributes=[resources_pb2.Attribute(name="rack", value="a")],
        total=resources_pb2.Resources(cpu_millis=4000, mem_mib=8192),
        used=resources_pb2.Resources(cpu_millis=1500, mem_mib=512),
        free=resources_pb2.Resources(cpu_millis=2500, mem_mib=7680),
        runtimes=[tasks_pb2.RUNTIME_KIND_DOCKER, tasks_pb2.RUNTIME_KIND_PROCESS],
        tasks=1,
    )


def framework(identity: str, name: str) -> pb.Framework:
    return pb.Framework(
        framework_id=identity,
        name=name,
        roles=["eng"],
        state=pb.FRAMEWORK_STATE_ACTIVE,
        connected=True,
        tasks_by_state={"TASK_RUNNING": 2, "TASK_FINISHED": 3},
    )


def test_tasks_are_listed_with_all_that_programs_need(master: FakeMaster, runrig: Runrig) -> None:
    master.tasks = [task("web-1")]

    [found] = json.loads(runrig("tasks", "ls", "-o", "json").stdout)

    assert found["id"] == "web-1"
    assert found["framework"] == "service"
    assert found["state"] == "TASK_RUNNING"
    assert found["reason"] == "EXITED"
    assert found["runtime"] == "docker"
    assert found["container_id"] == "0123456789abcdef"
    assert found["pid"] is None
    assert found["resources"]["cpu_millis"] == 1500
    assert found["resources"]["ports"] == [[31000, 31001]]
    assert found["launched_at"] == "2026-11-21T20:41:00.123Z"
    assert found["started_at"] is None
    assert found["labels"] == {"app": "/web"}


def test_json_has_at_least_what_the_issue_promises(master: FakeMaster, runrig: Runrig) -> None:
    master.tasks, master.agents = [task("web-1")], [agent("a1", "agent-1")]
    master.frameworks = [framework("f1", "service")]

    [one_task] = json.loads(runrig("tasks", "ls", "-o", "json").stdout)
    [one_agent] = json.loads(runrig("agents", "ls", "-o", "json").stdout)
    [one_framework] = json.loads(runrig("frameworks", "ls", "-o", "json").stdout)

    assert set(PROMISED.split()) <= set(one_task)
    assert set(one_agent) >= {"id", "hostname", "state", "attributes", "resources"}
    assert set(one_agent["resources"]) == {"total", "used", "offered", "free"}
    assert set(one_framework) >= {"id", "name", "roles", "state", "connected", "tasks_by_state"}


def test_all_pages_are_followed(master: FakeMaster, runrig: Runrig) -> None:
    master.tasks = [task(f"web-{number}") for number in range(7)]
    master.page = 3

    assert runrig("tasks", "ls", "-o", "name").stdout.splitlines() == [f"web-{number}" for number in range(7)]


def test_tasks_of_one_age_are_listed_in_the_order_of_their_numbers(master: FakeMaster, runrig: Runrig) -> None:
    master.tasks = [task("job-10"), task("job-9"), task("7"), task("a")]

    assert runrig("tasks", "ls", "-o", "name").stdout.split() == ["7", "a", "job-9", "job-10"]


def test_ended_tasks_are_listed_only_when_asked_for(master: FakeMaster, runrig: Runrig) -> None:
    master.tasks = [task("web-1"), task("web-2", tasks_pb2.TASK_FAILED)]

    assert runrig("tasks", "ls", "-o", "name").stdout == "web-1\n"
    assert runrig("tasks", "ls", "--all", "-o", "name").stdout == "web-1\nweb-2\n"
    assert runrig("tasks", "ls", "--state", "failed", "-o", "name").stdout == "web-2\n"


def test_tasks_are_filtered_by_the_names_of_framework_and_agent(master: FakeMaster, runrig: Runrig) -> None:
    master.frameworks = [framework("f1", "service"), framework("f2", "batch")]
    master.agents = [agent("a1", "agent-1"), agent("a2", "agent-2")]
    master.tasks = [task("web-1"), task("job-1", framework="f2")]

    assert runrig("tasks", "ls", "--framework", "batch", "-o", "name").stdout == "job-1\n"
    assert runrig("tasks", "ls", "--agent", "agent-2", "-o", "name").stdout == ""


def test_a_table_of_tasks_fits_a_terminal_of_80_columns(master: FakeMaster, runrig: Runrig) -> None:
    names = [f"web-shop.0b2c3d4e-1111-2222-3333-44445555666{number}" for number in range(3)]
    master.tasks = [task(name, tasks_pb2.TASK_STARTING) for name in names]
    master.tasks[0].message = "pulling an image with a very long name: layer 3 of 17, 52% of 1.2 GB"

    shown = on_terminal("from runrig.cli.main import main; main(['tasks', 'ls'])", {"NO_COLOR": "1"})

    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert len(lines) == 4
    assert [line for line in lines if len(line.rstrip()) > 80] == []
    for line, name in zip(lines[1:], names, strict=True):
        assert runrig("tasks", "show", line.split()[0], "-o", "name").stdout == f"{name}\n"


def test_one_task_is_shown_by_the_beginning_of_its_id_even_when_it_has_ended(
    master: FakeMaster, runrig: Runrig
) -> None:
    master.tasks = [task("web-1", tasks_pb2.TASK_FAILED), task("job-1")]

    assert json.loads(runrig("tasks", "show", "web", "-o", "json").stdout)["id"] == "web-1"
    assert "State:" in runrig("tasks", "show", "web").stdout


def test_a_live_task_wins_over_ended_ones(master: FakeMaster, runrig: Runrig) -> None:
    master.tasks = [task("web-1", tasks_pb2.TASK_FAILED), task("web-2")]

    assert json.loads(runrig("tasks", "show", "web", "-o", "json").stdout)["id"] == "web-2"


def test_a_whole_id_means_that_task_and_no_live_one_that_it_begins(master: FakeMaster, runrig: Runrig) -> None:
    master.tasks = [task("web-1", tasks_pb2.TASK_FAILED), task("web-12")]

    assert json.loads(runrig("tasks", "show", "web-1", "-o", "json").stdout)["id"] == "web-1"
    assert runrig("kill", "web-1").stderr == "it had ended already: TASK_FAILED\n"
    assert master.told == []


def test_an_unknown_task_ends_with_3_and_an_ambiguous_one_with_2(master: FakeMaster, runrig: Runrig) -> None:
    master.tasks = [task("web-1"), task("web-2")]

    missing, ambiguous = runrig("tasks", "show", "nope"), runrig("tasks", "show", "web")

    assert (missing.exit_code, ambiguous.exit_code) == (3, 2)
    assert missing.stderr == "runrig: there is no task 'nope'; `runrig tasks ls` lists those there are\n"
    assert "web-1, web-2" in ambiguous.stderr


def test_kill_tells_the_master_the_whole_id_the_framework_and_the_grace(master: FakeMaster, runrig: Runrig) -> None:
    master.tasks = [task("web-1")]

    result = runrig("kill", "web", "--grace", "1500ms")

    assert result.stdout == "web-1\n"
    [told] = master.told
    assert isinstance(told, pb.KillTaskRequest)
    assert (told.task_id, told.framework_id, told.kill_policy.grace_ms) == ("web-1", "f1", 1500)


def test_killing_what_has_ended_says_so(master: FakeMaster, runrig: Runrig) -> None:
    master.tasks = [task("web-1", tasks_pb2.TASK_FINISHED)]

    assert runrig("kill", "web-1").stderr == "it had ended already: TASK_FINISHED\n"


def test_agents_are_named_by_hostname(master: FakeMaster, runrig: Runrig) -> None:
    master.agents = [agent("9f3c", "agent-1"), agent("77aa", "agent-11")]

    assert json.loads(runrig("agents", "show", "agent-1", "-o", "json").stdout)["id"] == "9f3c"
    assert runrig("agents", "deactivate", "agent-11").stdout == "77aa\n"
    assert master.told == [pb.DeactivateAgentRequest(agent_id="77aa")]


def test_what_the_master_refuses_ends_with_5(master: FakeMaster, runrig: Runrig) -> None:
    master.agents = [agent("9f3c", "agent-1")]

    result = runrig("agents", "reactivate", "agent-1")

    assert (result.exit_code, result.stderr) == (5, "runrig: it is active already\n")


def test_a_script_may_declare_an_agent_gone_without_being_asked(master: FakeMaster, runrig: Runrig) -> None:
    master.agents = [agent("9f3c", "agent-1")]

    assert runrig("agents", "gone", "9f").stdout == "9f3c\n"
    assert master.told == [pb.MarkAgentGoneRequest(agent_id="9f3c")]


def test_a_framework_is_torn_down_by_name(master: FakeMaster, runrig: Runrig) -> None:
    master.frameworks = [framework("f1", "service")]

    assert runrig("frameworks", "teardown", "service").stdout == "f1\n"
    assert master.told == [pb.TeardownFrameworkRequest(framework_id="f1")]


def test_a_state_that_this_version_does_not_know_is_shown_as_its_number(master: FakeMaster, runrig: Runrig) -> None:
    newer = pb.Agent(agent_id="a1", hostname="agent-1")
    newer.MergeFromString(pb.Agent(agent_id="a1").SerializeToString() + bytes([5 << 3, 99]))
    master.agents = [newer]

    [found] = json.loads(runrig("agents", "ls", "-o", "json").stdout)

    assert found["state"] == "99"


def test_roles_and_offers_are_listed(master: FakeMaster, runrig: Runrig) -> None:
    master.roles = [pb.Role(role="eng", weight_millis=2000, frameworks=1, dominant_share_millionths=333_333)]
    master.offers = [pb.OutstandingOffer(offer_id="o1", framework_id="f1", hostname="agent-1", role="eng")]

    assert runrig("roles", "ls").stdout.splitlines()[1].split("\t") == [
        "eng",
        "2",
        "33.3%",
        "1",
        "0",
        "0M",
        "0",
        "-",
        "-",
    ]
    assert runrig("offers", "ls", "-o", "name").stdout == "o1\n"
    assert runrig("roles", "show", "eng").exit_code == 0
    assert runrig("offers", "show", "o").exit_code == 0


def test_a_standby_is_left_for_its_leader(master: FakeMaster, runrig: Runrig) -> None:
    master.tasks = [task("web-1")]
    with FakeMaster(leader=master.address).serve() as standby:
        assert runrig("tasks", "ls", "-o", "name", "--master", standby.address).stdout == "web-1\n"


def test_masters_that_do_not_answer_are_passed_over(master: FakeMaster, runrig: Runrig) -> None:
    master.tasks = [task("web-1")]

    assert runrig("tasks", "ls", "-o", "name", "--master", f"127.0.0.1:1,{master.address}").stdout == "web-1\n"


def test_no_master_ends_with_4_and_says_what_to_do(runrig: Runrig) -> None:
    result = runrig("agents", "ls", "--master", "127.0.0.1:1")

    assert result.exit_code == 4
    assert result.stdout == ""
    assert result.stderr == (
        "runrig: no master answers at 127.0.0.1:1; "
        "start a cluster with `runrig dev`, or name the master with --master or RUNRIG_MASTER\n"
    )


def test_version_tells_both_versions(master: FakeMaster, runrig: Runrig) -> None:
    both = json.loads(runrig("version", "-o", "json").stdout)

    assert both["client"]
    assert (both["server"]["version"], both["server"]["epoch"]) == ("9.9", 3)


def test_version_without_a_master_tells_its_own_and_is_no_failure(runrig: Runrig) -> None:
    result = runrig("version", "--master", "127.0.0.1:1")

    assert result.exit_code == 0
    assert result.stdout.startswith("client: ")
    assert "no master answers" in result.stderr
