"""Every job of examples/jobs is read, and those that need no container are run, each task as an agent would."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runrig_batch.core.indices import all_of
from runrig_batch.core.job import Job, JobId, JobSpec, want_of
from runrig_batch.core.job_file import decode, parse_submission
from runrig_batch.core.limits import Limits

JOBS = sorted(path for path in (Path(__file__).parents[2] / "examples/jobs").iterdir() if path.suffix != ".md")
LAST_ATTEMPT = 2
"""The attempt at which the example of retries succeeds."""


def spec_of(path: Path) -> JobSpec:
    return parse_submission(decode(path.read_text(), path.suffix == ".toml"), Limits())[0]


@pytest.mark.parametrize("path", [path for path in JOBS if path.stem != "container"], ids=lambda path: path.name)
def test_an_example_runs(path: Path) -> None:
    spec = spec_of(path)

    outputs = []
    for index in all_of(spec.indices):
        command = want_of(Job(JobId("job-1"), 1, spec, 0.0), index, LAST_ATTEMPT).spec.command
        argv = command.argv or ("/bin/sh", "-c", command.shell)
        env = {**os.environ, **dict(command.env)}
        outputs.append(subprocess.run(argv, env=env, check=True, capture_output=True, text=True, timeout=10).stdout)

    assert all(outputs)
    assert len(set(outputs)) == spec.size


def test_the_example_of_a_container_has_an_image_and_a_place() -> None:
    [path] = [path for path in JOBS if path.stem == "container"]

    spec = spec_of(path)

    assert spec.image
    assert [each.attribute for each in spec.constraints] == ["rack"]


def test_every_example_is_in_the_readme() -> None:
    readme = (JOBS[0].parent / "README.md").read_text()

    assert [path.name for path in JOBS if f"[{path.name}]({path.name})" not in readme] == []
