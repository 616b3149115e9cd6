"""Fixtures for tests of frameworks; pytest finds them by itself where `runrig[testing]` is installed.

`runrig_cluster`  a simulated cluster on a virtual clock, for tests that take milliseconds
`runrig_dev`      a real cluster of processes on this machine: master, three agents, both frameworks
`runrig_hosts`    a real cluster over three docker-in-docker hosts (needs root and a Docker engine)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from runrig.testing.cluster import Cluster
    from runrig.testing.hosts import HostsCluster
    from runrig.testing.processes import RealCluster


@pytest.fixture
def runrig_cluster() -> Cluster:
    """Return an empty simulated cluster; give it agents and run a framework on it."""
    from runrig.testing.cluster import Cluster

    return Cluster()


@pytest.fixture(scope="module")
def runrig_dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Run a real cluster on this machine, shared by the tests of a module."""
    from runrig.testing.processes import real_cluster

    with real_cluster(tmp_path_factory.mktemp("runrig") / "dev", "--agents", "3") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def runrig_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostsCluster]:
    """Run a real cluster over three docker-in-docker hosts, shared by the tests of a module."""
    from runrig.testing.hosts import hosts_cluster

    with hosts_cluster(tmp_path_factory.mktemp("runrig-hosts")) as cluster:
        yield cluster
