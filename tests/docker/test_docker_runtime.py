"""The docker runtime on a real engine."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from runrig.errors import NotFound
from runrig.tasks import Container, Limits, NetworkMode, Port, Reason, Volume
from runrig_agent.runtime import LaunchFailed, LaunchOrder, Signal, Started, Usage
from runrig_agent.runtimes.docker import DockerRuntime
from runrig_agent.runtimes.docker_containers import listed
from runrig_agent.runtimes.docker_settings import ContainerSettings, DockerSettings
from runrig_agent.sandbox_logs import LogLimits, log_files
from tests.agent.runtimes import DEADLINE_S, Listener, is_alive, key, order, run, text, until
from tests.docker.conftest import OwnEngine

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker-engine")]

IMAGE = "runrig/busybox:test"
TERM, KILL = Signal(signal.SIGTERM), Signal(signal.SIGKILL)


class Agent:
    """A work directory and the runtimes that come and go over it."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.id = f"test-{uuid4()}"
        self.listener = Listener()
        self.settings = DockerSettings(
            address=address,
            container=ContainerSettings(volume_roots=(folder / "volumes",)),
            log=LogLimits(max_bytes=20_000, max_files=3),
            relist_interval_s=1.0,
            connect_timeout_s=5.0,
        )
        self.runtime = DockerRuntime(folder, self.id, self.settings)

    async def start(self) -> None:
        await self.runtime.start(self.listener)

    async def restart(self) -> None:
        """Be killed and start again; what the old runtime kept in memory is lost."""
        await self.runtime.close()
        await self.restart_closed()

    async def restart_closed(self) -> None:
        self.listener = Listener()
        self.runtime = DockerRuntime(self.folder, self.id, self.settings)
        await self.start()

    async def end(self) -> None:
        """Remove all that is left."""
        await self.listener.available()
        await self.runtime.recover(frozenset())
        await self.containers_left(0)
        await self.runtime.close()

    async def containers_left(self, most: int) -> None:
        """Wait until so few of our containers are there."""
        async with asyncio.timeout(DEADLINE_S):
            while len(await listed(self.runtime._engine, self.id)) > most:  # noqa: ASYNC110 - the engine's truth
                await asyncio.sleep(0.02)

    def order(self, task: str, shell: str = "", **words: object) -> LaunchOrder:
        container = words.pop("container", None) or Container(IMAGE)
        return order(self.folder, task, shell, container=container, **words)  # type: ignore[arg-type]


@pytest.fixture
async def agent(engine: str, tmp_path: Path) -> AsyncIterator[Agent]:
    agent = Agent(tmp_path, engine)
    await agent.start()
    yield agent
    await agent.end()


async def test_a_container_runs_in_its_sandbox_and_its_end_is_told(agent: Agent) -> None:
    hello = agent.order(
        "hello", 'echo "$WHAT"; pwd; touch made; echo oops >&2; exit 3', env={"WHAT": "hi"}, working_directory="."
    )

    await run(agent.runtime, hello)

    ended = await agent.listener.end(hello.key)
    assert (ended.exit_code, ended.is_out_of_memory) == (3, False)
    assert (text(hello), text(hello, "stderr")) == ("hi\n/mnt/runrig/sandbox\n", "oops\n")
    assert (hello.sandbox / "made").exists()


async def test_the_sandbox_is_where_the_environment_says(agent: Agent) -> None:
    writer = agent.order("writer", 'echo kept >"$RUNRIG_SANDBOX/file"')

    await run(agent.runtime, writer)

    assert (await agent.listener.end(writer.key)).exit_code == 0
    assert text(writer, "file") == "kept\n"


async def test_a_launch_that_is_repeated_starts_nothing(agent: Agent) -> None:
    once = agent.order("once", "echo started; sleep 60")

    started = await asyncio.gather(*(agent.runtime.launch(once) for _ in range(4)))

    assert len({each.container_id for each in started}) == 1
    assert len(await listed(agent.runtime._engine, agent.id)) == 1
    await until(lambda: text(once) != "", "the output")
    assert text(once) == "started\n"


