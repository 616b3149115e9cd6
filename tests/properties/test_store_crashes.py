"""Kill -9 in the midst of commits: what is left is what was said to be durable, and at most what was being written."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import ROOT
from tests.properties.crashing import Opened, after, at_once, trial_path
from tests.properties.effort import EFFORT

TRIALS = 24 * EFFORT


@pytest.mark.parametrize("kind", ["master", "sdk"])
async def test_kill_nine_leaves_the_commits_in_their_order_up_to_the_last_that_was_made(
    kind: str, tmp_path: Path
) -> None:
    arguments = [sys.executable, "-m", "tests.properties.crashing", kind, str(tmp_path), str(TRIALS)]
    run = await asyncio.to_thread(subprocess.run, arguments, cwd=ROOT, check=True, capture_output=True, text=True)

    for trial, said in enumerate(map(int, run.stdout.split())):
        store = Opened(kind, trial_path(tmp_path, trial))
        found = await store.store.read("")
        await store.close()
        made = int(found["last"]) + 1
        assert said <= made <= said + at_once(trial), "less than what was said, or more than what was being written"
        assert found == after(made), "a commit stands in part, or one without another before it"
