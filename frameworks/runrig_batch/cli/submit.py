"""`runrig batch run` and `runrig batch submit`: from a command line to a job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from runrig.cli.failures import EXIT_INTERRUPTED, Failure
from runrig.cli.output import Form, drop_output, hint, output_option, plain, print_json
from runrig.cli.settings import batch_option
from runrig.errors import EXIT_TASK_FAILED, EXIT_USAGE, Unavailable
from runrig_batch.cli.client import Client, Json
from runrig_batch.cli.following import follow
from runrig_batch.cli.options import command_of, description_of, job_options
from runrig_batch.cli.output import print_pieces
from runrig_batch.cli.waiting import wait_for
from runrig_batch.core.job_file import decode

EXIT_NOT_READ = 141
"""What a shell says of a program that wrote where nobody reads, as of `| head`."""


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@job_options
@batch_option
def run(command: tuple[str, ...], batch: str, **options: Any) -> None:
    """Run one command on the cluster, here and now: its output is yours, and so is its exit code.

    Words after `--` are run as they are; a single word with blanks in it is read by a shell. Ctrl-C kills
    the job, and so does a reader of the output that goes (`| head`). When a command was ended by its limits
    (--mem, --timeout), stderr says so.

    \b
    runrig batch run -- echo hello
    runrig batch run --cpus 2 --mem 1G -- make test
    runrig batch run --image python:3.12 -- python -c 'print(6 * 7)'
    runrig batch run -- 'ls | wc -l'
    """  # noqa: D301  (click wants a real backspace)
    description = description_of(options) | command_of(command)
    with Client(batch) as client:
        job_id = client.submit(description)["id"]
        try:
            print_pieces(follow(client, job_id, index=0, attempt=1, stream="both"))
            job = wait_for(client, [job_id], timeout_s=None, is_showing=False)[0]
        except (KeyboardInterrupt, BrokenPipeError) as error:
            client.kill(job_id)
            hint(f"killed {job_id}")
            if isinstance(error, BrokenPipeError):
                drop_output()
                raise click.exceptions.Exit(EXIT_NOT_READ) from None
            raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
        except Unavailable:
            hint(f"runrig: {job_id} goes on; follow it with: runrig batch logs -f {job_id}")
            raise
        raise click.exceptions.Exit(_exit_code(client, job))


def _exit_code(client: Client, job: Json) -> int:
    if job["state"] == "succeeded":
        return 0
    [task] = client.tasks(job["id"])
    code = task["exit_code"]
    if task["reason"] != "EXITED" or not code:
        hint(f"runrig: {job['id']} {job['state']}: {_why(task)}")
    return (int(code) & 0xFF) or EXIT_TASK_FAILED if code else EXIT_TASK_FAILED


def _tell_failure(client: Client, job: Json) -> None:
    """Say why a job failed: a word on the first of its tasks that did."""
    count = job["counts"]["failed"]
    first = next(iter(client.tasks(job["id"], ["failed"])), None)
    why = f"{count} of {job['size']} tasks failed; " if job["size"] > 1 and count else ""
    if first is not None:
        why += f"{job['id']}.{first['index']}: {_why(first)}" if job["size"] > 1 else _why(first)
    hint(f"runrig: {job['id']} {job['state']}{f': {why}' if why else ''}")


def _why(task: Json) -> str:
    return plain(": ".join(filter(None, (task["reason"], task["message"]))) or task["state"])


class _WithDashes(click.Command):
    """Remembers whether a command follows `--`: without it the argument is a file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["runrig_batch.is_command"] = "--" in args
        return super().parse_args(ctx, args)


@click.command(cls=_WithDashes)
@click.argument("words", nargs=-1, metavar="FILE | -- COMMAND…")
@click.option("--array", metavar="N|RANGES", help="As many tasks as this, or for these indices: 0-99,200.")
@click.option(
    "--each-line",
    type=click.File("r", encoding="utf-8"),
    help="A task for each line, which is its $RUNRIG_ITEM.",
)
@click.option("--gang", metavar="N", help="So many tasks that start all together or not at all.")
@click.option("--parallel", metavar="N", help="At most so many tasks at once.")
@job_options
@click.option("--wait", is_flag=True, help="Wait until the job has ended; exit with 1 if it failed.")
@click.option("--progress", is_flag=True, help="Wait, and show how far it is.")
@batch_option
@output_option
@click.pass_context
def submit(
    ctx: click.Context,
    /,
    words: tuple[str, ...],
    array: str | None,
    each_line: Any,
    gang: str | None,
    parallel: str | None,
    *,
    wait: bool,
    progress: bool,
    batch: str,
    output: Form,
    **options: Any,
) -> None:
    """Submit a job and print its id.

    It is described by a JSON or TOML file (`-`: standard input), or by a command after `--`.
    Options say more than the file: `submit job.toml --cpus 4` is the job of the file with four CPUs.

    \b
    runrig batch submit job.toml
    runrig batch submit --array 20 --parallel 5 --retries 2 -- ./render.sh
    runrig batch submit --each-line urls.txt --progress -- 'curl -fsS "$RUNRIG_ITEM" | wc -c'
    runrig batch submit --gang 4 --expected-runtime 2h -- ./train.sh
    """  # noqa: D301  (click wants a real backspace)
    description = _description(words, is_command=ctx.meta["runrig_batch.is_command"])
    description |= description_of(options)
    if array is not None:
        description["array"] = array
    if each_line is not None:
        description["items"] = [line.rstrip("\r\n") for line in each_line if line.strip()]
    if gang is not None:
        description["gang"] = gang
    if parallel is not None:
        description["parallelism"] = parallel
    with Client(batch) as client:
        job = client.submit(description)
        if output is not Form.JSON:
            click.echo(job["id"])
        if wait or progress:
            [job] = wait_for(client, [job["id"]], timeout_s=None, is_showing=progress or sys.stderr.isatty())
        if output is Form.JSON:
            print_json(job)
        if job["state"] in ("failed", "killed"):
            _tell_failure(client, job)
    if wait or progress:
        raise click.exceptions.Exit(0 if job["state"] == "succeeded" else EXIT_TASK_FAILED)
    hint(f"follow it with: runrig batch wait {job['id']}")


def _description(words: tuple[str, ...], *, is_command: bool) -> Json:
    if is_command:
        return command_of(words)
    if not words:
        return {}
    if len(words) > 1:
        raise click.UsageError("one FILE, or a command after `--`: runrig batch submit -- " + " ".join(words))
    path = words[0]
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = f"{path} cannot be read: {error}; a command stands after `--`"
        raise Failure(problem, EXIT_USAGE) from None
    is_toml = path.endswith(".toml") or (path == "-" and not text.lstrip().startswith("{"))
    description = decode(text, is_toml)
    if not isinstance(description, dict):
        raise Failure(f"{path}: one job, an object with its fields", EXIT_USAGE)
    return description