async def test_a_launch_repeated_by_another_agent_process_adopts_the_container(agent: Agent) -> None:
    once = agent.order("once", "echo started; until test -e go; do sleep 0.05; done", working_directory=".")
    first = await agent.runtime.launch(once)
    await agent.restart()

    again = await agent.runtime.launch(once)

    assert again == first
    (once.sandbox / "go").touch()
    assert (await agent.listener.end(once.key)).exit_code == 0
    assert text(once) == "started\n"


async def test_a_container_with_the_name_but_another_description_makes_room(agent: Agent) -> None:
    old = agent.order("same", "sleep 300")
    first = await agent.runtime.launch(old)
    await agent.restart()

    other = agent.order("same", "echo new")
    second = await agent.runtime.launch(other)

    assert second.container_id != first.container_id
    assert (await agent.listener.end(other.key)).exit_code == 0
    assert text(other) == "new\n"


async def test_an_agent_that_was_killed_finds_its_containers_running(agent: Agent) -> None:
    survivor = agent.order("survivor", "until test -e go; do sleep 0.05; done; exit 4", working_directory=".")
    stranger = agent.order("stranger", "sleep 300")
    started = await agent.runtime.launch(survivor)
    await agent.runtime.launch(stranger)

    await agent.restart()

    [found] = await agent.runtime.recover(frozenset({survivor.key, key("never")}))
    assert (found.key, found.started, found.ended) == (survivor.key, started, None)
    (survivor.sandbox / "go").touch()
    assert (await agent.listener.end(survivor.key)).exit_code == 4
    await agent.containers_left(1)
    assert [each[0] for each in agent.listener.ends] == [survivor.key]


async def test_an_end_while_nobody_watched_is_found_with_its_output(agent: Agent) -> None:
    short = agent.order(
        "short", "echo begin; until test -e go; do sleep 0.05; done; echo end; exit 6", working_directory="."
    )
    started = await agent.runtime.launch(short)
    await until(lambda: text(short) == "begin\n", "the first line")
    await agent.runtime.close()
    (short.sandbox / "go").touch()
    await until(lambda: not is_alive(started.pid), "the end")

    await agent.restart_closed()

    [found] = await agent.runtime.recover(frozenset({short.key}))
    ended = found.ended or await agent.listener.end(short.key)
    assert ended.exit_code == 6
    assert text(short) == "begin\nend\n"


async def test_a_container_that_takes_too_much_memory_is_out_of_memory(agent: Agent) -> None:
    greedy = agent.order("greedy", 'x=x; while :; do x="$x$x"; done', mem_mib=16)

    await run(agent.runtime, greedy)

    ended = await agent.listener.end(greedy.key)
    assert (ended.exit_code, ended.is_out_of_memory) == (137, True)
    assert "limit of 16 MiB" in ended.message


async def test_an_image_that_is_nowhere_says_what_to_do(agent: Agent) -> None:
    missing = agent.order("missing", "true", container=Container("registry.invalid/no/such:image"))
    heard: list[str] = []

    with pytest.raises(LaunchFailed, match="docker load") as failed:
        await agent.runtime.prepare(missing, heard.append)

    assert failed.value.reason is Reason.IMAGE_UNAVAILABLE
    assert heard == ["pulling registry.invalid/no/such:image"]


async def test_an_image_that_went_after_it_was_prepared_fails_the_launch(agent: Agent) -> None:
    missing = agent.order("missing", "true", container=Container("registry.invalid/no/such:image"))

    with pytest.raises(LaunchFailed) as failed:
        await agent.runtime.launch(missing)

    assert failed.value.reason is Reason.IMAGE_UNAVAILABLE


async def test_pulls_of_one_image_are_one_pull(agent: Agent) -> None:
    missing = agent.order("missing", "true", container=Container("registry.invalid/no/such:image"))

    tries = [agent.runtime._images.ensure("registry.invalid/no/such:image", False, lambda _: None) for _ in range(5)]
    failures = await asyncio.gather(*tries, return_exceptions=True)

    assert {type(each) for each in failures} == {LaunchFailed}
    assert agent.runtime._images._pulls == {}
    assert missing.spec.container is not None


