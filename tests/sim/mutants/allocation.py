"""Bugs in who is offered what: limits, claims, gangs, priorities, optimistic offers."""

from __future__ import annotations

from functools import partial

from tests.sim.mutants.mutant import Mutant, Part

_mutant = partial(Mutant, part=Part.MASTER)
_CORE = "master/runrig_master/core"
_cluster = partial(_mutant, file=f"{_CORE}/cluster.py")
_demands = partial(_mutant, file=f"{_CORE}/frameworks.py")
_gangs = partial(_mutant, file=f"{_CORE}/allocation/gangs.py")
_layaway = partial(_mutant, file=f"{_CORE}/allocation/layaway.py")
_launching = partial(_mutant, file=f"{_CORE}/launching.py")
_letting_go = partial(_mutant, file=f"{_CORE}/allocation/letting_go.py")
_predicates = partial(_mutant, file=f"{_CORE}/allocation/predicates.py")
_preemption = partial(_mutant, file=f"{_CORE}/allocation/preemption.py")

MUTANTS = (
    _predicates(
        name="a limit is ignored for demand",
        old="(cluster.recovering or not node.limit.admits(node.holding, more)):\n",
        new="cluster.recovering:\n",
    ),
    _launching(
        name="a conflict of optimistic offers is not noticed within a turn",
        old="        if not left.contains(offer.resources):\n            return cluster.conflict_text(offer, left)\n",
        new="",
    ),
    _cluster(
        name="the offers that others took first are not taken back",
        old="        self.rescind(stale, RescindReason.CONFLICT)\n",
        new="",
    ),
    _cluster(
        name="demand is forgotten when its offer is rescinded",
        old="        for wanted, count in offer.parts:\n            self._wait_again(wanted, count, pool.agent)\n",
        new="",
    ),
    _demands(
        name="what a scheduler wanted waits on when the next takes over",
        old="            demands.forget(cluster, client)\n        cluster.leave",
        new="            pass\n        cluster.leave",
    ),
    _gangs(
        name="a gang is offered as far as it fits",
        old="        if not _place_all(pass_, member, taken):\n",
        new="        if not _place_all(pass_, member, taken) and not taken:\n",
    ),
    _preemption(
        name="an equal priority is preempted",
        old="    is_lower = task.terms.priority < wanted.demand.priority\n",
        new="    is_lower = task.terms.priority <= wanted.demand.priority\n",
    ),
    _preemption(
        name="preemption has no budget",
        old="    cluster.backlog.preempted_at.extend([now] * len(victims))\n",
        new="",
    ),
    _preemption(
        name="victims have no notice",
        old="    deadline = now + cluster.settings.preemption_notice_s\n",
        new="    deadline = now\n",
    ),
    _letting_go(
        name="held offers of one pool are judged one by one",
        old="room = min(missing, _tasks_in(wanted, sum((offer.resources for offer in offers), free)))\n",
        new="room = min(missing, max(_tasks_in(wanted, free + offer.resources) for offer in offers))\n",
    ),
    _layaway(
        name="a lay-away is not bounded",
        old="    return (\n        sum(claim.resources.cpu_millis for claim in claims) <=",
        new="    return bool(claims) or (\n        sum(claim.resources.cpu_millis for claim in claims) <=",
        equivalent="that a cluster is kept for gangs delays others, and what is late and what is not no seed can say",
    ),
)
