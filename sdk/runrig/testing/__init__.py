"""What an author tests a framework with: a simulated cluster on a virtual clock. docs/testing.md shows how."""

from runrig.testing.agents import Behaviour, Script, ScriptedAgent, failing, finishing, running
from runrig.testing.cluster import Cluster, seconds
from runrig.testing.frameworks import SimulatedFramework

__all__ = [
    "Behaviour",
    "Cluster",
    "Script",
    "ScriptedAgent",
    "SimulatedFramework",
    "failing",
    "finishing",
    "running",
    "seconds",
]
