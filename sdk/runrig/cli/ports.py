"""Ports of this machine: which are in use, and which may be taken.

Chosen ports stay below those that the kernel gives to outgoing connections (from 32768), so that a part that
died finds its port free when it starts again.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from runrig.errors import Conflict, Unavailable

LOCALHOST = "127.0.0.1"
CHOSEN = range(20_000, 30_000)
BLOCKS = range(10_000, 20_000)  # for ports that tasks get


@dataclass(frozen=True, slots=True)
class Claim:
    """A port that a part of a cluster wants."""

    port: int
    wanted_by: str
    host: str = LOCALHOST


def check_free(claims: Iterable[Claim]) -> None:
    """Raise Conflict that names each port that is in use and who wants it."""
    taken = [claim for claim in claims if not is_free(claim.port, claim.host)]
    if taken:
        named = " and ".join(f"port {claim.port} for {claim.wanted_by}" for claim in taken)
        verb = "is" if len(taken) == 1 else "are"
        raise Conflict(f"{named} {verb} in use; use --ports auto, or end what listens there")


def is_free(port: int, host: str = LOCALHOST) -> bool:
    """Say whether a server could listen on a port; connections that are just closing do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


@dataclass(slots=True)
class FreePorts:
    """Chooses ports that are free, each once; at random, so that two clusters that start at once differ."""

    chance: random.Random = field(default_factory=random.SystemRandom)
    _taken: set[int] = field(default_factory=set)

    def one(self) -> int:
        """Choose a port; raise Unavailable when none is left."""
        for port in self.chance.sample(CHOSEN, len(CHOSEN)):
            if port not in self._taken and is_free(port):
                self._taken.add(port)
                return port
        raise Unavailable(f"no port from {CHOSEN.start} to {CHOSEN.stop - 1} is free")

    def block(self, size: int) -> int:
        """Choose `size` ports in a row and return the first; raise Unavailable when there are none."""
        starts = list(range(BLOCKS.start, BLOCKS.stop - size + 1, size))
        for start in self.chance.sample(starts, len(starts)):
            if all(is_free(port) for port in range(start, start + size)):
                return start
        raise Unavailable(f"no {size} free ports in a row from {BLOCKS.start} to {BLOCKS.stop - 1}")
