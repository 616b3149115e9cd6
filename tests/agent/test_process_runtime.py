"""The process runtime with real processes, wardens that are killed and agents that forget."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runrig.errors import NotFound
from runrig.tasks import Limits, Reason, Volume
from runrig_agent.runtime import Ended, LaunchFailed, Signal, Usage
from runrig_agent.runtimes.process import ProcessRuntime, ProcessSettings
from runrig_agent.runtimes.warden_link import WardenSettings
from runrig_agent.sandbox_logs import LogLimits, log_files
from runrig_agent.warden import cgroups
from tests.agent.runtimes import Listener, is_alive, key, order, run, text, until

TERM, KILL = Signal(signal.SIGTERM), Signal(signal.SIGKILL)
CGROUPS = cgroups.detect("tests").names
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="changing the user takes root")
limits_memory = pytest.mark.skipif(not {"memory", cgroups.V2} & set(CGROUPS), reason="cgroups cannot limit memory here")


class Agent:
    """A work directory and the runtimes that come and go over it."""

    def __init__(self, folder: Path, use_cgroups: bool) -> None:
        self.folder = folder
        self.listener = Listener()
        self.settings = ProcessSettings(
            log=LogLimits(max_bytes=4096, max_files=3),
            volume_roots=(folder / "volumes",),
            warden=WardenSettings(use_cgroups=use_cgroups),
        )
        self.runtime = ProcessRuntime(folder, self.settings)

    async def start(self) -> None:
        await self.runtime.start(self.listener)

    async def restart(self) -> None:
        """Be killed and start again: the old runtime's connection breaks, nobody says goodbye."""
        await self.runtime._link.close()
        self.listener = Listener()
        self.runtime = ProcessRuntime(self.folder, self.settings)
        await self.start()

    @property
    def warden_pid(self) -> int:
        return int((self.folder / "warden/lock").read_text())

    async def kill_warden(self) -> None:
        pid = self.warden_pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not is_alive(pid), "the end of the warden")

    async def end(self) -> None:
        """Kill what runs, and see the warden off."""
        pid = self.warden_pid
        await self.runtime.recover(frozenset())
        while await self.runtime._link.ask_list("list"):  # noqa: ASYNC110 - nobody is told of forgetting
            await asyncio.sleep(0.01)
        await self.runtime.close()
        await until(lambda: not is_alive(pid), "the end of the warden")


@pytest.fixture(params=[True, False], ids=["cgroups", "no-cgroups"])
async def agent(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Agent]:
    if request.param and not CGROUPS:
        pytest.skip("no cgroup can be used here")
    agent = Agent(tmp_path, request.param)
    await agent.start()
    yield agent
    await agent.listener.available()
    await agent.end()


async def test_a_task_runs_in_its_sandbox_and_its_end_is_told(agent: Agent) -> None:
    hello = order(agent.folder, "hello", 'pwd; echo "$WHAT" >&2; exit 3', env={"WHAT": "an error"})

    await run(agent.runtime, hello)

    ended = await agent.listener.end(hello.key)
    assert (ended.exit_code, ended.is_out_of_memory) == (3, False)
    assert (text(hello), text(hello, "stderr")) == (f"{hello.sandbox}\n", "an error\n")


async def test_an_end_is_told_after_the_launch_has_returned(agent: Agent) -> None:
    quick = [order(agent.folder, f"quick-{number}", argv=("true",)) for number in range(20)]
    order_of_things: list[str] = []

    async def launch(number: int) -> None:
        await agent.runtime.launch(quick[number])
        assert agent.listener.end_of(quick[number].key) is None
        order_of_things.append(f"launched {number}")

    await asyncio.gather(*(launch(number) for number in range(20)))

    assert len(order_of_things) == 20
    for each in quick:
        assert (await agent.listener.end(each.key)).exit_code == 0


async def test_two_hundred_launches_at_once_all_start_and_end(agent: Agent) -> None:
    orders = [order(agent.folder, f"task-{number}", argv=("sh", "-c", f"exit {number % 100}")) for number in range(200)]

    await asyncio.gather(*(agent.runtime.launch(each) for each in orders))

    codes = [(await agent.listener.end(each.key)).exit_code for each in orders]
    assert codes == [number % 100 for number in range(200)]


