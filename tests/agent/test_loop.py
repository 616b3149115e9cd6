"""The loop with real files and a fake runtime: batches, barriers, and what happens when something fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runrig.agents import Order, Registered, Report
from runrig.tasks import Reason, RuntimeKind, StatusUpdate
from runrig_agent.checkpoint import Checkpoint
from runrig_agent.core import events
from runrig_agent.core.agent import AgentCore
from runrig_agent.fetch import Fetcher
from runrig_agent.loop import Loop
from runrig_agent.runtime import Ended
from runrig_agent.sandboxes import Sandboxes
from runrig_agent.task_runs import TaskRuns, TaskRunSettings
from runrig_agent.volumes import Volumes
from tests.agent.core.given import INFO, POLICY, acknowledge, container, key, kill, launch, process
from tests.agent.fake_runtime import FakeRuntime

DEADLINE_S = 10.0


class FakeStreams:
    """A master that answers at once; keeps what is reported, and in how many envelopes."""

    def __init__(self, tell: Callable[[events.Event], None]) -> None:
        self.envelopes: list[tuple[Report, ...]] = []
        self.session = 0
        self.changed = asyncio.Event()
        self._tell = tell

    def open(self, session: int, master: str) -> None:
        self.session = session
        self._tell(events.StreamOpened(session))
        self.order(Registered("c", 75_000, 15_000))

    def order(self, *orders: Order) -> None:
        self._tell(events.OrdersReceived(self.session, 7, orders))

    def send(self, session: int, reports: tuple[Report, ...]) -> None:
        self.envelopes.append(reports)
        self.changed.set()

    def close(self, session: int, why: str) -> None:
        self._tell(events.StreamClosed(session, why, 0.0))

    def set_heartbeat(self, session: int, interval_s: float) -> None:
        pass

    def said(self) -> list[tuple[str, str, Reason]]:
        return [
            (report.task_id, report.state.name, report.reason)
            for envelope in self.envelopes
            for report in envelope
            if isinstance(report, StatusUpdate)
        ]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Bench:
    """An agent without its network."""

    def __init__(self, work_dir: Path) -> None:
        self.work_dir = work_dir
        self.process = FakeRuntime()
        self.docker = FakeRuntime(RuntimeKind.DOCKER)

    async def start(self) -> None:
        self.checkpoint, opened = await Checkpoint.open(self.work_dir)
        self.loop = Loop(AgentCore(POLICY), self.checkpoint)
        sandboxes = Sandboxes(self.work_dir, lambda key, _: self.process.forget(key))
        await sandboxes.recover({saved.record.key for saved in opened.saved.tasks})
        runtimes = {RuntimeKind.PROCESS: self.process, RuntimeKind.DOCKER: self.docker}
        settings = TaskRunSettings(recovery_retry_s=0.02)
        self.runs = TaskRuns(runtimes, sandboxes, Volumes(self.work_dir), Fetcher(), self.loop.tell, "host-1", settings)
        self.master = FakeStreams(self.loop.tell)
        info = replace(INFO, agent_id=opened.agent_id)
        self.loop.start(events.AgentStarted(info, opened.saved, opened.is_host_rebooted))
        self.turning = asyncio.create_task(self.loop.run(self.runs, self.master))
        self.runs.start()
        await self.master.until(lambda: self.loop.core.is_registered or bool(self.master.envelopes))

    async def stop(self) -> None:
        """End without any farewell that a kill -9 would not give, but for the lock of the work directory."""
        self.turning.cancel()
        await asyncio.gather(self.turning, return_exceptions=True)
        await self.runs.close()
        await self.checkpoint.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "work")
    await bench.start()
    yield bench
    await bench.stop()


async def test_a_task_runs_from_order_to_report(bench: Bench) -> None:
    bench.master.order(launch(process()))
    await bench.master.until(lambda: len(bench.master.said()) == 1)
    bench.process.end(key(), Ended(0, 2000))
    await bench.master.until(lambda: len(bench.master.said()) == 2)

    assert bench.master.said() == [("t", "TASK_RUNNING", Reason.NONE), ("t", "TASK_FINISHED", Reason.EXITED)]
    [order] = bench.process.orders
    assert order.sandbox.is_dir()
    assert dict(order.env)["RUNRIG_TASK_ID"] == "t"


async def test_what_comes_together_costs_one_commit_and_one_envelope(bench: Bench) -> None:
    names = [f"t{number}" for number in range(30)]
    bench.master.order(launch(*(process(name, cpu_millis=1) for name in names)))
    await bench.master.until(lambda: len(bench.master.said()) == 30)
    commits, envelopes = bench.loop.commits, len(bench.master.envelopes)

    for name in names:
        bench.process.end(key(name), Ended(0, 2000))
    await bench.master.until(lambda: len(bench.master.said()) == 60)

    assert (bench.loop.commits, len(bench.master.envelopes)) == (commits + 1, envelopes + 1)


async def test_a_hung_engine_holds_up_nobody_else(bench: Bench) -> None:
    bench.docker.hangs = True
    bench.master.order(launch(container("hangs"), process("runs")))

    await bench.master.until(lambda: ("runs", "TASK_RUNNING", Reason.NONE) in bench.master.said())


async def test_a_kill_cancels_the_preparation(bench: Bench) -> None:
    bench.docker.hangs = True
    bench.master.order(launch(container()))
    await bench.master.until(lambda: ("t", "TASK_STARTING", Reason.PULLING_IMAGE) in bench.master.said())

    bench.master.order(kill())
    await bench.master.until(lambda: ("t", "TASK_KILLED", Reason.KILLED_BEFORE_LAUNCH) in bench.master.said())
    await asyncio.sleep(0)

    assert bench.docker.cancelled == 1


async def test_a_kill_is_carried_out(bench: Bench) -> None:
    bench.master.order(launch(process()))
    await bench.master.until(lambda: len(bench.master.said()) == 1)

    bench.master.order(kill())
    await bench.master.until(lambda: len(bench.master.said()) == 3)

    assert bench.process.signals == [(key(), 15)]
    assert bench.master.said()[-1] == ("t", "TASK_KILLED", Reason.KILLED_BY_FRAMEWORK)


async def test_a_restart_finds_everything_again(bench: Bench) -> None:
    bench.master.order(launch(process("runs"), process("ends"), process("over")))
    await bench.master.until(lambda: len(bench.master.said()) == 3)
    bench.process.end(key("over"), Ended(0, 2000))
    await bench.master.until(lambda: len(bench.master.said()) == 4)
    bench.master.order(acknowledge(2, "over"))
    await asyncio.sleep(0.05)

    await bench.stop()
    bench.process.tasks[key("ends")] = Ended(3, 3000)
    await bench.start()
    await bench.master.until(lambda: ("ends", "TASK_FAILED", Reason.EXITED) in bench.master.said())

    assert {task for task, _, _ in bench.master.said()} == {"runs", "ends"}
    assert len(bench.process.orders) == 3


async def test_an_engine_that_is_dead_at_the_start_is_asked_again_until_it_answers(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.docker.problem = "no engine answers; start docker"
    await bench.start()
    await bench.master.until(lambda: bench.loop.core.is_registered)
    assert bench.loop.core.info.runtimes == (RuntimeKind.PROCESS,)

    bench.docker.problem = None
    await bench.master.until(lambda: RuntimeKind.DOCKER in bench.loop.core.info.runtimes)

    await bench.stop()


async def test_what_nobody_foresaw_stops_the_agent(bench: Bench) -> None:
    bench.process.bug = ZeroDivisionError("a bug")
    bench.master.order(launch(process()))

    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(DEADLINE_S):
            await bench.runs.failure


async def test_a_checkpoint_that_cannot_be_written_stops_the_agent_before_it_starts_anything(bench: Bench) -> None:
    from runrig.errors import Unavailable

    bench.checkpoint._connection.execute("PRAGMA query_only=ON")
    bench.master.order(launch(process()))

    with pytest.raises(Unavailable, match="cannot be written"):
        async with asyncio.timeout(DEADLINE_S):
            await bench.turning

    assert bench.process.orders == []


async def test_those_who_look_into_sandboxes_see_living_tasks(bench: Bench) -> None:
    bench.master.order(launch(process()))
    await bench.master.until(lambda: len(bench.master.said()) == 1)

    living = bench.loop.living(key())
    bench.process.end(key(), Ended(0, 2000))
    await bench.master.until(lambda: len(bench.master.said()) == 2)

    assert living is not None
    assert living.runtime is bench.process
    assert bench.loop.living(key()) is None
