"""A framework that keeps exactly one leader running, or so its author thinks: docs/testing.md finds out."""

from __future__ import annotations

from collections.abc import Mapping

import runrig


class NaiveLeader(runrig.RawLogic):
    """Launch a leader; launch another when it no longer runs."""

    def __init__(self) -> None:
        self.number = 0
        self.leads = False

    def restore_raw(self, entries: Mapping[str, bytes], now: float) -> list[runrig.RawDecision]:
        self.number = int(entries.get("number", b"0"))
        self.leads = self.number > 0
        return []

    def hear(self, event: object, now: float) -> list[runrig.RawDecision]:
        match event:
            case runrig.OffersMade():
                return [decision for offer in event.offers for decision in self.answer(offer)]
            case runrig.TasksUpdated():
                return [decision for update in event.updates for decision in self.learn(update)]
            case _:
                return []

    def answer(self, offer: runrig.Offer) -> list[runrig.RawDecision]:
        if self.leads:
            return [runrig.Decline((offer.offer_id,), runrig.Filter(reason="there is a leader"))]
        self.leads = True
        self.number += 1
        spec = runrig.TaskSpec(
            runrig.TaskId(f"leader-{self.number}"),
            runrig.Resources(cpu_millis=100, mem_mib=32),
            name="leader",
            command=runrig.Command(shell="lead"),
        )
        launch = runrig.LaunchGroup(offer.agent_id, (offer.offer_id,), (runrig.LaunchTasks((spec,)),))
        return [runrig.Put("number", str(self.number).encode()), runrig.Accept((launch,))]

    def learn(self, update: runrig.StatusUpdate) -> list[runrig.RawDecision]:
        is_alive = update.state in (
            runrig.TaskState.TASK_STAGING,
            runrig.TaskState.TASK_STARTING,
            runrig.TaskState.TASK_RUNNING,
        )
        if is_alive or update.task_id != f"leader-{self.number}":
            return []
        self.leads = False
        return [runrig.Revive()]


class PatientLeader(NaiveLeader):
    """One mistake less: who is not heard of is not gone."""

    def learn(self, update: runrig.StatusUpdate) -> list[runrig.RawDecision]:
        if update.state is runrig.TaskState.TASK_UNREACHABLE:
            return []
        return super().learn(update)
