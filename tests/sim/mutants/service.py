"""Bugs in the service framework: how many run, which are replaced, what a restart remembers."""

from __future__ import annotations

from functools import partial

from tests.sim.mutants.mutant import Mutant, Part

_mutant = partial(Mutant, part=Part.SERVICE)
_CORE = "frameworks/runrig_service/core"
_rollout = partial(_mutant, file=f"{_CORE}/rollout.py")
_converge = partial(_mutant, file=f"{_CORE}/converge.py")
_instances = partial(_mutant, file=f"{_CORE}/instances.py")
_service = partial(_mutant, file=f"{_CORE}/service.py")

MUTANTS = (
    _rollout(
        name="one instance too few is started",
        old="    return min(max(0, counts.wanted - counts.new), max(0, _room(counts, capacity)))\n",
        new="    return min(max(0, counts.wanted - counts.new - 1), max(0, _room(counts, capacity)))\n",
    ),
    _converge(
        name="one instance too many is wanted",
        old="        wanted=definition.app.instances,\n",
        new="        wanted=definition.app.instances + 1,\n",
    ),
    _rollout(
        name="instances that are stopping are replaced before they have ended",
        within=150,
        old=" - counts.old_not_ready - counts.stopping\n",
        new=" - counts.old_not_ready\n",
    ),
    _rollout(
        name="scaling down stops one instance too many",
        old="    stop_new = max(0, counts.new - counts.wanted)\n",
        new="    stop_new = counts.new - counts.wanted + 1 if counts.new > counts.wanted else 0\n",
    ),
    _rollout(
        name="scaling down stops nothing",
        old="    stop_new = max(0, counts.new - counts.wanted)\n",
        new="    stop_new = 0\n",
    ),
    _converge(
        name="an instance on a drained agent is stopped before it is replaced",
        within=150,
        old="        upgrade = replace(upgrade, minimum_health_capacity=1.0)\n",
        new="        upgrade = replace(upgrade, minimum_health_capacity=0.0)\n",
    ),
    _converge(
        name="what a drain asks for is not replaced",
        old="    leaving = _next_to_leave(state, definition)\n",
        new="    leaving = None\n",
        within=10,
        equivalent="at the deadline the master kills it, and it is replaced then",
    ),
    _instances(
        name="the counter of instances is not durable",
        old="            Put(COUNTER, str(self._last_number).encode()),\n",
        new="",
    ),
    _instances(
        name="the counter of instances begins anew at a restart",
        old="        self._last_number = int(counter)\n",
        new="        self._last_number = 0\n",
    ),
    _instances(
        name="instances are not remembered before they are asked for",
        old="            *(self.put(each) for each in made),\n",
        new="",
    ),
    _instances(
        name="an instance is forgotten when it is told to stop",
        old="        if instance.is_waiting or instance.is_unreachable:\n            return [self.forget",
        new="        if not instance.is_stopping:\n            return [self.forget",
    ),
    _instances(
        name="an instance of which no news has come is taken for waiting after a restart",
        old="            instance.view = tasks.get(instance.task_id)\n",
        new="",
    ),
    _converge(
        name="unreachable instances are never replaced",
        old="        if now_ms >= inactive_ms:\n            inactive.add(each.task_id)\n",
        new="",
        also=(("        if now_ms >= expunged_ms or (is_old", "        if (is_old"),),
    ),
    _service(
        name="instances are not asked for again after a restart",
        old="                wants += self._state.instances.again(each, app).wants\n",
        new="                pass\n",
    ),
    _service(
        name="the end of an instance is not noticed",
        old="            decisions += self._ended(instance, view, now_ms)\n",
        new="            pass\n",
    ),
    _service(
        name="a task that was given up and is back runs on",
        old="        return [Stop(view.task_id)]\n",
        new="        return []\n",
        within=10,
        equivalent="the SDK keeps the record of a task that is being stopped and repeats the kill until it has ended; "
        "a task without a record never reaches the logic",
    ),
    _service(
        name="what was being stopped is not stopped again after a restart",
        old="            elif each.is_stopping:\n                decisions.append(Stop(each.task_id))\n",
        new="            elif each.is_stopping:\n                pass\n",
        within=10,
        equivalent="the SDK stops whatever it has launched and the logic does not ask for again",
    ),
)
