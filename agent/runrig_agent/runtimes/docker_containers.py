"""Containers as the engine describes them, and the way to get one."""

from __future__ import annotations

import asyncio
import signal as signals
from calendar import timegm
from dataclasses import dataclass
from pathlib import Path
from time import strptime
from typing import Any

from runrig.tasks import Reason
from runrig_agent.runtime import Ended, LaunchFailed, Started
from runrig_agent.runtimes.docker_engine import Engine
from runrig_agent.runtimes.docker_errors import image_unavailable, launch_failed
from runrig_agent.runtimes.docker_spec import AGENT_LABEL, ContainerPlan
from runrig_agent.runtimes.docker_streams import EngineAnswer

CREATE_ATTEMPTS = 6
CREATE_PAUSE_S = 0.05
"""Doubled each time: a container that is being removed keeps its name for a while."""

_HINTS = {
    126: "exit code 126: mostly, the command is in the image but may not be executed",
    127: "exit code 127: mostly, the command is not in the image; stderr may say more",
}
_RUNNING = ("running", "paused", "restarting")


@dataclass(frozen=True, slots=True)
class State:
    """What the engine says of a container; from a list, only what a list has."""

    id: str
    name: str
    labels: dict[str, str]
    status: str
    facts: dict[str, Any]

    @property
    def is_running(self) -> bool:
        """Say whether it runs."""
        return self.status in _RUNNING

    @property
    def was_started(self) -> bool:
        """Say whether it ever ran: one that could not be started stays `created`."""
        return self.status != "created"

    def mounted_at(self, target: str) -> Path:
        """Return the directory of the host that the container has at `target`; needs an inspection."""
        mounts = self.facts["HostConfig"].get("Mounts") or []
        return next(Path(each["Source"]) for each in mounts if each["Target"] == target)

    @property
    def started(self) -> Started:
        """When and as what it started; needs an inspection."""
        state, networks = self.facts["State"], self.facts.get("NetworkSettings", {}).get("Networks") or {}
        addresses = [str(each.get("IPAddress") or "") for each in networks.values()]
        return Started(
            started_at_unix_ms=unix_ms(state["StartedAt"]),
            pid=int(state.get("Pid") or 0),
            container_id=self.id,
            address=next(filter(None, addresses), ""),
        )

    def ended(self, had_oom_event: bool) -> Ended:
        """How it ended; needs an inspection."""
        state = self.facts["State"]
        code = int(state["ExitCode"])
        is_out_of_memory = code != 0 and (bool(state.get("OOMKilled")) or had_oom_event)
        limit = int(self.facts["HostConfig"].get("Memory") or 0)
        return Ended(
            exit_code=code,
            ended_at_unix_ms=unix_ms(state["FinishedAt"]),
            is_out_of_memory=is_out_of_memory,
            message=_text(code, is_out_of_memory, limit, str(state.get("Error") or "")),
        )


async def inspected(engine: Engine, container: str) -> State:
    """Ask for one container, by id or name; raises EngineAnswer, Unavailable."""
    facts = await engine.ask(lambda api: api.inspect_container(container))
    labels = facts["Config"].get("Labels") or {}
    return State(facts["Id"], facts["Name"].lstrip("/"), labels, facts["State"]["Status"], facts)


async def listed(engine: Engine, agent: str) -> list[State]:
    """List all containers of an agent; raises EngineAnswer, Unavailable."""
    filters = {"label": f"{AGENT_LABEL}={agent}"}
    found = await engine.ask(lambda api: api.containers(all=True, filters=filters))
    return [
        State(each["Id"], each["Names"][0].lstrip("/"), each.get("Labels") or {}, each["State"], {})
        for each in found
        if each.get("Names")
    ]


async def create_and_start(engine: Engine, plan: ContainerPlan) -> State:
    """Start the planned container, or find it started; raises LaunchFailed, EngineAnswer, Unavailable."""
    pause_s = CREATE_PAUSE_S
    for _ in range(CREATE_ATTEMPTS):
        state = await _created(engine, plan)
        if state is not None:
            if not state.was_started:
                await _start(engine, state.id)
                state = await inspected(engine, state.id)
            return state
        await asyncio.sleep(pause_s)
        pause_s *= 2
    raise LaunchFailed(
        Reason.START_FAILED,
        f"the name {plan.name} is taken by a container that cannot be removed; look at it on the agent",
    )


async def _created(engine: Engine, plan: ContainerPlan) -> State | None:
    """Create the container, or find it created; None when another one had to make room first."""
    try:
        made = await engine.change(lambda api: api.create_container_from_config(plan.body, plan.name))
        return State(made["Id"], plan.name, plan.labels, "created", {})
    except EngineAnswer as answer:
        if answer.status == 404 and "image" in str(answer).lower():
            raise image_unavailable(plan.body["Image"], answer) from answer
        if answer.status != 409:
            raise
    return await _adopted(engine, plan)


async def _adopted(engine: Engine, plan: ContainerPlan) -> State | None:
    """Return the container that has the name if it is the one that we want; remove it otherwise."""
    try:
        state = await inspected(engine, plan.name)
        if all(state.labels.get(name) == value for name, value in plan.labels.items()):
            is_usable = state.status not in ("removing", "dead")
            return state if is_usable else None
        await engine.change(lambda api: api.remove_container(plan.name, force=True, v=True))
    except EngineAnswer as answer:
        if answer.status not in (404, 409):  # gone meanwhile, or being removed
            raise
    return None


async def _start(engine: Engine, container: str) -> None:
    try:
        await engine.change(lambda api: api.start(container))
    except EngineAnswer as answer:
        raise launch_failed(answer) from answer


def unix_ms(text: str) -> int:
    """Read the engine's form of a time: 2006-01-02T15:04:05.123456789Z."""
    fraction = text[20:].rstrip("Z").ljust(3, "0")[:3] if len(text) > 20 else "0"
    return timegm(strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) * 1000 + int(fraction)


def _text(code: int, is_out_of_memory: bool, limit: int, error: str) -> str:
    if is_out_of_memory:
        return f"out of memory: it wanted more than its limit of {limit >> 20} MiB"
    if error:
        return error
    if code in _HINTS:
        return _HINTS[code]
    if code > 128 and code - 128 in signals.valid_signals() and code - 128 < 32:
        return f"ended by {signals.Signals(code - 128).name}"
    return ""
