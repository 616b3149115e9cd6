"""A Docker engine for the tests marked `docker`: a real one, found or started by scripts/engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ENGINE_SCRIPT = Path(__file__).parents[2] / "scripts" / "engine"
NO_ENGINE = 3  # what the script's help says: none here, and none can be made
START_TIMEOUT_S = 110  # below the bound of one test; `make test` has started it, and installed it, before


@pytest.fixture(scope="session")
def engine() -> Iterator[str]:
    """Give the address of an engine that has the test image; DOCKER_HOST is set to it meanwhile.

    RUNRIG_TEST_ENGINE, then DOCKER_HOST name the engine to use: it must answer. Otherwise scripts/engine
    finds or starts one; where none can be had the tests are skipped, but fail if CI is set.
    """
    chosen = os.environ.get("RUNRIG_TEST_ENGINE") or os.environ.get("DOCKER_HOST", "")
    address = ask_script("start", chosen).removeprefix("DOCKER_HOST=")
    ask_script("image", address)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", address)
        yield address


@pytest.fixture
def own_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEngine]:
    """Give an engine that a test may kill; it is started by the test."""
    engine = OwnEngine(tmp_path_factory.mktemp("e"))
    yield engine
    engine.script("stop", "--purge")


class OwnEngine:
    """An engine of this test's own, to kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "DOCKER_HOST": ""}

    def script(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, str(ENGINE_SCRIPT), "--dir", str(self.folder), *words],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        if done.returncode == NO_ENGINE:
            pytest.skip(done.stderr)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self) -> str:
        address = self.script("start", "--private", "--own-network").removeprefix("DOCKER_HOST=")
        self.env["DOCKER_HOST"] = address
        self.script("image")
        return address

    def kill(self) -> None:
        os.kill(int((self.folder / "docker.pid").read_text()), signal.SIGKILL)


def ask_script(command: str, engine: str) -> str:
    """Run scripts/engine on the engine with this address, any if it is empty; return the line it printed."""
    done = subprocess.run(
        [ENGINE_SCRIPT, command],
        env=os.environ | {"DOCKER_HOST": engine},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    if done.returncode == NO_ENGINE and not engine and not os.environ.get("CI"):
        pytest.skip(done.stderr)
    if done.returncode != 0:
        pytest.fail(f"no Docker engine for the tests (engine {command}, {done.returncode}): {done.stderr}")
    return done.stdout.strip()
