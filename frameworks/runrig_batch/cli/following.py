"""Following what one task writes: through its attempts, and while the framework dies and comes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from runrig.errors import TimedOut, Unavailable
from runrig_batch.cli.client import Client, Json
from runrig_batch.cli.waiting import Patience, has_ended

Piece = tuple[str, bytes]


def follow(client: Client, job_id: str, index: int, attempt: int, stream: str) -> Iterator[Piece]:
    """Yield what an index writes from `attempt` on, each byte once, until its last attempt has ended."""
    patience = Patience()
    while True:
        yield from _follow_attempt(client, patience, job_id, index, attempt, stream)
        task = patience.ask(lambda: client.task(job_id, index))
        if has_ended(task) and attempt >= task["attempt"]:
            return
        yield "note", f"attempt {attempt} ended ({_end_of(task, attempt)}); the next one follows".encode()
        attempt += 1


def latest_attempt(task: Json) -> int:
    """Return the attempt that runs, or the last that ran; if there was none, the one that is due."""
    is_resting = task["task_state"] is None and task["attempts"]
    return int(task["attempts"][-1]["number"] if is_resting else task["attempt"])


def _follow_attempt(
    client: Client, patience: Patience, job_id: str, index: int, attempt: int, stream: str
) -> Iterator[Piece]:
    """Yield what one attempt writes; after a break it is read anew, and what was given is skipped."""
    given: Counter[str] = Counter()
    while True:
        known = given.copy()
        try:
            for kind, data in client.output(job_id, index=index, attempt=attempt, stream=stream, follow="true"):
                patience.answered()
                fresh = data[known[kind] :] if kind != "note" else data
                known[kind] -= min(known[kind], len(data))
                given[kind] += len(fresh)
                if fresh:
                    yield kind, fresh
        except TimedOut:
            raise
        except Unavailable as error:
            patience.wait(error)
        else:
            return


def _end_of(task: Json, attempt: int) -> str:
    return next((str(each["state"]) for each in task["attempts"] if each["number"] == attempt), "given up")
