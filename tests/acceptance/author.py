"""An author's framework for tests: tasks are asked for one by one, and all that is told of them is kept."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import runrig
from runrig.testing.processes import until

T = TypeVar("T")


class Wishes:
    """A logic that wants what it is told to want, and remembers every change."""

    def __init__(self) -> None:
        self.changes: dict[runrig.TaskId, list[runrig.TaskView]] = {}

    def restore(
        self, entries: Mapping[str, bytes], tasks: Mapping[runrig.TaskId, runrig.TaskView], now: float
    ) -> list[runrig.Decision]:
        return []

    def handle(self, event: object, now: float) -> list[runrig.Decision]:
        match event:
            case runrig.Want():
                return [runrig.Run((event,))]
            case runrig.Stop():
                return [event]
            case runrig.TaskChanged():
                self.changes.setdefault(event.task.task_id, []).append(event.task)
                return []
            case _:
                return []


class Author:
    """Someone who launches tasks through the SDK: its framework runs in a thread."""

    def __init__(self, master: str) -> None:
        self._logic = Wishes()
        self._framework = runrig.Framework("author", self._logic, master=master)
        self._loop = asyncio.new_event_loop()
        self._running: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="author", daemon=True)

    def launch(self, task_id: str, want: runrig.Want, **changes: object) -> str:
        """Want a task under an id; `changes` are made to its spec. Return the id."""
        spec = replace(want.spec, task_id=runrig.TaskId(task_id), name=task_id, **changes)  # type: ignore[arg-type]
        self._tell(replace(want, spec=spec))
        return task_id

    def kill(self, task_id: str, grace_s: float | None = None) -> None:
        """Want a task no longer."""
        self._tell(runrig.Stop(runrig.TaskId(task_id), None if grace_s is None else int(grace_s * 1000)))

    def told(self, task_id: str) -> list[runrig.StatusUpdate]:
        """Return what was said of a task so far."""
        views = self._logic.changes.get(runrig.TaskId(task_id), [])
        return [view.status for view in list(views) if view.status is not None]

    def view(self, task_id: str) -> runrig.TaskView:
        """Return what is known of a task that something was said of."""
        return self._logic.changes[runrig.TaskId(task_id)][-1]

    def running(self, task_id: str, within_s: float = 20.0) -> runrig.StatusUpdate:
        """Wait until a task runs; fail with what was said when it has ended instead."""
        return self.reached(task_id, runrig.TaskState.TASK_RUNNING, within_s)

    def reached(self, task_id: str, state: runrig.TaskState, within_s: float = 20.0) -> runrig.StatusUpdate:
        """Wait until a task has been in a state; fail with what was said when it has ended in another."""
        reached = self._until(task_id, state, within_s)
        assert reached.state is state, f"{task_id} is {reached.state.name}, {reached.reason.name}: {reached.message}"
        return reached

    def ended(self, task_id: str, within_s: float = 20.0) -> runrig.StatusUpdate:
        """Wait for a task's end."""
        return self._until(task_id, None, within_s)

    def ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some asynchronous work where the framework runs."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def _until(self, task_id: str, state: runrig.TaskState | None, within_s: float) -> runrig.StatusUpdate:
        what = f"{task_id} {'has ended' if state is None else 'is ' + state.name}"
        reached = until(lambda: self._either(task_id, state), what, within_s)
        assert reached is not None
        return reached

    def _either(self, task_id: str, state: runrig.TaskState | None) -> runrig.StatusUpdate | None:
        told = self.told(task_id)
        return next((each for each in told if each.state is state or each.state.is_terminal), None)

    def _tell(self, event: object) -> None:
        self._loop.call_soon_threadsafe(self._framework.tell, event)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._running = self._loop.create_task(self._framework.run())
        try:
            self._loop.run_until_complete(self._running)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    def start(self) -> None:
        """Begin to run."""
        self._thread.start()

    def stop(self) -> None:
        """Remove the framework, and with it its tasks."""

        def cancel() -> None:
            assert self._running is not None
            self._running.cancel()

        self._loop.call_soon_threadsafe(cancel)
        self._thread.join(20)


@contextmanager
def author_of(master: str) -> Iterator[Author]:
    """Run an author's framework while the block runs."""
    author = Author(master)
    author.start()
    try:
        yield author
    finally:
        author.stop()
