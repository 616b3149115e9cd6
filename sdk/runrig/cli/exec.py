"""`runrig exec`: a command where a task runs, joined with this terminal."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from runrig.cli.logs import find_task
from runrig.cli.settings import master_option
from runrig.cli.terminal import Terminal, typed
from runrig.errors import EXIT_TASK_FAILED

if TYPE_CHECKING:
    from runrig.cli.views import TaskView
    from runrig.sandbox import Session


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-i", "--interactive", is_flag=True, help="Pass this command's standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal; with -i for a shell.")
@click.option("--framework", default="", help="Needed only when two frameworks use this id.")
@master_option
@click.argument("task")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(interactive: bool, tty: bool, framework: str, master: str, task: str, command: tuple[str, ...]) -> None:
    """Run COMMAND where a task runs: in its container, or as its user in its sandbox.

    TASK is an id or the beginning of one. The exit code is COMMAND's, once it has begun.

    Example: runrig exec -it hello -- sh
    """
    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.UsageError("name the command to run: runrig exec TASK -- COMMAND")
    terminal = Terminal.of_this_process() if tty else None
    found = find_task(master, task, framework)
    raise click.exceptions.Exit(asyncio.run(_execute(found, words, interactive, terminal)))


async def _execute(task: TaskView, command: tuple[str, ...], interactive: bool, terminal: Terminal | None) -> int:
    """Run the command and join it with this process; return its exit code."""
    from runrig.sandbox import Sandbox

    size = terminal.size() if terminal else None
    async with (
        Sandbox(task.agent_address) as sandbox,
        sandbox.exec(task.framework_id, task.id, command, tty=terminal is not None, size=size) as session,
    ):
        typing = asyncio.create_task(_pass_input(session, interactive))
        try:
            if terminal is None:
                await _pass_output(session)
            else:
                with terminal.raw(session.resize):
                    await _pass_output(session)
        finally:
            typing.cancel()
            await asyncio.gather(typing, return_exceptions=True)
    return EXIT_TASK_FAILED if session.exit_code is None else session.exit_code


async def _pass_input(session: Session, interactive: bool) -> None:
    if interactive:
        async for data in typed(sys.stdin.fileno()):
            await session.write(data)
    await session.end_input()


async def _pass_output(session: Session) -> None:
    async for stream, data in session.output():
        out = sys.stdout.buffer if stream == "stdout" else sys.stderr.buffer
        out.write(data)
        out.flush()
