"""An offer as its framework sees it."""

from __future__ import annotations

from runrig.offers import Offer
from runrig_master.core.state import OutstandingOffer


def described(offer: OutstandingOffer) -> Offer:
    """Return an offer as its framework sees it."""
    agent = offer.agent
    info = agent.info
    return Offer(
        offer.id,
        info.agent_id,
        info.hostname,
        offer.role,
        offer.resources,
        info.attributes,
        offer.gang_id,
        info.address,
        info.runtimes,
        offer.pool.reservation,
        offer.volumes,
        agent.unavailability,
        offer.is_optimistic,
        offer.lent_for_ms,
    )
