"""What was measured: rows, as a table for people and as JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

HIGHER_IS_BETTER = frozenset({"tasks/s", "containers/s"})


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `against` names what it is compared with; `ratio` above 1 is better than that, whatever the unit."""

    name: str
    value: float
    unit: str
    against: str | None = None
    ratio: float | None = None


def row(name: str, value: float, unit: str, reference: float | None = None, source: str = "") -> Row:
    """Build a row that compares `value` with `reference`, in the same unit, of which `source` says where it is from."""
    if reference is None:
        return Row(name, _rounded(value), unit)
    ratio = value / reference if unit in HIGHER_IS_BETTER else reference / value if value else None
    against = f"{_rounded(reference):g} {unit}: {source}"
    return Row(name, _rounded(value), unit, against, None if ratio is None else _rounded(ratio))


def _rounded(value: float) -> float:
    """Keep three significant digits below 1000: more would be noise."""
    return round(value) if abs(value) >= 1000 else float(f"{value:.3g}")


def write_json(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as a list of objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(item) for item in rows], indent=2) + "\n")


def print_table(rows: Sequence[Row]) -> None:
    """Print the rows to stdout."""
    table = Table("what", "value", "unit", "ratio", "against (ratio above 1: better than this)", box=None)
    for item in rows:
        ratio = "" if item.ratio is None else f"{item.ratio:.2f}"
        table.add_row(item.name, f"{item.value:g}", item.unit, ratio, item.against or "")
    Console(width=None if Console().is_terminal else 180).print(table)
