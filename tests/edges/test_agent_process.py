"""The agent as a process of its own, with real files, real processes and a master on loopback."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from runrig._wire import ForwardedTask
from runrig.agents import DestroyAgentVolume, Launch, Register, VolumeDestroyed
from runrig.errors import EXIT_CONFLICT, EXIT_UNREACHABLE, EXIT_USAGE
from runrig.ids import Role, TaskId
from runrig.offers import RefusalCode, StreamRefused
from runrig.resources import Resources
from runrig.tasks import CheckKind, Command, Fetch, HealthCheck, Reason, RuntimeKind, TaskSpec, TaskState, Volume
from runrig.v1 import sandbox_pb2, sandbox_pb2_grpc, tasks_pb2
from tests.edges.agent_master import FRAMEWORK, FakeMaster
from tests.edges.agent_process import AgentProcess, appears, end_warden, running_agent, running_master, shell


@pytest.fixture
async def master() -> AsyncIterator[FakeMaster]:
    async with running_master() as master:
        yield master


@pytest.fixture
async def agent(master: FakeMaster, tmp_path: Path) -> AsyncIterator[AgentProcess]:
    async with running_agent(master, tmp_path) as agent:
        yield agent


async def test_an_agent_registers_with_what_it_has(master: FakeMaster, agent: AgentProcess) -> None:
    register = await master.registered()

    assert register.session == 1
    assert register.agent.hostname == "host-1"
    assert register.agent.attributes == (("rack", "a"),)
    assert register.agent.runtimes == (RuntimeKind.PROCESS,)
    assert register.agent.resources == Resources.parse("cpus:8;mem:4G;disk:1G;ports:[31000-31010]")


async def test_a_task_runs_and_finishes(master: FakeMaster, agent: AgentProcess) -> None:
    master.launch(shell("t", 'echo "$RUNRIG_TASK_ID on $RUNRIG_AGENT_HOSTNAME in $RUNRIG_SANDBOX"'))

    finished = await master.state("t", TaskState.TASK_FINISHED)

    assert master.states("t") == [TaskState.TASK_RUNNING, TaskState.TASK_FINISHED]
    assert finished.exit_code == 0
    sandbox = agent.sandbox("t")
    assert (sandbox / "stdout").read_text() == f"t on host-1 in {sandbox}\n"


async def test_many_tasks_run(master: FakeMaster, agent: AgentProcess) -> None:
    names = [f"t{number}" for number in range(100)]
    master.launch(*(shell(name, "exit 0") for name in names))

    await master.until(lambda: all(TaskState.TASK_FINISHED in master.states(name) for name in names))


async def test_a_task_that_cannot_start_says_why(master: FakeMaster, agent: AgentProcess) -> None:
    spec = TaskSpec(TaskId("t"), Resources(cpu_millis=10, mem_mib=32), command=Command(argv=("/no/such",)))
    master.launch(spec)

    failed = await master.state("t", TaskState.TASK_FAILED)

    assert failed.reason is Reason.START_FAILED
    assert "/no/such" in failed.message


async def test_a_task_that_cannot_be_read_is_an_error_and_the_rest_go_on(
    master: FakeMaster, agent: AgentProcess
) -> None:
    bad = tasks_pb2.TaskSpec(task_id="bad")
    bad.MergeFromString(b"\x30\x63")  # runtime: 99, of a newer version
    master.order(Launch(FRAMEWORK, "tests", Role("eng"), (ForwardedTask(bad), shell("good", "true"))))

    error = await master.state("bad", TaskState.TASK_ERROR)
    await master.state("good", TaskState.TASK_FINISHED)

    assert error.reason is Reason.INVALID_TASK
    assert "runtime" in error.message
    assert "99" in error.message


async def test_a_stubborn_task_is_killed_after_its_grace(master: FakeMaster, agent: AgentProcess) -> None:
    master.launch(shell("t", "trap '' TERM; touch deaf; while :; do sleep 0.1; done"))
    await appears(agent.sandbox("t") / "deaf")

    master.kill("t", grace_ms=300)

    killed = await master.state("t", TaskState.TASK_KILLED)
    assert killed.exit_code == 137
    assert master.states("t") == [TaskState.TASK_RUNNING, TaskState.TASK_KILLING, TaskState.TASK_KILLED]


async def test_files_are_fetched_before_the_start(master: FakeMaster, agent: AgentProcess) -> None:
    (agent.directory / "files").mkdir()
    (agent.directory / "files/hello.sh").write_text("echo fetched")
    uri = f"file://{agent.directory}/files/hello.sh"
    await agent.kill(signal.SIGTERM)
    await agent.start("--allow-fetch", str(agent.directory / "files"))
    await master.registered(2)

    master.launch(
        shell("t", "sh hello.sh", fetch=(Fetch(uri),)), shell("bad", "true", fetch=(Fetch("file:///etc/passwd"),))
    )

    await master.state("t", TaskState.TASK_FINISHED)
    refused = await master.state("bad", TaskState.TASK_FAILED)
    assert refused.reason is Reason.FETCH_FAILED
    assert (agent.sandbox("t") / "stdout").read_text() == "fetched\n"


async def test_a_failing_health_check_ends_the_task(master: FakeMaster, agent: AgentProcess) -> None:
    check = HealthCheck(
        CheckKind.COMMAND, shell="test -e healthy", interval_ms=50, grace_ms=20_000, max_consecutive_failures=2
    )
    master.launch(shell("t", "touch healthy; sleep 1; rm healthy; sleep 60", health_checks=(check,)))

    failed = await master.state("t", TaskState.TASK_FAILED)

    assert failed.reason is Reason.HEALTH_CHECK
    assert failed.healthy is False
    assert True in [update.healthy for update in master.updates("t")]


async def test_rule_11_kill_9_of_the_agent_disturbs_no_task(master: FakeMaster, agent: AgentProcess) -> None:
    master.launch(shell("runs", "sleep 60"), shell("ends", "sleep 2; exit 3"))
    running = await master.state("runs", TaskState.TASK_RUNNING)
    await master.state("ends", TaskState.TASK_RUNNING)

    await agent.kill(signal.SIGKILL)
    await asyncio.sleep(2.0)  # the time in which a task ends while no agent looks
    os.kill(running.pid, 0)
    await agent.start()
    register = await master.registered(2)
    ended = await master.state("ends", TaskState.TASK_FAILED)

    assert register.session == 2
    assert {task.task_id: task.status.state for task in register.tasks} == {
        "runs": TaskState.TASK_RUNNING,
        "ends": TaskState.TASK_FAILED,
    }
    assert ended.exit_code == 3
    os.kill(running.pid, 0)
    master.kill("runs", grace_ms=0)
    await master.state("runs", TaskState.TASK_KILLED)


async def test_a_task_is_started_once_however_often_its_launch_comes(master: FakeMaster, agent: AgentProcess) -> None:
    spec = shell("t", f"echo started >> {agent.directory}/count")
    master.launch(spec)
    await master.state("t", TaskState.TASK_FINISHED)

    master.launch(spec, shell("u", "true"))
    await agent.kill(signal.SIGKILL)
    await agent.start()
    await master.registered(2)
    master.launch(spec, shell("v", "true"))
    await master.state("v", TaskState.TASK_FINISHED)

    assert (agent.directory / "count").read_text() == "started\n"


async def test_what_was_not_acknowledged_is_told_again_after_a_restart(master: FakeMaster, agent: AgentProcess) -> None:
    master.acknowledges = False
    master.launch(shell("t", "exit 0"))
    await master.state("t", TaskState.TASK_FINISHED)

    await agent.kill(signal.SIGKILL)
    master.reports.clear()
    master.acknowledges = True
    await agent.start()
    await master.state("t", TaskState.TASK_FINISHED)
    master.launch(shell("u", "true"))
    await master.state("u", TaskState.TASK_FINISHED)
    await agent.kill(signal.SIGKILL)
    await agent.start()
    register = await master.registered(3)

    assert "t" not in [task.task_id for task in register.tasks]


async def test_an_agent_comes_back_when_its_master_does(master: FakeMaster, agent: AgentProcess) -> None:
    master.launch(shell("t", "sleep 60"))
    await master.state("t", TaskState.TASK_RUNNING)
    await master.stop()
    again = FakeMaster()
    again.epoch = 2
    await again.start(master.address)

    register = await again.registered()
    again.kill("t", grace_ms=0)
    await again.state("t", TaskState.TASK_KILLED)

    assert [task.task_id for task in register.tasks] == ["t"]
    assert register.epoch == 1
    await again.stop()


async def test_a_master_of_an_older_epoch_is_not_obeyed(master: FakeMaster, agent: AgentProcess) -> None:
    master.epoch = 5
    master.launch(shell("first", "true"))
    await master.state("first", TaskState.TASK_FINISHED)

    master.epoch = 4
    master.launch(shell("second", f"touch {agent.directory}/obeyed"))
    register = await master.registered(2)

    assert register.epoch == 5
    assert not (agent.directory / "obeyed").exists()


async def test_a_standby_sends_the_agent_to_the_leader(master: FakeMaster, tmp_path: Path) -> None:
    standby = FakeMaster()
    standby.answer = StreamRefused(RefusalCode.NOT_LEADER, "not the leader", master.address)
    await standby.start()
    agent = AgentProcess(standby, tmp_path)

    await agent.start()
    register = await master.registered()

    assert register.session == 2
    await agent.kill(signal.SIGTERM)
    end_warden(tmp_path / "work")
    await standby.stop()


async def test_an_agent_that_was_marked_gone_ends_with_what_to_do(master: FakeMaster, agent: AgentProcess) -> None:
    master.order(StreamRefused(RefusalCode.GONE, "agent was marked gone"))

    code = await agent.wait()

    assert code == EXIT_CONFLICT
    assert "empty --work-dir" in (agent.directory / "agent.log").read_text()


async def test_a_second_agent_in_a_work_directory_is_refused(master: FakeMaster, agent: AgentProcess) -> None:
    second = AgentProcess(master, agent.directory)
    second.http = "127.0.0.1:0"

    await second.start()

    assert await second.wait() == EXIT_CONFLICT
    assert "choose another --work-dir" in (agent.directory / "agent.log").read_text()


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--listen", "0.0.0.0:0"), "--allow-remote"),
        (("--resources", "cpus:many"), "--resources.cpus"),
        (("--attributes", "rack"), "--attributes"),
        (("--reserve", "ssd=db:cpus:9"), "--reserve ssd"),
        (("--allow-volume", "relative"), "--allow-volume"),
    ],
)
async def test_what_cannot_be_is_refused_at_the_start(
    master: FakeMaster, tmp_path: Path, flags: tuple[str, ...], words: str
) -> None:
    agent = AgentProcess(master, tmp_path)

    await agent.start(*flags)

    assert await agent.wait() == EXIT_USAGE
    said = (tmp_path / "agent.log").read_text()
    assert words in said
    assert "Traceback" not in said


async def test_what_is_reserved_by_flags_or_the_environment_is_registered(
    master: FakeMaster, agent: AgentProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    await agent.kill(signal.SIGTERM)

    await agent.start("--reserve", "ssd=db:cpus:2;mem:1G;disk:512M", "--reserve", "web=web:ports:[31000-31001]")
    flags = await master.registered(2)
    await agent.kill(signal.SIGTERM)
    monkeypatch.setenv("RUNRIG_AGENT_RESERVE", "ssd=db:cpus:2 web=web:cpus:1")
    await agent.start()
    environment = await master.registered(3)

    assert [(each.reservation_id, each.role, each.is_static) for each in flags.agent.reservations] == [
        ("ssd", "db", True),
        ("web", "web", True),
    ]
    assert flags.agent.reservations[0].resources == Resources.parse("cpus:2;mem:1G;disk:512M")
    assert [each.reservation_id for each in environment.agent.reservations] == ["ssd", "web"]


async def test_a_volume_outlives_its_task_and_the_agent_until_it_is_destroyed(
    master: FakeMaster, agent: AgentProcess
) -> None:
    volumes = (Volume("", "store", volume_id="shop:data"),)
    master.launch(shell("writes", "echo kept >store/file", volumes=volumes))
    await master.state("writes", TaskState.TASK_FINISHED)

    await agent.kill(signal.SIGKILL)
    await agent.start("--keep-sandboxes", "0")
    await master.registered(2)
    master.launch(shell("reads", "cat store/file; sleep 1", volumes=volumes))
    await master.state("reads", TaskState.TASK_RUNNING)
    master.order(DestroyAgentVolume("shop:data"))
    master.order(DestroyAgentVolume("never-was"))
    await master.until(lambda: VolumeDestroyed("never-was") in master.reports)
    before = list(master.reports)
    await master.until(lambda: VolumeDestroyed("shop:data") in master.reports)

    assert VolumeDestroyed("shop:data") not in before
    assert master.states("reads")[-1] is TaskState.TASK_FINISHED
    assert (agent.sandbox("reads") / "stdout").read_text() == "kept\n"
    assert not list((agent.directory / "work/volumes").rglob("file"))


async def test_a_port_that_is_taken_is_told(master: FakeMaster, tmp_path: Path) -> None:
    agent = AgentProcess(master, tmp_path)

    await agent.start("--listen", master.address)

    assert await agent.wait() == EXIT_UNREACHABLE
    assert "for gRPC of the agent cannot be used" in (tmp_path / "agent.log").read_text()


async def test_sigterm_ends_the_agent_and_not_its_tasks(master: FakeMaster, agent: AgentProcess) -> None:
    master.launch(shell("t", "sleep 60"))
    running = await master.state("t", TaskState.TASK_RUNNING)

    code = await agent.kill(signal.SIGTERM)

    assert code == 0
    os.kill(running.pid, 0)
    await agent.start()
    await master.registered(2)


async def test_health_and_metrics_are_served(master: FakeMaster, agent: AgentProcess) -> None:
    master.launch(shell("t", "sleep 60"))
    await master.state("t", TaskState.TASK_RUNNING)

    status, ready = await asyncio.to_thread(agent.readyz)
    with await asyncio.to_thread(urllib.request.urlopen, f"http://{agent.http}/metrics") as answer:
        metrics = answer.read().decode()

    assert status == 200
    assert ready["master"] == master.address
    assert 'runrig_agent_tasks{state="TASK_RUNNING"} 1.0' in metrics
    assert 'runrig_agent_resources{kind="used",resource="cpus"} 0.05' in metrics


async def test_logs_of_a_task_can_be_read_from_its_agent(master: FakeMaster, agent: AgentProcess) -> None:
    register: Register = await master.registered()
    master.launch(shell("t", "echo out; echo err >&2"))
    await master.state("t", TaskState.TASK_FINISHED)

    async with grpc.aio.insecure_channel(register.agent.address) as channel:
        request = sandbox_pb2.ReadLogsRequest(framework_id=FRAMEWORK, task_id="t", stream=sandbox_pb2.LOG_STREAM_STDOUT)
        chunks = [item.data async for item in sandbox_pb2_grpc.SandboxServiceStub(channel).ReadLogs(request)]

    assert b"".join(chunks) == b"out\n"
