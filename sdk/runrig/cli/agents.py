"""The hosts of the cluster: `runrig agents …` and `runrig drain`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from runrig._plain import LAST_UNIX_MS, iso
from runrig.cli.columns import AGENTS
from runrig.cli.durations import DURATION, parse_duration
from runrig.cli.operator import ask, confirm, yes_option
from runrig.cli.output import Form, hint, output_option, print_list, print_one
from runrig.cli.settings import master_option
from runrig.cli.views import AgentView, AwayView
from runrig.errors import Conflict, InvalidInput, NotFound, TimedOut

if TYPE_CHECKING:
    from runrig.cli.grpc_operator import Operator

LOOK_AGAIN_S = 0.5
"""How often `drain --wait` asks the master."""
EMPTY = ("DRAINED", "GONE")

agents_argument = click.argument("agents", nargs=-1, required=True, metavar="AGENT...")


@click.group()
def agents() -> None:
    """Look at the hosts of the cluster, and take them in and out."""


@agents.command("ls")
@master_option
@output_option
def agents_ls(master: str, output: Form) -> None:
    """List the agents: what each has in total, and what is free.

    Example: runrig agents ls -o json
    """
    print_list(
        ask(master, lambda operator: operator.agents()),
        AGENTS,
        output,
        empty="no agents; `runrig agent --help`",
    )


@agents.command("show")
@click.argument("agent")
@master_option
@output_option
def agents_show(agent: str, master: str, output: Form) -> None:
    """Show one agent: AGENT is a hostname, an id or the beginning of one.

    Example: runrig agents show agent-1 -o json
    """
    print_one(ask(master, lambda operator: operator.agent(agent)), AGENTS, output)


@agents.command("deactivate")
@agents_argument
@master_option
def agents_deactivate(agents: tuple[str, ...], master: str) -> None:
    """Offer nothing of agents any more; their tasks go on.

    Example: runrig agents deactivate agent-2 agent-3
    """
    _each(master, agents, lambda operator, agent: operator.deactivate_agent(agent.id))
    hint(
        f"nothing of it is offered any more; its tasks go on; undo with: runrig agents activate {' '.join(agents)}\n"
        "to empty it as well: runrig drain --help"
    )


@agents.command("activate")
@agents_argument
@master_option
def agents_activate(agents: tuple[str, ...], master: str) -> None:
    """Offer the resources of agents again; it ends a drain.

    Example: runrig agents activate agent-2
    """
    _each(master, agents, lambda operator, agent: operator.reactivate_agent(agent.id))


@agents.command("reactivate", hidden=True)
@agents_argument
@master_option
def agents_reactivate(agents: tuple[str, ...], master: str) -> None:
    """Do what `activate` does.

    Example: runrig agents reactivate agent-2
    """
    _each(master, agents, lambda operator, agent: operator.reactivate_agent(agent.id))


@agents.command("gone")
@agents_argument
@yes_option
@master_option
def agents_gone(agents: tuple[str, ...], yes: bool, master: str) -> None:
    """Declare that agents never come back.

    Their tasks become TASK_GONE_BY_OPERATOR, so that frameworks replace them at once, and their ids are never
    admitted again.
    A terminal is asked first; a script is not.

    Example: runrig agents gone agent-2
    """
    found = ask(master, lambda operator: _found(operator, agents))
    confirm(f"{_named(found)}: gone for ever?", yes)
    _each(master, [agent.id for agent in found], lambda operator, agent: operator.mark_agent_gone(agent.id))


@agents.command("maintenance")
@agents_argument
@click.option("--start", metavar="WHEN", help="In how long (2h), or when (2026-12-01T22:00Z).")
@click.option("--for", "span", type=DURATION, default=None, metavar="TIME", help="For how long.  [default: no end]")
@click.option("--clear", is_flag=True, help="They will not be away after all.")
@master_option
def agents_maintenance(
    agents: tuple[str, ...], start: str | None, span: float | None, clear: bool, master: str
) -> None:
    """Say when agents will be away.

    It stands in their offers: frameworks put nothing there that would not end in time. Those who run something there
    are asked to leave, but nothing is killed; that is what `runrig drain` does.

    Example: runrig agents maintenance agent-1 agent-2 --start 2h --for 30m
    """
    if clear == (start is not None) or (clear and span is not None):
        raise InvalidInput("--start", start, "--start, with --for if it has an end, or --clear alone")
    if span is not None and span < 0.001:
        raise InvalidInput("--for", span, "at least 1ms, or no --for: without an end")
    away = None if start is None else AwayView(_moment(start, datetime.now(UTC)), int((span or 0) * 1000))

    async def said(operator: Operator) -> list[str]:
        names = [agent.id for agent in await _found(operator, agents)]
        await operator.set_unavailability(names, away)
        return names

    for name in ask(master, said):
        click.echo(name)
    if away is not None:
        hint(f"away {away}; undo with: runrig agents maintenance {' '.join(agents)} --clear")


@click.command()
@agents_argument
@click.option("--notice", type=DURATION, default=None, help="How long there is to leave.  [default: the master's]")
@click.option(
    "--grace", type=DURATION, default=None, help="From SIGTERM to SIGKILL after that.  [default: each task's own]"
)
@click.option("--then-gone", is_flag=True, help="Mark them gone once they are empty.")
@click.option("--wait", is_flag=True, help="Wait until they are empty.")
@click.option("--timeout", type=DURATION, default=None, help="With --wait: no longer than this; then exit code 124.")
@yes_option
@master_option
def drain(
    agents: tuple[str, ...],
    notice: float | None,
    grace: float | None,
    then_gone: bool,
    wait: bool,
    timeout: float | None,
    yes: bool,
    master: str,
) -> None:
    """Empty agents: no more offers, time for frameworks to leave, then what still runs is killed.

    It survives the restart of masters and agents, and ends with `runrig agents activate`.

    Example: runrig drain agent-1 agent-2 --notice 5m --grace 30s --wait
    """
    if timeout is not None and not wait:
        raise InvalidInput("--timeout", timeout, "only together with --wait")
    notice_ms, grace_ms = (None if each is None else int(each * 1000) for each in (notice, grace))
    found = ask(master, lambda operator: _found(operator, agents))
    if then_gone:
        confirm(f"{_named(found)}: drain, then gone for ever?", yes)
    names = [agent.id for agent in found]
    _each(
        master,
        names,
        lambda operator, agent: operator.drain_agent(agent.id, notice_ms, grace_ms, then_gone=then_gone),
    )
    if wait:
        ask(master, lambda operator: _until_empty(operator, names, timeout))
    else:
        hint(f"see `runrig agents ls`; undo with: runrig agents activate {' '.join(agents)}")


async def _found(operator: Operator, given: Sequence[str]) -> list[AgentView]:
    """Find all that were given before anything is done to one, each once."""
    found = [await operator.agent(each) for each in given]
    return list({agent.id: agent for agent in found}.values())


def _each(master: str, given: Sequence[str], act: Callable[[Operator, AgentView], Awaitable[None]]) -> None:
    """Do something to each agent, and print which are done."""

    async def done(operator: Operator) -> None:
        for agent in await _found(operator, given):
            await act(operator, agent)
            click.echo(agent.id)

    ask(master, done)


def _named(agents: Sequence[AgentView]) -> str:
    return ", ".join(f"agent {agent.hostname} ({agent.id}) with {agent.tasks} tasks" for agent in agents)


def _moment(given: str, now: datetime) -> int:
    """Read a time, or a span from now, as milliseconds since 1970."""
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        ahead_s = parse_duration("--start", given)
        start_ms = int(min(now.timestamp() + ahead_s, 1e15) * 1000)
    else:
        moment = moment if moment.tzinfo is not None else moment.astimezone()
        start_ms = int(moment.timestamp() * 1000)
    if not 0 < start_ms <= LAST_UNIX_MS:
        raise InvalidInput("--start", given, "a time between 1970 and 9999")
    return start_ms


async def _until_empty(operator: Operator, names: Sequence[str], timeout_s: float | None) -> None:
    """Wait until agents are drained, saying what is left whenever that changes; raise TimedOut."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    told = ""
    while True:
        known = {agent.id: agent for agent in await operator.agents()}
        missing = next((name for name in names if name not in known), None)
        if missing is not None:
            raise NotFound("agent", missing, "the master does not know it any more")
        left = [known[name] for name in names if known[name].state not in EMPTY]
        given_up = next((agent for agent in left if agent.state == "ACTIVE"), None)
        if given_up is not None:
            raise Conflict(f"{given_up.hostname} was activated meanwhile: its drain is over")
        if not left:
            return
        text = "; ".join(_left(agent) for agent in left)
        if text != told:
            hint(text)
            told = text
        if deadline is not None and time.monotonic() >= deadline:
            raise TimedOut(f"not empty after {timeout_s:g} s: {text}; the drain goes on")
        await asyncio.sleep(LOOK_AGAIN_S)


def _left(agent: AgentView) -> str:
    killed = f", killed at {iso(agent.drain_deadline_unix_ms)}" if agent.drain_deadline_unix_ms and agent.tasks else ""
    return f"{agent.hostname}: {agent.state.lower()}, {agent.tasks} tasks left{killed}"