async def test_a_launch_that_is_repeated_starts_nothing(agent: Agent) -> None:
    once = order(agent.folder, "once", "echo started; sleep 60")
    first = await agent.runtime.launch(once)

    again = await asyncio.gather(*(agent.runtime.launch(once) for _ in range(5)))

    assert {each.pid for each in again} == {first.pid}
    await until(lambda: text(once) != "", "the task's output")
    assert text(once) == "started\n"


async def test_a_launch_repeated_after_the_end_starts_nothing_and_tells_nothing(agent: Agent) -> None:
    once = order(agent.folder, "once", "echo started")
    await agent.runtime.launch(once)
    await agent.listener.end(once.key)

    await agent.runtime.launch(once)
    await agent.runtime.launch(once)

    assert text(once) == "started\n"
    assert len(agent.listener.ends) == 1


@pytest.mark.parametrize(
    "launch, reason, words",
    [
        ({"argv": ("no-such-command",)}, Reason.START_FAILED, "no such command"),
        ({"argv": ("/etc/passwd",)}, Reason.START_FAILED, "may not be executed"),
        ({"argv": ("true",), "working_directory": "no/where"}, Reason.START_FAILED, "working directory"),
        ({"argv": ("true",), "user": "nobody-knows"}, Reason.USER_UNKNOWN, "'nobody-knows' is not known"),
        ({"argv": ("true",), "volumes": (Volume("/etc", "etc"),)}, Reason.VOLUME_REFUSED, "allows"),
    ],
)
async def test_a_task_that_cannot_start_says_why(
    agent: Agent, launch: dict[str, object], reason: Reason, words: str
) -> None:
    bad = order(agent.folder, "bad", **launch)  # type: ignore[arg-type]

    with pytest.raises(LaunchFailed, match=words) as failed:
        await run(agent.runtime, bad)

    assert (failed.value.reason, failed.value.is_task_fault) == (reason, True)
    assert await agent.runtime.recover(frozenset({bad.key})) == []


async def test_a_sandbox_that_is_gone_is_the_hosts_fault(agent: Agent) -> None:
    lost = order(agent.folder, "lost", "true")
    lost.sandbox.rmdir()

    with pytest.raises(LaunchFailed) as failed:
        await agent.runtime.launch(lost)

    assert (failed.value.reason, failed.value.is_task_fault) == (Reason.START_FAILED, False)


@is_root
async def test_a_task_runs_as_its_user_who_owns_the_sandbox(agent: Agent) -> None:
    for folder in (agent.folder, *agent.folder.parents):
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(0o755)
    mine = order(agent.folder, "mine", "id -un; id -Gn; echo new >file && cat fetched", user="nobody")
    (mine.sandbox / "fetched").write_text("fetched\n")
    (mine.sandbox / "fetched").chmod(0o600)

    await run(agent.runtime, mine)

    assert (await agent.listener.end(mine.key)).exit_code == 0
    assert text(mine) == "nobody\nnogroup\nfetched\n"
    assert (mine.sandbox / "file").stat().st_uid == 65534


async def test_a_volume_is_a_link_in_the_sandbox(agent: Agent) -> None:
    (agent.folder / "volumes/data").mkdir(parents=True)
    keeper = order(
        agent.folder,
        "keeper",
        "echo kept >store/data/file",
        volumes=(Volume(str(agent.folder / "volumes/data"), "store/data"),),
    )

    await run(agent.runtime, keeper)

    assert (await agent.listener.end(keeper.key)).exit_code == 0
    assert (agent.folder / "volumes/data/file").read_text() == "kept\n"


KEPT = Volume("", "store/data", volume_id="data")


