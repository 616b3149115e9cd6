"""A Docker engine for the tests marked `docker`: a real one, found or started by scripts/engine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ENGINE_SCRIPT = Path(__file__).parents[2] / "scripts" / "engine"
NO_ENGINE = 3  # what the script's help says: none here, and none can be made
START_TIMEOUT_S = 110  # below the bound of one test; `make test` has started it, and installed it, before


@pytest.fixture(scope="session")
def engine() -> str:
    """Give the address of an engine that has the test image; DOCKER_HOST is set to it for the run.

    RUNRIG_TEST_ENGINE, then DOCKER_HOST name the engine to use; otherwise scripts/engine finds or starts one.
    Where none can be had the tests are skipped, but fail if CI is set.
    """
    chosen = os.environ.get("RUNRIG_TEST_ENGINE") or os.environ.get("DOCKER_HOST", "")
    environment = os.environ | {"DOCKER_HOST": chosen}
    address = ask_script("start", environment).removeprefix("DOCKER_HOST=")
    os.environ["DOCKER_HOST"] = address
    ask_script("image", environment | {"DOCKER_HOST": address})
    return address


def ask_script(command: str, environment: dict[str, str]) -> str:
    """Run scripts/engine; return the line it printed."""
    done = subprocess.run(
        [ENGINE_SCRIPT, command],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    if done.returncode == NO_ENGINE and not os.environ.get("CI"):
        pytest.skip(done.stderr)
    if done.returncode != 0:
        pytest.fail(f"no Docker engine for the tests (engine {command}, {done.returncode}): {done.stderr}")
    return done.stdout.strip()
