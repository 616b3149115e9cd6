"""`runrig logs`: what a task writes, read from its agent."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from runrig.cli.operator import ask
from runrig.cli.output import hint
from runrig.cli.settings import master_option
from runrig.errors import Conflict
from runrig.tasks import TaskState

if TYPE_CHECKING:
    from runrig.cli.grpc_operator import Operator
    from runrig.cli.views import TaskView
    from runrig.sandbox import Stream


@click.command()
@click.argument("task")
@click.option("-f", "--follow", is_flag=True, help="Go on until the task ends; wait for it if it has not begun.")
@click.option(
    "-n",
    "--tail",
    "tail_lines",
    type=click.IntRange(min=0, max=2**32 - 1),
    metavar="LINES",
    help="Only the last lines of each stream.  [default: all that is kept]",
)
@click.option("--stdout", "stream", flag_value="stdout", help="Only the standard output.")
@click.option("--stderr", "stream", flag_value="stderr", help="Only the standard error.")
@click.option("--framework", default="", help="Needed only when two frameworks use this id.")
@master_option
def logs(task: str, follow: bool, tail_lines: int | None, stream: Stream | None, framework: str, master: str) -> None:
    """Print what a task writes: TASK is an id or the beginning of one. It may have ended.

    Example: runrig logs -f -n 20 hello
    """
    found = find_task(master, task, framework)
    has_output = asyncio.run(_print_logs(found, stream, follow, tail_lines))
    if not has_output and tail_lines != 0:
        state = TaskState.__members__.get(found.state, TaskState.TASK_UNKNOWN)
        may_write = not follow and not state.is_terminal
        hint(f"{found.id} has written nothing" + (" yet; -f waits for more" if may_write else ""))


def find_task(master: str, task: str, framework: str) -> TaskView:
    """Ask the master for a task and its agent's address; raises NotFound, InvalidInput, Conflict."""

    async def found(operator: Operator) -> TaskView:
        framework_id = (await operator.framework(framework, include_completed=True)).id if framework else ""
        return await operator.task(task, framework_id)

    view = ask(master, found)
    if not view.agent_address:
        raise Conflict(f"task {view.id} is on no agent that can be reached: {view.state} {view.message}".rstrip())
    return view


async def _print_logs(task: TaskView, stream: Stream | None, follow: bool, tail_lines: int | None) -> bool:
    """Print; return whether there was anything."""
    from runrig.sandbox import Sandbox

    has_output = False
    async with Sandbox(task.agent_address) as sandbox:
        async for _, data in sandbox.read_logs(
            task.framework_id, task.id, stream=stream, follow=follow, tail_lines=tail_lines
        ):
            has_output = True
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    return has_output
