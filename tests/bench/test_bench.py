"""The benchmarks run, and say what they should; what they measure is looked at by people."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.report import Row, row

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["registration", "latency", "reoffer", "scattered", "grouped", "passes", "multi", "explain", "process"]
)
def test_a_benchmark_writes_its_rows(name: str, tmp_path: Path) -> None:
    rows = _quick(name, tmp_path)

    assert rows
    assert all(set(item) == {"name", "value", "unit", "against", "ratio"} for item in rows)
    assert all(item["name"] and item["unit"] and item["value"] >= 0 for item in rows)
    assert all((item["ratio"] is None) == (item["against"] is None) or item["value"] == 0 for item in rows)


@pytest.mark.slow
@pytest.mark.docker
def test_the_benchmark_of_containers_compares_with_the_bare_engine(tmp_path: Path) -> None:
    rows = _quick("container", tmp_path)

    assert all("bare Docker API in the same run" in str(item["against"]) for item in rows)
    assert len(rows) == 3


def _quick(name: str, tmp_path: Path) -> list[dict[str, float]]:
    path = tmp_path / "bench.json"
    argv = [sys.executable, "-m", "tests.bench", "--quick", "--only", name, "--json", str(path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert "what" in done.stdout.splitlines()[0]
    rows: list[dict[str, float]] = json.loads(path.read_text())
    return rows


def test_a_ratio_above_one_is_better_whether_more_or_less_is_wanted() -> None:
    assert row("rate", 2000.0, "tasks/s", 1000.0, "a source") == Row(
        "rate", 2000, "tasks/s", "1000 tasks/s: a source", 2.0
    )
    assert row("time", 2.0, "ms", 1.0, "a source") == Row("time", 2.0, "ms", "1 ms: a source", 0.5)


def test_a_figure_without_a_reference_has_no_ratio() -> None:
    assert row("cost", 12.3456, "us/task") == Row("cost", 12.3, "us/task", None, None)