async def test_a_persistent_volume_is_a_link_in_the_sandbox_of_one_task_after_another(agent: Agent) -> None:
    first = order(agent.folder, "first", "echo kept >store/data/file", volumes=(KEPT,))
    second = order(agent.folder, "second", "cat store/data/file", volumes=(KEPT,))

    for each in (first, second):
        await run(agent.runtime, each)
        assert (await agent.listener.end(each.key)).exit_code == 0

    assert text(second) == "kept\n"


@is_root
async def test_a_persistent_volume_belongs_to_the_user_of_the_task_that_uses_it(agent: Agent) -> None:
    for folder in (agent.folder, *agent.folder.parents):
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(0o755)
    first = order(agent.folder, "first", "umask 077; echo kept >store/data/file", volumes=(KEPT,))
    second = order(agent.folder, "second", "id -un; cat store/data/file", user="nobody", volumes=(KEPT,))

    for each in (first, second):
        await run(agent.runtime, each)
        assert (await agent.listener.end(each.key)).exit_code == 0

    assert text(second) == "nobody\nkept\n"


@pytest.mark.parametrize(
    "volume, words",
    [
        (Volume("", "/data", volume_id="data"), "volume data: a process cannot have it at /data"),
        (Volume("", "data", True, volume_id="data"), "volume data: the process runtime cannot make it read-only"),
    ],
)
async def test_a_persistent_volume_that_a_process_cannot_have_is_refused(
    agent: Agent, volume: Volume, words: str
) -> None:
    bad = order(agent.folder, "bad", "true", volumes=(volume,))

    with pytest.raises(LaunchFailed, match=words) as failed:
        await run(agent.runtime, bad)

    assert failed.value.reason is Reason.VOLUME_REFUSED