async def test_a_local_image_needs_no_registry_unless_a_pull_is_forced(agent: Agent) -> None:
    await agent.runtime.prepare(agent.order("local", "true"), lambda _: None)

    with pytest.raises(LaunchFailed):
        await agent.runtime.prepare(
            agent.order("forced", "true", container=Container("registry.invalid/busybox:test", force_pull=True)),
            lambda _: None,
        )


async def test_a_port_that_is_taken_is_the_hosts_fault(agent: Agent) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        clash = agent.order(
            "clash",
            "true",
            container=Container(IMAGE, network=NetworkMode.BRIDGE),
            ports=(Port(taken.getsockname()[1], 80),),
        )

        with pytest.raises(LaunchFailed) as failed:
            await run(agent.runtime, clash)

    assert (failed.value.reason, failed.value.is_task_fault) == (Reason.PORT_IN_USE, False)
    await agent.containers_left(0)


async def test_a_bridged_container_is_reached_at_the_hosts_port(agent: Agent) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = agent.order(
        "server",
        "echo found >index.html; exec httpd -f -p 80 -h .",
        working_directory=".",
        container=Container(IMAGE, network=NetworkMode.BRIDGE),
        ports=(Port(port, 80),),
    )

    started = await agent.runtime.launch(server)

    assert started.address.count(".") == 3

    def answer() -> str:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as client:
            client.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
            return client.makefile().read()
        return ""

    await until(lambda: answer().endswith("found\n"), "the page")


@pytest.mark.parametrize(
    "words, reason, part",
    [
        ({"user": "nobody-knows"}, Reason.USER_UNKNOWN, "does not know the user"),
        ({"volumes": (Volume("/etc", "/data"),)}, Reason.VOLUME_REFUSED, "not within"),
        ({"container": Container(IMAGE, parameters=(("privileged", "true"),))}, Reason.INVALID_TASK, "privileged"),
        (
            {"container": Container(IMAGE, network=NetworkMode.USER, network_name="no-such-net")},
            Reason.START_FAILED,
            "no such network",
        ),
    ],
)
async def test_a_container_that_cannot_start_says_why(
    agent: Agent, words: dict[str, object], reason: Reason, part: str
) -> None:
    bad = agent.order("bad", "true", **words)

    with pytest.raises(LaunchFailed, match=part) as failed:
        await run(agent.runtime, bad)

    assert (failed.value.reason, failed.value.is_task_fault) == (reason, True)
    await agent.containers_left(0)


async def test_a_command_that_is_not_in_the_image_says_so(agent: Agent) -> None:
    bad = agent.order("bad", argv=("no-such-command",))

    await run(agent.runtime, bad)

    ended = await agent.listener.end(bad.key)
    assert ended.exit_code == 127
    assert "not in the image" in ended.message
    assert "no-such-command" in text(bad, "stderr")


async def test_without_init_a_bad_command_fails_the_launch(engine: str, tmp_path: Path) -> None:
    agent = Agent(tmp_path, engine)
    agent.settings = replace(agent.settings, container=ContainerSettings(use_init=False))
    agent.runtime = DockerRuntime(tmp_path, agent.id, agent.settings)
    await agent.start()

    with pytest.raises(LaunchFailed, match="not in the image") as failed:
        await run(agent.runtime, agent.order("bad", argv=("no-such-command",)))

    assert (failed.value.reason, failed.value.is_task_fault) == (Reason.START_FAILED, True)
    await agent.end()


async def test_a_container_is_confined(agent: Agent) -> None:
    look = agent.order(
        "look",
        "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; cat /proc/1/comm; touch /x",
        user="65534",
        container=Container(IMAGE, read_only_root=True),
        limits=Limits(cpu_millis=500, pids=50),
    )

    await run(agent.runtime, look)

    assert (await agent.listener.end(look.key)).exit_code == 1
    assert text(look).split() == ["CapEff:", "0000000000000000", "NoNewPrivs:", "1", "Seccomp:", "2", "docker-init"]
    assert "Read-only file system" in text(look, "stderr")


