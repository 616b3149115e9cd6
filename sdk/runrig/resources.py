"""Amounts of an agent: integers with units in their names, so that sums are exact.

`1.5` cpus and `512M` are for people; `parse_cpus`, `parse_mib` and `Resources.parse` read them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from itertools import pairwise

from runrig.errors import InvalidInput

MAX_AMOUNT = 2**47
"""Of anything on one agent: what 65,536 agents have of it is still a number of the wire."""
MAX_PORT = 65535
MAX_PORT_RANGES = 1024
MAX_CUSTOM = 64

Ports = tuple[tuple[int, int], ...]
"""Disjoint ascending ranges, inclusive at both ends: `((31000, 31999),)`."""


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of everything that an agent has.

    Example:
        >>> need = Resources(cpu_millis=500, mem_mib=128)
        >>> Resources.parse("cpus:2;mem:1G;ports:[31000-31009]").contains(need)
        True
    """

    cpu_millis: int = 0
    mem_mib: int = 0
    disk_mib: int = 0
    gpus: int = 0
    ports: Ports = ()
    custom: tuple[tuple[str, int], ...] = field(default=())
    """Named scalars in milli-units, ascending by name."""

    def __add__(self, other: Resources) -> Resources:
        """Return the sum; ports must not overlap."""
        return Resources(
            self.cpu_millis + other.cpu_millis,
            self.mem_mib + other.mem_mib,
            self.disk_mib + other.disk_mib,
            self.gpus + other.gpus,
            _join_ports(self.ports, other.ports) if other.ports else self.ports,
            _add_custom(self.custom, other.custom, 1) if other.custom else self.custom,
        )

    def __sub__(self, other: Resources) -> Resources:
        """Return what is left; `other` must be contained."""
        assert self.contains(other), f"{other} is not within {self}"
        return Resources(
            self.cpu_millis - other.cpu_millis,
            self.mem_mib - other.mem_mib,
            self.disk_mib - other.disk_mib,
            self.gpus - other.gpus,
            _remove_ports(self.ports, other.ports) if other.ports else self.ports,
            _add_custom(self.custom, other.custom, -1) if other.custom else self.custom,
        )

    def contains(self, other: Resources) -> bool:
        """Say whether `other` fits within this, in every dimension."""
        return (
            other.cpu_millis <= self.cpu_millis
            and other.mem_mib <= self.mem_mib
            and other.disk_mib <= self.disk_mib
            and other.gpus <= self.gpus
            and (not other.ports or ports_contain(self.ports, other.ports))
            and (not other.custom or _custom_contains(self.custom, other.custom))
        )

    @property
    def is_empty(self) -> bool:
        """Say whether there is nothing."""
        return not (self.cpu_millis or self.mem_mib or self.disk_mib or self.gpus or self.ports or self.custom)

    def shortfall(self, need: Resources) -> dict[str, int]:
        """Return by how much this is short of `need`, per dimension, in that dimension's unit; empty: it fits."""
        short = {
            name: wanted - has
            for name, wanted, has in (
                ("cpu_millis", need.cpu_millis, self.cpu_millis),
                ("mem_mib", need.mem_mib, self.mem_mib),
                ("disk_mib", need.disk_mib, self.disk_mib),
                ("gpus", need.gpus, self.gpus),
            )
            if wanted > has
        }
        missing = count_ports(need.ports) - count_ports(_common_ports(self.ports, need.ports))
        if missing:
            short["ports"] = missing
        has_custom = dict(self.custom)
        short.update(
            {name: amount - has_custom.get(name, 0) for name, amount in need.custom if amount > has_custom.get(name, 0)}
        )
        return short

    def without_ports(self) -> Resources:
        """Return the same amounts with no ports."""
        return replace(self, ports=()) if self.ports else self

    def less_ports(self, ports: Ports) -> Resources:
        """Return the same amounts without `ports`, as far as they are here."""
        return replace(self, ports=_remove_ports(self.ports, ports)) if ports and self.ports else self

    def take_ports(self, count: int) -> tuple[int, ...]:
        """Return the `count` lowest ports of this, or fewer if there are not as many."""
        taken: list[int] = []
        for begin, end in self.ports:
            taken.extend(range(begin, min(end, begin + count - len(taken) - 1) + 1))
            if len(taken) >= count:
                break
        return tuple(taken)

    @classmethod
    def parse(cls, text: str, field: str = "resources") -> Resources:
        """Read `cpus:2;mem:4G;disk:10G;gpus:1;ports:[31000-32000];licences:3`; raise InvalidInput naming `field`."""
        amounts: dict[str, int] = {}
        ports: Ports = ()
        custom: dict[str, int] = {}
        seen: set[str] = set()
        for part in filter(None, (piece.strip() for piece in text.split(";"))):
            name, separator, value = part.partition(":")
            name = name.strip()
            value = value.strip()
            if not separator or not name:
                raise InvalidInput(field, part, "name:amount pairs joined by `;`, such as cpus:2;mem:4G")
            if name in seen:
                raise InvalidInput(field, part, f"each resource once, but {name} is given twice")
            seen.add(name)
            if name == "ports":
                ports = parse_ports(f"{field}.ports", value)
            elif name in _PARSERS:
                key, parse = _PARSERS[name]
                amounts[key] = parse(f"{field}.{name}", value)
            else:
                custom[checked_custom_name(field, name)] = parse_milli(f"{field}.{name}", value)
        return cls(**amounts, ports=ports, custom=tuple(sorted(item for item in custom.items() if item[1])))

    def __str__(self) -> str:
        """Return what `parse` reads."""
        parts = [f"cpus:{milli_text(self.cpu_millis)}", f"mem:{self.mem_mib}M"]
        if self.disk_mib:
            parts.append(f"disk:{self.disk_mib}M")
        if self.gpus:
            parts.append(f"gpus:{self.gpus}")
        if self.ports:
            parts.append(f"ports:{ports_text(self.ports)}")
        parts.extend(f"{name}:{milli_text(amount)}" for name, amount in self.custom)
        return ";".join(parts)


