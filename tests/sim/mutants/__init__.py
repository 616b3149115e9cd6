"""Planted bugs, of the kind that schedulers have had: proof that the simulation would notice."""

from __future__ import annotations

from tests.sim.mutants import agent, allocation, batch, master, reservations, service, session, store
from tests.sim.mutants.mutant import Mutant, Part

MUTANTS: tuple[Mutant, ...] = (
    *master.MUTANTS,
    *allocation.MUTANTS,
    *reservations.MUTANTS,
    *store.MUTANTS,
    *agent.MUTANTS,
    *session.MUTANTS,
    *service.MUTANTS,
    *batch.MUTANTS,
)

__all__ = ["MUTANTS", "Mutant", "Part"]
