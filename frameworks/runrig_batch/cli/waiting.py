"""Waiting for jobs to end, with a bar on stderr for a person who watches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from runrig_batch.cli.client import Client, Json

POLL_S = 60.0
WATCHED_POLL_S = 0.5
"""While somebody watches, a look twice a second is what an eye follows."""


class Show(Protocol):
    """Is told each time something is known."""

    def __call__(self, jobs: Sequence[Json]) -> None:
        """Show where the jobs stand."""


def wait_for(client: Client, job_ids: Sequence[str], timeout_s: float | None, *, is_showing: bool) -> list[Json]:
    """Return the jobs when all have ended, or as they stand when the time is over."""
    end = None if timeout_s is None else time.monotonic() + timeout_s
    with _shown(is_showing) as show:
        jobs = [client.show(job_id) for job_id in job_ids]
        show(jobs)
        while unfinished := [place for place, job in enumerate(jobs) if not has_ended(job)]:
            left_s = POLL_S if end is None else end - time.monotonic()
            if left_s <= 0:
                break
            poll_s = min(left_s, WATCHED_POLL_S if is_showing else POLL_S)
            place = unfinished[0]
            jobs[place] = client.wait(job_ids[place], poll_s)
            for other in unfinished[1:] if is_showing else ():
                jobs[other] = client.show(job_ids[other])
            show(jobs)
    return jobs


def has_ended(job: Json) -> bool:
    """Say whether a job has ended."""
    return job["state"] in ("succeeded", "failed", "killed")


@contextmanager
def _shown(is_showing: bool) -> Iterator[Show]:
    if not is_showing:
        yield lambda _jobs: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("tasks", total=None)

        def show(jobs: Sequence[Json]) -> None:
            counts = {name: sum(job["counts"][name] for job in jobs) for name in jobs[0]["counts"]}
            over = counts["succeeded"] + counts["failed"] + counts["killed"]
            said = f"{counts['running']} running" + (f", {counts['failed']} failed" if counts["failed"] else "")
            progress.update(bar, total=sum(job["size"] for job in jobs), completed=over, description=said)

        yield show
