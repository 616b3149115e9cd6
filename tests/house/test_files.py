from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from tests.house.tree import ROOT, files, texts

PACKAGE_INDEXES = re.compile(
    r"pypi\.org|pythonhosted\.org|registry\.npmjs|npmjs\.com|deb\.debian\.org|archive\.ubuntu\.com"
    r"|proxy\.golang\.org|--(?:extra-)?index-url|--find-links"
)
HOMES = re.compile(r"(?<![\w.])/(?:home|Users)/\w+/")


def test_no_file_names_a_folder_of_the_machine_it_was_written_on() -> None:
    own = [folder for folder in (ROOT, Path.home(), Path(sys.base_prefix)) if is_telling(folder)]
    pattern = re.compile("|".join([HOMES.pattern, *(re.escape(f"{folder}/") for folder in own)]))

    assert lines_with(pattern) == []


def test_no_file_names_the_host_of_a_package_index() -> None:
    assert lines_with(PACKAGE_INDEXES) == []


def test_scripts_can_be_run() -> None:
    scripts = [path for path in files() if path.parent.name in ("scripts", ".ci") and path.suffix == ""]

    assert [path.name for path in scripts if not os.access(path, os.X_OK)] == []
    assert [path.name for path in scripts if not path.read_bytes().startswith(b"#!/usr/bin/env ")] == []


def test_a_target_of_the_makefile_has_a_body_of_one_line() -> None:
    bodies = re.findall(r"^(\S+):.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert [target for target, body in bodies if body.count("\n") > 1] == []


def test_every_example_is_exercised_by_a_test() -> None:
    tests = "\n".join(text for path, text in texts().items() if path.startswith("tests/"))
    examples = {path.split("/")[1] for path in texts() if path.startswith("examples/")} - {
        "README.md",
        "__init__.py",
    }

    assert sorted(name for name in examples if f"examples/{name}" not in tests and f'"{name}"' not in tests) == []


def is_telling(folder: Path) -> bool:
    """Say whether a folder is of one machine only: /usr and / are of all."""
    return folder not in map(Path, ("/", "/usr", "/usr/local", "/opt", "/app", "/src"))


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    """List the lines of all files, but this one, that the pattern is found in."""
    this = Path(__file__).relative_to(ROOT).as_posix()
    return [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts().items()
        if path != this
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]
