"""Amounts, times and names as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from runrig.resources import Resources, count_ports, milli_text
from runrig_master.core.clients import Wanted
from runrig_master.core.resources import Holding
from runrig_master.core.state import Framework


def amounts_text(amounts: Mapping[str, int]) -> str:
    """Return `0.2 cpus and 512 MiB of memory`, of amounts by dimension."""
    return joined(_amount(name, amount) for name, amount in amounts.items()) or "nothing"


def resources_text(resources: Resources | Holding) -> str:
    """Return all of an amount in the same words."""
    return amounts_text(dimensions(resources))


def dimensions(resources: Resources | Holding) -> dict[str, int]:
    """Return an amount by dimension, ports as their number; what there is nothing of is left out."""
    amounts = {name: getattr(resources, name) for name in ("cpu_millis", "mem_mib", "disk_mib", "gpus")}
    if isinstance(resources, Resources):
        amounts["ports"] = count_ports(resources.ports)
        amounts.update(resources.custom)
    return {name: amount for name, amount in amounts.items() if amount}


def _amount(name: str, amount: int) -> str:
    match name:
        case "cpu_millis":
            return f"{milli_text(amount)} cpu{'' if amount == 1000 else 's'}"
        case "mem_mib":
            return f"{_size(amount)} of memory"
        case "disk_mib":
            return f"{_size(amount)} of disk"
        case "gpus":
            return counted(amount, "gpu")
        case "ports":
            return counted(amount, "port")
        case _:
            return f"{milli_text(amount)} {name}"


def _size(mib: int) -> str:
    """Return MiB as GiB where that is as exact."""
    if mib >= 1024 and mib % 512 == 0:
        return f"{milli_text(mib * 1000 // 1024)} GiB"
    return f"{mib} MiB"


def counted(number: int, noun: str) -> str:
    """Return `1 agent`, or `2 agents`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def joined(parts: Iterable[str]) -> str:
    """Return `a, b and c`."""
    parts = list(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def span_text(seconds: float) -> str:
    """Return `12 s`, `3 min`, `2.5 h` or `4 days`; what is over is `0 s`."""
    seconds = max(0.0, seconds)
    for least, unit_s, unit in ((172_800, 86_400, "days"), (5_400, 3_600, "h"), (90, 60, "min")):
        if seconds >= least:
            return f"{seconds / unit_s:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.1f}".removesuffix(".0") + " s"


def until_text(until: float, now: float) -> str:
    """Return `until 12:00:05 UTC (12 s)`, with the date unless it is today."""
    try:
        moment, today = datetime.fromtimestamp(until, UTC), datetime.fromtimestamp(now, UTC)
    except (ValueError, OverflowError, OSError):
        return f"for {span_text(until - now)}"
    form = "%H:%M:%S" if moment.date() == today.date() else "%Y-%m-%d %H:%M:%S"
    return f"until {moment.strftime(form)} UTC ({span_text(until - now)})"


def framework_text(framework: Framework) -> str:
    """Return `batch (f-1)`, or its id alone if that is its name."""
    return framework.id if framework.info.name == framework.id else f"{framework.info.name} ({framework.id})"


def task_words(wanted: Wanted) -> str:
    """Return how one task of a demand is spoken of: `1 cpu and 512 MiB of memory`."""
    amounts = dimensions(wanted.demand.resources)
    if wanted.demand.port_count:
        amounts["ports"] = amounts.get("ports", 0) + wanted.demand.port_count
    return amounts_text(amounts)
