"""Amounts and times as plain data for programs: integers with units in their names, ISO 8601 in UTC, null for never."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from runrig.resources import Resources

Json = dict[str, Any]


def resources_json(resources: Resources) -> Json:
    """Return amounts with their units in their names; ports as `[first, last]` pairs."""
    return {
        "cpu_millis": resources.cpu_millis,
        "mem_mib": resources.mem_mib,
        "disk_mib": resources.disk_mib,
        "gpus": resources.gpus,
        "ports": [list(ports) for ports in resources.ports],
        "custom": dict(resources.custom),
    }


def iso(unix_ms: int) -> str | None:
    """Return a time as 2026-11-21T20:41:00.123Z; None for 0, which stands for never, and for what no calendar has."""
    if not 0 < unix_ms <= LAST_UNIX_MS:
        return None
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


LAST_UNIX_MS = 253_402_300_799_000
"""The end of the year 9999."""
