"""What an author tests a framework with: a simulated cluster on a virtual clock. docs/testing.md shows how."""

from runrig.testing.agents import SimulatedAgent
from runrig.testing.cluster import Cluster, seconds
from runrig.testing.frameworks import SimulatedFramework
from runrig.testing.runtimes import Behaviour, RealTask, Script, failing, finishing, running

__all__ = [
    "Behaviour",
    "Cluster",
    "RealTask",
    "Script",
    "SimulatedAgent",
    "SimulatedFramework",
    "failing",
    "finishing",
    "running",
    "seconds",
]