async def test_a_polite_signal_lets_a_task_end_as_it_likes(agent: Agent) -> None:
    polite = order(agent.folder, "polite", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done")
    await agent.runtime.launch(polite)
    await until(lambda: "ready" in text(polite), "the trap")

    await agent.runtime.signal(polite.key, TERM)

    assert (await agent.listener.end(polite.key)).exit_code == 7
    assert text(polite) == "ready\nbye\n"


DAEMON = """\
setsid sh -c 'setsid sh -c "echo \\$\\$ >daemon; exec sleep 300" & echo $$ >child; exec sleep 300' &
until test -s daemon -a -s child; do sleep 0.01; done; echo ready; """


async def test_sigkill_reaches_grandchildren_in_sessions_of_their_own(agent: Agent) -> None:
    parent = order(agent.folder, "parent", DAEMON + "sleep 300")
    await agent.runtime.launch(parent)
    await until(lambda: "ready" in text(parent), "the daemons")
    pids = [int(text(parent, name)) for name in ("daemon", "child")]
    assert all(map(is_alive, pids))

    await agent.runtime.signal(parent.key, KILL)

    ended = await agent.listener.end(parent.key)
    assert (ended.exit_code, ended.message) == (137, "ended by SIGKILL")
    assert not any(map(is_alive, pids))


async def test_nothing_is_left_of_a_task_whose_first_process_ends(agent: Agent) -> None:
    parent = order(agent.folder, "parent", DAEMON + "exit 5")

    await agent.runtime.launch(parent)

    assert (await agent.listener.end(parent.key)).exit_code == 5
    assert not any(is_alive(int(text(parent, name))) for name in ("daemon", "child"))


async def test_signals_and_forgetting_of_a_task_that_is_not_there_are_no_errors(agent: Agent) -> None:
    await agent.runtime.signal(key("nobody"), KILL)
    await agent.runtime.forget(key("nobody"))

    assert agent.listener.ends == []


@limits_memory
async def test_a_task_that_takes_more_memory_than_it_asked_for_is_out_of_memory(tmp_path: Path) -> None:
    agent = Agent(tmp_path, use_cgroups=True)
    await agent.start()
    greedy = order(agent.folder, "greedy", 'x=x; while :; do x="$x$x"; done', mem_mib=32)

    await agent.runtime.launch(greedy)

    ended = await agent.listener.end(greedy.key)
    assert (ended.exit_code, ended.is_out_of_memory) == (137, True)
    assert "limit of 32 MiB" in ended.message
    await agent.end()


@pytest.mark.skipif("pids" not in CGROUPS and cgroups.V2 not in CGROUPS, reason="cgroups cannot limit pids here")
async def test_a_fork_bomb_is_held_by_its_limit_and_killed_whole(tmp_path: Path) -> None:
    agent = Agent(tmp_path, use_cgroups=True)
    await agent.start()
    bomb = order(
        agent.folder,
        "bomb",
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 300 & done; wait",
        limits=Limits(pids=10),
    )

    await agent.runtime.launch(bomb)

    await until(lambda: "fork" in text(bomb, "stderr"), "the complaint of the shell")
    await agent.runtime.signal(bomb.key, KILL)
    await agent.listener.end(bomb.key)
    await agent.end()


async def test_usage_counts_what_a_task_uses_while_it_runs(agent: Agent) -> None:
    busy = order(agent.folder, "busy", "while :; do :; done")
    await agent.runtime.launch(busy)

    usage = Usage()
    while not (usage.cpu_seconds and usage.cpu_seconds > 0.1 and usage.memory_bytes):
        usage = await agent.runtime.usage(busy.key)

    await agent.runtime.signal(busy.key, KILL)
    await agent.listener.end(busy.key)
    assert (await agent.runtime.usage(busy.key)).cpu_seconds is None


async def test_logs_are_rotated_and_bounded(agent: Agent) -> None:
    chatty = order(agent.folder, "chatty", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.001; done")

    await agent.runtime.launch(chatty)

    await until(lambda: len(log_files(chatty.sandbox, "stdout")) == 3, "two rotations")
    newest = (chatty.sandbox / "stdout.1").read_text().splitlines()
    assert all(each.startswith("line ") for each in newest)
    await until(lambda: text(chatty).startswith("line "), "that it writes on at the start of the file")


async def test_a_link_in_place_of_a_log_is_never_followed(agent: Agent) -> None:
    precious = agent.folder / "precious"
    precious.write_text("x" * 10_000)
    rogue = order(agent.folder, "rogue", f"rm stdout; ln -s {precious} stdout; echo ready >&2; sleep 300")
    noisy = order(agent.folder, "noisy", "while :; do echo more and more; sleep 0.001; done")

    await agent.runtime.launch(rogue)
    await until(lambda: text(rogue, "stderr") != "", "the link")
    await agent.runtime.launch(noisy)

    await until(lambda: len(log_files(noisy.sandbox, "stdout")) > 2, "rotations, at the same time as the rogue's")
    assert precious.stat().st_size == 10_000
    assert len(log_files(rogue.sandbox, "stdout")) == 1


# --- restarts of the agent --------------------------------------------------------------------------------


async def test_an_agent_that_was_killed_finds_its_tasks_running(agent: Agent) -> None:
    survivor = order(agent.folder, "survivor", "until test -e go; do sleep 0.01; done; exit 4")
    started = await agent.runtime.launch(survivor)

    await agent.restart()

    [found] = await agent.runtime.recover(frozenset({survivor.key}))
    assert (found.key, found.started, found.ended) == (survivor.key, started, None)
    assert agent.listener.ends == []
    (survivor.sandbox / "go").touch()
    assert (await agent.listener.end(survivor.key)).exit_code == 4


async def test_an_end_while_the_agent_was_away_is_found(agent: Agent) -> None:
    short = order(agent.folder, "short", "until test -e go; do sleep 0.01; done; echo done; exit 6")
    started = await agent.runtime.launch(short)
    await agent.runtime._link.close()
    (short.sandbox / "go").touch()
    await until(lambda: not is_alive(started.pid), "the end of the task")

    await agent.restart()

    [found] = await agent.runtime.recover(frozenset({short.key}))
    ended = found.ended or await agent.listener.end(short.key)
    assert ended.exit_code == 6
    assert text(short) == "done\n"


async def test_recovery_stops_what_the_agent_does_not_know(agent: Agent) -> None:
    stranger = order(agent.folder, "stranger", "sleep 300")
    started = await agent.runtime.launch(stranger)

    await agent.restart()

    assert await agent.runtime.recover(frozenset({key("other")})) == []
    await until(lambda: not is_alive(started.pid), "the stranger's end")
    assert agent.listener.ends == []


async def test_what_was_forgotten_is_not_found(agent: Agent) -> None:
    done = order(agent.folder, "done", argv=("true",))
    await agent.runtime.launch(done)
    await agent.listener.end(done.key)

    await agent.runtime.forget(done.key)

    await agent.restart()
    assert await agent.runtime.recover(frozenset({done.key})) == []


# --- ends of the warden -----------------------------------------------------------------------------------


async def test_tasks_outlive_their_warden_and_the_next_one_sees_their_end(agent: Agent) -> None:
    survivor = order(agent.folder, "survivor", "until test -e go; do sleep 0.01; done; echo out; exit 9")
    started = await agent.runtime.launch(survivor)

    await agent.kill_warden()
    await agent.listener.available()

    assert is_alive(started.pid)
    assert (await agent.runtime.launch(survivor)).pid == started.pid
    (survivor.sandbox / "go").touch()
    ended = await agent.listener.end(survivor.key)
    assert ended.exit_code in (None, 9)  # 9 where the kernel can tell
    assert ended.exit_code == 9 or "not known" in ended.message
    assert text(survivor) == "out\n"


async def test_an_end_without_warden_is_told_as_unknown(agent: Agent) -> None:
    lost = order(agent.folder, "lost", "until test -e go; do sleep 0.01; done; exit 9")
    started = await agent.runtime.launch(lost)
    await agent.runtime._link.close()
    await agent.kill_warden()
    (lost.sandbox / "go").touch()
    await until(lambda: not is_alive(started.pid), "the end of the task")

    await agent.restart()

    [found] = await agent.runtime.recover(frozenset({lost.key}))
    ended = found.ended or await agent.listener.end(lost.key)
    assert (ended.exit_code, ended.has_host_rebooted) == (None, False)
    assert "not known" in ended.message


async def test_a_task_of_an_earlier_warden_can_be_killed_whole(agent: Agent) -> None:
    parent = order(agent.folder, "parent", DAEMON + "sleep 300")
    await agent.runtime.launch(parent)
    await until(lambda: "ready" in text(parent), "the daemons")
    await agent.kill_warden()
    await agent.listener.available()

    await agent.runtime.signal(parent.key, KILL)

    ended = await agent.listener.end(parent.key)
    assert ended.exit_code in (None, 137)
    assert not any(is_alive(int(text(parent, name))) for name in ("daemon", "child"))


async def test_launches_go_on_while_wardens_are_killed(agent: Agent) -> None:
    orders = [order(agent.folder, f"task-{number}", "echo started; sleep 0.02") for number in range(40)]

    launched = 0

    async def launch_all() -> None:
        nonlocal launched
        for each in orders:
            await agent.runtime.launch(each)
            launched += 1

    launching = asyncio.create_task(launch_all())
    for mark in (3, 11, 23, 35):
        await until(lambda mark=mark: launched >= mark, f"{mark} launches")  # type: ignore[misc]
        os.kill(agent.warden_pid, signal.SIGKILL)  # while the next launch is under way
    await launching

    for each in orders:
        await agent.listener.end(each.key)
        assert text(each) in ("started\n", ""), "started twice"


async def test_a_reboot_of_the_host_ends_what_ran(agent: Agent) -> None:
    long = order(agent.folder, "long", "exec sleep 300")
    started = await agent.runtime.launch(long)
    await agent.runtime._link.close()
    await agent.kill_warden()
    journal = agent.folder / "warden/journal"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        if line["is"] == "announced":
            line["record"]["boot_id"] = "another"
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))

    await agent.restart()

    [found] = await agent.runtime.recover(frozenset({long.key}))
    assert found.ended is not None
    assert (found.ended.exit_code, found.ended.has_host_rebooted) == (None, True)
    os.kill(started.pid, signal.SIGKILL)  # which in truth did not reboot


