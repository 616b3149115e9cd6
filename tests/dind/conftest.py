"""Three hosts in containers, on the engine that scripts/engine finds or starts."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from runrig._hosts import Host, Hosts, sweep
from tests.docker.conftest import engine

__all__ = ["engine"]  # the fixture of tests/docker serves here too

BEAT = """
import itertools, time
for number in itertools.count():
    print("beat", number, flush=True)
    time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def hosts(engine: str) -> Iterator[Hosts]:
    """Bring up three hosts; what runs as their agent writes a line every 50 ms."""
    sweep()
    with Hosts.up(3, agent=beating) as hosts:
        yield hosts


def beating(_: Host) -> list[str]:
    return [sys.executable, "-c", BEAT]