NOTHING = Resources()


def checked_resources(field: str, resources: Resources) -> Resources:
    """Return `resources`, ranges that touch joined, if each amount is within its bounds and ranges are in order.

    Raise InvalidInput naming `field`.
    """
    for name, amount in (
        ("cpu_millis", resources.cpu_millis),
        ("mem_mib", resources.mem_mib),
        ("disk_mib", resources.disk_mib),
        ("gpus", resources.gpus),
    ):
        if not 0 <= amount <= MAX_AMOUNT:
            raise InvalidInput(f"{field}.{name}", amount, f"0 to {MAX_AMOUNT}")
    if resources.ports:
        _check_ports(f"{field}.ports", resources.ports)
    if resources.custom:
        _check_custom(field, resources.custom)
    joined = merged_ports(resources.ports)
    return resources if joined == resources.ports else replace(resources, ports=joined)


def _check_custom(field: str, custom: tuple[tuple[str, int], ...]) -> None:
    if len(custom) > MAX_CUSTOM:
        raise InvalidInput(f"{field}.custom", len(custom), f"at most {MAX_CUSTOM} names")
    names = [name for name, _ in custom]
    if names != sorted(set(names)):
        raise InvalidInput(f"{field}.custom", names, "each name once, ascending")
    for name, amount in custom:
        checked_custom_name(field, name)
        if not 0 < amount <= MAX_AMOUNT:
            raise InvalidInput(f"{field}.{name}", amount, f"1 to {MAX_AMOUNT}")


_CUSTOM_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,62}\Z")


def checked_custom_name(field: str, name: str) -> str:
    """Return `name` if a custom resource may have it; raise InvalidInput naming `field`."""
    if not _CUSTOM_NAME.match(name) or name in ("cpus", "mem", "disk", "gpus", "ports"):
        raise InvalidInput(field, name, "cpus, mem, disk, gpus, ports, or a lower-case name of your own")
    return name


def parse_cpus(field: str, text: str | float) -> int:
    """Read `1.5` cpus as 1500 millis; raise InvalidInput naming `field`."""
    return parse_milli(field, text)


def parse_milli(field: str, text: str | float) -> int:
    """Read a number with at most three decimals as milli-units; raise InvalidInput naming `field`."""
    try:
        number = Decimal(str(text))
    except InvalidOperation:
        raise InvalidInput(field, text, "a number such as 0.5") from None
    if number.is_finite() and 0 <= number <= MAX_AMOUNT / 1000:
        rounded = number.quantize(Decimal("0.001"))
        if rounded == number:
            return int(rounded * 1000)
    raise InvalidInput(field, text, "a number of at least 0 with at most three decimals")


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\Z", re.IGNORECASE)
_MIB_PER_UNIT = {
    "K": Decimal(1) / 1024,
    "": Decimal(1),
    "M": Decimal(1),
    "G": Decimal(1024),
    "T": Decimal(1024 * 1024),
}


def parse_mib(field: str, text: str | float) -> int:
    """Read `512M`, `1.5G` or a bare number of MiB, rounded up to whole MiB; raise InvalidInput naming `field`."""
    match = _SIZE.match(str(text).strip())
    if match is None:
        raise InvalidInput(field, text, "a size such as 512M, 1.5G or 2T")
    mib = Decimal(match[1]) * _MIB_PER_UNIT[match[2].upper()]
    if mib > MAX_AMOUNT:
        raise InvalidInput(field, text, f"at most {MAX_AMOUNT}M")
    return int(mib.to_integral_value(ROUND_CEILING))