# --- commands in a task -----------------------------------------------------------------------------------


async def output_of(
    agent: Agent, task: str, argv: tuple[str, ...], stdin: bytes = b"", tty: bool = False
) -> tuple[dict[int, bytes], int]:
    session = await agent.runtime.exec(key(task), argv, {"EXTRA": "more"}, tty)
    if stdin:
        await session.write(stdin)
    await session.end_input()
    chunks = {1: b"", 2: b""}
    async for stream, data in session.output():
        chunks[stream] += data
    code = await session.exit_code()
    await session.close()
    return chunks, code


async def test_a_command_runs_in_the_tasks_sandbox_and_environment(agent: Agent) -> None:
    await agent.runtime.launch(order(agent.folder, "host", "sleep 300", env={"MINE": "task's"}))

    chunks, code = await output_of(
        agent, "host", ("sh", "-c", 'echo "$MINE $EXTRA $PWD"; cat; echo oops >&2; exit 3'), b"typed\n"
    )

    assert (chunks[1].decode(), chunks[2].decode(), code) == (
        f"task's more {agent.folder}/sandboxes/host\ntyped\n",
        "oops\n",
        3,
    )


async def test_a_command_has_a_terminal_when_asked_for(agent: Agent) -> None:
    await agent.runtime.launch(order(agent.folder, "host", "sleep 300"))

    session = await agent.runtime.exec(key("host"), ("sh",), {}, tty=True)
    await session.resize(33, 77)
    await session.write(b"tty; stty size; exit 2\n")
    output = b"".join([data async for _, data in session.output()])

    assert (b"/dev/pts/" in output, b"33 77" in output, await session.exit_code()) == (True, True, 2)
    await session.close()


