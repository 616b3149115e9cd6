"""`python -m tests.bench`: a table on stdout, progress on stderr, `build/bench.json`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.bench import allocation, control_plane, explain, launches
from tests.bench.control_plane import QUICK, Shape
from tests.bench.report import Row, print_table, write_json

BENCHMARKS: dict[str, Callable[[Shape], Awaitable[list[Row]]]] = {
    "registration": control_plane.registration,
    "latency": control_plane.latency,
    "reoffer": control_plane.reoffer,
    "scattered": control_plane.scattered,
    "grouped": control_plane.grouped,
    "passes": allocation.passes,
    "multi": allocation.multi_framework,
    "explain": explain.explanations,
    "process": launches.process,
    "container": launches.container,
}


def main() -> None:
    """Run all benchmarks, or those that were named."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure Runrig. See docs/benchmarks.md.")
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), help="just this one; may be repeated")
    parser.add_argument("--quick", action="store_true", help="tiny shapes: shows that it works, measures nothing")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), help="where to write the rows")
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.only or BENCHMARKS:
        began = time.monotonic()
        rows.extend(asyncio.run(_run(name, QUICK if options.quick else Shape())))
        sys.stderr.write(f"{name}: {time.monotonic() - began:.0f} s\n")
        write_json(rows, options.json)
    print_table(rows)


async def _run(name: str, shape: Shape) -> list[Row]:
    return await BENCHMARKS[name](shape)


main()
