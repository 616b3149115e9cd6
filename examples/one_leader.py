"""Keep exactly one leader running, with raw offers: `python examples/one_leader.py [HOST:PORT [STATE_FILE]]`.

Two leaders are worse than none for a while. So a launch is written down before it is asked for, and a leader is
replaced when it has ended, not when nothing is heard of it. docs/testing.md tells how a simulated cluster shows what
happens otherwise.
"""

import json
import sys
from collections.abc import Mapping

import runrig

MINUTE_S = 60.0


class OneLeader(runrig.RawLogic):
    """Launch a leader; launch another when that has ended."""

    def __init__(self) -> None:
        self.number = 0
        self.leader: runrig.TaskReference | None = None

    def restore_raw(self, entries: Mapping[str, bytes], now: float) -> list[runrig.RawDecision]:
        if "leader" in entries:
            self.number, agent_id = json.loads(entries["leader"])
            if agent_id is not None:
                self.leader = runrig.TaskReference(self._task_id(), agent_id)
        return []

    def hear(self, event: object, now: float) -> list[runrig.RawDecision]:
        match event:
            case runrig.Subscribed() | runrig.Woken():
                return self._ask(now)
            case runrig.OffersMade():
                return [decision for offer in event.offers for decision in self._answer(offer)]
            case runrig.TasksUpdated():
                return [decision for update in event.updates for decision in self._learn(update)]
            case _:
                return []

    def _ask(self, now: float) -> list[runrig.RawDecision]:
        """Ask what became of the leader, now and every minute: its launch may have been lost on the way."""
        again = runrig.WakeAt(now + MINUTE_S)
        return [runrig.Reconcile((self.leader,)), again] if self.leader is not None else [again]

    def _answer(self, offer: runrig.Offer) -> list[runrig.RawDecision]:
        if self.leader is not None:
            return [runrig.Decline((offer.offer_id,), runrig.Filter(3_600_000, "there is a leader"))]
        self.number += 1
        self.leader = runrig.TaskReference(self._task_id(), offer.agent_id)
        command = runrig.Command(shell="exec sleep 100000")
        spec = runrig.TaskSpec(self._task_id(), runrig.Resources(100, 32), "leader", command=command)
        launch = runrig.LaunchGroup(offer.agent_id, (offer.offer_id,), (runrig.LaunchTasks((spec,)),))
        return [self._put(), runrig.Accept((launch,))]

    def _learn(self, update: runrig.StatusUpdate) -> list[runrig.RawDecision]:
        print(update.task_id, update.state.name, flush=True)
        if self.leader is None or update.task_id != self.leader.task_id:
            return []
        # TASK_UNKNOWN: the launch was lost. TASK_UNREACHABLE is no end: the leader may run where nobody hears it.
        if not update.state.is_terminal and update.state is not runrig.TaskState.TASK_UNKNOWN:
            return []
        self.leader = None
        return [self._put(), runrig.Revive()]

    def _put(self) -> runrig.Put:
        """Write down who leads and where, before anybody is told."""
        value = [self.number, self.leader.agent_id if self.leader is not None else None]
        return runrig.Put("leader", json.dumps(value).encode())

    def _task_id(self) -> runrig.TaskId:
        return runrig.TaskId(f"leader-{self.number}")


if __name__ == "__main__":
    master = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:5055"
    store = runrig.SqliteStore(sys.argv[2]) if len(sys.argv) > 2 else runrig.MemoryStore()
    runrig.Framework("one-leader", OneLeader(), master=master, store=store).main()
