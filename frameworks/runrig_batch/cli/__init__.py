"""`runrig batch`: the framework's process, and what people do with jobs."""

from __future__ import annotations

import click

from runrig_batch.cli.jobs import kill, list_jobs, logs, show, wait
from runrig_batch.cli.serve import serve
from runrig_batch.cli.submit import run, submit


@click.group()
def batch() -> None:
    """Jobs that end: one command, or an array of a hundred thousand.

    \b
    runrig batch serve --master 127.0.0.1:5055     the framework itself, once per cluster
    runrig batch run -- echo hello                 one command, its output, its exit code
    runrig batch submit --array 20 -- ./work.sh    twenty tasks; $RUNRIG_ARRAY_INDEX tells them apart
    runrig batch wait work-3                       until it has ended

    A job may be named by the beginning of its id. Exit codes are those of `runrig --help`; `run` exits as
    its command does.
    """  # noqa: D301  (click wants a real backspace)


for _command in (serve, run, submit, list_jobs, show, logs, kill, wait):
    batch.add_command(_command)