async def test_closing_a_session_kills_its_command(agent: Agent) -> None:
    host = order(agent.folder, "host", "sleep 300")
    await agent.runtime.launch(host)
    session = await agent.runtime.exec(host.key, ("sh", "-c", "echo $$ >pid; exec sleep 300"), {}, tty=False)
    await until(lambda: text(host, "pid") != "", "the command")

    await session.close()

    await until(lambda: not is_alive(int(text(host, "pid"))), "the command's end")


async def test_a_command_for_a_task_that_does_not_run_is_refused(agent: Agent) -> None:
    done = order(agent.folder, "done", argv=("true",))
    await agent.runtime.launch(done)
    await agent.listener.end(done.key)

    with pytest.raises(NotFound):
        await agent.runtime.exec(done.key, ("true",), {}, tty=False)


async def test_a_bad_command_in_a_task_says_why(agent: Agent) -> None:
    await agent.runtime.launch(order(agent.folder, "host", "sleep 300"))

    with pytest.raises(LaunchFailed, match="no such command"):
        await agent.runtime.exec(key("host"), ("no-such-command",), {}, tty=False)


async def test_what_is_executed_ends_with_the_task(agent: Agent) -> None:
    host = order(agent.folder, "host", "sleep 300")
    await agent.runtime.launch(host)
    session = await agent.runtime.exec(host.key, ("sleep", "300"), {}, tty=False)

    await agent.runtime.signal(host.key, KILL)

    assert await session.exit_code() == 137
    ended: Ended = await agent.listener.end(host.key)
    assert ended.exit_code == 137
    await session.close()


# --- the warden's own end ---------------------------------------------------------------------------------


async def test_a_warden_with_nothing_to_do_ends_when_its_agent_closes(agent: Agent) -> None:
    pid = agent.warden_pid

    await agent.runtime.close()

    await until(lambda: not is_alive(pid), "the end of the warden")
    await agent.restart()


async def test_a_closed_agent_leaves_its_tasks_running(agent: Agent) -> None:
    long = order(agent.folder, "long", "sleep 300")
    started = await agent.runtime.launch(long)
    pid = agent.warden_pid

    await agent.runtime.close()

    assert is_alive(started.pid)
    assert is_alive(pid)
    await agent.restart()
    [found] = await agent.runtime.recover(frozenset({long.key}))
    assert found.ended is None
