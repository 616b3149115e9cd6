"""What a framework must keep to, and may rely on: durable before said, and each number given once."""

from __future__ import annotations

import json

from runrig.ids import TaskId
from runrig.offers import (
    Accept,
    Acknowledge,
    Call,
    InverseOffersMade,
    Kill,
    News,
    Reconcile,
    Subscribe,
    Subscribed,
    TasksUpdated,
)
from runrig.scheduler import Scheduler
from runrig.tasks import Reason, StatusUpdate, TaskState
from runrig.testing import SimulatedFramework
from runrig_batch.core.job import parts_of, task_id_of

RECORD = "runrig/task/"
AT_ONCE_S = 60.0
"""Of its own clock: what was said may wait for a slow disk."""


class FrameworkPromises:
    """Watch one framework, over all its processes. A raw one keeps no records of tasks: of it only news is judged."""

    def __init__(self, framework: SimulatedFramework, *, is_raw: bool) -> None:
        self._framework = framework
        self._is_raw = is_raw
        self._said: dict[tuple[TaskId, int], StatusUpdate] = {}
        """Each numbered update that was heard."""
        self.failures: dict[tuple[str, int], int] = {}
        """How often each index of a job was heard to have failed by itself."""
        self._failed: set[TaskId] = set()
        """Tasks that were heard to have failed by themselves, be it in answer to a reconciliation."""
        self._succeeded: set[tuple[str, int]] = set()
        """Indices of jobs whose success this framework has acknowledged."""
        self._launched: set[TaskId] = set()
        self._killed: set[TaskId] = set()
        self._out_of_reach: set[TaskId] = set()
        self._asked_back: set[TaskId] = set()
        """Tasks that stand in an inverse offer that was heard."""
        self._finished: set[tuple[str, int]] = set()
        """Indices of jobs of which an attempt was heard to have finished."""
        self._alive: set[TaskId] = set()
        """Tasks that were launched, and of whose end nothing was heard."""
        self._subscribed_at: float | None = None
        """When it subscribed, if it has not reconciled since."""
        self._gangs: dict[str, Accept] = {}
        self._in_gangs: set[TaskId] = set()
        """Tasks of gangs: those are stopped with others, and tried again though they have succeeded."""
        self._epoch: tuple[object, int] = (None, 0)
        """The scheduler that heard last, and its epoch."""
        framework.heard.append(self._heard)
        framework.said.append(self._says)

    # What it says

    def _says(self, call: Call) -> None:
        self._check_reconciled(call)
        match call:
            case Accept(groups):
                self._check_gangs(call)
                for group in groups:
                    for task in group.tasks:
                        self._check_intent(task.task_id)
            case Kill(task_id):
                self._check_kill(task_id)
            case Acknowledge(receipts):
                for receipt in receipts:
                    self._check_receipt(receipt.task_id, receipt.number)
            case _:
                pass

    def _check_gangs(self, accept: Accept) -> None:
        """Assert that all of a gang is launched by one Accept, as a whole."""
        for task in (task for group in accept.groups for task in group.tasks):
            gang_id = task.terms.gang_id
            if gang_id:
                assert accept.atomic, f"{task.task_id} of gang {gang_id} is launched, whatever becomes of the others"
                first = self._gangs.setdefault(gang_id, accept)
                assert first is accept, f"{task.task_id} of gang {gang_id} is launched after the others"
                self._in_gangs.add(task.task_id)

    def _check_reconciled(self, call: Call) -> None:
        """Assert that whoever has connected anew asks at once what became of its tasks."""
        if isinstance(call, Subscribe):
            self._subscribed_at = None
        elif isinstance(call, Reconcile):
            at, self._subscribed_at = self._subscribed_at, None
            assert at is None or self._is_at_once(at), f"{self._framework.name} reconciles late"

    def _is_at_once(self, at: float) -> bool:
        return self._framework.now < at + AT_ONCE_S

    def _check_intent(self, task_id: TaskId) -> None:
        parts = parts_of(task_id)
        if parts is not None and task_id not in self._in_gangs:
            assert parts[:2] not in self._succeeded, f"{task_id} is launched, its index has succeeded"
        if not self._is_raw:
            assert RECORD + task_id in self._framework.entries, f"{task_id} is launched before that is durable"
            assert task_id not in self._launched, f"{task_id} is launched a second time"
            for older in self._older_attempts(task_id):
                assert older in self._killed, f"{task_id} is launched, and {older} was not told to stop"
            self._launched.add(task_id)
            self._alive.add(task_id)

    def _older_attempts(self, task_id: TaskId) -> list[TaskId]:
        """Return those attempts of the same index that may live."""
        parts = parts_of(task_id)
        if parts is None:
            return []
        ids = [task_id_of(parts[0], parts[1], number) for number in range(1, parts[2])]
        return [each for each in ids if each in self._alive]

    def _check_kill(self, task_id: TaskId) -> None:
        """Assert that no attempt is stopped but for one that was out of reach or asked back, or one too many."""
        self._killed.add(task_id)
        parts = parts_of(task_id)
        if parts is not None and task_id in self._alive - self._in_gangs:
            is_due = task_id in self._out_of_reach | self._asked_back or parts[:2] in self._finished
            assert is_due, f"{task_id} is killed, and nobody asked for that"

    def _check_receipt(self, task_id: TaskId, number: int) -> None:
        heard = self._said.get((task_id, number))
        assert heard is not None, f"update {number} of {task_id} is acknowledged, and never came"
        parts = parts_of(task_id)
        if parts is not None and heard.state is TaskState.TASK_FINISHED and task_id not in self._in_gangs:
            self._succeeded.add(parts[:2])
            entry = self._framework.entries.get(f"app/index/{parts[0]}/{parts[1]}", b"")
            assert entry[:1] not in (b"", b"R"), f"the success of {task_id} is acknowledged and not kept: {entry!r}"
        value = self._framework.entries.get(RECORD + task_id)
        if value is not None:
            known = json.loads(value)["number"]
            assert known >= number, f"update {number} of {task_id} is acknowledged, durable is {known}"

    # What it hears

    def _heard(self, news: News) -> None:
        scheduler = self._framework.scheduler
        if scheduler is not None:
            before, self._epoch = self._epoch, (scheduler, scheduler.session.epoch)
            went_back = scheduler is before[0] and scheduler.session.epoch < before[1]
            assert not went_back, f"the epoch of {self._framework.name} went back from {before[1]}"
        if isinstance(news, Subscribed):
            self._subscribed_at = self._framework.now
        if isinstance(news, InverseOffersMade):
            self._asked_back.update(*(inverse.task_ids for inverse in news.inverse_offers))
        if isinstance(news, TasksUpdated):
            for update in news.updates:
                self._judge(update)

    def _judge(self, update: StatusUpdate) -> None:
        self._check_record(update)
        if update.state.is_terminal or update.state is TaskState.TASK_UNKNOWN:
            self._alive.discard(update.task_id)
        if update.state in (TaskState.TASK_UNREACHABLE, TaskState.TASK_UNKNOWN):
            self._out_of_reach.add(update.task_id)
        parts = parts_of(update.task_id)
        if parts is not None and update.state is TaskState.TASK_FINISHED:
            self._finished.add(parts[:2])
        if update.state is TaskState.TASK_FAILED and update.reason is Reason.EXITED:
            self._count_failure(update.task_id)
        if update.number:
            before = self._said.setdefault((update.task_id, update.number), update)
            assert before == update, f"update {update.number} of {update.task_id} was {before}, and is {update}"

    def _check_record(self, update: StatusUpdate) -> None:
        """Assert that a task that may live has its record, and that what is known of it never went back."""
        if update.task_id in self._alive:
            assert RECORD + update.task_id in self._framework.entries, f"there is no record of {update.task_id}"
        scheduler = self._framework.scheduler
        known = scheduler.records.get(update.task_id) if isinstance(scheduler, Scheduler) else None
        if known is not None and known.status is not None and known.status.number:
            assert known.status.number == known.number, f"what is known of {update.task_id} went back to {known.status}"

    def _count_failure(self, task_id: TaskId) -> None:
        parts = parts_of(task_id)
        if parts is not None and task_id not in self._failed:
            self._failed.add(task_id)
            key = (str(parts[0]), parts[1])
            self.failures[key] = self.failures.get(key, 0) + 1
