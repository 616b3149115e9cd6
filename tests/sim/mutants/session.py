"""Bugs in the SDK: what it writes down before it acts, how it comes back, what it heeds."""

from __future__ import annotations

from functools import partial

from tests.sim.mutants.mutant import Mutant, Part

_scheduler = partial(Mutant, part=Part.SESSION, file="sdk/runrig/scheduler.py")
_session = partial(Mutant, part=Part.SESSION, file="sdk/runrig/session.py")
_turn = partial(Mutant, part=Part.SESSION, file="sdk/runrig/_turn.py")
_records = partial(Mutant, part=Part.SESSION, file="sdk/runrig/_records.py")
_matching = partial(Mutant, part=Part.SESSION, file="sdk/runrig/matching.py")

_PERSIST = "            commands.append(Persist(self._puts, tuple(self._deletes)))\n"

MUTANTS = (
    _scheduler(
        name="the intent to launch is not written",
        old="        self.records[record.task_id] = record\n        self._put(record)\n",
        new="        self.records[record.task_id] = record\n",
    ),
    _turn(
        name="launches are sent before the intent is durable",
        old="        if self._puts or self._deletes:\n" + _PERSIST,
        new="",
        also=(
            (
                "        commands.extend(self._answers)\n",
                "        if self._puts or self._deletes:\n" + _PERSIST + "        commands.extend(self._answers)\n",
            ),
        ),
    ),
    _turn(
        name="updates are acknowledged before what they changed is durable",
        old="        if self._puts or self._deletes:\n" + _PERSIST,
        new="        if self._receipts:\n"
        "            commands.extend(session.send(Acknowledge(tuple(self._receipts))))\n"
        "            self._receipts = []\n"
        "        if self._puts or self._deletes:\n" + _PERSIST,
    ),
    _turn(
        name="users are answered before what they asked for is durable",
        old="        if self._puts or self._deletes:\n" + _PERSIST,
        new="        answers, self._answers = self._answers, []\n        commands.extend(answers)\n"
        "        if self._puts or self._deletes:\n" + _PERSIST,
    ),
    _turn(
        name="updates are not acknowledged",
        old="            self.calls.append(Acknowledge(tuple(self._receipts)))\n",
        new="            pass\n",
    ),
    _scheduler(
        name="nothing is reconciled at a reconnection",
        old="        self._reconcile(now)\n        self._turn.calls.append(Reconcile())\n",
        new="        self._reconcile_at = now + self._settings.reconcile_s\n",
    ),
    _scheduler(
        name="what was launched is never reconciled",
        old="            self._turn.calls.append(Reconcile(tuple(references[start : start + 1000])))\n",
        new="            pass\n",
    ),
    _scheduler(
        name="lost launches are never noticed",
        within=150,
        old="            update = _never_launched(update, now)\n",
        new="            return\n",
    ),
    _scheduler(
        name="kills are not repeated",
        within=150,
        old="        self._turn.calls.extend(Kill(record.task_id, record.grace_ms) for record in stopping)\n",
        new="",
    ),
    _scheduler(
        name="that a task is to stop is not written",
        old="        record.grace_ms = decision.grace_ms\n        self._put(record)\n",
        new="        record.grace_ms = decision.grace_ms\n",
        within=10,
        equivalent="at a restart the SDK stops whatever its logic does not ask for again",
    ),
    _scheduler(
        name="suppressed roles are never revived",
        old="            self._turn.calls.append(Revive(awake))\n",
        new="",
    ),
    _scheduler(
        name="new wants do not revive",
        old="                self.waiting.add(want)\n                self._must_revive = True\n",
        new="                self.waiting.add(want)\n",
    ),
    _scheduler(
        name="records of ended tasks stay",
        old="        self._turn.delete(key)\n",
        new="",
    ),
    _scheduler(
        name="records of unreachable tasks are deleted",
        old="        record.learn(update)\n        if update.state.is_terminal:\n",
        new="        record.learn(update)\n"
        "        if update.state.is_terminal or update.state is TaskState.TASK_UNREACHABLE:\n",
    ),
    _scheduler(
        name="overtaken updates are heeded",
        old="        if update.number and update.number <= record.number:\n            return\n",
        new="",
    ),
    _scheduler(
        name="a want that is given up is launched all the same",
        within=150,
        old="        if self.waiting.take(decision.task_id) is not None:\n            return\n",
        new="        if decision.task_id in self.waiting:\n            return\n",
    ),
    _scheduler(
        name="demand is not stated",
        old="            self._turn.calls.append(UpdateDemand(role, demands))\n",
        new="",
    ),
    _scheduler(
        name="demand is not stated anew after a reconnection",
        old="        self._unstated.update(self.session.framework.roles)\n        self._state_at.clear()\n",
        new="        self._state_at.clear()\n",
    ),
    _scheduler(
        name="a gang may be launched in part",
        old="            self._turn.calls.append(Accept(groups, atomic=True, filter=Filter(0)))\n",
        new="            self._turn.calls.append(Accept(groups, filter=Filter(0)))\n",
    ),
    _records(
        name="the number of the latest update is not written",
        old='            "number": self.number,\n',
        new='            "number": 0,\n',
    ),
    _matching(
        name="an offer is not used up by what is placed on it",
        old="        room.left = room.left - spec.resources\n",
        new="",
    ),
    _session(
        name="a lower epoch is heeded",
        old="        if event.epoch < self.epoch:\n            return [CloseStream(",
        new="        if event.epoch < 0:\n            return [CloseStream(",
    ),
    _session(
        name="news of a stream that is closed is heeded",
        old="        if event.stream != self._stream or not self._is_open:\n            return []\n"
        "        if event.epoch",
        new="        if event.epoch",
        within=10,
        equivalent="edges deliver nothing of a stream once they have told that it is closed",
    ),
    _session(
        name="each connection has the same session number",
        old="        self._attempt += 1\n",
        new="        self._attempt = 1\n",
    ),
    _session(
        name="a master that says nothing is not left",
        old="        if self._is_open and now >= self._last_heard + self._silence_timeout_s:\n",
        new="        if self._is_open and now >= self._last_heard + 100 * self._silence_timeout_s:\n",
    ),
    _session(
        name="a broken stream is not opened again",
        old="        self._retry_at = now + self._backoff(event.jitter)\n",
        new="        self._retry_at = now + self._backoff(event.jitter) if was_subscribed else None\n",
    ),
)
