from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runrig.errors import NotFound, RunrigError, Unavailable
from runrig.ids import FrameworkId, TaskId
from runrig.resources import Resources
from runrig.tasks import CheckKind, Command, Container, HealthCheck, NetworkMode, Port, Reason, TaskSpec
from runrig_agent.health_checks import HealthChecks, HealthCheckSettings
from runrig_agent.health_probes import CheckedTask, endpoint
from runrig_agent.runtime import LaunchFailed, TaskKey
from tests.agent.local_exec import LocalExec
from tests.agent.web import Web, content, endless, nothing, redirect, status, web_server

KEY: TaskKey = (FrameworkId("f"), TaskId("t"))
Told = tuple[TaskKey, int, bool, str]


class Ear:
    """A listener whose news can be waited for."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[Told] = asyncio.Queue()

    def __call__(self, key: TaskKey, number: int, ok: bool, message: str) -> None:
        self.told.put_nowait((key, number, ok, message))

    async def next(self) -> Told:
        async with asyncio.timeout(10):
            return await self.told.get()


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
async def checks(ear: Ear) -> AsyncIterator[HealthChecks]:
    checks = HealthChecks(ear)
    yield checks
    await checks.close()


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with web_server() as web:
        yield web


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Keep a port bound, so that nobody listens on it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def task(*checks: HealthCheck, ports: tuple[Port, ...] = (), runtime: LocalExec | None = None) -> CheckedTask:
    spec = TaskSpec(TaskId("t"), Resources(cpu_millis=1), command=Command(shell="x"), ports=ports, health_checks=checks)
    return CheckedTask(KEY, spec, runtime or LocalExec(Path("/")), env=(("WHO", "task"),))


def http(port: int, path: str = "/", timeout_ms: int = 5_000, statuses: tuple[int, ...] = ()) -> HealthCheck:
    return HealthCheck(CheckKind.HTTP, port=port, path=path, statuses=statuses, timeout_ms=timeout_ms, interval_ms=1)


def tcp(port: int) -> HealthCheck:
    return HealthCheck(CheckKind.TCP, port=port, interval_ms=1)


def command(shell: str, timeout_ms: int = 5_000) -> HealthCheck:
    return HealthCheck(CheckKind.COMMAND, shell=shell, timeout_ms=timeout_ms, interval_ms=1)


async def test_an_http_check_succeeds_and_is_tried_again(checks: HealthChecks, ear: Ear, web: Web) -> None:
    web.on("/health", content(b"ok"))
    checks.watch(task(http(web.port, "/health")))

    assert await ear.next() == (KEY, 0, True, "")
    assert await ear.next() == (KEY, 0, True, "")
    assert web.asked[:2] == ["/health", "/health"]


async def test_each_try_is_told_as_it_went(checks: HealthChecks, ear: Ear, web: Web) -> None:
    web.on("/", content(b""), status(500), content(b""))
    checks.watch(task(http(web.port)))

    assert [(await ear.next())[2:] for _ in range(3)] == [
        (True, ""),
        (False, f"GET {web.url}/: status 500"),
        (True, ""),
    ]


@pytest.mark.parametrize(
    "code, wanted, ok", [(399, (), True), (400, (), False), (404, (404, 503), True), (200, (204,), False)]
)
async def test_statuses_are_those_that_were_asked_for(
    checks: HealthChecks, ear: Ear, web: Web, code: int, wanted: tuple[int, ...], ok: bool
) -> None:
    web.on("/", status(code))
    checks.watch(task(http(web.port, statuses=wanted)))

    assert (await ear.next())[2] is ok


async def test_a_redirect_is_healthy_and_not_followed(checks: HealthChecks, ear: Ear, web: Web) -> None:
    web.on("/", redirect("/elsewhere"))
    checks.watch(task(http(web.port)))

    assert (await ear.next())[2]
    assert "/elsewhere" not in web.asked


async def test_a_body_without_end_is_not_read(checks: HealthChecks, ear: Ear, web: Web) -> None:
    web.on("/", endless(b"x" * 65536))
    checks.watch(task(http(web.port)))

    assert (await ear.next())[2]


async def test_no_answer_in_time_is_a_failure(checks: HealthChecks, ear: Ear, web: Web) -> None:
    web.on("/", nothing)
    checks.watch(task(http(web.port, timeout_ms=50)))

    assert (await ear.next())[2:] == (False, "no answer within 0.05 s")


async def test_a_port_that_answers_is_healthy(checks: HealthChecks, ear: Ear, web: Web) -> None:
    checks.watch(task(tcp(web.port)))

    assert (await ear.next())[2:] == (True, "")


async def test_a_port_that_does_not_answer_is_not(checks: HealthChecks, ear: Ear, closed_port: int) -> None:
    checks.watch(task(tcp(closed_port)))
    _, _, ok, message = await ear.next()

    assert not ok
    assert f"cannot connect to 127.0.0.1:{closed_port}" in message


async def test_checks_of_a_task_are_told_by_their_numbers(
    checks: HealthChecks, ear: Ear, web: Web, closed_port: int
) -> None:
    checks.watch(task(tcp(web.port), tcp(closed_port)))
    told = {(number, ok) for _, number, ok, _ in [await ear.next() for _ in range(6)]}

    assert told == {(0, True), (1, False)}


async def test_a_command_runs_in_the_task_with_its_environment(checks: HealthChecks, ear: Ear) -> None:
    checks.watch(task(command('test "$WHO" = task')))

    assert await ear.next() == (KEY, 0, True, "")


async def test_a_failed_command_is_told_with_its_last_words(checks: HealthChecks, ear: Ear) -> None:
    checks.watch(task(command("seq 100000; echo the database is away >&2; exit 3")))
    _, _, ok, message = await ear.next()

    assert not ok
    assert message.startswith("exit code 3: ")
    assert "the database is away" in message
    assert len(message) < 300


async def test_a_command_that_hangs_is_ended(checks: HealthChecks, ear: Ear) -> None:
    runtime = LocalExec(Path("/"))
    checks.watch(task(command("exec sleep 1000", timeout_ms=50), runtime=runtime))

    assert (await ear.next())[2:] == (False, "no answer within 0.05 s")
    assert runtime.sessions[0].has_ended


@pytest.mark.parametrize(
    "error",
    [NotFound("task", "t"), LaunchFailed(Reason.RUNTIME_UNAVAILABLE, "the engine is down"), Unavailable("no warden")],
)
async def test_what_is_no_fault_of_the_task_is_no_result(checks: HealthChecks, ear: Ear, error: RunrigError) -> None:
    runtime = LocalExec(Path("/"), errors=[error, error])
    checks.watch(task(command("true"), runtime=runtime))

    assert await ear.next() == (KEY, 0, True, "")
    assert runtime.errors == []


@pytest.mark.parametrize("error, ok", [(BrokenPipeError(), True), (Unavailable("the engine hung up"), None)])
async def test_a_command_whose_input_cannot_be_closed_does_not_stop_the_check(
    checks: HealthChecks, ear: Ear, error: Exception, ok: bool | None
) -> None:
    runtime = LocalExec(Path("/"))
    runtime.input_error = error
    checks.watch(task(command("true"), runtime=runtime))
    while not runtime.sessions:  # noqa: ASYNC110  (the loop has nothing to tell it)
        await asyncio.sleep(0)
    runtime.input_error = None

    assert [(await ear.next())[2] for _ in range(2)] == [True, True]
    assert len(runtime.sessions) >= (2 if ok else 3)


async def test_a_command_that_cannot_start_is_a_failure(checks: HealthChecks, ear: Ear) -> None:
    runtime = LocalExec(Path("/"), errors=[LaunchFailed(Reason.START_FAILED, "no such program")])
    checks.watch(task(command("true"), runtime=runtime))

    assert (await ear.next())[2:] == (False, "no such program")


async def test_a_task_that_is_not_watched_any_more_is_not_checked(checks: HealthChecks, ear: Ear, web: Web) -> None:
    watched = task(tcp(web.port))
    checks.watch(watched)
    checks.watch(watched)
    await ear.next()

    checks.unwatch(KEY)
    checks.unwatch(KEY)

    with suppress(asyncio.QueueEmpty):
        ear.told.get_nowait()  # told already, before
    await until_nothing_runs("health check")
    assert ear.told.empty()


async def test_no_more_commands_run_at_once_than_allowed(ear: Ear) -> None:
    checks = HealthChecks(ear, HealthCheckSettings(commands_max=2))
    runtime = LocalExec(Path("/"))
    checks.watch(task(*[command("sleep 0.02")] * 10, runtime=runtime))

    told = [await ear.next() for _ in range(20)]
    await checks.close()

    assert all(ok for _, _, ok, _ in told)
    assert runtime.most_at_once == 2


async def test_closing_ends_a_check_that_is_being_tried(ear: Ear) -> None:
    checks = HealthChecks(ear)
    runtime = LocalExec(Path("/"))
    checks.watch(task(command("exec sleep 1000"), runtime=runtime))
    while not runtime.sessions:  # noqa: ASYNC110  (the loop has nothing to tell it)
        await asyncio.sleep(0)

    await checks.close()

    assert runtime.sessions[0].has_ended
    assert ear.told.empty()


PORTS = (Port(31000, 80), Port(31001, 8080))


@pytest.mark.parametrize(
    "network, address, check, found",
    [
        (NetworkMode.HOST, "", tcp(9000), ("127.0.0.1", 9000)),
        (NetworkMode.BRIDGE, "172.17.0.2", tcp(31001), ("127.0.0.1", 31001)),
        (NetworkMode.BRIDGE, "172.17.0.2", tcp(9000), ("172.17.0.2", 9000)),
        (NetworkMode.BRIDGE, "172.17.0.2", tcp(80), ("172.17.0.2", 80)),
        (NetworkMode.BRIDGE, "", tcp(9000), ("127.0.0.1", 9000)),
        (NetworkMode.USER, "10.1.2.3", HealthCheck(CheckKind.TCP, port_index=1), ("127.0.0.1", 31001)),
    ],
)
def test_a_port_is_tried_where_it_can_be_reached(
    network: NetworkMode, address: str, check: HealthCheck, found: tuple[str, int]
) -> None:
    container = Container("image", network=network)
    spec = TaskSpec(TaskId("t"), Resources(cpu_millis=1), container=container, ports=PORTS)

    checked = CheckedTask(KEY, spec, LocalExec(Path("/")), address=address)

    assert endpoint(checked, check, "127.0.0.1") == found


async def until_nothing_runs(name: str) -> None:
    async with asyncio.timeout(10):
        while any(  # noqa: ASYNC110
            each.get_name().startswith(name) for each in asyncio.all_tasks()
        ):
            await asyncio.sleep(0)
