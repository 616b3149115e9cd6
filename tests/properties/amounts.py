"""Amounts as they are counted by hand: a number for each name, and the set of ports. The naive side of the machines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import strategies as st

from runrig.resources import Resources

SCALARS = ("cpu_millis", "mem_mib", "disk_mib", "gpus")


@dataclass
class Amounts:
    """What there is of everything: scalars by name, custom ones among them, and single ports."""

    scalars: Counter[str] = field(default_factory=Counter)
    ports: set[int] = field(default_factory=set)

    def holds(self, other: Amounts) -> bool:
        """Say whether `other` is part of this."""
        fits = all(self.scalars[name] >= amount for name, amount in other.scalars.items())
        return fits and other.ports <= self.ports

    def add(self, other: Amounts) -> None:
        """Put `other` in."""
        self.scalars.update(other.scalars)
        self.ports |= other.ports

    def take(self, other: Amounts) -> None:
        """Take `other` out."""
        self.scalars.subtract(other.scalars)
        self.ports -= other.ports

    def missing(self, need: Amounts) -> dict[str, int]:
        """Return how much is missing of `need`, as `Resources.shortfall` names it."""
        short = {name: amount - self.scalars[name] for name, amount in need.scalars.items()}
        short["ports"] = len(need.ports - self.ports)
        return {name: amount for name, amount in short.items() if amount > 0}

    def resources(self) -> Resources:
        """Return the same as the product writes it: ranges joined, names ascending, nothing of zero."""
        custom = sorted((name, amount) for name, amount in self.scalars.items() if name not in SCALARS and amount)
        cpu_millis, mem_mib, disk_mib, gpus = (self.scalars[name] for name in SCALARS)
        return Resources(cpu_millis, mem_mib, disk_mib, gpus, ranges(self.ports), tuple(custom))


def counted(resources: Resources) -> Amounts:
    """Count what `resources` holds, port by port."""
    scalars = Counter({name: getattr(resources, name) for name in SCALARS})
    scalars.update(dict(resources.custom))
    return Amounts(scalars, {port for begin, end in resources.ports for port in range(begin, end + 1)})


def ranges(ports: set[int]) -> tuple[tuple[int, int], ...]:
    """Return the fewest ranges that hold just `ports`."""
    begins = sorted(port for port in ports if port - 1 not in ports)
    ends = sorted(port for port in ports if port + 1 not in ports)
    return tuple(zip(begins, ends, strict=True))


def amounts(most: int = 6, ports: int = 12) -> st.SearchStrategy[Amounts]:
    """Draw small amounts, so that what is asked for is now there and now not."""
    names = st.sampled_from([*SCALARS, "fpga", "licences", "x-y.z_0"])
    scalars = st.dictionaries(names, st.integers(1, most), max_size=4).map(Counter)
    return st.builds(Amounts, scalars, st.sets(st.integers(1, ports), max_size=6))
