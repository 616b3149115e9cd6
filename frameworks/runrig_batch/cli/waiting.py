"""Waiting for jobs to end, with a bar on stderr for a person who watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol, TypeVar

from runrig.cli.output import hint
from runrig.errors import TimedOut, Unavailable
from runrig_batch.cli.client import Client, Json

T = TypeVar("T")

POLL_S = 60.0
WATCHED_POLL_S = 0.5
"""While somebody watches, a look twice a second is what an eye follows."""

AWAY_S = 120.0
"""A framework that was killed is back within seconds, by whatever starts it again; later only a person helps."""
AGAIN_S = 0.5


class Patience:
    """Outwaits a framework that has answered once and then is away, since it was killed and is started again."""

    def __init__(self, away_s: float = AWAY_S) -> None:
        self._away_s = away_s
        self._away_since: float | None = None

    def ask(self, question: Callable[[], T], end: float | None = None) -> T:
        """Return the answer to a question that may be asked twice; raise Unavailable when none comes until `end`."""
        while True:
            try:
                answer = question()
            except TimedOut:
                raise
            except Unavailable as error:
                if end is not None and time.monotonic() >= end:
                    raise
                self.wait(error)
            else:
                self.answered()
                return answer

    def answered(self) -> None:
        """Note that it is there."""
        self._away_since = None

    def wait(self, error: Unavailable) -> None:
        """Wait a moment; raise `error` when it has been away for too long."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            hint("runrig: the batch framework is away; waiting for it to come back")
        elif now - self._away_since >= self._away_s:
            raise error
        time.sleep(AGAIN_S)


class Show(Protocol):
    """Is told each time something is known."""

    def __call__(self, jobs: Sequence[Json]) -> None:
        """Show where the jobs stand."""


def wait_for(client: Client, job_ids: Sequence[str], timeout_s: float | None, *, is_showing: bool) -> list[Json]:
    """Return the jobs when all have ended, or as they stand when the time is over.

    A framework that goes away meanwhile is waited for: raises Unavailable when it stays away.
    """
    patience = Patience()
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
            jobs[place] = patience.ask(partial(client.wait, job_ids[place], poll_s), end)
            for other in unfinished[1:] if is_showing else ():
                jobs[other] = patience.ask(partial(client.show, job_ids[other]), end)
            show(jobs)
    return jobs


def has_ended(job: Json) -> bool:
    """Say whether a job, or a task of one, has ended."""
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
