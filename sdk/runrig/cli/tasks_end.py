"""End what a cluster runs before the cluster itself ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from runrig.cli.grpc_operator import Operator
from runrig.cli.views import TaskView
from runrig.errors import NotFound, Unavailable

PATIENCE_S = 30.0  # kill policies of a minute exist; nobody waits that long for a Ctrl-C
POLL_S = 0.2
ABSENT = ("TASK_UNREACHABLE", "TASK_UNKNOWN")  # of agents that nobody hears


async def settled(
    master: str, hostnames: set[str], frameworks: int, tell: Callable[[str], None], patience_s: float = PATIENCE_S
) -> None:
    """Wait until the agents are registered and as many frameworks are connected; raise Unavailable.

    Agents that can run nothing are told of: tasks would wait without a word.
    """
    deadline = time.monotonic() + patience_s
    async with Operator.of(master) as operator:
        while True:
            agents = [agent for agent in await operator.agents() if agent.state == "ACTIVE"]
            active = {agent.hostname for agent in agents}
            connected = sum(framework.connected for framework in await operator.frameworks())
            if active >= hostnames and connected >= frameworks:
                for agent in agents:
                    if not agent.runtimes:
                        tell(f"{agent.hostname} can run no task: no runtime works there; its log says why")
                return
            if time.monotonic() > deadline:
                missing = ", ".join(sorted(hostnames - active)) or "no agent"
                raise Unavailable(
                    f"after {patience_s:g} s {missing} is missing, and {connected} of {frameworks} "
                    f"frameworks are connected to the master at {master}; their logs say why"
                )
            await asyncio.sleep(POLL_S)


async def end_tasks(master: str, *, teardown: bool, tell: Callable[[str], None]) -> None:
    """End all tasks, and close the frameworks' ids for ever with `teardown`; wait until they have ended.

    Raises Unavailable when some have not after PATIENCE_S.
    """
    async with Operator.of(master) as operator:
        live = await operator.tasks()
        if live:
            tell(f"ending {len(live)} task{'s' if len(live) > 1 else ''}")
        if teardown:
            for framework in await operator.frameworks():
                await operator.teardown_framework(framework.id)
        else:
            for task in live:
                await _kill(operator, task)
        left = await _wait_ended(operator)
    if left:
        named = ", ".join(f"{task.id} on {task.hostname}" for task in left[:5])
        raise Unavailable(f"{len(left)} tasks have not ended after {PATIENCE_S:g} s: {named}")


async def _kill(operator: Operator, task: TaskView) -> None:
    try:
        await operator.kill_task(task)
    except NotFound:
        return  # it has ended


async def _wait_ended(operator: Operator) -> list[TaskView]:
    """Wait until no task lives that an agent could end; return those that are left."""
    deadline = time.monotonic() + PATIENCE_S
    while left := [task for task in await operator.tasks() if task.state not in ABSENT]:
        if time.monotonic() > deadline:
            return left
        await asyncio.sleep(POLL_S)
    return []
