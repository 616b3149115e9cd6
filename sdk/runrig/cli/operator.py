"""What people ask of the master: `runrig frameworks|offers|tasks …` and `runrig kill`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import click

from runrig.cli.columns import FRAMEWORKS, OFFERS, TASKS, task_columns
from runrig.cli.durations import DURATION
from runrig.cli.output import Form, hint, output_option, print_list, print_one
from runrig.cli.prefixes import find
from runrig.cli.settings import master_option
from runrig.tasks import TaskState

if TYPE_CHECKING:
    from runrig.cli.grpc_operator import Operator

T = TypeVar("T")


def ask(master: str, question: Callable[[Operator], Awaitable[T]]) -> T:
    """Connect to the leading master, ask, and return the answer."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what it would print, the error says better
    from runrig.cli.grpc_operator import Operator

    async def asked() -> T:
        async with Operator.of(master) as operator:
            return await question(operator)

    return asyncio.run(asked())


def confirm(question: str, yes: bool) -> None:
    """Ask a person; a script is taken at its word."""
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)


yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


@click.group()
def frameworks() -> None:
    """Look at the tenants of the cluster, and end them."""


@frameworks.command("ls")
@click.option("-a", "--all", "include_completed", is_flag=True, help="Those that were torn down, too.")
@master_option
@output_option
def frameworks_ls(include_completed: bool, master: str, output: Form) -> None:
    """List the frameworks and how many tasks each has.

    Example: runrig frameworks ls --all
    """
    found = ask(master, lambda operator: operator.frameworks(include_completed=include_completed))
    print_list(found, FRAMEWORKS, output, empty="no frameworks; `runrig service run --help`")


@frameworks.command("show")
@click.argument("framework")
@master_option
@output_option
def frameworks_show(framework: str, master: str, output: Form) -> None:
    """Show one framework: FRAMEWORK is a name, an id or the beginning of one.

    Example: runrig frameworks show service
    """
    found = ask(master, lambda operator: operator.framework(framework, include_completed=True))
    print_one(found, FRAMEWORKS, output)


@frameworks.command("teardown")
@click.argument("framework")
@yes_option
@master_option
def frameworks_teardown(framework: str, yes: bool, master: str) -> None:
    """End a framework: its tasks are killed, and its id is never admitted again.

    A terminal is asked first; a script is not.

    Example: runrig frameworks teardown batch
    """
    found = ask(master, lambda operator: operator.framework(framework))
    confirm(f"framework {found.name} ({found.id}): kill {found.tasks} tasks and close its id for ever?", yes)
    ask(master, lambda operator: operator.teardown_framework(found.id))
    click.echo(found.id)


@click.group()
def offers() -> None:
    """Look at the offers that wait for an answer."""


@offers.command("ls")
@master_option
@output_option
def offers_ls(master: str, output: Form) -> None:
    """List the outstanding offers: what of which agent is held for whom.

    Example: runrig offers ls -o wide
    """
    found = ask(master, lambda operator: operator.offers())
    print_list(found, OFFERS, output, empty="no outstanding offers: none is free, or nobody wants any")


@offers.command("show")
@click.argument("offer")
@master_option
@output_option
def offers_show(offer: str, master: str, output: Form) -> None:
    """Show one offer: OFFER is an id or the beginning of one.

    Example: runrig offers show $(runrig offers ls -o name | head -1)
    """
    found = ask(master, lambda operator: operator.offers())
    print_one(find("offer", offer, found, lambda each: each.id), OFFERS, output)


@click.group()
def tasks() -> None:
    """Look at what runs, and what has run."""


@tasks.command("ls")
@click.option("-a", "--all", "include_terminal", is_flag=True, help="Those that have ended, too.")
@click.option("--framework", default="", help="Only of this framework: a name, an id or the beginning of one.")
@click.option("--agent", default="", help="Only on this agent: a hostname, an id or the beginning of one.")
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    type=click.Choice([state.name.removeprefix("TASK_").lower() for state in TaskState], case_sensitive=False),
    help="Only in this state, such as running or failed; may be repeated.",
)
@master_option
@output_option
def tasks_ls(
    include_terminal: bool, framework: str, agent: str, states: tuple[str, ...], master: str, output: Form
) -> None:
    """List the tasks that have not ended; with --all those that have, too.

    Example: runrig tasks ls --framework batch --state failed
    """

    async def listed(operator: Operator) -> list[object]:
        framework_id = (await operator.framework(framework, include_completed=True)).id if framework else ""
        agent_id = (await operator.agent(agent)).id if agent else ""
        names = [f"TASK_{state.upper()}" for state in states]
        return [
            *await operator.tasks(
                framework_id=framework_id, agent_id=agent_id, states=names, include_terminal=include_terminal
            )
        ]

    empty = "no tasks" if include_terminal or states else "no live tasks; --all lists those that have ended, too"
    print_list(ask(master, listed), task_columns(datetime.now(UTC)), output, empty=empty)


@tasks.command("show")
@click.argument("task")
@click.option("--framework", default="", help="Needed only when two frameworks use this id.")
@master_option
@output_option
def tasks_show(task: str, framework: str, master: str, output: Form) -> None:
    """Show one task: TASK is an id or the beginning of one.

    Example: runrig tasks show web.instance-59a3 -o json
    """

    async def found(operator: Operator) -> object:
        framework_id = (await operator.framework(framework, include_completed=True)).id if framework else ""
        return await operator.task(task, framework_id)

    print_one(ask(master, found), TASKS, output)


@click.command()
@click.argument("task")
@click.option("--framework", default="", help="Needed only when two frameworks use this id.")
@click.option(
    "--grace",
    type=DURATION,
    default=None,
    help="From SIGTERM to SIGKILL, such as 10s.  [default: the task's own]",
)
@master_option
def kill(task: str, framework: str, grace: float | None, master: str) -> None:
    """End a task: TASK is an id or the beginning of one. Its framework is told, and may start another.

    Example: runrig kill hello --grace 1s
    """

    async def killed(operator: Operator) -> tuple[str, str]:
        framework_id = (await operator.framework(framework)).id if framework else ""
        found = await operator.task(task, framework_id)
        if TaskState[found.state].is_terminal:
            return found.id, found.state
        grace_ms = None if grace is None else int(grace * 1000)
        return found.id, (await operator.kill_task(found, grace_ms)).state

    identity, state = ask(master, killed)
    click.echo(identity)
    if TaskState[state].is_terminal:
        hint(f"it had ended already: {state}")
