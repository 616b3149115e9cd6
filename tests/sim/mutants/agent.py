"""Bugs in the agent: launches, ends, updates, what it writes down and finds again."""

from __future__ import annotations

from functools import partial

from tests.sim.mutants.mutant import Mutant, Part

_mutant = partial(Mutant, part=Part.AGENT)
_CORE = "agent/runrig_agent/core"
_agent = partial(_mutant, file=f"{_CORE}/agent.py")
_effects = partial(_mutant, file=f"{_CORE}/effects.py")
_ends = partial(_mutant, file=f"{_CORE}/ends.py")
_launches = partial(_mutant, file=f"{_CORE}/launches.py")
_link = partial(_mutant, file=f"{_CORE}/link.py")
_recovery = partial(_mutant, file=f"{_CORE}/recovery.py")
_starts = partial(_mutant, file=f"{_CORE}/starts.py")
_tombstones = partial(_mutant, file=f"{_CORE}/tombstones.py")
_updates = partial(_mutant, file=f"{_CORE}/updates.py")

MUTANTS = (
    # Launches
    _launches(
        name="a task that runs is launched again",
        old="            self._updates.answer(task)\n            return True\n",
        new="            self._updates.answer(task)\n            return False\n",
    ),
    _launches(
        name="a task that has ended is launched again",
        old="            self._effects.tell(ended)\n            return True\n",
        new="            self._effects.tell(ended)\n            return False\n",
    ),
    _launches(
        name="a task is not written down before it starts",
        old="        self._effects.keep(PutTask(",
        new="        _ = (PutTask(",
    ),
    _agent(
        name="a kill that comes before its launch is forgotten",
        old="                self._tombstones.bury(key, None, now)\n",
        new="                pass\n",
        within=10,
        equivalent="a master kills only what it has launched on the same stream before, and streams keep their order; "
        "the agent's own tests have kills that come first",
    ),
    _starts(
        name="tasks start while their runtime is asked for earlier ones",
        old="        if self._runtimes.is_recovering(task.kind):\n            task.phase = Phase.HELD\n        elif",
        new="        if",
        also=(
            (
                "is_recovering(each.kind) for each in together if each.phase is Phase.READY):\n",
                "is_recovering(each.kind) for each in together if each.phase is Phase.HELD):\n",
            ),
        ),
    ),
    # Ends
    _ends(
        name="no SIGKILL follows when the grace is over",
        old="            self._timers.set(TimerKind.KILL, ending.deadline, task.key)\n",
        new="",
    ),
    _ends(
        name="a kill is forgotten when the agent restarts",
        within=150,
        old="        self._effects.keep(PutEnding(task.key, ending))\n",
        new="",
    ),
    _ends(
        name="an end is said when the kill is sent, not when the task has ended",
        old="        if task.phase is Phase.RUNNING:\n            self.signal(task, now)\n\n    def forget",
        new="        if task.phase is Phase.RUNNING:\n            self.signal(task, now)\n"
        "            self.finish(task, state, reason, message, now)\n\n    def forget",
    ),
    _ends(
        name="what ended tasks held is never free again",
        old="        self._account.release(task.spec)\n",
        new="",
    ),
    _agent(
        name="an agent that was marked gone leaves its tasks running",
        old="                    self._ends.kill(task, None, Reason.AGENT_GONE, now)\n",
        new="                    pass\n",
        also=(
            (
                "        if not (is_gone and any(task.is_live for task in self._tasks.values())):\n",
                "        if is_gone or not is_gone:\n",
            ),
        ),
    ),
    _agent(
        name="tasks of a framework that was shut down run on",
        old="                    self._ends.forget(task, now)\n",
        new="                    self._updates.answer(task)\n",
    ),
    # Updates
    _updates(
        name="updates are numbered anew after an acknowledgement",
        old="            number=task.last_number + 1,\n",
        new="            number=len(task.unacknowledged) + 1,\n",
    ),
    _updates(
        name="a receipt drops what came after it",
        old="            task.unacknowledged = [update for update in task.unacknowledged if update.number > through]\n",
        new="            task.unacknowledged = []\n",
    ),
    _updates(
        name="updates are not repeated on a new connection",
        old="            self._send_again(task)\n            self._wait_for_acknowledgement(task, now)\n",
        new="            pass\n",
    ),
    _updates(
        name="updates are sent once",
        old="            self._send_again(task)\n            task.retry_s =",
        new="            task.retry_s =",
        also=(("            self._send_again(task)\n            self._wait_for", "            self._wait_for"),),
    ),
    _updates(
        name="updates are not written down",
        old="        self._effects.keep(PutUpdate(update))\n",
        new="",
    ),
    _recovery(
        name="unacknowledged updates are dropped at a restart",
        old="    task.unacknowledged = [update for update in saved.updates if update.number > saved.acknowledged]\n",
        new="    task.unacknowledged = []\n",
    ),
    # What is durable
    _effects(
        name="nothing waits for the checkpoint",
        old="    return not all(isinstance(change, _LAZY) or _is_burial(change) for change in changes)\n",
        new="    return False\n",
    ),
    _tombstones(
        name="tombstones are not written",
        old="        self._effects.keep(PutTombstone(tombstone))\n",
        new="",
    ),
    _agent(
        name="tombstones are not read again",
        old="        self._tombstones.restore(saved.tombstones, now)\n",
        new="",
    ),
    _recovery(
        name="tasks that run are killed when the agent restarts",
        old="        elif task.phase is Phase.UNCERTAIN:\n            self._starts.started(task, found.started, now)\n",
        new="        elif task.phase is Phase.UNCERTAIN:\n            self._give_up(task, now)\n",
    ),
    _recovery(
        name="what a restarted agent finds ended is not said",
        old="            task.started = found.started\n            self._ends.ended(task, found.ended, now)\n",
        new="            task.started = found.started\n",
    ),
    # The master's word
    _link(
        name="the highest epoch is not written down",
        old="            self._effects.keep(PutLink(self.session, epoch))\n",
        new="",
        also=(
            (
                "        self._effects.keep(PutLink(self.session, self.epoch))\n",
                "        self._effects.keep(PutLink(self.session, 0))\n",
            ),
        ),
    ),
    _link(
        name="a lower epoch is obeyed",
        old="        if epoch < self.epoch:\n            self.close(",
        new="        if epoch < 0:\n            self.close(",
    ),
    _link(
        name="session numbers begin anew at a restart",
        old="        self.session, self.epoch = session, epoch\n",
        new="        self.epoch = epoch\n",
    ),
    _link(
        name="a silent master is not left",
        old='            self.close(f"{self.master} has been silent for {self._silence_s:.0f} s")\n',
        new="            pass\n",
    ),
)
