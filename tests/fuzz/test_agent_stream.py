"""AgentService.Connect under fire."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from runrig.v1 import agent_pb2
from tests.fuzz import templates
from tests.fuzz.connect_stream import Hostile
from tests.fuzz.master_target import Target, under_fire
from tests.fuzz.messages import mutated, serialized
from tests.fuzz.raw_bytes import damaged
from tests.fuzz.rounds import rounds

STRIKES = 60
AGENTS = 8
"""Fewer than strikes: agents come back, and find their tasks changed."""
FRAMEWORKS = ("steady-framework", "victim", "nobody")


def items(envelope: bytes) -> list[Any]:
    return list(agent_pb2.AgentServiceConnectResponse.FromString(envelope).commands)


class Agent(Hostile):
    """An agent that means no good."""

    number = 0

    async def reports(self, *reports: agent_pb2.AgentReport, number: int | None = None) -> None:
        """Send reports in an envelope with the next number, or another one."""
        self.number += 1
        number = self.number if number is None else number
        await self.send(serialized(agent_pb2.AgentServiceConnectRequest(number=number, reports=reports)))

    async def is_served(self, name: str) -> bool:
        """Say whether the master still answers over this stream: it does, or it has ended it."""
        update = templates.status("never-heard-of", name, "agent", 1, 5)
        await self.reports(agent_pb2.AgentReport(update=update))
        return await self.until(lambda item: item.acknowledge.task_id == name)


async def strike(target: Target, chance: Random, number: int) -> None:
    """Register, mostly with tasks, and report what an agent should not."""
    hostile = Agent(target.raw("AgentService/Connect"), items)
    agent_id = f"hostile-agent-{chance.randrange(AGENTS)}"
    tasks = [_task_report(chance, agent_id) for _ in range(chance.choice((0, 1, 3)))]
    opening = templates.registration(agent_id, tasks, session=number + 1)
    if chance.random() < 0.4:
        mutated(opening, chance)
    if chance.random() < 0.9:
        await hostile.reports(opening)
    if await hostile.is_served(f"{number}-probe"):
        for _ in range(chance.randrange(1, 6)):
            await send_something_wrong(hostile, chance, agent_id)
        await hostile.is_served(f"{number}-end")
    hostile.call.cancel()
    hostile.check()


async def send_something_wrong(hostile: Agent, chance: Random, agent_id: str) -> None:
    reports = [_report(chance, agent_id) for _ in range(chance.choice((1, 1, 2, 5)))]
    for report in reports:
        if chance.random() < 0.7:
            mutated(report, chance)
    match chance.randrange(12):
        case 0:
            await hostile.reports(*reports, number=chance.choice((0, 1, 7, 2**64 - 1)))
        case 1:
            hostile.number += 1
            valid = serialized(agent_pb2.AgentServiceConnectRequest(number=hostile.number, reports=reports))
            await hostile.send(damaged(valid, chance))
        case _:
            await hostile.reports(*reports)


def _report(chance: Random, agent_id: str) -> agent_pb2.AgentReport:
    framework_id, task_id = chance.choice(FRAMEWORKS), f"task-{chance.randrange(6)}"
    number, state = chance.randrange(6), chance.randrange(1, 14)
    match chance.randrange(5):
        case 0:
            return agent_pb2.AgentReport(changed=templates.agent(agent_id))
        case 1:
            unknown = agent_pb2.TaskUnknown(framework_id=framework_id, task_id=task_id)
            return agent_pb2.AgentReport(task_unknown=unknown)
        case 2 if chance.random() < 0.2:
            return templates.registration(agent_id, [_task_report(chance, agent_id)], session=1_000)
        case _:
            return agent_pb2.AgentReport(update=templates.status(framework_id, task_id, agent_id, number, state))


def _task_report(chance: Random, agent_id: str) -> agent_pb2.TaskReport:
    framework_id, task_id = chance.choice(FRAMEWORKS), f"task-{chance.randrange(6)}"
    return templates.task_report(framework_id, task_id, agent_id, chance.randrange(6), chance.randrange(1, 14))


async def barrage(seed: int) -> None:
    """Strike until the master breaks, or it is enough."""
    chance = Random(seed)
    async with under_fire() as target:
        victim = await target.served.subscribed("victim")
        for number in range(STRIKES):
            await strike(target, chance, number)
            if number % 10 == 0:
                await target.check()
        victim.cancel()


@pytest.mark.parametrize("seed", rounds(4))
async def test_nothing_that_an_agent_sends_harms_the_master_or_those_who_work_with_it(seed: int) -> None:
    await barrage(seed)
