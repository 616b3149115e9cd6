"""A well-behaved agent and a well-behaved framework of a master that others attack: their work is not disturbed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from runrig.v1 import agent_pb2, scheduler_pb2, tasks_pb2
from tests.edges.master_server import Served, Stream, accept, register, resources, spec, subscribe
from tests.fuzz.rounds import PATIENCE_S

AGENT, FRAMEWORK = "steady-agent", "steady-framework"


class Bystander:
    """The framework, which runs a task when the test asks for one; it hears all the time what the master says."""

    def __init__(self, stream: Stream[Any]) -> None:
        self._stream = stream
        self._offers: dict[str, scheduler_pb2.Offer] = {}
        self._states: dict[str, int] = {}
        self._heard = asyncio.Event()
        self._tasks = 0
        self._writing = asyncio.Lock()

    async def runs_a_task(self) -> None:
        """Have a task launched on the steady agent, and see it reach its end."""
        self._tasks += 1
        task_id = f"steady-{self._tasks}"
        await self._send(scheduler_pb2.SchedulerCall(revive=scheduler_pb2.Revive()))
        async with asyncio.timeout(PATIENCE_S):
            while not self._offers:
                await self._next()
            _, offer = self._offers.popitem()
            await self._send(accept(offer, spec(task_id)))
            while self._states.get(task_id, tasks_pb2.TASK_RUNNING) == tasks_pb2.TASK_RUNNING:
                await self._next()
        assert self._states[task_id] == tasks_pb2.TASK_FINISHED, self._states[task_id]

    async def _send(self, call: scheduler_pb2.SchedulerCall) -> None:
        """Send one call after another: gRPC takes one message at a time."""
        async with self._writing:
            await self._stream.send(call)

    async def _next(self) -> None:
        self._heard.clear()
        await self._heard.wait()

    async def listen(self) -> None:
        """Hear the master until the stream ends, which it should not."""
        while True:
            for event in await self._stream.envelope():
                match event.WhichOneof("event"):
                    case "offers":
                        await self._offered(event.offers.offers)
                    case "rescind":
                        for offer_id in event.rescind.offer_ids:
                            self._offers.pop(offer_id, None)
                    case "updates":
                        await self._updated(event.updates.updates)
                    case _:
                        pass
            self._heard.set()

    async def _offered(self, offers: Any) -> None:
        """Keep the offers of the agent that is known to work; leave those of others alone."""
        self._offers.update({offer.offer_id: offer for offer in offers if offer.agent_id == AGENT})
        others = [offer.offer_id for offer in offers if offer.agent_id != AGENT]
        if others:
            filter_ = scheduler_pb2.Filter(refuse_ms=3_600_000, reason="of a stranger")
            decline = scheduler_pb2.Decline(offer_ids=others, filter=filter_)
            await self._send(scheduler_pb2.SchedulerCall(decline=decline))

    async def _updated(self, updates: Any) -> None:
        receipts = scheduler_pb2.Acknowledge()
        for update in updates:
            self._states[update.task_id] = update.state
            receipts.acknowledgements.add(task_id=update.task_id, agent_id=AGENT, number=update.number)
        await self._send(scheduler_pb2.SchedulerCall(acknowledge=receipts))


@asynccontextmanager
async def steady(served: Served) -> AsyncIterator[Bystander]:
    """Let both work while the block runs; say how they were disturbed if they were."""
    agent, scheduler = served.agent(), served.scheduler()
    await agent.send(register(AGENT, resources=resources(8_000, 8_192)))
    await agent.next("registered")
    await scheduler.send(subscribe(FRAMEWORK))
    bystander = Bystander(scheduler)
    working = [asyncio.create_task(work) for work in (bystander.listen(), _run_tasks(agent))]
    try:
        yield bystander
        assert not any(each.done() for each in working), f"the bystanders were disturbed: {working}"
    finally:
        for each in working:
            each.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        agent.cancel()
        scheduler.cancel()


async def _run_tasks(agent: Stream[Any]) -> None:
    """Run whatever the agent is told to, whoever wants it, at once from beginning to end."""
    while (envelope := await agent.call.read()) is not grpc.aio.EOF:
        reports = [report for command in envelope.commands for report in _reports(command.launch)]
        if reports:
            await agent.send(*reports)


def _reports(launch: agent_pb2.Launch) -> list[agent_pb2.AgentReport]:
    return [
        agent_pb2.AgentReport(
            update=tasks_pb2.StatusUpdate(
                framework_id=launch.framework_id,
                task_id=task.task_id,
                agent_id=AGENT,
                number=number,
                state=state,
                source=tasks_pb2.SOURCE_AGENT,
            )
        )
        for task in launch.tasks
        for number, state in enumerate((tasks_pb2.TASK_RUNNING, tasks_pb2.TASK_FINISHED), 1)
    ]
