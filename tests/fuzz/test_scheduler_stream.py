"""SchedulerService.Connect under fire."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from runrig.v1 import scheduler_pb2
from tests.fuzz import templates
from tests.fuzz.connect_stream import Hostile
from tests.fuzz.master_target import Target, under_fire
from tests.fuzz.messages import mutated, serialized
from tests.fuzz.raw_bytes import damaged
from tests.fuzz.rounds import rounds

STRIKES = 60


def items(envelope: bytes) -> list[Any]:
    return list(scheduler_pb2.SchedulerServiceConnectResponse.FromString(envelope).events)


class Scheduler(Hostile):
    """A scheduler that means no good."""

    number = 0

    async def calls(self, *calls: scheduler_pb2.SchedulerCall, number: int | None = None) -> None:
        """Send calls in an envelope with the next number, or another one."""
        self.number += 1
        number = self.number if number is None else number
        await self.send(serialized(scheduler_pb2.SchedulerServiceConnectRequest(number=number, calls=calls)))

    async def is_served(self, name: str) -> bool:
        """Say whether the master still answers over this stream: it does, or it has ended it."""
        reference = scheduler_pb2.TaskReference(task_id=name)
        await self.calls(scheduler_pb2.SchedulerCall(reconcile=scheduler_pb2.Reconcile(tasks=[reference])))
        return await self.until(lambda item: any(update.task_id == name for update in item.updates.updates))


def scheduler(target: Target) -> Scheduler:
    return Scheduler(target.raw("SchedulerService/Connect"), items)


async def strike(target: Target, chance: Random, name: str) -> None:
    """Subscribe, mostly, and send what a scheduler should not."""
    hostile = scheduler(target)
    opening = templates.subscribe(name)
    if chance.random() < 0.2:
        mutated(opening, chance)
    if chance.random() < 0.9:
        await hostile.calls(opening)
    if await hostile.is_served(f"{name}-probe"):
        for place in range(chance.randrange(1, 6)):
            await send_something_wrong(target, hostile, chance, name, f"{name}-{place}")
        await hostile.is_served(f"{name}-end")
    hostile.call.cancel()
    hostile.check()


async def send_something_wrong(target: Target, hostile: Scheduler, chance: Random, name: str, task: str) -> None:
    framework = target.loop.master.cluster.frameworks.get(name)  # type: ignore[call-overload]
    offers = [(offer.id, offer.agent.id) for offer in framework.offers.values()] if framework is not None else []
    calls = [templates.call(chance, name, offers, task) for _ in range(chance.choice((1, 1, 2, 5)))]
    for call in calls:
        if chance.random() < 0.8:
            mutated(call, chance)
    match chance.randrange(12):
        case 0:
            await hostile.calls(*calls, number=chance.choice((0, 1, 7, 2**64 - 1)))
        case 1:
            hostile.number += 1
            valid = serialized(scheduler_pb2.SchedulerServiceConnectRequest(number=hostile.number, calls=calls))
            await hostile.send(damaged(valid, chance))
        case _:
            await hostile.calls(*calls)


async def barrage(seed: int) -> None:
    """Strike until the master breaks, or it is enough."""
    chance = Random(seed)
    async with under_fire() as target:
        agent = await target.served.registered("hostile-agent", resources=templates.plenty())
        for number in range(STRIKES):
            await strike(target, chance, f"hostile-{number}")
            if number % 10 == 0:
                await target.check()
        agent.cancel()


@pytest.mark.parametrize("seed", rounds(4))
async def test_nothing_that_a_scheduler_sends_harms_the_master_or_those_who_work_with_it(seed: int) -> None:
    await barrage(seed)
