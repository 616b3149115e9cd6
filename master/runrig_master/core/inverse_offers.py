"""Resources asked back: which framework was asked for which tasks, until when, and what it has said to that.

An inverse offer stands until its tasks have ended, its deadline has come or it is called off. It survives its
framework's absence, as its deadline does: a scheduler that subscribes hears of all that stand. It does not survive the
master: who made it for a reason that is in the store makes it anew.

What was made and ended within a turn is told at its end, in few messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import islice
from typing import TypeVar

from runrig.ids import AgentId, FrameworkId, TaskId
from runrig.offers import AnswerInverseOffer, InverseOffer, InverseOfferReason, InverseOffersEnded, InverseOffersMade
from runrig.reservations import Unavailability
from runrig.resources import NOTHING, Resources
from runrig_master.core.alarms import Alarms
from runrig_master.core.resources import tolerant_sum
from runrig_master.core.state import Agent, Framework, Task, TaskKey

TASKS_PER_INVERSE_OFFER = 1_000
"""Keeps the largest below 1 MiB, whatever the ids of its tasks are."""
ENDED_PER_MESSAGE = 1_000

Key = TypeVar("Key")


class OutstandingInverseOffer:
    """An inverse offer that has not ended; `deadline` None: nothing will be killed."""

    __slots__ = (
        "agent",
        "answer",
        "deadline",
        "framework",
        "id",
        "made_at",
        "reason",
        "resources",
        "tasks",
        "unavailability",
    )

    def __init__(
        self,
        id_: str,
        reason: InverseOfferReason,
        framework: Framework,
        agent: Agent,
        tasks: dict[TaskId, Task],
        resources: Resources,
        deadline: float | None,
        unavailability: Unavailability | None,
        made_at: float,
    ) -> None:
        self.id = id_
        self.reason = reason
        self.framework = framework
        self.agent = agent
        self.tasks = tasks
        """Those of them that have not ended."""
        self.resources = resources
        self.deadline = deadline
        self.unavailability = unavailability
        self.made_at = made_at
        self.answer: AnswerInverseOffer | None = None
        """What the framework has said that it means to do."""

    def described(self) -> InverseOffer:
        """Return it as its framework sees it."""
        return InverseOffer(
            self.id,
            self.reason,
            self.agent.id,
            self.agent.info.hostname,
            tuple(self.tasks),
            self.resources,
            round((self.deadline or 0) * 1000),
            self.unavailability,
        )


class InverseOffers:
    """All that stand, by id, framework, agent and task."""

    def __init__(self, epoch: int, most_per_framework: int) -> None:
        self.standing: dict[str, OutstandingInverseOffer] = {}
        self._most_per_framework = most_per_framework
        self._epoch = epoch
        self._made = 0
        self._by_framework: dict[FrameworkId, dict[str, OutstandingInverseOffer]] = {}
        self._by_agent: dict[AgentId, dict[str, OutstandingInverseOffer]] = {}
        self._by_task: dict[TaskKey, dict[str, OutstandingInverseOffer]] = {}
        self._deadlines: Alarms[str] = Alarms()
        self._untold: dict[str, OutstandingInverseOffer] = {}
        self._ended: dict[str, Framework] = {}

    def make(
        self,
        reason: InverseOfferReason,
        framework: Framework,
        agent: Agent,
        tasks: Iterable[Task],
        now: float,
        *,
        resources: Resources | None = None,
        deadline: float | None = None,
        unavailability: Unavailability | None = None,
    ) -> list[OutstandingInverseOffer]:
        """Ask a framework for tasks on one agent, in several inverse offers if they are very many.

        Without `resources` that is what they use. Fewer are made, or none, when the framework has as many as it may.
        """
        tasks = iter(tasks)
        made = []
        while some := list(islice(tasks, TASKS_PER_INVERSE_OFFER)):
            if len(self._by_framework.get(framework.id, ())) >= self._most_per_framework:
                break
            self._made += 1
            inverse = OutstandingInverseOffer(
                f"i{self._epoch}-{self._made}",
                reason,
                framework,
                agent,
                {task.id: task for task in some},
                resources if resources is not None else _total(some),
                deadline,
                unavailability,
                now,
            )
            self._keep(inverse, some)
            made.append(inverse)
        return made

    def _keep(self, inverse: OutstandingInverseOffer, tasks: list[Task]) -> None:
        self.standing[inverse.id] = inverse
        self._by_framework.setdefault(inverse.framework.id, {})[inverse.id] = inverse
        self._by_agent.setdefault(inverse.agent.id, {})[inverse.id] = inverse
        for task in tasks:
            self._by_task.setdefault(task.key, {})[inverse.id] = inverse
        if inverse.deadline is not None:
            self._deadlines.set(inverse.id, inverse.deadline)
        self._untold[inverse.id] = inverse

    def end(self, inverse: OutstandingInverseOffer) -> None:
        """End one: met, called off, or past its deadline."""
        del self.standing[inverse.id]
        _drop(self._by_framework, inverse.framework.id, inverse.id)
        _drop(self._by_agent, inverse.agent.id, inverse.id)
        for task in inverse.tasks.values():
            _drop(self._by_task, task.key, inverse.id)
        self._deadlines.call_off(inverse.id)
        if self._untold.pop(inverse.id, None) is None:
            self._ended[inverse.id] = inverse.framework

    # What stands

    def of_framework(self, framework_id: FrameworkId) -> list[OutstandingInverseOffer]:
        """Return those of a framework, the oldest first."""
        return list(self._by_framework.get(framework_id, {}).values())

    def of_agent(self, agent_id: AgentId, reason: InverseOfferReason | None = None) -> list[OutstandingInverseOffer]:
        """Return those for an agent, of one reason or of any, the oldest first."""
        mine = self._by_agent.get(agent_id, {}).values()
        return [inverse for inverse in mine if reason in (None, inverse.reason)]

    def asks_for(self, task: Task, reason: InverseOfferReason) -> bool:
        """Say whether a task is asked for, for this reason, already."""
        return any(inverse.reason is reason for inverse in self._by_task.get(task.key, {}).values())

    # What happens

    def answer(self, framework: Framework, call: AnswerInverseOffer) -> None:
        """Remember what a framework means to do, for people; of what has ended or is not its own nothing is kept."""
        inverse = self._by_framework.get(framework.id, {}).get(call.inverse_offer_id)
        if inverse is not None:
            inverse.answer = call

    def task_ended(self, task: Task) -> None:
        """Count an ended task as given back; an inverse offer without any left is met."""
        asked = self._by_task.pop(task.key, None)
        if asked is None:
            return
        for inverse in asked.values():
            del inverse.tasks[task.id]
            if not inverse.tasks:
                self.end(inverse)

    def tell_again(self, framework: Framework) -> None:
        """Have a scheduler that has just subscribed hear of all that stand, and of no others."""
        for inverse in self.of_framework(framework.id):
            self._untold[inverse.id] = inverse
        self._ended = {id_: owner for id_, owner in self._ended.items() if owner is not framework}

    # Time and news

    def next_deadline(self) -> float | None:
        """Return when the next deadline comes."""
        return self._deadlines.next()

    def due(self, now: float) -> list[OutstandingInverseOffer]:
        """Return those whose deadline has come, the earliest first; they stand until they are ended."""
        return [self.standing[id_] for id_ in self._deadlines.due(now)]

    def news(self) -> Iterator[tuple[Framework, InverseOffersMade | InverseOffersEnded]]:
        """Yield, once, what frameworks have not been told yet."""
        untold, self._untold = self._untold, {}
        ended, self._ended = self._ended, {}
        for framework, made in _by_framework(untold).items():
            for batch in _batches(made):
                yield framework, InverseOffersMade(tuple(inverse.described() for inverse in batch))
        owners: dict[Framework, list[str]] = {}
        for id_, framework in ended.items():
            owners.setdefault(framework, []).append(id_)
        for framework, ids in owners.items():
            for start in range(0, len(ids), ENDED_PER_MESSAGE):
                yield framework, InverseOffersEnded(tuple(ids[start : start + ENDED_PER_MESSAGE]))


def _by_framework(
    inverse_offers: dict[str, OutstandingInverseOffer],
) -> dict[Framework, list[OutstandingInverseOffer]]:
    found: dict[Framework, list[OutstandingInverseOffer]] = {}
    for inverse in inverse_offers.values():
        found.setdefault(inverse.framework, []).append(inverse)
    return found


def _batches(inverse_offers: list[OutstandingInverseOffer]) -> Iterator[list[OutstandingInverseOffer]]:
    batch: list[OutstandingInverseOffer] = []
    size = 0
    for inverse in inverse_offers:
        if batch and size + len(inverse.tasks) > TASKS_PER_INVERSE_OFFER:
            yield batch
            batch, size = [], 0
        batch.append(inverse)
        size += len(inverse.tasks)
    if batch:
        yield batch


def _total(tasks: Iterable[Task]) -> Resources:
    """Add up what tasks use; a port may be held twice, as a returned agent is believed."""
    return reduce(tolerant_sum, (task.resources for task in tasks), NOTHING)


def _drop(index: dict[Key, dict[str, OutstandingInverseOffer]], key: Key, id_: str) -> None:
    mine = index.get(key)
    if mine is not None:
        mine.pop(id_, None)
        if not mine:
            del index[key]
