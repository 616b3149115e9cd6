"""Handle offers by hand: one task on every agent that is offered, then end.

`python examples/raw_offers.py [HOST:PORT]`.
"""

import sys
import time
from collections.abc import Mapping

import runrig


class OneEach(runrig.RawLogic):
    """Launch one task on each agent; refuse further offers of an agent for an hour."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.prefix = f"census-{int(time.time())}"

    def restore_raw(self, entries: Mapping[str, bytes], now: float) -> list[runrig.RawDecision]:
        return []

    def hear(self, event: object, now: float) -> list[runrig.RawDecision]:
        match event:
            case runrig.OffersMade():
                return [self._answer(offer) for offer in event.offers]
            case runrig.TasksUpdated():
                for update in event.updates:
                    self.states[update.task_id] = update.state.name
                    print(update.task_id, "on", update.agent_id, update.state.name, flush=True)
                return []
            case _:
                return []

    def _answer(self, offer: runrig.Offer) -> runrig.RawDecision:
        task_id = runrig.TaskId(f"{self.prefix}-{offer.hostname}")
        long = runrig.Filter(refuse_ms=3_600_000, reason="this agent has had its task")
        if task_id in self.states:
            return runrig.Decline((offer.offer_id,), long)
        self.states[task_id] = "launched"
        need = runrig.Resources(cpu_millis=100, mem_mib=32)
        spec = runrig.TaskSpec(task_id, need, command=runrig.Command(shell="hostname"))
        launch = runrig.LaunchGroup(offer.agent_id, (offer.offer_id,), (runrig.LaunchTasks((spec,)),))
        return runrig.Accept((launch,), filter=long)

    @property
    def is_done(self) -> bool:
        return bool(self.states) and all(state == "TASK_FINISHED" for state in self.states.values())


logic = OneEach()
master = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:5055"
runrig.Framework("census", logic, master=master).main(until=lambda: logic.is_done)
