"""`runrig batch ls, show, logs, kill, wait`: looking at jobs and ending them."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime

import click

from runrig.cli.failures import Failure
from runrig.cli.output import Column, Form, hint, output_option, print_json, print_list, print_one
from runrig.cli.settings import batch_option
from runrig.errors import EXIT_TASK_FAILED, EXIT_TIMEOUT, EXIT_USAGE
from runrig_batch.cli.client import Client, Json
from runrig_batch.cli.following import follow as follow_index
from runrig_batch.cli.following import latest_attempt
from runrig_batch.cli.output import print_pieces
from runrig_batch.cli.waiting import has_ended, wait_for
from runrig_batch.core.durations import parse_ms, text_of
from runrig_batch.core.job import IndexState, JobState


def _age(since: str) -> str:
    """Return how long ago a time was: `5m`, `3h`, `2d`."""
    seconds = max(int((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()), 0)
    size = next((size for size in (86400, 3600, 60) if seconds >= size), 1)
    return text_of(seconds // size * size * 1000)


def _command_text(job: Json) -> str:
    """Return what a job runs."""
    command = job["command"]
    return " ".join(command) if isinstance(command, list) else str(command or job["image"])


_JOBS: list[Column[Json]] = [
    Column("ID", lambda job: job["id"], kind="id"),
    Column("STATE", lambda job: "stopping" if job["is_stopping"] else job["state"], kind="state"),
    Column("DONE", lambda job: f"{job['counts']['succeeded']}/{job['size']}", kind="number"),
    Column("RUNNING", lambda job: job["counts"]["running"], kind="number"),
    Column("FAILED", lambda job: job["counts"]["failed"], kind="number"),
    Column("AGE", lambda job: _age(job["submitted_at"]), kind="number"),
    Column("COMMAND", _command_text),
    Column("ROLE", lambda job: job["role"], wide=True),
    Column("PRIORITY", lambda job: job["priority"], kind="number", wide=True),
    Column("SUBMITTED", lambda job: job["submitted_at"], wide=True),
    Column("ENDED", lambda job: job["ended_at"], wide=True),
]
_JOB: list[Column[Json]] = [
    *_JOBS[:2],
    Column("TASKS", lambda job: ", ".join(f"{count} {name}" for name, count in job["counts"].items() if count)),
    Column("COMMAND", _command_text),
    Column("IMAGE", lambda job: job["image"]),
    Column("ROLE", lambda job: job["role"]),
    Column("SUBMITTED", lambda job: job["submitted_at"]),
    Column("STARTED", lambda job: job["started_at"]),
    Column("ENDED", lambda job: job["ended_at"]),
]
_TASKS: list[Column[Json]] = [
    Column("INDEX", lambda task: task["index"], kind="number"),
    Column("STATE", lambda task: task["state"], kind="state"),
    Column("ATTEMPT", lambda task: task["attempt"], kind="number"),
    Column("EXIT", lambda task: task["exit_code"], kind="number"),
    Column("REASON", lambda task: task["reason"]),
    Column("HOST", lambda task: task["host"]),
    Column("MESSAGE", lambda task: task["message"]),
    Column("ITEM", lambda task: task["item"], wide=True),
    Column("STARTED", lambda task: task["started_at"], wide=True),
    Column("ENDED", lambda task: task["ended_at"], wide=True),
]


@click.command("ls")
@click.option("--all", "is_all", is_flag=True, help="Those that have ended, too.")
@click.option("--state", multiple=True, type=click.Choice([each.value for each in JobState]), help="Only these.")
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(min=1), help="At most so many, the newest."
)
@batch_option
@output_option
def list_jobs(*, is_all: bool, state: tuple[str, ...], limit: int, batch: str, output: Form) -> None:
    """List jobs, newest first: those that have not ended.

    Example: runrig batch ls --state failed
    """
    with Client(batch) as client:
        states = state or (() if is_all else ("active",))
        jobs = list(client.jobs(states, most=limit + 1))
    empty = "no jobs" if is_all or state else "no active jobs; --all lists those that have ended, too"
    print_list(jobs[:limit], _JOBS, output, empty=empty)
    if len(jobs) > limit:
        hint(f"there are more than {limit}; --limit shows more of them")


@click.command()
@click.argument("job")
@click.option("--state", multiple=True, type=click.Choice([each.value for each in IndexState]), help="Only such tasks.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), help="At most so many tasks.")
@batch_option
@output_option
def show(job: str, state: tuple[str, ...], limit: int, batch: str, output: Form) -> None:
    """Show a job and its tasks.

    Example: runrig batch show render-17 --state failed
    """
    with Client(batch) as client:
        job_id = client.resolve(job)
        shown = client.show(job_id)
        tasks = []
        for task in client.tasks(job_id, state):
            tasks.append(task)
            if len(tasks) > limit:
                break
    if output is Form.JSON:
        print_json({**shown, "tasks": tasks[:limit]})
        return
    print_one(shown, _JOB, output)
    if output is not Form.NAME:
        click.echo()
        print_list(tasks[:limit], _TASKS, output, empty="no such tasks")
    if len(tasks) > limit:
        hint(f"the first {limit} tasks; --limit shows more, --state failed only those that failed")


@click.command()
@click.argument("task", metavar="JOB[.INDEX]")
@click.option("-f", "--follow", is_flag=True, help="Go on until the task has ended, through its retries.")
@click.option("--attempt", type=click.IntRange(min=1), help="Of this attempt.  [default: the latest]")
@click.option(
    "--stream",
    type=click.Choice(["both", "stdout", "stderr"]),
    default="both",
    show_default=True,
    help="Only this.",
)
@batch_option
def logs(task: str, *, follow: bool, attempt: int | None, stream: str, batch: str) -> None:
    """Print what a task has written: stdout to stdout, stderr to stderr.

    Of an array, one task after the other.

    \b
    runrig batch logs render-17.4
    runrig batch logs -f render-17
    """  # noqa: D301  (click wants a real backspace)
    match = re.fullmatch(r"([^.]+)(?:\.(\d+))?", task)
    if match is None:
        raise Failure(f"task: {task!r} is not allowed; allowed: JOB or JOB.INDEX", EXIT_USAGE)
    with Client(batch) as client:
        job_id = client.resolve(match[1])
        index = int(match[2]) if match[2] is not None else _only_index(client, job_id)
        if index is not None and follow and attempt is None:
            first = latest_attempt(client.task(job_id, index))
            print_pieces(follow_index(client, job_id, index, first, stream))
            return
        params = {"stream": stream, "attempt": attempt or 0, "follow": str(follow).lower()}
        if index is not None:
            print_pieces(client.output(job_id, **params, index=index))
            return
        if follow:
            raise Failure(f"{job_id} has many tasks; follow one: runrig batch logs -f {job_id}.0", EXIT_USAGE)
        for each in client.tasks(job_id):
            if each["started_at"] is not None:
                hint(f"==> {job_id}.{each['index']}")
                print_pieces(client.output(job_id, **params, index=each["index"]))


def _only_index(client: Client, job_id: str) -> int | None:
    """Return the index of a job that has but one."""
    if client.show(job_id)["size"] > 1:
        return None
    [task] = client.tasks(job_id)
    return int(task["index"])


@click.command()
@click.argument("jobs", nargs=-1, required=True, metavar="JOB…")
@batch_option
def kill(jobs: tuple[str, ...], batch: str) -> None:
    """Stop jobs: what waits is dropped, what runs is killed.

    Example: runrig batch kill render-17
    """
    with Client(batch) as client:
        for job_id in [client.resolve(job) for job in jobs]:
            job = client.kill(job_id)
            had_ended = has_ended(job) and job["state"] != "killed"
            hint(f"{job_id} had ended already: {job['state']}" if had_ended else f"killed {job_id}")


@click.command()
@click.argument("jobs", nargs=-1, required=True, metavar="JOB…")
@click.option("--timeout", help="Give up after this long, such as 10m, and exit with 124.")
@batch_option
@output_option
def wait(jobs: tuple[str, ...], timeout: str | None, batch: str, output: Form) -> None:
    """Wait until jobs have ended; exit with 1 if one failed or was killed, with 124 if they took too long.

    Example: runrig batch wait render-17 --timeout 10m
    """
    timeout_s = None if timeout is None else parse_ms("--timeout", timeout, 10**12) / 1000
    with Client(batch) as client:
        job_ids = [client.resolve(job) for job in jobs]
        found = wait_for(client, job_ids, timeout_s, is_showing=sys.stderr.isatty())
    print_list(found, _JOBS, output)
    if not all(has_ended(job) for job in found):
        hint("not ended in time: " + ", ".join(job["id"] for job in found if not has_ended(job)))
        raise click.exceptions.Exit(EXIT_TIMEOUT)
    if any(job["state"] != "succeeded" for job in found):
        raise click.exceptions.Exit(EXIT_TASK_FAILED)
