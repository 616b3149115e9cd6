from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from runrig.cli.main import main
from tests.cli.fake_master import FakeMaster

Runrig = Callable[..., Result]


@pytest.fixture
def runrig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runrig:
    """Run `runrig WORDS...` as a user without configuration would."""
    for name in ("RUNRIG_MASTER", "RUNRIG_OUTPUT", "RUNRIG_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, words, prog_name="runrig")

    return run


@pytest.fixture
def master(runrig: Runrig, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMaster]:
    """Serve a master that the commands find."""
    with FakeMaster().serve() as fake:
        monkeypatch.setenv("RUNRIG_MASTER", fake.address)
        yield fake
