"""The files of the project, for the tests that look at them."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SDK = ROOT / "sdk/runrig"
PACKAGES = (
    SDK,
    ROOT / "master/runrig_master",
    ROOT / "agent/runrig_agent",
    ROOT / "frameworks/runrig_service",
    ROOT / "frameworks/runrig_batch",
)


def files() -> list[Path]:
    """List what git keeps or would keep: nothing that .gitignore names."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode != 0:  # an unpacked archive: no git, and nothing ignored that matters
        found = (path for path in ROOT.rglob("*") if ".venv" not in path.parts)
    else:
        found = (ROOT / name for name in listing.stdout.decode().split("\0") if name)
    return sorted(path for path in found if path.is_file())


def texts() -> dict[str, str]:
    """Map the path of each text file, relative to the root, to its text."""
    found = {}
    for path in files():
        data = path.read_bytes()
        if b"\0" not in data:
            found[path.relative_to(ROOT).as_posix()] = data.decode()
    return found


def pyproject() -> dict[str, Any]:
    """Read pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())
