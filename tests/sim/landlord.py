"""An operator who keeps parts of agents for roles, makes volumes there, and thinks better of it.

What is asked is drawn from the seed: some of it cannot be. Beside it stands what must hold of volumes whatever happens:
their data goes only once they were destroyed, and then it does go.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial

from runrig.ids import AgentId, Role
from runrig.reservations import PersistentVolume, Reservation
from runrig.resources import Resources
from runrig.testing import Cluster, SimulatedAgent
from runrig_master.core.commands import Record, ReservationRecord, VolumeRecord
from runrig_master.core.events import (
    CreateVolumeAsked,
    DestroyVolumeAsked,
    QuestionId,
    ReservationEvent,
    ReserveAsked,
    UnreserveAsked,
)
from runrig_master.records_grpc import record

ROLES = (Role("eng"), Role("eng/ads"), Role("default"))
"""Of the greedy framework and above it: what is kept for them is kept from nobody who must be served."""
NAMES = ("r1", "r2", "r3")
VOLUMES = ("v1", "v2")
STATIC = Reservation("flag", Role("eng"), Resources(1500, 512, 300), is_static=True)
NOBODY = QuestionId(0)


def drawn_reservation(chance: random.Random, role: Role | None = None) -> Reservation:
    """Draw a small reservation, which two may want to make alike."""
    amounts = Resources(chance.choice((500, 1_000, 2_000, 90_000)), 256, chance.choice((0, 200, 300)))
    return Reservation(chance.choice(NAMES), role or chance.choice(ROLES), amounts)


def drawn_volume(chance: random.Random, pools: tuple[str, ...] = (*NAMES, STATIC.reservation_id)) -> PersistentVolume:
    """Draw a volume on some reservation."""
    return PersistentVolume(chance.choice(VOLUMES), chance.choice(pools), chance.choice((50, 80)))


class Landlord:
    """Asks the leader now and then, and in the end gives back all that is left."""

    def __init__(self, seed: int, cluster: Cluster) -> None:
        self._chance = random.Random(f"{seed}/landlord")
        self._cluster = cluster
        for number, agent in enumerate(cluster.all_agents.values()):
            agent.host.deleted.append(partial(self._check_deletion, agent))
            if number % 4 == 0:
                agent.info = replace(agent.info, reservations=(STATIC,))
                agent.restart()

    def begin(self, lasts_s: float) -> None:
        """Ask for this and that."""
        for _ in range(self._chance.randint(30, 150)):
            self._cluster.after(self._chance.uniform(0, lasts_s), self._ask_something)

    def give_back(self) -> None:
        """Destroy all volumes and give back all reservations; what cannot be now is asked again."""
        for kept in self._kept():
            if isinstance(kept, VolumeRecord):
                self._ask(DestroyVolumeAsked(NOBODY, kept.agent_id, kept.volume.volume_id))
        for kept in self._kept():
            if isinstance(kept, ReservationRecord):
                self._ask(UnreserveAsked(NOBODY, kept.agent_id, kept.reservation.reservation_id))

    def problem(self, away: set[str]) -> str | None:
        """Return what is still kept in the end, but for agents that are away for good."""
        kept = [each for each in self._kept() if each.agent_id not in away]
        if kept:
            return f"{kept[0]} is still kept"
        for name, agent in self._cluster.all_agents.items():
            if name not in away and agent.host.volumes:
                return f"the data of {list(agent.host.volumes)} is still on {name}"
        return None

    def _ask_something(self) -> None:
        agent_id = AgentId(self._chance.choice(list(self._cluster.all_agents)))
        match self._chance.randrange(6):
            case 0 | 1:
                source = self._chance.choice(("", "", *NAMES, STATIC.reservation_id))
                self._ask(ReserveAsked(NOBODY, agent_id, drawn_reservation(self._chance), source))
            case 2 | 3:
                self._ask(CreateVolumeAsked(NOBODY, agent_id, drawn_volume(self._chance)))
            case 4:
                self._ask(DestroyVolumeAsked(NOBODY, agent_id, self._chance.choice(VOLUMES)))
            case _:
                self._ask(UnreserveAsked(NOBODY, agent_id, self._chance.choice(NAMES)))

    def _ask(self, event: ReservationEvent) -> None:
        leader = next((each for each in self._cluster.masters.values() if each.is_up), None)
        if leader is not None:
            leader.ask(lambda question: replace(event, question=question))

    def _kept(self) -> list[ReservationRecord | VolumeRecord]:
        entries = next(iter(self._cluster.masters.values()))._store.entries
        keys = [key for key in sorted(entries) if key.startswith(("reservations/", "volumes/"))]
        records: list[Record | None] = [record(key, entries[key]) for key in keys]
        return [each for each in records if isinstance(each, ReservationRecord | VolumeRecord)]

    def _check_deletion(self, agent: SimulatedAgent, volume_id: str) -> None:
        """Assert that nobody was promised the data that goes: its end was durable first."""
        store = next(iter(self._cluster.masters.values()))._store
        value = store.entries.get(f"volumes/{agent.name}/{volume_id}")
        kept = record(f"volumes/{agent.name}/{volume_id}", value) if value is not None else None
        is_doomed = kept is None or (isinstance(kept, VolumeRecord) and kept.is_doomed)
        assert is_doomed, f"{agent.name} deletes {volume_id}, which was not destroyed"
