"""What an author tests a framework with: a simulated cluster on a virtual clock. docs/testing.md shows how."""

from runrig.testing.agents import SimulatedAgent
from runrig.testing.cluster import Cluster, seconds
from runrig.testing.faults import Climate, Fault
from runrig.testing.frameworks import SimulatedFramework
from runrig.testing.network import Weather
from runrig.testing.recording import Difference, Recording, replay
from runrig.testing.runtimes import Behaviour, RealTask, Script, failing, finishing, running

__all__ = [
    "Behaviour",
    "Climate",
    "Cluster",
    "Difference",
    "Fault",
    "RealTask",
    "Recording",
    "Script",
    "SimulatedAgent",
    "SimulatedFramework",
    "Weather",
    "failing",
    "finishing",
    "replay",
    "running",
    "seconds",
]