def parse_count(field: str, text: str | float) -> int:
    """Read a whole number of at least 0; raise InvalidInput naming `field`."""
    digits = str(text).strip()
    if not re.fullmatch(r"\d{1,15}", digits):
        raise InvalidInput(field, text, "a whole number of at least 0")
    return int(digits)


_PARSERS = {
    "cpus": ("cpu_millis", parse_cpus),
    "mem": ("mem_mib", parse_mib),
    "disk": ("disk_mib", parse_mib),
    "gpus": ("gpus", parse_count),
}


def parse_ports(field: str, text: str) -> Ports:
    """Read `[31000-32000,33000]`; raise InvalidInput naming `field`."""
    ranges: list[tuple[int, int]] = []
    for part in filter(None, (piece.strip() for piece in text.strip().strip("[]").split(","))):
        match = re.fullmatch(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?", part)
        if match is None:
            raise InvalidInput(field, text, "port ranges such as [31000-32000,33000]")
        ranges.append((int(match[1]), int(match[2] or match[1])))
    ports = tuple(sorted(ranges))
    _check_ports(field, ports)
    return merged_ports(ports)


def _check_ports(field: str, ports: Ports) -> None:
    if len(ports) > MAX_PORT_RANGES:
        raise InvalidInput(field, len(ports), f"at most {MAX_PORT_RANGES} ranges")
    last = 0
    for begin, end in ports:
        if not 1 <= begin <= end <= MAX_PORT:
            raise InvalidInput(field, f"{begin}-{end}", f"ranges within 1 to {MAX_PORT}, the lower end first")
        if begin <= last:
            raise InvalidInput(field, f"{begin}-{end}", "ranges that ascend and do not overlap")
        last = end


def merged_ports(ports: Ports) -> Ports:
    """Join ranges that touch; `ports` ascend."""
    if len(ports) < 2:
        return ports
    merged: list[tuple[int, int]] = []
    for begin, end in ports:
        if merged and begin == merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((begin, end))
    return tuple(merged)


def single_ports(numbers: tuple[int, ...] | list[int]) -> Ports:
    """Return the ranges that hold just `numbers`, each of which stands once."""
    return merged_ports(tuple((number, number) for number in sorted(numbers)))


def count_ports(ports: Ports) -> int:
    """Return how many ports the ranges hold."""
    return sum(end - begin + 1 for begin, end in ports)


def ports_contain(ports: Ports, other: Ports) -> bool:
    """Say whether every range of `other` lies within one of `ports`."""
    if ports == other:
        return True
    ports = merged_ports(ports)
    return all(any(begin <= low and high <= end for begin, end in ports) for low, high in merged_ports(other))


def ports_text(ports: Ports) -> str:
    """Return `[31000-32000,33000]`."""
    return "[" + ",".join(f"{begin}-{end}" if end > begin else str(begin) for begin, end in ports) + "]"


def milli_text(millis: int) -> str:
    """Return 1500 as `1.5`."""
    whole, part = divmod(millis, 1000)
    return f"{whole}.{part:03}".rstrip("0").rstrip(".")


def _join_ports(ports: Ports, other: Ports) -> Ports:
    if not ports:
        return merged_ports(other)
    joined = tuple(sorted(ports + other))
    assert all(left[1] < right[0] for left, right in pairwise(joined)), "ports overlap"
    return merged_ports(joined)


def _remove_ports(ports: Ports, gone: Ports) -> Ports:
    left: list[tuple[int, int]] = []
    for begin, end in ports:
        start = begin
        for low, high in gone:
            if high < start or low > end:
                continue
            if low > start:
                left.append((start, low - 1))
            start = high + 1
        if start <= end:
            left.append((start, end))
    return tuple(left)


def _common_ports(ports: Ports, other: Ports) -> Ports:
    common = (
        (max(begin, low), min(end, high)) for begin, end in ports for low, high in other if low <= end and begin <= high
    )
    return tuple(sorted(common))


def _add_custom(
    custom: tuple[tuple[str, int], ...], other: tuple[tuple[str, int], ...], sign: int
) -> tuple[tuple[str, int], ...]:
    amounts = dict(custom)
    for name, amount in other:
        amounts[name] = amounts.get(name, 0) + sign * amount
    return tuple(sorted((name, amount) for name, amount in amounts.items() if amount))


def _custom_contains(custom: tuple[tuple[str, int], ...], other: tuple[tuple[str, int], ...]) -> bool:
    amounts = dict(custom)
    return all(amount <= amounts.get(name, 0) for name, amount in other)
