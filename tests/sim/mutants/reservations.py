"""Bugs in what is kept for roles: reservations, and disk that outlives tasks."""

from __future__ import annotations

from functools import partial

from tests.sim.mutants.mutant import Mutant, Part

_mutant = partial(Mutant, part=Part.MASTER)
_CORE = "master/runrig_master/core"
_agents = partial(_mutant, file=f"{_CORE}/agents.py")
_cluster = partial(_mutant, file=f"{_CORE}/cluster.py")
_launching = partial(_mutant, file=f"{_CORE}/launching.py")
_operations = partial(_mutant, file=f"{_CORE}/operations.py")
_reservations = partial(_mutant, file=f"{_CORE}/reservations.py")
_volumes = partial(Mutant, part=Part.AGENT, file="agent/runrig_agent/core/volumes.py")

MUTANTS = (
    _cluster(
        name="reservations and volumes are told and not written down",
        old="        if records:\n            self.do(Persist(records))\n",
        new="        if not records:\n            self.do(Persist(records))\n",
    ),
    _cluster(
        name="one volume is offered twice",
        old="        taken = {volume.volume_id for offer in pool.offers.values() for volume in offer.volumes}\n"
        "        taken.update(",
        new="        taken: set[str] = set()\n        taken.update(",
    ),
    _cluster(
        name="a volume that a task uses is offered",
        old="        taken.update(volume_id for task in alive(pool.agent) for volume_id in task.volume_ids)\n",
        new="",
    ),
    _cluster(
        name="what is used beyond one pool is offered of another",
        old="            left = remainder(pool.free, excess)\n",
        new="            left = pool.free\n",
        within=200,
    ),
    _launching(
        name="tasks in a reservation take of what is not reserved",
        old="                    agent.pools[task.terms.reservation_id],\n",
        new='                    agent.pools[""],\n',
    ),
    _reservations(
        name="a destroyed volume is offered",
        old="            if not record.is_doomed and record.volume.reservation_id == reservation_id\n",
        new="            if record.volume.reservation_id == reservation_id\n",
    ),
    _reservations(
        name="the disk of a volume stays free",
        old="                amounts[place] = rest\n        return amounts\n",
        new="        return amounts\n",
    ),
    _operations(
        name="a volume is gone for the master before its agent has deleted it",
        old="    reserves.doom(change.volume_id)\n",
        new="    del reserves.volumes[change.volume_id]\n",
    ),
    _agents(
        name="a destruction is ordered once and never again",
        old="    for volume_id in agent.reserves.doomed:\n",
        new="    for volume_id in agent.reserves.doomed[:0]:\n",
        within=200,
    ),
    _volumes(
        name="a volume is deleted under the task that uses it",
        old="        if not self._account.has_volume(volume_id):\n            self._doomed",
        new="        if volume_id:\n            self._doomed",
        equivalent="the master destroys nothing that a task uses: the agent would have to be told by somebody else",
    ),
    _volumes(
        name="a volume is said to be destroyed and never deleted",
        old="            self._effects.do(DeleteVolume(volume_id))\n",
        new="            self._effects.tell(VolumeDestroyed(volume_id))\n",
    ),
)