async def test_a_volume_is_mounted(agent: Agent) -> None:
    (agent.folder / "volumes/data").mkdir(parents=True)
    keeper = agent.order(
        "keeper", "echo kept >/data/file", volumes=(Volume(str(agent.folder / "volumes/data"), "/data"),)
    )

    await run(agent.runtime, keeper)

    assert (await agent.listener.end(keeper.key)).exit_code == 0
    assert (agent.folder / "volumes/data/file").read_text() == "kept\n"


async def test_a_persistent_volume_is_mounted_and_belongs_to_the_user_of_the_container(agent: Agent) -> None:
    kept = Volume("", "/data", volume_id="data")
    first = agent.order("first", "umask 077; echo kept >/data/file", volumes=(kept,))
    second = agent.order("second", "id -u; cat /data/file", user="1234:1234", volumes=(kept,))

    for each in (first, second):
        await run(agent.runtime, each)
        assert (await agent.listener.end(each.key)).exit_code == 0

    assert text(second) == "1234\nkept\n"


async def test_a_polite_signal_lets_a_container_end_as_it_likes(agent: Agent) -> None:
    polite = agent.order("polite", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    await agent.runtime.launch(polite)
    await until(lambda: "ready" in text(polite), "the trap")

    await agent.runtime.signal(polite.key, TERM)

    assert (await agent.listener.end(polite.key)).exit_code == 7
    assert text(polite) == "ready\nbye\n"


async def test_sigkill_leaves_nothing(agent: Agent) -> None:
    parent = agent.order("parent", "setsid sleep 300 & sleep 300")
    started = await agent.runtime.launch(parent)

    await agent.runtime.signal(parent.key, KILL)

    ended = await agent.listener.end(parent.key)
    assert (ended.exit_code, ended.message) == (137, "ended by SIGKILL")
    assert not is_alive(started.pid)


async def test_what_is_not_there_is_no_error(agent: Agent) -> None:
    await agent.runtime.signal(key("nobody"), KILL)
    await agent.runtime.forget(key("nobody"))
    with pytest.raises(NotFound):
        await agent.runtime.exec(key("nobody"), ("true",), {}, tty=False)


async def test_what_was_forgotten_is_removed(agent: Agent) -> None:
    done = agent.order("done", "true")
    await run(agent.runtime, done)
    await agent.listener.end(done.key)

    await agent.runtime.forget(done.key)

    await agent.containers_left(0)
    assert list((agent.folder / "docker-logs").iterdir()) == []


async def test_usage_counts_what_a_container_uses(agent: Agent) -> None:
    busy = agent.order("busy", "while :; do :; done")
    await agent.runtime.launch(busy)

    usage = Usage()
    while not (usage.cpu_seconds and usage.cpu_seconds > 0.1 and usage.memory_bytes):
        usage = await agent.runtime.usage(busy.key)
        await asyncio.sleep(0)


async def test_thirty_containers_run_and_are_removed(agent: Agent) -> None:
    orders = [agent.order(f"task-{number}", f"echo {number}; exit {number}") for number in range(30)]

    await asyncio.gather(*(run(agent.runtime, each) for each in orders))

    for number, each in enumerate(orders):
        assert (await agent.listener.end(each.key)).exit_code == number
        assert text(each) == f"{number}\n"
        await agent.runtime.forget(each.key)
    await agent.containers_left(0)


# --- output -----------------------------------------------------------------------------------------------


async def test_all_output_is_there_when_the_end_is_told(agent: Agent) -> None:
    printers = [
        agent.order(f"printer-{number}", "i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo $i; done; printf last")
        for number in range(6)
    ]
    seen: dict[str, str] = {}

    class Reader(Listener):
        def task_ended(self, key: object, ended: object) -> None:
            seen[key[1]] = text(next(each for each in printers if each.key == key))  # type: ignore[index]
            super().task_ended(key, ended)  # type: ignore[arg-type]

    agent.runtime._listener = agent.listener = Reader()
    agent.listener.problem = None
    await asyncio.gather(*(run(agent.runtime, each) for each in printers))

    for each in printers:
        await agent.listener.end(each.key)
        assert seen[each.key[1]] == "".join(f"{number}\n" for number in range(1, 501)) + "last"


async def test_output_is_rotated_and_bounded(agent: Agent) -> None:
    chatty = agent.order("chatty", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done")

    await run(agent.runtime, chatty)

    await agent.listener.end(chatty.key)
    files = log_files(chatty.sandbox, "stdout")
    lines = b"".join(path.read_bytes() for path in files).split()
    assert len(files) == 3
    assert sum(path.stat().st_size for path in files) < 3 * (20_000 + (1 << 18))
    assert lines[-1] == b"20000"
    numbers = [int(each) for each in lines[-1001::2]]
    assert numbers == list(range(20_000 - len(numbers) + 1, 20_001))


async def test_output_goes_on_after_a_restart_without_loss_and_without_repetition(agent: Agent) -> None:
    counter = agent.order(
        "counter",
        "i=0; until test -e go; do i=$((i+1)); echo $i; echo e$i >&2; usleep 2000; done; echo $i >count",
        working_directory=".",
    )
    agent.settings = replace(agent.settings, log=LogLimits(max_bytes=1 << 20))
    await agent.restart()
    await run(agent.runtime, counter)

    for round_number in range(3):
        await until(lambda mark=100 * (round_number + 1): f"\n{mark}\n" in text(counter), "more output")  # type: ignore[misc]
        runtime = agent.runtime
        for container in runtime._containers.values():  # a kill: nothing is noted at the end
            container.log._note = lambda: None  # type: ignore[method-assign]
        await agent.restart()
        await agent.runtime.recover(frozenset({counter.key}))
    (counter.sandbox / "go").touch()

    await agent.listener.end(counter.key)
    count = int(text(counter, "count"))
    assert text(counter) == "".join(f"{number}\n" for number in range(1, count + 1))
    assert text(counter, "stderr") == "".join(f"e{number}\n" for number in range(1, count + 1))


async def test_output_of_a_chatty_container_comes_once_and_in_order(engine: str, tmp_path: Path) -> None:
    agent = Agent(tmp_path, engine)
    agent.settings = replace(agent.settings, log=LogLimits(max_bytes=64 << 20))
    agent.runtime = DockerRuntime(tmp_path, agent.id, agent.settings)
    await agent.start()
    await agent.listener.available()
    lines = "i=0; while [ $i -lt 200000 ]; do echo $i; i=$((i+1)); done"
    chatty = agent.order("chatty", f"({lines}) | sed 's/$/ {'x' * 80}/'")

    await run(agent.runtime, chatty)
    await agent.listener.end(chatty.key)

    numbers = [int(line.split()[0]) for line in text(chatty).splitlines()]
    assert numbers == list(range(200_000))
    await agent.end()


# --- commands in a container ------------------------------------------------------------------------------


async def test_a_command_runs_in_the_container(agent: Agent) -> None:
    host = agent.order("host", "sleep 300", env={"MINE": "task's"})
    await agent.runtime.launch(host)

    session = await agent.runtime.exec(
        host.key, ("sh", "-c", 'echo "$MINE $EXTRA"; cat; echo oops >&2; exit 3'), {"EXTRA": "more"}, tty=False
    )
    await session.write(b"typed\n")
    await session.end_input()
    chunks = {1: b"", 2: b""}
    async for stream, data in session.output():
        chunks[stream] += data

    assert (chunks[1], chunks[2], await session.exit_code()) == (b"task's more\ntyped\n", b"oops\n", 3)
    await session.close()


async def test_a_command_has_a_terminal_when_asked_for(agent: Agent) -> None:
    host = agent.order("host", "sleep 300")
    await agent.runtime.launch(host)

    session = await agent.runtime.exec(host.key, ("sh",), {}, tty=True)
    await session.resize(33, 77)
    await session.write(b"tty; stty size; exit 2\n")
    output = b"".join([data async for _, data in session.output()])

    assert (b"/dev/pts/" in output, b"33 77" in output, await session.exit_code()) == (True, True, 2)
    await session.close()


async def test_closing_a_session_kills_its_command(agent: Agent) -> None:
    host = agent.order("host", "sleep 300", working_directory=".")
    await agent.runtime.launch(host)
    session = await agent.runtime.exec(host.key, ("sh", "-c", "echo yes >there; exec sleep 301"), {}, tty=False)
    await until(lambda: text(host, "there") != "", "the command")

    await session.close()

    assert await session.exit_code() == 137


# --- ends of the engine -----------------------------------------------------------------------------------


@pytest.mark.dind
async def test_containers_and_their_ends_survive_the_death_of_the_engine(own_engine: OwnEngine, tmp_path: Path) -> None:
    agent = Agent(tmp_path, await asyncio.to_thread(own_engine.start))
    await agent.start()
    living = agent.order(
        "living", "i=0; until test -e go; do i=$((i+1)); echo $i; sleep 0.05; done; exit 5", working_directory="."
    )
    dying = agent.order("dying", "until test -e go; do sleep 0.05; done; exit 6", working_directory=".")
    await run(agent.runtime, living)
    started: Started = await agent.runtime.launch(dying)
    await until(lambda: text(living) != "", "output")

    own_engine.kill()
    await agent.listener.available(False)
    with pytest.raises(LaunchFailed) as failed:
        await agent.runtime.launch(agent.order("late", "true"))
    assert failed.value.reason is Reason.RUNTIME_UNAVAILABLE
    with pytest.raises(LaunchFailed):
        await agent.runtime.recover(frozenset())
    await agent.runtime.signal(key("late"), KILL)
    (dying.sandbox / "go").touch()
    await until(lambda: not is_alive(started.pid), "an end without engine")

    await asyncio.to_thread(own_engine.start)
    await agent.listener.available()
    assert (await agent.listener.end(dying.key)).exit_code == 6
    assert agent.listener.end_of(living.key) is None
    (living.sandbox / "go").touch()
    assert (await agent.listener.end(living.key)).exit_code == 5
    numbers = text(living).split()
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    await agent.end()


@pytest.mark.dind
async def test_containers_that_went_with_the_engine_have_ended(own_engine: OwnEngine, tmp_path: Path) -> None:
    agent = Agent(tmp_path, await asyncio.to_thread(own_engine.start))
    await agent.start()
    victim = agent.order("victim", "sleep 300")
    await run(agent.runtime, victim)

    await asyncio.to_thread(own_engine.script, "stop")
    await agent.listener.available(False)
    await asyncio.to_thread(own_engine.start)

    assert (await agent.listener.end(victim.key)).exit_code not in (None, 0)
    await agent.end()


@pytest.mark.dind
async def test_a_signal_to_a_dead_engine_is_sent_when_it_is_back(own_engine: OwnEngine, tmp_path: Path) -> None:
    agent = Agent(tmp_path, await asyncio.to_thread(own_engine.start))
    await agent.start()
    stubborn = agent.order("stubborn", "trap '' TERM; while :; do sleep 0.1; done")
    await run(agent.runtime, stubborn)
    own_engine.kill()
    await agent.listener.available(False)

    await agent.runtime.signal(stubborn.key, KILL)
    await agent.runtime.signal(stubborn.key, TERM)

    await asyncio.to_thread(own_engine.start)
    assert (await agent.listener.end(stubborn.key)).exit_code == 137
    await agent.end()


async def test_an_engine_that_is_not_there_is_told_and_found_when_it_comes(tmp_path: Path) -> None:
    agent = Agent(tmp_path, f"unix://{tmp_path}/no.sock")

    await agent.start()

    assert agent.listener.problem is not None
    assert "no.sock does not answer" in agent.listener.problem
    with pytest.raises(LaunchFailed) as failed:
        await agent.runtime.prepare(agent.order("task", "true"), lambda _: None)
    assert failed.value.reason is Reason.RUNTIME_UNAVAILABLE
    await agent.runtime.close()
