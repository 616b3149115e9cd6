"""Shares: how much of the cluster somebody holds (Ghodsi et al., Dominant Resource Fairness, NSDI 2011)."""

from __future__ import annotations

from runrig.resources import Resources


class Holding:
    """A running sum of resources; fairness counts cpu, memory and disk: gpus are scarce, and kept for who asks."""

    __slots__ = ("cpu_millis", "disk_mib", "gpus", "mem_mib")

    def __init__(self) -> None:
        self.cpu_millis = 0
        self.mem_mib = 0
        self.disk_mib = 0
        self.gpus = 0

    def add(self, resources: Resources, times: int = 1) -> None:
        """Count `resources` in, so many times."""
        self.cpu_millis += resources.cpu_millis * times
        self.mem_mib += resources.mem_mib * times
        self.disk_mib += resources.disk_mib * times
        self.gpus += resources.gpus * times

    def remove(self, resources: Resources) -> None:
        """Count `resources` out, which were counted in."""
        self.cpu_millis -= resources.cpu_millis
        self.mem_mib -= resources.mem_mib
        self.disk_mib -= resources.disk_mib
        self.gpus -= resources.gpus
        assert min(self.cpu_millis, self.mem_mib, self.disk_mib, self.gpus) >= 0

    @property
    def is_empty(self) -> bool:
        """Say whether nothing is held."""
        return not (self.cpu_millis or self.mem_mib or self.disk_mib or self.gpus)

    def dominant_share(self, total: Holding, weight_millis: int = 1000) -> float:
        """Return the largest fraction held of a dimension of `total`, divided by the weight.

        Rounded once, from whole numbers: of shares that are equal the floats are equal, so that ties are ties.
        """
        share = 0.0
        if total.cpu_millis:
            share = self.cpu_millis * 1000 / (total.cpu_millis * weight_millis)
        if total.mem_mib:
            mem = self.mem_mib * 1000 / (total.mem_mib * weight_millis)
            if mem > share:
                share = mem
        if total.disk_mib:
            disk = self.disk_mib * 1000 / (total.disk_mib * weight_millis)
            if disk > share:
                share = disk
        return share

    def as_resources(self) -> Resources:
        """Return the sum as plain data."""
        return Resources(self.cpu_millis, self.mem_mib, self.disk_mib, self.gpus)


def remainder(have: Resources, taken: Resources) -> Resources:
    """Return what is left where `taken` may exceed `have` in some dimension: never less than nothing."""
    custom = dict(taken.custom)
    left = Resources(
        max(0, have.cpu_millis - taken.cpu_millis),
        max(0, have.mem_mib - taken.mem_mib),
        max(0, have.disk_mib - taken.disk_mib),
        max(0, have.gpus - taken.gpus),
        have.ports,
        tuple((name, amount - custom.get(name, 0)) for name, amount in have.custom if amount > custom.get(name, 0)),
    )
    return left.less_ports(taken.ports)


def tolerant_sum(have: Resources, more: Resources) -> Resources:
    """Add, where a port may be held twice: a returned agent is believed."""
    return have + more.less_ports(have.ports)
